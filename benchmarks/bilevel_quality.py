r"""What Synth4Seg's outer level is worth: weights of sources, and places of defects.

    python benchmarks/bilevel_quality.py weights --data ../shared/data/magnetic_tile:magnetic_tile
    python benchmarks/bilevel_quality.py location \
        --data ../shared/data/mvtec_small:toothbrush_resplit_256

``weights`` trains with TrivialAugment alone, with all sources counting alike, with weights that
hypergradients learn, and with weights that TPE searches; ``location`` with places drawn evenly and
with learnt ones. All else is equal, nothing was chosen on this data, and every training has
several seeds. What is searched is the best trial on validation. Figures are of the test split.
Stopped and called again, it goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml
from autosearch_runners.synth4seg.sources import SOURCES
from rich.console import Console
from rich.table import Table
from studies import (
    Figures,
    Job,
    best_trial,
    cores,
    data_section,
    evaluated,
    fit_all,
    mean_and_spread,
    run,
)

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


def search(given: argparse.Namespace, name: str, spec: dict[str, Any], seed: int) -> Figures:
    """Search, and evaluate what is best on validation; the time is that of all trainings."""
    study = {"runner": "synth4seg", "seed": seed, "trials": given.trials}
    objectives = ["training_seconds", "iou_half"]
    given.results.mkdir(parents=True, exist_ok=True)
    path = given.results / f"{name}.yaml"
    content = {**spec, "study": study, "objectives": objectives, "pruner": {"name": "none"}}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    folder = run(
        given.results, name, str(path), ["--set", f"resources.max_concurrent={given.jobs}"]
    )
    best = best_trial(folder, "iou_half")
    figures = evaluated(folder, best.number)["metrics"]
    seconds = sum(record.seconds.get("fit", 0.0) for record in folder.records())
    return {
        **{metric: figures[metric] for metric in METRICS},
        "val_iou_half": best.values["iou_half"],
        "training_seconds": seconds,
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
    parser.add_argument("--jobs", type=int, default=cores())
    parser.add_argument("--results", type=Path, default=Path("results/bilevel_quality"))
    given = parser.parse_args()
    size = {"epochs": given.epochs, "images_per_epoch": given.images_per_epoch, "lr": given.lr}
    dataset = data_section(given.data) | {"image_size": given.image_size, "labelled": {}}
    found: dict[str, list[Figures]] = {}
    jobs: dict[str, list[Job]] = {}
    for system, (space, searched) in systems(given.task).items():
        spec = {"dataset": dataset, "space": EVERY | size | space}
        name = system.lower().replace(" ", "-")
        if searched:
            found[system] = [search(given, f"{name}-{seed}", spec, seed) for seed in given.seeds]
        else:
            jobs[system] = [
                Job(f"{name}-{seed}", spec, "synth4seg", seed, METRICS) for seed in given.seeds
            ]
    every = [job for group in jobs.values() for job in group]
    results = fit_all(given.results, every, given.jobs)
    found |= {system: [results[job.name] for job in group] for system, group in jobs.items()}
    title = f"{given.data.rsplit(':', 1)[1]}, test split, {given.image_size} px"
    table = Table("system", "IoU, validation", *METRICS, "training, s", title=title, box=None)
    for system in systems(given.task):
        rows = found[system]
        validation = mean_and_spread([one["val_iou_half"] for one in rows])
        cells = [mean_and_spread([one[metric] for one in rows]) for metric in METRICS]
        seconds = sum(one["training_seconds"] for one in rows) / len(rows)
        table.add_row(system, validation, *cells, f"{seconds:.0f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
