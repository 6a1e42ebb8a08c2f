"""Does the search find more than a fixed choice of layers? AutoPatch against PatchCore's choice.

    python benchmarks/search_quality.py --data ../shared/data/magnetic_tile:magnetic_tile_mini

Runs the space `autopatch` with several seeds, and the configuration that PatchCore fixes (outputs
of 1/8 and 1/16 resolution, patch size 3) on the largest subnet of the same supernet. Of each
search, the trial with the best validation rwAP is evaluated on the test split, once; the fixed
choice likewise. Stopped and called again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from autosearch.results import StudyFolder
from autosearch.supernets.ofa_layout import STAGES, WIDTHS
from autosearch.trials import SCORED, TrialRecord

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


def study(results: Path, name: str, space: str, options: list[str]) -> StudyFolder:
    """Run a study, or go on with it."""
    command = ["autosearch", "run", space, "--name", name, "--results", str(results), "--resume"]
    subprocess.run([*command, *options], check=True)
    return StudyFolder.open(results / name)


def evaluated(folder: StudyFolder) -> tuple[TrialRecord, Mapping[str, Any]]:
    """The trial with the best validation rwAP, and its test figures."""
    records = [record for record in folder.records() if record.status in SCORED]
    best = max(records, key=lambda record: (record.values["rwap"], -record.number))
    command = ["autosearch", "evaluate", str(folder.path), "--trial", str(best.number)]
    subprocess.run(command, check=True)
    return best, folder.load_tests()[best.number]


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
    root, category = given.data.rsplit(":", 1)
    options = ["--set", f"dataset.root={root}", "--set", f"dataset.category={category}"]
    found: list[tuple[str, TrialRecord, Mapping[str, Any]]] = []
    given.results.mkdir(parents=True, exist_ok=True)
    for width in WIDTHS:
        name = f"fixed-w{width}"
        spec = {"study": {"name": name, "runner": "autopatch", "trials": 1}}
        path = given.results / f"{name}.yaml"
        content = {**spec, "objectives": OBJECTIVES, "space": fixed_space(width)}
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        folder = study(given.results, name, str(path), [*options, "--executor", "local"])
        found.append((f"fixed layers, width {width}", *evaluated(folder)))
    for seed in given.seeds:
        limits = ["--trials", str(given.trials), "--set", f"study.seed={seed}"]
        limits += [part for override in given.set for part in ("--set", override)]
        folder = study(given.results, f"search-{seed}", "autopatch", [*options, *limits])
        found.append((f"search, seed {seed}", *evaluated(folder)))
    Console(width=110).print(_table(f"{category}, {given.trials} trials", found))


def _table(title: str, found: list[tuple[str, TrialRecord, Mapping[str, Any]]]) -> Table:
    columns = ("choice", "trial", "GFLOPs", "rwAP validation", "rwAP test", "95 %", "AP test")
    table = Table(*columns, title=title, title_justify="left", box=None)
    for name, record, figures in found:
        low, high = figures["intervals"]["rwap"]
        table.add_row(
            name,
            str(record.number),
            f"{record.values['gflops']:.3f}",
            f"{record.values['rwap']:.3f}",
            f"{figures['metrics']['rwap']:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{figures['metrics']['ap']:.3f}",
        )
    searched = [(r, f) for name, r, f in found if name.startswith("search")]
    columns_of = (
        [r.values["gflops"] for r, _ in searched],
        [r.values["rwap"] for r, _ in searched],
        [f["metrics"]["rwap"] for _, f in searched],
    )
    means = [f"{np.mean(values):.3f} ± {np.std(values):.3f}" for values in columns_of]
    table.add_row("search, mean and spread", "", *means, "", "")
    return table


if __name__ == "__main__":
    main()
