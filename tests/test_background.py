"""Whether scores of normal images lie on the object or around it."""

import io
from dataclasses import replace

import numpy as np
import pytest
from object_parts import box_of, drawn
from PIL import Image

from autosearch.cli.factory_checks import background_lines
from autosearch.data import NORMAL, ImageSet, foreground_masks
from autosearch.study.background import background_of, mean_picture

SHAPE = (96, 160)


def objects(count: int = 4) -> ImageSet:
    """Dark rectangles on bright ground, each elsewhere."""
    pixels = np.stack([drawn(box_of(i), i) for i in range(count)]).transpose(0, 3, 1, 2)
    names = tuple(f"{i}.png" for i in range(count))
    masks = np.zeros((count, *SHAPE), dtype=bool)
    return ImageSet(
        pixels.astype(np.float32) / np.float32(255), masks, (NORMAL,) * count, names, names
    )


def test_the_mass_is_where_the_scores_are() -> None:
    images = objects()
    inside = foreground_masks(images.pixels)
    assert 0 < inside.mean() < 0.5
    area = float((~inside).mean())
    on = background_of(images, inside.astype(np.float32))
    assert (on["mass_outside"], on["highest_outside"], on["times_area"]) == (0, 0, 0)
    around = background_of(images, 5 - 2 * inside.astype(np.float32))
    assert (around["mass_outside"], around["highest_outside"]) == (1, 1)
    assert around["area_outside"] == pytest.approx(area)
    assert around["times_area"] == pytest.approx(1 / area)
    # 3 on the object, 1 around it, and one pixel of 0 that makes both of them masses.
    maps = np.where(inside, 3, 1).astype(np.float32)
    maps[:, 0, 0] = 0
    both = background_of(images, maps)
    outside = (~inside).sum() - len(images)
    expected = outside / (outside + 3 * inside.sum())
    assert both["mass_outside"] == pytest.approx(expected)


def test_a_constant_has_no_mass_and_padding_does_not_count() -> None:
    images = objects()
    alike = background_of(images, np.full((4, *SHAPE), 7, dtype=np.float32))
    assert alike["mass_outside"] is None and alike["times_area"] is None
    assert "all scores are alike" in " ".join(background_lines(alike))
    inside = foreground_masks(images.pixels)
    valid = np.ones((4, *SHAPE), dtype=bool)
    valid[:, :5] = False
    maps = inside.astype(np.float32)
    maps[:, :5] = 100
    assert background_of(replace(images, valid=valid), maps)["mass_outside"] == 0


def test_maps_of_another_size() -> None:
    images = objects()
    masks = np.zeros((4, 48, 80), dtype=bool)
    inside = foreground_masks(images.pixels)[:, ::2, ::2]
    found = background_of(replace(images, masks=masks), inside.astype(np.float32))
    assert found["mass_outside"] == pytest.approx(0, abs=0.05) and found["foreground"] == 4


def test_what_it_means_is_said() -> None:
    images = objects()
    inside = foreground_masks(images.pixels).astype(np.float32)
    assert "look at the surroundings" in " ".join(background_lines(background_of(images, -inside)))
    assert "surroundings" not in " ".join(background_lines(background_of(images, inside)))


def test_the_picture_shows_mean_image_and_mean_map() -> None:
    images = objects()
    maps = np.zeros((4, *SHAPE), dtype=np.float32)
    maps[:, :48] = 1
    with Image.open(io.BytesIO(mean_picture(images, maps))) as picture:
        assert picture.format == "PNG" and picture.size == (2 * 320 + 8, 192)
        seen = np.asarray(picture).astype(int)
    expected = images.pixels.mean(axis=0).transpose(1, 2, 0)[2, 2] * 255
    assert np.abs(seen[4, 4] - expected).max() <= 2
    # Pale yellow above, where scores are high, black below.
    assert seen[10, -10].min() > 150 and seen[-10, -10].max() < 10
