"""Several settings on one fit: parameters that only touch what comes after it, drawn and compared.

A memory bank's smoothing, root, weights of levels and share of pixels change nothing of features,
rows and distances. So a trial may try a few of them for the price of a map each, and keep the best
by the study's own accuracy objectives. They are chosen on validation, inside the trial.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from autosearch.contracts import (
    Objective,
    Setting,
    canonical_key,
    derived_seed,
)
from autosearch.errors import ConfigError, Infeasible
from autosearch.spec import Params, Space, StudySpec, Value

KEY = "study.post_trials"

_DRAWS = 10
"""Draws for every setting that is wanted: some are equal, and some cannot be built."""


def drawn_settings(
    space: Space,
    canonical: Callable[[Params], Params],
    proposed: Setting,
    names: Collection[str],
    wanted: int,
    seed: int,
) -> tuple[Setting, ...]:
    """Settings beside the one that was proposed, no two alike.

    Args:
        space: What is searched; its conditions are kept.
        canonical: `Runner.canonical`.
        proposed: What was proposed.
        names: Parameters that may be others than proposed.
        wanted: How many settings; there are fewer where the space holds no more.
        seed: Of the draws.
    """
    varied = variable(space, names)
    if not varied:
        return ()
    generator = np.random.default_rng(seed)
    found = {canonical_key(proposed.canonical): proposed}
    for _ in range(_DRAWS * wanted):
        if len(found) > wanted:
            break
        params = space.suggest(_Draw(generator, proposed.params, varied))
        try:
            form = canonical(dict(params))
        except Infeasible:
            continue
        changes = {n: v for n, v in params.items() if proposed.params.get(n, _NONE) != v}
        found.setdefault(canonical_key(form), Setting(params, form, changes))
    return tuple(found.values())[1:]


def variable(space: Space, names: Collection[str]) -> set[str]:
    """Those of the parameters that a space searches and on which no others depend."""
    varied = {p.name for p in space.parameters if p.name in names and p.size() > 1}
    for parameter in reversed(space.parameters):
        if parameter.name not in varied:
            varied -= {name for name, _ in parameter.when}
    return varied


def check_post_trials(
    spec: StudySpec, known: Collection[str], objectives: Mapping[str, Objective]
) -> None:
    """Refuse to try settings where there are none to try, or nothing to choose by.

    Args:
        spec: The study.
        known: `Runner.post_parameters` of its runner.
        objectives: The study's.

    Raises:
        ConfigError: Says why.
    """
    number = spec.study.post_trials
    if not number:
        return
    if not variable(spec.parsed_space, known):
        runner, names = spec.study.runner, ", ".join(sorted(n for n in known if "." not in n))
        why = f"the space searches none of {names}" if known else "it can set nothing after a fit"
        raise ConfigError(KEY, number, f"0: runner {runner}: {why}")
    if not any(of_accuracy(its) for its in objectives.values()):
        raise ConfigError(KEY, number, "0: no objective is of accuracy, such as rwap")


def of_accuracy(objective: Objective) -> bool:
    """Whether it is a figure of maps alone, not of a cost or a clock."""
    return objective.moment == "score" and not objective.unit and not objective.graph


def chosen(
    values: Sequence[Mapping[str, float]],
    broken: Sequence[float],
    objectives: Mapping[str, Objective],
) -> int:
    """Place of the best of some settings, the first of equals.

    Those that break constraints least come first. Of these it is the one with the best mean rank
    over the objectives: none is better in all of them.

    Args:
        values: Of each setting, objectives by name.
        broken: By how much each breaks constraints, 0 for not at all.
        objectives: Those that count, by name.
    """
    within = np.flatnonzero(np.asarray(broken) <= min(broken))
    ranks = np.zeros(len(within))
    for name, objective in objectives.items():
        sign = -1.0 if objective.direction == "maximize" else 1.0
        column = np.array([sign * values[place][name] for place in within.tolist()])
        column = np.where(np.isnan(column), math.inf, column)
        beaten, level = column[:, None] > column, column[:, None] == column
        ranks += (beaten + level / 2).sum(axis=1)
    return int(within[ranks.argmin()])


def told(tried: Sequence[tuple[Setting, Mapping[str, float]]], best: int) -> dict[str, Any]:
    """What is kept of settings and their values; see `Outcome`."""
    setting = tried[best][0]
    return {
        "params": setting.params,
        "canonical": setting.canonical,
        "tried": [{"changes": one.changes, "values": dict(values)} for one, values in tried],
    }


def settings_seed(seed: int, canonical: Params) -> int:
    """Of the draws of a trial, the same wherever it is evaluated."""
    return derived_seed(seed, canonical_key(canonical), "settings")


_NONE = object()
"""Stands for a value that was not proposed, since None may be one."""


class _Draw:
    """Gives a space the values that were proposed, and of some parameters others at random."""

    def __init__(
        self, generator: np.random.Generator, proposed: Params, varied: Collection[str]
    ) -> None:
        self._generator, self._proposed, self._varied = generator, proposed, varied

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        """One of the choices."""
        if self._stays(name):
            return self._proposed[name]
        return choices[int(self._generator.integers(len(choices)))]

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """A whole number."""
        if self._stays(name):
            return int(self._proposed[name] or 0)
        if log:
            return round(math.exp(self._generator.uniform(math.log(low), math.log(high))))
        return low + step * int(self._generator.integers((high - low) // step + 1))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None, log: bool
    ) -> float:
        """A number."""
        if self._stays(name):
            return float(self._proposed[name] or 0)
        if log:
            return math.exp(self._generator.uniform(math.log(low), math.log(high)))
        if step is None:
            return float(self._generator.uniform(low, high))
        steps = math.floor((high - low) / step + 1e-9)
        return low + step * int(self._generator.integers(steps + 1))

    def _stays(self, name: str) -> bool:
        # What only exists beside another value of a varied parameter was not proposed.
        return name not in self._varied and name in self._proposed
