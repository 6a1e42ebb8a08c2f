"""Intervals and figures at another prevalence, against published numbers and other ways."""

import math
import statistics

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from autosearch.metrics import (
    Interval,
    Ranking,
    Truth,
    false_alarms,
    missed_defects,
    over_repeats,
    precision_at,
    wilson,
)

REPEATS = [0.90, 0.92, 0.88, 0.91, 0.89]


def test_worked_example_of_the_ranking() -> None:
    # One pixel an image: pixel figures are those of images.
    scores = np.array([0.1, 0.2, 0.3, 0.6, 0.4, 0.5, 0.7, 0.8]).reshape(8, 1, 1)
    masks = np.arange(8).reshape(8, 1, 1) >= 4
    ranking = Ranking.from_maps(scores, Truth.from_masks(masks, ["good"] * 4 + ["bad"] * 4))
    assert ranking.pixel_auroc() == 0.875
    assert ranking.pauroc_norm(0.3) * 0.3 == pytest.approx(0.175)
    assert ranking.pauroc_norm(0.3) == pytest.approx(0.58333, abs=5e-6)
    assert ranking.pauroc_mcclish(0.3) == pytest.approx(0.75490, abs=5e-6)
    other = roc_auc_score(masks.ravel(), scores.ravel(), max_fpr=0.3)
    assert ranking.pauroc_mcclish(0.3) == pytest.approx(other)


def test_worked_examples_of_wilson() -> None:
    assert wilson(45, 50) == pytest.approx((0.786398, 0.956524), abs=5e-7)
    low, high = wilson(50, 50) or (0.0, 0.0)
    assert low == pytest.approx(0.928652, abs=5e-7) and high == 1.0
    assert wilson(0, 50) == pytest.approx((0.0, 1 - low))
    assert wilson(0, 0) is None
    with pytest.raises(ValueError, match="part: 3"):
        wilson(3, 2)


@pytest.mark.parametrize(("part", "whole", "level"), [(1, 7, 0.95), (30, 31, 0.9), (5, 9, 0.5)])
def test_what_is_seen_is_as_unlikely_at_the_ends_as_wilson_says(
    part: int, whole: int, level: float
) -> None:
    z = stats.norm.ppf((1 + level) / 2)
    low, high = wilson(part, whole, level) or (0.0, 0.0)
    for end, sign in ((low, 1), (high, -1)):
        away = (part / whole - end) / math.sqrt(end * (1 - end) / whole)
        assert away == pytest.approx(sign * z)


def test_worked_example_over_repeats() -> None:
    plain, corrected = over_repeats(REPEATS), over_repeats(REPEATS, 0.25)
    assert isinstance(plain, Interval) and isinstance(corrected, Interval)
    assert plain.half_width == pytest.approx(0.019632, abs=5e-7)
    assert corrected.half_width == pytest.approx(0.029449, abs=5e-7)
    assert plain.mean == pytest.approx(0.9) and plain.count == 5
    assert (plain.low + plain.high) / 2 == pytest.approx(plain.mean)
    other = stats.ttest_1samp(REPEATS, 0).confidence_interval()
    assert (plain.low, plain.high) == pytest.approx((other.low, other.high))


def test_the_correction_covers_what_repeats_share() -> None:
    """Repeats correlated by n_test / (n_test + n_train): the plain interval is far too narrow."""
    generator, shared, count = np.random.default_rng(0), 0.2, 10
    covered = {0.0: 0, shared / (1 - shared): 0}
    for _ in range(1500):
        common = generator.normal(0, math.sqrt(shared))
        values = common + generator.normal(0, math.sqrt(1 - shared), count)
        for ratio in covered:
            interval = over_repeats(values.tolist(), ratio)
            assert interval is not None
            covered[ratio] += interval.low <= 0 <= interval.high
    plain, corrected = (hits / 1500 for hits in covered.values())
    assert plain < 0.75 and 0.93 < corrected < 0.97


def test_values_that_are_unknown_are_left_out() -> None:
    assert over_repeats([0.5, math.nan]) is None and over_repeats([0.5]) is None
    interval = over_repeats([0.5, math.nan, 0.7])
    assert interval is not None and interval.count == 2
    assert interval.mean == pytest.approx(statistics.fmean([0.5, 0.7]))


def test_at_a_prevalence() -> None:
    assert precision_at(0.9, 0.95, 0.01) == pytest.approx(0.153846, abs=5e-7)
    assert math.isnan(precision_at(0.0, 1.0, 0.01)) and precision_at(0.5, 1.0, 0.01) == 1.0
    # 8,000 parts, 80 of them anomalous: 7,920 x 0.05 alarms and 80 x 0.1 missed.
    assert false_alarms(0.95, 8000, 0.01) == pytest.approx(396)
    assert missed_defects(0.9, 8000, 0.01) == pytest.approx(8)
    right = 80 * 0.9
    assert precision_at(0.9, 0.95, 0.01) == pytest.approx(right / (right + 396))
