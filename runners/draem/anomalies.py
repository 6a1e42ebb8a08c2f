"""What DRAEM learns from: normal images, turned now and then, half of them with an anomaly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from autosearch.data import ImageSet
from autosearch.synthesis import TextureSource, blend, draw_mask, draw_texture

from .operations import TEXTURE_OPS

_TURNED = 0.3
"""Share of images that are rotated."""
_CLEAN = 0.5
"""Share of images without an anomaly."""


@dataclass(frozen=True)
class AnomalySettings:
    """How training images are made.

    Attributes:
        texture_ops: Which operations textures are varied by, of `TEXTURE_OPS`.
        n_texture_ops: How many of them.
        blend_max: The share of the original below a mask is drawn evenly from 0 to this.
        perlin_max_exp: Noise has ``2**e`` periods per axis, ``e`` from 0 to this.
        perlin_threshold: Noise above it is anomalous.
        rotation_degrees: Some images are turned by up to so much, either way.
    """

    texture_ops: str = "original"
    n_texture_ops: int = 3
    blend_max: float = 0.8
    perlin_max_exp: int = 5
    perlin_threshold: float = 0.5
    rotation_degrees: float = 90.0


@dataclass(frozen=True)
class Batch:
    """Images to learn from.

    Attributes:
        normal: ``(B, 3, H, W)`` in [0, 1], without anomalies.
        seen: The same with anomalies on some.
        masks: ``(B, H, W)`` bool, true on anomalies.
        counted: ``(B, H, W)`` bool, where pixels count; None for all.
    """

    normal: Tensor
    seen: Tensor
    masks: Tensor
    counted: Tensor | None


class Anomalies:
    """Makes batches of the training images.

    Args:
        train: Normal images.
        settings: How.
        textures: Where foreign texture comes from.
    """

    def __init__(
        self, train: ImageSet, settings: AnomalySettings, textures: TextureSource
    ) -> None:
        self._pixels, self._valid = train.pixels, train.valid
        self._settings, self._textures = settings, textures

    def batch(self, indices: NDArray[np.intp], rng: np.random.Generator) -> Batch:
        """Some images, each rotated with probability 0.3 and then clean with probability 0.5."""
        normal, seen, masks, counted = [], [], [], []
        for index in indices:
            image, valid = self._turned(int(index), rng)
            anomalous, mask = self._anomalous(image, valid, rng)
            normal.append(image)
            seen.append(anomalous)
            masks.append(mask)
            if valid is not None:
                counted.append(valid)
        return Batch(
            torch.from_numpy(np.stack(normal)),
            torch.from_numpy(np.stack(seen)),
            torch.from_numpy(np.stack(masks)),
            torch.from_numpy(np.stack(counted)) if counted else None,
        )

    def _turned(
        self, index: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """An image and where it counts; turned images have mirrored borders, and no black ones."""
        image, most = self._pixels[index], self._settings.rotation_degrees
        valid = None if self._valid is None else self._valid[index]
        if most == 0 or rng.random() >= _TURNED:
            return image, valid
        degrees = rng.uniform(-most, most)
        if valid is not None:
            valid = rotated(valid[None].astype(np.float32), degrees, "nearest")[0] > 0.5
        return rotated(image, degrees), valid

    def _anomalous(
        self,
        image: NDArray[np.float32],
        valid: NDArray[np.bool_] | None,
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The image with an anomaly where it counts, or clean, and the anomaly's mask."""
        settings, size = self._settings, (image.shape[1], image.shape[2])
        if rng.random() < _CLEAN:
            return image, np.zeros(size, dtype=bool)
        where = np.ones(size, dtype=bool) if valid is None else valid
        mask = draw_mask(
            where, settings.perlin_max_exp, settings.perlin_threshold, 1, rng, mixed=False
        ).mask
        known = TEXTURE_OPS[settings.texture_ops]
        texture = draw_texture(self._textures, size, settings.n_texture_ops, rng, known)
        return blend(image, texture, mask, rng.uniform(0, settings.blend_max)), mask


def rotated(
    image: NDArray[np.float32], degrees: float, mode: str = "bilinear"
) -> NDArray[np.float32]:
    """Turn an image around its middle, against the clock; what comes in from outside is mirrored.

    Args:
        image: ``(C, H, W)``.
        degrees: How far.
        mode: ``bilinear`` or ``nearest``.
    """
    _, height, width = image.shape
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # In coordinates from -1 to 1 a step along rows is another number of pixels than one along
    # columns.
    places = torch.tensor([[cos, -sin * height / width, 0], [sin * width / height, cos, 0]])
    grid = F.affine_grid(places[None], [1, 1, height, width], align_corners=False)
    found = F.grid_sample(
        torch.tensor(image)[None], grid, mode, padding_mode="reflection", align_corners=False
    )
    return np.asarray(found[0].numpy())
