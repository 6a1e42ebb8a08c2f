"""Metrics against the specification's vectors, scikit-learn and slow independent definitions."""

import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, roc_auc_score

from autosearch.metrics.images import image_scores
from autosearch.metrics.ranking import Ranking, auroc, average_precision, mean_image_iou
from autosearch.metrics.truth import Truth

Floats = NDArray[np.float64]
Scene = tuple[NDArray[np.floating], NDArray[np.bool_], tuple[str, ...]]


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Small splits with both kinds of pixel, from all scores tied to all distinct."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images, height, width = draw(
        st.tuples(st.integers(2, 5), st.integers(2, 7), st.integers(2, 7))
    )
    kinds = ["good", *draw(st.lists(st.sampled_from("abc"), min_size=images - 1, max_size=99))]
    types = tuple(kinds[:images])
    masks = rng.random((images, height, width)) < draw(st.sampled_from([0.05, 0.3, 0.8]))
    masks[0] = False
    masks[1, 0, 0] = True
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    maps = (rng.integers(0, levels, masks.shape) / levels - 0.3).astype(dtype)
    return maps, masks, types


def pixel_weights(masks: NDArray[np.bool_], types: tuple[str, ...]) -> Floats:
    """Write the region weights into a map, image by image, straight from the definition."""
    found = []
    for image, mask in enumerate(masks):
        regions, count = ndimage.label(mask, structure=np.ones((3, 3)))
        found += [(image, types[image], regions == number + 1) for number in range(count)]
    mean_area = sum(int(region.sum()) for _, _, region in found) / len(found)
    kinds = {kind for kind in types if kind != "good"}
    per_type = {kind: sum(1 for _, other, _ in found if other == kind) for kind in kinds}
    mean_count = sum(per_type.values()) / len(per_type)
    weights = np.ones(masks.shape)
    for image, kind, region in found:
        weights[image][region] = mean_area / region.sum() * mean_count / per_type[kind]
    return weights


def slow_aupro(maps: NDArray[np.floating], masks: NDArray[np.bool_], max_fpr: float) -> float:
    """Lower the threshold score by score; average the overlaps region by region."""
    found = []
    for image, mask in enumerate(masks):
        regions, count = ndimage.label(mask, structure=np.ones((3, 3)))
        found += [(image, regions == number + 1) for number in range(count)]
    fpr, overlap = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        alarms = maps >= threshold
        fpr.append(float(alarms[~masks].mean()))
        overlap.append(float(np.mean([alarms[image][region].mean() for image, region in found])))
    area = 0.0
    for x0, x1, y0, y1 in zip(fpr, fpr[1:], overlap, overlap[1:], strict=False):
        if x0 >= max_fpr:
            break
        if x1 > max_fpr:
            x1, y1 = max_fpr, y0 + (y1 - y0) * (max_fpr - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2
    return area / max_fpr


def rank(maps: NDArray[np.floating], masks: NDArray[np.bool_], types: tuple[str, ...]) -> Ranking:
    return Ranking.from_maps(maps, Truth.from_masks(masks, types))


def vector() -> Scene:
    masks = np.zeros((3, 3, 4), dtype=bool)
    masks[1][[0, 1, 1, 2], [0, 2, 3, 2]] = True
    masks[2, 1, 1:3] = True
    maps = np.full(masks.shape, 0.05)
    maps[0, 0, 0], maps[0, 1, 1] = 0.10, 0.55
    maps[1][[0, 1, 1, 2], [0, 2, 3, 2]] = [0.90, 0.60, 0.30, 0.50]
    maps[2, 1, 1:3] = [0.80, 0.40]
    maps[2, 2, 3] = 0.35
    return maps, masks, ("good", "A", "B")


def test_average_precisions_of_the_specification() -> None:
    maps, masks, types = vector()
    truth = Truth.from_masks(masks, types)
    assert truth.region_weights.tolist() == [1.5, 0.5, 1.5]
    assert truth.areas.tolist() == [1, 3, 2]
    assert truth.region_images.tolist() == [1, 1, 2]
    ranking = Ranking.from_maps(maps, truth)
    assert ranking.rwap() == pytest.approx(0.9240384615, abs=1e-10)
    assert ranking.ap() == pytest.approx(0.8972222222, abs=1e-10)


def test_roc_areas_of_the_specification() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.6, 0.4, 0.5, 0.7, 0.8])
    masks = np.zeros((2, 1, 4), dtype=bool)
    masks[1] = True
    ranking = rank(scores.reshape(2, 1, 4), masks, ("good", "A"))
    assert auroc(scores, masks.ravel()) == pytest.approx(0.875)
    assert ranking.pixel_auroc() == pytest.approx(0.875)
    assert ranking.pauroc_norm(0.3) == pytest.approx(0.175 / 0.3)
    assert ranking.pauroc_mcclish(0.3) == pytest.approx(0.75490, abs=5e-6)


