"""Optuna's samplers by name, drawing the same values however often a search is interrupted."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from autosearch.contracts import derived_seed
from autosearch.spec import SamplerSpec, Space, Value
from autosearch.study.distributions import distributions
from autosearch.study.hub import foreign_maker
from autosearch.study.shrinkage import Shrinkage
from autosearch.study.subset import Subset

_Numbers = dict[tuple[str, ...], dict[int, NDArray[Any]]]
"""By names of parameters drawn together, then by trial: their values as TPE sees them."""


class ReproducibleSampler(BaseSampler):
    """Gives every trial its own seed, derived from the study's seed and the trial's number.

    A sampler's random state is lost with its process. Here no state outlives a trial, so a search
    that is stopped and resumed proposes what it would have proposed without the stop. Values
    drawn one by one depend on the parameter's name too, so a trial cut off between two of them
    can be taken up again.

    Samplers of OptunaHub are others: see `autosearch.study.hub.ForeignSampler`.

    A space without conditions is handed to the sampler as a whole; finding it out again from all
    finished trials costs as much as sampling itself once there are a few hundred.

    Args:
        sampler: Which one, with its options.
        space: What is drawn from.
        seed: The study's.
        start: Values of the first trials, one mapping a trial; what is missing is drawn.
        objectives: Names, in the order of a trial's values; their errors are looked for.
        constrained: Whether trials can break constraints.
    """

    def __init__(
        self,
        sampler: SamplerSpec,
        space: Space,
        seed: int,
        start: Sequence[Mapping[str, Value]] = (),
        objectives: Sequence[str] = (),
        constrained: bool = False,
    ) -> None:
        # These outlive the samplers, of which every trial has its own.
        numbers: _Numbers = {}
        subset = Subset(seed)
        seen = Shrinkage(objectives, subset) if sampler.noise == "shrink" else subset
        self._seed, self._start = seed, start
        self._known: dict[str, BaseDistribution] | None
        if sampler.package is None:
            self._maker = _makers(sampler, space, numbers, seen)[sampler.name]
            self._known = distributions(space)
        else:
            # What such a one draws together is its own to say.
            self._maker, self._known = foreign_maker(sampler, space, constrained), None
        self._current: tuple[int, BaseSampler] | None = None

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Parameters that are drawn together."""
        if self._known is not None:
            return self._known
        return self._inner(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw parameters together."""
        if trial.number < len(self._start):
            return {}
        return self._inner(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        """Draw one parameter by itself."""
        if trial.number < len(self._start) and name in self._start[trial.number]:
            return self._start[trial.number][name]
        sampler = self._make(derived_seed(self._seed, trial.number, name))
        return sampler.sample_independent(study, trial, name, distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Let the sampler prepare."""
        self._inner(trial).before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Let the sampler take note of a result."""
        seed = derived_seed(self._seed, trial.number)
        self._make(seed).after_trial(study, trial, state, values)

    def _make(self, seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return self._maker(seed)

    def _inner(self, trial: FrozenTrial) -> BaseSampler:
        if self._current is None or self._current[0] != trial.number:
            seed = derived_seed(self._seed, trial.number)
            self._current = (trial.number, self._make(seed))
        return self._current[1]


class _TPE(optuna.samplers.TPESampler):
    """Optuna's, which makes numbers of a finished trial's parameters once.

    Optuna itself does so for every later trial, which is half of its work after 2,000 of them.
    Beyond these it learns from a part of them; see `Subset`.

    Args:
        numbers: Of the study's trials so far; more are added.
        seen: Which of them it learns from, and what it takes their figures for.
        options: See Optuna.
    """

    def __init__(self, numbers: _Numbers, seen: Subset | Shrinkage, **options: Any) -> None:
        super().__init__(**options)
        self._numbers, self._seen = numbers, seen

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return super().infer_relative_search_space(self._seen.of(study), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return super().sample_relative(self._seen.of(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        return super().sample_independent(self._seen.of(study), trial, name, distribution)

    def _get_internal_repr(
        self,
        trials: list[FrozenTrial],
        search_space: dict[str, BaseDistribution],
        study: optuna.Study,
    ) -> dict[str, NDArray[Any]]:
        known, rows = self._numbers.setdefault(tuple(search_space), {}), []
        for trial in trials:
            if (row := known.get(trial.number)) is None:
                columns = super()._get_internal_repr([trial], search_space, study)
                row = np.concatenate([*columns.values()])  # Empty if it lacks a parameter.
                if trial.state.is_finished():
                    known[trial.number] = row
            if row.size:
                rows.append(row)
        table = np.array(rows, dtype=float).reshape(len(rows), len(search_space))
        return dict(zip(search_space, table.T, strict=True))


def _makers(
    spec: SamplerSpec, space: Space, numbers: _Numbers, seen: Subset | Shrinkage
) -> dict[str, Callable[[int], BaseSampler]]:
    grouped = space.conditional if spec.group is None else spec.group

    def tpe(seed: int) -> BaseSampler:
        return _TPE(
            numbers,
            seen,
            seed=seed,
            multivariate=spec.multivariate,
            constant_liar=spec.constant_liar,
            group=grouped and spec.multivariate,
            n_startup_trials=spec.startup_trials,
            n_ei_candidates=spec.ei_candidates,
        )

    size, startup = spec.population_size, spec.startup_trials
    return {
        "tpe": tpe,
        "gp": lambda seed: optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup),
        "nsga2": lambda seed: optuna.samplers.NSGAIISampler(population_size=size, seed=seed),
        "nsga3": lambda seed: optuna.samplers.NSGAIIISampler(population_size=size, seed=seed),
        "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    }
