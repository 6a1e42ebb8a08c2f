"""Memory banks of normal patches: exact nearest neighbours.

The anomaly score of a patch is its squared Euclidean distance to the nearest patch of the bank
(PatchCore: Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022;
AutoPatch keeps the full bank during a search).
"""

from __future__ import annotations

import contextlib
import importlib
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from autosearch.errors import ConfigError, did_you_mean
from autosearch.memory.half import HalfRows, has_fast_half, pays
from autosearch.memory.pruning import BoundedRows, PrunedRows, leading_axes

_BLOCK = (1024, 1024)
"""Queries and bank rows per product on a CPU: 4 MB, which stays in cache until it is reduced."""
_GPU_BLOCK = (4096, 16384)
_FEW = 8192
"""Queries or rows below which bounds cost more than they save."""
_GATHERED = 1 << 20
"""Numbers copied at a time to compare queries with single rows: 4 MB."""
_FAISS_GPU_TEMPORARY = 256 << 20
"""Scratch bytes of one bank: FAISS would take 1.5 GB, and several trials share one GPU."""
_INSTALL = {
    "faiss-cpu": "the package faiss-cpu: pip install 'autosearch[cpu]'",
    "faiss-gpu": (
        "an NVIDIA GPU, device 'cuda' and the package faiss-gpu without faiss-cpu beside it: "
        "pip install 'autosearch[gpu]'"
    ),
}


class MemoryBank(ABC):
    """Patches to which queries are compared, exactly and in float32.

    A backend stores and searches; this class checks, and moves the origin to the mean of the first
    patches added. Distances do not change, but the expansion ``|a|² + |b|² - 2ab`` loses far fewer
    digits when features have a large mean.

    Args:
        dimension: Length ``D`` of a patch.
        device: Where patches are stored and compared.
    """

    def __init__(self, dimension: int, device: str | torch.device = "cpu") -> None:
        self.dimension, self.device = dimension, torch.device(device)
        self._length = 0
        self._origin = torch.zeros(dimension, device=self.device)

    def add(self, patches: Tensor) -> None:
        """Append copies of ``patches``, ``(M, D)``.

        Raises:
            ValueError: If the shape is another, or a value is NaN or infinite.
        """
        patches = self._checked(patches, "patches")
        if self._length == 0 and len(patches):
            self._origin = patches.mean(0)
        self._append(patches - self._origin)
        self._length += len(patches)

    def search(self, queries: Tensor, num_neighbors: int = 1) -> Tensor:
        """Find the squared Euclidean distances to the nearest patches of the bank.

        Args:
            queries: ``(Q, D)``.
            num_neighbors: How many neighbours, from 1 to the size of the bank.

        Returns:
            ``(Q, num_neighbors)`` float32, rising along each row, never negative, on the device of
            the queries.

        Raises:
            ConfigError: If ``num_neighbors`` is out of range, as it always is for an empty bank.
            ValueError: If the shape is another, or a value is NaN or infinite.
        """
        if not 1 <= num_neighbors <= self._length:
            allowed = f"an integer from 1 to the size of the memory bank, {self._length}"
            raise ConfigError("num_neighbors", num_neighbors, allowed)
        centred = self._checked(queries, "queries") - self._origin
        return self._nearest(centred, num_neighbors).clamp_(min=0).to(queries.device)

    def patches(self) -> Tensor:
        """Return a copy of all patches in order of addition, ``(M, D)``.

        Coordinates are those of the input, up to the rounding of moving the origin there and back.
        """
        return self._stored() + self._origin

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes of the patches as float32, the same for every backend."""
        return 4 * self._length * self.dimension

    def _checked(self, vectors: Tensor, name: str) -> Tensor:
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise ValueError(f"{name} are {tuple(vectors.shape)}, expected (*, {self.dimension})")
        vectors = vectors.detach().to(self.device, torch.float32)
        if not torch.isfinite(vectors).all():
            raise ValueError(f"{name} hold NaN or infinite values")
        return vectors

    @abstractmethod
    def _append(self, patches: Tensor) -> None:
        """Store checked patches; the tensor is the backend's to keep."""

    @abstractmethod
    def _stored(self) -> Tensor:
        """Return what `_append` was given so far, on the bank's device."""

    @abstractmethod
    def _nearest(self, queries: Tensor, num_neighbors: int) -> Tensor:
        """Answer checked queries; values just below 0 are allowed."""


