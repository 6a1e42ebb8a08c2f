"""What the tests of flows share: a tiny backbone, flows with drawn weights, dense Jacobians."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from autosearch.backbones import FeatureExtractor, FeatureInfo


class Levels(FeatureExtractor):
    """Strided convolutions, one map for each."""

    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def __init__(self, channels: tuple[int, ...], bias: bool = False) -> None:
        super().__init__()
        widths = [3, *channels]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(read, made, 2, stride=2, bias=bias)
            for read, made in zip(widths, channels, strict=False)
        )
        self.feature_info = tuple(
            FeatureInfo(level, made, 2 << level, f"convolutions.{level}")
            for level, made in enumerate(channels)
        )
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        for convolution in self.convolutions:
            images = convolution(images)
            maps.append(images)
        return maps


def drawn(flow: nn.Module, seed: int = 0, spread: float = 0.2) -> nn.Module:
    """The same flow with all weights drawn anew, so that nothing of it is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in flow.parameters():
            weight.copy_(spread * torch.randn(weight.shape, generator=generator))
    return flow


def dense_log_determinant(function: Callable[[list[Tensor]], list[Tensor]], maps: list[Tensor]):
    """Of all numbers of one image's maps together, from the matrix of all derivatives."""
    sizes = [one.numel() for one in maps]

    def flat(numbers: Tensor) -> Tensor:
        parts = numbers.split(sizes)
        found = function([part.view_as(one) for part, one in zip(parts, maps, strict=True)])
        return torch.cat([one.flatten() for one in found])

    joined = torch.cat([one.flatten() for one in maps])
    matrix = torch.autograd.functional.jacobian(flat, joined)
    return torch.linalg.slogdet(matrix).logabsdet
