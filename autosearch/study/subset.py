"""Which trials TPE learns from once a study has thousands: all of them would be too slow.

TPE weighs every earlier trial by a kernel before it proposes the next one, so that a proposal
grows with the trials behind it. Beyond `WHOLE` of them it is shown the best, others that are drawn
among the rest, and all since the last draw; at most `WHOLE` in all, and those under way.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, cast

import numpy as np
import optuna
from optuna.samplers._tpe.sampler import _split_trials
from optuna.trial import FrozenTrial, TrialState

from autosearch.contracts import derived_seed

WHOLE = 2000
"""A proposal that has no more trials before it learns from all of them."""

GOOD, OTHERS, EVERY = 200, 1550, 250
"""Best trials that are shown, others that are drawn, and after how many trials both anew.

Of so many trials TPE itself takes the best tenth, which is no more than `GOOD`, for good ones.
"""

_LEARNT_FROM = (TrialState.COMPLETE, TrialState.PRUNED)


class Subset:
    """The trials of one study that stand for all of its earlier ones.

    They follow from the seed and from the trials themselves, so that a search that is stopped and
    resumed proposes what it would have proposed without the stop.

    Args:
        seed: The study's.
    """

    def __init__(self, seed: int) -> None:
        self._seed, self._since = seed, 0
        self._chosen: list[int] = []

    def of(self, study: optuna.Study) -> optuna.Study:
        """A study as TPE is to see it while it proposes the latest trial."""
        trials = study.get_trials(deepcopy=False)
        before = len(trials) - 1
        if before <= WHOLE:
            return study
        since = before - before % EVERY
        if since != self._since:
            self._chosen, self._since = self._choose(study, trials[:since]), since
        shown = [*(trials[number] for number in self._chosen), *trials[since:]]
        return Thinned.of(study, shown)

    def _choose(self, study: optuna.Study, trials: Sequence[FrozenTrial]) -> list[int]:
        """Numbers of those of the trials that are shown, rising."""
        learnt = [trial for trial in trials if trial.state in _LEARNT_FROM]
        best, others = _split_trials(study, learnt, GOOD)
        if len(others) > OTHERS:
            draw = np.random.default_rng(derived_seed(self._seed, len(trials), "subset"))
            others = [others[i] for i in draw.choice(len(others), OTHERS, replace=False)]
        under_way = [trial for trial in trials if not trial.state.is_finished()]
        return sorted(trial.number for trial in (*best, *others, *under_way))


class Thinned:
    """A study that seems to have some of its trials alone, as far as a sampler asks.

    Args:
        study: The study.
        trials: Those that it seems to have, in order of number.
    """

    @classmethod
    def of(cls, study: optuna.Study, trials: list[FrozenTrial]) -> optuna.Study:
        """One that stands for a study."""
        return cast(optuna.Study, cls(study, trials))

    def __init__(self, study: optuna.Study, trials: list[FrozenTrial]) -> None:
        self._whole, self._shown = study, trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        """Optuna's own, for those that ask for no copies."""
        return [trial for trial in self._shown if states is None or trial.state in states]
