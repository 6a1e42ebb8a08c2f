"""The file that has a study's trials where no database has them: Optuna's journal, kept whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend

from autosearch.errors import StudyError
from autosearch.files import FileLock

_CREATE_STUDY = 0
"""What the first line of a journal does, as Optuna numbers it."""


class Journal(JournalFileBackend):
    """Optuna's journal file, made safe against processes that die and disks that are full.

    Optuna's own locks outlive a process that is killed while it writes, the default one for ever
    where the path is relative; this one dies with its process. Half a line, which nothing could
    be added behind, is taken back. And Optuna waits for the disk after every line, some 30 times
    a trial; here only a trial that begins or ends is worth that. A crash of the process loses
    nothing either way; a power cut can lose what is known of trials still running.

    Args:
        path: The file, made if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lock: Any = FileLock(path)
        super().__init__(str(path), lock_obj=lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add lines, all of them or none; see `JournalFileBackend.append_logs`.

        Raises:
            StudyError: The disk is full or broken.
        """
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        try:
            with FileLock(self._path), self._path.open("a+b", buffering=0) as file:
                _append(file.fileno(), lines.encode())
                if any("state" in log for log in logs):
                    os.fsync(file.fileno())
        except OSError as error:
            raise StudyError(
                f"{self._path}: cannot be written ({error.strerror}); no finished trial is lost, "
                "go on with `autosearch resume` when that is mended"
            ) from None


def mend(path: Path, begun: bool) -> None:
    """Cut a journal behind its last whole line, unless that would make a study begin anew.

    Args:
        path: The journal; nothing needs to be there.
        begun: Whether the study is known to have been made.

    Raises:
        StudyError: It does not begin as a journal does.
    """
    if not path.is_file():
        return
    with FileLock(path):
        content = path.read_bytes()
        end = len(content)
        while end and _operation(content[_before(content, end) : end]) is None:
            end = _before(content, end)
        first = _operation(content[: content.find(b"\n") + 1])
        if first != _CREATE_STUDY and (begun or end or b"\n" in content):
            raise StudyError(f"{path}: does not begin as a journal; restore it from a copy")
        if end < len(content):
            os.truncate(path, end)


def _append(file: int, data: bytes) -> None:
    """Write at the end of a file, behind its last whole line, or leave it as it was."""
    end = os.fstat(file).st_size
    if end and os.pread(file, 1, end - 1) != b"\n":
        # Another head was killed in the middle of a write.
        end = os.pread(file, end, 0).rfind(b"\n") + 1
        os.ftruncate(file, end)
    left = memoryview(data)
    try:
        while left:
            left = left[os.write(file, left) :]
    except OSError:
        os.ftruncate(file, end)
        raise


def _before(content: bytes, end: int) -> int:
    """Where the line begins that ends at ``end``."""
    return content.rfind(b"\n", 0, end - 1) + 1


def _operation(line: bytes) -> int | None:
    """What a line of a journal does, None if it is none."""
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    code = entry.get("op_code") if isinstance(entry, dict) else None
    return code if isinstance(code, int) else None
