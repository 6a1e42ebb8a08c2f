"""Figures over a whole study: hypervolume as it grows, importance of parameters, attainment."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import ArrayLike, NDArray
from optuna.study import StudyDirection

from autosearch.contracts import Status, TrialRecord
from autosearch.metrics import pareto
from autosearch.spec import Space

Floats = NDArray[np.float64]

MOST_OBJECTIVES = 3
"""With more, exact hypervolumes take too long to follow from trial to trial."""

_MARGIN = 0.1
_FEWEST_TRIALS, _MOST_TRIALS = 10, 500


def value_box(values: ArrayLike, directions: Sequence[str]) -> tuple[Floats, Floats]:
    """The box in which hypervolume is measured: from a little below the worst values to the best.

    The margin is a tenth of the range, so that a row which is worst in one objective counts too.

    Args:
        values: ``(N, M)``; at least one row is finite.
        directions: ``minimize`` or ``maximize`` per objective.

    Returns:
        The worst corner and the best, each ``(M,)``.
    """
    array = np.asarray(values, dtype=np.float64)
    array = array[np.isfinite(array).all(axis=1)]
    lowest, highest = array.min(axis=0), array.max(axis=0)
    falling = np.array([direction == "minimize" for direction in directions])
    worst, best = np.where(falling, highest, lowest), np.where(falling, lowest, highest)
    return worst + _MARGIN * (worst - best), best


def hypervolume_curve(values: ArrayLike, box: tuple[ArrayLike, ArrayLike]) -> list[float]:
    """Hypervolume after each trial, as a share of a box.

    Only a row that no row before it equals or dominates costs more than one comparison with the
    front so far.

    Args:
        values: ``(N, M)`` in order of trials, NaN where a trial has no value: it adds nothing.
        box: As `value_box` gives it; in an objective where they agree every row counts as
            best. Rows outside are cut to the box.

    Returns:
        N numbers in [0, 1] that never fall; higher is better.
    """
    worst, best = (np.asarray(corner, dtype=np.float64) for corner in box)
    span = worst - best
    costs = np.asarray(values, dtype=np.float64) - best
    costs = np.divide(costs, span, out=np.zeros_like(costs), where=span != 0).clip(0, 1)
    costs[~np.isfinite(np.asarray(values, dtype=np.float64)).all(axis=1)] = np.nan
    ones, directions = np.ones(worst.size), ["minimize"] * worst.size
    front = np.empty((0, worst.size))
    curve, volume = [], 0.0
    for row in costs:
        if not np.isnan(row).any() and not (front <= row).all(axis=1).any():
            front = np.vstack([front[~(row <= front).all(axis=1)], row])
            volume = pareto.hypervolume(front, ones, directions)
        curve.append(volume)
    return curve


def parameter_importance(
    records: Sequence[TrialRecord], space: Space, directions: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """How much each parameter tells the best tenth of the trials from the rest.

    PED-ANOVA (Watanabe, Bansal and Hutter, "Efficiently Quantifying Hyperparameter Importance in
    Arbitrary Subspaces", IJCAI 2023) as Optuna has it, for each objective by itself. Parameters
    that exist only under a condition count for the trials that have them. Of many trials 500
    are taken, evenly spread over the study; nothing is drawn at random.

    Returns:
        By objective, shares by parameter that add up to 1, the largest first. Empty with fewer
        than 10 complete trials, or where no parameter matters at all.
    """
    complete = [record for record in records if record.status == Status.COMPLETE]
    if len(complete) < _FEWEST_TRIALS:
        return {}
    every = np.linspace(0, len(complete) - 1, min(len(complete), _MOST_TRIALS)).round()
    built = (_frozen(complete[int(i)], space, directions) for i in every)
    trials = [trial for trial in built if trial is not None]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        directions=[StudyDirection[direction.upper()] for direction in directions.values()]
    )
    study.add_trials(trials)
    names = sorted({name for trial in trials for name in trial.params})
    found = {}
    for place, (objective, direction) in enumerate(directions.items()):
        sign = 1.0 if direction == "minimize" else -1.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shares = optuna.importance.get_param_importances(
                study,
                evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
                params=names,
                target=lambda trial, i=place, s=sign: s * trial.values[i],  # type: ignore[misc]
            )
        if sum(shares.values()) > 0:
            found[objective] = {name: float(share) for name, share in shares.items()}
    return found


def attainment(fronts: Sequence[ArrayLike], directions: Sequence[str]) -> dict[str, Any]:
    """Best second value within a budget of the first, over repeated studies.

    The summary attainment curves of Fonseca and Fleming (1996): at each budget the best, the
    median and the worst of what the studies reach. The median of an even number of studies is the
    worse of the middle two, so that a study that has reached nothing yet counts as worst.

    Args:
        fronts: One ``(N, 2)`` array of objective values a study, its front or all its trials;
            rows with a NaN are left out.
        directions: Of the two objectives.

    Returns:
        ``x`` (rising if the first objective is minimised, else falling) and ``best``, ``median``,
        ``worst`` of the same length, None where not enough studies have reached that budget.
        The curves are steps that hold until the next ``x``.
    """
    signs = np.array([1.0 if direction == "minimize" else -1.0 for direction in directions])
    costs = [np.asarray(front, dtype=np.float64).reshape(-1, 2) * signs for front in fronts]
    costs = [cost[pareto.front(cost, ["minimize", "minimize"])] for cost in costs]
    grid = np.unique(np.concatenate([cost[:, 0] for cost in costs]))
    reached = np.sort([_best_within(cost, grid) for cost in costs], axis=0)
    middle = len(costs) // 2
    curves = {"best": reached[0], "median": reached[middle], "worst": reached[-1]}
    listed = {
        name: [float(signs[1] * cost) if np.isfinite(cost) else None for cost in curve]
        for name, curve in curves.items()
    }
    return {"x": (signs[0] * grid).tolist(), **listed}


def _best_within(costs: Floats, grid: Floats) -> Floats:
    """Lowest second cost among the points whose first is at most each value of the grid."""
    order = np.argsort(costs[:, 0], kind="stable")
    lowest = np.append(np.inf, np.minimum.accumulate(costs[order, 1]))
    best: Floats = lowest[np.searchsorted(costs[order, 0], grid, side="right")]
    return best


def _frozen(
    record: TrialRecord, space: Space, directions: Mapping[str, str]
) -> optuna.trial.FrozenTrial | None:
    """A record as Optuna's trial; None for one added by hand that lacks parameters."""
    drawn = optuna.trial.FixedTrial(dict(record.params))
    try:
        space.suggest(drawn)
    except ValueError:
        return None
    return optuna.trial.create_trial(
        params=dict(record.params),
        distributions=drawn.distributions,
        values=[record.values[name] for name in directions],
    )
