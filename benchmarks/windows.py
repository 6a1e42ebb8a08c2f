"""Banks that know where a patch lies against banks that do not: accuracy, rows, cost, latency.

    python benchmarks/windows.py --data ../shared/data/mvtec_small:toothbrush_resplit_256 demo

Fixed layers of the bundled supernet (1/8 and 1/16 of the input, patch size 3) with banks of many
kinds, on the test split; a row is the mean of seeds, with the spread between them. Latency is
that of the exported graph in onnxruntime on one thread, one image at a time.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from autosearch import spaces
from autosearch.backbones import measure_latency
from autosearch.contracts import Detector
from autosearch.data import ImageSet, load_test_set
from autosearch.graphs import onnx_bytes, onnx_run
from autosearch.metrics import Ranking, auroc, image_scores
from autosearch.spec import Params, load_spec
from autosearch.study import Inputs, build, load_inputs, maps_of, truth_of

BANKS: dict[str, Params] = {
    "whole": {},
    "random 10 %": {"coreset_ratio": 0.1, "coreset_method": "random"},
    "k-centre 10 %": {"coreset_ratio": 0.1},
    "k-centre 2,000 rows": {"bank_rows": 2000},
    "k-centre 500 rows": {"bank_rows": 500},
    "window 0": {"window": 0},
    "window 1": {"window": 1},
    "window 1, 10 a place": {"window": 1, "rows_per_place": 10},
    "window 3": {"window": 3},
    "window 3, 10 a place": {"window": 3, "rows_per_place": 10},
}


@dataclass(frozen=True)
class Reached:
    """What one detector reaches."""

    rwap: float
    ap: float
    image_auroc: float
    rows: float
    gflop: float


def main() -> None:
    """Print one table for every dataset."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["demo"], help="ROOT:CATEGORY, or demo")
    parser.add_argument("--size", type=int, default=224, help="side of the input in pixels")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--banks", nargs="+", choices=BANKS, default=list(BANKS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    for place in given.data:
        root, _, category = place.rpartition(":")
        asked = [("dataset.image_size", {"side": given.size})]
        if root:
            asked += [("dataset.root", root), ("dataset.category", category)]
        inputs = load_inputs(load_spec(spaces()["autopatch"], asked))
        test, _ = load_test_set(inputs.spec.dataset)
        Console(width=110).print(_table(category or "demo", inputs, test, given))


def _table(name: str, inputs: Inputs, test: ImageSet, given: argparse.Namespace) -> Table:
    train = len(inputs.data.train)
    table = Table("bank", "rows a query", "search GFLOP", "rwAP", "AP", "image AUROC", "ms",
                  title=f"{name}, {train} normal images", box=None)  # fmt: skip
    start = inputs.spec.configurations[0]
    for bank in given.banks:
        canonical = inputs.runner.canonical({**start, **BANKS[bank]})
        chosen = bank not in ("whole", "window 0", "window 1", "window 3")
        found, detector = [], None
        for seed in range(given.seeds if chosen else 1):
            detector = build(inputs.spec, inputs.runner, canonical, seed, inputs.data.val)
            detector.fit(inputs.data.train)
            found.append(_reached(detector, test))
        assert detector is not None
        latency = _latency(detector, test)
        figures = [
            _spread([getattr(one, name) for one in found])
            for name in ("rwap", "ap", "image_auroc")
        ]
        rows, gflop = found[0].rows, found[0].gflop
        table.add_row(bank, f"{rows:,.0f}", f"{gflop:.2f}", *figures, f"{latency:.1f}")
    return table


def _reached(detector: Detector, test: ImageSet) -> Reached:
    maps, truth = maps_of(detector, test), truth_of(test)
    ranking, cost = Ranking.from_maps(maps, truth), detector.cost()
    grid, channels = detector._grid, detector._features.channels  # type: ignore[attr-defined]
    rows = cost.search_flops / (2 * channels * grid[0] * grid[1])
    auc = auroc(image_scores(maps), truth.labels)
    return Reached(ranking.rwap(), ranking.ap(), auc, rows, cost.search_flops / 1e9)


def _latency(detector: Detector, test: ImageSet) -> float:
    image = np.ascontiguousarray(test.pixels[:1])
    run = onnx_run(onnx_bytes(detector.module(), (image.shape[2], image.shape[3])), threads=1)
    return measure_latency(lambda: run(image))


def _spread(values: list[float]) -> str:
    plain = f"{np.mean(values):.3f}"
    return plain + (f" ±{np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
