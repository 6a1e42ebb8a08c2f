"""The JSON files of a study's folder, checked before anybody makes use of what they say.

A folder may come from elsewhere, from a newer program, or from a disk that was full.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autosearch import __version__
from autosearch.contracts import ensemble_name
from autosearch.errors import StudyError

FORMAT = 1
"""Of a study's folder. A program that writes what earlier ones misread counts it up."""

_MAX_BYTES = 10_000_000

_Kind = TypeVar("_Kind", bound=BaseModel)


class _Object(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Defects(_Object):
    images: int
    marked: int
    smallest: int | None
    largest: int | None
    first: str


class _Data(_Object):
    name: str
    category: str
    counts: dict[str, dict[str, int]]
    sha256: str
    image_size: int | Annotated[list[int], Field(min_length=2, max_length=2)]
    rule: str
    resize_rule: str
    mask_rule: str
    defects: dict[str, _Defects] = {}
    weak: list[str] = []


class _Weights(_Object):
    name: str
    source: str
    sha256: str
    note: str


class _Objective(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    direction: Literal["minimize", "maximize"]
    unit: str
    help: str
    pixels: bool = False


class _Meta(_Object):
    autosearch: str = ""
    written: str = ""
    data: _Data | None = None
    weights: list[_Weights] = []
    packages: dict[str, str] = {}
    textures: str | None = None
    objectives: dict[str, _Objective] = {}


class _Figures(_Object):
    metrics: dict[str, float | None] = {}
    intervals: dict[str, Annotated[list[float], Field(min_length=2, max_length=2)] | None] = {}
    images: int | None = None


class _Images(_Object):
    images: int | None = None
    sha256: str = ""
    counts: dict[str, int] = {}


class _Drawn(_Object):
    resamples: int | None = None
    unit: str = ""
    level: float | None = None
    seed: int | None = None
    too_few: list[str] = []


class _Compared(_Figures):
    reproduced: bool = True
    largest_difference: float = Field(0.0, allow_inf_nan=False)


class _Test(_Figures):
    trial: int | None = Field(None, ge=0)
    same_as: int | None = Field(None, ge=0)
    types: dict[str, _Figures] = {}
    categories: dict[str, _Figures] = {}
    data: _Images = _Images()
    bootstrap: _Drawn = _Drawn()
    validation: _Compared = _Compared()
    fit: Literal["all", "train"] = "train"
    fitted_on: int | None = Field(None, ge=0)
    prevalence: float | None = Field(None, gt=0, lt=1)


class _ComparedEnsemble(_Compared):
    objectives: dict[str, float] = {}


class _EnsembleTest(_Test):
    ensemble: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2)]
    validation: _ComparedEnsemble = _ComparedEnsemble()


class Run(BaseModel):
    """One of several runs of a trial.

    Attributes:
        seed: Of every random draw of the run.
        figures: Objectives and measured values by name.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    seed: int = Field(ge=0)
    figures: dict[str, float]


class _Runs(_Object):
    runs: Annotated[list[Run], Field(min_length=1, max_length=10_000)]


def read_runs(path: Path) -> list[Run]:
    """What a trial's ``repeats.json`` says.

    Raises:
        StudyError: It is damaged.
    """
    return _checked(path, _read(path), _Runs).runs


def read_meta(path: Path) -> dict[str, Any]:
    """What ``meta.json`` says; empty if it is not there, the search never having come so far.

    Raises:
        StudyError: It is damaged, or a newer program wrote the folder.
    """
    try:
        content = _read(path)
    except FileNotFoundError:
        return {}
    found = content.get("format", FORMAT) if isinstance(content, dict) else FORMAT
    if isinstance(found, int) and found > FORMAT:
        raise StudyError(
            f"{path}: written by autosearch {content.get('autosearch')} in format {found}; "
            f"autosearch {__version__} reads {FORMAT}, so update it"
        )
    _checked(path, content, _Meta)
    return dict(content)


def read_test(path: Path) -> dict[str, Any]:
    """What a trial's ``test.json`` says, with empty values for what it leaves out.

    Raises:
        StudyError: It is damaged.
    """
    return _checked(path, _read(path), _Test).model_dump()


def read_ensemble(path: Path) -> dict[str, Any]:
    """What the ``test.json`` of an ensemble says, likewise.

    Raises:
        StudyError: It is damaged, or not of the trials that its folder is named after.
    """
    found = _checked(path, _read(path), _EnsembleTest)
    if ensemble_name(found.ensemble) != path.parent.name:
        raise StudyError(f"{path}: is of trials {found.ensemble}")
    return found.model_dump()


def read_resamples(path: Path, size: int) -> dict[str, NDArray[np.float32]]:
    """What a trial's ``resamples.npz`` says: ``(size,)`` float32 by metric. Runs no code.

    Raises:
        StudyError: It is damaged, too large, or of another number of resamples.
    """
    found = read_arrays(path, _MAX_BYTES)
    for name, values in found.items():
        if values.dtype != np.float32 or values.shape != (size,):
            shown = f"{values.dtype} of shape {values.shape}"
            raise StudyError(f"{path}: {name} is {shown}, not float32 of shape ({size},)")
    return found


def read_arrays(path: Path, most: int) -> dict[str, NDArray[Any]]:
    """Arrays by name of an archive that takes so many bytes at most. Runs no code.

    Raises:
        StudyError: It is damaged or too large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > most:
                raise ValueError("too large")
        with np.load(path, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}
    except (OSError, ValueError, MemoryError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise StudyError(f"{path}: cannot be read ({error})") from None


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise ValueError("too large")
        return json.loads(text)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise StudyError(f"{path}: cannot be read ({error})") from None


def _checked(path: Path, content: Any, kind: type[_Kind]) -> _Kind:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "all of it"
        problem = first["msg"].partition(" or instance of")[0]
        raise StudyError(f"{path}: cannot be read ({place}: {problem})") from None
