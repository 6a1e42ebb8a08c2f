"""A few configurations of which one is near the best on every dataset and at every cost.

    python benchmarks/portfolio.py --data ... --pool /data/pool --number 12

Of what `collect.py` kept, the ones that a space should begin with: always that which brings the
mean over datasets and budgets of operations nearest to the best found there. What counts is the
mean of rwAP and AP on all kept test images. The last columns leave out each dataset in turn: what
the others would have chosen reaches on it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from kept import Dataset, common
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

BUDGETS = (0.3, 1.0, 3.0, 10.0, 30.0, np.inf)
"""Billions of operations for an image, of network and search."""

_DEEP = 3

Floats = NDArray[np.float64]


def main() -> None:
    """Print the choice and write it as YAML."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, nargs="+", metavar="ROOT:CATEGORY")
    parser.add_argument("--space", default="autopatch_plus")
    parser.add_argument("--normals", type=int, default=100)
    parser.add_argument("--pool", required=True, type=Path)
    parser.add_argument("--number", type=int, default=12)
    parser.add_argument("--out", type=Path, help="YAML file")
    given = parser.parse_args()
    sets = [Dataset.of(data, given.pool, given.space, given.normals) for data in given.data]
    names = common(sets)
    values, costs = table(sets, names, given.pool)
    reached = np.array([_within(values[i], costs[i]) for i in range(len(sets))])
    chosen = greedy(reached, given.number)
    Console(width=150).print(_shown(sets, names, values, costs, chosen))
    for place, data in enumerate(sets):
        others = np.delete(reached, place, axis=0)
        without = greedy(others, given.number)
        lost = _loss(reached[place : place + 1], without)
        print(f"{data.name}: best {values[place].max():.3f}; chosen without it, "
              f"{values[place][without].max():.3f}, mean loss over budgets {lost:.3f}; "
              f"fixed {values[place][names.index('fixed-1.0')]:.3f}")  # fmt: skip
    if given.out:
        told = {one["name"]: one["params"] for one in sets[0].told()}
        given.out.write_text(yaml.safe_dump([told[names[i]] for i in chosen], sort_keys=False))


def table(sets: Sequence[Dataset], names: Sequence[str], pool: Path) -> tuple[Floats, Floats]:
    """Mean of rwAP and AP on test images, and operations: ``(datasets, configurations)`` each."""
    values, costs = np.zeros((2, len(sets), len(names)))
    for i, data in enumerate(sets):
        told = {one["name"]: one for one in data.told()}
        copies = (~data.validation).astype(float)[None]
        for j, name in enumerate(names):
            path = pool / f"{data.name}-{name}.test.json"
            if not path.exists():
                found = data.figures(data.maps(name), copies, told[name]["top_share"])
                path.write_text(json.dumps({key: float(v[0]) for key, v in found.items()}))
            figures = json.loads(path.read_text())
            values[i, j] = (figures["rwap"] + figures["ap"]) / 2
            costs[i, j] = told[name]["total_gflops"]
    return values, costs


def _within(values: Floats, costs: Floats) -> Floats:
    """``(budgets, configurations)``: values where the budget allows them, 0 elsewhere."""
    return np.where(costs[None] <= np.array(BUDGETS)[:, None], values[None], 0.0)


def greedy(reached: Floats, number: int) -> list[int]:
    """Configurations in order of choice, of ``(datasets, budgets, configurations)``."""
    chosen: list[int] = []
    for _ in range(number):
        losses = [
            _loss(reached, [*chosen, i]) if i not in chosen else np.inf
            for i in range(reached.shape[2])
        ]
        chosen.append(int(np.argmin(losses)))
    return chosen


def _loss(reached: Floats, chosen: Sequence[int]) -> float:
    """How far the best of those chosen stay behind: the mean over the best three.

    One alone could be the best by chance, and would leave nothing to choose for the others.
    """
    best = reached.max(axis=2)
    own = np.sort(reached[:, :, list(chosen)], axis=2)[:, :, -_DEEP:]
    return float((best - own.sum(axis=2) / _DEEP).mean())


def _shown(
    sets: Sequence[Dataset],
    names: Sequence[str],
    values: Floats,
    costs: Floats,
    chosen: Sequence[int],
) -> Table:
    shown = Table("chosen", *(f"{d.name} (GFLOP)" for d in sets), box=None)
    for i in chosen:
        cells = [f"{values[d, i]:.3f} ({costs[d, i]:.1f})" for d in range(len(sets))]
        shown.add_row(names[i], *cells)
    cells = [f"{values[d].max():.3f} ({costs[d, values[d].argmax()]:.1f})"
             for d in range(len(sets))]  # fmt: skip
    shown.add_row("best of each", *cells)
    return shown


if __name__ == "__main__":
    main()
