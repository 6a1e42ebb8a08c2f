"""Foreground masks of drawn objects, of textures and of real images."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from autosearch.data import foreground_mask, foreground_masks, read_image, resize

SIZE = 96


def disc(radius: float, middle: tuple[int, int] = (48, 48)) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE]
    return np.hypot(y - middle[0], x - middle[1]) <= radius


def picture(
    area: np.ndarray, colour: tuple[float, float, float], ground: float = 0.5, noise: float = 0.02
) -> np.ndarray:
    rng = np.random.default_rng(0)
    image = np.where(area, np.array(colour)[:, None, None], ground)
    return np.clip(image + rng.normal(0, noise, image.shape), 0, 1).astype(np.float32)


def overlap(found: np.ndarray, area: np.ndarray) -> float:
    return float((found & area).sum() / (found | area).sum())


@pytest.mark.parametrize(
    ("area", "colour", "ground"),
    [
        (disc(25), (0.9, 0.9, 0.9), 0.1),
        (disc(25), (0.1, 0.1, 0.1), 0.9),
        (disc(25), (0.8, 0.5, 0.5), 0.5),
        (disc(30, (48, 10)), (0.9, 0.9, 0.9), 0.1),
        (disc(10, (20, 20)) | disc(14, (65, 60)), (0.1, 0.6, 0.1), 0.8),
    ],
    ids=["bright", "dark", "by colour alone", "crossing the border", "two parts"],
)
def test_an_object_on_plain_ground_is_found_to_a_pixel(
    area: np.ndarray, colour: tuple[float, float, float], ground: float
) -> None:
    found = foreground_mask(picture(area, colour, ground))
    assert not (found & ~ndimage.binary_dilation(area, np.ones((3, 3)))).any()
    assert not (ndimage.binary_erosion(area, np.ones((3, 3))) & ~found).any()


def test_holes_are_filled_and_specks_removed() -> None:
    ring = disc(30) & ~disc(15)
    ring[3:5, 80:82] = True
    found = foreground_mask(picture(ring, (0.9, 0.9, 0.9), 0.1))
    assert overlap(found, disc(30)) > 0.92
    assert not found[:10, 70:].any()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((3, SIZE, SIZE), np.float32),
        np.random.default_rng(0).random((3, SIZE, SIZE), dtype=np.float32),
        picture(disc(1), (1.0, 1.0, 1.0), 0.0),
        picture(disc(25), (0.54, 0.54, 0.54), 0.5),
        np.broadcast_to(np.linspace(0, 1, SIZE, dtype=np.float32), (3, SIZE, SIZE)),
        np.ones((3, 4, 4), np.float32),
    ],
    ids=["black", "noise", "speck", "too faint", "uneven border", "tiny"],
)
def test_all_is_foreground_where_nothing_stands_out(image: np.ndarray) -> None:
    found = foreground_mask(image)
    assert found.shape == image.shape[1:]
    assert found.all()


def test_a_single_odd_image_makes_no_object_of_a_texture() -> None:
    thing = picture(disc(25), (0.9, 0.9, 0.9), 0.1)
    texture = np.random.default_rng(1).random((3, SIZE, SIZE), dtype=np.float32)
    assert foreground_masks(np.stack([thing, texture, texture])).all()
    masks = foreground_masks(np.stack([thing, texture, thing]))
    assert [bool(mask.all()) for mask in masks] == [False, True, False]
    assert foreground_masks(np.empty((0, 3, 8, 8), np.float32)).shape == (0, 8, 8)


@pytest.mark.parametrize(
    ("folder", "share"),
    [
        ("mvtec_small/toothbrush_resplit_256", (0.25, 0.35)),
        ("magnetic_tile/magnetic_tile_mini", (1, 1)),
        ("crack_forest/asphalt", (1, 1)),
    ],
)
def test_real_images_are_told_apart(
    shared_data: Path, folder: str, share: tuple[float, float]
) -> None:
    paths = sorted((shared_data / folder / "train" / "good").iterdir())[::12][:6]
    masks = foreground_masks(np.stack([resize(read_image(path), (128, 128)) for path in paths]))
    assert share[0] <= masks.mean(axis=(1, 2)).min()
    assert masks.mean(axis=(1, 2)).max() <= share[1]
