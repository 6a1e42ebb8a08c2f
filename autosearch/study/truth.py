"""A detector's answer to a split, and the ground truth that it is held against."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from autosearch.contracts import Beside, Detector, shared_tensor
from autosearch.data import NORMAL, ImageSet, SearchData
from autosearch.metrics import Truth

_PIXELS_AT_ONCE = 16 * 224 * 224
"""Of input: what is kept of features while they are searched for grows with them."""


def truth_of(images: ImageSet, chosen: NDArray[np.intp] | None = None) -> Truth:
    """What metrics need to know of a split, or of some of its images.

    Args:
        images: The split.
        chosen: ``(M,)`` positions of the images; None for all.
    """
    counted, regions = images.counted, images.regions
    valid = images.valid
    if chosen is None:
        return Truth.from_masks(images.masks, images.types, regions, NORMAL, counted, valid)
    regions = None if regions is None else regions[chosen]
    counted, valid = (None if pixels is None else pixels[chosen] for pixels in (counted, valid))
    types = [images.types[i] for i in chosen]
    return Truth.from_masks(images.masks[chosen], types, regions, NORMAL, counted, valid)


def truth_beside(data: SearchData) -> Truth | None:
    """Truth of `autosearch.contracts.Beside`; None where nothing was made beside validation."""
    if data.made is None:
        return None
    parts = (data.val.select(~data.val.labels), data.made)

    def together(arrays: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
        known = [array for array in arrays if array is not None]
        return np.concatenate(known) if len(known) == len(arrays) else None

    masks = np.concatenate([part.masks for part in parts])
    types = [kind for part in parts for kind in part.types]
    regions, counted, valid = (
        together([getattr(part, name) for part in parts])
        for name in ("regions", "counted", "valid")
    )
    return Truth.from_masks(masks, types, regions, NORMAL, counted, valid)


Ask = Callable[[Detector, ImageSet], NDArray[np.float32]]
"""`maps_of`, or what stands for it."""


def beside_of(
    detector: Detector, data: SearchData, truth: Truth | None, ask: Ask | None = None
) -> Beside | None:
    """What a detector answers to the anomalies made beside validation.

    Args:
        detector: Fitted.
        data: What it was fitted and is measured on.
        truth: See `truth_beside`.
        ask: Gives the maps; None for `maps_of`.
    """
    if data.made is None or truth is None:
        return None
    return Beside((ask or maps_of)(detector, data.made), truth)


def maps_of(detector: Detector, images: ImageSet) -> NDArray[np.float32]:
    """Anomaly maps of a split at the size of its masks; see `maps_by`."""
    return maps_by(detector.anomaly_maps, images)


def maps_by(ask: Callable[[Tensor], Tensor], images: ImageSet) -> NDArray[np.float32]:
    """Anomaly maps of a split at the size of its masks.

    Args:
        ask: ``(n, 3, H, W)`` images to their ``(n, H, W)`` maps, asked for `parts_of` in turn.
        images: The split.

    Returns:
        ``(N, h, w)``; where nothing is to be scored, the lowest value of the image, so that its
        highest one is that of a pixel that counts.
    """
    found, start = np.empty(images.masks.shape, dtype=np.float32), 0
    for part in parts_of(images):
        maps = ask(shared_tensor(part.pixels))
        if maps.shape[1:] != found.shape[1:]:
            size = found.shape[1:]
            maps = F.interpolate(maps[:, None], size, mode="bilinear", antialias=True)[:, 0]
        found[start : start + len(part)] = maps
        if part.valid is not None:
            for one, valid in zip(found[start:], part.valid, strict=False):
                one[~valid] = (one[valid] if valid.any() else one).min()
        start += len(part)
    return found


def parts_of(images: ImageSet) -> Iterator[ImageSet]:
    """A split in parts of few enough images to be asked for at once."""
    height, width = images.pixels.shape[2:]
    step = max(1, _PIXELS_AT_ONCE // (height * width))
    for start in range(0, len(images), step):
        yield images.part(start, min(start + step, len(images)))


def counted_pixels(
    maps: NDArray[np.float32], truth: Truth
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scores and labels of all pixels that count, flat."""
    if truth.counted is None:
        return maps.ravel(), truth.masks.ravel()
    return maps[truth.counted], truth.masks[truth.counted]
