"""From scores to decisions: a threshold chosen on labelled scores, and what it reached there.

Works alike for images (one score each, `autosearch.metrics.image_scores`) and for pixels. Called
anomalous is what has ``score >= threshold``. Rules are those of `threshold_rules` beside this.

Needs numpy alone, so that predicting with an exported model can use it without torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autosearch.errors import ConfigError
from autosearch.metrics.threshold_rules import (
    RULES,
    Criterion,
    Rule,
    best_cut,
    is_number,
    normal_threshold,
)

__all__ = ["RULES", "Confusion", "Criterion", "Rule", "Threshold", "choose_threshold", "confusion",
           "decide", "set_threshold"]  # fmt: skip


@dataclass(frozen=True)
class Confusion:
    """How decisions agree with labels.

    Attributes:
        tp: Anomalous and called so.
        fp: Normal and called anomalous.
        fn: Anomalous and called normal.
        tn: Normal and called so.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def tpr(self) -> float:
        """Share of the anomalous that is found, in [0, 1]; NaN if there is none."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def fpr(self) -> float:
        """Share of the normal that raises an alarm, in [0, 1]; NaN if there is none."""
        return _ratio(self.fp, self.fp + self.tn)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, in [0, 1]; NaN if all is normal and called so."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)


@dataclass(frozen=True)
class Threshold:
    """A threshold and how it came to be.

    Attributes:
        value: Called anomalous is what has ``score >= value``.
        criterion: By which it was chosen.
        reached: On the data that it was chosen on, so better than on new data.
    """

    value: float
    criterion: Criterion
    reached: Confusion

    @property
    def rule(self) -> Rule:
        """The criterion's rule."""
        return self.criterion.rule

    @property
    def tpr(self) -> float:
        """True-positive rate on the data it was chosen on."""
        return self.reached.tpr

    @property
    def fpr(self) -> float:
        """False-positive rate on the data it was chosen on."""
        return self.reached.fpr

    @property
    def f1(self) -> float:
        """F1 on the data it was chosen on."""
        return self.reached.f1

    def to_plain(self) -> dict[str, Any]:
        """JSON values that `from_plain` reads back, with the rates spelled out for readers."""
        rates = {"tpr": self.tpr, "fpr": self.fpr, "f1": self.f1}
        return {
            "value": self.value,
            **self.criterion.to_plain(),
            "reached": {**asdict(self.reached), **rates},
        }

    @classmethod
    def from_plain(cls, plain: object) -> Threshold:
        """Read what `to_plain` wrote; rates are computed again from the counts.

        Raises:
            ConfigError: A key is missing or has a value that is not allowed.
        """
        known = _mapping("threshold", plain)
        value: Any = known.get("value")
        if not is_number(value):
            raise ConfigError("threshold.value", value, "a finite number")
        criterion = Criterion.from_plain(known, "threshold.")
        counted = _mapping("threshold.reached", known.get("reached"))
        counts: dict[str, Any] = {f.name: counted.get(f.name) for f in fields(Confusion)}
        for name, count in counts.items():
            if not isinstance(count, int) or isinstance(count, bool) or count < 0:
                raise ConfigError(f"threshold.reached.{name}", count, "a whole number >= 0")
        return cls(float(value), criterion, Confusion(**counts))


