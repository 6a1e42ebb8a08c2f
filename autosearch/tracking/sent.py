"""Which trials a tracker has: ``tracking.jsonl`` in the study's folder.

One JSON object a line, added to and never rewritten: ``{"study": ID}`` first, then ``{"tracker",
"to", "trial", "run"}`` for each trial that is there, ``run`` being its name over there. Half a
line, as a power cut leaves it, counts for nothing: the trial is then sent again, in the place of
the first one.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import uuid
from collections.abc import Iterator
from typing import Any

from autosearch.errors import StudyError
from autosearch.storage import StudyFolder

NAME = "tracking.jsonl"


class Sent:
    """What trackers have of one study.

    Args:
        folder: The study's.
    """

    def __init__(self, folder: StudyFolder) -> None:
        self._path, self._database = folder.path / NAME, folder.database
        self._lock = threading.Lock()

    def study_id(self) -> str:
        """A name that no other study has, made when it is first asked for.

        Heads that share a database share it, too: there it follows from where the trials are.

        Raises:
            StudyError: The file cannot be read or written.
        """
        if self._database is not None:
            place = f"{self._database.address}\n{self._database.study}"
            return hashlib.sha256(place.encode()).hexdigest()[:16]
        with self._lock:
            for _ in range(2):
                for line in self._lines():
                    if isinstance(line.get("study"), str):
                        return str(line["study"])
                self._add({"study": uuid.uuid4().hex[:16]})
        raise StudyError(f"{self._path}: what is written there cannot be read")

    def runs(self, tracker: str, to: str) -> dict[int, str]:
        """Trials that a tracker has, by number, and what they are called there.

        Raises:
            StudyError: The file cannot be read.
        """
        lines = self._lines()
        its = (line for line in lines if (line.get("tracker"), line.get("to")) == (tracker, to))
        return {
            line["trial"]: str(line.get("run")) for line in its if type(line.get("trial")) is int
        }

    def add(self, tracker: str, to: str, trial: int, run: str) -> None:
        """Take note that a tracker has a trial.

        Raises:
            StudyError: The disk is full or broken.
        """
        with self._lock:
            self._add({"tracker": tracker, "to": to, "trial": trial, "run": run})

    def _add(self, line: dict[str, object]) -> None:
        text = json.dumps(line) + "\n"
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
            with os.fdopen(os.open(self._path, flags, 0o666), "r+b", buffering=0) as file:
                # Half a line of a process that was killed must not spoil this one.
                if (end := file.seek(0, os.SEEK_END)) and os.pread(
                    file.fileno(), 1, end - 1
                ) != b"\n":
                    text = "\n" + text
                file.write(text.encode())
        except OSError as error:
            raise StudyError(f"{self._path}: cannot be written ({error.strerror})") from None

    def _lines(self) -> Iterator[dict[str, Any]]:
        if self._path.is_symlink() or not self._path.is_file():
            return
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise StudyError(f"{self._path}: cannot be read ({error.strerror})") from None
        for line in text.splitlines():
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                yield found
