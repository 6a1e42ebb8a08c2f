"""Are a supernet's features worth searching? Its subnets against their teacher.

    python benchmarks/supernet_quality.py --data ../shared/data/magnetic_tile:magnetic_tile_mini

A memory bank on features of the same resolutions and patch sizes: of the teacher, of the largest,
the smallest and random subnets, with the stored batch-norm statistics and with statistics of the
training images, and of a supernet with random weights. Everything is fitted on the normal training
images and scored on the test split; nothing is chosen by the figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from autosearch_runners.memory_bank import BankSettings, MemoryBankDetector
from rich.console import Console
from rich.progress import track
from rich.table import Table

from autosearch.backbones import (
    MODEL_NAMES,
    STAGE_BLOCKS,
    ActiveSizes,
    FeatureExtractor,
    OFAArchitecture,
    OFAMobileNetV3,
    TimmBackbone,
    resolve,
)
from autosearch.contracts import TrialContext
from autosearch.data import ImageSet, load_search_data, load_test_set
from autosearch.metrics import Ranking
from autosearch.spec import DatasetSpec
from autosearch.study import maps_of, truth_of

TEACHER = "tf_efficientnet_lite0"
TEACHER_LEVELS = {0: 1, 1: 2, 3: 3}
"""timm's levels of the teacher that the supernet's stages were made to resemble."""

STAGES = {"1/8": (1,), "1/8 + 1/16": (1, 3), "1/4 + 1/8": (0, 1)}
"""Stages whose last block's output becomes features."""

PATCH_SIZE = 3
CORESET = {"1/4 + 1/8": 0.1}
"""Share of patches that the bank keeps, where all would take minutes; the same for everybody."""


@dataclass(frozen=True)
class Job:
    """One memory bank to fit and score."""

    data: DatasetSpec
    width: float
    kind: str
    levels: str
    sizes: ActiveSizes | None = None
    weights: str = "random"
    recalibrated: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Figures:
    """What it reached on the test split."""

    rwap: float
    ap: float
    gflops: float


def jobs(data: DatasetSpec, width: float, weights: str, subnets: int) -> Iterator[Job]:
    """All comparisons on one dataset and one width."""
    extremes = {"largest": ActiveSizes.largest(), "smallest": ActiveSizes.smallest()}
    draw = np.random.default_rng(0)
    drawn = [ActiveSizes.random(draw) for _ in range(subnets)]
    for levels in STAGES:
        yield Job(data, width, "teacher", levels)
        yield Job(data, width, "largest, random weights", levels, extremes["largest"])
        for bn in (False, True):
            for kind, sizes in extremes.items():
                yield Job(data, width, kind, levels, sizes, weights, bn)
            for seed, sizes in enumerate(drawn):
                yield Job(data, width, "random subnets", levels, sizes, weights, bn, seed)


_LOADED: dict[str, tuple[ImageSet, ImageSet]] = {}


def measure(job: Job) -> Figures:
    """Fit and score one job; images are read once per process."""
    torch.set_num_threads(1)
    key = f"{job.data.root}/{job.data.category}"
    if key not in _LOADED:
        _LOADED[key] = (load_search_data(job.data).train, load_test_set(job.data)[0])
    train, test = _LOADED[key]
    stages = STAGES[job.levels]
    bank = BankSettings("auto", CORESET.get(job.levels, 1.0), "random", None, 1)
    context = TrialContext(0, "cpu", (train.pixels.shape[2], train.pixels.shape[3]))
    detector = MemoryBankDetector(
        _extractor(job, stages),
        (PATCH_SIZE,) * len(stages),
        bank,
        context,
        bn_recalibration=job.recalibrated,
    )
    detector.fit(train)
    ranking = Ranking.from_maps(maps_of(detector, test), truth_of(test))
    return Figures(ranking.rwap(), ranking.ap(), detector.cost().flops / 1e9)


def _extractor(job: Job, stages: tuple[int, ...]) -> FeatureExtractor:
    if job.sizes is None:
        levels = tuple(TEACHER_LEVELS[stage] for stage in stages)
        return TimmBackbone(TEACHER, levels, resolve(TEACHER, "auto", 0).state)
    name = next(name for name, width in MODEL_NAMES.items() if width == job.width)
    request = job.weights.format(width=job.width)
    supernet = OFAMobileNetV3(job.width, resolve(name, request, job.seed).state)
    sizes = job.sizes
    ends = [STAGE_BLOCKS[s][depth - 1] for s, depth in enumerate(sizes.depths)]
    blocks = tuple(end if s in stages else None for s, end in enumerate(ends))
    # Stages that are passed without extraction are as deep as in the search space: two blocks.
    return supernet.subnet(
        OFAArchitecture(job.width, sizes.kernel_sizes, sizes.expand_ratios, blocks)
    )


def main() -> None:
    """Print one table per dataset and width."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", required=True, metavar="ROOT:CATEGORY")
    parser.add_argument("--weights", default="bundled", help="or a path; {width} is replaced")
    parser.add_argument("--widths", nargs="+", type=float, default=sorted(MODEL_NAMES.values()))
    parser.add_argument("--subnets", type=int, default=20, help="random ones")
    parser.add_argument("--size", type=int, default=224, help="side of the images")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    console = Console(width=100)
    for place in given.data:
        root, category = place.rsplit(":", 1)
        data = DatasetSpec(
            root=str(Path(root).resolve()), category=category, image_size=given.size
        )
        for width in given.widths:
            asked = list(jobs(data, width, given.weights, given.subnets))
            with ProcessPoolExecutor(given.processes) as pool:
                found = list(track(pool.map(measure, asked), "measuring", len(asked)))
            console.print(_table(f"{category}, width {width}", asked, found))


def _table(title: str, asked: list[Job], found: list[Figures]) -> Table:
    groups: dict[tuple[str, str, bool], list[Figures]] = {}
    for job, figures in zip(asked, found, strict=True):
        groups.setdefault((job.levels, job.kind, job.recalibrated), []).append(figures)
    columns = ("features", "network", "BN statistics", "GFLOPs", "rwAP", "of teacher", "AP")
    table = Table(*columns, title=title, title_justify="left", box=None)
    for (levels, kind, recalibrated), rows in groups.items():
        teacher = groups[levels, "teacher", False][0].rwap
        rwap = np.array([row.rwap for row in rows])
        spread = f" ± {rwap.std():.3f}" if len(rows) > 1 else ""
        table.add_row(
            levels,
            kind,
            "training images" if recalibrated else "stored",
            f"{np.mean([row.gflops for row in rows]):.3f}",
            f"{rwap.mean():.3f}{spread}",
            f"{rwap.mean() / teacher:.0%}",
            f"{np.mean([row.ap for row in rows]):.3f}",
        )
    return table


if __name__ == "__main__":
    main()
