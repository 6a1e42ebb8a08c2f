"""A detector's answer to a split, and the ground truth that it is held against."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray

from autosearch.contracts import Detector, shared_tensor
from autosearch.data import NORMAL, ImageSet
from autosearch.metrics import Truth


def truth_of(images: ImageSet, chosen: NDArray[np.intp] | None = None) -> Truth:
    """What metrics need to know of a split, or of some of its images.

    Args:
        images: The split.
        chosen: ``(M,)`` positions of the images; None for all.
    """
    counted, regions = images.counted, images.regions
    if chosen is None:
        return Truth.from_masks(images.masks, images.types, regions, NORMAL, counted)
    regions = None if regions is None else regions[chosen]
    counted = None if counted is None else counted[chosen]
    types = [images.types[i] for i in chosen]
    return Truth.from_masks(images.masks[chosen], types, regions, NORMAL, counted)


def maps_of(detector: Detector, images: ImageSet) -> NDArray[np.float32]:
    """Anomaly maps of a split at the size of its masks.

    Returns:
        ``(N, h, w)``; where nothing is to be scored, the lowest value of the image, so that its
        highest one is that of a pixel that counts.
    """
    maps = detector.anomaly_maps(shared_tensor(images.pixels))
    size = images.masks.shape[1:]
    if maps.shape[1:] != size:
        maps = F.interpolate(maps[:, None], size, mode="bilinear", antialias=True)[:, 0]
    found: NDArray[np.float32] = maps.numpy()
    if images.valid is None:
        return found
    lowest = np.where(images.valid, found, np.inf).min(axis=(1, 2), keepdims=True)
    return np.where(images.valid, found, lowest)


def counted_pixels(
    maps: NDArray[np.float32], truth: Truth
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scores and labels of all pixels that count, flat."""
    if truth.counted is None:
        return maps.ravel(), truth.masks.ravel()
    return maps[truth.counted], truth.masks[truth.counted]
