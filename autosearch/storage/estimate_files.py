"""Files of an estimate: ``factory/<name>/`` with ``estimate.json`` and one file for each repeat.

``estimate.json`` says what is estimated and on which images, ``repeat-000.json`` what one repeat
found: the scores of both sets image by image, so that another rule needs no new training.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from autosearch.errors import StudyError
from autosearch.files import write_atomic

FACTORY, ESTIMATE = "factory", "estimate.json"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_REPEAT = re.compile(r"repeat-([0-9]{3,})\.json")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ScoredImages(_Strict):
    """Images of one set: path, anomaly type, group and score of each."""

    paths: list[str]
    types: list[str]
    groups: list[str]
    scores: list[float]

    @model_validator(mode="after")
    def _alike(self) -> ScoredImages:
        if len({len(self.paths), len(self.types), len(self.groups), len(self.scores)}) != 1:
            raise ValueError("lists of different lengths")
        return self


class PixelCounts(_Strict):
    """Pixels of one set called anomalous at each cut, of all anomalous and all normal ones."""

    hits: list[int]
    alarms: list[int]
    positives: int = Field(ge=1)
    negatives: int = Field(ge=1)


class Pixels(_Strict):
    """Pixels of both sets at falling cuts, which were chosen on the threshold set."""

    cuts: list[float]
    threshold_set: PixelCounts
    inference_set: PixelCounts

    @model_validator(mode="after")
    def _alike(self) -> Pixels:
        counted = (self.threshold_set, self.inference_set)
        if {len(c) for part in counted for c in (part.hits, part.alarms)} != {len(self.cuts)}:
            raise ValueError("lists of different lengths")
        return self


class Repeat(_Strict):
    """What one repeat found.

    Attributes:
        seed: Of its split, and of its training.
        train: Number of images that it was trained on.
        threshold_set: Images that a threshold is chosen on.
        inference_set: Images that all figures are of.
        metrics: Of pixels of the inference set, that need no threshold; None where undefined.
        pixels: None where no defect is marked in one of the sets.
        seconds: By part.
    """

    seed: int
    train: int = Field(ge=1)
    threshold_set: ScoredImages
    inference_set: ScoredImages
    metrics: dict[str, float | None]
    pixels: Pixels | None
    seconds: dict[str, float]


class EstimateFiles:
    """The files of one estimate.

    Args:
        folder: A study's, or any other.
        name: Of the estimate, such as ``trial-3``.

    Raises:
        StudyError: The name leads out of the folder, or somebody put a link in its place.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path, self.name = folder / FACTORY / name, name
        if not _NAME.fullmatch(name):
            raise StudyError(f"{self.path}: {name!r} is no name of an estimate")
        if self.path.is_symlink() or self.path.parent.is_symlink():
            raise StudyError(f"{self.path}: is a link, which leads out of the study's folder")

    @classmethod
    def names(cls, folder: Path) -> list[str]:
        """Estimates that are there, in order of name."""
        return sorted(path.parent.name for path in folder.glob(f"{FACTORY}/*/{ESTIMATE}"))

    def load(self) -> dict[str, Any] | None:
        """What is estimated; None where nothing was begun.

        Raises:
            StudyError: The file cannot be read.
        """
        path = self.path / ESTIMATE
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StudyError(f"{path}: cannot be read ({error})") from None
        if not isinstance(found, dict) or not isinstance(found.get("made_from"), dict):
            raise StudyError(f"{path}: cannot be read (it does not say what is estimated)")
        return found

    def write(self, about: Mapping[str, Any]) -> None:
        """Keep what is estimated."""
        self._write(ESTIMATE, json.dumps(about, indent=2, ensure_ascii=False) + "\n")

    def repeats(self) -> dict[int, Repeat]:
        """What was found so far, by number of the repeat.

        Raises:
            StudyError: A file cannot be read.
        """
        found = {}
        for path in sorted(self.path.glob("repeat-*.json")):
            match = _REPEAT.fullmatch(path.name)
            if match is None or path.is_symlink():
                continue
            try:
                found[int(match[1])] = Repeat.model_validate_json(path.read_bytes())
            except (OSError, ValidationError) as error:
                why = str(error).splitlines()[0]
                raise StudyError(f"{path}: cannot be read ({why}); remove it to redo it") from None
        return dict(sorted(found.items()))

    def write_repeat(self, number: int, content: bytes) -> None:
        """Keep what one repeat found, as JSON of `Repeat`."""
        self._write(f"repeat-{number:03}.json", content)

    def clear(self) -> None:
        """Remove what was found, to begin anew."""
        for path in self.path.glob("repeat-*.json"):
            if _REPEAT.fullmatch(path.name):
                path.unlink()

    def _write(self, name: str, content: bytes | str) -> None:
        try:
            write_atomic(self.path / name, content)
        except OSError as error:
            raise StudyError(f"{self.path / name}: cannot be written ({error.strerror})") from None
