"""Cut & paste: what the library holds, what pasting changes, how defects vary."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from autosearch.errors import ConfigError
from autosearch.synthesis import (
    CutPasteSettings,
    Defect,
    cut_and_paste,
    cut_patch,
    cutpaste,
    defect_library,
    paste,
    transform,
)
from autosearch.synthesis.cutpaste import draw_centre

ALWAYS = {"probability": 1.0}


def a_defect(height: int = 6, width: int = 5, seed: int = 0) -> Defect:
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < 0.6
    mask[height // 2, width // 2] = True
    return Defect(rng.random((3, height, width), dtype=np.float32), mask)


def test_the_library_holds_one_defect_a_region_with_its_margin() -> None:
    images = np.random.default_rng(0).random((2, 3, 20, 20), dtype=np.float32)
    masks = np.zeros((2, 20, 20), bool)
    masks[0, [4, 5], [4, 5]] = True  # 8-connected by a corner
    masks[0, 8, 6] = True  # within the margin of the first, yet another region
    masks[1, 0, 19] = True  # the margin ends at the border
    first, second, third = defect_library(images, masks, margin=3)
    np.testing.assert_array_equal(first.texture, images[0, :, 1:9, 1:9])
    np.testing.assert_array_equal(np.argwhere(first.mask), [[3, 3], [4, 4]])
    assert second.mask.sum() == 1
    np.testing.assert_array_equal(third.texture, images[1, :, :4, 16:])
    np.testing.assert_array_equal(np.argwhere(third.mask), [[0, 3]])


def test_an_empty_library_is_one_error() -> None:
    image, mask = np.zeros((3, 8, 8), np.float32), np.zeros((8, 8), bool)
    with pytest.raises(ConfigError, match="defects"):
        defect_library(image[None], mask[None])
    with pytest.raises(ConfigError, match="defects"):
        cut_and_paste(image, mask, (), CutPasteSettings(), None, np.random.default_rng(0))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.tuples(st.integers(0, 15), st.integers(0, 11)),
    arrays(bool, (16, 12)),
)
def test_pasting_changes_exactly_the_defects_pixels(
    height: int, width: int, centre: tuple[int, int], old: np.ndarray
) -> None:
    defect = a_defect(height, width)
    image = np.full((3, 16, 12), 2, np.float32)
    expected, area = image.copy(), np.zeros((16, 12), bool)
    for y, x in np.argwhere(defect.mask):
        row, column = centre[0] + y - height // 2, centre[1] + x - width // 2
        if 0 <= row < 16 and 0 <= column < 12:
            expected[:, row, column] = defect.texture[:, y, x]
            area[row, column] = True
    pasted = paste(image, old, defect, centre)
    np.testing.assert_array_equal(pasted.image, expected)
    np.testing.assert_array_equal(pasted.area, area)
    np.testing.assert_array_equal(pasted.mask, old | area)
    np.testing.assert_array_equal(pasted.area, (pasted.image != image).any(axis=0))
    assert (image == 2).all()


def test_no_operation_leaves_the_defect_as_it_is_within_its_box() -> None:
    mask = np.zeros((8, 9), bool)
    mask[2:5, 3:7] = True
    defect = Defect(np.random.default_rng(0).random((3, 8, 9), dtype=np.float32), mask)
    for wanted in (CutPasteSettings(probability=0), CutPasteSettings(operations=(), **ALWAYS)):
        same = transform(defect, wanted, np.random.default_rng(0))
        np.testing.assert_array_equal(same.texture, defect.texture[:, 2:5, 3:7])
        assert same.mask.all()


def test_geometry_matches_numpy_where_it_is_exact() -> None:
    defect = a_defect(6, 5)
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    texture, mask = cutpaste._warp(defect.texture, defect.mask, quarter)
    # The map takes (y, x) to (-x, y): a quarter turn against the clock.
    np.testing.assert_allclose(texture, np.rot90(defect.texture, 1, (1, 2)), atol=1e-6)
    np.testing.assert_array_equal(mask, np.rot90(defect.mask, 1))


@pytest.mark.parametrize("factor", [0.5, 1.7, 2.0])
def test_scale_multiplies_the_area_by_its_square(factor: float) -> None:
    disc = np.hypot(*(np.mgrid[:61, :61] - 30)) <= 24
    defect = Defect(np.full((3, 61, 61), 0.4, np.float32), disc)
    wanted = CutPasteSettings(operations=("scale",), scale=(factor, factor), **ALWAYS)
    scaled = transform(defect, wanted, np.random.default_rng(0))
    assert scaled.mask.sum() == pytest.approx(disc.sum() * factor**2, rel=0.03)
    np.testing.assert_allclose(scaled.texture, 0.4, atol=1e-6)


def test_matrices_cover_the_ranges_of_table_two() -> None:
    rng = np.random.default_rng(0)

    def matrices(name: str) -> np.ndarray:
        wanted = CutPasteSettings(operations=(name,), **ALWAYS)
        return np.array([cutpaste._matrix(wanted, rng) for _ in range(300)])

    turned = matrices("rotation")
    angles = np.rad2deg(np.arctan2(turned[:, 1, 0], turned[:, 0, 0]))
    assert -30 <= angles.min() < -28
    assert 28 < angles.max() <= 30
    np.testing.assert_allclose(np.linalg.det(turned), 1)
    sheared = matrices("shear")
    for slope in (sheared[:, 0, 1], sheared[:, 1, 0]):
        assert -0.3 <= slope.min() < -0.28
        assert 0.28 < slope.max() <= 0.3
    assert (sheared[:, [0, 1], [0, 1]] == 1).all()
    scaled = matrices("scale")
    assert 0.1 <= scaled[:, 0, 0].min() < 0.15
    assert 1.95 < scaled[:, 0, 0].max() <= 2
    assert (scaled[:, 0, 0] == scaled[:, 1, 1]).all()


def test_each_operation_is_applied_with_its_probability() -> None:
    rng = np.random.default_rng(0)
    wanted = CutPasteSettings(operations=("rotation",), probability=0.25)
    same = [np.array_equal(cutpaste._matrix(wanted, rng), np.eye(2)) for _ in range(800)]
    assert np.mean(same) == pytest.approx(0.75, abs=0.06)


def test_photometric_factors_in_closed_form() -> None:
    grey = np.array([0.2, 0.4, 0.9], np.float32)
    texture = np.broadcast_to(grey, (3, 1, 3)).copy()
    mask = np.array([[True, True, False]])
    wanted = CutPasteSettings(operations=("photometric",), photometric=(0.5, 0.5), **ALWAYS)
    varied = transform(Defect(texture, mask), wanted, np.random.default_rng(0))
    # Brightness halves; contrast halves the distance to the mask's mean, 0.15; grey has no hue.
    np.testing.assert_allclose(varied.texture[:, 0], [[0.125, 0.175]] * 3, atol=1e-6)
    red = Defect(np.float32([[[0.6]], [[0.2]], [[0.2]]]), np.ones((1, 1), bool))
    off = CutPasteSettings(operations=("photometric",), photometric=(0, 0), **ALWAYS)
    assert (transform(red, off, np.random.default_rng(0)).texture == 0).all()


def test_saturation_zero_is_grey_of_equal_brightness(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rng:
        """Chooses saturation alone, with factor 0."""

        chances = iter((1.0, 1.0, 0.0))

        def uniform(self, low: float, high: float) -> float:
            return 0.0

        def random(self) -> float:
            return next(self.chances)

    texture = np.float32([[[0.6]], [[0.2]], [[0.1]]])
    varied = cutpaste._photometric(texture, np.ones((1, 1), bool), CutPasteSettings(), Rng())
    np.testing.assert_allclose(varied, 0.299 * 0.6 + 0.587 * 0.2 + 0.114 * 0.1, atol=1e-6)


def test_a_defect_scaled_to_nothing_is_pasted_as_it_was_cut() -> None:
    wanted = CutPasteSettings(operations=("scale",), scale=(0, 0), **ALWAYS)
    defect = Defect(np.ones((3, 3, 3), np.float32), np.ones((3, 3), bool))
    assert not transform(defect, wanted, np.random.default_rng(0)).mask.size
    clean = np.zeros((9, 9), bool)
    middle = clean.copy()
    middle[4, 4] = True
    pasted = cut_and_paste(
        np.zeros((3, 9, 9), np.float32), clean, [defect], wanted, middle, np.random.default_rng(0)
    )
    assert pasted.area.sum() == 9
    assert pasted.area[3:6, 3:6].all()


def test_a_defect_larger_than_the_image_covers_it() -> None:
    defect = Defect(np.ones((3, 50, 50), np.float32), np.ones((50, 50), bool))
    image, clean = np.zeros((3, 9, 9), np.float32), np.zeros((9, 9), bool)
    wanted = CutPasteSettings(operations=())
    pasted = cut_and_paste(image, clean, [defect], wanted, None, np.random.default_rng(0))
    assert pasted.area.all()


def test_too_small_draws_are_repeated() -> None:
    wanted = CutPasteSettings(operations=("scale",), scale=(0, 2), min_area=30, **ALWAYS)
    defect = Defect(np.ones((3, 6, 6), np.float32), np.ones((6, 6), bool))
    image, clean = np.zeros((3, 64, 64), np.float32), np.zeros((64, 64), bool)
    rng = np.random.default_rng(0)
    areas = [cut_and_paste(image, clean, [defect], wanted, None, rng).area for _ in range(60)]
    assert min(area.sum() for area in areas) >= 30


@settings(max_examples=25, deadline=None)
@given(arrays(bool, (7, 5), fill=st.just(False)), st.integers(0, 1000))
def test_centres_are_allowed_pixels(allowed: np.ndarray, seed: int) -> None:
    centre = draw_centre((7, 5), allowed, np.random.default_rng(seed))
    assert allowed[centre] or not allowed.any()


def test_patches_are_pieces_of_the_image_around_its_foreground() -> None:
    rows, columns = np.mgrid[:128, :128].astype(np.float32)
    image = np.stack([rows, columns, rows])
    foreground = np.zeros((128, 128), bool)
    foreground[60:64, 60:64] = True
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        patch = cut_patch(image, foreground, rng)
        height, width = patch.mask.shape
        top, left = (int(start) for start in patch.texture[:2, 0, 0])
        np.testing.assert_array_equal(
            patch.texture, image[:, top : top + height, left : left + width]
        )
        assert foreground[top + height // 2, left + width // 2]
        shares.append(height * width / 128**2)
    assert max(shares) <= 0.16
    # Rectangles and strips half and half: the areas of the two do not overlap.
    assert np.mean(np.array(shares) > 0.018) == pytest.approx(0.5, abs=0.12)


def test_equal_generators_give_equal_pastes() -> None:
    image, clean = np.zeros((3, 32, 32), np.float32), np.zeros((32, 32), bool)
    library = [a_defect(12, 9, seed) for seed in range(4)]
    made = [
        cut_and_paste(image, clean, library, CutPasteSettings(), None, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(made[0].image, made[1].image)
    assert not np.array_equal(made[0].image, made[2].image)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("operations", ("rotate",)),
        ("probability", 1.5),
        ("photometric", (1.9, 0.1)),
        ("rotation", -1.0),
        ("shear", 1.0),
        ("scale", (0.5, 9.0)),
        ("scale", (float("nan"), 1.0)),
        ("min_area", 0),
    ],
)
def test_settings_out_of_range_name_their_key(key: str, value: object) -> None:
    with pytest.raises(ConfigError) as raised:
        CutPasteSettings(**{key: value})
    assert raised.value.key == key
