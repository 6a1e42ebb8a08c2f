"""What reverse distillation trains: a bottleneck and a decoder that mirrors its teacher.

A teacher is known by its levels alone: how many, how wide and how coarse they are. So blocks are
those of the published teacher, wide_resnet50_2, for all of them: convolutions of 1x1, 3x3 and 1x1,
the inner ones half as wide. Where the released code has transposed convolutions, maps are repeated
and convolved here, which every runtime has, makes no chequered maps and meets sides of any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autosearch.backbones import FeatureInfo
from autosearch.errors import Infeasible

NARROWEST = 8
"""Channels of a map or an inner map, at least."""


def halvings(info: FeatureInfo, coarser: int) -> int:
    """How many strides of 2 lead from a level to one that is coarser, or as coarse.

    Args:
        info: Of the level.
        coarser: Reduction of the other level.

    Raises:
        Infeasible: None do.
    """
    count = max(0, (coarser // info.reduction).bit_length() - 1)
    if info.reduction << count != coarser:
        raise Infeasible(
            f"levels of 1/{info.reduction} and 1/{coarser} of the image's resolution: no strides "
            "of 2 lead from the one to the other"
        )
    return count


class Residual(nn.Module):
    """A block with a shortcut; maps are made coarser or finer on the way, or neither.

    Args:
        inputs: Channels.
        outputs: Channels.
        down: Stride.
        up: How often every row and column is repeated.
    """

    def __init__(self, inputs: int, outputs: int, *, down: int = 1, up: int = 1) -> None:
        super().__init__()
        inner = max(NARROWEST, outputs // 2)
        self.reduce = nn.Sequential(*_normed(inputs, inner, 1), nn.ReLU())
        self.middle = nn.Sequential(*_normed(inner, inner, 3, down), nn.ReLU())
        self.expand = nn.Sequential(*_normed(inner, outputs, 1))
        changed = inputs != outputs or down != up
        self.shortcut = nn.Sequential(*(_normed(inputs, outputs, 1, down) if changed else ()))
        self.activation, self.up = nn.ReLU(), up

    def forward(self, maps: Tensor) -> Tensor:
        """``(N, inputs, h, w)`` to ``(N, outputs, h * up / down, w * up / down)``."""
        inner, beside = self.reduce(maps), self.shortcut(maps)
        if self.up > 1:
            inner, beside = (_repeated(one, self.up) for one in (inner, beside))
        found: Tensor = self.activation(self.expand(self.middle(inner)) + beside)
        return found


class Fusion(nn.Module):
    """Brings all levels to the resolution of the coarsest by strided convolutions, side by side.

    On its way a level takes the width of those it passes.

    Args:
        levels: Of the teacher, the finest first.
        widths: Of the student's levels.

    Attributes:
        channels: Of the result.
    """

    def __init__(self, levels: Sequence[FeatureInfo], widths: Sequence[int]) -> None:
        super().__init__()
        coarsest, ways = levels[-1].reduction, []
        self.channels = 0
        for level in levels:
            way: list[nn.Module] = []
            channels, reduction = level.channels, level.reduction
            for _ in range(halvings(level, coarsest)):
                reduction *= 2
                passed = next(i for i, one in enumerate(levels) if one.reduction >= reduction)
                way += [*_normed(channels, widths[passed], 3, 2), nn.ReLU()]
                channels = widths[passed]
            ways.append(nn.Sequential(*way))
            self.channels += channels
        self.ways = nn.ModuleList(ways)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """``(N, C, h, w)`` of every level to one map of the coarsest one's size."""
        return torch.cat([way(one) for way, one in zip(self.ways, maps, strict=True)], dim=1)


class Student(nn.Module):
    """From a teacher's maps through an embedding of half their coarsest resolution back to them.

    Every level ends in a convolution of 1x1 to the teacher's width. The released code has none:
    its student is as wide as its teacher and, like that, ends in ReLU, as not every teacher does.

    Args:
        levels: Of the teacher, the finest first.
        width: Share of the teacher's widths that the student's levels have.
        blocks: Residual blocks of the embedding and of every level.

    Raises:
        Infeasible: The resolutions of the levels are no powers of 2 apart, or rise.
    """

    def __init__(self, levels: Sequence[FeatureInfo], width: float, blocks: int) -> None:
        super().__init__()
        for level, following in pairwise(levels):
            halvings(level, following.reduction)
        widths = [max(NARROWEST, round(width * level.channels)) for level in levels]
        self.fusion = Fusion(levels, widths)
        channels, reduction = 2 * widths[-1], 2 * levels[-1].reduction
        self.embedding = _blocks(
            Residual(self.fusion.channels, channels, down=2), channels, blocks
        )
        stages, heads = [], []
        for level, own in zip(reversed(levels), reversed(widths), strict=True):
            first = Residual(channels, own, up=reduction // level.reduction)
            stages.append(_blocks(first, own, blocks))
            heads.append(nn.Conv2d(own, level.channels, 1))
            channels, reduction = own, level.reduction
        self.stages, self.heads = nn.ModuleList(stages), nn.ModuleList(heads)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """``(N, C, h, w)`` maps of the teacher to as many of the same shapes, the finest first."""
        found, current = [], self.embedding(self.fusion(maps))
        for stage, head, wanted in zip(self.stages, self.heads, reversed(maps), strict=True):
            # The embedding of an odd number of rows has half of them, rounded up.
            current = stage(current)[..., : wanted.shape[-2], : wanted.shape[-1]]
            found.append(head(current))
        return found[::-1]


def _blocks(first: Residual, channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(first, *(Residual(channels, channels) for _ in range(count - 1)))


def _normed(inputs: int, outputs: int, kernel: int, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(outputs)


def _repeated(maps: Tensor, times: int) -> Tensor:
    return F.interpolate(maps, scale_factor=float(times), mode="nearest")
