"""What TPE may take the figures of a study for, where it is known how much chance is in them.

Validation holds few defects, so the highest figures are often those of lucky trials. Every figure
of accuracy has a standard error; trials with similar configurations say what it should have been.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from autosearch.metrics import Floats
from autosearch.study.distinct import ERROR
from autosearch.study.gower import KnownDistances
from autosearch.study.subset import Subset, Thinned

_LENGTHS = (0.03, 0.1, 0.3)
"""Of Gower's distance, over which the likeness of configurations falls."""

_FEWEST = 5
"""Trials below which nothing is said of any."""


def shrunk(values: Floats, errors: Floats, apart: Floats) -> Floats:
    """Values drawn towards those of similar configurations, the noisier the more.

    Of each the neighbours' mean m has the weight ``e² / (e² + t²)`` with its standard error e: an
    empirical Bayes estimate (Efron and Morris, "Data Analysis Using Stein's Estimator and its
    Generalizations", 1975) around a local mean. The variance ``t²`` of true values around it is
    what the differences to it have beyond the mean square error, and the reach of likeness that
    of a few by which neighbours foretell a value best.

    Args:
        values: ``(N,)``.
        errors: ``(N,)`` standard errors; NaN where none is known, which stays as it is.
        apart: ``(N, N)`` distances of the configurations, in [0, 1].

    Returns:
        ``(N,)``.
    """
    noise = np.nan_to_num(errors, nan=0.0) ** 2
    if len(values) < _FEWEST or not noise.any():
        return values
    # Of the nearest one the weight is 1, so that there is some however far it is.
    farther = apart.copy()
    np.fill_diagonal(farther, np.inf)
    farther -= farther.min(axis=1, keepdims=True)
    means = min((_neighbours(values, farther, s) for s in _LENGTHS),
                key=lambda found: float(np.mean((values - found) ** 2)))  # fmt: skip
    beyond = max(0.0, float(np.mean((values - means) ** 2) - noise.mean()))
    weights = np.divide(noise, noise + beyond, out=np.zeros_like(noise), where=noise > 0)
    return values + weights * (means - values)


class Shrinkage:
    """Shows a sampler a study whose figures are `shrunk`.

    Args:
        objectives: Names, in the order of a trial's values.
        subset: Which trials it shows.
    """

    def __init__(self, objectives: Sequence[str], subset: Subset) -> None:
        self._objectives, self._subset = objectives, subset
        self._seen: tuple[int, ...] = ()
        self._shown: dict[int, FrozenTrial] = {}
        self._plain: dict[int, dict[str, Any]] = {}
        self._distances = KnownDistances()

    def of(self, study: optuna.Study) -> optuna.Study:
        """The study with other values of its complete trials; it itself stays as it is."""
        trials = self._subset.of(study)._get_trials(deepcopy=False, use_cache=True)
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        numbers = tuple(trial.number for trial in complete)
        if numbers != self._seen:
            self._seen, self._shown = numbers, self._changed(complete)
        return Thinned.of(study, [self._shown.get(trial.number, trial) for trial in trials])

    def _changed(self, trials: Sequence[FrozenTrial]) -> dict[int, FrozenTrial]:
        """Trials by number with the values that they are shown with."""
        if not trials:
            return {}
        table = np.array([trial.values for trial in trials], dtype=np.float64)
        for trial in trials:
            if trial.number not in self._plain:
                self._plain[trial.number] = _plain(trial)
        numbers = [trial.number for trial in trials]
        apart = self._distances.between(numbers, [self._plain[number] for number in numbers])
        for place, name in enumerate(self._objectives):
            errors = [trial.user_attrs.get(name + ERROR, math.nan) for trial in trials]
            table[:, place] = shrunk(table[:, place], np.array(errors, dtype=np.float64), apart)
        shown = {}
        for trial, values in zip(trials, table.tolist(), strict=True):
            shown[trial.number] = copy.copy(trial)
            shown[trial.number].values = values
        return shown


def _neighbours(values: Floats, farther: Floats, length: float) -> Floats:
    """Mean of the other values, those of similar configurations counting most.

    Args:
        values: ``(N,)``.
        farther: ``(N, N)``, by how much each is farther than the nearest one.
        length: Over which the weight falls.
    """
    weights = farther / -length
    np.exp(weights, out=weights)
    found: Floats = weights @ values / weights.sum(axis=1)
    return found


def _plain(trial: FrozenTrial) -> dict[str, Any]:
    """Values of a trial's parameters, logarithms where they are searched on that scale."""
    return {
        name: math.log(value) if getattr(trial.distributions[name], "log", False) else value
        for name, value in trial.params.items()
    }
