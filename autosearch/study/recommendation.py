"""Which trial to take: by a rule, of those that keep to a budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from autosearch.contracts import SCORED, Objective, TrialRecord, canonical_key
from autosearch.errors import ConfigError, StudyError, did_you_mean
from autosearch.spec import Constraint
from autosearch.study import rules
from autosearch.study.choice_data import draws_of, errors_of
from autosearch.study.costs import figure_of
from autosearch.study.distinct import ERROR
from autosearch.study.repetition import Repeated
from autosearch.study.rules import RULES, Candidate
from autosearch.study.together import limits_of, together, total_cost

_RUNNERS_UP = 3

_CONTENDERS = 100
"""Most trials among which draws say how sure a choice is."""

_FLOOR = "ap"

_BY_ONE = frozenset({"best", "pessimistic", "smooth"})
"""Rules that look at one figure alone, which may not tell trials apart."""

Kept = Callable[[int], Mapping[str, NDArray[Any]] | None]
"""From a trial's number to the arrays that it left for a choice; None if it left none."""


@dataclass(frozen=True)
class Recommendation:
    """A trial, and why.

    Attributes:
        trial: The trial to take.
        reasons: In plain words, one line each.
        runners_up: The next best within the budget, of other configurations.
        doubt: Why it is best by chance; None where validation can tell trials apart.
        rule: By which it was chosen; see `autosearch.study.rules`.
        sure: Share of draws of the validation defects in which the rule takes this trial; None
            where that is not known.
        together: Numbers of trials to take as one detector instead, within the same budget; none
            where there are not two. See `autosearch.study.together`.
        together_gflops: Operations of all of these for an image, in billions.
    """

    trial: TrialRecord
    reasons: tuple[str, ...]
    runners_up: tuple[TrialRecord, ...]
    doubt: str | None = None
    rule: str = "best"
    sure: float | None = None
    together: tuple[int, ...] = ()
    together_gflops: float = 0.0

    def __str__(self) -> str:
        return f"trial {self.trial.number}: " + "; ".join(self.reasons)

    @property
    def together_text(self) -> str:
        """Which trials to take together, in words; empty where there are none."""
        if not self.together:
            return ""
        numbers = f"{', '.join(map(str, self.together[:-1]))} and {self.together[-1]}"
        return (
            f"trials {numbers} as one detector, the mean of their standardised maps, "
            f"{self.together_gflops:.3g} GFLOP in all"
        )


def recommend(
    records: Sequence[TrialRecord],
    objectives: Mapping[str, Objective],
    known: Mapping[str, Objective],
    bounds: Sequence[Constraint],
    prefer: str | None = None,
    runs: Mapping[int, Mapping[str, Repeated]] = MappingProxyType({}),
    doubt: str | None = None,
    rule: str | None = None,
    floor: bool = False,
    kept: Kept | None = None,
    fixed: TrialRecord | None = None,
) -> Recommendation:
    """Choose by validation; with the rule ``best`` what the report's budget slider marks.

    Args:
        records: Trials of a study.
        objectives: The study's, in its order.
        known: All that can be measured.
        bounds: The budget, on objectives and measured values.
        prefer: The objective, or a measured figure, that decides; by default the first objective
            that is maximised, else the first. Of trials of equal score the one that is better by
            it and then by the others is taken, then the earlier.
        runs: Figures over the runs of trials that were run several times, by number. If the
            trial that looks best is among them, the choice is between them alone, by their
            means: one run flatters whoever was chosen for it. Else they count as run once.
        doubt: What `autosearch.study.distinct.indistinct` says of the first objective that is
            maximised; then the trial is said to be the highest, and not the best.
        rule: A name of `autosearch.study.rules.RULES`; by default ``balanced`` where rwAP
            decides and trials have one of real and one of made anomalies (``synthetic`` if they
            have no AP), else ``best``.
        floor: Whether the choice must reach the AP of the fixed choice.
        kept: Gives what `autosearch.study.choice_data` left of a trial that was evaluated. Without
            it nothing is said of how sure the choice is, and errors are those of the records.
        fixed: The fixed choice that the search began with; trials to take together cost no more
            operations in all than it, unless the budget says how many.

    Raises:
        ConfigError: A name stands for nothing that the trials have, or a rule needs figures that
            they lack.
        StudyError: No trial has values, or none keeps to the budget.
    """
    scored = [record for record in records if record.status in SCORED]
    if not scored:
        raise StudyError("no complete trial, so none to recommend")
    first = next((n for n, o in objectives.items() if o.direction == "maximize"), None)
    chosen = prefer or first or next(iter(objectives))
    _check_prefer(chosen, objectives, scored, known)
    if rule is not None and rule not in RULES:
        raise ConfigError("rule", rule, f"a rule: {', '.join(RULES)}")
    _check_names(bounds, scored, known)
    within = [record for record in scored if all(_keeps(record, bound) for bound in bounds)]
    limits = " and ".join(f"{bound.name} {bound.relation} {bound.bound:g}" for bound in bounds)
    if not within:
        ends = ", ".join(_end(scored, bound) for bound in bounds)
        raise StudyError(f"no trial keeps to {limits}; the {ends}")
    within = [record for record in within if figure_of(record, chosen) is not None]
    least = _floor(fixed) if floor else None
    if least is not None:
        limits = " and ".join(filter(None, [limits, f"{_FLOOR} >= {least:.4g}"]))
        within = [r for r in within if (figure_of(r, _FLOOR) or 0.0) >= least]
    if not within:
        raise StudyError(f"no trial with {chosen} keeps to {limits}")
    rule = rule or _usual_rule(within, chosen)
    choice = _Choice({**known, **objectives}, list(objectives), chosen, rule, kept and cache(kept))
    ranked = choice.ranked(within)
    among = f"{len(ranked)} trials within {limits}" if limits else f"all {len(ranked)} trials"
    spread = []
    if ranked[0].number in runs:
        repeated = [record for record in within if record.number in runs]
        ranked = choice.ranked([_averaged(record, runs[record.number]) for record in repeated])
        found = runs[ranked[0].number].get(chosen)
        among = f"the {len(ranked)} of {among} that were run several times"
        if found is not None:
            spread = [f"mean of {found.runs} runs, standard deviation {found.deviation:.2g}"]
    winner, others = ranked[0], _others(ranked)
    doubt = doubt if chosen == first and rule in _BY_ONE else None
    reasons = [choice.reason(winner, ranked, among, doubt), *spread]
    reasons = [doubt, *reasons] if doubt else reasons
    left = [name for name in choice.order if rule != "best" or name != chosen]
    reasons += [f"{name} {_value(winner, name):.4g}" for name in left]
    if floor and fixed is not None:
        reasons.append(f"no lower {_FLOOR} than the first fixed choice, trial {fixed.number}")
    sure = None
    if others:
        after = others[0]
        with_value = f" with {chosen} {_value(after, chosen):.4g}"
        reasons.append(f"next is trial {after.number}{with_value}")
        if doubt is None and kept is not None:
            sure, told = choice.sureness([winner, *others])
            reasons.append(told)
    several = together(ranked, limits_of(bounds, fixed), choice.scores(ranked))
    return Recommendation(
        winner,
        tuple(reasons),
        tuple(others[:_RUNNERS_UP]),
        doubt,
        rule,
        sure,
        tuple(record.number for record in several),
        total_cost(several),
    )


