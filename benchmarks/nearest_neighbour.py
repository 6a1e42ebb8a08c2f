"""Exact nearest neighbours: torch against faiss-cpu, and how near torch comes to the CPU's peak.

Where the CPU is fast in bfloat16 torch finds candidates in that; `half` is how many times longer
it takes without.

    python benchmarks/nearest_neighbour.py --threads 1

Shapes are those of trials: patches of the training images as bank, patches of the validation
images as queries, at an eighth or a quarter of the resolution of 224 x 224 pixels.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import torch

from autosearch.memory import available_backends, make_memory_bank

SHAPES = [
    *((48 * 28 * 28, 21 * 28 * 28, dimension) for dimension in (24, 64, 120, 256, 400)),
    *((48 * 56 * 56, 4 * 56 * 56, dimension) for dimension in (24, 64, 136)),
]
LARGE_SHAPES = [
    *((48 * 56 * 56, 21 * 56 * 56, dimension) for dimension in (24, 64, 136, 300)),
    (300_000, 21 * 28 * 28, 64),
]


def best_seconds(call: Callable[[], object], repeats: int) -> float:
    """Shortest duration of several calls: noise on a shared machine only ever adds time."""
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return min(durations)


def peak_gflops() -> float:
    """Speed of the matrix product itself, at a size that suits it."""
    left, right, out = (torch.rand(2048, 2048) for _ in range(3))
    return 2e-9 * 2048**3 / best_seconds(lambda: torch.mm(left, right, out=out), 10)


def search_seconds(
    backend: str, shape: tuple[int, int, int], num_neighbors: int, repeats: int
) -> float:
    """Seconds to search a full bank once."""
    bank_size, queries, dimension = shape
    generator = torch.Generator().manual_seed(0)
    bank = make_memory_bank(backend, dimension)
    bank.add(torch.randn(bank_size, dimension, generator=generator))
    asked = torch.randn(queries, dimension, generator=generator)
    # So many queries that what is made of the rows once, also for bfloat16, is made now.
    bank.search(asked[:1024], num_neighbors)
    return best_seconds(lambda: bank.search(asked, num_neighbors), repeats)


def main() -> None:
    """Print one line per shape."""
    parser = argparse.ArgumentParser(description="Time exact nearest-neighbour search.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--neighbors", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="whole trials at a quarter")
    parser.add_argument("--no-faiss", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, {options.neighbors} neighbours, torch {torch.__version__}")
    print(
        f"{'bank':>8} {'queries':>8} {'D':>4} {'torch ms':>9} {'faiss ms':>9} {'ratio':>6} "
        f"{'half':>6} {'GFLOP/s':>8} {'peak':>6} {'% of peak':>9}"
    )
    for shape in LARGE_SHAPES if options.large else SHAPES:
        # The peak is taken beside every shape, so that other load on the machine cancels out.
        peak = peak_gflops()
        ours = search_seconds("torch", shape, options.neighbors, options.repeats)
        single = search_seconds("torch-float32", shape, options.neighbors, options.repeats)
        faiss = math.nan
        if not options.no_faiss and "faiss-cpu" in available_backends():
            faiss = search_seconds("faiss-cpu", shape, options.neighbors, 1)
        bank_size, queries, dimension = shape
        speed = 2e-9 * bank_size * queries * dimension / ours
        print(
            f"{bank_size:>8} {queries:>8} {dimension:>4} {1e3 * ours:>9.0f} {1e3 * faiss:>9.0f} "
            f"{faiss / ours:>6.1f} {single / ours:>6.2f} {speed:>8.0f} {peak:>6.0f} "
            f"{100 * speed / peak:>9.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
