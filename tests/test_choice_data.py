"""What a trial keeps for a choice: values without each anomalous image and in draws of them."""

import io
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from autosearch.contracts import Beside, Scored
from autosearch.contracts.objectives import TABLE
from autosearch.data.records import NORMAL, ImageSet, SearchData
from autosearch.metrics import auroc, average_precision, rwap_error
from autosearch.metrics.ranking import Ranking
from autosearch.metrics.truth import Truth
from autosearch.study.choice_data import (
    MOST_BYTES,
    MOST_SCORES,
    NUMBER,
    Draws,
    draws_of,
    errors_of,
    scores_of,
)
from autosearch.study.truth import truth_beside, truth_of

SIDE, PREVALENCE = 16, 0.05


def images(types: list[str], seed: int = 0, side: int = SIDE, made: bool = False) -> ImageSet:
    """One anomalous rectangle in each image that is not normal."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((len(types), side, side), dtype=bool)
    for mask, kind in zip(masks, types, strict=True):
        if kind != NORMAL:
            top, left = rng.integers(0, side - 6, 2)
            mask[top : top + rng.integers(2, 6), left : left + 3] = True
    names = tuple(f"part/test/{kind}/{i:03}.png" for i, kind in enumerate(types))
    pixels = np.zeros((len(types), 3, side, side), dtype=np.float32)
    return ImageSet(pixels, masks, tuple(types), names, names, made=(made,) * len(types))


def data_of(types: list[str], made: int = 0) -> SearchData:
    beside = images(["synthetic_perlin"] * made, 9, made=True) if made else None
    return SearchData(images([NORMAL]), images(types), {"sha256": "abc"}, made=beside)


def maps_of(split: ImageSet, seed: int) -> NDArray[np.float32]:
    """Few different scores, higher on defects, so that bins are exact."""
    noise = np.random.default_rng(seed).integers(0, 60, split.masks.shape)
    return ((noise + 20 * split.masks) / 80).astype(np.float32)


def scored_of(data: SearchData, seed: int = 1) -> Scored:
    truth, beside = truth_beside(data), None
    if data.made is not None and truth is not None:
        beside = Beside(maps_of(data.made, seed + 1), truth)
    val, whole = data.val, truth_of(data.val)
    made = val.synthetic if val.synthetic.any() else None
    return Scored(maps_of(val, seed), whole, {}, PREVALENCE, synthetic=made, beside=beside)


def kept(data: SearchData, scored: Scored) -> dict[str, NDArray]:
    content = Draws.of(data).kept(scored)
    assert len(content) <= MOST_BYTES
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


TYPES = ["hole"] * 3 + ["stain"] * 2 + ["scratch"] + ["dent"] + [NORMAL] * 4


def without(maps: NDArray, truth: Truth, image: int) -> tuple[NDArray, Truth]:
    """All of it but one image's anomalous pixels: its normal ones are taken along with it."""
    left = np.arange(len(maps)) != image
    return maps[left], truth.select(left)


def test_values_without_each_image_are_those_of_the_others() -> None:
    data = data_of(TYPES)
    scored = scored_of(data)
    found = kept(data, scored)
    assert [name.decode() for name in found["names.real"]] == list(data.val.paths[:7])
    assert [name.decode() for name in found["types.real"]] == TYPES[:7]
    for image in range(7):
        maps, truth = without(scored.maps, scored.truth, image)
        ranking = Ranking.from_maps(maps, truth)
        expected = {
            "rwap_calibrated": ranking.rwap(PREVALENCE),
            "ap_calibrated": ranking.ap(PREVALENCE),
            "ap": ranking.ap(),
            "image_auroc": auroc(maps.max(axis=(1, 2)), truth.labels),
        }
        for name, value in expected.items():
            assert found[f"without.{name}"][image] == pytest.approx(value, rel=1e-5), name


