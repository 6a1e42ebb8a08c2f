"""A memory bank that knows where a patch lies: a query meets only rows from about its place.

Photographs of parts come from a fixed camera, so what is normal differs from place to place.
PaDiM (Defard et al., ICPR 2021) keeps a model for every place; here each keeps its patches, and a
query is compared with those of all places within a radius, exactly.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from autosearch.errors import ConfigError

FAR = 1e30
"""Squared norm of a row that is none: farther than any other."""

_COLUMNS = 4
"""Neighbouring queries of one row of the grid whose windows are compared at once."""


class WindowedBank:
    """Rows by place, and exact distances to those within a window.

    A row of places is one matrix; the queries that may meet it are those of the ``2 r + 1`` rows
    of queries around it. So a product of a few columns of queries with the places around them
    spares nothing but the corners that lie too far to the side, which are left out afterwards.

    Args:
        grid: Rows and columns of places.
        radius: Largest distance of two places along either axis (Chebyshev), 0 for the same one.
        dimension: Length ``D`` of a patch.
        device: Where rows are stored and compared.

    Attributes:
        rows_per_place: Most rows of one place, ``n``; places with fewer are filled up.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        radius: int,
        dimension: int,
        device: str | torch.device = "cpu",
    ) -> None:
        self.grid, self.radius, self.dimension = grid, radius, dimension
        self.device = torch.device(device)
        self.rows_per_place = 0
        self._counts = torch.zeros(grid, dtype=torch.int64)
        self._origin = torch.zeros(dimension, device=self.device)
        self._rows = torch.empty(0)

    def fill(self, patches: Tensor, places: Tensor) -> None:
        """Replace what is stored.

        Args:
            patches: ``(M, D)``.
            places: ``(M,)`` index of each one's place in the grid, row by row.

        Raises:
            ValueError: Shapes do not fit, or a value is NaN or infinite.
        """
        height, width = self.grid
        total = height * width
        if patches.ndim != 2 or patches.shape[1] != self.dimension or not len(patches):
            raise ValueError(f"patches are {tuple(patches.shape)}, expected (*, {self.dimension})")
        if places.shape != patches.shape[:1] or places.min() < 0 or places.max() >= total:
            raise ValueError(f"places: expected {len(patches)} numbers from 0 to {total - 1}")
        patches = patches.detach().to(self.device, torch.float32)
        if not torch.isfinite(patches).all():
            raise ValueError("patches hold NaN or infinite values")
        places = places.to(self.device)
        counts = torch.bincount(places, minlength=total)
        self.rows_per_place = int(counts.max())
        self._counts = counts.view(self.grid).cpu()
        self._origin = patches.mean(0)
        order = places.argsort(stable=True)
        within = torch.arange(len(places), device=self.device)
        within -= (counts.cumsum(0) - counts)[places[order]]
        # A stored row is [-2b, |b|²], of which the product with [q, 1] is the distance less |q|².
        rows = torch.zeros(total, self.rows_per_place, self.dimension + 1, device=self.device)
        rows[..., -1] = FAR
        centred = patches[order] - self._origin
        norms = centred.square().sum(1, keepdim=True)
        rows[places[order], within] = torch.cat([centred * -2, norms], dim=1)
        self._rows = rows.view(height, width * self.rows_per_place, self.dimension + 1)

    def search(self, queries: Tensor) -> Tensor:
        """Squared Euclidean distances to the nearest rows within the window.

        Args:
            queries: ``(N, h, w, D)``, patches of whole images.

        Returns:
            ``(N, h, w)`` float32, never negative, infinite where the window holds no row.

        Raises:
            ValueError: The shape is another, or a value is NaN or infinite.
        """
        height, width = self.grid
        if queries.shape[1:] != (height, width, self.dimension):
            expected = (height, width, self.dimension)
            raise ValueError(f"queries are {tuple(queries.shape)}, expected (*, {expected})")
        queries = queries.detach().to(self.device, torch.float32) - self._origin
        if not torch.isfinite(queries).all():
            raise ValueError("queries hold NaN or infinite values")
        count, n, r = len(queries), self.rows_per_place, self.radius
        extended = torch.cat([queries, torch.ones_like(queries[..., :1])], dim=-1)
        # By row and column of the grid first, so that a product takes whole rows of it.
        extended = extended.permute(1, 2, 0, 3).contiguous()
        nearest = torch.full((height, width, count), math.inf, device=self.device)
        for left in range(0, width, _COLUMNS):
            right = min(left + _COLUMNS, width)
            first, last = max(0, left - r), min(width, right + r)
            apart = torch.arange(left, right)[:, None] - torch.arange(first, last)
            far = (apart.abs() > r).to(self.device)
            columns = extended[:, left:right].reshape(height, -1, self.dimension + 1)
            for row in range(height):
                top, bottom = max(0, row - r), min(height, row + r + 1)
                part = columns[top:bottom].reshape(-1, self.dimension + 1)
                product = part @ self._rows[row, first * n : last * n].T
                least = product.view(bottom - top, right - left, count, last - first, n).amin(-1)
                least.masked_fill_(far[None, :, None, :], math.inf)
                held = nearest[top:bottom, left:right]
                torch.minimum(held, least.amin(-1), out=held)
        distances = nearest.permute(2, 0, 1) + queries.square().sum(-1)
        return distances.masked_fill(distances > FAR / 2, math.inf).clamp_(min=0)

    def reached(self) -> Tensor:
        """``(h, w)`` bool, true for a place whose window holds a row."""
        size, there = 2 * self.radius + 1, (self._counts > 0).float()[None, None]
        found = F.max_pool2d(there, size, stride=1, padding=self.radius)
        return found[0, 0] > 0

    def compared(self) -> int:
        """Pairs of a query and a row of one image: what a search costs, whatever way it is done."""
        size = 2 * self.radius + 1
        weights = torch.ones(1, 1, size, size, dtype=torch.float64)
        counts = self._counts.double()[None, None]
        return int(F.conv2d(counts, weights, padding=self.radius).sum().round())

    def __len__(self) -> int:
        return int(self._counts.sum())

    @property
    def nbytes(self) -> int:
        """Bytes of the patches as float32."""
        return 4 * len(self) * self.dimension

    def rows(self) -> tuple[Tensor, Tensor]:
        """All patches ``(M, D)`` and the places ``(M,)`` they lie in, place by place."""
        stored = self._rows.view(-1, self.rows_per_place, self.dimension + 1)
        there = stored[..., -1] < FAR / 2
        return stored[there][:, :-1] / -2 + self._origin, there.nonzero()[:, 0]


def check_radius(radius: int | None, grid: tuple[int, int]) -> None:
    """Refuse a window that is none.

    Raises:
        ConfigError: It is negative.
    """
    if radius is not None and radius < 0:
        raise ConfigError("window", radius, f"null, or 0 to {max(grid)}")
