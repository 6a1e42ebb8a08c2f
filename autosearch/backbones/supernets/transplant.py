"""The starting point of a distillation: blocks of the teacher set into the supernet.

A teacher of inverted residual blocks (EfficientNet-Lite, MobileNetV3, …) has the supernet's own
block form: 1x1 expansion, depthwise kernel, 1x1 projection, each with a batch norm. Its tensors
are copied wherever the two overlap; what it lacks starts so that it disturbs little. From any
other teacher nothing is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from autosearch.backbones.supernets.ofa_layout import (
    EXPAND_RATIOS,
    NORM_VECTORS,
    SQUEEZE_EXCITE,
    STAGE_BLOCKS,
    elastic_block,
    random_state,
)

_EPS = 1e-5
_SIDE = 7
_OPEN_GATE = 2.5
"""Bias that opens the gate of squeeze-and-excitation, short of where its gradient vanishes."""

_FAINT = 0.05
"""Scale of what the teacher does not have: small beside the rest, large enough to learn."""


def initial_state(
    width: float, stages: Sequence[nn.Module | None], seed: int
) -> tuple[dict[str, Tensor], int]:
    """Make the tensors of a supernet that starts from a teacher.

    Args:
        width: Width multiplier of the supernet.
        stages: For each stage of the supernet, the teacher's sequence of blocks that ends where
            the stage ends, or None.
        seed: Seed of all that is not copied.

    Returns:
        Tensors under plain names, middle channels sorted by importance, and the number of blocks
        that were copied.
    """
    state, copied = random_state(width, seed), 0
    for name in state:
        if name.startswith(("final_expand_layer", "feature_mix_layer", "classifier")):
            state[name].zero_()
    for stage, blocks in enumerate(STAGE_BLOCKS):
        found = _residual_blocks(stages[stage])[: len(blocks)]
        for number, source in zip_longest(blocks, found):
            if SQUEEZE_EXCITE[stage]:
                _open_gate(state, f"blocks.{number}.conv.depth_conv.se.fc")
            if source is not None:
                _copy_block(state, width, number, source)
                copied += 1
            elif elastic_block(width, number).shortcut:
                state[f"blocks.{number}.conv.point_linear.bn.weight"] *= _FAINT
            sort_channels(state, number)
    return state, copied


def sort_channels(state: dict[str, Tensor], number: int) -> None:
    """Order the middle channels of a block by importance, so that small expansions keep the best.

    Importance is the sum of absolute projection weights that read a channel, as in Once-for-All.
    The block's function at full size stays the same.

    Args:
        state: Tensors of a supernet under plain names, changed in place.
        number: Number of the block, 1 to 20.
    """
    prefix = f"blocks.{number}.conv"
    importance = state[f"{prefix}.point_linear.conv.weight"].abs().sum((0, 2, 3))
    order = importance.argsort(descending=True, stable=True)
    norms = [f"{prefix}.{part}.bn.{v}" for part in _MIDDLE for v in NORM_VECTORS]
    rows = [f"{prefix}.{part}.conv.weight" for part in _MIDDLE]
    gate = f"{prefix}.depth_conv.se.fc"
    for name in (*norms, *rows, f"{gate}.expand.weight", f"{gate}.expand.bias"):
        if name in state:
            state[name] = state[name][order]
    for name in (f"{prefix}.point_linear.conv.weight", f"{gate}.reduce.weight"):
        if name in state:
            state[name] = state[name][:, order]


_MIDDLE = ("inverted_bottleneck", "depth_conv")


def _residual_blocks(stage: nn.Module | None) -> list[Any]:
    """Blocks of a teacher's stage, up to the first that is not an inverted residual."""
    blocks: list[Any] = []
    children: list[Any] = list(stage.children()) if stage is not None else []
    for block in children:
        parts = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
        if not all(hasattr(block, part) for part in parts):
            break
        if block.conv_dw.kernel_size[0] > _SIDE or block.conv_dw.dilation != (1, 1):
            break
        blocks.append(block)
    return blocks


def _open_gate(state: dict[str, Tensor], prefix: str) -> None:
    """Let squeeze-and-excitation start as a constant, undone by the projection behind it."""
    state[f"{prefix}.reduce.bias"].zero_()
    state[f"{prefix}.expand.weight"] *= _FAINT
    state[f"{prefix}.expand.bias"].fill_(_OPEN_GATE)


def _copy_block(state: dict[str, Tensor], width: float, number: int, source: Any) -> None:
    block, prefix = elastic_block(width, number), f"blocks.{number}.conv"
    depth, project = f"{prefix}.depth_conv", f"{prefix}.point_linear"
    gate = (_OPEN_GATE + 3) / 6 if SQUEEZE_EXCITE[block.stage] else 1.0
    with torch.no_grad():
        # Middle channels beyond the teacher's must not disturb what the copied ones add up to.
        middle = min(source.conv_pwl.in_channels, block.mid(max(EXPAND_RATIOS)))
        state[f"{project}.conv.weight"][:, middle:] *= _FAINT
        kept = min(source.conv_pw.in_channels, block.inputs)
        state[f"{prefix}.inverted_bottleneck.conv.weight"][:, kept:] *= _FAINT
        _overlap(state[f"{prefix}.inverted_bottleneck.conv.weight"], source.conv_pw.weight)
        _copy_kernel(state[f"{depth}.conv.weight"], source.conv_dw)
        _overlap(state[f"{project}.conv.weight"], source.conv_pwl.weight / gate)
    _copy_norm(state, f"{prefix}.inverted_bottleneck.bn", source.bn1)
    _copy_norm(state, f"{depth}.bn", source.bn2)
    _copy_norm(state, f"{project}.bn", source.bn3)


def _overlap(target: Tensor, source: Tensor) -> None:
    region = tuple(slice(min(a, b)) for a, b in zip(target.shape, source.shape, strict=True))
    target[region] = source[region]


def _copy_kernel(target: Tensor, conv: nn.Conv2d) -> None:
    """Set a smaller kernel into the middle of 7x7, where it computes the same.

    Padding as TensorFlow does it puts none before the first of two pixels where symmetric padding
    puts one, so with stride 2 its kernels stand one row and column further on.
    """
    size = conv.kernel_size[0]
    asymmetric = conv.stride[0] == 2 and type(conv).__name__ == "Conv2dSame"
    start = _SIDE // 2 - size // 2 + asymmetric
    stop = min(start + size, _SIDE)
    channels = min(len(target), len(conv.weight))
    target[:channels].zero_()
    target[:channels, :, start:stop, start:stop] = conv.weight[
        :channels, :, : stop - start, : stop - start
    ]


def _copy_norm(state: dict[str, Tensor], prefix: str, norm: nn.BatchNorm2d) -> None:
    """Copy a batch norm, its other epsilon folded into the scale.

    So the outputs agree with stored statistics and with those of a batch alike.
    """
    variance = norm.running_var
    assert variance is not None
    fold = ((variance + _EPS) / (variance + norm.eps)).sqrt()
    values = (norm.weight * fold, norm.bias, norm.running_mean, variance)
    for vector, value in zip(NORM_VECTORS, values, strict=True):
        assert value is not None
        _overlap(state[f"{prefix}.{vector}"], value.detach())
