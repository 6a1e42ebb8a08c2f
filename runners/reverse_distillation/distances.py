"""How far a student's maps are from its teacher's: in training, and as an anomaly map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..frozen_maps import mean_where
from ..spreading import Spreading

Compared = Literal["cell", "map"]
MapMode = Literal["add", "multiply"]

_LEAST = 1e-12
"""Squared length below which a vector counts as that long."""


def cosine_distances(wanted: Tensor, found: Tensor, dims: tuple[int, ...] = (1,)) -> Tensor:
    """One minus the cosine of vectors, in [0, 2]; 1 of a vector of zeros.

    Args:
        wanted: ``(N, C, h, w)``.
        found: The same shape.
        dims: Dimensions that form a vector: the channels of a cell, or all of an image.

    Returns:
        What is left of the dimensions, float32.
    """
    # Sums over a whole map are too much for half precision.
    wanted, found = wanted.float(), found.float()
    lengths = [(one * one).sum(dims).clamp(min=_LEAST).sqrt() for one in (wanted, found)]
    distances = 1 - (wanted * found).sum(dims) / (lengths[0] * lengths[1])
    return distances.clamp(min=0)


def level_loss(
    wanted: Tensor, found: Tensor, counted: Tensor | None, compared: Compared
) -> Tensor:
    """Mean distance of the maps of one level, a scalar, over what counts; 0 where nothing does.

    Args:
        wanted: ``(N, C, h, w)`` of the teacher.
        found: The same of the student.
        counted: ``(N, h, w)`` bool, cells that count; None for all.
        compared: The vectors of every ``cell``, as in the paper's equations, or those that whole
            maps are, as in the released code, where cells of long vectors weigh more.
    """
    if compared == "cell":
        return mean_where(cosine_distances(wanted, found), counted)
    some = None
    if counted is not None:
        inside = counted[:, None].to(wanted)
        wanted, found, some = wanted * inside, found * inside, counted.any(dim=(1, 2))
    return mean_where(cosine_distances(wanted, found, (1, 2, 3)), some)


class DistanceMaps(nn.Module):
    """Cosine distances of all cells as one map of the image's size.

    Distances are resized, added or multiplied over levels, and smoothed.

    Args:
        grids: Rows and columns of every level.
        size: Height and width of the images.
        mode: The paper's code adds; anomalib multiplies, so that all levels must agree.
        sigma: Of the Gaussian in pixels; 0 for none.
    """

    def __init__(
        self,
        grids: Sequence[tuple[int, int]],
        size: tuple[int, int],
        mode: MapMode,
        sigma: float,
    ) -> None:
        super().__init__()
        # Smoothing goes with a sum, level by level, but not with a product.
        self.multiply = mode == "multiply" and len(grids) > 1
        own = 0.0 if self.multiply else sigma
        self.spreadings = nn.ModuleList(Spreading(grid, size, own) for grid in grids)
        after = self.multiply and sigma > 0
        self.smoothing = Spreading(size, size, sigma) if after else nn.Identity()

    def forward(self, wanted: Sequence[Tensor], found: Sequence[Tensor]) -> Tensor:
        """``(N, C, h, w)`` maps of every level and their likes to ``(N, H, W)``, at least 0."""
        levels = torch.stack(
            [
                spread(cosine_distances(own, like))
                for spread, own, like in zip(self.spreadings, wanted, found, strict=True)
            ]
        )
        maps: Tensor = self.smoothing(levels.prod(dim=0) if self.multiply else levels.sum(dim=0))
        return maps
