"""Synthetic anomalies to validate on: what a label promises, and what a seed fixes."""

import numpy as np
import pytest
from scipy import ndimage

from autosearch.errors import ConfigError
from autosearch.synthesis import (
    CutPasteSettings,
    Defect,
    SelfTextures,
    SynthesisSettings,
    synthetic_validation,
)

SIZE = 64
KINDS = ("perlin", "cutpaste")


@pytest.fixture(scope="module")
def normals() -> np.ndarray:
    noise = np.random.default_rng(0).random((3, 3, SIZE, SIZE), dtype=np.float32)
    return ndimage.gaussian_filter(noise, (0, 0, 2, 2)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_hold_what_changed_visibly_and_no_more(normals: np.ndarray, kind: str) -> None:
    images, masks = synthetic_validation(normals, kind, 4, 0)
    assert images.shape == (12, 3, SIZE, SIZE)
    assert images.dtype == np.float32
    assert masks.shape == (12, SIZE, SIZE)
    assert masks.dtype == bool
    assert 0 <= images.min() <= images.max() <= 1
    for place, (image, mask) in enumerate(zip(images, masks, strict=True)):
        change = np.abs(image - normals[place // 4])
        assert (change[:, ~mask] == 0).all()
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        assert count
        for region in range(1, count + 1):
            assert change.max(axis=0)[labels == region].mean() >= 0.05
    assert not np.array_equal(masks[0], masks[1])


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_gives_the_same_whatever_the_others_and_the_count(
    normals: np.ndarray, kind: str
) -> None:
    images, masks = synthetic_validation(normals, kind, 3, 5)
    fewer, few_masks = synthetic_validation(normals[:2], kind, 2, 5)
    np.testing.assert_array_equal(images[[0, 1, 3, 4]], fewer)
    np.testing.assert_array_equal(masks[[0, 1, 3, 4]], few_masks)
    other, _ = synthetic_validation(normals[:2], kind, 2, 6)
    assert not np.array_equal(fewer, other)


def test_real_defects_are_pasted_where_there_are_any(normals: np.ndarray) -> None:
    violet = np.broadcast_to(np.float32([1, 0, 1])[:, None, None], (3, 9, 9))
    defect = Defect(violet, np.ones((9, 9), bool))
    plain = CutPasteSettings(operations=())
    images, masks = synthetic_validation(
        normals, "cutpaste", 2, 0, defects=[defect], cutpaste=plain
    )
    for image, mask in zip(images, masks, strict=True):
        assert (image[:, mask] == violet[:, 0, :1]).all()
        assert mask.sum() <= 81


def test_perlin_anomalies_keep_to_the_foreground_and_middles_of_pastes_too(
    normals: np.ndarray,
) -> None:
    foregrounds = np.zeros((3, SIZE, SIZE), bool)
    foregrounds[:, 20:40, 10:50] = True
    _, masks = synthetic_validation(normals, "perlin", 2, 0, foregrounds=foregrounds)
    assert not (masks & ~foregrounds[0]).any()
    dot = Defect(np.ones((3, 9, 9), np.float32), np.ones((9, 9), bool))
    plain = CutPasteSettings(operations=())
    _, masks = synthetic_validation(
        normals, "cutpaste", 2, 0, foregrounds=foregrounds, defects=[dot], cutpaste=plain
    )
    for mask in masks:
        rows, columns = np.nonzero(mask)
        assert 20 <= rows.mean() < 40
        assert 10 <= columns.mean() < 50


def test_images_without_visible_anomalies_are_one_error() -> None:
    black = np.zeros((1, 3, SIZE, SIZE), np.float32)
    unchanged = SynthesisSettings(n_texture_ops=0)
    with pytest.raises(ConfigError, match="image 0"):
        synthetic_validation(
            black, "perlin", 1, 0, textures=SelfTextures(black), synthesis=unchanged
        )
    with pytest.raises(ConfigError, match="image 0"):
        synthetic_validation(black, "cutpaste", 1, 0)


@pytest.mark.parametrize(
    ("kind", "count", "key"), [("cut", 1, "kind"), ("perlin", 0, "per_image")]
)
def test_unknown_kinds_and_no_images_are_errors(
    normals: np.ndarray, kind: str, count: int, key: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        synthetic_validation(normals, kind, count, 0)
    assert raised.value.key == key
