r"""What GLASS is worth beside a memory bank on the same backbone.

    python benchmarks/glass_quality.py --data ../shared/data/magnetic_tile:magnetic_tile \
        --textures ../shared/data/dtd_subset

Trains GLASS under each hypothesis with several seeds, all settings but the hypothesis the same and
none of them chosen on this data, and fits a memory bank of the same levels. Each is fitted once
and scores the test split; the network of a training is that of its last epoch. Figures are kept
as JSON: stopped and called again, it goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table
from studies import Job, cores, data_section, fit_all, mean_and_spread

from autosearch.data import size_text

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
BANK = {"backbone": GLASS["backbone"]} | {f"level{level}.patch_size": 3 for level in LEVELS}


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, metavar="ROOT:CATEGORY")
    parser.add_argument("--textures", type=Path, help="folder of images; default: procedural")
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--images-per-epoch", type=int, default=120)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=cores())
    parser.add_argument("--results", type=Path, default=Path("results/glass_quality"))
    given = parser.parse_args()
    dataset = data_section(given.data) | {"image_size": given.image_size}
    textures = given.textures and str(given.textures.resolve())
    length = {"epochs": given.epochs, "images_per_epoch": given.images_per_epoch}
    bank = Job("bank", {"dataset": dataset, "space": BANK}, "patchcore", 0, METRICS)
    groups = {"memory bank": [bank]}
    for hypothesis in HYPOTHESES:
        space = GLASS | length | {"hypothesis": hypothesis}
        spec = {"dataset": dataset, "space": space, "synthesis": {"textures": textures}}
        groups[f"GLASS, {hypothesis}"] = [
            Job(f"glass-{hypothesis}-{seed}", spec, "glass", seed, METRICS) for seed in given.seeds
        ]
    every = [job for group in groups.values() for job in group]
    results = fit_all(given.results, every, given.jobs)
    title = f"{given.data.rsplit(':', 1)[1]}, test split, {size_text(given.image_size)}"
    table = Table("system", *METRICS, "GFLOPs", "training, s", title=title, box=None)
    for system, group in groups.items():
        found = [results[job.name] for job in group]
        cells = [mean_and_spread([one[metric] for one in found]) for metric in METRICS]
        seconds = sum(one["training_seconds"] for one in found) / len(found)
        table.add_row(system, *cells, f"{found[0]['gflops']:.3f}", f"{seconds:.0f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
