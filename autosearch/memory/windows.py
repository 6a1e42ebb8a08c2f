"""A memory bank that knows where a patch lies: a query meets only rows from about its place.

Photographs of parts come from a fixed camera, so what is normal differs from place to place.
PaDiM (Defard et al., ICPR 2021) keeps a model for every place; here each keeps its patches, and a
query is compared with those of all places within a radius, exactly.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FAR = 1e30
"""Squared norm of a row that is none: farther than any other."""

_LARGEST_BLOCK = 2
"""Side of a block: larger ones compare more in vain, smaller ones gather more queries."""
_CHUNK_BYTES = 4 << 20
"""Queries and products of one image in one step: what stays in cache until it is reduced."""
_MOST_CHUNKS = 64
_CPU_IMAGES, _GPU_IMAGES = 4, 32
"""Images that are asked about at a time."""


@dataclass(frozen=True)
class Blocks:
    """A grid of places cut into blocks, and which queries meet the rows of each.

    Windows of neighbouring places overlap. So the rows of a block are compared with all queries
    of the block and of a margin around it in one matrix product, and what lies too far apart is
    not looked at. Every row is read once, and products stay near to what is needed: with blocks of
    2 x 2 and a radius of 3 they are a third more.

    Attributes:
        asked: ``(B, S)`` place of every query that a block's rows are compared with.
        block: ``(P,)`` block of every place.
        column: ``(P,)`` where it lies in its block, from 0 to ``C - 1``.
        columns: Places of a block, ``C``.
        cells: ``(P, W)`` for every query and place of its window, where their comparison stands in
            ``(B, S, C)``, or ``B * S * C`` where the window leaves the grid.
    """

    asked: Tensor
    block: Tensor
    column: Tensor
    columns: int
    cells: Tensor

    @classmethod
    def of(cls, grid: tuple[int, int], radius: int) -> Blocks:
        """Cut a grid.

        Args:
            grid: Rows and columns of places.
            radius: Of windows, from 0 on.
        """
        height, width = grid
        side = min(radius + 1, _LARGEST_BLOCK)
        down, across = (_Axis.of(length, radius, min(side, length)) for length in grid)

        def joined(rows: Tensor, columns: Tensor, factor: int) -> Tensor:
            return rows[:, None, :, None] * factor + columns[None, :, None, :]

        asked = joined(down.asked, across.asked, width).flatten(2).flatten(0, 1)
        block = joined(down.block, across.block, across.blocks)
        column = joined(down.column, across.column, min(side, width))
        slot = joined(down.slot, across.slot, across.asked.shape[1])
        inside = down.inside[:, None, :, None] & across.inside[None, :, None, :]
        places, queries = min(side, height) * min(side, width), asked.shape[1]
        cells = (block * queries + slot) * places + column
        cells = cells.masked_fill(~inside, len(asked) * queries * places)
        # The place itself lies in the middle of its window.
        own = (slice(None), slice(None), radius, radius)
        cells = cells.flatten(2).flatten(0, 1)
        return cls(asked, block[own].flatten(), column[own].flatten(), places, cells)


@dataclass(frozen=True)
class _Axis:
    """The same along one axis of length ``L`` and for windows of ``V`` places.

    Attributes:
        asked: ``(b, s)`` index of the queries of every block.
        block: ``(L, V)`` block of every place of a window.
        column: ``(L, V)`` where it lies in that block.
        slot: ``(L, V)`` where the query stands among those of that block.
        inside: ``(L, V)`` false where the window leaves the grid.
    """

    asked: Tensor
    block: Tensor
    column: Tensor
    slot: Tensor
    inside: Tensor

    @classmethod
    def of(cls, length: int, radius: int, side: int) -> _Axis:
        queries = min(side + 2 * radius, length)
        starts = torch.arange(0, length, side)
        first = (starts - radius).clamp(0, length - queries)
        own = torch.arange(length)[:, None]
        place = own + torch.arange(-radius, radius + 1)
        inside = (place >= 0) & (place < length)
        place = place.clamp(0, length - 1)
        block = place // side
        # A clamped place may lie in a block that does not ask so far; it is not looked at.
        slot = (own - first[block]).clamp(0, queries - 1)
        asked = first[:, None] + torch.arange(queries)
        return cls(asked, block, place % side, slot, inside)

    @property
    def blocks(self) -> int:
        return len(self.asked)


class PlacedRows(nn.Module, ABC):
    """What banks have in common whose rows lie at places of a grid; see `WindowedBank`.

    Attributes:
        missing: Of the shape of `squares`, bool, true where there is no row.
    """

    origin: Tensor
    squares: Tensor
    missing: Tensor
    asked: Tensor
    cells: Tensor
    stand_ins: Tensor

    def __init__(
        self, grid: tuple[int, int], dimension: int, device: str | torch.device, num_neighbors: int
    ) -> None:
        super().__init__()
        self.grid, self.dimension, self.num_neighbors = grid, dimension, num_neighbors
        self._device = torch.device(device)
        self._counts = torch.zeros(0, *grid, dtype=torch.int64)
        self.register_load_state_dict_post_hook(_refresh)  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return int(self._counts.sum())

    @property
    def nbytes(self) -> int:
        """Bytes of the patches as float32."""
        return 4 * len(self) * self.dimension

    @abstractmethod
    def _squares(self) -> Tensor:
        """Squared norms of the rows; what is missing is far away."""

    def _keep(self, **buffers: Tensor) -> None:
        """Register what follows from rows and is not stored beside them."""
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor.to(self._device), persistent=False)


class WindowedBank(PlacedRows):
    """Rows by place, and exact distances to those within a window, as plain operations.

    Args:
        grid: Rows and columns of places.
        radius: Largest distance of two places along either axis (Chebyshev), 0 for the same one.
        dimension: Length ``D`` of a patch.
        device: Where rows are stored and compared.
        num_neighbors: Neighbours whose mean squared distance is the score, ``k``.

    Attributes:
        rows: Chunks of ``(b, D, C * n)``: by block the rows of its places less `origin`, where
            ``n`` is the most that one place has; what is missing is far away.
        origin: ``(D,)`` mean of the patches, without which products would leave no digits for
            their differences.
        squares: ``(B, 1, C * n)`` squared norms. They follow from the rows.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        radius: int,
        dimension: int,
        device: str | torch.device = "cpu",
        num_neighbors: int = 1,
    ) -> None:
        super().__init__(grid, dimension, device, num_neighbors)
        # A window is never larger than the grid.
        self.radius, self.rows_per_place = min(radius, max(grid) - 1), 0
        self._blocks = Blocks.of(grid, self.radius)
        self.rows = nn.ParameterList()

    def fill(self, patches: Tensor, places: Tensor) -> None:
        """Replace what is stored.

        Args:
            patches: ``(M, D)``.
            places: ``(M,)`` index of each one's place in the grid, row by row.

        Raises:
            ValueError: Shapes do not fit, or a value is NaN or infinite.
        """
        total = math.prod(self.grid)
        patches, places = checked_rows(patches, places, self.dimension, total, self._device)
        counts = torch.bincount(places, minlength=total)
        n = self.rows_per_place = int(counts.max())
        self._counts = counts.view(self.grid).cpu()
        order = places.argsort(stable=True)
        patches, places = patches[order], places[order]
        within = torch.arange(len(places), device=self._device)
        within -= (counts.cumsum(0) - counts)[places]
        blocks = self._blocks
        size, columns = len(blocks.asked), blocks.columns
        at = blocks.block.to(self._device)[places]
        column = blocks.column.to(self._device)[places] * n + within
        origin = patches.mean(0)
        rows = torch.zeros(size, self.dimension, columns * n, device=self._device)
        rows[at, :, column] = patches - origin
        missing = torch.ones(size, 1, columns * n, dtype=torch.bool, device=self._device)
        missing[at, 0, column] = False
        chunk = self._chunk(blocks.asked.shape[1], columns * n)
        self.rows = nn.ParameterList(
            nn.Parameter(part.clone(), requires_grad=False) for part in torch.split(rows, chunk)
        )
        self._keep(missing=missing)
        self._keep(squares=self._squares(), stand_ins=stand_ins(self.reached()))
        self._keep(asked=blocks.asked.flatten(), cells=blocks.cells.flatten())
        self.register_buffer("origin", origin)

    def forward(self, queries: Tensor, alike: Tensor | None = None) -> Tensor:
        """Mean squared Euclidean distances to the nearest rows within the window.

        Args:
            queries: ``(N, h * w, D)`` patches of whole images, row by row.
            alike: Not looked at.

        Returns:
            ``(N, h * w)``, never negative. A place whose window holds too few rows has the value
            of the nearest one that has enough, so that no edge appears beside it.
        """
        return self._distances(queries).index_select(1, self.stand_ins)

    @torch.inference_mode()
    def search(self, queries: Tensor) -> Tensor:
        """The same of checked queries, some images at a time.

        Args:
            queries: ``(N, h, w, D)``, patches of whole images.

        Returns:
            ``(N, h, w)`` float32, infinite where the window holds fewer rows than neighbours.

        Raises:
            RuntimeError: Nothing was filled in.
            ValueError: The shape is another, or a value is NaN or infinite.
        """
        if not len(self):
            raise RuntimeError("the bank has not been filled")
        if queries.shape[1:] != (*self.grid, self.dimension):
            expected = (*self.grid, self.dimension)
            raise ValueError(f"queries are {tuple(queries.shape)}, expected (*, {expected})")
        queries = queries.detach().to(self._device, torch.float32).flatten(1, 2)
        if not torch.isfinite(queries).all():
            raise ValueError("queries hold NaN or infinite values")
        size = _CPU_IMAGES if self._device.type == "cpu" else _GPU_IMAGES
        found = torch.cat([self._distances(part) for part in torch.split(queries, size)])
        return found.view(-1, *self.grid).masked_fill_(~self.reached().to(self._device), math.inf)

    def within(self) -> Tensor:
        """``(h, w)`` int64, rows that a query of each place is compared with."""
        return windowed_sums(self._counts[None], self.radius)[0]

    def reached(self) -> Tensor:
        """``(h, w)`` bool, true for a place whose window holds as many rows as neighbours."""
        return self.within() >= self.num_neighbors

    def compared(self) -> int:
        """Pairs of a query and a row of one image: what a search costs, however it is done."""
        return int(self.within().sum())

    def _distances(self, queries: Tensor) -> Tensor:
        n, k, dimension = self.rows_per_place, self.num_neighbors, self.dimension
        asked, columns, kept = self._blocks.asked.shape[1], self._blocks.columns, min(k, n)
        count = queries.shape[0]
        centred = queries - self.origin
        # |a - b|² = |a|² + |b|² - 2ab: the last two in one product, the first at the very end.
        spread = (centred * -2).transpose(0, 1)
        found, start = [], 0
        for rows in self.rows:
            stop = start + rows.shape[0]
            index = self.asked[start * asked : stop * asked]
            part = spread.index_select(0, index).reshape(-1, asked * count, dimension)
            products = torch.baddbmm(self.squares[start:stop], part, rows)
            nearest = least(products.view(-1, asked, count, columns, n), kept)
            found.append(nearest.permute(0, 1, 3, 2, 4).reshape(-1, count * kept))
            start = stop
        found.append(torch.full_like(found[0][:1], FAR))
        met = torch.cat(found).index_select(0, self.cells)
        met = met.view(math.prod(self.grid), -1, count, kept).permute(2, 0, 1, 3).flatten(2)
        distances = least(met, k) + centred.square().sum(-1, keepdim=True)
        return distances.clamp(min=0).mean(-1)

    def _squares(self) -> Tensor:
        norms = torch.cat([part.square().sum(1, keepdim=True) for part in self.rows])
        return norms.masked_fill(self.missing, FAR)

    def _chunk(self, asked: int, rows: int) -> int:
        """Blocks whose queries and products are held at a time."""
        fitting = _CHUNK_BYTES // (4 * asked * (self.dimension + rows))
        return max(1, fitting, math.ceil(len(self._blocks.asked) / _MOST_CHUNKS))


