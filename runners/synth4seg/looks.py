"""What the location net says as it learns, of a few training images at a few moments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .outer import OuterParameters

_MOMENTS, _IMAGES, _SIDE = 5, 4, 64
"""Moments at which location maps are kept, of how many images, and their largest side."""


@dataclass(frozen=True)
class LocationMaps:
    """What the location net said after so many epochs.

    Attributes:
        epoch: Epochs done, 0 for none.
        images: Indices of the training images.
        maps: ``(n, h, w)`` float32 probabilities, up to 64 pixels a side.
    """

    epoch: int
    images: tuple[int, ...]
    maps: NDArray[np.float32]


def moments(epochs: int) -> set[int]:
    """Epochs after which to look, evenly spread, from 0 to the last."""
    return {round(part * epochs / (_MOMENTS - 1)) for part in range(_MOMENTS)}


def look(outer: OuterParameters, images: Tensor, device: str, epoch: int) -> LocationMaps:
    """Location maps as they are now.

    Args:
        outer: Knows the location net.
        images: ``(N, 3, H, W)`` in [0, 1], all training images; the same few are looked at always.
        device: Of the location net.
        epoch: Epochs done.
    """
    indices = np.linspace(0, len(images) - 1, min(_IMAGES, len(images))).round().astype(int)
    chosen = images[torch.from_numpy(indices)].to(device)
    return LocationMaps(epoch, tuple(indices.tolist()), outer.small_maps(chosen, _SIDE))
