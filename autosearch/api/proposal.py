"""A first spec for a dataset: looked at, measured on this machine, and written with reasons."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autosearch.api.draft import Draft, pace_text
from autosearch.api.update import Progress, Update, quiet, reading
from autosearch.contracts import check_space, registry, understood
from autosearch.errors import ConfigError, DataError, did_you_mean
from autosearch.files import user_path
from autosearch.spec import StudySpec, dataset_spec, load_spec

if TYPE_CHECKING:
    from autosearch.data import Report
    from autosearch.spec import DatasetSpec
    from autosearch.study import Pace

_DEFAULT_SIDE = 224
_ABOUT_IMAGES = {"name", "root", "category", "image_size"}
"""Keys of the section ``dataset`` that a space has of the demo."""


@dataclass(frozen=True)
class Proposal:
    """A spec that can be run, and what it rests upon.

    Attributes:
        text: The spec as YAML with comments.
        spec: The same, read.
        pace: Of trials on this machine; None where none were tried.
        time: What is known of the time that the search will take, in a sentence.
    """

    text: str
    spec: StudySpec
    pace: Pace | None
    time: str


def propose(
    root: str | Path,
    category: str | None = None,
    *,
    space: str = "autopatch_plus",
    budget: str = "10m",
    name: str | None = None,
    measured: bool = True,
    checked: Callable[[Report], object] = lambda report: None,
    progress: Progress = quiet,
) -> Proposal:
    """Look at a dataset, try some trials, and write a spec that fits both; no file is written.

    The dataset is read as `check_data` reads it. Three trials are run and forgotten, so that as
    many are asked for as the budget has time for on this machine.

    Args:
        root: As of `check_data`.
        category: As of `check_data`.
        space: Name of an installed space.
        budget: How long the search may take, such as ``10m``.
        name: Of the study; by default it is like that of the category.
        measured: Whether trials are tried.
        checked: Told what a check of the dataset found, before trials are tried.
        progress: Told what is being done.

    Raises:
        ConfigError: A value is not allowed, or there are several categories.
        DataError: There is no such dataset, its layout cannot be understood, or a search would
            refuse it; what is wrong stands in the report that ``checked`` is told.
        AutosearchError: No search could begin, as without weights.
    """
    from autosearch.data import advise

    its = _installed(space, budget)
    given = _asked(root, category, its)
    one, *others = given.categories
    called = f"{one} and {len(others)} more" if others else one
    progress(Update("looking", 0, None, f"looking at every image of {called} in {given.root}"))
    side = getattr(its.dataset.image_size, "side", None) or _DEFAULT_SIDE
    advice = advise(given, side)
    checked(advice.report)
    if not advice.report.usable:
        problem = "no search can begin on it"
        raise DataError(advice.report.root, problem, "mend what is called an error above")
    draft = Draft(
        space=space,
        path=registry.spaces()[space],
        its=its,
        advice=advice,
        kept=_needed(its),
        name=name or _named(one),
        budget=budget,
        seconds=its.study.timeout or 0,
    )
    pace = _pace(_read(draft.text(None)), progress) if measured else None
    text = draft.text(pace)
    return Proposal(text, _read(text), pace, pace_text(pace, draft.trials(pace)))


def _installed(space: str, budget: str) -> StudySpec:
    """What a space says, with a budget."""
    known = registry.spaces()
    if space not in known:
        raise ConfigError("--space", space, f"an installed space; {did_you_mean(space, known)}")
    try:
        return load_spec(known[space], [("study.timeout", budget)])
    except ConfigError as error:
        if error.key != "study.timeout":
            raise
        raise ConfigError("--budget", budget, "a time such as 90s, 10m or 2h") from None


def _asked(root: str | Path, category: str | None, its: StudySpec) -> DatasetSpec:
    """The images that are meant, with what else the space needs of a dataset."""
    from autosearch.data import only_category

    where = str(user_path(str(root), "FOLDER").resolve())
    category = category or only_category(where)
    listed = category[:1] == "["
    chosen: str | tuple[str, object] = f"category={category}" if listed else ("category", category)
    return dataset_spec([("root", where), chosen, *_needed(its).items()])


def _needed(its: StudySpec) -> dict[str, object]:
    """What a space needs of a dataset, whichever that is."""
    kept = its.dataset.model_fields_set - _ABOUT_IMAGES
    plain: dict[str, object] = its.dataset.model_dump(mode="json", include=kept)
    return plain


def _read(text: str) -> StudySpec:
    """A spec as `autosearch run` reads it from its file.

    Raises:
        ConfigError: A key or value is not allowed.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "spec.yaml")
        path.write_text(text, encoding="utf-8")
        spec = load_spec(path)
    its = spec.study.runner
    check_space(spec.parsed_space, understood(registry.load_runner(its)), its)
    registry.resolve_objectives(spec)
    return spec


def _pace(spec: StudySpec, progress: Progress) -> Pace:
    """Try some trials."""
    from autosearch.study import load_inputs, measure_pace

    progress(Update("loading", 0, None, "loading weights and images for some trials"))
    inputs = load_inputs(spec, reading(progress))

    def tell(done: int, of: int) -> None:
        progress(Update("trying", done, of, f"trying trial {done + 1} of {of}"))

    return measure_pace(inputs, tell)


def _named(category: str) -> str:
    """A study's name that is like that of a category."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", category).strip("._-")
    return plain[:100] or "study"
