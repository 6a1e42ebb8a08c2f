"""Whole banks that answer from ever more of their rows: exact in the end, a good guess before.

The distance to the nearest of some rows only falls as rows are added, and the minimum over parts
of a bank is that over all of it. A bank that is asked part by part can therefore be judged before
it has compared everything, and has lost nothing when it goes on. Scores of a part are too large;
how well they rank configurations depends on the images (`benchmarks/small_banks.py --stages`).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from autosearch.memory import MemoryBank, make_memory_bank

from .parameters import BankSettings
from .stores import Store, WholeStore

SHARES = (0.02, 0.1)
"""Of all rows, after which a detector pauses."""


class StagedStore(WholeStore):
    """A bank of which parts are opened one by one; it answers from those that are.

    Of queries that come again after the next part was opened, only that part is asked. What was
    found is kept until all are open: as many distances as there are neighbours, for each query.

    Args:
        settings: See `Store`.
        grid: See `Store`.
        dimension: See `Store`.
        device: See `Store`.
        seed: Of the order in which rows are opened.
    """

    def __init__(
        self,
        settings: BankSettings,
        grid: tuple[int, int],
        dimension: int,
        device: str,
        seed: int,
    ) -> None:
        super().__init__(settings, grid, dimension, device)
        self._seed, self._open = seed, 0
        self._order = torch.arange(0)
        self._parts: list[MemoryBank] = []
        self._found: dict[bytes, tuple[int, Tensor]] = {}

    @classmethod
    def of(cls, whole: WholeStore, seed: int) -> StagedStore:
        """The rows of a bank, in parts of which none is open."""
        rows, none = whole.patches(), torch.arange(0)
        made = cls(whole._settings, whole._grid, whole.dimension, whole._device, seed)
        made.fill(rows, none, none, 0)
        return made

    def fill(self, vectors: Tensor, images: Tensor, places: Tensor, total: int) -> None:
        """See `Store.fill`; no part is open afterwards."""
        generator = torch.Generator().manual_seed(self._seed)
        self._order, self._open = torch.randperm(len(vectors), generator=generator), 0
        # Whatever the share, the first part is enough for all neighbours.
        least = min(len(vectors), self._settings.num_neighbors)
        ends = [max(least, round(share * len(vectors))) for share in SHARES]
        self._parts = [
            self._bank_of(vectors[part.to(vectors.device)])
            for part in torch.tensor_split(self._order, ends)
        ]
        self._found = {}

    def open(self) -> None:
        """Open the next part; at first there is none."""
        self._open += 1

    def answers(self, queries: Tensor, alike: Tensor | None) -> Tensor:
        """See `Store.answers`; of the rows that are open."""
        asked, wanted = queries.flatten(0, 1), self._settings.num_neighbors
        key, closed = b"", self._open < len(self._parts)
        if closed or self._found:  # Once all is open and told, hashing would only take time.
            key = hashlib.blake2b(asked.contiguous().cpu().numpy().data, digest_size=16).digest()
        done, nearest = self._found.pop(key, (0, asked.new_empty(len(asked), 0)))
        for part in filter(len, self._parts[done : self._open]):
            found = torch.cat([nearest, part.search(asked, min(wanted, len(part)))], dim=1)
            nearest = found.topk(min(wanted, found.shape[1]), largest=False).values
        if closed:
            self._found[key] = self._open, nearest
        return nearest.mean(dim=1).view(queries.shape[:2])

    def patches(self) -> Tensor:
        """See `WholeStore.patches`; all rows, open or not, as they lay before."""
        rows = torch.cat([part.patches() for part in self._parts])
        return rows[self._order.argsort().to(rows.device)]

    def __len__(self) -> int:
        return len(self._order)

    def _bank_of(self, rows: Tensor) -> MemoryBank:
        bank = make_memory_bank(self._settings.backend, rows.shape[1], self._device)
        bank.add(rows)
        return bank


def staged(
    stores: Sequence[Store | None], least: int | None, seed: int
) -> tuple[Store | None, ...]:
    """The same banks, those without windows and of enough rows in parts, none of them open.

    Args:
        stores: Of a detector; what is replaced is not needed any more.
        least: So many rows are enough; None: none are.
        seed: Of the order in which rows are opened.
    """
    return tuple(_in_parts(store, least, seed) for store in stores)


def opened(stores: Sequence[Store | None]) -> Iterator[float]:
    """Open what `staged` closed, part by part.

    Yields:
        The share of rows that is open, until all are; nothing where no bank is in parts.
    """
    closed = [store for store in stores if isinstance(store, StagedStore)]
    for share in itertools.chain(SHARES if closed else (), (None,)):
        for store in closed:
            store.open()
        if share is not None:
            yield share


def _in_parts(store: Store | None, least: int | None, seed: int) -> Store | None:
    # None that derives from it: what weighs scores by rows of the bank needs them all at once.
    if type(store) is WholeStore and least is not None and len(store) >= least:
        return StagedStore.of(store, seed)
    return store
