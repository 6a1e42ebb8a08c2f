"""FastFlow's network: couplings of one map's channels, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from autosearch.data import Size

from ..flows.coupling import Permutation, scaled, unscaled
from ..flows.detector import Flow
from ..spreading import Spreading

_EPS = 1e-5
"""Added to variances, which may be 0."""


def layer_normalised(maps: Tensor) -> Tensor:
    """Every image's map to mean 0 and variance 1 over channels, rows and columns together.

    Nothing of it is learnt: a scale that is would need its share of the log-determinant. It is
    written in operations that old runtimes have.
    """
    every = (1, 2, 3)
    centred = maps - maps.mean(dim=every, keepdim=True)
    return centred * (centred.square().mean(dim=every, keepdim=True) + _EPS).rsqrt()


class Step(nn.Module):
    """A permutation of channels, then one half of them scaled and shifted by the other.

    The last convolution starts at zero, so that an untrained step only permutes.

    Args:
        channels: Of the map, at least 2.
        kernel: Side of both convolutions of the conditioner.
        hidden: Channels between them.
        clamp: Bound of the logarithm of a scale.
        rng: Source of the permutation.
    """

    def __init__(
        self, channels: int, kernel: int, hidden: int, clamp: float, rng: np.random.Generator
    ) -> None:
        super().__init__()
        self.kept, self.clamp = channels // 2, clamp
        self.permutation = Permutation(channels, rng)
        last = nn.Conv2d(hidden, 2 * (channels - self.kept), kernel, padding=kernel // 2)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        first = nn.Conv2d(self.kept, hidden, kernel, padding=kernel // 2)
        self.conditioner = nn.Sequential(first, nn.ReLU(), last)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, C, h, w)`` to the same shape, and ``(N, h, w)`` of its log-determinant."""
        permuted = self.permutation(maps)
        kept, moved = permuted[:, : self.kept], permuted[:, self.kept :]
        moved, log_determinant = scaled(moved, self.conditioner(kept), self.clamp)
        return torch.cat([kept, moved], dim=1), log_determinant

    def inverse(self, maps: Tensor) -> Tensor:
        """Undo `forward`."""
        kept, moved = maps[:, : self.kept], maps[:, self.kept :]
        moved = unscaled(moved, self.conditioner(kept), self.clamp)
        restored: Tensor = self.permutation.inverse(torch.cat([kept, moved], dim=1))
        return restored


class LevelFlow(nn.Module):
    """Steps one after the other.

    Args:
        steps: At least one.
    """

    def __init__(self, steps: Iterable[Step]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, C, h, w)`` to the same shape, and ``(N, h, w)`` of its log-determinant."""
        total = torch.zeros_like(maps[:, 0])
        for step in self.steps:
            maps, log_determinant = step(maps)
            total = total + log_determinant
        return maps, total

    def inverse(self, maps: Tensor) -> Tensor:
        """Undo `forward`."""
        for step in reversed(list(cast(Iterable[Step], self.steps))):
            maps = step.inverse(maps)
        return maps


class FastFlow(Flow):
    """A flow of its own for every level.

    Args:
        channels: Of every level's map.
        steps: Couplings of each flow.
        hidden_ratio: Hidden channels of a conditioner as a share of those it reads.
        clamp: Bound of the logarithm of a scale.
        only_3x3: Whether every kernel is 3 x 3; else every second step has 1 x 1, as published for
            large backbones.
        seed: Of the permutations.
    """

    def __init__(
        self,
        channels: Sequence[int],
        steps: int,
        hidden_ratio: float,
        clamp: float,
        only_3x3: bool,
        seed: int,
    ) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        kernels = [3 if only_3x3 or number % 2 == 0 else 1 for number in range(steps)]
        hidden = [hidden_channels(count, hidden_ratio) for count in channels]
        self.levels = nn.ModuleList(
            LevelFlow(Step(count, kernel, own, clamp, rng) for kernel in kernels)
            for count, own in zip(channels, hidden, strict=True)
        )
        self._per_cell = [
            steps * (4 * count + 2 * own) for count, own in zip(channels, hidden, strict=True)
        ]

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """See `Flow.forward`. Maps are normalised first, which the log-determinant leaves out."""
        pairs = zip(self.levels, maps, strict=True)
        found = [level(layer_normalised(one)) for level, one in pairs]
        return [z for z, _ in found], [log_determinant for _, log_determinant in found]

    def inverse(self, latent: list[Tensor]) -> list[Tensor]:
        """Undo `forward` up to the normalised maps."""
        levels = cast(Iterable[LevelFlow], self.levels)
        return [level.inverse(z) for level, z in zip(levels, latent, strict=True)]

    def kept_numbers(self, grids: list[Size]) -> int:
        """See `Flow.kept_numbers`."""
        return sum(
            numbers * height * width
            for numbers, (height, width) in zip(self._per_cell, grids, strict=True)
        )


class Improbability(nn.Module):
    """What comes out of the flows to one map: how improbable a cell is, the mean over levels.

    A cell's score is minus the exponential of the mean over channels of the logarithms of their
    standard normal densities, as published; their constant, which only scales the map, is left
    out, so that scores lie in [-1, 0].

    Args:
        grids: Rows and columns of every level.
        size: Height and width of the images.
    """

    def __init__(self, grids: Sequence[Size], size: Size) -> None:
        super().__init__()
        self.spreading = nn.ModuleList(Spreading(grid, size, 0) for grid in grids)

    def forward(self, latent: list[Tensor]) -> Tensor:
        """``(N, C, h, w)`` of every level to ``(N, H, W)``."""
        maps = [
            spread(-(-z.square().mean(dim=1) / 2).exp())
            for spread, z in zip(self.spreading, latent, strict=True)
        ]
        return torch.stack(maps).mean(dim=0)


def hidden_channels(channels: int, ratio: float) -> int:
    """Of a conditioner that reads half of some channels."""
    return max(1, round(ratio * (channels // 2)))
