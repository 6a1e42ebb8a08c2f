"""A memory bank by image: a query meets only rows of those normal images that its own resembles.

For parts that come in several poses or kinds: what is normal for one need not be for another.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autosearch.memory.windows import (
    FAR,
    Blocks,
    PlacedRows,
    checked_rows,
    least,
    stand_ins,
    windowed_sums,
)

_STEP_BYTES = 8 << 20
"""Rows and products of one query in one step: what stays in cache until it is reduced."""
_MOST_STEPS = 16
"""However many images and rows there are: every step is a part of an exported graph."""


class AlikeImages(nn.Module):
    """Which normal images resemble one: the nearest by features of whole images.

    Args:
        pooled: ``(I, D)`` features of the normal images, one vector for each.
        number: How many are chosen.
        cosine: Whether the angle between features says how alike they are; otherwise it is the
            distance between standardised ones.

    Attributes:
        centre: ``(D,)`` mean of the features; 0 for angles.
        scale: ``(D,)`` their standard deviations, 1 where all are the same, and for angles.
        known: ``(I, D)`` the features, standardised; for angles of length 1.
    """

    centre: Tensor
    scale: Tensor
    known: Tensor

    def __init__(self, pooled: Tensor, number: int, cosine: bool = False) -> None:
        super().__init__()
        self.number, self._cosine = min(number, len(pooled)), cosine
        deviation, centre = pooled.std(0, correction=0), pooled.mean(0)
        scale = torch.where(deviation > 0, deviation, 1.0)
        if cosine:
            centre, scale = torch.zeros_like(centre), torch.ones_like(scale)
        self.register_buffer("centre", centre)
        self.register_buffer("scale", scale)
        self.register_buffer("known", self._standardised(pooled))

    def forward(self, pooled: Tensor) -> Tensor:
        """``(N, D)`` to the ``(N, number)`` int64 indices of the most alike, nearest first."""
        asked = self._standardised(pooled)
        # The squared distance less what is the same for all.
        distances = self.known.square().sum(1) - 2 * asked @ self.known.T
        return distances.topk(self.number, dim=1, largest=False).indices

    def _standardised(self, pooled: Tensor) -> Tensor:
        found = (pooled - self.centre) / self.scale
        return F.normalize(found, dim=1) if self._cosine else found


class ImageBank(PlacedRows):
    """Rows by image, and exact distances to those of some images, as plain operations.

    Args:
        grid: Rows and columns of places.
        radius: Of windows, as in `WindowedBank`; None where rows are compared wherever they lie.
        dimension: Length ``D`` of a patch.
        alike: Images that a query is compared with, ``n``.
        device: Where rows are stored and compared.
        num_neighbors: Neighbours whose mean squared distance is the score.

    Attributes:
        rows: ``(B, I, C, D)``: by block of places the rows of every image, less `origin`; without
            windows in one block.
        origin: ``(D,)`` mean of the patches.
        squares: ``(B, I, C)`` squared norms. They follow from the rows.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        radius: int | None,
        dimension: int,
        alike: int,
        device: str | torch.device = "cpu",
        num_neighbors: int = 1,
    ) -> None:
        super().__init__(grid, dimension, device, num_neighbors)
        self.radius = None if radius is None else min(radius, max(grid) - 1)
        self.alike = alike
        self._blocks = None if self.radius is None else Blocks.of(grid, self.radius)

    def fill(self, patches: Tensor, images: Tensor, places: Tensor, total: int) -> None:
        """Replace what is stored.

        Args:
            patches: ``(M, D)``.
            images: ``(M,)`` index of each one's image.
            places: ``(M,)`` index of each one's place in the grid, row by row.
            total: Number of images.

        Raises:
            ValueError: Shapes do not fit, a value is NaN or infinite, or with windows an image has
                two rows of one place.
        """
        size = math.prod(self.grid)
        patches, places = checked_rows(patches, places, self.dimension, size, self._device)
        images = images.to(self._device)
        counts = torch.bincount(images * size + places, minlength=total * size)
        self._counts = counts.view(total, *self.grid).cpu()
        if self._blocks is None:
            own = counts.view(total, size).sum(1)
            order = images.argsort(stable=True)
            patches, images = patches[order], images[order]
            column = torch.arange(len(images), device=self._device)
            column -= (own.cumsum(0) - own)[images]
            block, shape = torch.zeros_like(column), (1, int(own.max()))
        else:
            if counts.max() > 1:
                raise ValueError("places: expected one row for each of an image")
            block = self._blocks.block.to(self._device)[places]
            column = self._blocks.column.to(self._device)[places]
            shape = (len(self._blocks.asked), self._blocks.columns)
        origin = patches.mean(0)
        laid = (shape[0], total, shape[1])
        rows = torch.zeros(*laid, self.dimension, device=self._device)
        rows[block, images, column] = patches - origin
        missing = torch.ones(laid, dtype=torch.bool, device=self._device)
        missing[block, images, column] = False
        self.rows = nn.Parameter(rows, requires_grad=False)
        self._keep(missing=missing)
        self._keep(squares=self._squares(), stand_ins=stand_ins(self.reached()))
        if self._blocks is not None:
            self._keep(asked=self._blocks.asked.flatten(), cells=self._blocks.cells.flatten())
        self.register_buffer("origin", origin)

    def forward(self, queries: Tensor, alike: Tensor) -> Tensor:
        """Mean squared Euclidean distances to the nearest rows of some images.

        Args:
            queries: ``(N, h * w, D)`` patches of whole images, row by row.
            alike: ``(N, n)`` indices of the images that each is compared with.

        Returns:
            ``(N, h * w)``, never negative. A place whose window holds too few rows has the value
            of the nearest one that has enough.
        """
        distances = self._distances(queries, alike)
        return distances if self._blocks is None else distances.index_select(1, self.stand_ins)

    @torch.inference_mode()
    def search(self, queries: Tensor, alike: Tensor) -> Tensor:
        """The same, image by image.

        Args:
            queries: ``(N, h, w, D)``, patches of whole images.
            alike: ``(N, n)`` indices of the images that each is compared with.

        Returns:
            ``(N, h, w)`` float32, infinite where these have fewer rows than neighbours.
        """
        asked = queries.flatten(1, 2).to(self._device, torch.float32)
        alike = alike.to(self._device)
        found = torch.cat(
            [self._distances(asked[i : i + 1], alike[i : i + 1]) for i in range(len(asked))]
        )
        short = self.within()[alike.cpu()].sum(1) < self.num_neighbors
        return found.view(-1, *self.grid).masked_fill_(short.to(self._device), math.inf)

    def within(self) -> Tensor:
        """``(I, h, w)`` int64, rows of each image that a query of a place is compared with."""
        if self.radius is None:
            return self._counts.sum((1, 2), keepdim=True).expand_as(self._counts)
        return windowed_sums(self._counts, self.radius)

    def reached(self) -> Tensor:
        """``(h, w)`` bool, true where any choice of images has as many rows as neighbours."""
        fewest = self.within().sort(0).values[: self.alike].sum(0)
        return fewest >= self.num_neighbors

    def compared(self) -> int:
        """Pairs of a query and a row of one image, in the mean over all choices of images."""
        number = len(self._counts)
        return round(int(self.within().sum()) * min(self.alike, number) / number)

    def _distances(self, queries: Tensor, alike: Tensor) -> Tensor:
        count, k = queries.shape[0], self.num_neighbors
        centred = queries - self.origin
        spread = centred * -2
        if self._blocks is not None:
            spread = spread.index_select(1, self.asked)
        blocks, columns = self.rows.shape[0], self.rows.shape[2]
        spread = spread.reshape(count, blocks, -1, self.dimension).transpose(0, 1)
        asked, found = spread.shape[2], []
        step = self._step(asked, alike.shape[1])
        for start in range(0, alike.shape[1], step):
            some = alike[:, start : start + step]
            number, index = some.shape[1], some.flatten()
            size = (blocks, count, number * columns)
            rows = self.rows.index_select(1, index).view(*size, self.dimension)
            squares = self.squares.index_select(1, index).view(size)
            products = spread @ rows.transpose(2, 3) + squares[:, :, None]
            if self._blocks is not None:
                # Images of a place are compared here, places of a window below.
                products = products.view(blocks, count, asked, number, columns).transpose(3, 4)
            found.append(least(products, k))
        met = least(torch.cat(found, dim=-1), k).transpose(0, 1)
        met = met.flatten(1, 2) if self._blocks is None else met.flatten(1, 3)
        if self._blocks is not None:
            met = torch.cat([met, torch.full_like(met[:, :1], FAR)], dim=1)
            met = met.index_select(1, self.cells)
            met = met.view(count, math.prod(self.grid), -1)
        distances = least(met, k) + centred.square().sum(-1, keepdim=True)
        return distances.clamp(min=0).mean(-1)

    def _squares(self) -> Tensor:
        return self.rows.square().sum(3).masked_fill(self.missing, FAR)

    def _step(self, asked: int, number: int) -> int:
        """Images whose rows and products are held at a time, of those that one is compared with.

        Args:
            asked: Queries of a block.
            number: Images.
        """
        own = 4 * self.rows.shape[0] * self.rows.shape[2] * (self.dimension + asked)
        return max(1, _STEP_BYTES // own, math.ceil(number / _MOST_STEPS))