@given(scenes(), st.sampled_from([0.01, 0.3, 0.5, 1.0]))
@settings(max_examples=100, deadline=None)
def test_pooled_metrics_equal_scikit_learn(scene: Scene, max_fpr: float) -> None:
    maps, masks, types = scene
    ranking = rank(maps, masks, types)
    truth, scores = masks.ravel(), maps.ravel()
    weights = pixel_weights(masks, types).ravel()
    assert ranking.ap() == pytest.approx(average_precision_score(truth, scores))
    assert ranking.rwap() == pytest.approx(
        average_precision_score(truth, scores, sample_weight=weights)
    )
    assert ranking.pixel_auroc() == pytest.approx(roc_auc_score(truth, scores))
    corrected = roc_auc_score(truth, scores, max_fpr=max_fpr)
    assert ranking.pauroc_mcclish(max_fpr) == pytest.approx(corrected)
    chance = max_fpr**2 / 2
    area = chance + (2 * corrected - 1) * (max_fpr - chance)
    assert ranking.pauroc_norm(max_fpr) == pytest.approx(area / max_fpr)


@given(scenes(), st.sampled_from([0.05, 0.3, 1.0]))
@settings(max_examples=100, deadline=None)
def test_aupro_equals_a_loop_over_thresholds(scene: Scene, max_fpr: float) -> None:
    maps, masks, _ = scene
    assert rank(*scene).aupro(max_fpr) == pytest.approx(slow_aupro(maps, masks, max_fpr))