def _usual_rule(records: Sequence[TrialRecord], prefer: str) -> str:
    """The rule that is measured to choose best of what trials have."""

    def known(name: str) -> bool:
        return all(figure_of(record, name) is not None for record in records)

    # Where all anomalies are made, rwAP of them chooses better by rwAP than with their AP.
    if prefer not in rules.REAL or not known(rules.MADE) or not known(rules.REAL[0]):
        return "best"
    return "balanced" if any(map(known, rules.REAL_AP)) else "synthetic"


@dataclass(frozen=True)
class _Choice:
    """How candidates are put in order.

    Attributes:
        known: All that can be measured.
        objectives: Names of the study's.
        prefer: The figure that decides.
        rule: Name of the rule.
        kept: See `recommend`.
    """

    known: Mapping[str, Objective]
    objectives: Sequence[str]
    prefer: str
    rule: str
    kept: Kept | None

    @property
    def order(self) -> list[str]:
        """Figures by which trials of equal score are told apart."""
        return [self.prefer, *(name for name in self.objectives if name != self.prefer)]

    def ranked(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """The best first."""
        score = self.scores(records)
        return sorted(records, key=lambda r: [-score[canonical_key(r.canonical)], *self._costs(r)])

    def scores(self, records: Sequence[TrialRecord]) -> dict[str, float]:
        """Of each configuration, which has one score, however often it stands there."""
        single = _single(records)
        scores = RULES[self.rule](self.candidates(list(single.values()), self._errors))
        return dict(zip(single, scores.tolist(), strict=True))

    def candidates(self, records: Sequence[TrialRecord], kept: bool) -> list[Candidate]:
        """What rules need to know of trials, with or without what they left for a choice."""
        arrays = [self.kept(r.origin) if self.kept and kept else None for r in records]
        seeds = [None if one is None or "seed" not in one else int(one["seed"]) for one in arrays]
        size = next((its.shape for its in draws_of(arrays[0] or {}).values()), None)
        made = []
        for record, one, seed in zip(records, arrays, seeds, strict=True):
            figures = {**record.measured, **record.values}
            plain = {
                name: float(value)
                for name, value in figures.items()
                if isinstance(value, (int, float)) and not math.isnan(value)
            }
            plain[self.prefer] = _value(record, self.prefer)
            errors = {
                name.removesuffix(ERROR): value
                for name, value in plain.items()
                if name.endswith(ERROR)
            }
            drawn = draws_of(one) if one is not None and seed == seeds[0] else {}
            drawn = {name: its for name, its in drawn.items() if its.shape == size}
            made.append(
                Candidate(
                    record.number,
                    plain,
                    self.prefer,
                    -1 if self._direction(self.prefer) == "minimize" else 1,
                    {**errors, **(errors_of(one) if one is not None else {})},
                    drawn,
                    record.canonical,
                )
            )
        return made

    def sureness(self, records: Sequence[TrialRecord]) -> tuple[float | None, str]:
        """In how many draws the first of some trials wins, and the same in words."""
        contenders = self.candidates(records[:_CONTENDERS], True)
        missing = [one.number for one in contenders if not one.draws]
        unknown = "how sure this is cannot be said:"
        if missing:
            few = f"trial {missing[0]}" if len(missing) == 1 else f"{len(missing)} trials"
            return None, f"{unknown} {few} of an earlier version kept no draws"
        share = rules.wins(RULES[self.rule], contenders, 0)
        if share is None:
            return None, f"{unknown} there are too few validation defects to draw from"
        others = f"{len(contenders) - 1} next best" if len(contenders) > 2 else "next best"
        draws = len(next(iter(contenders[0].draws.values())))
        text = f"wins in {100 * share:.0f} % of {draws} draws of the validation defects"
        return share, f"{text}, against the {others}"

    def reason(
        self,
        winner: TrialRecord,
        ranked: Sequence[TrialRecord],
        among: str,
        doubt: str | None,
    ) -> str:
        """Why it is first, in words."""
        how = "best" if doubt is None else "highest, by chance,"
        single = _single(ranked)
        trials = self.candidates(list(single.values()), self._errors)
        place = list(single).index(canonical_key(winner.canonical))
        name = rules.decisive(trials)
        own = trials[place].figures[name]
        if self.rule == "best":
            return f"{how} validation {self.prefer} of {among}: {_value(winner, self.prefer):.4g}"
        if self.rule == "pessimistic":
            error = trials[place].errors.get(name)
            if error is None:
                return f"{how} validation {name} of {among}: {own:.4g}; no standard error is known"
            less = f"{own:.4g} less {error:.2g}"
            return f"{how} validation {name} less its standard error of {among}: {less}"
        score = float(RULES[self.rule](trials)[place])
        if self.rule == "smooth":
            alike = f"averaged with that of similar configurations, of {among}"
            return f"{how} validation {name}, {alike}: {trials[place].sign * score:.4g}"
        means = self.rule in rules.MULTIPLIED
        names = rules.multiplied(trials, self.rule) if means else rules.ranked_by(trials)
        told = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        if means:
            return f"{how} geometric mean of validation {told} of {among}: {score:.4g}"
        rank = len(trials) + 1 - score
        return f"{how} mean rank by validation {told} of {among}: {rank:.3g}"

    @property
    def _errors(self) -> bool:
        """Whether the rule asks for standard errors."""
        return self.rule == "pessimistic"

    def _costs(self, record: TrialRecord) -> list[float]:
        """Figures in their order, each the lower the better."""
        signs = [1 if self._direction(name) == "minimize" else -1 for name in self.order]
        return [s * _value(record, name) for s, name in zip(signs, self.order, strict=True)]

    def _direction(self, name: str) -> str:
        return self.known[name].direction


def _single(records: Sequence[TrialRecord]) -> dict[str, TrialRecord]:
    """Every configuration once, the first trial of each."""
    return {canonical_key(record.canonical): record for record in reversed(records)}


def _averaged(record: TrialRecord, figures: Mapping[str, Repeated]) -> TrialRecord:
    """A trial with the means over its runs for figures."""

    def means(known: Mapping[str, float]) -> dict[str, float]:
        return {n: figures[n].mean if n in figures else v for n, v in known.items()}

    return replace(record, values=means(record.values), measured=means(record.measured))


def _figure(record: TrialRecord, name: str) -> float | None:
    found = record.values.get(name, record.measured.get(name))
    return float(found) if isinstance(found, (int, float)) else None


def _value(record: TrialRecord, name: str) -> float:
    """A figure that the trial has."""
    found = figure_of(record, name)
    return math.nan if found is None else float(found)


def _floor(trial: TrialRecord | None) -> float | None:
    """AP of a trial.

    Raises:
        ConfigError: It has none.
    """
    if trial is None:
        return None
    found = figure_of(trial, _FLOOR) if trial.status in SCORED else None
    if found is None:
        raise ConfigError("floor", f"trial {trial.number}", f"a trial that has {_FLOOR}")
    return float(found)


def _check_prefer(
    name: str,
    objectives: Mapping[str, Objective],
    records: Sequence[TrialRecord],
    known: Mapping[str, Objective],
) -> None:
    """Refuse to prefer what has no direction or was not measured."""
    measured = {n for record in records for n in (*record.values, *record.measured)}
    if name in objectives or (name in known and name in measured):
        return
    nearest = did_you_mean(name, {*objectives, *(measured & known.keys())})
    raise ConfigError("prefer", name, f"an objective or a measured figure; {nearest}")


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


def _others(ranked: Sequence[TrialRecord]) -> list[TrialRecord]:
    """All but the first and those of equal configuration, each configuration once."""
    single = _single(ranked)
    return [record for record in ranked[1:] if single[canonical_key(record.canonical)] is record]