def test_errors_are_the_jackknife() -> None:
    data = data_of(TYPES)
    scored = scored_of(data)
    found = kept(data, scored)
    values = found["without.ap_calibrated"].astype(float)
    expected = np.sqrt(6 / 7 * ((values - values.mean()) ** 2).sum())
    errors = errors_of(found)
    assert errors["ap_calibrated"] == pytest.approx(expected, rel=1e-6)
    # There the normal pixels of the image that is left out stay.
    other = rwap_error(scored.ranking, scored.truth, PREVALENCE)
    assert errors["rwap_calibrated"] == pytest.approx(other, rel=0.1)


def test_draws_are_weighed_by_how_often_an_image_was_drawn() -> None:
    data = data_of(TYPES)
    scored = scored_of(data)
    copies, found = Draws.of(data).real, kept(data, scored)
    labels = scored.truth.labels
    assert copies.shape == (1 + 7 + NUMBER, 11) and (copies[:, ~labels] == 1).all()
    drawn = draws_of(found)
    for draw in range(0, NUMBER, 40):
        weights = copies[-NUMBER:][draw]
        pixels = np.repeat(weights, SIDE * SIDE)
        ap = average_precision(scored.maps.ravel(), scored.truth.masks.ravel(), pixels)
        assert drawn["ap"][draw] == pytest.approx(ap, rel=1e-5)
        area = auroc(scored.images, labels, weights)
        assert drawn["image_auroc"][draw] == pytest.approx(area, rel=1e-5)


def test_draws_are_within_types_and_types_of_one_image_together() -> None:
    data = data_of(TYPES)
    drawn = Draws.of(data).real[-NUMBER:]
    sums = (drawn[:, :3].sum(axis=1), drawn[:, 3:5].sum(axis=1), drawn[:, 5:7].sum(axis=1))
    assert np.allclose(np.array(sums).T, [3, 2, 2])
    assert all(column.std() > 0 for column in drawn[:, :7].T)


def test_draws_are_the_same_for_all_trials_of_the_same_data() -> None:
    first, again = Draws.of(data_of(TYPES)), Draws.of(data_of(TYPES))
    assert first.seed == again.seed and np.array_equal(first.real, again.real)
    other = Draws.of(replace(data_of(TYPES), info={"sha256": "abd"}))
    assert other.seed != first.seed and not np.array_equal(first.real, other.real)


def test_made_anomalies_have_figures_of_their_own() -> None:
    data = data_of(TYPES, made=3)
    scored = scored_of(data)
    found = kept(data, scored)
    assert len(found["without.rwap_synthetic"]) == len(found["names.made"]) == 3
    assert np.array_equal(found["draws.rwap_real"], found["draws.rwap"])
    plain = kept(data_of(TYPES), scored_of(data_of(TYPES)))
    assert np.array_equal(plain["draws.rwap"], found["draws.rwap"])
    assert "draws.rwap_synthetic" not in plain
    made, truth = scored.beside, truth_beside(data)
    assert made is not None and truth is not None
    whole = np.concatenate([scored.maps[-4:], made.maps])
    for image in range(3):
        left = np.arange(7) != 4 + image
        alone = Ranking.from_maps(whole[left], truth.select(left)).rwap()
        assert found["without.rwap_synthetic"][image] == pytest.approx(alone, rel=1e-5)
    mixed = scored.ranking.rwap(PREVALENCE) + Ranking.from_maps(whole, truth).rwap(PREVALENCE)
    assert TABLE["rwap_mixed"].measure(None, scored) == pytest.approx(mixed / 2)  # type: ignore
    spread = float(found["draws.rwap_mixed"].std())
    assert errors_of(found)["rwap_mixed"] == pytest.approx(spread, rel=1e-5)
    assert scored.synthetic_ranking.rwap() == pytest.approx(
        Ranking.from_maps(whole, truth).rwap(), rel=1e-12
    )


