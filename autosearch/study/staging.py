"""A space that names ``preprocess``: what it goes with, and whether there are objects at all."""

from __future__ import annotations

from dataclasses import replace

from autosearch.contracts import PREPROCESS, Runner
from autosearch.data import CanvasStage, SearchData
from autosearch.errors import ConfigError
from autosearch.spec import Parameter, StudySpec

_KEY = f"space.{PREPROCESS}"


def check_staging(spec: StudySpec, runner: type[Runner]) -> None:
    """Refuse what cannot go with a searched ``preprocess``.

    Raises:
        ConfigError: Photographs are preprocessed before they come in, or cut into tiles.
    """
    if _parameter(spec, runner) is None:
        return
    dataset = spec.dataset
    if dataset.preprocess != "none":
        allowed = f"none beside {_KEY}, which does that on the input"
        raise ConfigError("dataset.preprocess", dataset.preprocess, allowed)
    if dataset.tiling is not None:
        allowed = f"null beside {_KEY}, since an object does not lie in one tile; with tiles set "
        raise ConfigError(
            "dataset.tiling", dataset.tiling.model_dump(), f"{allowed}dataset.preprocess instead"
        )


def with_objects(data: SearchData, spec: StudySpec, runner: type[Runner]) -> SearchData:
    """The same, with a note of training images that ``preprocess`` leaves as they are.

    Args:
        data: Train and validation.
        spec: The study.
        runner: Its runner.

    Raises:
        ConfigError: No object stands out in most of the normal training images, so that trials of
            all its values would be the same.
    """
    parameter = _parameter(spec, runner)
    if parameter is None or parameter.values() == ("none",):
        return data
    normal = data.train.select(~data.train.labels)
    found = CanvasStage("mask").found_in(normal)
    without = [path for path, one in zip(normal.paths, found, strict=True) if not one]
    if not without:
        return data
    few = f"{len(without)} of {len(normal)} normal training images (first {without[0]})"
    if 2 * len(without) > len(normal):
        allowed = (
            f"none, since no object stands out from the border of {few} as detectors see them; "
            "objects are found on a plain background that reaches the border, of which "
            "dataset.region_of_interest can cut out a part"
        )
        raise ConfigError(_KEY, parameter.to_plain(), allowed)
    notes = data.info.get("notes", [])
    said = (
        f"no object stands out from the border of {few}, so {PREPROCESS} leaves them as they are"
    )
    return replace(data, info={**data.info, "notes": [*notes, said]})  # type: ignore[misc]


def _parameter(spec: StudySpec, runner: type[Runner]) -> Parameter | None:
    """The parameter of the space, unless it is one of the runner's own."""
    named = (one for one in spec.parsed_space.parameters if one.name == PREPROCESS)
    return None if PREPROCESS in runner.parameters else next(named, None)