class TorchBank(MemoryBank):
    """Blocks of one matrix product, each reduced to its minima before the next is computed.

    A stored row is ``[-2b, |b|²]``; its product with ``[q, 1]`` is the distance less ``|q|²``, so
    that a block needs no pass over its elements but the minimum. Where patches vary in few
    directions, bounds in those spare most of the work on a CPU (see `autosearch.memory.pruning`),
    and where the processor is fast in bfloat16, products in that find the rows that are compared
    (see `autosearch.memory.half`).
    """

    halved = True
    """Whether products in bfloat16 may find them."""

    def __init__(self, dimension: int, device: str | torch.device = "cpu") -> None:
        super().__init__(dimension, device)
        self._chunks: list[Tensor] = []
        self._bounded: tuple[Tensor, PrunedRows | None] | None = None
        self._rounded: tuple[Tensor, HalfRows] | None = None

    def __getstate__(self) -> dict[str, object]:
        """Bounds are made anew: their scratch memory belongs to threads of this process."""
        return {**self.__dict__, "_bounded": None, "_rounded": None}

    def _append(self, patches: Tensor) -> None:
        norms = patches.square().sum(1, keepdim=True)
        self._chunks.append(torch.cat([patches * -2, norms], dim=1))

    def _stored(self) -> Tensor:
        return torch.cat(self._chunks)[:, :-1] / -2 if self._chunks else self._origin[None][:0]

    def _nearest(self, queries: Tensor, num_neighbors: int) -> Tensor:
        if len(self._chunks) > 1:
            self._chunks = [torch.cat(self._chunks)]
        rows = self._chunks[0]
        on_cpu = self.device.type == "cpu"
        size, bank_size = _BLOCK if on_cpu else _GPU_BLOCK
        threads = torch.get_num_threads() if on_cpu else 1
        bounded = [one for one in self._bounds(rows, len(queries)) if one] if on_cpu else []
        if bounded:
            size = min(one.block for one in bounded)
        # Equal shares: a last small block would leave all threads but one waiting.
        size = math.ceil(
            len(queries) / (threads * math.ceil(len(queries) / (threads * size)) or 1)
        )

        def answer(start: int) -> Tensor:
            block = queries[start : start + size]
            for one in bounded:
                if (found := one.search(block, num_neighbors)) is not None:
                    return found
            return _nearest_in_blocks(block, rows, bank_size, num_neighbors)

        answers = _in_threads(answer, range(0, len(queries), size or 1), threads)
        return torch.cat([queries.new_empty(0, num_neighbors), *answers])

    def _bounds(self, rows: Tensor, queries: int) -> tuple[BoundedRows | None, ...]:
        """The rows with bounds, those first that spare more."""
        return self._pruned(rows) if queries >= _FEW else None, self._half(rows, queries)

    def _half(self, rows: Tensor, queries: int) -> HalfRows | None:
        """The rows with bounds in bfloat16, made once; None where those would save nothing."""
        if not (self.halved and pays(len(rows), self.dimension, queries) and has_fast_half()):
            return None
        if self._rounded is None or self._rounded[0] is not rows:
            self._rounded = (rows, HalfRows(rows))
        return self._rounded[1]

    def _pruned(self, rows: Tensor) -> PrunedRows | None:
        """The rows with bounds, made once; None where bounds would save nothing."""
        if self._bounded is None or self._bounded[0] is not rows:
            axes = leading_axes(rows) if len(rows) >= _FEW else None
            self._bounded = (rows, None if axes is None else PrunedRows(rows, axes))
        return self._bounded[1]


