"""Does every point of a search's front beat the fixed layers that are as fast? On the test split.

    python benchmarks/latency_front.py results/part --results /tmp/latency

Fits the trials on the front of a finished search of `autopatch_plus` once more, and beside them
its first trial, the fixed layers, with images of several sizes and banks of several sizes. Of each
the latency of the exported graph is measured (onnxruntime, one image on one thread; the machine
must be quiet), and the test split is scored. A point of the front is held against the best of the
fixed layers that are no slower; which of them is the best is read off the test split, so they are
helped. Where none is as fast, against the fastest.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from autosearch import Study, open_study, search
from autosearch.contracts import SCORED, TrialRecord
from autosearch.spec import Params

SIZES, ROWS = (128, 160, 192, 224, 256, 320), (300, 1000, 5000, 10000)
FIGURES = ("rwap", "ap", "image_auroc")


def main() -> None:
    """Print a row for every point of the front."""
    given = _options()
    searched = open_study(given.study)
    front = [dict(record.params) for record in searched.front]
    first = dict(searched.trial(0).params)
    variants = [
        {**first, "image_size": size, "bank_rows": rows}
        for size, rows in itertools.product(SIZES, ROWS)
    ]
    # The fixed layers themselves may be on the front.
    study = _fitted(given, front + [one for one in variants if one not in front])
    told = [record for record in study.trials if record.status in SCORED]
    study.evaluate([record.number for record in told])
    ours = [_row(study, record) for record in told if dict(record.params) in front]
    others = [_row(study, record) for record in told if dict(record.params) in variants]
    columns = ("ms", "ms of fixed", *(f"{name} (fixed)" for name in FIGURES), "rwap more")
    table = Table(*columns, box=None, title=str(given.study))
    better = 0
    for point in sorted(ours, key=lambda row: row[0]):
        as_fast = [row for row in others if row[0] <= point[0]]
        beside = max(as_fast, key=lambda row: row[1]) if as_fast else min(others)
        better += point[1] > beside[1]
        figures = [f"{a:.3f} ({b:.3f})" for a, b in zip(point[1:], beside[1:], strict=True)]
        more = f"{point[1] - beside[1]:+.3f}"
        table.add_row(f"{point[0]:.1f}", f"{beside[0]:.1f}", *figures, more)
    console = Console(width=120)
    console.print(table)
    console.print(f"{better} of {len(ours)} points have a higher rwap than fixed layers as fast.")


def _fitted(given: argparse.Namespace, configurations: list[Params]) -> Study:
    """A study of just these, on the data and with the seed of the search."""
    content = yaml.safe_load((given.study / "spec.yaml").read_text(encoding="utf-8"))
    content["objectives"] = ["latency_ms", "rwap"]
    content["start"] = configurations
    return search(
        content,
        ["pruner.name=none", *given.set],
        trials=len(configurations),
        name=f"{given.study.name}-latency",
        results=given.results,
        resume=True,
        executor="local",
    )


def _row(study: Study, record: TrialRecord) -> tuple[float, ...]:
    """Milliseconds, and test figures."""
    metrics = study.tests[record.number]["metrics"]
    return record.values["latency_ms"], *(metrics[name] or np.nan for name in FIGURES)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", type=Path, help="folder of a finished search")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the spec")
    return parser.parse_args()


if __name__ == "__main__":
    main()
