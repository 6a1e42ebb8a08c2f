"""CS-Flow's network: couplings of three maps at once, whose conditioners see all of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autosearch.data import Size

from ..flows.coupling import Permutation, scaled, unscaled
from ..flows.detector import Flow
from ..spreading import Spreading
from .pyramid import SCALES

_SLOPE = 0.1
_KERNEL, _LAST_KERNEL = 3, 5


class CrossScale(nn.Module):
    """Three maps to three, each of which has seen its neighbours in scale.

    Every map passes a convolution and a leaky ReLU. A second convolution gives its own part of the
    output; one with stride 2 what it adds to the coarser scale, and one after bilinear enlarging
    what it adds to the finer. The sum is multiplied with a number per scale that starts at zero.

    Args:
        read: Channels of the maps.
        made: Channels of the outputs.
        hidden: Channels between.
        kernel: Side of all convolutions.
    """

    def __init__(self, read: int, made: int, hidden: int, kernel: int) -> None:
        super().__init__()

        def convolutions(count: int, read: int, made: int, stride: int = 1) -> nn.ModuleList:
            return nn.ModuleList(
                nn.Conv2d(read, made, kernel, stride, kernel // 2) for _ in range(count)
            )

        self.enter = convolutions(SCALES, read, hidden)
        self.activation = nn.LeakyReLU(_SLOPE)
        self.leave = convolutions(SCALES, hidden, made)
        self.to_coarser = convolutions(SCALES - 1, hidden, made, stride=2)
        self.to_finer = convolutions(SCALES - 1, hidden, made)
        self.gains = nn.ParameterList(torch.zeros(()) for _ in range(SCALES))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """``(N, read, h, w)`` of every scale, the finest first, to ``(N, made, h, w)``."""
        hidden = [self.activation(enter(one)) for enter, one in zip(self.enter, maps, strict=True)]
        made = [leave(one) for leave, one in zip(self.leave, hidden, strict=True)]
        for scale in range(SCALES - 1):
            finer, coarser = hidden[scale], hidden[scale + 1]
            larger = F.interpolate(coarser, scale_factor=2.0, mode="bilinear", align_corners=False)
            made[scale] = made[scale] + self.to_finer[scale](larger)
            made[scale + 1] = made[scale + 1] + self.to_coarser[scale](finer)
        return [gain * one for gain, one in zip(self.gains, made, strict=True)]


class Block(nn.Module):
    """Permutes channels, then scales and shifts each half of every map by the other halves.

    Args:
        channels: Of every map, at least 2.
        hidden: Of the conditioners.
        kernel: Of their convolutions.
        clamp: Bound of the logarithm of a scale.
        seed: Of the permutations, one a scale.
    """

    def __init__(self, channels: int, hidden: int, kernel: int, clamp: float, seed: int) -> None:
        super().__init__()
        first, second = channels // 2, channels - channels // 2
        self.first, self.clamp = first, clamp
        rng = np.random.default_rng(seed)
        self.permutations = nn.ModuleList(Permutation(channels, rng) for _ in range(SCALES))
        self.for_first = CrossScale(second, 2 * first, hidden, kernel)
        self.for_second = CrossScale(first, 2 * second, hidden, kernel)

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """See `Flow.forward`."""
        permuted = [p(one) for p, one in zip(self.permutations, maps, strict=True)]
        first, second = self._halves(permuted)
        first, by_second = self._scaled(first, self.for_first(second))
        second, by_first = self._scaled(second, self.for_second(first))
        totals = [one + other for one, other in zip(by_second, by_first, strict=True)]
        return _joined(first, second), totals

    def inverse(self, latent: list[Tensor]) -> list[Tensor]:
        """Undo `forward`, its last half first, which still knows what it was moved by."""
        first, second = self._halves(latent)
        second = self._unscaled(second, self.for_second(first))
        first = self._unscaled(first, self.for_first(second))
        joined = _joined(first, second)
        permutations = cast(Iterable[Permutation], self.permutations)
        return [p.inverse(one) for p, one in zip(permutations, joined, strict=True)]

    def _halves(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        return [one[:, : self.first] for one in maps], [one[:, self.first :] for one in maps]

    def _scaled(
        self, maps: list[Tensor], coefficients: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        pairs = zip(maps, coefficients, strict=True)
        found = [scaled(one, own, self.clamp) for one, own in pairs]
        return [one for one, _ in found], [log_determinant for _, log_determinant in found]

    def _unscaled(self, maps: list[Tensor], coefficients: list[Tensor]) -> list[Tensor]:
        pairs = zip(maps, coefficients, strict=True)
        return [unscaled(one, own, self.clamp) for one, own in pairs]


class CrossScaleFlow(Flow):
    """Blocks one after the other; the last one's kernels are 5 x 5, all others 3 x 3.

    Args:
        channels: Of every map.
        blocks: How many.
        hidden: Channels within conditioners.
        clamp: Bound of the logarithm of a scale.
    """

    def __init__(self, channels: int, blocks: int, hidden: int, clamp: float) -> None:
        super().__init__()
        # As published, a permutation depends on its block and scale alone, not on the trial.
        self.blocks = nn.ModuleList(
            Block(channels, hidden, _LAST_KERNEL if last else _KERNEL, clamp, seed)
            for seed, last in enumerate([False] * (blocks - 1) + [True])
        )
        # Two conditioners a block: two hidden maps, one of them enlarged too, and three outputs.
        self._per_cell = blocks * (6 * hidden + 10 * channels)

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """See `Flow.forward`; the finest map comes first, each next one has half its sides."""
        z = maps
        totals = [torch.zeros_like(one[:, 0]) for one in maps]
        for block in self.blocks:
            z, log_determinants = block(z)
            totals = [one + other for one, other in zip(totals, log_determinants, strict=True)]
        return z, totals

    def inverse(self, latent: list[Tensor]) -> list[Tensor]:
        """See `Flow.inverse`."""
        for block in reversed(list(cast(Iterable[Block], self.blocks))):
            latent = block.inverse(latent)
        return latent

    def kept_numbers(self, grids: list[Size]) -> int:
        """See `Flow.kept_numbers`."""
        return self._per_cell * sum(height * width for height, width in grids)


class FinestScale(nn.Module):
    """What comes out of the flow to one map: squares of the finest scale.

    Args:
        grid: Rows and columns of that scale.
        size: Height and width of the images.
        norm: Whether a cell's score is the Euclidean norm over channels, as the paper says; else
            the mean of squares, as its code has it.
    """

    def __init__(self, grid: Size, size: Size, norm: bool) -> None:
        super().__init__()
        self.norm, self.spreading = norm, Spreading(grid, size, 0)

    def forward(self, latent: list[Tensor]) -> Tensor:
        """``(N, C, h, w)`` of every scale to ``(N, H, W)``, at least 0."""
        squares = latent[0].square()
        cells = squares.sum(dim=1).sqrt() if self.norm else squares.mean(dim=1)
        maps: Tensor = self.spreading(cells)
        return maps


def _joined(first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
    return [torch.cat([one, other], dim=1) for one, other in zip(first, second, strict=True)]
