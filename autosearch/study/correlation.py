"""Whether one figure ranks the trials of a study as another does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autosearch.contracts import SCORED, TrialRecord, canonical_key
from autosearch.errors import ConfigError, did_you_mean
from autosearch.metrics import RankCorrelation, rank_correlation

TEST = "test."
"""How the names of figures of the test split begin."""


def figures(
    records: Sequence[TrialRecord], tests: Mapping[int, Mapping[str, Any]]
) -> dict[str, dict[int, float]]:
    """All figures of scored trials: name to trial number to value.

    Figures of the test split are named ``test.rwap`` and so on. Of trials with the same canonical
    configuration only the first counts: a repetition would pass for agreement.
    """
    found: dict[str, dict[int, float]] = {}
    seen = set()
    for record in records:
        key = canonical_key(record.canonical)
        if record.status not in SCORED or key in seen:
            continue
        seen.add(key)
        tested = tests.get(record.number, {}).get("metrics", {})
        named = {**record.measured, **record.values}
        named |= {TEST + name: value for name, value in tested.items()}
        for name, value in named.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                found.setdefault(name, {})[record.number] = float(value)
    return found


def compare(
    records: Sequence[TrialRecord],
    tests: Mapping[int, Mapping[str, Any]],
    first: str,
    second: str,
) -> RankCorrelation:
    """Rank correlation of two named figures over the trials of a study that have both.

    Raises:
        ConfigError: No trial has a figure of that name, or too few have both.
    """
    found = figures(records, tests)
    for name in (first, second):
        if name not in found:
            raise ConfigError("figure", name, did_you_mean(name, found))
    both = sorted(found[first].keys() & found[second].keys())
    return rank_correlation([found[first][n] for n in both], [found[second][n] for n in both])
