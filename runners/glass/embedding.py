"""Images to one vector per patch: GLASS's mixed bins, or the plain mean of every channel.

GLASS, section 3.1 and its released code; the mixing is PatchCore's ("Towards Total Recall in
Industrial Anomaly Detection", released code).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autosearch.backbones import FeatureExtractor, PatchFeatures
from autosearch.errors import ConfigError

Embedding = Literal["mixed", "mean"]


class MixedPatchFeatures(nn.Module):
    """Neighbourhoods of all maps, pooled to a vector of chosen length.

    Around every location lie ``p * p`` values of every channel (zero padding). In the order
    channel, row, column they are average-pooled into ``channels`` bins, map by map; coarser maps
    are resized to the grid of the first (bilinear, ``align_corners=False``). The vectors of all
    maps, one behind the other, are pooled into ``channels`` bins again.

    Pooling neither looks at other locations nor depends on them, so it may come before the
    resize, and as a sum of fixed shares of neighbours it is a convolution. Its groups are the
    largest runs of channels and bins that begin and end together, which leaves few products.

    Args:
        extractor: The frozen backbone.
        patch_size: Side ``p`` of the neighbourhood, odd.
        channels: Length of a vector.

    Attributes:
        channels: The same.
        reduction: Input side divided by the side of the patch grid.

    Raises:
        ConfigError: The patch size is even or below 1, or there are no channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, extractor: FeatureExtractor, patch_size: int, channels: int) -> None:
        super().__init__()
        if patch_size < 1 or patch_size % 2 == 0:
            raise ConfigError("patch_size", patch_size, "an odd integer of at least 1")
        if channels < 1:
            raise ConfigError("embed_dim", channels, "an integer of at least 1")
        info = extractor.feature_info
        self.extractor, self.channels = extractor, channels
        self.reduction = min(feature.reduction for feature in info)
        self.pools = nn.ModuleList(
            _pooling(feature.channels, channels, patch_size) for feature in info
        )
        self.register_buffer("mean", torch.tensor(extractor.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(extractor.std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` in [0, 1] to ``(N, channels, h, w)``."""
        maps = self.extractor((images - self.mean) / self.std)
        return self.mix(maps)

    def mix(self, maps: list[Tensor]) -> Tensor:
        """Maps of ``(N, C_j, h_j, w_j)``, the finest first, to ``(N, channels, h, w)``."""
        size = maps[0].shape[-2:]
        pooled = []
        for pool, features in zip(self.pools, maps, strict=True):
            bins = pool(features)
            if bins.shape[-2:] != size:
                bins = F.interpolate(bins, size=size, mode="bilinear", align_corners=False)
            pooled.append(bins)
        # As many bins as one map has values: each is the mean of so many as there are maps.
        joined = torch.cat(pooled, dim=1)
        return joined.view(-1, self.channels, len(maps), *size).mean(dim=2)


def make_embedding(
    kind: Embedding, extractor: FeatureExtractor, patch_size: int, channels: int
) -> MixedPatchFeatures | PatchFeatures:
    """An embedding by name.

    Args:
        kind: ``mixed`` as in the released code; ``mean`` as in the paper: every channel averaged
            over its neighbourhood, vectors as long as all maps have channels.
        extractor: The frozen backbone.
        patch_size: Side of the neighbourhood, odd.
        channels: Length of a mixed vector.
    """
    if kind == "mixed":
        return MixedPatchFeatures(extractor, patch_size, channels)
    return PatchFeatures(extractor, (patch_size,) * len(extractor.feature_info))


def _pooling(inputs: int, outputs: int, patch_size: int) -> nn.Conv2d:
    """The convolution that pools ``inputs * p * p`` values of a neighbourhood to ``outputs``."""
    groups = math.gcd(inputs, outputs)
    shares = _bins(inputs // groups * patch_size**2, outputs // groups)
    shape = (outputs, inputs // groups, patch_size, patch_size)
    padding = patch_size // 2
    conv = nn.Conv2d(
        inputs, outputs, patch_size, padding=padding, groups=groups, bias=False, device="meta"
    )
    # It has nothing to learn, so its shares are no parameters.
    del conv.weight
    conv.register_buffer("weight", shares.repeat(groups, 1).view(shape), persistent=False)
    return conv


def _bins(length: int, bins: int) -> Tensor:
    """Adaptive average pooling of ``length`` values as a ``(bins, length)`` matrix."""
    return F.adaptive_avg_pool1d(torch.eye(length)[None], bins)[0].T.contiguous()
