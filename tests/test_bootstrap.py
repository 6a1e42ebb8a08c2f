"""Resampled metrics against metrics of images that are really repeated."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import ndimage, stats

from autosearch.metrics.bootstrap import (
    Histograms,
    can_vary,
    draw_copies,
    image_auroc,
    percentile_interval,
    too_few,
)
from autosearch.metrics.ranking import Ranking, auroc
from autosearch.metrics.truth import Truth

PREVALENCE = 0.02
KINDS = ("hole", "hole", "scratch", "scratch", "good", "good", "good")


def scene(
    seed: int,
    side: int = 24,
    values: int | None = None,
    kinds: tuple[str, ...] = KINDS,
    largest: int = 6,
) -> tuple[np.ndarray, np.ndarray]:
    """Maps with blobs at the defects; ``values`` rounds scores to so many levels."""
    draw = np.random.default_rng(seed)
    masks = np.zeros((len(kinds), side, side), dtype=bool)
    for mask, kind in zip(masks, kinds, strict=True):
        for _ in range(0 if kind == "good" else draw.integers(1, 4)):
            y, x = draw.integers(0, side - largest, 2)
            height, width = draw.integers(1, largest, 2)
            mask[y : y + height, x : x + width] = True
    noise = draw.normal(size=masks.shape)
    maps = np.array(
        [ndimage.gaussian_filter(n + m, 1.5) for n, m in zip(noise, masks, strict=True)]
    )
    maps = maps.astype(np.float32)
    if values:
        maps = np.floor(values * (maps - maps.min()) / np.ptp(maps)).astype(np.float32)
    return maps, masks


def exactly(maps: np.ndarray, masks: np.ndarray, kinds: tuple[str, ...]) -> dict[str, float]:
    ranking = Ranking.from_maps(maps, Truth.from_masks(masks, kinds))
    return {
        "rwap": ranking.rwap(),
        "ap": ranking.ap(),
        "rwap_calibrated": ranking.rwap(PREVALENCE),
        "ap_calibrated": ranking.ap(PREVALENCE),
        "pixel_auroc": ranking.pixel_auroc(),
        "aupro": ranking.aupro(),
        "pixel_f1_best": ranking.best_f1().f1,
    }


def repeated(copies: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray]:
    return [np.repeat(np.asarray(array), copies, axis=0) for array in arrays]


@given(
    seed=st.integers(0, 10**6),
    values=st.sampled_from([None, 2, 5, 40]),
    copies=st.lists(st.integers(0, 3), min_size=7, max_size=7).filter(
        lambda c: min(c[0] + c[1], c[2] + c[3], sum(c[4:])) > 0
    ),
)
@settings(max_examples=60, deadline=None)
def test_a_resample_is_its_images_repeated(
    seed: int, values: int | None, copies: list[int]
) -> None:
    maps, masks = scene(seed, values=values)
    histograms = Histograms.of(maps, Truth.from_masks(masks, KINDS), KINDS)
    found = histograms.metrics(np.array([copies]), PREVALENCE)
    drawn = repeated(np.array(copies), maps, masks, KINDS)
    expected = exactly(drawn[0], drawn[1], tuple(drawn[2].tolist()))
    assert {name: values[0] for name, values in found.items()} == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_few_bins_come_near(seed: int) -> None:
    kinds = ("hole",) * 6 + ("scratch",) * 6 + ("good",) * 8
    maps, masks = scene(seed, side=64, kinds=kinds, largest=20)
    truth = Truth.from_masks(masks, kinds)
    copies = draw_copies(kinds, [str(i) for i in range(len(kinds))], 5, seed)
    assert np.unique(maps[masks]).size > 500
    coarse = Histograms.of(maps, truth, kinds, edges=128)
    assert coarse.normal.shape[1] <= 2 * 128 + 1
    near = coarse.metrics(copies, PREVALENCE)
    same = Histograms.of(maps, truth, kinds).metrics(copies, PREVALENCE)
    for name, values in same.items():
        np.testing.assert_allclose(near[name], values, atol=4e-3, err_msg=name)


def test_every_pixel_is_in_one_bin() -> None:
    maps, masks = scene(0, side=64)
    histograms = Histograms.of(maps, Truth.from_masks(masks, KINDS), KINDS, edges=16)
    assert (histograms.anomalous.sum(axis=1) == masks.sum(axis=(1, 2))).all()
    assert (histograms.normal.sum(axis=1) == (~masks).sum(axis=(1, 2))).all()
    regions = [ndimage.label(mask, np.ones((3, 3)))[1] for mask in masks]
    np.testing.assert_allclose(histograms.overlap.sum(axis=1), regions)


def test_a_resample_without_defects_is_undefined() -> None:
    maps, masks = scene(1)
    masks[:4] = False
    histograms = Histograms.of(maps, Truth.from_masks(masks, KINDS), KINDS)
    found = histograms.metrics(np.ones((2, 7)), PREVALENCE)
    assert all(np.isnan(values).all() for values in found.values())


@given(seed=st.integers(0, 10**6), ties=st.booleans())
@settings(max_examples=30, deadline=None)
def test_image_auroc_is_that_of_repeated_images(seed: int, ties: bool) -> None:
    draw = np.random.default_rng(seed)
    scores = draw.integers(0, 3, 9).astype(float) if ties else draw.random(9)
    labels = np.arange(9) < 4
    copies = np.random.default_rng(seed).integers(1, 4, (4, 9))
    found = image_auroc(scores, labels, copies)
    for value, row in zip(found, copies, strict=True):
        assert value == pytest.approx(auroc(*repeated(row, scores, labels)))


def test_types_keep_their_number_and_groups_stay_together() -> None:
    types = ["a", "a", "a", "b", "b", "good", "good", "good", "good"]
    groups = ["1", "1", "2", "3", "4", "5", "6", "6", "4"]
    copies = draw_copies(types, groups, 400, 7)
    assert (copies[:, 0] == copies[:, 1]).all() and (copies[:, 6] == copies[:, 7]).all()
    assert (copies[:, 4] == copies[:, 8]).all()
    for unit in ([0, 2], [3], [4], [5, 6]):  # One image for each group of a stratum.
        np.testing.assert_allclose(copies[:, unit].sum(axis=1), len(unit))
    assert set(copies[:, 0]) == {0, 2} and set(copies[:, 3]) == {1}
    np.testing.assert_array_equal(draw_copies(types, groups, 400, 7), copies)
    assert (draw_copies(types, groups, 400, 8) != copies).any()


def test_interval_of_a_share_is_binomial() -> None:
    n, hits = 50, 20
    copies = draw_copies(["a"] * n, [str(i) for i in range(n)], 20_000, 0)
    ends = percentile_interval(copies[:, :hits].sum(axis=1) / n)
    expected = stats.binom.ppf([0.025, 0.975], n - 1, hits / n) / (n - 1)
    assert ends == pytest.approx(expected, abs=1 / n)


def test_intervals_leave_out_what_is_undefined() -> None:
    values = np.append(np.arange(101.0), [math.nan] * 50)
    assert percentile_interval(values) == pytest.approx((2.5, 97.5))
    assert percentile_interval(np.array([math.nan])) is None


def test_what_cannot_vary() -> None:
    alone = ["a", "b", "good", "good"]
    assert not can_vary(alone, ["1", "2", "3", "4"], "good")
    assert not can_vary(["a", "a", "good"], ["1", "1", "2"], "good")
    assert can_vary(["a", "a", "good"], ["1", "2", "3"], "good")


def test_the_spread_of_a_mean_is_that_of_the_textbook() -> None:
    """Its estimated variance: the sum of squares over n (n - 1)."""
    values = np.array([1.0, 4.0, 5.0, 9.0])
    copies = draw_copies(["a"] * 4, list("1234"), 100_000, 0)
    assert np.var(copies @ values / 4) == pytest.approx(np.var(values, ddof=1) / 4, rel=0.02)


@pytest.mark.parametrize("n", [3, 4])
def test_intervals_of_few_images_cover_better_than_drawing_all_of_them(n: int) -> None:
    """Five types of n images each; what is asked for is the mean of their means."""
    means, rng = np.repeat([0.2, 0.3, 0.5, 0.6, 0.8], n), np.random.default_rng(n)
    kinds, names = [str(mean) for mean in means], [str(i) for i in range(5 * n)]
    covered = np.zeros(2)
    for seed in range(500):
        values = rng.normal(means, 0.1)
        all_drawn = np.hstack([rng.multinomial(n, [1 / n] * n, 500) for _ in range(5)])
        for i, copies in enumerate((draw_copies(kinds, names, 500, seed), all_drawn)):
            low, high = percentile_interval(copies @ values / (5 * n)) or (0, 0)
            covered[i] += low <= means.mean() <= high
    ours, plain = covered / 500
    assert plain < 0.9 < ours < 0.96


def test_types_of_few_groups_are_named() -> None:
    types = ["a"] * 6 + ["b"] * 4 + ["good"] * 5
    apart = [str(i) for i in range(15)]
    assert too_few(types, apart) == ["b"]
    assert too_few(types, ["0", "0", *apart[2:]]) == ["b"]
    assert too_few(types, ["0", "0", "0", *apart[3:]]) == ["a", "b"]
