"""Which trials are not worth finishing, judged by what they report while they train.

With one objective, asynchronous successive halving (Li et al., "A System for Massively Parallel
Hyperparameter Tuning", MLSys 2020) as Optuna implements it. With several, a trial is stopped when
even an optimistic guess at its final values is dominated.

What a training has spent by then, such as time, says little by itself: of such an objective the
value counts as what it would be at the end, were the rest as dear as the part that is done.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import optuna

from autosearch.contracts import Progress
from autosearch.metrics import pareto
from autosearch.spec import PrunerSpec

STEPS = 100
"""Fractions of a training are told to Optuna in hundredths."""

Curve = Sequence[tuple[float, Mapping[str, float]]]
"""Fraction done and objective values, in the order in which they were reported."""


class EarlyStopping:
    """Judges trials of one study.

    Args:
        spec: Whether and when to stop.
        directions: Objective name to ``minimize`` or ``maximize``.
        cumulative: Objectives that only grow while a trial trains; see `Objective`.
    """

    def __init__(
        self, spec: PrunerSpec, directions: Mapping[str, str], cumulative: Collection[str] = ()
    ) -> None:
        self._spec, self._directions = spec, dict(directions)
        self._cumulative = frozenset(cumulative)

    def pruner(self) -> optuna.pruners.BasePruner:
        """What Optuna asks about trials with one objective."""
        if self._spec.name == "none" or len(self._directions) > 1:
            return optuna.pruners.NopPruner()
        return optuna.pruners.SuccessiveHalvingPruner(
            min_resource=max(1, round(STEPS * self._spec.first_rung)),
            reduction_factor=self._spec.reduction_factor,
        )

    def halved(self, trial: optuna.Trial, progress: Progress, complete: int) -> str | None:
        """Tell Optuna of a single objective's value; a reason if the trial should stop.

        Args:
            trial: The trial.
            progress: What it reports.
            complete: Number of complete trials; the first few are left alone.
        """
        ((name, value),) = progress.values.items()
        when = f"after {progress.fraction:.0%}"
        if name in self._cumulative:
            value, when = value / progress.fraction, f"at the end, going by {when[6:]} of it"
        trial.report(value, round(STEPS * progress.fraction))
        # Asked in any case, for the answer enters into what later trials are compared with.
        if not trial.should_prune() or complete < self._spec.startup_trials:
            return None
        return f"{name} {value:.4g} {when}: not among the best so far"

    def hopeless(
        self,
        curve: Curve,
        finished: Iterable[tuple[Curve, Mapping[str, float]]],
        front: Sequence[Mapping[str, float]],
    ) -> str | None:
        """Reason to stop a trial with several objectives.

        What counts at any time is the best so far, since few validation images make for curves
        that go up and down; of a cumulative objective, its projection to the end. The optimistic
        guess adds to each objective the largest gain that any complete trial has made from the
        same part of its training on; it multiplies a projection by the ratio of the luckiest one,
        for costs differ by factors, and is never below what is already spent.

        Args:
            curve: What the trial has reported so far.
            finished: Curve and final values of complete trials that reported any.
            front: Objective values of the front.
        """
        fraction = curve[-1][0]
        if self._spec.name == "none" or fraction < self._spec.first_rung:
            return None
        known = [
            (at, self._standing([*other, (1.0, final)], 1.0))
            for other, final in finished
            if (at := self._standing(other, fraction))
        ]
        if len(known) < self._spec.startup_trials:
            return None
        now, guess = self._standing(curve, fraction), []
        for name in self._directions:
            pairs = [(at[name], final[name]) for at, final in known]
            guess.append(self._guess(name, now[name], curve[-1][1][name], pairs))
        rows = [[values[name] for name in self._directions] for values in front]
        if 0 in pareto.front([guess, *rows], list(self._directions.values())):
            return None
        shown = ", ".join(f"{n} {v:.4g}" for n, v in zip(self._directions, guess, strict=True))
        return f"dominated after {fraction:.0%} even if it gained as much as any: {shown}"

    def _guess(
        self, name: str, now: float, latest: float, known: Sequence[tuple[float, float]]
    ) -> float:
        """An optimistic final value of an objective.

        Args:
            name: Of the objective.
            now: How it stands.
            latest: What was reported last.
            known: How it stood for complete trials, and their final values.
        """
        better = max if self._directions[name] == "maximize" else min
        if name not in self._cumulative:
            return now + better(final - at for at, final in known)
        ratios = [final / at if at > 0 else math.inf for at, final in known]
        return max(latest, now * better(ratios)) if now > 0 else latest

    def _standing(self, curve: Curve, fraction: float) -> dict[str, float]:
        """Each objective by itself at a fraction, as it counts; empty without any report by then.

        The best value reported by then, or of a cumulative one the last, projected to the end.
        """
        reported = [(at, values) for at, values in curve if at <= fraction + 1e-9]
        if not reported:
            return {}
        best = {"maximize": max, "minimize": min}
        last, latest = reported[-1]
        return {
            name: latest[name] / last
            if name in self._cumulative
            else best[direction](values[name] for _, values in reported)
            for name, direction in self._directions.items()
        }
