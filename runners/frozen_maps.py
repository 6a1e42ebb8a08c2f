"""Maps of a frozen backbone: of any images, and kept for those that a training sees again."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autosearch.backbones import FeatureExtractor
from autosearch.contracts import passes

from .bank.rows import cells_within

KEPT_BYTES = 2 << 30
"""What kept maps may take at most."""
_KINDS = (torch.float32, torch.float16)
"""In half precision where they would not fit otherwise, and else not at all."""


class FrozenMaps(nn.Module):
    """A backbone and the normalisation that its weights expect.

    Args:
        extractor: In evaluation mode; it stays so whatever mode is asked for.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, extractor: FeatureExtractor) -> None:
        super().__init__()
        self.extractor = extractor
        self.register_buffer("mean", torch.tensor(extractor.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(extractor.std).view(3, 1, 1), persistent=False)

    @property
    def channels(self) -> tuple[int, ...]:
        """Of every map."""
        return tuple(info.channels for info in self.extractor.feature_info)

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(N, 3, H, W)`` in [0, 1] to one ``(N, C, h, w)`` map a level, the finest first."""
        maps: list[Tensor] = self.extractor((images - self.mean) / self.std)
        return maps

    def train(self, mode: bool = True) -> FrozenMaps:
        """Stay in evaluation mode: norms of a frozen backbone must not follow batches."""
        return super().train(False)


class KeptMaps:
    """The maps of the training images, computed once where they fit.

    Args:
        maps: The backbone, on its device.
        images: ``(N, 3, H, W)`` on the CPU.
        device: Where maps are asked for.
        valid: ``(N, H, W)`` bool, pixels that count; None for all.
        most_bytes: What they may take, as float32 if they fit, else as float16, else they are
            computed every time.
    """

    def __init__(
        self,
        maps: FrozenMaps,
        images: Tensor,
        device: str,
        valid: NDArray[np.bool_] | None = None,
        most_bytes: int = KEPT_BYTES,
    ) -> None:
        self._maps, self._images, self._device = maps, images, device
        self._valid, self._most = valid, most_bytes

    def __getitem__(self, indices: NDArray[np.intp]) -> list[Tensor]:
        """``(B, C, h, w)`` float32 of some images, one a level."""
        chosen = torch.from_numpy(indices)
        if self._kept is None:
            return self._computed(self._images[chosen])
        return [kept[chosen].to(self._device).float() for kept in self._kept]

    def counted(self, indices: NDArray[np.intp]) -> list[Tensor] | None:
        """``(B, h, w)`` bool of some images, one a level: cells that count; None for all."""
        if self._cells is None:
            return None
        chosen = torch.from_numpy(indices)
        return [cells[chosen].to(self._device) for cells in self._cells]

    @cached_property
    def grids(self) -> list[tuple[int, int]]:
        """Rows and columns of every level's map."""
        return [(one.shape[2], one.shape[3]) for one in self._computed(self._images[:1])]

    @cached_property
    def _cells(self) -> list[Tensor] | None:
        valid = self._valid
        return None if valid is None else [cells_within(valid, grid) for grid in self.grids]

    @cached_property
    def _kept(self) -> list[Tensor] | None:
        first = self._computed(self._images[:1])
        size = len(self._images) * sum(one.numel() for one in first)
        kind = next((kind for kind in _KINDS if size * kind.itemsize <= self._most), None)
        if kind is None:
            return None
        kept = [torch.empty((len(self._images), *one.shape[1:]), dtype=kind) for one in first]
        for index in range(len(self._images)):
            found = self._computed(self._images[index : index + 1])
            for level, one in zip(kept, found, strict=True):
                level[index] = one[0]
        # A network with fresh weights can exceed what half precision holds.
        return kept if all(one.isfinite().all() for one in kept) else None

    @torch.no_grad()
    def _computed(self, images: Tensor) -> list[Tensor]:
        parts = [self._maps(part) for part in passes(images, self._device)]
        return [torch.cat(level).float() for level in zip(*parts, strict=True)]


def kept_bytes(numbers: int) -> int:
    """What `KeptMaps` takes for so many numbers of all images together."""
    sizes = (numbers * kind.itemsize for kind in _KINDS)
    return next((size for size in sizes if size <= KEPT_BYTES), 0)


def mean_where(values: Tensor, counted: Tensor | None) -> Tensor:
    """Mean of ``(B, h, w)`` values over the cells that count, 0 where none does."""
    if counted is None:
        return values.mean()
    weights = counted.to(values)
    return (values * weights).sum() / weights.sum().clamp(min=1)
