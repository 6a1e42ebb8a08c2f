"""Time of greedy k-centre against a pass over all points a step, and what a bounded pool loses.

    python benchmarks/coreset.py --data ../shared/data/mvtec_small:toothbrush_resplit_256

Patches are those of fixed layers of the bundled supernet (1/8 and 1/16 of the input, patch size
3) on the normal training images. Both ways choose from the same pool, the same patches up to the
order of those that lie equally far. Losses are of the test split, the mean of seeds and their
spread: banks chosen from a pool of patches drawn at random, and from all patches.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from parts import circumstances
from rich.console import Console
from rich.table import Table
from torch import Tensor

from autosearch import spaces
from autosearch.data import ImageSet, load_test_set
from autosearch.memory import coreset, draw
from autosearch.metrics import Ranking, auroc, image_scores
from autosearch.spec import Params, load_spec
from autosearch.study import Inputs, build, load_inputs, maps_of, truth_of

_PROJECTED = 128
_EVERYTHING = 10_000_000


def main() -> None:
    """Print two tables for every dataset."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["demo"], help="ROOT:CATEGORY, or demo")
    parser.add_argument("--size", type=int, default=448, help="side of the input in pixels")
    parser.add_argument("--pool", type=int, default=50_000, help="patches to choose from")
    parser.add_argument("--rows", type=int, nargs="+", default=[300, 1000, 5000])
    parser.add_argument(
        "--repeats", type=int, default=2, help="of what is timed, 0 for losses alone"
    )
    parser.add_argument("--seeds", type=int, default=3, help="0 for times alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=100)
    for place in given.data:
        root, _, category = place.rpartition(":")
        asked = [("dataset.image_size", {"side": given.size})]
        if root:
            asked += [("dataset.root", root), ("dataset.category", category)]
        inputs = load_inputs(load_spec(spaces()["autopatch"], asked))
        patches = _patches(inputs)
        name = f"{category or 'demo'}, {len(patches):,} patches"
        if given.repeats:
            console.print(_times(name, patches, given))
        if given.seeds:
            test, _ = load_test_set(inputs.spec.dataset)
            console.print(_losses(name, inputs, test, len(patches), given))
    console.print(circumstances(given.repeats))


def _times(name: str, patches: Tensor, given: argparse.Namespace) -> Table:
    """Both ways, on what they choose among: patches of 128 numbers."""
    pool = patches[draw(len(patches), min(given.pool, len(patches)))]
    generator = torch.Generator().manual_seed(0)
    points = pool @ torch.randn(pool.shape[1], _PROJECTED, generator=generator)
    points /= _PROJECTED**0.5
    title = f"{name}: seconds on a processor, from a pool of {len(pool):,}"
    columns = ("rows", "a pass a step", "ours", "ratio", "moved")
    table = Table(*columns, box=None, title=title, min_width=len(title))
    for count in given.rows:
        plain, expected = _best(_plain, points, count, given.repeats)
        ours, chosen = _best(_ours, points, count, given.repeats)
        if not torch.equal(expected.sort().values, chosen.sort().values):
            raise SystemExit(f"{count} rows: the two ways choose other patches")
        moved = int((expected != chosen).sum())
        ratio = f"{plain / ours:.1f}"
        table.add_row(f"{count:,}", f"{plain:.2f}", f"{ours:.2f}", ratio, str(moved))
    return table


def _best(
    choose: Callable[[Tensor, int], Tensor], points: Tensor, count: int, repeats: int
) -> tuple[float, Tensor]:
    """Least processor time of several calls, which what runs beside hardly changes."""
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        found = choose(points, count)
        taken.append(time.process_time() - start)
    return min(taken), found


def _ours(points: Tensor, count: int) -> Tensor:
    return coreset(points, count=count)


def _plain(points: Tensor, count: int) -> Tensor:
    """The peer: all points meet every row as soon as it is chosen."""
    points = points - points.mean(0)
    norms = points.square().sum(1)
    nearest = torch.full_like(norms, math.inf)
    chosen = torch.empty(count, dtype=torch.int64)
    current = norms.argmin()
    for position in range(count):
        chosen[position] = current
        distances = torch.addmv(norms, points, points[current], alpha=-2).add_(norms[current])
        torch.minimum(nearest, distances, out=nearest)
        nearest[current] = -math.inf
        current = nearest.argmax()
    return chosen


def _losses(
    name: str, inputs: Inputs, test: ImageSet, total: int, given: argparse.Namespace
) -> Table:
    table = Table("rows", "chosen from", "rwAP", "AP", "image AUROC", "fit, s", box=None,
                  title=f"{name}: accuracy, {given.seeds} seeds")  # fmt: skip
    for count in given.rows:
        bank: Params = {"coreset_method": "kcenter", "coreset_ratio": count / total}
        for pool in (given.pool, _EVERYTHING):
            params = {**bank, "coreset_pool": pool}
            found = np.array([_reached(inputs, test, params, i) for i in range(given.seeds)])
            *figures, seconds = found.T
            table.add_row(f"{count:,}", f"{min(pool, total):,}", *map(_spread, figures),
                          f"{np.mean(seconds):.1f}")  # fmt: skip
    return table


def _patches(inputs: Inputs) -> Tensor:
    """All patches of the training images, ``(M, D)``."""
    canonical = inputs.runner.canonical(dict(inputs.spec.configurations[0]))
    detector = build(inputs.spec, inputs.runner, canonical, 0, inputs.data.val)
    detector.fit(inputs.data.train)
    found: Tensor = detector._stores[0].patches()  # type: ignore[attr-defined]
    return found


def _reached(
    inputs: Inputs, test: ImageSet, bank: Params, seed: int
) -> tuple[float, float, float, float]:
    """rwAP, AP and AUROC of images on the test split, and seconds of the fit."""
    canonical = inputs.runner.canonical({**inputs.spec.configurations[0], **bank})
    detector = build(inputs.spec, inputs.runner, canonical, seed, inputs.data.val)
    start = time.perf_counter()
    detector.fit(inputs.data.train)
    seconds = time.perf_counter() - start
    maps, truth = maps_of(detector, test), truth_of(test)
    ranking = Ranking.from_maps(maps, truth)
    return ranking.rwap(), ranking.ap(), auroc(image_scores(maps), truth.labels), seconds


def _spread(values: np.ndarray) -> str:
    plain = f"{np.mean(values):.3f}"
    return plain + (f" ±{np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
