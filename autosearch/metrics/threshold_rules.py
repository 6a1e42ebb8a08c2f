"""By which rule a threshold is chosen, with the numbers that the rule needs.

The criteria are those of "From Lab to Factory", step 3, and two bounds. Candidates are all ways to
cut the scores: at each distinct one, and above all of them. Where several cuts are equally good,
that of the highest threshold is taken: it raises the fewest alarms. One rule looks at normal
scores alone and at no cut: a percentile of them times a factor, as SuperADD has it (arXiv
2605.14808).

Needs numpy alone, so that predicting with an exported model can use it without torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard, get_args

import numpy as np
from numpy.typing import NDArray

from autosearch.errors import ConfigError

Rule = Literal[
    "f1", "youden", "fpr", "balanced_accuracy", "sensitivity", "cost", "normal_percentile"
]
"""Largest F1; largest TPR - FPR (Youden); largest TPR with an FPR of at most ``max_fpr``; largest
mean of sensitivity and specificity, which is the threshold of Youden; largest specificity with a
sensitivity of at least ``min_sensitivity``; least cost of what is missed and of false alarms; a
percentile of normal scores times a factor, whatever the anomalous ones are."""

RULES: tuple[Rule, ...] = get_args(Rule)

NUMBERS: Mapping[Rule, tuple[str, ...]] = {
    "fpr": ("max_fpr",),
    "sensitivity": ("min_sensitivity",),
    "cost": ("prevalence", "cost_fn", "cost_fp"),
    "normal_percentile": ("percentile", "factor"),
}
"""The numbers that a rule needs; the others need none."""

_ALLOWED = {
    "max_fpr": "a rate from 0 to 1",
    "min_sensitivity": "a rate from 0 to 1",
    "prevalence": "a share between 0 and 1, neither of both",
    "cost_fn": "a number above 0",
    "cost_fp": "a number above 0",
    "percentile": "a number from 0 to 100",
    "factor": "a number above 0",
}

_ALIKE = 1e-12
"""Relative difference of two costs up to which only rounding parts them."""


@dataclass(frozen=True)
class Criterion:
    """A rule with its numbers.

    Attributes:
        rule: One of `RULES`.
        max_fpr: Of the rule ``fpr``: largest false-positive rate, in [0, 1].
        min_sensitivity: Of the rule ``sensitivity``: least true-positive rate, in [0, 1].
        prevalence: Of the rule ``cost``: share of the anomalous where it is to decide, in (0, 1).
        cost_fn: Of the rule ``cost``: what one missed costs, in the unit of ``cost_fp``.
        cost_fp: Of the rule ``cost``: what one false alarm costs.
        percentile: Of the rule ``normal_percentile``: which of the normal scores, in [0, 100].
        factor: Of the rule ``normal_percentile``: what it is multiplied with.

    Raises:
        ConfigError: The rule is unknown, or a number is missing, out of range or not the rule's.
    """

    rule: Rule = "f1"
    max_fpr: float | None = None
    min_sensitivity: float | None = None
    prevalence: float | None = None
    cost_fn: float | None = None
    cost_fp: float | None = None
    percentile: float | None = None
    factor: float | None = None

    def __post_init__(self) -> None:
        _check({name: getattr(self, name) for name in ("rule", *_ALLOWED)})

    @property
    def numbers(self) -> dict[str, float]:
        """The rule's numbers by name."""
        return {name: getattr(self, name) for name in NUMBERS.get(self.rule, ())}

    @property
    def of_normals(self) -> bool:
        """Whether it looks at normal scores alone."""
        return self.rule == "normal_percentile"

    @property
    def text(self) -> str:
        """What is chosen for, in words."""
        return _WORDS[self.rule].format(**self.numbers)

    def to_plain(self) -> dict[str, Any]:
        """JSON values: ``rule`` and ``max_fpr`` always, the other numbers where there are any."""
        return {"rule": self.rule, "max_fpr": self.max_fpr, **self.numbers}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], prefix: str = "") -> Criterion:
        """Read what `to_plain` wrote; other keys are not looked at.

        Raises:
            ConfigError: As the class, with keys that begin with ``prefix``.
        """
        given: dict[str, Any] = {name: plain.get(name) for name in ("rule", *_ALLOWED)}
        _check(given, prefix)
        return cls(**given)


_WORDS: Mapping[Rule, str] = {
    "f1": "the largest F1",
    "youden": "the largest difference of true- and false-positive rate (Youden)",
    "balanced_accuracy": "the largest mean of sensitivity and specificity",
    "fpr": "the largest true-positive rate at a false-positive rate of at most {max_fpr:g}",
    "sensitivity": "the largest specificity at a sensitivity of at least {min_sensitivity:g}",
    "normal_percentile": "few alarms: {factor:g} times the percentile {percentile:g} of normal "
    "scores",
    "cost": "the least cost where {prevalence:g} of all are anomalous, one missed costs "
    "{cost_fn:g} and a false alarm {cost_fp:g}",
}

