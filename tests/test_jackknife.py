"""Standard errors of validation figures, against leaving images out one by one."""

import time

import numpy as np
import pytest

from autosearch.metrics import Ranking, Truth, auroc, auroc_error, jackknife as module, rwap_error
from autosearch.metrics.truth import _region_weights


def split(seed: int, kinds: list[str], normals: int = 3, side: int = 24) -> Truth:
    """Images with one to three regions each, and normal ones behind them."""
    draw = np.random.default_rng(seed)
    masks = np.zeros((len(kinds) + normals, side, side), dtype=bool)
    for mask in masks[: len(kinds)]:
        for _ in range(draw.integers(1, 4)):
            y, x, h, w = draw.integers(1, side // 2, 4)
            mask[y : y + h, x : x + w] = True
    return Truth.from_masks(masks, [*kinds, *["good"] * normals])


def scored(truth: Truth, seed: int, levels: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    maps = draw.normal(0, 1, truth.masks.shape) + truth.masks * draw.uniform(0, 2)
    return np.round(maps * levels) / levels if levels else maps


def figure(scores: np.ndarray, weights: np.ndarray, normal: np.ndarray, prevalence) -> float:
    """Average precision, threshold by threshold."""
    cuts = np.unique(scores)[::-1]
    factor = 1.0
    if prevalence is not None:
        factor = weights.sum() / len(normal) * (1 / prevalence - 1)
    hits = np.array([weights[scores >= cut].sum() for cut in cuts])
    alarms = factor * np.array([(normal >= cut).sum() for cut in cuts])
    steps = np.diff(hits, prepend=0.0)
    return float((steps * hits / (hits + alarms)).sum() / hits[-1])


def slow(maps: np.ndarray, truth: Truth, prevalence: float | None = None) -> float:
    """Leave the regions of one image out at a time."""
    owners, normal = np.unique(truth.region_images), maps[truth.normal]
    scores, found = maps[truth.masks], []
    for left_out in owners:
        kept = truth.region_images != left_out
        others = [i for i in range(len(truth.types)) if truth.labels[i] and i != left_out]
        kinds = [truth.types[i] for i in truth.region_images[kept]]
        weights = np.zeros(len(kept))
        known = {truth.types[i] for i in others if truth.told[i]}
        weights[kept] = _region_weights(truth.areas[kept], kinds, known)
        pixels = kept[truth.regions]
        mass = weights[truth.regions][pixels]
        found.append(figure(scores[pixels], mass, normal, prevalence))
    n = len(found)
    return float(np.sqrt((n - 1) / n * np.square(np.array(found) - np.mean(found)).sum()))


class TestRwap:
    @pytest.mark.parametrize("prevalence", [None, 0.01])
    @pytest.mark.parametrize("levels", [0, 3])
    @pytest.mark.parametrize("kinds", [["a", "a"], ["a", "b"], ["a", "b", "b", "c", "b"]])
    def test_agrees_with_leaving_out(self, kinds, levels, prevalence) -> None:
        for seed in range(5):
            truth = split(seed, kinds)
            maps = scored(truth, seed, levels)
            found = rwap_error(Ranking.from_maps(maps, truth), truth, prevalence)
            assert found == pytest.approx(slow(maps, truth, prevalence), abs=1e-9)

    def test_a_type_whose_regions_vanished_still_counts(self) -> None:
        truth = split(0, ["a", "b", "a"])
        masks = truth.masks.copy()
        masks[1] = False
        truth = Truth.from_masks(masks, truth.types)
        maps = scored(truth, 1)
        found = rwap_error(Ranking.from_maps(maps, truth), truth)
        assert found == pytest.approx(slow(maps, truth), abs=1e-9)

    def test_of_two_regions_by_hand(self) -> None:
        masks = np.zeros((3, 1, 4), dtype=bool)
        masks[0, 0, 0] = masks[1, 0, 0] = True
        truth = Truth.from_masks(masks, ["a", "a", "good"])
        maps = np.zeros((3, 1, 4))
        maps[0, 0, 0], maps[1, 0, 0], maps[2, 0, 0] = 3, 1, 2
        # Without the first, one normal pixel stands higher: 1/2; without the second, none: 1.
        assert rwap_error(Ranking.from_maps(maps, truth), truth) == pytest.approx(0.25)

    @pytest.mark.parametrize("kinds", [[], ["a"]])
    def test_needs_two_images(self, kinds: list[str]) -> None:
        truth = split(0, kinds)
        assert np.isnan(rwap_error(Ranking.from_maps(scored(truth, 0), truth), truth))

    def test_with_fewer_steps_is_nearly_the_same(self, monkeypatch) -> None:
        truth = split(3, ["a", "b", "b"], side=60)
        maps = scored(truth, 3)
        ranking = Ranking.from_maps(maps, truth)
        exact = rwap_error(ranking, truth)
        monkeypatch.setattr(module, "_STEPS", 200)
        rough = rwap_error(ranking, truth)
        assert rough != exact and rough == pytest.approx(exact, rel=0.05)

    def test_costs_a_small_part_of_ranking(self) -> None:
        truth = split(0, ["a", "b"] * 6, normals=40, side=224)
        maps = scored(truth, 0).astype(np.float32)
        ranked, told = [], []
        for _ in range(3):
            start = time.perf_counter()
            ranking = Ranking.from_maps(maps, truth)
            for measure in (ranking.rwap, ranking.ap, ranking.pixel_auroc, ranking.aupro):
                measure()
            ranked.append(time.perf_counter() - start)
            start = time.perf_counter()
            rwap_error(ranking, truth)
            told.append(time.perf_counter() - start)
        assert min(told) < 0.25 * min(ranked), "5 % where nothing else runs"


class TestAuroc:
    @pytest.mark.parametrize("levels", [0, 2])
    def test_agrees_with_leaving_out(self, levels: int) -> None:
        draw = np.random.default_rng(levels)
        labels = np.arange(12) < 5
        scores = draw.normal(0, 1, 12) + labels
        if levels:
            scores = np.round(scores * levels)
        found = []
        for i in np.flatnonzero(labels):
            kept = np.arange(12) != i
            found.append(auroc(scores[kept], labels[kept]))
        slow = np.sqrt(4 / 5 * np.square(np.array(found) - np.mean(found)).sum())
        assert auroc_error(scores, labels) == pytest.approx(slow)

    def test_by_hand(self) -> None:
        # One positive is above both negatives, one above none: 1 and 0.
        assert auroc_error([3, 0, 1, 2], [1, 1, 0, 0]) == pytest.approx(0.5)

    @pytest.mark.parametrize("labels", [[1, 0, 0], [1, 1, 1], [0, 0, 0]])
    def test_needs_two_positives_and_a_negative(self, labels: list[int]) -> None:
        assert np.isnan(auroc_error([1.0, 2.0, 3.0], labels))
