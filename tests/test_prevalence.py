"""Precision at a stated prevalence: the same figure however many defects a split has."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.metrics import average_precision_score

from autosearch.metrics.bootstrap import Histograms
from autosearch.metrics.ranking import Ranking
from autosearch.metrics.truth import Truth

KINDS = ("good", "good", "a", "b", "a")


def scene(seed: int, levels: int = 6) -> tuple[np.ndarray, Truth]:
    """Small maps with ties, and at least one pixel of either kind."""
    rng = np.random.default_rng(seed)
    masks = rng.random((len(KINDS), 5, 4)) < 0.3
    masks[:2] = False
    masks[2, 0, 0] = True
    return rng.integers(0, levels, masks.shape) / levels + 0.2 * masks, Truth.from_masks(
        masks, KINDS
    )


@given(
    seed=st.integers(0, 10**6),
    copies=st.tuples(st.integers(1, 4), st.integers(1, 9)),
)
@settings(max_examples=60, deadline=None)
def test_is_that_of_pixels_repeated(seed: int, copies: tuple[int, int]) -> None:
    maps, truth = scene(seed)
    weights = np.ones(maps.shape)
    weights[truth.masks] = truth.region_weights[truth.regions]
    repeats = np.where(truth.masks, *copies).ravel()
    scores, labels = np.repeat(maps.ravel(), repeats), np.repeat(truth.masks.ravel(), repeats)
    ranking = Ranking.from_maps(maps, truth)
    found = {"ap": np.ones(scores.size), "rwap": np.repeat(weights.ravel(), repeats)}
    for name, mass in found.items():
        prevalence = float(mass[labels].sum() / mass.sum())
        expected = average_precision_score(labels, scores, sample_weight=mass)
        assert getattr(ranking, name)(prevalence) == pytest.approx(expected)


def test_closed_form() -> None:
    # One anomalous pixel with t of n normal ones at or above it: p / (p + (1 - p) t / n).
    masks = np.zeros((2, 1, 5), dtype=bool)
    masks[1, 0, 0] = True
    maps = np.arange(10.0).reshape(2, 1, 5)
    maps[1, 0, 0] = 6.5
    ranking = Ranking.from_maps(maps, Truth.from_masks(masks, ("good", "a")))
    for p in (0.01, 0.1, 0.5):
        expected = p / (p + (1 - p) * 3 / 9)
        assert ranking.ap(p) == pytest.approx(expected) == ranking.rwap(p)
    assert ranking.ap(0.1) == ranking.ap() == 1 / 4, "its own share is one in ten"


def test_chance_gives_the_prevalence() -> None:
    maps, truth = scene(0)
    ranking = Ranking.from_maps(np.ones(maps.shape), truth)
    assert ranking.ap(0.03) == pytest.approx(0.03) == ranking.rwap(0.03)
    assert ranking.ap() == pytest.approx(truth.masks.mean())


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.1, math.nan])
def test_a_prevalence_is_a_share(prevalence: float) -> None:
    maps, truth = scene(0)
    with pytest.raises(ValueError, match="prevalence"):
        Ranking.from_maps(maps, truth).ap(prevalence)


def test_is_undefined_without_either_kind_of_pixel() -> None:
    for value in (True, False):
        truth = Truth.from_masks(np.full((1, 2, 2), value), ("a",))
        ranking = Ranking.from_maps(np.ones((1, 2, 2)), truth)
        assert math.isnan(ranking.ap(0.1)) and math.isnan(ranking.rwap(0.1))
        drawn = Histograms.of(np.ones((1, 2, 2)), truth, ("a",)).metrics(np.ones((3, 1)), 0.1)
        assert np.isnan(drawn["ap_calibrated"]).all() and np.isnan(drawn["rwap_calibrated"]).all()


def test_one_detector_has_one_figure_however_many_defects_there_are() -> None:
    """The raw figure rises with the number of defects alone; the calibrated one does not."""
    rng, side = np.random.default_rng(0), 24
    masks = np.zeros((135, side, side), dtype=bool)
    for mask in masks[:115]:
        y, x = rng.integers(0, side - 6, 2)
        height, width = rng.integers(2, 6, 2)
        mask[y : y + height, x : x + width] = True
    maps = rng.normal(size=masks.shape) + 2 * masks
    raw, calibrated = {}, {}
    for defects in (5, 25, 115):
        found = []
        for _ in range(8):
            chosen = np.append(rng.permutation(115)[:defects], np.arange(115, 135))
            types = ["defect"] * defects + ["good"] * 20
            ranking = Ranking.from_maps(maps[chosen], Truth.from_masks(masks[chosen], types))
            found.append((ranking.rwap(), ranking.rwap(0.01)))
        raw[defects], calibrated[defects] = np.mean(found, axis=0)
    assert raw[115] > 1.25 * raw[25] > 1.25**2 * raw[5]
    assert calibrated[5] == pytest.approx(calibrated[115], rel=0.1)
    assert calibrated[25] == pytest.approx(calibrated[115], rel=0.1)
