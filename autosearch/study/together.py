"""Which trials to take together, as one detector: the mean of their standardised maps.

With few defects to validate on, the five that a rule puts first are steadier than the first alone:
they differ in what they miss, and chance has chosen each of them by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autosearch.contracts import PREPROCESS, TrialRecord, canonical_key
from autosearch.spec import Constraint
from autosearch.study.costs import figure_of

TOGETHER = 5
"""Most trials that are taken together."""

LEAST = 0.6
"""Share of the best score that each has at least: maps of a much worse one spoil the mean."""

ADDED = ("gflops", "gmacs", "parameters", "search_gflops", "total_gflops", "bank_mb", "latency_ms")
"""Costs of a detector that are the sums of its parts'."""

_TOTAL, _SEARCH = "total_gflops", "search_gflops"


def limits_of(bounds: Sequence[Constraint], fixed: TrialRecord | None) -> dict[str, float]:
    """Most that trials may cost together: a budget, or else the operations of a fixed choice."""
    limits = {b.name: b.bound for b in bounds if b.relation == "<=" and b.name in ADDED}
    cost = None if fixed is None else figure_of(fixed, _TOTAL)
    if cost is not None:
        limits.setdefault(_TOTAL, cost)
    return limits


def together(
    ranked: Sequence[TrialRecord], limits: Mapping[str, float], scores: Mapping[str, float]
) -> tuple[TrialRecord, ...]:
    """The first trials of different configurations whose costs in sum keep to limits.

    One that would break a limit is passed over. Only memory banks are taken together: what trains
    was never measured so. All preprocess pictures as the first one does, so that one graph can be
    made of them.

    Args:
        ranked: The best first.
        limits: Most of each of `ADDED`.
        scores: By which trials were ranked, by key of their configuration.

    Returns:
        Up to `TOGETHER`, the best first; none where there would be fewer than two.
    """
    chosen: dict[str, TrialRecord] = {}
    ways = set[object]()
    spent = dict.fromkeys(limits, 0.0)
    for record in ranked:
        key = canonical_key(record.canonical)
        costs = {name: figure_of(record, name) for name in limits}
        if key in chosen or not figure_of(record, _SEARCH) or None in costs.values():
            continue
        if ways and record.canonical.get(PREPROCESS) not in ways:
            continue
        if scores[key] < LEAST * max(scores.values()):
            continue
        sums = {name: spent[name] + (cost or 0.0) for name, cost in costs.items()}
        if any(sums[name] > limit for name, limit in limits.items()):
            continue
        chosen[key], spent = record, sums
        ways.add(record.canonical.get(PREPROCESS))
        if len(chosen) == TOGETHER:
            break
    return tuple(chosen.values()) if len(chosen) > 1 else ()


def total_cost(records: Sequence[TrialRecord]) -> float:
    """Operations of all of them for an image, network and search, in billions."""
    return sum(figure_of(record, _TOTAL) or 0.0 for record in records)
