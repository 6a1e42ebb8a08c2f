"""What ``model.json`` says of the trial or the trials that a model consists of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from autosearch.contracts import called, ensemble_name


def whose(d: Mapping[str, Any]) -> str:
    """The trial or the ensemble, by number or name."""
    numbers = d.get("ensemble")
    return called(ensemble_name(numbers) if numbers else int(d["study"]["trial"]))


def configurations(d: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """As searched and as exported: of the trial, or of each member of an ensemble."""
    each: Sequence[Mapping[str, Any]] = d.get("configurations") or [d["configuration"]]
    return each


def members(d: Mapping[str, Any]) -> Iterable[str]:
    """What an ensemble is, for its card; nothing of a trial."""
    if numbers := d.get("ensemble"):
        *others, last = map(str, numbers)
        yield (
            f"An ensemble of trials {', '.join(others)} and {last} in one graph: its map is the "
            "mean of theirs, each less the mean and divided by the standard deviation of that "
            "trial's scores of the pixels of normal validation images, as fitted on the train "
            "split. Its cost is the sum of theirs."
        )
