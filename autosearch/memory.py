"""Memory banks of normal patches: exact nearest neighbours, and coresets that thin a bank out.

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

_BLOCK = (1024, 1024)
"""Queries and bank rows per product on a CPU: 4 MB, which stays in cache until it is reduced."""
_GPU_BLOCK = (4096, 16384)
_FAISS_GPU_TEMPORARY = 256 << 20
"""Scratch bytes of one bank: FAISS would take 1.5 GB, and several trials share one GPU."""
_PROJECTED = 128
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
    def _nearest(self, queries: Tensor, num_neighbors: int) -> Tensor:
        """Answer checked queries; values just below 0 are allowed."""


class TorchBank(MemoryBank):
    """Blocks of one matrix product, each reduced to its minima before the next is computed.

    A stored row is ``[-2b, |b|²]``; its product with ``[q, 1]`` is the distance less ``|q|²``, so
    that a block needs no pass over its elements but the minimum.
    """

    def __init__(self, dimension: int, device: str | torch.device = "cpu") -> None:
        super().__init__(dimension, device)
        self._chunks: list[Tensor] = []

    def _append(self, patches: Tensor) -> None:
        norms = patches.square().sum(1, keepdim=True)
        self._chunks.append(torch.cat([patches * -2, norms], dim=1))

    def _nearest(self, queries: Tensor, num_neighbors: int) -> Tensor:
        if len(self._chunks) > 1:
            self._chunks = [torch.cat(self._chunks)]
        rows = self._chunks[0]
        on_cpu = self.device.type == "cpu"
        size, bank_size = _BLOCK if on_cpu else _GPU_BLOCK
        threads = torch.get_num_threads() if on_cpu else 1
        # Equal shares: a last small block would leave all threads but one waiting.
        size = math.ceil(
            len(queries) / (threads * math.ceil(len(queries) / (threads * size)) or 1)
        )
        nearest = queries.new_empty(len(queries), num_neighbors)

        def answer(start: int) -> None:
            block = slice(start, start + size)
            nearest[block] = _nearest_in_blocks(queries[block], rows, bank_size, num_neighbors)

        _in_threads(answer, range(0, len(queries), size or 1), threads)
        return nearest


class FaissCPUBank(MemoryBank):
    """FAISS ``IndexFlatL2``; patches and queries are on the CPU."""

    def __init__(self, dimension: int, device: str | torch.device = "cpu") -> None:
        super().__init__(dimension, "cpu")
        self._faiss = _faiss()
        self._index = self._faiss.IndexFlatL2(dimension)

    def _append(self, patches: Tensor) -> None:
        self._index.add(patches.contiguous().numpy())

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

    def _nearest(self, queries: Tensor, num_neighbors: int) -> Tensor:
        distances, _ = self._index.search(queries.contiguous(), num_neighbors)
        return torch.as_tensor(distances)


BACKENDS: dict[str, type[MemoryBank]] = {
    "torch": TorchBank,
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
        "faiss-cpu": faiss is not None,
        "faiss-gpu": gpu and torch.device(device).type == "cuda",
    }
    return tuple(name for name in BACKENDS if usable[name])


def make_memory_bank(
    backend: str, dimension: int, device: str | torch.device = "cpu"
) -> MemoryBank:
    """Make an empty memory bank.

    Args:
        backend: A name of `BACKENDS`, or ``auto``, which is torch: as fast as FAISS for up to 32
            dimensions, several times faster beyond (`benchmarks/nearest_neighbour.py`).
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


