"""The OFA-MobileNetV3 supernet: static subnets cut from its released weights.

Cai et al., "Once-for-All: Train One Network and Specialize it for Efficient Deployment", ICLR
2020. The supernet is a table of tensors here. A subnet is an ordinary network of ordinary layers
with copied weights, so subnets never share state with each other or with the supernet.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autosearch.backbones.features import FeatureExtractor, FeatureInfo
from autosearch.backbones.supernets.ofa_layout import (
    COUNTER,
    HARD_SWISH,
    MODEL_NAMES,
    NORM_VECTORS,
    SQUEEZE_EXCITE,
    WIDTHS,
    Block,
    OFAArchitecture,
    elastic_block,
    feature_info,
    kernel_transform_flops,
    parameter_count,
    plain_state,
    random_state,
    shape_table,
    squeeze_width,
)
from autosearch.errors import ConfigError

__all__ = [
    "MODEL_NAMES",
    "WIDTHS",
    "OFAArchitecture",
    "OFAMobileNetV3",
    "OFASubnet",
    "feature_info",
    "kernel_transform_flops",
    "parameter_count",
    "random_state",
    "shape_table",
    "transform_kernel",
]


_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class OFAMobileNetV3:
    """The supernet of one width, as a table of tensors that is only ever read.

    Args:
        width: Width multiplier, one of `WIDTHS`.
        state: Tensors of a checkpoint, under any of the released key styles.

    Raises:
        ConfigError: If there is no supernet of this width.
        WeightsError: If the tensors are not those of this supernet.
    """

    def __init__(self, width: float, state: Mapping[str, Tensor]) -> None:
        self.width = width
        self.state = plain_state(width, state)

    def feature_info(self, arch: OFAArchitecture) -> tuple[FeatureInfo, ...]:
        """Describe the maps that the subnet of ``arch`` extracts."""
        return feature_info(arch)

    def subnet(self, arch: OFAArchitecture) -> FeatureExtractor:
        """Build a static network with copies of the active weights, in evaluation mode.

        Args:
            arch: The architecture; its width must be the supernet's.

        Raises:
            ConfigError: If the widths differ.
        """
        if arch.width != self.width:
            raise ConfigError("width", arch.width, f"{self.width}, the supernet's")
        first = "blocks.0.conv"
        stem = nn.Sequential(*self._conv_norm("first_conv", stride=2), nn.Hardswish(inplace=True))
        fixed = nn.Sequential(
            *self._conv_norm(f"{first}.depth_conv", depthwise=True),
            nn.ReLU(inplace=True),
            *self._conv_norm(f"{first}.point_linear"),
        )
        blocks: dict[int, nn.Module] = {0: InvertedResidual(fixed, shortcut=True)}
        for number in arch.blocks:
            block = elastic_block(self.width, number)
            blocks[number] = self._elastic_block(
                block, arch.kernel_sizes[block.stage], arch.expand_ratios[block.stage]
            )
        return OFASubnet(stem, blocks, feature_info(arch)).eval().requires_grad_(False)

    def _elastic_block(self, block: Block, kernel_size: int, expand_ratio: int) -> nn.Module:
        prefix, mid = f"blocks.{block.number}.conv", block.mid(expand_ratio)
        depth = f"{prefix}.depth_conv"
        activation = nn.Hardswish if HARD_SWISH[block.stage] else nn.ReLU
        layers: list[nn.Module] = [
            *self._conv_norm(f"{prefix}.inverted_bottleneck", outputs=mid),
            activation(inplace=True),
            _conv(self._depthwise(depth, mid, kernel_size), stride=block.stride, depthwise=True),
            self._norm(f"{depth}.bn", mid),
            activation(inplace=True),
        ]
        if SQUEEZE_EXCITE[block.stage]:
            layers.append(self._squeeze_excite(f"{depth}.se.fc", mid))
        layers.extend(self._conv_norm(f"{prefix}.point_linear", inputs=mid))
        return InvertedResidual(nn.Sequential(*layers), block.shortcut)

    def _conv_norm(
        self,
        prefix: str,
        *,
        inputs: int | None = None,
        outputs: int | None = None,
        stride: int = 1,
        depthwise: bool = False,
    ) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
        """Cut a convolution to its first channels (None: all of them), with its batch norm."""
        weight = self.state[f"{prefix}.conv.weight"][:outputs, :inputs]
        conv = _conv(weight, stride=stride, depthwise=depthwise)
        return conv, self._norm(f"{prefix}.bn", weight.shape[0])

    def _norm(self, prefix: str, channels: int) -> nn.BatchNorm2d:
        norm = nn.BatchNorm2d(channels, eps=1e-5, momentum=0.1)
        norm.load_state_dict(
            {
                **{v: self.state[f"{prefix}.{v}"][:channels] for v in NORM_VECTORS},
                COUNTER: torch.zeros((), dtype=torch.int64),
            }
        )
        return norm

    def _depthwise(self, prefix: str, channels: int, kernel_size: int) -> Tensor:
        return transform_kernel(
            self.state[f"{prefix}.conv.weight"][:channels],
            kernel_size,
            self.state[f"{prefix}.conv.7to5_matrix"],
            self.state[f"{prefix}.conv.5to3_matrix"],
        )

    def _squeeze_excite(self, prefix: str, mid: int) -> SqueezeExcite:
        squeezed = squeeze_width(mid)
        tensors = {
            f"{part}.{kind}": self.state[f"{prefix}.{part}.{kind}"]
            for part, kind in product(("reduce", "expand"), ("weight", "bias"))
        }
        return SqueezeExcite(
            _conv(tensors["reduce.weight"][:squeezed, :mid], tensors["reduce.bias"][:squeezed]),
            _conv(tensors["expand.weight"][:mid, :squeezed], tensors["expand.bias"][:mid]),
        )


def transform_kernel(
    kernel: Tensor, kernel_size: int, matrix_7to5: Tensor, matrix_5to3: Tensor
) -> Tensor:
    """Derive a smaller depthwise kernel: centre crop, then a learnt linear map, per step.

    Args:
        kernel: ``(C, 1, 7, 7)``.
        kernel_size: 3, 5 or 7. Size 3 is derived from the transformed size 5, not from size 7.
        matrix_7to5: ``(25, 25)``, multiplies the row-major 5x5 crop from the left.
        matrix_5to3: ``(9, 9)``, likewise for the 3x3 crop.

    Returns:
        ``(C, 1, kernel_size, kernel_size)``.
    """
    for size, matrix in ((5, matrix_7to5), (3, matrix_5to3)):
        if kernel_size <= size:
            crop = kernel[:, :, 1:-1, 1:-1].reshape(-1, size * size)
            kernel = F.linear(crop, matrix).view(-1, 1, size, size)
    return kernel


class SqueezeExcite(nn.Module):
    """Scale channels by a gate computed from their spatial means."""

    def __init__(self, reduce: nn.Conv2d, expand: nn.Conv2d) -> None:
        super().__init__()
        self.reduce, self.activation = reduce, nn.ReLU(inplace=True)
        self.expand, self.gate = expand, nn.Hardsigmoid(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the same shape."""
        mean = features.mean((2, 3), keepdim=True)
        gate: Tensor = self.gate(self.expand(self.activation(self.reduce(mean))))
        return features * gate


