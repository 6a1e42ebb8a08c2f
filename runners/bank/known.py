"""The patches of normal images that a memory bank is made from, with what is known of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_SAME = 0.03
"""Share by which a size may fall short of the images' and be theirs: sides come in steps."""


@dataclass(frozen=True)
class KnownRows:
    """Patches of a bank, and where they are from.

    Attributes:
        vectors: ``(M, d)`` for every bank.
        rows: ``(M,)`` which of the ``(I * P)`` patches, image by image, they are.
        pooled: ``(I, d)`` what every image is likened by; None where nobody asks.
    """

    vectors: tuple[Tensor, ...]
    rows: Tensor
    pooled: Tensor | None

    def of_images(self, wanted: Tensor, places: int) -> KnownRows:
        """Those of some images, ``(I,)`` bool, numbered anew."""
        images, numbers = self.rows // places, wanted.cumsum(0) - 1
        kept = wanted[images]
        rows = numbers[images[kept]] * places + self.rows[kept] % places
        vectors = tuple(part[kept.to(part.device)] for part in self.vectors)
        pooled = None if self.pooled is None else self.pooled[wanted.to(self.pooled.device)]
        return KnownRows(vectors, rows, pooled)


def together(vectors: Sequence[Tensor]) -> Tensor:
    """Vectors of all banks as one, ``(M, D)``, in which each bank counts alike."""
    if len(vectors) == 1:
        return vectors[0]
    spreads = [(part - part.mean(0)).square().sum(1).mean().sqrt() for part in vectors]
    scaled = [part / (spread or 1) for part, spread in zip(vectors, spreads, strict=True)]
    return torch.cat(scaled, dim=1)


def smaller_size(size: tuple[int, int], side: int | None) -> tuple[int, int] | None:
    """Height and width of what the network is given, where images are to be smaller for it.

    Args:
        size: Of the images.
        side: Of the square that has as many pixels; None leaves images as they are.

    Returns:
        The images' own shape, in steps of 8 pixels where it is no square; None where it is theirs
        or would be larger.
    """
    height, width = size
    scale = (side or math.inf) / math.sqrt(height * width)
    if side is None or scale > 1 - _SAME:
        return None
    if height == width:
        return side, side
    return max(8, 8 * round(scale * height / 8)), max(8, 8 * round(scale * width / 8))