@given(scenes(), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_iou_and_best_f1_equal_decisions_on_the_maps(scene: Scene, pick: int) -> None:
    maps, masks, _ = scene
    ranking = rank(*scene)
    threshold = float(maps.ravel()[pick % maps.size])
    alarms = maps >= threshold
    assert ranking.iou(threshold) == pytest.approx(jaccard_score(masks.ravel(), alarms.ravel()))

    candidates = np.unique(maps)[::-1]
    scores = [f1_score(masks.ravel(), (maps >= at).ravel()) for at in candidates]
    best = ranking.best_f1()
    assert best.f1 == pytest.approx(max(scores))
    highest = next(at for at, f1 in zip(candidates, scores, strict=True) if f1 >= best.f1 - 1e-12)
    assert best.threshold == highest
    assert f1_score(masks.ravel(), (maps >= best.threshold).ravel()) == pytest.approx(best.f1)


def test_of_two_best_f1_thresholds_the_higher_is_taken() -> None:
    # Thresholds 0.9 and 0.6 both give 2/3: 2*1/(1+2) and 2*2/(4+2).
    masks = np.zeros((1, 1, 7), dtype=bool)
    masks[0, 0, :2] = True
    maps = np.array([[[0.9, 0.6, 0.8, 0.7, 0.1, 0.1, 0.1]]])
    best = rank(maps, masks, ("A",)).best_f1()
    assert best.f1 == 2 / 3
    assert best.threshold == 0.9


def test_iou_beyond_every_score() -> None:
    maps, masks, types = vector()
    ranking = rank(maps, masks, types)
    assert ranking.iou(math.inf) == 0
    assert ranking.iou(-math.inf) == pytest.approx(masks.mean())
    with pytest.raises(ValueError, match="threshold: nan"):
        ranking.iou(math.nan)


def test_a_threshold_is_rounded_as_float32_scores_are() -> None:
    # In float32 both 0.9, an anomalous pixel, and 0.35, a normal one, round down.
    maps, masks, types = vector()
    ranking = rank(maps.astype(np.float32), masks, types)
    assert ranking.iou(0.9) == 1 / 6
    assert ranking.iou(0.35) == 5 / (6 + 2)


@given(scenes())
@settings(max_examples=80, deadline=None)
def test_region_weights_keep_mass_and_balance_types(scene: Scene) -> None:
    _, masks, types = scene
    truth = Truth.from_masks(masks, types)
    weights = truth.region_weights[truth.regions]
    pixel_types = np.array(types)[np.nonzero(masks)[0]]
    masses = {kind: weights[pixel_types == kind].sum() for kind in set(types) - {"good"}}
    present = [mass for mass in masses.values() if mass]
    assert present == pytest.approx([masks.sum() / len(masses)] * len(present))
    if len(present) == len(masses):
        assert weights.sum() == pytest.approx(masks.sum())


@given(st.integers(0, 10**6), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_one_equal_region_per_type_makes_rwap_the_ap(seed: int, kinds: int) -> None:
    masks = np.zeros((kinds + 1, 5, 5), dtype=bool)
    masks[1:, 1:3, 2:4] = True
    types = ("good", *(f"type {number}" for number in range(kinds)))
    ranking = rank(np.random.default_rng(seed).normal(size=masks.shape), masks, types)
    assert ranking.rwap() == ranking.ap()


def test_regions_are_eight_connected_and_stay_in_their_image() -> None:
    masks = np.stack([np.eye(3, dtype=bool)] * 2)
    truth = Truth.from_masks(masks, ("A", "A"))
    assert truth.areas.tolist() == [3, 3]
    assert truth.regions.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_vanished_type_counts_in_the_mean_number_of_regions() -> None:
    masks = np.zeros((4, 3, 3), dtype=bool)
    masks[1, 0, 0] = masks[1, 2, 2] = masks[2, 1, 1] = True
    truth = Truth.from_masks(masks, ("good", "A", "B", "vanished"))
    # Three regions over three types: one on average; A has two of them.
    assert truth.region_weights.tolist() == [0.5, 0.5, 1.0]
    assert truth.labels.tolist() == [False, True, True, True]


def test_without_normal_images_the_weights_are_the_same() -> None:
    _, masks, types = vector()
    assert Truth.from_masks(masks[1:], types[1:]).region_weights.tolist() == [1.5, 0.5, 1.5]


@given(scenes(), st.sampled_from([np.exp, np.arctan, lambda x: 3 * x - 8]))
@settings(max_examples=60, deadline=None)
def test_rising_maps_of_the_scores_change_nothing(
    scene: Scene, rising: Callable[[Floats], Floats]
) -> None:
    maps, masks, types = scene
    one, other = rank(maps, masks, types), rank(rising(maps.astype(np.float64)), masks, types)
    assert one.rwap() == other.rwap()
    assert one.aupro() == other.aupro()
    assert one.pixel_auroc() == other.pixel_auroc()
    assert one.best_f1().f1 == other.best_f1().f1


def test_constant_scores_and_perfect_scores_are_exact() -> None:
    _, masks, types = vector()
    constant = rank(np.zeros(masks.shape), masks, types)
    normal_pixels = int((~masks).sum())
    # The weights of the anomalous pixels sum to their number, six.
    assert constant.rwap() == pytest.approx(6 / (6 + normal_pixels), abs=1e-15)
    assert constant.pixel_auroc() == 0.5
    assert constant.aupro(0.3) == pytest.approx(0.15)
    assert constant.pauroc_mcclish() == pytest.approx(0.5)
    perfect = rank(masks * 0.7, masks, types)
    assert perfect.ap() == perfect.rwap() == perfect.pixel_auroc() == perfect.aupro() == 1
    assert perfect.pauroc_norm() == perfect.pauroc_mcclish() == perfect.iou(0.7) == 1
    assert perfect.best_f1() == (1.0, 0.7)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_flat_functions_equal_scikit_learn_with_weights(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 40))
    score = st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, -0.0, 1.0])
    scores = np.array(data.draw(st.lists(score, min_size=size, max_size=size)), dtype=np.float32)
    labels = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    labels[:2] = True, False
    weight = st.sampled_from([0.0, 0.5, 1.0, 3.0])
    weights = np.array(data.draw(st.lists(weight, min_size=size, max_size=size)))
    weights[:2] = 2.0, 0.25
    assert average_precision(scores, labels) == pytest.approx(
        average_precision_score(labels, scores)
    )
    assert auroc(scores, labels.astype(int)) == pytest.approx(roc_auc_score(labels, scores))
    assert average_precision(scores, labels, weights) == pytest.approx(
        average_precision_score(labels, scores, sample_weight=weights)
    )
    assert auroc(scores, labels, weights) == pytest.approx(
        roc_auc_score(labels, scores, sample_weight=weights)
    )


def test_image_auroc_comes_from_the_largest_score_of_each_image() -> None:
    maps, masks, types = vector()
    scores = image_scores(maps.astype(np.float32))
    assert scores == pytest.approx([0.55, 0.9, 0.8])
    assert auroc(scores, Truth.from_masks(masks, types).labels) == 1


def test_without_anomalous_pixels_metrics_are_nan() -> None:
    truth = Truth.from_masks(np.zeros((2, 3, 3), dtype=bool), ("good", "vanished"))
    ranking = Ranking.from_maps(np.ones((2, 3, 3)), truth)
    assert truth.gap == "no anomalous pixel in the split"
    assert truth.labels.tolist() == [False, True]
    values = [
        ranking.ap(),
        ranking.rwap(),
        ranking.pixel_auroc(),
        ranking.pauroc_norm(),
        ranking.pauroc_mcclish(),
        ranking.aupro(),
        ranking.iou(0.5),
        *ranking.best_f1(),
    ]
    assert np.isnan(values).all()