class TorchSingleBank(TorchBank):
    """The same without bfloat16."""

    halved = False


class FaissCPUBank(MemoryBank):
    """FAISS ``IndexFlatL2``; patches and queries are on the CPU."""

    def __init__(self, dimension: int, device: str | torch.device = "cpu") -> None:
        super().__init__(dimension, "cpu")
        self._faiss = _faiss()
        self._index = self._faiss.IndexFlatL2(dimension)

    def _append(self, patches: Tensor) -> None:
        self._index.add(patches.contiguous().numpy())

    def _stored(self) -> Tensor:
        return torch.from_numpy(self._index.reconstruct_n(0, len(self)))

    def _nearest(self, queries: Tensor, num_neighbors: int) -> Tensor:
        # On macOS torch and FAISS each load an OpenMP runtime; two at work in a process crash.
        threads = 1 if sys.platform == "darwin" else torch.get_num_threads()
        self._faiss.omp_set_num_threads(threads)
        distances, _ = self._index.search(queries.contiguous().numpy(), num_neighbors)
        return torch.from_numpy(distances)


class FaissGPUBank(MemoryBank):
    """FAISS ``GpuIndexFlatL2``, which reads and writes torch's memory on the GPU directly."""

    def __init__(self, dimension: int, device: str | torch.device = "cuda") -> None:
        super().__init__(dimension, device)
        faiss = _faiss()
        # The import makes indexes accept CUDA tensors and wait for torch's stream.
        importlib.import_module("faiss.contrib.torch_utils")
        self._resources = faiss.StandardGpuResources()
        self._resources.setTempMemory(_FAISS_GPU_TEMPORARY)
        options = faiss.GpuIndexFlatConfig()
        options.device = self._origin.device.index
        self._index = faiss.GpuIndexFlatL2(self._resources, dimension, options)

    def _append(self, patches: Tensor) -> None:
        self._index.add(patches.contiguous())

    def _stored(self) -> Tensor:
        return torch.as_tensor(self._index.reconstruct_n(0, len(self))).to(self.device)

    def _nearest(self, queries: Tensor, num_neighbors: int) -> Tensor:
        distances, _ = self._index.search(queries.contiguous(), num_neighbors)
        return torch.as_tensor(distances)


BACKENDS: dict[str, type[MemoryBank]] = {
    "torch": TorchBank,
    "torch-float32": TorchSingleBank,
    "faiss-cpu": FaissCPUBank,
    "faiss-gpu": FaissGPUBank,
}


def available_backends(device: str | torch.device = "cpu") -> tuple[str, ...]:
    """Name the backends that work here for a device, in the order of `BACKENDS`."""
    faiss = _faiss()
    # The two FAISS packages install one module; only what it finds tells them apart.
    gpu = faiss is not None and hasattr(faiss, "GpuIndexFlatL2") and faiss.get_num_gpus() > 0
    usable = {
        "torch": True,
        "torch-float32": True,
        "faiss-cpu": faiss is not None,
        "faiss-gpu": gpu and torch.device(device).type == "cuda",
    }
    return tuple(name for name in BACKENDS if usable[name])


def make_memory_bank(
    backend: str, dimension: int, device: str | torch.device = "cpu"
) -> MemoryBank:
    """Make an empty memory bank.

    Args:
        backend: A name of `BACKENDS`, or ``auto``, which is torch: never much slower than FAISS,
            and much faster where the BLAS in FAISS's wheel does not know the processor
            (`benchmarks/nearest_neighbour.py`).
        dimension: Length of a patch.
        device: Where to store and search; ``faiss-cpu`` always uses the CPU.

    Raises:
        ConfigError: If the backend is unknown, or cannot work here; says how to install it.
    """
    name = "torch" if backend == "auto" else backend
    if name not in BACKENDS:
        raise ConfigError("memory.backend", backend, did_you_mean(backend, ("auto", *BACKENDS)))
    if name not in available_backends(device):
        raise ConfigError("memory.backend", backend, _INSTALL[name])
    return BACKENDS[name](dimension, device)


