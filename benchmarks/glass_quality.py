r"""What GLASS is worth beside a memory bank on the same backbone.

    python benchmarks/glass_quality.py --data ../shared/data/magnetic_tile:magnetic_tile \\
        --textures ../shared/data/dtd_subset

Trains GLASS under each hypothesis with several seeds, all settings but the hypothesis the same and
none of them chosen on this data, and fits a memory bank of the same levels. Each is a study of one
trial, evaluated on the test split once; the network of a training is that of its last epoch.
Stopped and called again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from autosearch.results import StudyFolder

METRICS = ("image_auroc", "ap", "rwap", "aupro")
HYPOTHESES = ("manifold", "hypersphere", "auto")
LEVELS = (2, 3)
GLASS = {
    "backbone": "tf_efficientnet_lite0",
    "layers": "+".join(map(str, LEVELS)),
    "embed_dim": 256,
    "feature_scale": "unit",
    "disc_hidden": 256,
    "smoothing_sigma": 2.0,
    "lr": 1e-3,
}
BANK = {"backbone": GLASS["backbone"]} | {
    f"level{level}.patch_size": GLASS.get("patch_size", 3) for level in LEVELS
}


@dataclass(frozen=True)
class Job:
    """One study of one trial."""

    name: str
    runner: str
    space: Mapping[str, Any]
    seed: int


def figures(job: Job, given: argparse.Namespace) -> Mapping[str, Any]:
    """Run and evaluate, or read what is there; test figures, GFLOPs and seconds of training."""
    root, category = given.data.rsplit(":", 1)
    dataset = {"root": str(Path(root).resolve()), "category": category}
    spec: dict[str, Any] = {
        "study": {"name": job.name, "runner": job.runner, "trials": 1, "seed": job.seed},
        "objectives": ["gflops", "rwap"],
        "measures": ["training_seconds"],
        "dataset": dataset | {"image_size": given.image_size},
        "space": dict(job.space),
    }
    if given.textures is not None:
        spec["synthesis"] = {"textures": str(given.textures.resolve())}
    path, folder = given.results / f"{job.name}.yaml", StudyFolder(given.results / job.name)
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    options = ["--results", str(given.results), "--resume", "--executor", "local"]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    for command in (
        ["autosearch", "run", str(path), *options],
        ["autosearch", "evaluate", str(folder.path), "--trial", "0"],
    ):
        if 0 not in folder.load_tests():
            subprocess.run(command, check=True, env=one_thread, stdout=subprocess.DEVNULL)
    record = folder.records()[0]
    measured = {name: {**record.values, **record.measured}[name] for name in _COSTS}
    return folder.load_tests()[0]["metrics"] | measured


_COSTS = ("gflops", "training_seconds")


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, metavar="ROOT:CATEGORY")
    parser.add_argument("--textures", type=Path, help="folder of images; default: procedural")
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--images-per-epoch", type=int, default=120)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--results", type=Path, default=Path("results/glass_quality"))
    given = parser.parse_args()
    given.results.mkdir(parents=True, exist_ok=True)
    length = {"epochs": given.epochs, "images_per_epoch": given.images_per_epoch}
    groups = {"memory bank": [Job("bank", "patchcore", BANK, 0)]}
    for hypothesis in HYPOTHESES:
        space = GLASS | length | {"hypothesis": hypothesis}
        groups[f"GLASS, {hypothesis}"] = [
            Job(f"glass-{hypothesis}-{seed}", "glass", space, seed) for seed in given.seeds
        ]
    table = Table("system", *METRICS, "GFLOPs", "training, s", box=None)
    with ThreadPoolExecutor(given.jobs) as pool:
        running = {
            name: [pool.submit(figures, job, given) for job in jobs]
            for name, jobs in groups.items()
        }
        for name, futures in running.items():
            found = [future.result() for future in futures]
            cells = [_cell([one[metric] for one in found]) for metric in METRICS]
            costs = [np.mean([one[cost] for one in found]) for cost in _COSTS]
            table.add_row(name, *cells, f"{costs[0]:.3f}", f"{costs[1]:.0f}")
    table.title = f"{given.data.rsplit(':', 1)[1]}, test split, {given.image_size} px"
    Console(width=110).print(table)


def _cell(values: list[float]) -> str:
    """Mean, and standard deviation where there are several."""
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.3f}"


if __name__ == "__main__":
    main()