Counts = NDArray[np.integer[Any]]


def best_cut(tp: Counts, fp: Counts, positives: int, negatives: int, criterion: Criterion) -> int:
    """The best of several cuts.

    Args:
        tp: ``(C,)`` anomalous ones that each cut calls so, the highest threshold first.
        fp: ``(C,)`` normal ones that it calls anomalous.
        positives: All that are anomalous, 1 or more.
        negatives: All that are normal, 1 or more.
        criterion: What is best.

    Returns:
        Its position; of equal ones the first, which has the highest threshold. Where no cut keeps
        to a bound on the sensitivity, which the last one always does if it calls all anomalous,
        the one with the highest sensitivity.
    """
    if criterion.rule == "f1":
        return int(np.argmax(2 * tp / (tp + fp + positives)))
    if criterion.rule in ("youden", "balanced_accuracy"):
        # In whole numbers, so that equal cuts are equal.
        return int(np.argmax(tp * negatives - fp * positives))
    if criterion.rule == "fpr":
        bound = criterion.numbers["max_fpr"]
        return int(np.argmax(np.where(fp / negatives <= bound, tp, -1)))
    if criterion.rule == "sensitivity":
        bound = min(criterion.numbers["min_sensitivity"], float(tp.max()) / positives)
        return int(np.argmin(np.where(tp / positives >= bound, fp, negatives + 1)))
    costs = cost_of(1 - tp / positives, fp / negatives, criterion)
    return int(np.argmax(costs <= costs.min() * (1 + _ALIKE) + 1e-300))


def normal_threshold(normal: NDArray[Any], criterion: Criterion) -> float:
    """The threshold that normal scores alone give.

    Args:
        normal: ``(N,)`` scores of what is normal, 1 or more.
        criterion: Of the rule ``normal_percentile``.

    Raises:
        ConfigError: The percentile is not above 0, so that no factor raises it.
    """
    its = criterion.numbers
    percentile = float(np.percentile(normal, its["percentile"]))
    if percentile <= 0 and its["factor"] != 1:
        allowed = f"one whose normal score is above 0, or a factor of 1: {percentile:g} is not"
        raise ConfigError("percentile", its["percentile"], allowed)
    return its["factor"] * percentile


def normal_cut(
    cuts: NDArray[Any], fp: Counts, negatives: int, criterion: Criterion
) -> tuple[float, int]:
    """The same where no more is known than how many normal ones reach each of several cuts.

    Args:
        cuts: ``(C,)`` falling.
        fp: ``(C,)`` normal ones at or above each.
        negatives: All that are normal.
        criterion: Of the rule ``normal_percentile``.

    Returns:
        The threshold, and the position of the lowest cut that is not below it; -1 if all are. The
        percentile is the highest cut that as large a share reaches, or the lowest one.
    """
    its = criterion.numbers
    above = 1 - its["percentile"] / 100
    reached = np.flatnonzero(fp / negatives >= above)
    threshold = its["factor"] * float(cuts[reached[0] if len(reached) else -1])
    return threshold, int((cuts >= threshold).sum()) - 1


def cost_of(miss_rate: NDArray[Any], fpr: NDArray[Any], criterion: Criterion) -> NDArray[Any]:
    """Expected cost of one part: prevalence x c_FN x (1 - TPR) + (1 - prevalence) x c_FP x FPR.

    Args:
        miss_rate: ``(C,)`` 1 - TPR.
        fpr: ``(C,)`` false-positive rates.
        criterion: Of the rule ``cost``.
    """
    its = criterion.numbers
    missed = its["prevalence"] * its["cost_fn"] * miss_rate
    alarms = (1 - its["prevalence"]) * its["cost_fp"] * fpr
    total: NDArray[Any] = missed + alarms
    return total


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a finite number, and no truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check(given: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse a rule or a number that does not fit, under keys that begin with ``prefix``."""
    rule = given["rule"]
    if rule not in RULES:
        raise ConfigError(f"{prefix}rule", rule, f"one of {', '.join(RULES)}")
    needed = NUMBERS.get(rule, ())
    for name, allowed in _ALLOWED.items():
        value = given[name]
        if name not in needed:
            if value is not None:
                raise ConfigError(f"{prefix}{name}", value, f"none with the rule {rule}")
        elif not _fits(name, value):
            raise ConfigError(f"{prefix}{name}", value, f"{allowed} with the rule {rule}")


def _fits(name: str, value: object) -> bool:
    if not is_number(value):
        return False
    if name == "prevalence":
        return 0 < value < 1
    if name == "percentile":
        return 0 <= value <= 100
    if name == "factor":
        return value > 0
    return value > 0 if name.startswith("cost") else 0 <= value <= 1
