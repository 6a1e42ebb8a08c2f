r"""What Synth4Seg's outer level is worth: weights of sources, and places of defects.

    python benchmarks/bilevel_quality.py weights --data ../shared/data/magnetic_tile:magnetic_tile
    python benchmarks/bilevel_quality.py location --image-size 128 --epochs 30 \
        --images-per-epoch 96 --data ../shared/data/mvtec_small:toothbrush_resplit_256

``weights`` trains with TrivialAugment alone, with all sources counting alike, with weights that
hypergradients learn, and with weights that TPE searches; ``location`` with places drawn evenly and
with learnt ones. All else is equal, the number of images a step too; every training has several
seeds. Sizes and rates were chosen on validation, for trainings of minutes. What is searched is the
best trial on validation. Figures are of the test split; the time is that of all trainings. Stopped
and called again, it goes on where it was.
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

from autosearch.data import size_text

METRICS = ("iou_half", "ap", "rwap", "image_auroc")
EVERY: dict[str, Any] = {"decoder_width": 128, "outer_normals": True, "halve_every_fraction": 0.25}


def systems(task: str, images: int) -> dict[str, tuple[dict[str, Any], bool]]:
    """What is compared: name to space, and whether that is searched.

    Args:
        task: What the outer level learns.
        images: That each source makes an epoch.
    """
    none = {"outer_task": "none"}
    if task == "location":
        combined = {"sources": "combined", "batch": 4}
        outer = {"neumann_terms": 1, "outer_interval": 4, "outer_batch": 8}
        learnt = combined | outer | {"outer_task": "location", "outer_lr_location": 3e-4}
        return {"places drawn evenly": (combined | none, False), "places learnt": (learnt, False)}
    outer = {"neumann_terms": 3, "outer_interval": 12, "outer_batch": 16}
    learnt = outer | {"outer_task": "source_weights", "outer_lr_weights": 5e-2}
    # As many steps as with all sources, and as many images in each.
    alone = {"sources": SOURCES[0], "batch": 2 * len(SOURCES)}
    alone["images_per_epoch"] = images * len(SOURCES)
    searched = {f"weight.{name}": {"float": [0.0, 3.0]} for name in SOURCES[1:]}
    return {
        "TrivialAugment alone": (alone | none, False),
        "equal weights": (none, False),
        "weights learnt": (learnt, False),
        "weights searched": (searched | none, True),
    }


def search(given: argparse.Namespace, job: Job) -> Figures:
    """Search, and evaluate what is best on validation; the time is that of all trainings."""
    study = {"runner": job.runner, "seed": job.seed, "trials": given.trials}
    objectives = ["training_seconds", "iou_half"]
    given.results.mkdir(parents=True, exist_ok=True)
    path = given.results / f"{job.name}.yaml"
    content = {**job.spec, "study": study, "objectives": objectives, "pruner": {"name": "none"}}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    folder = run(
        given.results, job.name, str(path), ["--set", f"resources.max_concurrent={given.jobs}"]
    )
    best = best_trial(folder, "iou_half")
    figures = evaluated(folder, best.number)["metrics"]
    seconds = sum(record.seconds.get("fit", 0.0) for record in folder.trials.records())
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
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--images-per-epoch", type=int, default=48, help="of each source")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--trials", type=int, default=2, help="of a search")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=cores())
    parser.add_argument("--results", type=Path, default=Path("results/bilevel_quality"))
    given = parser.parse_args()
    size = {"epochs": given.epochs, "images_per_epoch": given.images_per_epoch, "lr": given.lr}
    dataset = data_section(given.data) | {"image_size": given.image_size, "labelled": {}}
    found: dict[str, list[Figures]] = {}
    compared = systems(given.task, given.images_per_epoch)
    jobs: dict[str, list[Job]] = {system: [] for system in compared}
    for system, (space, _) in compared.items():
        spec = {"dataset": dataset, "space": EVERY | size | space}
        name = system.lower().replace(" ", "-")
        jobs[system] = [
            Job(f"{name}-{seed}", spec, "synth4seg", seed, METRICS) for seed in given.seeds
        ]
    single = [job for system in compared for job in jobs[system] if not compared[system][1]]
    results = fit_all(given.results, single, given.jobs)
    for system, (_, searched) in compared.items():
        found[system] = [
            search(given, job) if searched else results[job.name] for job in jobs[system]
        ]
    title = f"{given.data.rsplit(':', 1)[1]}, test split, {size_text(given.image_size)}"
    table = Table("system", "IoU, validation", *METRICS, "training, s", title=title, box=None)
    for system, rows in found.items():
        validation = mean_and_spread([one["val_iou_half"] for one in rows])
        cells = [mean_and_spread([one[metric] for one in rows]) for metric in METRICS]
        seconds = sum(one["training_seconds"] for one in rows) / len(rows)
        table.add_row(system, validation, *cells, f"{seconds:.0f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
