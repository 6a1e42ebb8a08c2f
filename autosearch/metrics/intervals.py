"""What figures of a few images or a few repeats say of the line: intervals, and other balances.

- Within one set of images: Wilson's interval of a share, "Probable inference, the law of
  succession, and statistical inference" (JASA 1927). That of a ranking over groups of images is
  `autosearch.metrics.bootstrap`.
- Over repeats that share most of their training images: Student's t with the variance corrected
  by Nadeau and Bengio, "Inference for the generalization error" (Machine Learning 2003), as "From
  Lab to Factory" has it.
- At the prevalence of a line, which no test set has: what an alarm means, and how many there are.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import scipy

from autosearch.metrics.bootstrap import LEVEL


@dataclass(frozen=True)
class Interval:
    """A figure and how sure it is.

    Attributes:
        mean: The figure.
        low: Lower end, not cut at what the figure may be.
        high: Upper end.
        count: Values that it is the mean of.
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def half_width(self) -> float:
        """Half of the distance between both ends."""
        return (self.high - self.low) / 2


def wilson(part: int, whole: int, level: float = LEVEL) -> tuple[float, float] | None:
    """Interval of a share, such as the sensitivity: ``part`` of ``whole``; None of nothing.

    Args:
        part: How many of them.
        whole: How many there are, each by itself.
        level: How often such an interval holds the true share.

    Raises:
        ValueError: ``part`` is not between 0 and ``whole``.
    """
    if not 0 <= part <= whole:
        raise ValueError(f"part: {part!r} is not allowed; expected 0 to {whole}")
    if whole == 0:
        return None
    low, high = scipy.stats.binomtest(part, whole).proportion_ci(level, "wilson")
    return float(low), float(high)


def over_repeats(
    values: Sequence[float], test_over_train: float = 0.0, level: float = LEVEL
) -> Interval | None:
    """Mean of a figure over repeats, and its interval.

    Half of its width is t x sqrt(variance x (1 / K + n_test / n_train)), t of K - 1 degrees of
    freedom: repeats share training images, so 1 / K alone would be too narrow.

    Args:
        values: One of each repeat; NaN where it is undefined, which is left out.
        test_over_train: Images that a repeat is measured on over those it is trained on; 0 for
            values that have nothing in common.
        level: How often such an interval holds the true mean, if values were normal.

    Returns:
        None where fewer than two values are known.
    """
    known = [value for value in values if not math.isnan(value)]
    count = len(known)
    if count < 2:
        return None
    mean, variance = statistics.fmean(known), statistics.variance(known)
    quantile = float(scipy.stats.t.ppf((1 + level) / 2, count - 1))
    half = quantile * math.sqrt(variance * (1 / count + test_over_train))
    return Interval(mean, mean - half, mean + half, count)


def precision_at(sensitivity: float, specificity: float, prevalence: float) -> float:
    """Share of alarms that are right where so many are anomalous (PPV); NaN without alarms.

    Args:
        sensitivity: True-positive rate, in [0, 1].
        specificity: True-negative rate, in [0, 1].
        prevalence: Share of the anomalous, in (0, 1).
    """
    right = prevalence * sensitivity
    alarms = right + (1 - prevalence) * (1 - specificity)
    return right / alarms if alarms > 0 else math.nan


def false_alarms(specificity: float, parts: float, prevalence: float) -> float:
    """Expected number of normal parts that raise an alarm, of so many parts."""
    return parts * (1 - prevalence) * (1 - specificity)


def missed_defects(sensitivity: float, parts: float, prevalence: float) -> float:
    """Expected number of anomalous parts that raise none, of so many parts."""
    return parts * prevalence * (1 - sensitivity)
