"""Whether one figure ranks the trials of a study as another does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from autosearch.bootstrap import LEVEL
from autosearch.errors import ConfigError, did_you_mean
from autosearch.trials import SCORED, TrialRecord, canonical_key

TEST = "test."
"""How the names of figures of the test split begin."""

_FEWEST = 4


@dataclass(frozen=True)
class RankCorrelation:
    """Agreement of two figures over the same trials.

    Attributes:
        trials: Number of trials that have both.
        spearman: Spearman's rank correlation: 1 for the same order, -1 for the reverse, NaN where
            a figure is the same for all.
        interval: Percentile interval of `spearman` over bootstrap resamples of the trials.
        kendall: Kendall's tau-b, which counts pairs of trials in the same order.
    """

    trials: int
    spearman: float
    interval: tuple[float, float]
    kendall: float


def rank_correlation(
    first: ArrayLike, second: ArrayLike, resamples: int = 1000, seed: int = 0
) -> RankCorrelation:
    """Compare two figures by rank.

    Args:
        first: ``(N,)`` values, one per trial.
        second: ``(N,)`` values of the same trials.
        resamples: Bootstrap resamples of the interval.
        seed: Of the resamples.

    Raises:
        ConfigError: If there are fewer than four trials.
    """
    x, y = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if len(x) < _FEWEST:
        raise ConfigError("trials", len(x), f"at least {_FEWEST} with both figures")
    drawn = np.random.default_rng(seed).integers(len(x), size=(resamples, len(x)))
    found = np.array([_spearman(x[chosen], y[chosen]) for chosen in drawn])
    tail = (1 - LEVEL) / 2
    # A resample of equal values has no correlation; if none has one, there is no interval.
    known = found[~np.isnan(found)]
    low, high = np.quantile(known, [tail, 1 - tail]) if len(known) else (np.nan, np.nan)
    kendall = float(stats.kendalltau(x, y).statistic)
    return RankCorrelation(len(x), _spearman(x, y), (float(low), float(high)), kendall)


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


def _spearman(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    """Correlation of ranks, ties at their mean rank; NaN where either never varies."""
    ranks = [stats.rankdata(values) for values in (x, y)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])
