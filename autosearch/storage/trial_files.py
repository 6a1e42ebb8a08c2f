"""Files of single trials: artifacts and tracebacks, and figures of the test split."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autosearch.contracts import Outcome
from autosearch.errors import StudyError
from autosearch.files import write_atomic
from autosearch.metrics import Scores
from autosearch.storage.stored import Run, read_resamples, read_runs, read_test

TEST = "test.json"
"""What a trial reached on the test split, written by ``autosearch evaluate`` alone."""

RESAMPLES = "resamples.npz"
"""The same of every bootstrap resample, to compare trials with; written before `TEST`."""

REPEATS = "repeats.json"
"""Figures of all runs of a trial that was evaluated with several seeds."""


TRACEBACK = "traceback.txt"

_NOT_OWN = (TEST, RESAMPLES, TRACEBACK)
"""What is no artifact of a trial."""

_MAX_BYTES = 100_000_000


class TrialFiles:
    """The folders ``trials/<number>/`` of a study.

    Args:
        study: The study's folder.
    """

    def __init__(self, study: Path) -> None:
        self._study = study

    def path(self, number: int) -> Path:
        """Folder of one trial."""
        return self._study / "trials" / str(number)

    def check(self) -> None:
        """Refuse links in the place of folders.

        Raises:
            StudyError: Somebody put one there.
        """
        for place in (self._study / "trials", *self._study.glob("trials/*")):
            if place.is_symlink():
                raise StudyError(f"{place}: is a link, which leads out of the study's folder")

    def write_outcome(self, number: int, outcome: Outcome) -> None:
        """Keep a trial's artifacts and traceback.

        Raises:
            StudyError: The trial's folder is a link, or an artifact's name leads out of it; or the
                disk is full or broken.
        """
        for name, content in outcome.artifacts.items():
            self._write(number, name, content)
        if outcome.traceback:
            self._write(number, TRACEBACK, outcome.traceback)

    def load_artifacts(self, number: int) -> dict[str, bytes]:
        """What the trial itself left, by file name: no traceback, and nothing of the test split.

        Files that cannot be read, links and what is too large are left out.
        """
        folder, found = self.path(number), {}
        if folder.is_symlink() or folder.parent.is_symlink():
            return {}
        for path in sorted(folder.glob("*")):
            own = path.is_file() and not path.is_symlink() and path.name not in _NOT_OWN
            with suppress(OSError):
                if own and path.stat().st_size <= _MAX_BYTES:
                    found[path.name] = path.read_bytes()
        return found

    def write_runs(self, number: int, runs: Sequence[Run]) -> None:
        """Keep the runs of a trial that was evaluated several times."""
        content = {"runs": [run.model_dump() for run in runs]}
        self._write(number, REPEATS, json.dumps(content, indent=1) + "\n")

    def load_runs(self, number: int) -> list[Run]:
        """What `write_runs` wrote, or the trial itself left; empty for one that was run once.

        Raises:
            StudyError: The file cannot be read.
        """
        path = self.path(number) / REPEATS
        if path.is_symlink() or path.parent.is_symlink() or not path.is_file():
            return []
        return read_runs(path)

    def write_test(self, number: int, figures: Mapping[str, Any]) -> None:
        """Keep what a trial reached on the test split."""
        text = json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        self._write(number, TEST, text)

    def write_resamples(self, number: int, values: Mapping[str, Scores]) -> None:
        """Keep what a trial reached on resamples of the test split, ``(S,)`` by metric."""
        content = io.BytesIO()
        plain = {name: np.asarray(drawn, dtype=np.float32) for name, drawn in values.items()}
        np.savez(content, allow_pickle=False, **plain)
        self._write(number, RESAMPLES, content.getvalue())

    def load_resamples(self, number: int, size: int) -> dict[str, NDArray[np.float32]] | None:
        """What `write_resamples` wrote; None if there is nothing.

        Args:
            number: Of the trial.
            size: Resamples that there must be.

        Raises:
            StudyError: The file cannot be read, or holds other numbers of values.
        """
        path = self.path(number) / RESAMPLES
        linked = path.is_symlink() or path.parent.is_symlink()
        return None if linked or not path.exists() else read_resamples(path, size)

    def load_tests(self) -> dict[int, dict[str, Any]]:
        """What `write_test` wrote, by trial number; few trials have it.

        Raises:
            StudyError: A file cannot be read.
        """
        found = {}
        for path in self._study.glob(f"trials/*/{TEST}"):
            linked = path.is_symlink() or path.parent.is_symlink()
            if path.parent.name.isdecimal() and not linked:
                found[int(path.parent.name)] = read_test(path)
        return dict(sorted(found.items()))

    def _write(self, number: int, name: str, content: bytes | str) -> None:
        """Write a file of a trial, into the trial's own folder and no other."""
        folder = self.path(number)
        own = Path(name).name == name != ".."
        if not own or folder.is_symlink() or folder.parent.is_symlink():
            raise StudyError(f"{folder / name}: lies outside of the study's folder")
        try:
            write_atomic(folder / name, content)
        except OSError as error:
            raise StudyError(f"{folder / name}: cannot be written ({error.strerror})") from None
