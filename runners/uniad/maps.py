"""From images to aligned features, and from scores of cells to maps of the images' size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autosearch.backbones import FeatureExtractor
from autosearch.errors import Infeasible

from ..frozen_maps import FrozenMaps
from ..spreading import Spreading
from .reconstruction import Reconstruction


def grid_of(size: tuple[int, int], stride: int, extractor: FeatureExtractor) -> tuple[int, int]:
    """Rows and columns of cells that all levels are brought to.

    Args:
        size: Height and width of the images.
        stride: Side of a cell in pixels.
        extractor: Whose coarsest level must fit, too.

    Raises:
        Infeasible: A side of the images is no multiple of the stride, or of the coarsest level's.
    """
    coarsest = max(stride, *(info.reduction for info in extractor.feature_info))
    for side in size:
        if side % coarsest:
            raise Infeasible(
                f"images of {size[0]} x {size[1]} pixels do not divide into cells of {coarsest} "
                f"pixels; sides that are multiples of {coarsest} do"
            )
    return size[0] // stride, size[1] // stride


class AlignedMaps(FrozenMaps):
    """All levels of a frozen backbone on one grid, one behind the other.

    They are resized bilinearly. Cells keep their places in the image (``align_corners=False``);
    the released code has the corners' centres fall together, which moves the others.

    Args:
        extractor: In evaluation mode; it stays so.
        grid: Rows and columns.
    """

    def __init__(self, extractor: FeatureExtractor, grid: tuple[int, int]) -> None:
        super().__init__(extractor)
        self._grid = grid

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the only map."""
        return (sum(super().channels),)

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(N, 3, H, W)`` in [0, 1] to a list of one map, ``(N, channels, h, w)``."""
        aligned = [
            level
            if level.shape[2:] == self._grid
            else F.interpolate(level, self._grid, mode="bilinear", align_corners=False)
            for level in super().forward(images)
        ]
        return [torch.cat(aligned, dim=1)]


class ChannelScale(nn.Module):
    """Shifts and stretches every channel by numbers that are set and not learnt.

    Args:
        channels: How many.

    Attributes:
        centre: ``(channels, 1, 1)``, what becomes 0; 0 at first.
        spread: ``(channels, 1, 1)``, what becomes 1; 1 at first.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(channels, 1, 1))
        self.register_buffer("spread", torch.ones(channels, 1, 1))

    def set(self, centre: Tensor, spread: Tensor) -> None:
        """Take other numbers, ``(channels,)`` each."""
        self.centre.copy_(centre[:, None, None])
        self.spread.copy_(spread[:, None, None])

    def forward(self, features: Tensor) -> Tensor:
        """``(N, channels, h, w)`` to the same."""
        return (features - self.centre) / self.spread


class PooledSpreading(Spreading):
    """Resizes scores bilinearly, then takes means of squares of pixels.

    The published score of an image is the largest mean of its map over a square of 16 x 16 pixels.
    Here the maps are such means, so that it is their highest value. Every pixel has the mean of
    the square around it, or near the border of the nearest square that lies within the image.

    Args:
        grid: Rows and columns of cells.
        size: Height and width of the images.
        side: Of the squares in pixels, cut to the image's; 1 for none.
    """

    def __init__(self, grid: tuple[int, int], size: tuple[int, int], side: int) -> None:
        super().__init__(grid, size, 0)
        self.down = _means(size[0], side) @ self.down
        self.along = _means(size[1], side) @ self.along


def _means(length: int, side: int) -> Tensor:
    """``(length, length)``, from values on an axis to means of ``side`` of them."""
    side = min(side, length)
    begin = (torch.arange(length) - side // 2).clamp(0, length - side)[:, None]
    places = torch.arange(length)[None]
    return ((places >= begin) & (places < begin + side)).float() / side


class UniADMaps(nn.Module):
    """A detector as one graph of plain operations.

    Args:
        features: Images to features.
        scale: Of their channels.
        reconstruction: Of scaled features.
        spreading: Scores of cells to maps.
    """

    def __init__(
        self,
        features: AlignedMaps,
        scale: ChannelScale,
        reconstruction: Reconstruction,
        spreading: PooledSpreading,
    ) -> None:
        super().__init__()
        self.features, self.scale = features, scale
        self.reconstruction, self.spreading = reconstruction, spreading

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` in [0, 1] to ``(N, H, W)``; higher is more anomalous."""
        (features,) = self.features(images)
        features = self.scale(features)
        maps: Tensor = self.spreading(differences(features, self.reconstruction(features)))
        return maps


def differences(features: Tensor, made: Tensor) -> Tensor:
    """Twice ``(N, C, h, w)`` to ``(N, h, w)``: Euclidean distances over the channels."""
    return (features - made).square().sum(dim=1).sqrt()
