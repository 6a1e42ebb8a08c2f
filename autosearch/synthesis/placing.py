"""Where anomalies may lie, and where they are known, if not all pixels of an image count."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autosearch.data import ImageSet, resize_mask

Places = NDArray[np.bool_] | None
"""``(..., H, W)`` bool; None for everywhere."""


def places(wanted: Places, valid: Places) -> Places:
    """Of the places that are wanted, those that count.

    Args:
        wanted: Of one image or of several, such as its foreground.
        valid: The same shape, true where pixels count.

    Returns:
        The same shape; all that counts in an image of which nothing that is wanted does.
    """
    if wanted is None or valid is None:
        return valid if wanted is None else wanted
    both = wanted & valid
    return np.where(both.any(axis=(-2, -1), keepdims=True), both, valid)


def at_input(images: ImageSet) -> tuple[NDArray[np.bool_], Places]:
    """Masks, and where pixels count, at the size of the images, whatever that of the masks is.

    Returns:
        Two of ``(N, H, W)`` bool. The first is true on anomalous pixels that count, the second
        None if all do.
    """
    size = images.pixels.shape[2:]
    masks, counted = _resized(images.masks, size), images.counted
    if counted is None:
        return masks, None
    counted = _resized(counted, size)
    return masks & counted, counted


def _resized(masks: NDArray[np.bool_], size: tuple[int, ...]) -> NDArray[np.bool_]:
    if masks.shape[1:] == size:
        return masks
    found = [resize_mask(mask, (size[0], size[1])) for mask in masks]
    return np.array(found, dtype=bool).reshape(len(masks), *size)