class InvertedResidual(nn.Module):
    """Layers in sequence, with an identity shortcut around them or without."""

    def __init__(self, layers: nn.Sequential, shortcut: bool) -> None:
        super().__init__()
        self.layers, self.shortcut = layers, shortcut

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, C', H / stride, W / stride)``."""
        outputs: Tensor = self.layers(features)
        return features + outputs if self.shortcut else outputs


class OFASubnet(FeatureExtractor):
    """A static subnet: stem and blocks up to the last extraction block, nothing after it."""

    mean, std = _IMAGENET_MEAN, _IMAGENET_STD
    layers_alone = True

    def __init__(
        self,
        stem: nn.Module,
        blocks: Mapping[int, nn.Module],
        feature_info: tuple[FeatureInfo, ...],
    ) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleDict({str(number): block for number, block in blocks.items()})
        self.feature_info = feature_info
        self._extracted = frozenset(str(info.block) for info in feature_info)

    def forward(self, images: Tensor) -> list[Tensor]:
        """See `FeatureExtractor.forward`."""
        features, maps = self.stem(images), []
        for number, block in self.blocks.items():
            features = block(features)
            if number in self._extracted:
                maps.append(features)
        return maps


def _conv(
    weight: Tensor, bias: Tensor | None = None, stride: int = 1, depthwise: bool = False
) -> nn.Conv2d:
    """Make a convolution with copies of the given tensors and padding of half the kernel."""
    outputs, inputs, kernel_size, _ = weight.shape
    groups = outputs if depthwise else 1
    conv = nn.Conv2d(
        inputs * groups,
        outputs,
        kernel_size,
        stride,
        kernel_size // 2,
        groups=groups,
        bias=bias is not None,
        # No memory and no draws from the global generator for values that are replaced at once.
        device="meta",
    )
    conv.weight = nn.Parameter(weight.clone(), requires_grad=False)
    if bias is not None:
        conv.bias = nn.Parameter(bias.clone(), requires_grad=False)
    return conv
