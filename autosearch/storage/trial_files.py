"""Files of single trials: artifacts and tracebacks, and figures of the test split.

Figures of an ensemble, which is several trials as one detector, lie beside those of trials:
``ensembles/3+7+12/``. It is called by that name where a trial is by its number.
"""

from __future__ import annotations

import io
import json
import re
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
from autosearch.storage.stored import (
    Run,
    read_arrays,
    read_ensemble,
    read_resamples,
    read_runs,
    read_test,
)

TEST = "test.json"
"""What a trial reached on the test split, written by ``autosearch evaluate`` alone."""

RESAMPLES = "resamples.npz"
"""The same of every bootstrap resample, to compare trials with; written before `TEST`."""

REPEATS = "repeats.json"
"""Figures of all runs of a trial that was evaluated with several seeds."""

CHOICE = "choice.npz"
"""Artifact with what a choice among trials asks for; see `autosearch.study.choice_data`."""

TRACEBACK = "traceback.txt"

_NOT_OWN = (TEST, RESAMPLES, TRACEBACK)
"""What is no artifact of a trial."""

_ENSEMBLES, _ENSEMBLE = "ensembles", re.compile(r"[0-9]+(\+[0-9]+)+")

_MAX_BYTES, _MAX_CHOICE = 100_000_000, 1_000_000

Which = int | str
"""Number of a trial, or name of an ensemble."""


class TrialFiles:
    """The folders ``trials/<number>/`` and ``ensembles/<name>/`` of a study.

    Args:
        study: The study's folder.
    """

    def __init__(self, study: Path) -> None:
        self._study = study

    def path(self, which: Which) -> Path:
        """Folder of one trial, or of an ensemble."""
        if isinstance(which, str):
            if not _ENSEMBLE.fullmatch(which):
                raise ValueError(f"no name of an ensemble: {which!r}")
            return self._study / _ENSEMBLES / which
        return self._study / "trials" / str(which)

    def check(self) -> None:
        """Refuse links in the place of folders.

        Raises:
            StudyError: Somebody put one there.
        """
        names = ("trials", _ENSEMBLES)
        inside = (place for name in names for place in self._study.glob(f"{name}/*"))
        for place in (*(self._study / name for name in names), *inside):
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

    def load_choice(self, number: int) -> dict[str, NDArray[Any]] | None:
        """Arrays of `CHOICE` by name; None where a trial has none.

        Raises:
            StudyError: The file cannot be read.
        """
        path = self.path(number) / CHOICE
        linked = path.is_symlink() or path.parent.is_symlink()
        return None if linked or not path.is_file() else read_arrays(path, _MAX_CHOICE)

    def write_test(self, which: Which, figures: Mapping[str, Any]) -> None:
        """Keep what a trial or an ensemble reached on the test split."""
        text = json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        self._write(which, TEST, text)

    def write_resamples(self, which: Which, values: Mapping[str, Scores]) -> None:
        """Keep what one reached on resamples of the test split, ``(S,)`` by metric."""
        content = io.BytesIO()
        plain = {name: np.asarray(drawn, dtype=np.float32) for name, drawn in values.items()}
        np.savez(content, allow_pickle=False, **plain)
        self._write(which, RESAMPLES, content.getvalue())

    def load_resamples(self, which: Which, size: int) -> dict[str, NDArray[np.float32]] | None:
        """What `write_resamples` wrote; None if there is nothing.

        Args:
            which: The trial, or the ensemble.
            size: Resamples that there must be.

        Raises:
            StudyError: The file cannot be read, or holds other numbers of values.
        """
        path = self.path(which) / RESAMPLES
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

    def load_ensembles(self) -> dict[str, dict[str, Any]]:
        """What `write_test` wrote of ensembles, by name.

        Raises:
            StudyError: A file cannot be read.
        """
        found = {}
        for path in self._study.glob(f"{_ENSEMBLES}/*/{TEST}"):
            linked = path.is_symlink() or path.parent.is_symlink()
            if _ENSEMBLE.fullmatch(path.parent.name) and not linked:
                found[path.parent.name] = read_ensemble(path)
        return dict(sorted(found.items(), key=lambda item: item[1]["ensemble"]))

    def _write(self, which: Which, name: str, content: bytes | str) -> None:
        """Write a file of a trial or an ensemble, into its own folder and no other."""
        folder = self.path(which)
        own = Path(name).name == name != ".."
        if not own or folder.is_symlink() or folder.parent.is_symlink():
            raise StudyError(f"{folder / name}: lies outside of the study's folder")
        try:
            write_atomic(folder / name, content)
        except OSError as error:
            raise StudyError(f"{folder / name}: cannot be written ({error.strerror})") from None