def coreset(
    patches: Tensor,
    *,
    ratio: float | None = None,
    count: int | None = None,
    method: str = "kcenter",
    seed: int = 0,
) -> Tensor:
    """Choose patches that stand for all.

    ``kcenter`` is PatchCore's greedy k-centre: always take the patch farthest from those taken,
    starting with the one nearest to the mean, on a Gaussian random projection where patches are
    long. The AutoPatch reference chooses anew within every batch; this choice is made over all
    patches at once. ``random`` draws without replacement.

    Indices stand in order of choice, so that the first ones are the coreset of a smaller count.

    Args:
        patches: ``(M, D)``, without NaN.
        ratio: Kept share, above 0 and at most 1; rounded to a count of at least 1.
        count: Kept number from 1 to ``M``, instead of the ratio.
        method: ``kcenter`` or ``random``.
        seed: Of the projection or of the draw.

    Returns:
        int64 indices on the CPU, all different; 0 to ``M - 1`` if everything is kept.

    Raises:
        ConfigError: If an argument is out of range, or ratio and count are both given or missing.
        ValueError: If a value is NaN or infinite.
    """
    total = len(patches)
    if (ratio is None) == (count is None):
        raise ConfigError("coreset_ratio", ratio, "either a ratio or a count, not both")
    if ratio is not None:
        if not 0 < ratio <= 1:
            raise ConfigError("coreset_ratio", ratio, "a number above 0 and at most 1")
        count = max(1, round(ratio * total))
    if count is None or not 1 <= count <= total:
        raise ConfigError("coreset_count", count, f"an integer from 1 to {total}")
    if method not in ("kcenter", "random"):
        raise ConfigError("coreset_method", method, "'kcenter' or 'random'")
    if not torch.isfinite(patches).all():
        raise ValueError("patches hold NaN or infinite values")
    if count == total:
        return torch.arange(total)
    generator = torch.Generator().manual_seed(seed)
    if method == "random":
        return torch.randperm(total, generator=generator)[:count]
    return _k_center(_project(patches.detach().float(), generator), count).cpu()


def _nearest_in_blocks(
    queries: Tensor, rows: Tensor, bank_size: int, num_neighbors: int
) -> Tensor:
    """Search stored ``rows`` for one block of queries: ``(Q, num_neighbors)``."""
    # Threads of a pool do not inherit the caller's mode.
    with torch.no_grad():
        extended = torch.cat([queries, queries.new_ones(len(queries), 1)], dim=1)
        nearest = queries.new_full((len(queries), num_neighbors), math.inf)
        product = queries.new_empty(len(queries) * min(bank_size, len(rows)))
        for part in torch.split(rows, bank_size):
            out = product[: len(queries) * len(part)].view(len(queries), len(part))
            torch.mm(extended, part.T, out=out)
            smallest = out.amin(1)
            if num_neighbors == 1:
                torch.minimum(nearest[:, 0], smallest, out=nearest[:, 0])
            else:
                _merge(nearest, out, smallest)
        return nearest.add_(queries.square().sum(1, keepdim=True))


def _merge(nearest: Tensor, candidates: Tensor, smallest: Tensor) -> None:
    """Bring the ``k`` smallest values per row, ``(Q, k)``, up to date with ``(Q, m)`` more."""
    k = nearest.shape[1]
    # Selection costs far more than the minimum, and after a few blocks few rows can improve.
    improved = (smallest < nearest[:, -1]).nonzero()[:, 0]
    best = candidates[improved].topk(min(k, candidates.shape[1]), largest=False).values
    nearest[improved] = torch.cat([nearest[improved], best], dim=1).topk(k, largest=False).values


def _in_threads(work: Callable[[int], None], starts: Sequence[int], threads: int) -> None:
    """Call ``work`` for every start, on threads that use one core each.

    Operations on one block are too short to be split among cores: the threads of one operation
    wait for each other at its end, a whole time slice where other processes use the cores too.
    """
    if threads == 1:
        for start in starts:
            work(start)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(work, starts))
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


def _project(patches: Tensor, generator: torch.Generator) -> Tensor:
    """Project to 128 dimensions at most, which changes distances by about 6 %."""
    centred = patches - patches.mean(0)
    if patches.shape[1] <= _PROJECTED:
        return centred
    matrix = torch.randn(patches.shape[1], _PROJECTED, generator=generator) / _PROJECTED**0.5
    return torch.mm(centred, matrix.to(patches.device))


def _k_center(points: Tensor, count: int) -> Tensor:
    """Greedy k-centre on centred points, ``(M, d)``, in ``count`` passes over them."""
    norms = points.square().sum(1)
    nearest = torch.full_like(norms, math.inf)
    chosen = torch.empty(count, dtype=torch.int64, device=points.device)
    current = norms.argmin()
    for position in range(count):
        chosen[position] = current
        distances = torch.addmv(norms, points, points[current], alpha=-2).add_(norms[current])
        torch.minimum(nearest, distances, out=nearest)
        # A chosen point must not come up again where only its duplicates are left.
        nearest[current] = -math.inf
        current = nearest.argmax()
    return chosen
