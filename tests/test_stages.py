"""What is done about an object on the canvas, of squares whose places are known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from autosearch.data import stages, store
from autosearch.data.boxes import Box
from autosearch.data.records import NORMAL, ImageSet
from autosearch.data.stages import CanvasStage, Placement

CANVAS = (48, 64)
SQUARE = Box(4, 40, 20, 60)
ROUND = 2
"""Pixels by which what is found of a square may be off."""


def picture(box: Box | None = SQUARE, ground: float = 0.1) -> np.ndarray:
    """``(3, 48, 64)``: a graded square on plain ground, or plain ground alone."""
    image = np.full((3, *CANVAS), ground, dtype=np.float32)
    if box is not None:
        height, width = box.size
        image[:, *box.slices] = 0.6 + 0.3 * np.arange(height * width).reshape(box.size) / 400
    return image


def image_set(*boxes: Box | None, scale: int = 1, defect: Box | None = None) -> ImageSet:
    """Pictures, with a defect of two regions if it is given; masks of a multiple of their size."""
    size = (CANVAS[0] * scale, CANVAS[1] * scale)
    count = len(boxes)
    masks = np.zeros((count, *size), dtype=bool)
    if defect is not None:
        masks[:, *defect.slices] = True
    names = tuple(f"{i}.png" for i in range(count))
    types = ("dent" if defect else NORMAL,) * count
    pixels = np.stack([picture(box) for box in boxes])
    regions = masks.astype(np.int32) * 2
    return ImageSet(pixels, masks, types, names, names, regions=regions).locked()


def test_a_mask_leaves_the_object_where_it_is() -> None:
    image = picture()
    seen, place = CanvasStage("mask", 0.5).seen(image)
    inside, around = SQUARE, SQUARE.grown(ROUND, Box.whole(CANVAS))
    np.testing.assert_array_equal(seen[:, *inside.slices], image[:, *inside.slices])
    outside = np.ones(CANVAS, dtype=bool)
    outside[around.slices] = False
    assert (seen[:, outside] == 0.5).all() and (place.down, place.across) == (0, 0)
    assert seen.dtype == np.float32 and (image[:, outside] == np.float32(0.1)).all()


def test_centring_moves_the_box_by_whole_pixels() -> None:
    image = picture()
    seen, place = CanvasStage("centre").seen(image)
    # Rows 4 to 20 of 48 and columns 40 to 60 of 64: middles at 12 of 24, and at 50 of 32.
    assert (place.down, place.across) == (12, -18)
    moved = SQUARE.moved(12, -18)
    np.testing.assert_array_equal(seen[:, *moved.slices], image[:, *SQUARE.slices])
    outside = np.ones(CANVAS, dtype=bool)
    outside[moved.grown(ROUND, Box.whole(CANVAS)).slices] = False
    assert (seen[:, outside] == 0).all()


@pytest.mark.parametrize("stage", ["mask", "centre"])
def test_maps_come_back(stage: Any) -> None:
    """A map of the changed picture that is the picture gives it back where it was shown."""
    image = picture()
    way = CanvasStage(stage)
    seen, place = way.seen(image)
    back = way.back(seen[0], place)
    assert place.shown is not None and place.shown[SQUARE.slices].all()
    np.testing.assert_array_equal(back[place.shown], image[0][place.shown])
    assert (back[~place.shown] == image[0][place.shown].min()).all()
    # A defect beyond the object is nowhere in the map, whatever a detector says of it.
    loud = np.where(seen[0] == 0, np.float32(9), seen[0])
    np.testing.assert_array_equal(way.back(loud, place), back)


@pytest.mark.parametrize("stage", ["mask", "centre"])
def test_a_picture_without_an_object_stays(stage: Any) -> None:
    image, way = picture(None), CanvasStage(stage)
    seen, place = way.seen(image)
    assert seen is image and place == Placement()
    np.testing.assert_array_equal(way.back(seen[0], place), image[0])
    images = image_set(None, SQUARE)
    made = way.of(images)
    np.testing.assert_array_equal(made.pixels[0], images.pixels[0])
    assert made.valid is not None and made.valid[0].all() and not made.valid[1].all()
    assert list(way.found_in(images)) == [False, True]


@pytest.mark.parametrize("scale", [1, 3])
def test_masks_regions_and_what_counts_move_along(scale: int) -> None:
    """Masks that are three times as large move by three times as many of their pixels."""
    defect = Box(*(scale * side for side in (8, 44, 12, 50)))
    images = image_set(SQUARE, scale=scale, defect=defect)
    valid = np.ones(images.masks.shape, dtype=bool)
    valid[:, : 6 * scale] = False
    made = CanvasStage("centre").of(replace(images, valid=valid))
    moved = defect.moved(12 * scale, -18 * scale)
    assert Box.around(made.masks[0]) == moved and made.masks.sum() == images.masks.sum()
    assert made.regions is not None and made.valid is not None
    np.testing.assert_array_equal(made.regions, 2 * made.masks)
    counted = Box.around(made.valid[0])
    assert counted.top == (6 + 12) * scale and counted.meet(moved) == moved
    assert made.types == images.types and made.paths == images.paths and made.marked.all()


def test_a_defect_that_is_hidden_leaves_an_anomalous_image_without_a_mask() -> None:
    images = image_set(SQUARE, defect=Box(40, 2, 44, 6))
    made = CanvasStage("mask").of(images)
    assert made.labels.all() and not made.masks.any() and not made.marked.any()
    assert made.regions is not None and not made.regions.any()
    half = image_set(SQUARE, defect=Box(SQUARE.top, SQUARE.left - 15, 12, SQUARE.left + 5))
    seen = CanvasStage("mask").of(half)
    assert seen.marked.all() and 0 < seen.masks.sum() < half.masks.sum()
    assert seen.valid is not None and (seen.masks <= seen.valid).all()


def test_where_only_padding_is_shown_it_counts() -> None:
    images = image_set(SQUARE)
    valid = np.zeros(images.masks.shape, dtype=bool)
    valid[:, 40:] = True
    made = CanvasStage("mask").of(replace(images, valid=valid))
    assert made.valid is not None and made.valid[0][SQUARE.slices].all()


def test_sets_are_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    looked = []
    monkeypatch.setattr(stages, "_known", {})
    real = stages.find_object
    monkeypatch.setattr(stages, "find_object", lambda image: looked.append(1) or real(image))
    way = CanvasStage("mask", 0.25)
    images = image_set(SQUARE.moved(1, 1), SQUARE.moved(2, 2))
    made = way.of(images)
    assert way.of(images) is made and len(looked) == 2
    # Another stage, and whoever asks for the same pictures, needs no other look.
    CanvasStage("centre").of(images)
    way.all_seen(images.pixels)
    assert len(looked) == 2
    way.seen(images.pixels[0])
    assert len(looked) == 3
    key = (id(images), way)
    assert key in stages._made
    del images
    assert key not in stages._made

    monkeypatch.setattr(store, "LARGE", 1)
    monkeypatch.setenv("AUTOSEARCH_CACHE", str(tmp_path))
    first, second = (way.of(image_set(SQUARE, SQUARE.moved(3, 0))) for _ in range(2))
    assert first.place is not None and first.place == second.place
    np.testing.assert_array_equal(first.pixels[0], way.seen(picture())[0])
    other = CanvasStage("mask", 0.75).of(image_set(SQUARE, SQUARE.moved(3, 0)))
    assert other.place != first.place


def test_no_more_masks_are_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "_known", {})
    monkeypatch.setattr(stages, "_KEPT", 3 * CANVAS[0] * CANVAS[1] // 8)
    way = CanvasStage("mask")
    for move in range(12):
        place = way.seen(picture(SQUARE.moved(move, 0)), again=True)[1]
        assert place.shown is not None and place.shown[SQUARE.moved(move, 0).slices].all()
        assert len(stages._known) <= 4


@pytest.mark.parametrize(
    "plain",
    [
        {"stage": "crop", "background": 0},
        {"stage": "mask", "background": 2},
        {"stage": "mask"},
        {"stage": "mask", "background": None},
        [],
    ],
)
def test_as_json(plain: Any) -> None:
    way = CanvasStage("centre", 0.5)
    assert CanvasStage.from_plain(way.to_plain()) == way
    with pytest.raises(ValueError, match="stage"):
        CanvasStage.from_plain(plain)
