"""Encoder and decoder of convolutions, with or without connections between them.

The blocks and widths are those of the two networks in the released code of DRAEM (Zavrtanik et
al., ICCV 2021), after U-Net (Ronneberger et al., 2015).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class UNet(nn.Module):
    """Halves images level by level, and doubles them again.

    Every level of the way down has two convolutions of 3 x 3. On the way up a map is enlarged
    (bilinear, corners aligned), convolved, put beside that of the way down if there are
    connections, and convolved twice. A level's output has the width of the next finer one.

    Args:
        inputs: Channels of the images.
        outputs: Channels of what is made of them.
        widths: Of every level, the finest first; at least two.
        skips: Whether finer maps of the way down are connected to the way up.

    Attributes:
        stride: Pixels per side of a cell of the coarsest map.
    """

    def __init__(self, inputs: int, outputs: int, widths: Sequence[int], skips: bool) -> None:
        super().__init__()
        self.skips, self.stride = skips, 2 ** (len(widths) - 1)
        self.down, self.up, self.merged = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.halve = nn.MaxPool2d(2)
        before = inputs
        for width in widths:
            self.down.append(nn.Sequential(*_layer(before, width), *_layer(width, width)))
            before = width
        for level in range(len(widths) - 2, -1, -1):
            after = widths[max(level - 1, 0)]
            if skips:
                self.up.append(nn.Sequential(*_layer(before, after)))
                both = after + widths[level]
                merged = *_layer(both, after), *_layer(after, after)
            else:
                self.up.append(nn.Sequential(*_layer(before, before)))
                merged = *_layer(before, before), *_layer(before, after)
            self.merged.append(nn.Sequential(*merged))
            before = after
        self.last = nn.Conv2d(before, outputs, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, outputs, H, W)``; the stride divides both sides."""
        seen = [self.down[0](images)]
        for block in self.down[1:]:
            seen.append(block(self.halve(seen[-1])))
        found = seen.pop()
        for up, merged in zip(self.up, self.merged, strict=True):
            found = F.interpolate(found, scale_factor=2, mode="bilinear", align_corners=True)
            found, finer = up(found), seen.pop()
            found = merged(torch.cat([found, finer], dim=1) if self.skips else found)
        made: Tensor = self.last(found)
        return made


def unet_bytes(width: int, pixels: int) -> int:
    """About what the activations of one image take in a training step, of a `UNet` or its like.

    A level has five convolutions, whose outputs are kept before and after the norm; coarser
    levels take half of what the next finer one takes.

    Args:
        width: Of the finest level.
        pixels: Of an image.
    """
    return 4 * 2 * 5 * 2 * width * pixels


def _layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
