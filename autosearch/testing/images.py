"""Made-up images to try a detector on."""

from __future__ import annotations

import numpy as np

from autosearch.data import NORMAL, ImageSet


def image_set(side: int, normal: int, anomalous: int, seed: int) -> ImageSet:
    """Diagonal stripes with a shift and noise of their own, and dark squares for defects.

    Anomalous images come first. Arrays are read-only, as those of a search are.

    Args:
        side: Of the square images in pixels, at least 16.
        normal: Number of images without a defect.
        anomalous: Number of images with one.
        seed: Of all draws.
    """
    rng, count = np.random.default_rng(seed), anomalous + normal
    y, x = np.mgrid[:side, :side]
    waves = np.sin((x + y) / 3 + rng.uniform(0, 0.5, (count, 1, 1)))
    noise = 0.03 * rng.standard_normal((count, 3, side, side))
    pixels = (0.6 + 0.1 * waves[:, None] + noise).clip(0, 1).astype(np.float32)
    masks = np.zeros((count, side, side), dtype=bool)
    width = side // 4
    for mask, image in zip(masks[:anomalous], pixels, strict=False):
        top, left = rng.integers(0, side - width, 2)
        mask[top : top + width, left : left + width] = True
        image[:, mask] = 0.1
    for array in (pixels, masks):
        array.setflags(write=False)
    names = tuple(f"{index}.png" for index in range(count))
    types = ("stain",) * anomalous + (NORMAL,) * normal
    return ImageSet(pixels, masks, types, names, names)
