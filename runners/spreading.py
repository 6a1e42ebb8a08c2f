"""From scores of a patch grid to smooth maps of the images' size."""

from __future__ import annotations

import numpy as np
import scipy
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn


class Spreading(nn.Module):
    """Resizes and smooths scores.

    Both are linear along rows and columns, whatever the rule at the border, so together they are
    one small matrix applied from two sides.

    Args:
        grid: Rows and columns of the patch grid.
        size: Height and width of the images.
        sigma: Of the Gaussian in pixels; 0 for none.
    """

    down: Tensor
    along: Tensor

    def __init__(self, grid: tuple[int, int], size: tuple[int, int], sigma: float) -> None:
        super().__init__()
        self.register_buffer("down", spreading(grid[0], size[0], sigma), persistent=False)
        self.register_buffer("along", spreading(grid[1], size[1], sigma), persistent=False)

    def forward(self, scores: Tensor) -> Tensor:
        """``(N, h, w)`` to ``(N, H, W)``."""
        return self.down @ scores @ self.along.T

    def flops(self) -> int:
        """Operations for one image."""
        (height, rows), (width, columns) = self.down.shape, self.along.shape
        return 2 * height * columns * (rows + width)


def spreading(grid: int, size: int, sigma: float) -> Tensor:
    """Resize and smooth one axis, ``(size, grid)``.

    Bilinear (``align_corners=False``) to ``size``, then a Gaussian that ends at four ``sigma`` and
    sees the axis mirrored at its ends, end points repeated.
    """
    resized = F.interpolate(torch.eye(grid)[None], size=size, mode="linear", align_corners=False)
    matrix: NDArray[np.float64] = resized[0].T.double().numpy()
    if sigma:
        matrix = scipy.ndimage.gaussian_filter1d(matrix, sigma, axis=0, mode="reflect")
    return torch.from_numpy(matrix).float()
