"""One map of a frozen backbone for an image in three sizes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autosearch.backbones import FeatureInfo, TimmBackbone

from ..frozen_maps import FrozenMaps

SCALES = 3


class Pyramid(FrozenMaps):
    """The last map of a backbone for every size: the image, its half and its quarter.

    Smaller images take every second or fourth pixel, which is what nearest resizing does.
    """

    @property
    def channels(self) -> tuple[int, ...]:
        """Of every map."""
        return (self.extractor.feature_info[-1].channels,) * SCALES

    @property
    def reductions(self) -> tuple[int, ...]:
        """Sides of images divided by those of every map."""
        own = self.extractor.feature_info[-1].reduction
        return tuple(own << scale for scale in range(SCALES))

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(N, 3, H, W)`` in [0, 1] to one ``(N, C, h, w)`` map a size, the largest first."""
        normalised = (images - self.mean) / self.std
        sizes = (normalised[..., :: 1 << scale, :: 1 << scale] for scale in range(SCALES))
        return [self.extractor(size)[-1] for size in sizes]


def stages_between(levels: tuple[FeatureInfo, ...]) -> list[bool]:
    """For every level of a timm model, whether another stage lies between it and the one before.

    EfficientNets have two such levels, whose last stage can be left out.
    """
    numbers = [_stage(info) for info in levels]
    return [
        number is not None and before is not None and number - before >= 2
        for before, number in zip([None, *numbers], numbers, strict=False)
    ]


def without_last_stage(extractor: TimmBackbone) -> TimmBackbone:
    """Cut the last stage off a backbone, in place.

    Args:
        extractor: Of one level, of which `stages_between` says that it may be.
    """
    info = extractor.feature_info[-1]
    parent, _, number = info.module.rpartition(".")
    stages = extractor.get_submodule(parent)
    assert isinstance(stages, nn.Sequential)
    stages[int(number)] = nn.Identity()
    device = next(extractor.parameters()).device
    with torch.no_grad():
        channels = extractor(torch.zeros(1, 3, 64, 64, device=device))[-1].shape[1]
    module = f"{parent}.{int(number) - 1}"
    extractor.feature_info = (FeatureInfo(info.block, channels, info.reduction, module),)
    return extractor


def _stage(info: FeatureInfo) -> int | None:
    """Number of the stage of blocks that a level ends with, None where it ends with another."""
    parent, _, number = info.module.rpartition(".")
    return int(number) if parent.endswith("blocks") and number.isdecimal() else None
