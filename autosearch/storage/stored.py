"""The JSON files of a study's folder, checked before anybody makes use of what they say.

A folder may come from elsewhere, from a newer program, or from a disk that was full.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autosearch import __version__
from autosearch.errors import StudyError

FORMAT = 1
"""Of a study's folder. A program that writes what earlier ones misread counts it up."""

_MAX_BYTES = 10_000_000

_Kind = TypeVar("_Kind", bound=BaseModel)


class _Object(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Data(_Object):
    name: str
    category: str
    counts: dict[str, dict[str, int]]
    sha256: str
    image_size: int
    rule: str
    resize_rule: str
    mask_rule: str


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


class _Compared(_Figures):
    reproduced: bool = True
    largest_difference: float = Field(0.0, allow_inf_nan=False)


class _Test(_Figures):
    trial: int | None = Field(None, ge=0)
    same_as: int | None = Field(None, ge=0)
    types: dict[str, _Figures] = {}
    data: _Images = _Images()
    bootstrap: _Drawn = _Drawn()
    validation: _Compared = _Compared()


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