def choose_threshold(
    scores: ArrayLike,
    labels: ArrayLike,
    rule: Rule | Criterion = "f1",
    max_fpr: float | None = None,
) -> Threshold:
    """The best threshold by a rule, over all that part the scores differently.

    It lies midway between the lowest score that it calls anomalous and the next lower one: as far
    as can be from both, so that another runtime's rounding moves neither to the other side. One
    that calls everything anomalous is the lowest score; one that calls nothing so, which only a
    bound on the FPR can ask for, is the next number above the highest. A rule of normal scores
    alone makes no cut: see `autosearch.metrics.normal_threshold`.

    Args:
        scores: ``(N,)`` numbers, higher is more anomalous.
        labels: ``(N,)`` bool, true for anomalous.
        rule: A criterion, or the rule of one that needs no numbers, or ``fpr``.
        max_fpr: Largest false-positive rate allowed, in [0, 1]; for the name ``fpr`` alone.

    Raises:
        ConfigError: The rule is unknown, ``max_fpr`` does not fit it, or all labels are alike; of
            a rule of normal scores alone, none is normal.
        ValueError: Shapes or types do not fit, or a score is NaN or infinite.
    """
    criterion = rule if isinstance(rule, Criterion) else Criterion(rule, max_fpr)
    flat, truth = _checked(scores, labels)
    positives = int(truth.sum())
    negatives = truth.size - positives
    if criterion.of_normals and negatives:
        return set_threshold(normal_threshold(flat[~truth], criterion), flat, truth, criterion)
    if not positives or not negatives:
        counted = f"{positives} anomalous and {negatives} normal"
        raise ConfigError("labels", counted, "at least one of each to choose a threshold")
    order = np.argsort(flat)[::-1]
    falling = flat[order]
    last_of_ties = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    # The first cut calls nothing anomalous, the last one everything.
    cuts = np.append(0, last_of_ties + 1)
    tp = np.append(0, np.cumsum(truth[order]))[cuts]
    fp = cuts - tp
    best = best_cut(tp, fp, positives, negatives, criterion)
    value = _between(falling, int(cuts[best]))
    hits, alarms = int(tp[best]), int(fp[best])
    reached = Confusion(hits, alarms, positives - hits, negatives - alarms)
    return Threshold(value, criterion, reached)


def decide(scores: ArrayLike, threshold: Threshold) -> NDArray[np.bool_]:
    """Whether each score, in an array of any shape, is called anomalous; NaN never is.

    Compared in float64: rounded to the scores' own type, a threshold may fall on its neighbour.
    """
    called: NDArray[np.bool_] = np.asarray(scores, dtype=np.float64) >= threshold.value
    return called


def set_threshold(
    value: float, scores: ArrayLike, labels: ArrayLike, criterion: Criterion
) -> Threshold:
    """A threshold that is given, and what it reaches.

    Args:
        value: The threshold.
        scores: ``(N,)`` numbers.
        labels: ``(N,)`` bool, true for anomalous.
        criterion: By which it came to be.
    """
    given = Threshold(value, criterion, Confusion(0, 0, 0, 0))
    return replace(given, reached=confusion(scores, labels, given))


def confusion(scores: ArrayLike, labels: ArrayLike, threshold: Threshold) -> Confusion:
    """How a threshold does on other data.

    Args:
        scores: ``(N,)`` numbers.
        labels: ``(N,)`` bool, true for anomalous.
        threshold: As chosen elsewhere.

    Raises:
        ValueError: Shapes or types do not fit, or a score is NaN or infinite.
    """
    flat, truth = _checked(scores, labels)
    called = decide(flat, threshold)
    tp, positives, alarms = int((called & truth).sum()), int(truth.sum()), int(called.sum())
    fp = alarms - tp
    return Confusion(tp, fp, positives - tp, truth.size - positives - fp)


def _between(falling: NDArray[np.floating[Any]], called: int) -> float:
    """A threshold that calls the first ``called`` of the falling scores anomalous, no more."""
    if called == 0:
        return math.nextafter(float(falling[0]), math.inf)
    above = float(falling[called - 1])
    if called == falling.size:
        return above
    below = float(falling[called])
    middle = below / 2 + above / 2
    # Between neighbouring float64 numbers there is none.
    return middle if below < middle < above else above


def _checked(
    scores: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]:
    flat, truth = np.asarray(scores), np.asarray(labels)
    if not np.issubdtype(flat.dtype, np.floating):
        flat = flat.astype(np.float64)
    if flat.ndim != 1 or truth.shape != flat.shape or truth.dtype != np.bool_:
        raise ValueError(
            f"labels: {truth.dtype} of shape {truth.shape} for scores of shape {flat.shape}; "
            "expected bool, both of shape (N,)"
        )
    bad = int(flat.size - np.isfinite(flat).sum())
    if bad:
        raise ValueError(f"scores: {bad} of {flat.size} are NaN or infinite; expected none")
    return flat, truth


def _mapping(key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(key, value, "a mapping")
    return value


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
