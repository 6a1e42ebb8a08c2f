"""Does the search find more than a fixed choice of layers? AutoPatch against PatchCore's choice.

    python benchmarks/search_quality.py --data ../shared/data/magnetic_tile:magnetic_tile_mini

Runs the space `autopatch` with several seeds, and the configuration that PatchCore fixes (outputs
of 1/8 and 1/16 resolution, patch size 3) on the largest subnet of the same supernet. Of each
search, the trial with the best validation rwAP is evaluated on the test split, once; the fixed
choice likewise. Stopped and called again, it goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table
from studies import best_trial, data_section, evaluated, mean_and_spread, run

from autosearch.backbones import STAGES, WIDTHS
from autosearch.contracts import TrialRecord

FIXED_BLOCKS = {1: 6, 3: 15}
OBJECTIVES = ["gflops", "rwap"]


def fixed_space(width: float) -> dict[str, Any]:
    """The space of one configuration: PatchCore's layers on the largest subnet."""
    space: dict[str, Any] = {"width": width}
    for stage in range(STAGES):
        space |= {f"stage{stage}.kernel_size": 7, f"stage{stage}.expand_ratio": 6}
        space |= {f"stage{stage}.extraction_block": FIXED_BLOCKS.get(stage)}
        space |= {f"stage{stage}.patch_size": 3}
    return space


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, metavar="ROOT:CATEGORY")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--results", type=Path, default=Path("results"))
    help_of_set = "of the searches alone, such as space.coreset_ratio=0.25 to have cheaper trials"
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help=help_of_set)
    given = parser.parse_args()
    dataset = data_section(given.data)
    sets = [f"dataset.{key}={value}" for key, value in dataset.items()]
    options = [part for override in sets for part in ("--set", override)]
    found: dict[str, tuple[TrialRecord, Mapping[str, Any]]] = {}

    def study(label: str, name: str, space: str, more: list[str]) -> None:
        folder = run(given.results, name, space, [*options, *more])
        best = best_trial(folder, "rwap")
        found[label] = best, evaluated(folder, best.number)

    given.results.mkdir(parents=True, exist_ok=True)
    for width in WIDTHS:
        name = f"fixed-w{width}"
        spec = {"study": {"name": name, "runner": "autopatch", "trials": 1}}
        path = given.results / f"{name}.yaml"
        content = {**spec, "objectives": OBJECTIVES, "space": fixed_space(width)}
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        study(f"fixed layers, width {width}", name, str(path), ["--executor", "local"])
    for seed in given.seeds:
        limits = ["--trials", str(given.trials), "--set", f"study.seed={seed}"]
        limits += [part for override in given.set for part in ("--set", override)]
        study(f"search, seed {seed}", f"search-{seed}", "autopatch", limits)
    title = f"{dataset['category']}, {given.trials} trials"
    Console(width=110).print(_table(title, found))


def _table(title: str, found: Mapping[str, tuple[TrialRecord, Mapping[str, Any]]]) -> Table:
    columns = ("choice", "trial", "GFLOPs", "rwAP validation", "rwAP test", "95 %", "AP test")
    table = Table(*columns, title=title, title_justify="left", box=None)
    searched = []
    for name, (record, figures) in found.items():
        low, high = figures["intervals"]["rwap"]
        values = record.values["gflops"], record.values["rwap"], figures["metrics"]["rwap"]
        searched += [values] if name.startswith("search") else []
        cells = [f"{value:.3f}" for value in values]
        interval, ap = f"{low:.3f} to {high:.3f}", f"{figures['metrics']['ap']:.3f}"
        table.add_row(name, str(record.number), *cells, interval, ap)
    means = map(mean_and_spread, zip(*searched, strict=True))
    table.add_row("search, mean and spread", "", *means, "", "")
    return table


if __name__ == "__main__":
    main()
