"""What happens to a study, as it happens: JSON lines in ``study.log``, written by the driver.

One line per event with its time in UTC, its level, and what belongs to it, such as the number of
a trial. The file is for people and tools that ask why something went as it did; no command reads
it, and a search goes on where it cannot be written.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Protocol

LEVELS = ("debug", "info", "warning", "error")

MAX_BYTES, FILES = 10_000_000, 3
"""A file that grows beyond the first is set aside; of all together the oldest is dropped."""

_LONGEST_TEXT = 2000
_EVERYTHING = "autosearch"
"""Logger above those of all modules: a database that went away belongs into the log as well."""


class Note(Protocol):
    """Takes an event of a study; never fails."""

    def __call__(self, event: str, level: int = logging.INFO, /, **fields: object) -> None:
        """Take note.

        Args:
            event: What happened, the same words every time.
            level: One of Python's logging.
            fields: What belongs to it, by name.
        """


def silent(event: str, level: int = logging.INFO, /, **fields: object) -> None:
    """A `Note` for those who keep no log."""


class StudyLog:
    """The log of one study in one process; a context manager.

    Nothing is written before `begin`, so that a study that is refused leaves no trace.

    Args:
        path: The file. Lines are added to those of earlier runs.
        level: Least level that is written, one of `LEVELS`.
    """

    def __init__(self, path: Path, level: str = "info") -> None:
        self._handler = _Handler(path)
        self._handler.setLevel(level.upper())
        self._handler.setFormatter(_JsonLine())
        # Of its own: several studies in one process do not write into each other's files.
        self._logger = logging.Logger(f"{_EVERYTHING}.study", level.upper())
        self._attached: list[logging.Handler] = [self._handler]
        self._held: list[tuple[str, int, dict[str, object]]] = []

    def begin(self, **fields: object) -> None:
        """Note that the study is open, and then what was noted before."""
        others = logging.getLogger(_EVERYTHING)
        # With a handler of their own, warnings would no longer reach the terminal.
        if not others.hasHandlers() and logging.lastResort is not None:
            self._attached.append(logging.lastResort)
        for handler in self._attached:
            others.addHandler(handler)
        self._logger.addHandler(self._handler)
        held, self._held = self._held, []
        about = {"python": platform.python_version(), "host": platform.node(), **fields}
        for event, level, its in [("study opened", logging.INFO, about), *held]:
            self.note(event, level, **its)

    def note(self, event: str, level: int = logging.INFO, /, **fields: object) -> None:
        """See `Note`."""
        if self._logger.handlers:
            self._logger.log(level, "%s", event, extra={"fields": fields})
        else:
            self._held.append((event, level, fields))

    def __enter__(self) -> StudyLog:
        return self

    def __exit__(self, *error: object) -> None:
        for handler in self._attached:
            logging.getLogger(_EVERYTHING).removeHandler(handler)
        self._handler.close()


class _JsonLine(logging.Formatter):
    """A record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "process": record.process,
        }
        return json.dumps(line | _plain(getattr(record, "fields", {})))


class _Handler(RotatingFileHandler):
    """Adds lines to a file if it can. A disk that is full today may have room tomorrow."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path, maxBytes=MAX_BYTES, backupCount=FILES - 1, encoding="utf-8", delay=True
        )

    def _open(self) -> Any:
        file = open(self.baseFilename, "a", encoding="utf-8", opener=_regular)  # noqa: SIM115
        # A line that a crash or a full disk has cut off must not spoil the next one.
        if file.tell() and not _ends_with_line(self.baseFilename):
            file.write("\n")
        return file

    def handleError(self, record: logging.LogRecord) -> None:
        """Leave the line out, and what is left of it in memory."""
        self.close()

    def close(self) -> None:
        """Never fails; the next line opens the file again."""
        with suppress(OSError):
            super().close()


def _regular(path: str, flags: int) -> int:
    """Open neither what a link leads to, nor a pipe for which somebody would have to wait."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def _ends_with_line(path: str) -> bool:
    with Path(path).open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _plain(value: Any) -> Any:
    """A value that JSON has, long text cut off."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, str):
        return value[:_LONGEST_TEXT]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int)) else str(value)
