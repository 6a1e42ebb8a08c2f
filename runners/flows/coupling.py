"""Affine couplings of maps, which can be inverted and whose log-determinants are exact.

Neither FrEIA (last released in 2022) nor normflows (2023) has a coupling whose conditioner sees
several maps at once, and both take the seeds of permutations from global random states, so the few
lines that the flows here need stand in this module.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

_STEEPNESS = 0.636
"""About 2 / pi: brings the arc tangent to (-1, 1)."""


def soft_clamp(values: Tensor, bound: float) -> Tensor:
    """Any numbers to such between plus and minus a bound, of about the same slope around 0."""
    return bound * _STEEPNESS * torch.atan(values / bound)


def scaled(maps: Tensor, coefficients: Tensor, clamp: float) -> tuple[Tensor, Tensor]:
    """Scale and shift every number of a map.

    Args:
        maps: ``(N, C, h, w)``.
        coefficients: ``(N, 2C, h, w)``, logarithms of the scales before the clamp, then shifts.
        clamp: Bound of the logarithms.

    Returns:
        ``(N, C, h, w)``, and ``(N, h, w)``, what a cell adds to the log-determinant.
    """
    logarithms, shifts = coefficients.chunk(2, dim=1)
    logarithms = soft_clamp(logarithms, clamp)
    return maps * logarithms.exp() + shifts, logarithms.sum(dim=1)


def unscaled(maps: Tensor, coefficients: Tensor, clamp: float) -> Tensor:
    """Undo `scaled`."""
    logarithms, shifts = coefficients.chunk(2, dim=1)
    return (maps - shifts) * (-soft_clamp(logarithms, clamp)).exp()


class Permutation(nn.Module):
    """Puts channels in another order, drawn once and never learnt.

    Args:
        channels: How many.
        rng: Source of the order.
    """

    order: Tensor
    back: Tensor

    def __init__(self, channels: int, rng: np.random.Generator) -> None:
        super().__init__()
        order = torch.from_numpy(rng.permutation(channels))
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """``(N, C, h, w)`` to the same shape."""
        return maps.index_select(1, self.order)

    def inverse(self, maps: Tensor) -> Tensor:
        """Undo `forward`."""
        return maps.index_select(1, self.back)


def negative_log_likelihood(
    latent: list[Tensor], log_determinants: list[Tensor], counted: list[Tensor] | None = None
) -> Tensor:
    """Half the sum of squares less the log-determinant, the mean over images.

    It lacks the constant of the normal density.

    Args:
        latent: ``(N, C, h, w)`` of every map.
        log_determinants: ``(N, h, w)`` of every map.
        counted: ``(N, h, w)`` bool of every map, the cells that are summed; None for all.
    """
    total = torch.zeros(len(latent[0]), device=latent[0].device)
    for index, (z, log_determinant) in enumerate(zip(latent, log_determinants, strict=True)):
        cells = z.square().sum(dim=1) / 2 - log_determinant
        if counted is not None:
            cells = cells * counted[index]
        total = total + cells.sum(dim=(1, 2))
    return total.mean()
