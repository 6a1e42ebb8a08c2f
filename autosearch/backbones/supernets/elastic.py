"""The OFA-MobileNetV3 supernet as a network to be trained: any active size, shared tensors.

Cai et al., "Once-for-All: Train One Network and Specialize it for Efficient Deployment", ICLR
2020. The forward pass is a function of the supernet's tensors and of the active sizes; nothing is
switched on or off in between, so one tensor may be active in several ways within one step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from autosearch.backbones.supernets.ofa_layout import (
    COUNTER,
    EXPAND_RATIOS,
    HARD_SWISH,
    KERNEL_SIZES,
    SQUEEZE_EXCITE,
    STAGE_BLOCKS,
    STAGES,
    Block,
    OFAArchitecture,
    elastic_block,
    plain_state,
    squeeze_width,
)
from autosearch.backbones.supernets.ofa_mobilenetv3 import transform_kernel

DEPTHS = (2, 3, 4)
HEAD = ("final_expand_layer.", "feature_mix_layer.", "classifier.")
"""What stands behind the last stage: part of a checkpoint, but no feature depends on it."""

_EPS = 1e-5
_STATISTICS = ("running_mean", "running_var", COUNTER)


@dataclass(frozen=True)
class ActiveSizes:
    """What of the supernet is active: one kernel, one expansion and one depth per stage."""

    kernel_sizes: tuple[int, ...]
    expand_ratios: tuple[int, ...]
    depths: tuple[int, ...]

    @classmethod
    def largest(cls) -> ActiveSizes:
        """The whole supernet."""
        return cls((max(KERNEL_SIZES),) * STAGES, (max(EXPAND_RATIOS),) * STAGES, (4,) * STAGES)

    @classmethod
    def smallest(cls) -> ActiveSizes:
        """The least of everything."""
        return cls((min(KERNEL_SIZES),) * STAGES, (min(EXPAND_RATIOS),) * STAGES, (2,) * STAGES)

    @classmethod
    def random(cls, draw: Any) -> ActiveSizes:
        """Draw each size of each stage evenly.

        Args:
            draw: A `numpy.random.Generator`.
        """
        choices = (KERNEL_SIZES, EXPAND_RATIOS, DEPTHS)
        drawn = [tuple(int(v) for v in draw.choice(values, STAGES)) for values in choices]
        return cls(*drawn)

    def architecture(self, width: float) -> OFAArchitecture:
        """The architecture that runs the same blocks and extracts the end of every stage."""
        ends = tuple(STAGE_BLOCKS[s][depth - 1] for s, depth in enumerate(self.depths))
        return OFAArchitecture(width, self.kernel_sizes, self.expand_ratios, ends)


class ElasticOFA:
    """The supernet of one width with trainable tensors.

    Args:
        width: Width multiplier, one of `WIDTHS`.
        state: Tensors of a checkpoint under any of the released key styles; they are copied.

    Attributes:
        tensors: All tensors of the supernet under plain names.
        training: Whether batch norms use, and learn from, the statistics of the batch.
        momentum: Share of the batch in the running statistics. None makes no update.

    Raises:
        ConfigError: If there is no supernet of this width.
        WeightsError: If the tensors are not those of this supernet.
    """

    def __init__(self, width: float, state: Mapping[str, Tensor]) -> None:
        self.width = width
        self.tensors = {name: t.clone() for name, t in plain_state(width, state).items()}
        for tensor in self.parameters().values():
            tensor.requires_grad_()
        self.training = True
        self.momentum: float | None = 0.03
        self.blocks = {n: elastic_block(width, n) for blocks in STAGE_BLOCKS for n in blocks}

    def parameters(self) -> dict[str, Tensor]:
        """What is learnt: all but statistics and the head that no feature depends on."""
        return {
            name: tensor
            for name, tensor in self.tensors.items()
            if not name.endswith(_STATISTICS) and not name.startswith(HEAD)
        }

    def released_state(self) -> dict[str, Tensor]:
        """Copies of all tensors, under the names of the released checkpoints."""
        return {released_key(name): t.detach().clone() for name, t in self.tensors.items()}

    def forward(self, images: Tensor, sizes: ActiveSizes) -> list[Tensor]:
        """Compute the output of block 0 and of the end of each stage.

        Args:
            images: ``(N, 3, H, W)``, normalised as the supernet expects.
            sizes: What is active.

        Returns:
            Six maps ``(N, C, h, w)``, at reductions 2, 4, 8, 16, 16 and 32.
        """
        maps = [self.entry(images)]
        for stage in range(STAGES):
            maps.append(self.stage(stage, maps[-1], sizes))
        return maps

    def entry(self, images: Tensor) -> Tensor:
        """Run the stem and block 0, which belong to every subnet."""
        first, t = "blocks.0.conv", self.tensors
        x = F.conv2d(images, t["first_conv.conv.weight"], stride=2, padding=1)
        x = F.hardswish(self._norm("first_conv.bn", x))
        weight = t[f"{first}.depth_conv.conv.weight"]
        y = F.conv2d(x, weight, padding=1, groups=weight.shape[0])
        y = F.relu(self._norm(f"{first}.depth_conv.bn", y))
        y = F.conv2d(y, t[f"{first}.point_linear.conv.weight"])
        return x + self._norm(f"{first}.point_linear.bn", y)

    def stage(self, stage: int, features: Tensor, sizes: ActiveSizes) -> Tensor:
        """Run the active blocks of a stage on the output of the stage before it."""
        for number in STAGE_BLOCKS[stage][: sizes.depths[stage]]:
            block = self.blocks[number]
            outputs = self._block(
                block, features, sizes.kernel_sizes[stage], sizes.expand_ratios[stage]
            )
            features = features + outputs if block.shortcut else outputs
        return features

    def _block(self, block: Block, x: Tensor, kernel_size: int, expand_ratio: int) -> Tensor:
        prefix, mid = f"blocks.{block.number}.conv", block.mid(expand_ratio)
        depth, t = f"{prefix}.depth_conv", self.tensors
        activation = F.hardswish if HARD_SWISH[block.stage] else F.relu
        x = F.conv2d(x, t[f"{prefix}.inverted_bottleneck.conv.weight"][:mid])
        x = activation(self._norm(f"{prefix}.inverted_bottleneck.bn", x))
        kernel = transform_kernel(
            t[f"{depth}.conv.weight"][:mid],
            kernel_size,
            t[f"{depth}.conv.7to5_matrix"],
            t[f"{depth}.conv.5to3_matrix"],
        )
        x = F.conv2d(x, kernel, stride=block.stride, padding=kernel_size // 2, groups=mid)
        x = activation(self._norm(f"{depth}.bn", x))
        if SQUEEZE_EXCITE[block.stage]:
            x = x * self._gate(f"{depth}.se.fc", x.mean((2, 3), keepdim=True))
        x = F.conv2d(x, t[f"{prefix}.point_linear.conv.weight"][:, :mid])
        return self._norm(f"{prefix}.point_linear.bn", x)

    def _gate(self, prefix: str, means: Tensor) -> Tensor:
        mid, t = means.shape[1], self.tensors
        squeezed = squeeze_width(mid)
        weight, bias = t[f"{prefix}.reduce.weight"], t[f"{prefix}.reduce.bias"]
        hidden = F.relu(F.conv2d(means, weight[:squeezed, :mid], bias[:squeezed]))
        weight, bias = t[f"{prefix}.expand.weight"], t[f"{prefix}.expand.bias"]
        return F.hardsigmoid(F.conv2d(hidden, weight[:mid, :squeezed], bias[:mid]))

    def _norm(self, prefix: str, x: Tensor) -> Tensor:
        channels, t = x.shape[1], self.tensors
        silent = self.training and self.momentum is None
        return F.batch_norm(
            x,
            None if silent else t[f"{prefix}.running_mean"][:channels],
            None if silent else t[f"{prefix}.running_var"][:channels],
            t[f"{prefix}.weight"][:channels],
            t[f"{prefix}.bias"][:channels],
            self.training,
            self.momentum or 0.0,
            _EPS,
        )


def calibrate(net: ElasticOFA, batches: Iterable[Tensor], sizes: ActiveSizes) -> None:
    """Replace the stored statistics by those of the given images, for one choice of sizes.

    Each batch counts the same. Channels and blocks that are not active keep their statistics.

    Args:
        net: The supernet, changed in place and left in evaluation mode.
        batches: Normalised images, each ``(N, 3, H, W)``.
        sizes: What is active.
    """
    net.training = True
    with torch.no_grad():
        for seen, images in enumerate(batches):
            net.momentum = 1 / (seen + 1)
            net.forward(images, sizes)
    net.training = False


def released_key(name: str) -> str:
    """The released checkpoints' name of a tensor that `plain_key` names ``name``.

    Elastic layers wrap their convolution and their norm, and blocks bear an earlier name.
    """
    parts = name.split(".")
    if parts[0] != "blocks":
        return name
    elastic = parts[1] != "0"
    if elastic and "bn" in parts:
        parts.insert(parts.index("bn"), "bn")
    elif elastic and parts[-2:] == ["conv", "weight"]:
        parts.insert(-1, "conv")
    parts[2] = "mobile_inverted_conv"
    return ".".join(parts)
