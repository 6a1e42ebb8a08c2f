"""Whether two figures rank the same things alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike

from autosearch.errors import ConfigError
from autosearch.metrics.bootstrap import LEVEL

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
    kendall = float(scipy.stats.kendalltau(x, y).statistic)
    return RankCorrelation(len(x), _spearman(x, y), (float(low), float(high)), kendall)


def _spearman(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    """Correlation of ranks, ties at their mean rank; NaN where either never varies."""
    ranks = [scipy.stats.rankdata(values) for values in (x, y)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])