def least(values: Tensor, number: int) -> Tensor:
    """The smallest numbers along the last axis, as many as are asked for and there are."""
    if number == 1:
        return values.amin(-1, keepdim=True)
    return values.topk(min(number, values.shape[-1]), dim=-1, largest=False).values


def windowed_sums(counts: Tensor, radius: int) -> Tensor:
    """``(A, h, w)`` integers to their sums over the windows of all places, alike."""
    size = 2 * radius + 1
    ones = torch.ones(1, 1, size, size, dtype=torch.float64)
    sums = F.conv2d(counts[:, None].double(), ones, padding=radius)
    return sums[:, 0].round().to(torch.int64)


def stand_ins(reached: Tensor) -> Tensor:
    """Which place answers for each of a ``(h, w)`` grid, ``(P,)``: the nearest that is reached.

    Each answers for itself where none is.
    """
    if not reached.any():
        reached = torch.ones_like(reached)
    places = torch.cartesian_prod(*(torch.arange(side) for side in reached.shape)).float()
    found = reached.flatten().nonzero()[:, 0]
    own = torch.arange(len(places))
    lost = (~reached.flatten()).nonzero()[:, 0]
    own[lost] = found[torch.cdist(places[lost], places[found]).argmin(1)]
    return own


def checked_rows(
    patches: Tensor, places: Tensor, dimension: int, total: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Patches and places as they may be stored, on a device.

    Raises:
        ValueError: Shapes do not fit, or a value is NaN or infinite.
    """
    if patches.ndim != 2 or patches.shape[1] != dimension or not len(patches):
        raise ValueError(f"patches are {tuple(patches.shape)}, expected (*, {dimension})")
    if places.shape != patches.shape[:1] or places.min() < 0 or places.max() >= total:
        raise ValueError(f"places: expected {len(patches)} numbers from 0 to {total - 1}")
    patches = patches.detach().to(device, torch.float32)
    if not torch.isfinite(patches).all():
        raise ValueError("patches hold NaN or infinite values")
    return patches, places.to(device)


def _refresh(module: nn.Module, keys: object) -> None:
    if isinstance(module, PlacedRows):
        module.squares.copy_(module._squares())
