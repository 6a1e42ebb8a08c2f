"""Images for networks that halve them: sides that the strides do not divide."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from autosearch.data import Size
from autosearch.errors import Infeasible


class Sides(nn.Module):
    """Mirrors images at the bottom and on the right until a stride divides them.

    Rows and columns are taken by their numbers: graphs that pad cannot be written for runtimes of
    before ONNX's opset 18.

    Args:
        size: Height and width of the images.
        stride: Pixels per side of a cell of the network's coarsest map.
        fewest: Cells that this map must have at least. A batch norm that learns from a single
            image needs two.

    Attributes:
        grid: Rows and columns of the coarsest map.

    Raises:
        Infeasible: A side is so short that its mirror image does not fill a cell, or the map is
            too small.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, size: Size, stride: int, fewest: int = 1) -> None:
        super().__init__()
        rows, columns = (-(-side // stride) for side in size)
        missing = rows * stride - size[0], columns * stride - size[1]
        if any(more >= side for more, side in zip(missing, size, strict=True)):
            raise Infeasible(
                f"images of {size[0]} x {size[1]} pixels are too small for a network that makes "
                f"one cell of {stride} x {stride} pixels; {stride // 2 + 1} a side are the least"
            )
        if rows * columns < fewest:
            raise Infeasible(
                f"images of {size[0]} x {size[1]} pixels become a map of {rows * columns} cell of "
                f"{stride} x {stride} pixels, and training needs {fewest}; use larger images"
            )
        self.grid: Size = rows, columns
        self._size, self._fits = size, not any(missing)
        for name, side, more in zip(("rows", "columns"), size, missing, strict=True):
            taken = torch.from_numpy(np.pad(np.arange(side), (0, more), "reflect"))
            self.register_buffer(name, taken, persistent=False)

    def pad(self, images: Tensor) -> Tensor:
        """``(N, C, H, W)`` to sides that are multiples of the stride."""
        if self._fits:
            return images
        return images.index_select(2, self.rows).index_select(3, self.columns)

    def cut(self, maps: Tensor) -> Tensor:
        """``(N, C, h, w)`` of padded images to ``(N, C, H, W)``."""
        return maps[..., : self._size[0], : self._size[1]]
