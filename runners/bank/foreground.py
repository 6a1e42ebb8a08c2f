"""Which patches of an image show its object, by their first principal component.

After AnomalyDINO (arXiv 2405.14529): tokens of transformers trained without labels part an object
from a plain background along the direction in which they differ most. For objects on a background
alone: where a texture fills the image, there is none.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SQUARED = 6
"""Times that the covariance is squared, which makes its 64th power: where the second variance is
nine tenths of the first, a thousandth of the second direction is left."""
_BORDER, _LEAST = 0.2, 0.35
"""Shares: of a side that is no middle at each end, and of the middle that is foreground at least.
"""


class Foreground(nn.Module):
    """Patches to a mask of those that show the object.

    The first principal component of the image's own patches is above the threshold there. Which
    of its two directions is up is not told: here it is the one along the mean of the patches, and
    the other where no more than 35 % of the middle of the image were foreground. The mask is then
    dilated and closed by squares of 3 x 3 patches.

    The published component is that of a decomposition for every image, which no graph holds. Here
    it comes from a power of the covariance, applied to the mean of the patches: 64 steps of a
    power iteration in a few products.

    Args:
        grid: Rows and columns of patches.
        threshold: In the unit of the patches.
    """

    middle: Tensor

    def __init__(self, grid: tuple[int, int], threshold: float) -> None:
        super().__init__()
        self._grid, self._threshold = grid, threshold
        height, width = grid
        middle = torch.zeros(grid, dtype=torch.bool)
        rows, columns = (
            slice(int(side * _BORDER), int(side * (1 - _BORDER))) for side in (height, width)
        )
        middle[rows, columns] = True
        self._enough = _LEAST * float(middle.sum())
        self.register_buffer("middle", middle.flatten().float(), persistent=False)

    def forward(self, patches: Tensor) -> Tensor:
        """``(N, P, d)`` to ``(N, P)`` float, 1 for the object and 0 for the background."""
        component = first_component(patches)
        up = (component > self._threshold).to(patches.dtype)
        down = (-component > self._threshold).to(patches.dtype)
        inside = (up * self.middle).sum(1, keepdim=True)
        mask = torch.where(inside > self._enough, up, down)
        mask = F.max_pool2d(mask.view(-1, 1, *self._grid), 3, 1, 1)
        # Closing: what lies outside of the image counts for neither.
        mask = F.max_pool2d(mask, 3, 1, 1)
        mask = 1 - F.max_pool2d(1 - mask, 3, 1, 1)
        return mask.flatten(1)

    def flops(self, size: int) -> int:
        """Operations for one image with patches of so many numbers."""
        return 2 * size * size * (self._grid[0] * self._grid[1] + _SQUARED * size)


def first_component(patches: Tensor) -> Tensor:
    """``(N, P, d)`` to the ``(N, P)`` first principal components of each image's patches.

    They are positive along the mean of the patches.
    """
    mean = patches.mean(1, keepdim=True)
    centred = patches - mean
    power = _of_trace_one(centred.transpose(1, 2) @ centred)
    for _ in range(_SQUARED):
        power = _of_trace_one(power @ power)
    # A symmetric positive matrix never turns a vector away from where it pointed.
    direction = F.normalize(power @ mean.transpose(1, 2), dim=1)
    return (centred @ direction)[..., 0]


def _of_trace_one(matrices: Tensor) -> Tensor:
    """``(N, d, d)`` scaled so that powers stay within what numbers hold; 0 stays."""
    traces = (matrices * torch.eye(matrices.shape[1], device=matrices.device)).sum((1, 2))
    return matrices / traces.clamp(min=torch.finfo(torch.float32).tiny)[:, None, None]
