"""The banks of a detector: one for all patches, one with windows, one by image."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from autosearch.contracts import passes
from autosearch.errors import Infeasible
from autosearch.memory import ImageBank, MemoryBank, WindowedBank, make_memory_bank

from .known import KnownRows
from .parameters import BankSettings
from .reweighting import ReweightedRows
from .scores import NearestRows


class Store(ABC):
    """A bank of vectors of normal images.

    Args:
        settings: How it is searched.
        grid: Rows and columns of the patch grid.
        dimension: Length ``d`` of a vector.
        device: Where it is.
    """

    def __init__(
        self, settings: BankSettings, grid: tuple[int, int], dimension: int, device: str
    ) -> None:
        self._settings, self._grid, self._device = settings, grid, device
        self._dimension = dimension

    @abstractmethod
    def fill(self, vectors: Tensor, images: Tensor, places: Tensor, total: int) -> None:
        """Replace what is stored: ``(M, d)`` vectors, their images, their places in the grid."""

    @abstractmethod
    def answers(self, queries: Tensor, alike: Tensor | None) -> Tensor:
        """``(N, P, d)`` to scores ``(N, P)``; see `autosearch_runners.bank.scores.Answers`."""

    @abstractmethod
    def distances(self, queries: Tensor, alike: Tensor | None) -> Tensor:
        """The same, infinite where there are fewer rows than neighbours."""

    @abstractmethod
    def module(self) -> nn.Module:
        """The same as `answers` in plain operations."""

    @abstractmethod
    def reached(self) -> Tensor:
        """``(h, w)`` bool, false where there may be fewer rows than neighbours."""

    @abstractmethod
    def compared(self) -> int:
        """Pairs of a vector of an image and one of the bank that are compared."""

    @abstractmethod
    def most(self) -> int:
        """Rows that one vector is compared with at most."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors as float32."""
        return 4 * len(self) * self._dimension

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._dimension


class WholeStore(Store):
    """One bank for all patches."""

    _bank: MemoryBank

    def fill(self, vectors: Tensor, images: Tensor, places: Tensor, total: int) -> None:
        """See `Store.fill`."""
        self._bank = make_memory_bank(self._settings.backend, vectors.shape[1], self._device)
        self._bank.add(vectors)

    def answers(self, queries: Tensor, alike: Tensor | None) -> Tensor:
        """See `Store.answers`."""
        found = self._bank.search(queries.flatten(0, 1), self._settings.num_neighbors)
        return found.mean(dim=1).view(queries.shape[:2])

    def distances(self, queries: Tensor, alike: Tensor | None) -> Tensor:
        """See `Store.distances`."""
        if len(self) < self._settings.num_neighbors:
            return torch.full(queries.shape[:2], torch.inf)
        return self.answers(queries, alike)

    def module(self) -> nn.Module:
        """See `Store.module`."""
        return NearestRows(self.patches(), self._settings.num_neighbors)

    def patches(self) -> Tensor:
        """``(M, d)``, all that it holds."""
        return self._bank.patches()

    def reached(self) -> Tensor:
        """See `Store.reached`."""
        return torch.full(self._grid, len(self) >= self._settings.num_neighbors)

    def compared(self) -> int:
        """See `Store.compared`."""
        return self._grid[0] * self._grid[1] * len(self)

    def most(self) -> int:
        """See `Store.most`."""
        return len(self)

    def __len__(self) -> int:
        return len(self._bank)


class ReweightedStore(WholeStore):
    """One bank for all patches, whose scores are weighed image by image.

    Args:
        settings: See `Store`.
        grid: See `Store`.
        dimension: See `Store`.
        device: See `Store`.
        counted: ``(p,)`` cells that count in some training image.
    """

    _weighing: ReweightedRows

    def __init__(
        self,
        settings: BankSettings,
        grid: tuple[int, int],
        dimension: int,
        device: str,
        counted: Tensor,
    ) -> None:
        super().__init__(settings, grid, dimension, device)
        self._counted = counted

    def fill(self, vectors: Tensor, images: Tensor, places: Tensor, total: int) -> None:
        """See `Store.fill`.

        Raises:
            Infeasible: There are fewer vectors than weigh.
        """
        around = self._settings.reweighting or 0
        if len(vectors) < around:
            reason = f"reweighting_neighbours {around} of a bank of {len(vectors)} patches"
            raise Infeasible(reason)
        super().fill(vectors, images, places, total)
        self._weighing = self.module()

    def answers(self, queries: Tensor, alike: Tensor | None) -> Tensor:
        """See `Store.answers`."""
        scores = super().answers(queries, alike)
        weighed = [
            part * self._weighing.factors(patches, part)
            for patches, part in zip(
                passes(queries, self._device), passes(scores, self._device), strict=True
            )
        ]
        return torch.cat([scores[:0], *weighed])

    def module(self) -> ReweightedRows:
        """See `Store.module`."""
        settings, around = self._settings, self._settings.reweighting or 0
        rooted = settings.root or settings.euclidean
        return ReweightedRows(
            self.patches(), settings.num_neighbors, around, self._counted, rooted
        )

    def compared(self) -> int:
        """See `Store.compared`; of every image one more patch, and one of the bank."""
        return super().compared() + 2 * len(self)