def test_without_normal_pixels_roc_metrics_are_nan() -> None:
    truth = Truth.from_masks(np.ones((1, 2, 2), dtype=bool), ("A",))
    ranking = Ranking.from_maps(np.arange(4.0).reshape(1, 2, 2), truth)
    assert truth.gap == "no normal pixel in the split"
    assert np.isnan([ranking.pixel_auroc(), ranking.pauroc_norm(), ranking.aupro()]).all()
    assert ranking.ap() == ranking.rwap() == ranking.best_f1().f1 == 1
    assert Truth.from_masks(*vector()[1:]).gap is None


@pytest.mark.parametrize("labels", [[0, 0], [1, 1], []])
def test_one_class_or_nothing_has_no_auroc(labels: list[int]) -> None:
    scores = np.linspace(0, 1, len(labels))
    assert math.isnan(auroc(scores, labels))
    assert math.isnan(average_precision(scores, labels)) == (1 not in labels)


@pytest.mark.parametrize(
    ("bad", "message"), [(np.nan, "1 NaN and 0 infinite"), (-np.inf, "0 NaN and 1 infinite")]
)
def test_scores_that_are_not_finite_are_refused(bad: float, message: str) -> None:
    maps, masks, types = vector()
    maps[1, 2, 3] = bad
    for measure in (
        lambda: rank(maps, masks, types),
        lambda: image_scores(maps),
        lambda: auroc(maps.ravel(), masks.ravel()),
    ):
        with pytest.raises(ValueError, match=message):
            measure()


def test_input_that_does_not_fit_is_refused() -> None:
    maps, masks, types = vector()
    truth = Truth.from_masks(masks, types)
    with pytest.raises(ValueError, match=r"expected bool of shape \(N, H, W\)"):
        Truth.from_masks(masks * 0.4, types)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 for 3 masks"):
        Truth.from_masks(masks, types[:2])
    with pytest.raises(ValueError, match=r"images \[2\] are of type 'good'"):
        Truth.from_masks(masks, ("good", "A", "good"))
    with pytest.raises(ValueError, match="expected that of the masks"):
        Ranking.from_maps(maps[:2], truth)
    with pytest.raises(ValueError, match="max_fpr: 0"):
        Ranking.from_maps(maps, truth).aupro(0)
    with pytest.raises(ValueError, match="labels: shape"):
        auroc([0.1, 0.2], [1])
    with pytest.raises(ValueError, match="labels: values other than"):
        auroc([0.1, 0.2], [1, 2])
    with pytest.raises(ValueError, match="weights: expected"):
        average_precision([0.1, 0.2], [1, 0], [1, -1])


def test_truth_crosses_process_borders_as_its_arrays() -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((4, 50, 50)) < 0.1
    truth = Truth.from_masks(masks, ("A", "B", "A", "B"))
    packed = pickle.dumps(truth)
    arrays = sum(getattr(value, "nbytes", 0) for value in vars(truth).values())
    assert len(packed) < arrays + 2000
    maps = rng.random(masks.shape, dtype=np.float32)
    copy = Ranking.from_maps(maps, pickle.loads(packed))
    assert copy.rwap() == Ranking.from_maps(maps, truth).rwap()
    assert pickle.loads(pickle.dumps(copy)).aupro() == copy.aupro()


def test_measuring_leaves_the_maps_as_they_are() -> None:
    maps, masks, types = vector()
    maps.setflags(write=False)
    masks.setflags(write=False)
    before = maps.copy()
    rank(maps, masks, types).rwap()
    assert (maps == before).all()


def test_mean_image_iou_counts_every_anomalous_image_alike() -> None:
    masks = np.zeros((4, 4, 4), dtype=bool)
    masks[0, :2], masks[1, 0, 0] = True, True
    maps = np.zeros(masks.shape)
    maps[0, 1:3], maps[1, 0, :2] = 0.5, 0.9
    maps[3] = 1.0
    truth = Truth.from_masks(masks, ("a", "a", "good", "b"))
    expected = [jaccard_score(masks[i].ravel(), maps[i].ravel() >= 0.5) for i in (0, 1)]
    assert mean_image_iou(maps, truth, 0.5) == pytest.approx(np.mean(expected))
    nothing = Truth.from_masks(np.zeros_like(masks), ("good",) * 4)
    assert math.isnan(mean_image_iou(maps, nothing, 0.5))
