r"""What Synth4Seg's outer level is worth: weights of sources, and places of defects.

    python benchmarks/bilevel_quality.py weights --data ../shared/data/magnetic_tile:magnetic_tile
    python benchmarks/bilevel_quality.py location \
        --data ../shared/data/mvtec_small:toothbrush_resplit_256

``weights`` trains with TrivialAugment alone, with all sources counting alike, with weights that
hypergradients learn, and with weights that TPE searches; ``location`` with places drawn evenly and
with learnt ones. All else is equal, nothing was chosen on this data, and every training has
several seeds. A study's best trial on validation is evaluated on the test split once. Stopped and
called again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autosearch_runners.synth4seg.sources import SOURCES
from rich.console import Console
from rich.table import Table
from studies import data_section, mean_and_spread, run_side_by_side

METRICS = ("iou_half", "ap", "rwap", "image_auroc")
EVERY: dict[str, Any] = {"decoder_width": 64, "outer_normals": True, "halve_every_fraction": 0.5}
OUTER: dict[str, Any] = {"neumann_terms": 3, "scale_rule": "auto", "outer_interval": 8}


def systems(task: str) -> dict[str, tuple[dict[str, Any], bool]]:
    """What is compared: name to space, and whether that is searched."""
    none = {"outer_task": "none"}
    if task == "location":
        combined = {"sources": "combined"}
        learnt = combined | OUTER | {"outer_task": "location", "outer_lr_location": 1e-3}
        return {"places drawn evenly": (combined | none, False), "places learnt": (learnt, False)}
    learnt = OUTER | {"outer_task": "source_weights", "outer_lr_weights": 3e-2}
    searched = {f"weight.{name}": {"float": [0.0, 3.0]} for name in SOURCES[1:]}
    return {
        "TrivialAugment alone": ({"sources": SOURCES[0]} | none, False),
        "equal weights": (none, False),
        "weights learnt": (learnt, False),
        "weights searched": (searched | none, True),
    }


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=["weights", "location"])
    parser.add_argument("--data", required=True, metavar="ROOT:CATEGORY")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--images-per-epoch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--trials", type=int, default=4, help="of a search")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--results", type=Path, default=Path("results/bilevel_quality"))
    given = parser.parse_args()
    size = {"epochs": given.epochs, "images_per_epoch": given.images_per_epoch, "lr": given.lr}
    groups: dict[str, dict[str, Mapping[str, Any]]] = {}
    for system, (space, searched) in systems(given.task).items():
        groups[system] = {
            f"{system.lower().replace(' ', '-')}-{seed}": {
                "study": {
                    "runner": "synth4seg",
                    "trials": given.trials if searched else 1,
                    "seed": seed,
                },
                "objectives": ["training_seconds", "iou_half"],
                "pruner": {"name": "none"},
                "dataset": data_section(given.data)
                | {"image_size": given.image_size, "labelled": {}},
                "space": EVERY | size | space,
            }
            for seed in given.seeds
        }
    every = {name: content for group in groups.values() for name, content in group.items()}
    results = run_side_by_side(given.results, every, "iou_half", given.jobs)
    title = f"{given.data.rsplit(':', 1)[1]}, test split, {given.image_size} px"
    table = Table("system", "IoU, validation", *METRICS, "training, s", title=title, box=None)
    for system, group in groups.items():
        found = [results[name] for name in group]
        validation = mean_and_spread([one.record.values["iou_half"] for one in found])
        cells = [mean_and_spread([one[metric] for one in found]) for metric in METRICS]
        seconds = sum(one.seconds for one in found) / len(found)
        table.add_row(system, validation, *cells, f"{seconds:.0f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