def test_made_anomalies_among_the_others_are_told_apart() -> None:
    val = images(["hole", "hole", "synthetic_perlin", "synthetic_perlin", NORMAL, NORMAL])
    val = replace(val, made=(False, False, True, True, False, False))
    data = SearchData(images([NORMAL]), val, {"sha256": "abc"})
    scored = scored_of(data)
    found = kept(data, scored)
    for name, chosen in (("real", ~val.synthetic), ("synthetic", val.synthetic | ~val.labels)):
        values = found[f"without.rwap_{name}"]
        indices = np.flatnonzero(chosen)
        alone = [
            Ranking.from_maps(scored.maps[left], truth_of(val, left)).rwap()
            for i in indices
            if val.labels[i]
            for left in [indices[indices != i]]
        ]
        assert values[~np.isnan(values)] == pytest.approx(alone, rel=1e-5)


def test_maps_are_area_means_in_steps() -> None:
    types = ["hole"] * 20 + [NORMAL] * 40
    val = images(types, side=64)
    data = SearchData(images([NORMAL]), val, {"sha256": "abc"})
    scored = scored_of(data)
    found = kept(data, scored)
    assert found["maps"].shape == (32, 32, 32) and found["maps"].dtype == np.uint8
    shown = found["shown"]
    assert (np.isin(shown, np.arange(20)).sum(), len(set(shown.tolist()))) == (16, 32)
    means = scored.maps[shown].reshape(32, 32, 2, 32, 2).mean(axis=(2, 4))
    low, high = found["low"][:, None, None], found["high"][:, None, None]
    steps = low + found["maps"] / 255 * (high - low)
    assert np.abs(steps - means).max() <= (high - low).max() / 255


def test_scores_of_images_by_kind() -> None:
    val = images(["hole", "hole", "synthetic_perlin", NORMAL, NORMAL, NORMAL])
    val = replace(val, made=(False, False, True, False, False, False))
    data = SearchData(images([NORMAL]), val, {"sha256": "abc"})
    scored = scored_of(data)
    found = scores_of(kept(data, scored))
    highest = scored.maps.max(axis=(1, 2))
    for kind, places in (("real", [0, 1]), ("made", [2]), ("normal", [3, 4, 5])):
        assert found[kind].tolist() == sorted(highest[places].tolist())
    data = data_of([NORMAL] * (2 * MOST_SCORES) + ["hole"])
    scored = scored_of(data)
    found = scores_of(kept(data, scored))
    normal = scored.maps[:-1].max(axis=(1, 2))
    assert found["normal"].size == MOST_SCORES and set(found) == {"normal", "real"}
    assert (found["normal"][0], found["normal"][-1]) == (normal.min(), normal.max())


def test_many_images_stay_below_the_bound() -> None:
    types = [f"a type with quite a long name {i % 30}" for i in range(700)] + [NORMAL] * 100
    data = data_of(types, made=32)
    data = replace(data, val=replace(data.val, paths=tuple("x" * 90 + str(i) for i in range(800))))
    found = kept(data, scored_of(data))
    assert len(found["without.rwap"]) == 128 and len(found["names.real"]) == 128


@pytest.mark.parametrize("types", [["hole", NORMAL], [NORMAL, NORMAL]])
def test_one_defect_or_none_says_nothing_of_luck(types: list[str]) -> None:
    data = data_of(types)
    found = kept(data, scored_of(data))
    assert errors_of(found).get("rwap") is None
    assert all(np.ptp(values) == 0 for values in draws_of(found).values())


def test_defects_without_masks_have_figures_of_images_alone() -> None:
    data = data_of(TYPES)
    val = replace(data.val, unmarked=tuple(kind != NORMAL for kind in TYPES))
    val = replace(val, masks=np.zeros_like(val.masks))
    data = replace(data, val=val)
    assert set(draws_of(kept(data, scored_of(data)))) == {"image_auroc"}
