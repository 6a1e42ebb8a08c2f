"""Do normal features lie near a manifold or inside a hypersphere? A look at the mean image.

GLASS, section 3.2 and its released code: images of one aligned object have an average with few low
frequencies, which show as a small dense spot in the middle of its spectrum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage

Hypothesis = Literal["manifold", "hypersphere"]

_SIDE, _BLUR = 289, 39
_GREY = np.array([0.299, 0.587, 0.114])
_BRIGHT = 170.0
"""Of ``20 ln |F|``."""
_LEAST_DENSITY, _LEAST_RADIUS, _LEAST_COUNT = 0.21, 12.0, 60


@dataclass(frozen=True)
class BrightSpot:
    """The bright points of a spectrum, around its centre.

    Attributes:
        count: How many.
        radius: Largest distance from the centre, in points.
        box_density: Their share of a box of twice the largest extents.
        disc_density: Their share of the grid points within the radius.
    """

    count: int
    radius: float
    box_density: float
    disc_density: float

    @property
    def hypothesis(self) -> Hypothesis:
        """A hypersphere if the spot is dense, wide and has many points; else a manifold."""
        dense = max(self.box_density, self.disc_density) > _LEAST_DENSITY
        wide = self.radius > _LEAST_RADIUS and self.count > _LEAST_COUNT
        return "hypersphere" if dense and wide else "manifold"


def judge(pixels: NDArray[np.float32], valid: NDArray[np.bool_] | None = None) -> Hypothesis:
    """Choose the hypothesis for a category.

    Args:
        pixels: ``(N, 3, H, W)`` normal training images, RGB in [0, 1], N at least 1.
        valid: ``(N, H, W)`` bool, pixels that count, some at least; None for all.
    """
    return bright_spot(average_image(pixels, valid)).hypothesis


def average_image(
    pixels: NDArray[np.float32], valid: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """Mean of ``(N, 3, H, W)`` images in [0, 1], every image counting the same: ``(3, H, W)``.

    Where pixels count in no image, it has the mean colour of the rest.
    """
    if valid is None:
        mean = pixels.mean(axis=0, dtype=np.float64)
    else:
        counts = valid.sum(axis=0)
        totals = np.einsum("nchw,nhw->chw", pixels, valid, dtype=np.float64)
        mean = totals / counts.clip(min=1)
        mean[:, counts == 0] = mean[:, counts > 0].mean(axis=1, keepdims=True)
    average: NDArray[np.uint8] = np.rint(mean.clip(0, 1) * 255).astype(np.uint8)
    return average


def bright_spot(image: NDArray[np.uint8]) -> BrightSpot:
    """Find the bright points in the spectrum of a blurred image.

    Args:
        image: ``(3, H, W)`` RGB. One without any bright point, such as a black one, has a count,
            radius and densities of 0.
    """
    spectrum = np.fft.fftshift(np.fft.fft2(_blurred(image)))
    # An amplitude of zero has no logarithm, so the limit is brought to the amplitudes instead.
    rows, columns = np.nonzero(np.abs(spectrum) > np.exp(_BRIGHT / 20))
    if not len(rows):
        return BrightSpot(0, 0.0, 0.0, 0.0)
    centre = _SIDE // 2
    dy, dx = rows - centre, columns - centre
    squared = int((dy**2 + dx**2).max())
    box = 4 * max(int(np.abs(dx).max()), 1) * max(int(np.abs(dy).max()), 1)
    along = np.arange(_SIDE) - centre
    disc = int((along[:, None] ** 2 + along**2 <= squared).sum())
    return BrightSpot(len(rows), squared**0.5, len(rows) / box, len(rows) / disc)


def _blurred(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Grey, 289 pixels a side, box-blurred; in whole numbers after each step, as 8-bit images."""
    pixels = torch.from_numpy(image.astype(np.float64))[None]
    resized = F.interpolate(pixels, (_SIDE, _SIDE), mode="bilinear", align_corners=False)
    grey = np.rint(np.tensordot(_GREY, np.rint(resized[0].numpy()), axes=1))
    blurred: NDArray[np.float64] = ndimage.uniform_filter(grey, _BLUR, mode="mirror")
    return np.rint(blurred)
