"""Made-up images to try a detector on."""

from __future__ import annotations

import numpy as np

from autosearch.data import NORMAL, ImageSet, Size


def image_set(side: int | Size, normal: int, anomalous: int, seed: int) -> ImageSet:
    """Diagonal stripes with a shift and noise of their own, and dark squares for defects.

    Anomalous images come first. Arrays are read-only, as those of a search are.

    Args:
        side: Of the square images in pixels, or their height and width; at least 16.
        normal: Number of images without a defect.
        anomalous: Number of images with one.
        seed: Of all draws.
    """
    rng, count = np.random.default_rng(seed), anomalous + normal
    height, width = (side, side) if isinstance(side, int) else side
    y, x = np.mgrid[:height, :width]
    waves = np.sin((x + y) / 3 + rng.uniform(0, 0.5, (count, 1, 1)))
    noise = 0.03 * rng.standard_normal((count, 3, height, width))
    pixels = (0.6 + 0.1 * waves[:, None] + noise).clip(0, 1).astype(np.float32)
    masks = np.zeros((count, height, width), dtype=bool)
    size = min(height, width) // 4
    for mask, image in zip(masks[:anomalous], pixels, strict=False):
        top, left = rng.integers(0, (height - size, width - size))
        mask[top : top + size, left : left + size] = True
        image[:, mask] = 0.1
    for array in (pixels, masks):
        array.setflags(write=False)
    names = tuple(f"{index}.png" for index in range(count))
    types = ("stain",) * anomalous + (NORMAL,) * normal
    return ImageSet(pixels, masks, types, names, names)