class ModuleStore(Store):
    """A bank that is plain operations itself."""

    _bank: WindowedBank | ImageBank

    def module(self) -> nn.Module:
        """See `Store.module`."""
        return self._bank

    def reached(self) -> Tensor:
        """See `Store.reached`."""
        return self._bank.reached()

    def compared(self) -> int:
        """See `Store.compared`."""
        return self._bank.compared()

    def __len__(self) -> int:
        return len(self._bank)


class PlacedStore(ModuleStore):
    """A bank that knows where its rows lie."""

    _bank: WindowedBank

    def fill(self, vectors: Tensor, images: Tensor, places: Tensor, total: int) -> None:
        """See `Store.fill`."""
        settings, dimension = self._settings, vectors.shape[1]
        radius, k = settings.window or 0, settings.num_neighbors
        self._bank = WindowedBank(self._grid, radius, dimension, self._device, k)
        self._bank.fill(vectors, places)

    def answers(self, queries: Tensor, alike: Tensor | None) -> Tensor:
        """See `Store.answers`."""
        return torch.cat([self._bank(part) for part in passes(queries, self._device)])

    def distances(self, queries: Tensor, alike: Tensor | None) -> Tensor:
        """See `Store.distances`."""
        return self._bank.search(queries.view(-1, *self._grid, self._dimension)).flatten(1)

    def most(self) -> int:
        """See `Store.most`."""
        return int(self._bank.within().max())


class ImageStore(ModuleStore):
    """A bank that knows of which image its rows are, and with a window, where they lie."""

    _bank: ImageBank

    def fill(self, vectors: Tensor, images: Tensor, places: Tensor, total: int) -> None:
        """See `Store.fill`."""
        settings = self._settings
        self._bank = ImageBank(
            self._grid,
            settings.window,
            vectors.shape[1],
            settings.neighbour_images or total,
            self._device,
            settings.num_neighbors,
        )
        self._bank.fill(vectors, images, places, total)

    def answers(self, queries: Tensor, alike: Tensor | None) -> Tensor:
        """See `Store.answers`; image by image, or products of all would be held at once."""
        if alike is None:
            raise RuntimeError("no images were chosen")
        parts = range(len(queries))
        return torch.cat([self._bank(queries[i : i + 1], alike[i : i + 1]) for i in parts])

    def distances(self, queries: Tensor, alike: Tensor | None) -> Tensor:
        """See `Store.distances`."""
        if alike is None:
            raise RuntimeError("no images were chosen")
        return self._bank.search(queries.view(-1, *self._grid, self._dimension), alike).flatten(1)

    def most(self) -> int:
        """See `Store.most`."""
        rows = self._bank.within().sort(0, descending=True).values
        return int(rows[: self._bank.alike].sum(0).max())


def make_store(
    settings: BankSettings, grid: tuple[int, int], dimension: int, device: str, counted: Tensor
) -> Store:
    """The kind of bank that the settings ask for, empty; ``counted`` as of `ReweightedStore`."""
    if settings.reweighting is not None:
        return ReweightedStore(settings, grid, dimension, device, counted)
    if settings.neighbour_images is not None:
        return ImageStore(settings, grid, dimension, device)
    kind = WholeStore if settings.window is None else PlacedStore
    return kind(settings, grid, dimension, device)


def filled_stores(
    settings: BankSettings,
    grid: tuple[int, int],
    device: str,
    counted: Tensor,
    known: KnownRows,
    images: int,
) -> tuple[Store | None, ...]:
    """A bank for every vector of a patch; None where its weight is 0.

    Args:
        settings: How banks are searched.
        grid: Rows and columns of patches.
        device: Where they are.
        counted: As of `ReweightedStore`.
        known: What they are filled with.
        images: Of how many images that is.
    """
    stores: list[Store | None] = []
    cells = grid[0] * grid[1]
    for vectors, weight in zip(known.vectors, settings.weights or (1.0,), strict=True):
        store = None
        if weight:
            store = make_store(settings, grid, vectors.shape[1], device, counted)
            store.fill(vectors, known.rows // cells, known.rows % cells, images)
        stores.append(store)
    return tuple(stores)
