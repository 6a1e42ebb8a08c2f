"""Which trial to take: the best by one objective of those that keep to a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from autosearch.contracts import SCORED, Objective, TrialRecord, canonical_key
from autosearch.errors import ConfigError, StudyError, did_you_mean
from autosearch.spec import Constraint
from autosearch.study.repetition import Repeated

_RUNNERS_UP = 3


@dataclass(frozen=True)
class Recommendation:
    """A trial, and why.

    Attributes:
        trial: The trial to take.
        reasons: In plain words, one line each.
        runners_up: The next best within the budget, of other configurations.
        doubt: Why it is best by chance; None where validation can tell trials apart.
    """

    trial: TrialRecord
    reasons: tuple[str, ...]
    runners_up: tuple[TrialRecord, ...]
    doubt: str | None = None

    def __str__(self) -> str:
        return f"trial {self.trial.number}: " + "; ".join(self.reasons)


def recommend(
    records: Sequence[TrialRecord],
    objectives: Mapping[str, Objective],
    known: Mapping[str, Objective],
    bounds: Sequence[Constraint],
    prefer: str | None = None,
    runs: Mapping[int, Mapping[str, Repeated]] = MappingProxyType({}),
    doubt: str | None = None,
) -> Recommendation:
    """Choose by validation: what the report's budget slider marks.

    Args:
        records: Trials of a study.
        objectives: The study's, in its order.
        known: All that can be measured.
        bounds: The budget, on objectives and measured values.
        prefer: The objective that decides; by default the first that is maximised, else the
            first. Of equal trials the one that is better by the others is taken, then the
            earlier.
        runs: Figures over the runs of trials that were run several times, by number. If the
            trial that looks best is among them, the choice is between them alone, by their
            means: one run flatters whoever was chosen for it. Else they count as run once.
        doubt: What `autosearch.study.distinct.indistinct` says of the first objective that is
            maximised; then the trial is said to be the highest, and not the best.

    Raises:
        ConfigError: A name stands for nothing that the trials have.
        StudyError: No trial has values, or none keeps to the budget.
    """
    scored = [record for record in records if record.status in SCORED]
    if not scored:
        raise StudyError("no complete trial, so none to recommend")
    first = next((n for n, o in objectives.items() if o.direction == "maximize"), None)
    chosen = prefer or first or next(iter(objectives))
    if chosen not in objectives:
        raise ConfigError("prefer", chosen, f"an objective; {did_you_mean(chosen, objectives)}")
    _check_names(bounds, scored, known)
    within = [record for record in scored if all(_keeps(record, bound) for bound in bounds)]
    limits = " and ".join(f"{bound.name} {bound.relation} {bound.bound:g}" for bound in bounds)
    if not within:
        ends = ", ".join(_end(scored, bound) for bound in bounds)
        raise StudyError(f"no trial keeps to {limits}; the {ends}")
    order = [chosen, *(name for name in objectives if name != chosen)]
    ranked = _ranked(within, objectives, order)
    among = f"{len(ranked)} trials within {limits}" if limits else f"all {len(ranked)} trials"
    spread = []
    if ranked[0].number in runs:
        several = [record for record in within if record.number in runs]
        averaged = [_averaged(record, runs[record.number]) for record in several]
        ranked = _ranked(averaged, objectives, order)
        found = runs[ranked[0].number][chosen]
        among = f"the {len(ranked)} of {among} that were run several times"
        spread = [f"mean of {found.runs} runs, standard deviation {found.deviation:.2g}"]
    best, others = ranked[0], _others(ranked)
    doubt = doubt if chosen == first else None
    how = "best" if doubt is None else "highest, by chance,"
    reasons = [f"{how} validation {chosen} of {among}: {best.values[chosen]:.4g}", *spread]
    reasons = [doubt, *reasons] if doubt else reasons
    reasons += [f"{name} {best.values[name]:.4g}" for name in order[1:]]
    if others:
        after = others[0]
        reasons.append(f"next is trial {after.number} with {chosen} {after.values[chosen]:.4g}")
    return Recommendation(best, tuple(reasons), tuple(others[:_RUNNERS_UP]), doubt)


def _ranked(
    records: Sequence[TrialRecord], objectives: Mapping[str, Objective], order: Sequence[str]
) -> list[TrialRecord]:
    """The best first, by objectives in an order."""
    return sorted(records, key=lambda record: [_cost(record, objectives[n]) for n in order])


def _averaged(record: TrialRecord, figures: Mapping[str, Repeated]) -> TrialRecord:
    """A trial with the means over its runs for values."""
    values = {n: figures[n].mean if n in figures else v for n, v in record.values.items()}
    return replace(record, values=values)


def _figure(record: TrialRecord, name: str) -> float | None:
    found = record.values.get(name, record.measured.get(name))
    return float(found) if isinstance(found, (int, float)) else None


def _check_names(
    bounds: Sequence[Constraint], records: Sequence[TrialRecord], known: Mapping[str, Objective]
) -> None:
    """Refuse a bound on what was not measured."""
    measured = {name for record in records for name in (*record.values, *record.measured)}
    for bound in bounds:
        if bound.name not in measured:
            nearest = did_you_mean(bound.name, measured & known.keys())
            raise ConfigError("budget", bound.name, f"a measured value; {nearest}")


def _keeps(record: TrialRecord, bound: Constraint) -> bool:
    value = _figure(record, bound.name)
    return value is not None and bound.violation(value) <= 0


def _end(records: Sequence[TrialRecord], bound: Constraint) -> str:
    """The value that comes nearest to keeping a bound that none keeps, or one of several."""
    values = [v for record in records if (v := _figure(record, bound.name)) is not None]
    upper = bound.relation == "<="
    kind, value = ("least", min(values)) if upper else ("largest", max(values))
    return f"{kind} {bound.name} is {value:g}"


def _cost(record: TrialRecord, objective: Objective) -> float:
    value = record.values[objective.name]
    return value if objective.direction == "minimize" else -value


def _others(ranked: Sequence[TrialRecord]) -> list[TrialRecord]:
    """All but the first and those of equal configuration, each configuration once."""
    unique = {canonical_key(record.canonical): record for record in reversed(ranked)}
    return [record for record in ranked[1:] if unique[canonical_key(record.canonical)] is record]
