"""Time all that rwAP needs per trial against scikit-learn's weighted average precision.

Thirty maps of 224 x 224, as one validation split has: ``python benchmarks/metrics.py``.
Both sides read the same float32 maps in one process; the best of several rounds, taken in turn,
is shown, so that a busy machine disturbs neither side more than the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import ndimage
from sklearn.metrics import average_precision_score

from autosearch.metrics import Ranking, Truth

IMAGES, SIDE, ROUNDS, SEED = 30, 224, 5, 0


def main() -> None:
    """Print one table: milliseconds, ratio and the difference between the two values."""
    rng = np.random.default_rng(SEED)
    masks = np.zeros((IMAGES, SIDE, SIDE), dtype=bool)
    for mask, size in zip(masks[::2], rng.integers(5, 60, IMAGES // 2), strict=True):
        row, column = rng.integers(0, SIDE - size, 2)
        mask[row : row + size, column : column + size] = True
    types = [f"type {index % 3}" if mask.any() else "good" for index, mask in enumerate(masks)]
    noise = ndimage.gaussian_filter(rng.normal(size=masks.shape), (0, 4, 4))
    maps = (noise + 0.2 * masks).astype(np.float32)

    truth = Truth.from_masks(masks, types)
    weights = np.ones(masks.shape)
    weights[masks] = truth.region_weights[truth.regions]
    sides: dict[str, Callable[[], float]] = {
        "scikit-learn average_precision_score": lambda: float(
            average_precision_score(masks.ravel(), maps.ravel(), sample_weight=weights.ravel())
        ),
        "autosearch Ranking + rwap": lambda: Ranking.from_maps(maps, truth).rwap(),
        "autosearch Truth (once per split)": lambda: float(
            Truth.from_masks(masks, types).areas.sum()
        ),
    }
    seconds, values = _best_times(sides)
    reference, ours, _ = sides
    table = Table(title=f"rwAP of {IMAGES} maps of {SIDE} x {SIDE}, {masks.mean():.1%} anomalous")
    for heading in ("", "milliseconds", "times faster"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, taken in seconds.items():
        ratio = f"{seconds[reference] / taken:.1f}" if name == ours else ""
        table.add_row(name, f"{taken * 1e3:.1f}", ratio)
    console = Console()
    console.print(table)
    console.print(f"difference of the two values: {abs(values[reference] - values[ours]):.1e}")


def _best_times(
    sides: dict[str, Callable[[], float]],
) -> tuple[dict[str, float], dict[str, float]]:
    seconds = dict.fromkeys(sides, float("inf"))
    values: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, measure in sides.items():
            begin = time.perf_counter()
            values[name] = measure()
            seconds[name] = min(seconds[name], time.perf_counter() - begin)
    return seconds, values


if __name__ == "__main__":
    main()
