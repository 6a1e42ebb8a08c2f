"""What a watch has looked at: a line of JSON an image, result and memory in one. Free of torch.

Being one, they cannot disagree: an image is done when its line is on the disk, and not before. A
line that a crash cut off is taken back when the journal is opened again, and its image looked at
again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from io import FileIO
from itertools import chain, count
from pathlib import Path
from typing import Any, BinaryIO

from autosearch.errors import ConfigError, DataError
from autosearch.export.folder import ExportedModel
from autosearch.export.listing import unique_name
from autosearch.export.predict import (
    MASKS,
    REPORT,
    TABLE,
    Prediction,
    Skipped,
    make_folders,
)

RESULTS = "results.jsonl"
"""In the folder of the results, beside heatmaps and masks."""

_BLOCK = 1 << 16
"""Bytes that are read at once from the end of a journal."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it was when it was looked at.

    Attributes:
        size: In bytes.
        modified_ns: Time of its last change, in nanoseconds since 1970.
        sha256: Of its bytes; None where they could not be read, and for frames of a video.
    """

    size: int
    modified_ns: int
    sha256: str | None = None

    def same_file(self, other: Seen | None) -> bool:
        """Whether size and time are those of another."""
        mine = (self.size, self.modified_ns)
        return other is not None and mine == (other.size, other.modified_ns)


class Journal:
    """The results of a watch, for one process at a time; a context manager.

    Args:
        out: Folder of the results, made if it is missing.
        model: What answers.
        window: How many of the last scores are held.
        live: Whether all that is added is of a camera, whose pictures never come again: nothing
            is kept of them but the scores, and of a journal that is there its end alone is read.

    Attributes:
        out: The folder.
        seen: Files and frames of videos that have been looked at, by path as results have it.
        scores: The last of this very model, oldest first.

    Raises:
        ConfigError: The folder cannot be written to, another process watches into it, or it has
            the tables of `Predictor.write`, which knows of no pictures but its own.
        DataError: A line of the journal is none of a journal.
    """

    def __init__(
        self, out: Path, model: ExportedModel, window: int = 200, live: bool = False
    ) -> None:
        if there := [name for name in (REPORT, TABLE) if (out / name).exists()]:
            allowed = f"another folder: this one has the {there[0]} of a call without --watch and "
            allowed += "--camera, whose pictures might be replaced"
            raise ConfigError("--out", str(out), allowed)
        make_folders(out)
        self.out, self._model, self._live = out, model, live
        self._path = out / RESULTS
        self.seen: dict[str, Seen] = {}
        self.scores: deque[float] = deque(maxlen=window)
        self._names: set[str] = set()
        self._file = _locked(self._path)
        try:
            (self._read_end if live else self._read)()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def name(self, wanted: str) -> str:
        """A name that no picture has yet: new pictures never replace those of an older line."""
        if not self._live:
            return unique_name(wanted, self._names)
        names = chain((wanted,), (f"{wanted}-{number}" for number in count(2)))
        return next(name for name in names if not (self.out / MASKS / f"{name}.png").exists())

    def add(
        self,
        answer: Prediction | Skipped,
        seen: Seen | None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a line and wait until it is on the disk. Pictures must be there already.

        Args:
            answer: What is said of the image.
            seen: The file as it was; None for what no file is.
            more: Other entries of the line.

        Raises:
            OSError: It cannot be written, with the journal's name; nothing of it is left.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        row = {"time": now, **asdict(answer), **(more or {})}
        for name in ("object_found", "foreground"):
            if row.get(name, ...) is None:
                del row[name]
        if seen is not None:
            row |= asdict(seen)
        line = json.dumps({**row, "model": self._model.sha256}, ensure_ascii=False) + "\n"
        place = self._file.fileno()
        whole, rest = os.fstat(place).st_size, memoryview(line.encode())
        try:
            while rest:
                rest = rest[os.write(place, rest) :]
            os.fsync(place)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(whole)
            raise OSError(error.errno, error.strerror, str(self._path)) from None
        if seen is not None:
            self.seen[answer.path] = seen
        if isinstance(answer, Prediction):
            self.scores.append(answer.score)

    def _read(self) -> None:
        """Take in what is there, and take back a last line that has no end."""
        whole = 0
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    self._file.truncate(whole)
                    return
                whole += len(line)
                path, seen, name, score = self._parts(line, f"line {number}")
                if seen is not None:
                    self.seen[path] = seen
                if name is not None:
                    self._names.add(name)
                if score is not None:
                    self.scores.append(score)

    def _read_end(self) -> None:
        """Take in the last scores alone, however long the journal is, and take back as `_read`."""
        with self._path.open("rb") as file:
            for number, line in enumerate(_backwards(file)):
                if not number:  # What has no end; of a whole journal nothing.
                    self._file.truncate(os.fstat(file.fileno()).st_size - len(line))
                    continue
                if len(self.scores) == self.scores.maxlen:
                    return
                *_, score = self._parts(line, f"line {number} from its end")
                if score is not None:
                    self.scores.appendleft(score)

    def _parts(self, line: bytes, where: str) -> tuple[str, Seen | None, str | None, float | None]:
        """Of a line: the path, the file, the name of its pictures, and the score of this model."""
        try:
            row = json.loads(line)
            path, stamp, mask = row["path"], row.get("modified_ns"), row.get("mask")
            seen = None if stamp is None else Seen(row["size"], stamp, row["sha256"])
            mine = row["model"] == self._model.sha256
            name = None if mask is None else Path(mask).stem.lower()
            return str(path), seen, name, row.get("score") if mine else None
        except (ValueError, TypeError, LookupError, RecursionError):
            remedy = "mend it, or write to another folder"
            problem = f"{where} is none of a watch's results"
            raise DataError(self._path, problem, remedy) from None


def _backwards(file: BinaryIO) -> Iterator[bytes]:
    """Lines without their ends, the last first; before it what follows the last end of a line."""
    rest, place = b"", file.seek(0, os.SEEK_END)
    while place:
        step = min(_BLOCK, place)
        place -= step
        file.seek(place)
        rest, *whole = (file.read(step) + rest).split(b"\n")
        yield from reversed(whole)
    yield rest


def _locked(path: Path) -> FileIO:
    """The file, held by this process alone as long as it is open."""
    try:
        file = path.open("ab", buffering=0)
    except OSError as error:
        allowed = f"a folder that can be written to ({error.strerror})"
        raise ConfigError("--out", str(path.parent), allowed) from None
    try:
        # Some network drives know no locks, and are used all the same.
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                allowed = "a folder into which no other process writes what it sees"
                raise ConfigError("--out", str(path.parent), allowed) from None
    except BaseException:
        file.close()
        raise
    return file
