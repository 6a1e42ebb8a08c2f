"""Whether one trial is better than another on the test split, by the resamples that both met.

What is said of trials is as true of ensembles, which are called by their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autosearch.contracts import called
from autosearch.errors import StudyError
from autosearch.metrics import bootstrap
from autosearch.storage import TrialFiles, Which

_SHARED = {
    "test split": ("data", "sha256"),
    "images to fit on (--fit)": ("fit",),
    "seed of the resamples": ("bootstrap", "seed"),
    "number of resamples": ("bootstrap", "resamples"),
    "prevalence": ("prevalence",),
}
"""What two trials must have in common, and where their figures say it."""


@dataclass(frozen=True)
class Comparison:
    """Differences of one trial's test figures to another's.

    The draw of images is the same for both, so the interval of a difference is mostly narrower
    than two intervals set side by side suggest; without 0 in it, the trials differ.

    Attributes:
        trial: Number of the one, or an ensemble's name.
        against: The same of the other.
        metrics: Name to the difference, above 0 where ``trial`` has the higher figure; None where
            either has none.
        intervals: Name to the interval of that difference, None where there is none.
        resamples: Number of resamples.
        level: Share of them between the ends of an interval.
        unit: What was drawn.
    """

    trial: Which
    against: Which
    metrics: dict[str, float | None]
    intervals: dict[str, tuple[float, float] | None]
    resamples: int
    level: float
    unit: str


def compare_trials(
    files: TrialFiles, tests: Mapping[Which, Mapping[str, Any]], trial: Which, against: Which
) -> Comparison:
    """Compare what two trials reach on the test split, without fitting either again.

    Args:
        files: Of the study's trials.
        tests: Their test figures, and those of ensembles.
        trial: Number of the one, or an ensemble's name.
        against: The same of the other.

    Raises:
        StudyError: One has not been evaluated, or they met other images or other resamples.
    """
    for number in (trial, against):
        if number not in tests:
            place = files.path(number)
            raise StudyError(f"{place}: not evaluated; `autosearch evaluate` measures it first")
    one, other = tests[trial], tests[against]
    _check_shared(files, one, other, trial, against)
    drawn, against_it = (_resamples(files, tests[n], n) for n in (trial, against))
    differences: dict[str, float | None] = {}
    intervals: dict[str, tuple[float, float] | None] = {}
    for name, value in one["metrics"].items():
        base = other["metrics"].get(name)
        differences[name] = None if value is None or base is None else value - base
        intervals[name] = None
        if name in drawn and name in against_it:
            intervals[name] = bootstrap.percentile_interval(
                drawn[name].astype(float) - against_it[name]
            )
    its = one["bootstrap"]
    return Comparison(
        trial, against, differences, intervals, its["resamples"], bootstrap.LEVEL, its["unit"]
    )


def _check_shared(
    files: TrialFiles,
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    trial: Which,
    against: Which,
) -> None:
    for what, path in _SHARED.items():
        found, base = _at(one, path), _at(other, path)
        if found != base:
            raise StudyError(
                f"{files.path(trial)}: other {what} than {called(against)} ({found}, not {base}); "
                "evaluate both alike with --force"
            )


def _at(figures: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        figures = figures[key]
    return figures


def _resamples(files: TrialFiles, test: Mapping[str, Any], number: Which) -> Mapping[str, Any]:
    found = files.load_resamples(number, test["bootstrap"]["resamples"])
    if found is None:
        raise StudyError(
            f"{files.path(number)}: evaluated before resamples were kept; "
            f"`autosearch evaluate --trial {number} --force` measures it again"
        )
    return found
