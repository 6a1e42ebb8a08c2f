"""Regions labelled at the size of the file: none is split, none vanishes, each counts once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from autosearch.data.images import resize_mask
from autosearch.data.layouts.choose import open_index
from autosearch.data.load import load_search_data
from autosearch.data.masks import read_mask
from autosearch.data.regions import label_regions, resize_regions
from autosearch.metrics.ranking import Ranking
from autosearch.metrics.truth import Truth
from autosearch.spec.sections import DatasetSpec

Mask = NDArray[np.bool_]

masks = arrays(
    bool,
    st.tuples(st.integers(1, 14), st.integers(1, 14)),
    elements=st.sampled_from([True, False, False, False]),
)
rules = st.sampled_from(["nearest", "any"])


def drawn(text: str) -> Mask:
    return np.array([[sign == "#" for sign in line] for line in text.split()])


def overlaps(labels: NDArray[np.int32], size: int) -> dict[int, dict[tuple[int, int], int]]:
    """For each region, the cells that it overlaps and its pixels in each, interval by interval."""
    height, width = labels.shape
    found: dict[int, dict[tuple[int, int], int]] = {}
    for y, x in np.argwhere(labels):
        its = found.setdefault(int(labels[y, x]), {})
        for i in range(size):
            for j in range(size):
                rows = max(i * height, y * size) < min((i + 1) * height, (y + 1) * size)
                columns = max(j * width, x * size) < min((j + 1) * width, (x + 1) * size)
                if rows and columns:
                    its[i, j] = its.get((i, j), 0) + 1
    return found


def most_with_a_cell(found: dict[int, dict[tuple[int, int], int]]) -> int:
    """How many regions can have a cell of their own: augmenting paths, one at a time."""
    owner: dict[tuple[int, int], int] = {}

    def settled(region: int, seen: set[tuple[int, int]]) -> bool:
        for cell in found[region]:
            if cell not in seen:
                seen.add(cell)
                if cell not in owner or settled(owner[cell], seen):
                    owner[cell] = region
                    return True
        return False

    return sum(settled(region, set()) for region in found)


@given(mask=masks, size=st.integers(1, 6), rule=rules)
@settings(max_examples=150, deadline=None)
def test_as_many_regions_as_can_have_a_cell_have_one(mask: Mask, size: int, rule: str) -> None:
    found = overlaps(label_regions(mask), size)
    labels, lost = resize_regions(mask, (size, size), rule)
    for cell, region in np.ndenumerate(labels):
        assert region == 0 or cell in found[region], "a region lies where it does not belong"
    kept = set(np.unique(labels).tolist()) - {0}
    assert len(kept) == most_with_a_cell(found) == len(found) - lost


@given(mask=masks, size=st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_rule_any_gives_a_cell_to_the_region_with_most_pixels(mask: Mask, size: int) -> None:
    labels, _ = resize_regions(mask, (size, size), "any")
    np.testing.assert_array_equal(labels > 0, resize_mask(mask, (size, size), "any"))
    found = overlaps(label_regions(mask), size)
    assume(len(found) <= 2)  # With more of them, one may be given a cell by way of another.
    for cell, region in np.ndenumerate(labels):
        of_others = [its.get(cell, 0) for other, its in found.items() if other != region]
        if region and found[region][cell] < max(of_others, default=0):
            assert (labels == region).sum() == 1, "only who has no other cell is given one"


@given(mask=masks, size=st.integers(1, 16))
@settings(max_examples=150, deadline=None)
def test_rule_nearest_changes_cells_only_for_what_would_vanish(mask: Mask, size: int) -> None:
    source = label_regions(mask)
    rows, columns = ((2 * np.arange(size) + 1) * n // (2 * size) for n in mask.shape)
    plain = source[np.ix_(rows, columns)]
    labels, _ = resize_regions(mask, (size, size))
    assert (labels > 0)[plain > 0].all()
    if not set(np.unique(source)) - {0} - set(np.unique(plain)):
        np.testing.assert_array_equal(labels, plain)


@given(mask=masks, factor=st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_at_the_files_own_size_and_above_nothing_changes(mask: Mask, factor: int) -> None:
    square = np.zeros((14, 14), dtype=bool)
    square[: mask.shape[0], : mask.shape[1]] = mask
    for rule in ("nearest", "any"):
        labels, lost = resize_regions(square, (14 * factor, 14 * factor), rule)
        expected = np.kron(label_regions(square), np.ones((factor, factor), dtype=int))
        np.testing.assert_array_equal(labels, expected)
        assert lost == 0


def test_a_thin_crack_stays_one_region() -> None:
    crack = np.zeros((90, 90), dtype=bool)
    crack[np.arange(90), np.arange(90) * 2 // 3 + 7] = True
    assert label_regions(resize_mask(crack, (30, 30))).max() > 3, "the case is none"
    for rule in ("nearest", "any"):
        labels, lost = resize_regions(crack, (30, 30), rule)
        assert set(np.unique(labels)) == {0, 1} and lost == 0


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_region_without_a_cell_gets_that_with_most_of_its_pixels(at: int) -> None:
    mask = np.zeros((9, 9), dtype=bool)
    mask[0, slice(3 * at - 1, 3 * at + 2) if at else slice(1, 4)] = True  # Two of three pixels.
    labels, _ = resize_regions(mask, (3, 3))
    assert np.argwhere(labels).tolist() == [[0, at]]


def test_a_cell_of_a_region_that_keeps_another_is_given_away() -> None:
    mask = drawn("#.###### #.######" + 6 * " ..######")
    assert resize_regions(mask, (2, 2)).labels.tolist() == [[1, 2], [2, 2]]


def test_regions_move_together_where_that_frees_a_cell() -> None:
    mask = np.zeros((12, 12), dtype=bool)
    mask[0, 0] = True  # Overlaps the first cell alone, ...
    mask[2, 1:5] = True  # ... which is the only one of this, but it reaches into the second, ...
    mask[0, 6:] = True  # ... and this has the second and the third.
    labels, lost = resize_regions(mask, (3, 3), "any")
    assert labels[0].tolist() == [1, 3, 2] and lost == 0


def test_two_fall_together_where_there_are_more_regions_than_cells() -> None:
    mask = drawn("#.#. .... #.#. ....")
    assert resize_regions(mask, (2, 2)).lost == 0
    labels, lost = resize_regions(mask, (1, 1))
    assert labels.item() > 0 and lost == 3


class TestTruth:
    @given(seed=st.integers(0, 10**6))
    @settings(max_examples=40, deadline=None)
    def test_own_regions_are_the_default_whatever_their_numbers(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        scene = rng.random((4, 6, 6)) < 0.3
        scene[0] = False
        types = ("good", "a", "b", "a")
        numbers = np.stack([label_regions(mask) for mask in scene])
        gaps = np.where(numbers > 0, 3 * numbers + 4, 0)
        plain, given_ = Truth.from_masks(scene, types), Truth.from_masks(scene, types, gaps)
        for name in ("regions", "areas", "region_images", "region_weights"):
            np.testing.assert_array_equal(getattr(plain, name), getattr(given_, name))

    def test_fragments_of_a_region_count_once(self) -> None:
        scene = np.zeros((3, 4, 8), dtype=bool)
        scene[1, 0, ::2] = True  # A crack in four fragments of a pixel.
        scene[2, :2, :2] = True
        labels = scene.astype(np.int32)
        maps = np.zeros(scene.shape)
        maps[1, 0, 0], maps[2, :2, :2] = 1.0, 0.5
        types = ("good", "crack", "hole")
        split, whole = Truth.from_masks(scene, types), Truth.from_masks(scene, types, labels)
        assert split.areas.tolist() == [1, 1, 1, 1, 4] and whole.areas.tolist() == [4, 4]
        np.testing.assert_allclose(whole.region_weights, 1)
        # Found: a quarter of the crack and all of the hole.
        found = {truth: Ranking.from_maps(maps, truth).aupro() for truth in (split, whole)}
        assert found[whole] == pytest.approx(0.625 + 0.375 * 0.15, abs=1e-6)
        assert found[split] == pytest.approx(0.4 + 0.6 * 0.15, abs=1e-6)

    def test_refuses_regions_that_are_not_those_of_the_masks(self) -> None:
        scene = np.ones((1, 2, 2), dtype=bool)
        for wrong in (np.zeros((1, 2, 2), np.int32), np.ones((2, 2), np.int32)):
            with pytest.raises(ValueError, match="regions: expected"):
                Truth.from_masks(scene, ("a",), wrong)


class TestLoading:
    @pytest.fixture
    def read(self, tmp_path: Path) -> Callable[..., tuple]:
        """Validation of a small dataset: a crack of a pixel's width and a speck, at 96 pixels."""
        rng, base = np.random.default_rng(0), tmp_path / "part"
        crack = np.zeros((96, 96), dtype=np.uint8)
        crack[np.arange(70), np.arange(70) * 2 // 3 + 5] = 255
        crack[91, 90] = 255
        names = [f"train/good/{i}" for i in range(4)] + ["test/good/0", "test/crack/0"]
        for name in [*names, "test/crack/1", "ground_truth/crack/0_mask"]:
            path = base / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = rng.integers(0, 256, crack.shape, dtype=np.uint8)
            Image.fromarray(crack if "mask" in name else noise).save(path)
        Image.fromarray(crack).save(base / "ground_truth/crack/1_mask.png")

        def load(**keys: object) -> tuple:
            given = {"root": str(tmp_path), "category": "part", "image_size": 32, **keys}
            data = load_search_data(DatasetSpec.model_validate(given))
            return data, Truth.from_masks(data.val.masks, data.val.types, data.val.regions)

        return load

    def test_regions_are_those_of_the_file(self, read: Callable) -> None:
        data, truth = read()
        assert truth.areas.size == 2 and truth.areas.min() == 1
        np.testing.assert_array_equal(data.val.masks, data.val.regions > 0)
        assert not data.val.regions.flags.writeable and data.train.regions is None
        assert data.info["regions"].startswith("source: ") and data.info["prevalence"] == 0.01

    def test_resized_does_as_before(self, read: Callable) -> None:
        data, truth = read(regions="resized")
        assert data.val.regions is None and truth.areas.size > 5
        (mask,) = data.val.masks[data.val.labels]
        assert not mask[29:, 29:].any(), "the speck vanished"


def test_real_cracks_keep_their_number(shared_data: Path) -> None:
    root = shared_data / "crack_forest"
    index = open_index(DatasetSpec(name="x", root=str(root), category="asphalt"))
    counts = np.zeros(3, dtype=int)
    for sample in index.samples:
        if sample.masks:
            mask = read_mask(sample.masks[0]).mask
            carried, lost = resize_regions(mask, (64, 64))
            before = label_regions(resize_mask(mask, (64, 64))).max()
            counts += (label_regions(mask).max(), np.unique(carried[carried > 0]).size, before)
            assert lost == 0
    source, now, before = counts
    assert now == source and before > 1.5 * source
