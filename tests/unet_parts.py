"""Random images, and what U-Nets cost, counted by hand."""

import torch
from torch import Tensor


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def layer(inputs: int, outputs: int, pixels: int) -> tuple[int, int]:
    """Parameters and FLOPs of a convolution of 3 x 3, its norm and its activation."""
    values = pixels * outputs
    flops = 2 * 9 * inputs * values + values + 2 * values + values
    return 9 * inputs * outputs + outputs + 2 * outputs, flops


def unet_by_hand(
    inputs: int, outputs: int, widths: list[int], skips: bool, pixels: int
) -> tuple[int, int]:
    """Parameters and FLOPs, level by level."""
    at = [pixels // 4**level for level in range(len(widths))]
    layers = [(inputs, widths[0], at[0]), (widths[0], widths[0], at[0])]
    pooled = 0
    for level in range(1, len(widths)):
        pooled += widths[level - 1] * at[level - 1]
        layers += [(widths[level - 1], widths[level], at[level])]
        layers += [(widths[level], widths[level], at[level])]
    before = widths[-1]
    for level in reversed(range(len(widths) - 1)):
        after = widths[level - 1] if level else widths[0]
        if skips:
            layers += [(before, after, at[level]), (after + widths[level], after, at[level])]
            layers += [(after, after, at[level])]
        else:
            layers += [(before, before, at[level])] * 2 + [(before, after, at[level])]
        before = after
    parameters, flops = (
        sum(found) for found in zip(*(layer(*one) for one in layers), strict=True)
    )
    last = 9 * before * outputs
    return parameters + last + outputs, flops + pooled + (2 * last + outputs) * pixels
