"""Exact nearest neighbours from a lower bound: most distances are never computed.

Neighbouring patches share pixels and pooled maps are smooth, so features of normal images vary in
few directions. Let ``P`` project onto the leading principal axes of the bank and let ``r(x)`` be
the length of what the projection leaves of ``x``. Then, by the triangle inequality,

    |a - b|² = |Pa - Pb|² + |a' - b'|² >= |Pa - Pb|² + (r(a) - r(b))²,

a squared distance in a few dimensions, found for all pairs by one small matrix product. A pair
whose bound lies above the distance to some known row cannot be nearest; the rest is computed in
full. Answers differ from an exhaustive search by rounding only.
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod

import torch
from torch import Tensor

_TILE = 128
"""Rows whose smallest bound is looked at before the rows themselves."""
_CHUNK = 2048
"""Rows in one product, which is reduced to the minima of its tiles while it is in cache."""
_SCRATCH_BYTES = 128 << 20
_FEWEST, _MOST = 16, 256
_SAMPLED = 16_384
_KEPT_VARIANCE = 0.93
_STEP = 16
_LARGEST_SHARE = 0.4
"""Of the dimensions that the bound may use: beyond it, little is saved."""
_MANY_CANDIDATES = 0.01
"""Share of all pairs beyond which gathering them costs more than computing all."""
_PATIENCE = 4
"""Blocks of queries that may fail before it counts."""
_GATHERED = 1 << 18
"""Numbers copied at a time to compare queries with single rows."""
_FAR = 1e38
ROUNDING = 1e-5
"""Of a product in single precision, as a share of the squares that it is made of."""


class BoundedRows(ABC):
    """Rows of a bank together with what their bounds need.

    Args:
        rows: ``(M, D + 1)`` of ``[-2b, |b|²]``, so that a product with ``[q, 1]`` is the squared
            distance less ``|q|²``.
        bounds: ``(M, m)`` whose product with what `_asked` makes of queries are the bounds; a
            large number in the last column makes them large.
        most: Queries that are searched at a time at most.
    """

    def __init__(self, rows: Tensor, bounds: Tensor, most: int) -> None:
        self._rows, self._most = rows, most
        number = max(1, round(len(rows) / _CHUNK))
        self._chunk = math.ceil(len(rows) / (number * _TILE)) * _TILE
        padding = bounds.new_zeros(number * self._chunk - len(rows), bounds.shape[1])
        padding[:, -1] = _FAR
        chunks = torch.cat([bounds, padding]).view(number, self._chunk, -1)
        self._bounds = chunks.transpose(1, 2).contiguous()
        self._scratch = threading.local()
        self._searched = self._missed = 0

    @property
    def block(self) -> int:
        """Number of queries to search at a time."""
        one = self._bounds.element_size() * self._chunk * len(self._bounds)
        return max(_FEWEST, min(self._most, _SCRATCH_BYTES // one))

    @abstractmethod
    def _asked(self, queries: Tensor, squares: Tensor) -> Tensor:
        """What is multiplied with the bounds of rows, ``(Q, m)``."""

    @abstractmethod
    def _limit(self, queries: Tensor, squares: Tensor, upper: Tensor) -> Tensor:
        """The largest bound that a row can have, ``(Q, 1)``, which lies no farther than that."""

    @torch.inference_mode()
    def search(self, queries: Tensor, num_neighbors: int) -> Tensor | None:
        """Squared distances of ``(Q, D)`` queries to their nearest rows, ``(Q, num_neighbors)``.

        Returns None where so many pairs pass the bound that an exhaustive search is faster, and
        at once if that was so for most queries before, or if more neighbours are asked for than
        there are tiles. May be called from several threads.
        """
        if num_neighbors > len(self._rows) / _TILE:
            return None
        if 2 * self._missed > self._searched + _PATIENCE:
            return None
        self._searched += 1
        squares = queries.square().sum(1, keepdim=True)
        tiles, smallest = self._bound(queries, squares)
        upper = self._upper(queries, tiles, smallest, num_neighbors)
        limit = self._limit(queries, squares, upper)
        asking, tile = (smallest <= limit).nonzero(as_tuple=True)
        pair, place = (_tiles_of(tiles, asking, tile) <= limit[asking]).nonzero(as_tuple=True)
        if len(pair) > _MANY_CANDIDATES * len(queries) * len(self._rows):
            self._missed += 1
            return None
        query, row = asking[pair], tile[pair] * _TILE + place
        distances = self._distances(queries, query, row)
        found: Tensor = _smallest_per_query(distances, query, len(queries), num_neighbors)
        return found

    def _bound(self, queries: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds, ``(chunks, Q, tiles, rows)``, and the least of every tile, ``(Q, tiles)``."""
        asked = self._asked(queries, squares)
        count, chunks, width = len(asked), len(self._bounds), self._chunk
        # Fresh memory for every block would cost more than the products that fill it.
        if not hasattr(self._scratch, "bounds"):
            self._scratch.bounds = asked.new_empty(self.block * chunks * width)
        out = self._scratch.bounds[: count * chunks * width].view(chunks, count, width)
        tiles = _ordered(out.view(chunks, count, -1, _TILE))
        smallest = tiles.new_empty(count, chunks, width // _TILE)
        for c in range(chunks):
            torch.mm(asked, self._bounds[c], out=out[c])
            torch.amin(tiles[c], 2, out=smallest[:, c])
        return tiles, smallest.view(count, -1)

    def _upper(self, queries: Tensor, tiles: Tensor, smallest: Tensor, k: int) -> Tensor:
        """Largest distance to ``k`` promising rows, ``(Q, 1)``: no neighbour lies beyond it."""
        tile = smallest.topk(k, dim=1, largest=False).indices.flatten()
        query = torch.arange(len(queries), device=tile.device).repeat_interleave(k)
        row = tile * _TILE + _tiles_of(tiles, query, tile).argmin(1)
        return self._distances(queries, query, row).view(-1, k).amax(1, keepdim=True)

    def _distances(self, queries: Tensor, query: Tensor, row: Tensor) -> Tensor:
        """Squared distances of single pairs, from differences: exact even for tiny ones."""
        out = queries.new_empty(len(query))
        size = max(1, _GATHERED // queries.shape[1])
        for start in range(0, len(query), size):
            part = slice(start, start + size)
            difference = self._rows[row[part]][:, :-1].mul_(0.5).add_(queries[query[part]])
            torch.sum(difference.square_(), dim=1, out=out[part])
        return out


class PrunedRows(BoundedRows):
    """Bounds in a few dimensions, less ``|q|²``.

    Args:
        rows: See `BoundedRows`.
        axes: ``(D, m)`` orthonormal, from `leading_axes`.
    """

    def __init__(self, rows: Tensor, axes: Tensor) -> None:
        self._axes = axes
        projected = rows[:, :-1] @ (axes * -0.5)
        rest = (rows[:, -1] - projected.square().sum(1)).clamp(min=0).sqrt()
        bounds = torch.cat([projected * -2, rest[:, None] * -2, rows[:, -1:]], dim=1)
        super().__init__(rows, bounds, _MOST)

    def _asked(self, queries: Tensor, squares: Tensor) -> Tensor:
        projected = queries @ self._axes
        rest = (squares - projected.square().sum(1, keepdim=True)).clamp(min=0).sqrt()
        return torch.cat([projected, rest, torch.ones_like(rest)], dim=1)

    def _limit(self, queries: Tensor, squares: Tensor, upper: Tensor) -> Tensor:
        return upper - squares + ROUNDING * (upper + squares)


def _ordered(values: Tensor) -> Tensor:
    """The same numbers, in bfloat16 as integers, whose minima are found several times faster.

    Positive ones keep their order, and negative ones stay below them.
    """
    return values.view(torch.int16) if values.dtype == torch.bfloat16 else values


def _tiles_of(tiles: Tensor, query: Tensor, tile: Tensor) -> Tensor:
    """Bounds of one tile a query, ``(n, rows)``."""
    return tiles[tile // tiles.shape[2], query, tile % tiles.shape[2]]


def leading_axes(rows: Tensor) -> Tensor | None:
    """Few principal axes that hold most of the variance, ``(D, m)``; None if there are none such.

    Args:
        rows: ``(M, D + 1)`` of ``[-2b, |b|²]`` with the mean of ``b`` near 0.
    """
    dimension = rows.shape[1] - 1
    sample = rows[:: max(1, len(rows) // _SAMPLED), :-1]
    values, vectors = torch.linalg.eigh(sample.T @ sample)
    variance = values.flip(0).cumsum(0)
    needed = int((variance < _KEPT_VARIANCE * variance[-1]).sum()) + 1
    kept = -(-needed // _STEP) * _STEP
    if kept > _LARGEST_SHARE * dimension:
        return None
    axes: Tensor = vectors.flip(1)[:, :kept].contiguous()
    return axes


def _smallest_per_query(values: Tensor, query: Tensor, queries: int, k: int) -> Tensor:
    """The ``k`` smallest values of every query in rising order, ``(queries, k)``."""
    if k == 1:
        out = values.new_full((queries,), _FAR)
        return out.scatter_reduce(0, query, values, "amin")[:, None]
    order = values.argsort()
    order = order[query[order].argsort(stable=True)]
    counts = torch.bincount(query, minlength=queries)
    first = counts.cumsum(0) - counts
    return values[order][first[:, None] + torch.arange(k, device=values.device)]