def _nearest_in_blocks(
    queries: Tensor, rows: Tensor, bank_size: int, num_neighbors: int
) -> Tensor:
    """Search stored ``rows`` for one block of queries: ``(Q, num_neighbors)``."""
    # Threads of a pool do not inherit the caller's mode.
    with torch.no_grad():
        extended = torch.cat([queries, queries.new_ones(len(queries), 1)], dim=1)
        width = min(bank_size, len(rows))
        # One minimum per query, or one for every group of rows at the same place in their blocks.
        groups = 1 if num_neighbors == 1 else width
        nearest = queries.new_full((len(queries), groups), math.inf)
        product = queries.new_empty(len(queries) * width)
        for part in torch.split(rows, bank_size):
            out = product[: len(queries) * len(part)].view(len(queries), len(part))
            torch.mm(extended, part.T, out=out)
            least = out.amin(1, keepdim=True) if groups == 1 else out
            held = nearest[:, : least.shape[1]]
            torch.minimum(held, least, out=held)
        if num_neighbors > 1:
            nearest = _nearest_in_groups(extended, rows, nearest, num_neighbors)
        return nearest.add_(queries.square().sum(1, keepdim=True))


def _nearest_in_groups(
    extended: Tensor, rows: Tensor, minima: Tensor, num_neighbors: int
) -> Tensor:
    """Find the ``k`` smallest products of extended queries and rows, ``(Q, k)``, rising.

    They all lie in the ``k`` groups of smallest minima: an element of any other group has ``k``
    minima at or below it. Only the rows of those groups are therefore compared once more, where a
    selection among all products would cost several times the products themselves.

    Args:
        extended: ``(Q, D + 1)`` queries with a one behind them.
        rows: ``(M, D + 1)``, row ``i`` belonging to group ``i % G``.
        minima: ``(Q, G)`` smallest product of each group.
        num_neighbors: ``k``.
    """
    count, groups = minima.shape
    chosen = minima.topk(min(num_neighbors, groups), largest=False).indices
    members = torch.arange(0, len(rows), groups, device=rows.device)
    nearest = extended.new_empty(count, num_neighbors)
    step = max(1, _GATHERED // (chosen.shape[1] * len(members) * rows.shape[1]))
    for start in range(0, count, step):
        part = slice(start, start + step)
        places = (chosen[part, :, None] + members).flatten(1)
        missing = places >= len(rows)
        candidates = rows[places.masked_fill_(missing, 0)]
        products = torch.bmm(candidates, extended[part, :, None])[:, :, 0]
        products.masked_fill_(missing, math.inf)
        nearest[part] = products.topk(num_neighbors, largest=False).values
    return nearest


def _in_threads(
    work: Callable[[int], Tensor], starts: Sequence[int], threads: int
) -> list[Tensor]:
    """Call ``work`` for every start, on threads that use one core each; results in order.

    Operations on one block are too short to be split among cores: the threads of one operation
    wait for each other at its end, a whole time slice where other processes use the cores too.
    """
    if threads == 1:
        return [work(start) for start in starts]
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, starts))
    finally:
        # Part of the setting is global, so the pool has changed it for threads yet to come.
        torch.set_num_threads(threads)


def _faiss() -> Any:
    """Import FAISS, or return None where it is absent or cannot load the GPU's libraries."""
    # faiss-gpu raises RuntimeError where the NVIDIA packages it needs are missing.
    with contextlib.suppress(ImportError, RuntimeError, OSError):
        import faiss

        return faiss
    return None
