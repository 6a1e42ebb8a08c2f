"""How seconds and memory of a trial grow with the number of normal images.

    python benchmarks/scaling.py --data ../shared/data/magnetic_tile:magnetic_tile
    python benchmarks/scaling.py --normals 8 --factors 1 2 --size 64      (a try on the demo)

Normal images are enlarged by copies of themselves, mirrored, turned by 180 degrees, and made a
little darker or brighter, written as files into a temporary folder; the defects are the
dataset's own. Validation has the same number of normal images throughout, so that what grows is
the training split alone. Each trial runs in a process of its own: seconds are those of the trial,
not of reading images; memory is what its process held at the peak beyond what it held before,
pages of shared files included (Linux only). The last column is the exponent that fits a kind of
bank best: 1 where twice the images take twice as long, 0 where they take no longer.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from studies import data_section

from autosearch import spaces
from autosearch.contracts import Assignment, Status, trial_seed
from autosearch.data import open_index
from autosearch.spec import DatasetSpec, Params, load_spec
from autosearch.study import TrialEvaluator, load_inputs

BANKS: dict[str, Params] = {
    "whole": {"coreset_ratio": 1.0},
    "k-centre 5,000 rows": {"bank_rows": 5000, "coreset_method": "kcenter"},
    "window 1, 10 a place": {"window": 1, "rows_per_place": 10},
}

BRIGHTER = (1.0, 0.93, 1.07, 0.96, 1.04)
"""Factors of brightness, one after the other once all turns are used up."""

_TEST = 4
"""Normal images of the test split."""


@dataclass(frozen=True)
class Trial:
    """What one trial took.

    Attributes:
        normals: Training images.
        seconds: From its parameters to its values.
        memory: Bytes beyond what the process held before, at the peak.
        rwap: On validation.
    """

    normals: int
    seconds: float
    memory: int
    rwap: float


def main() -> None:
    """Print a row for every kind of bank and number of images."""
    given = _options()
    shown = Table("bank", "normals", "seconds", "memory", "rwAP", "exponent", box=None)
    found: dict[str, list[Trial]] = {bank: [] for bank in given.banks}
    with tempfile.TemporaryDirectory(dir=given.scratch) as place:
        for factor in given.factors:
            data = Path(place, f"x{factor}")
            enlarge(_dataset(given.data), data, factor, given.normals)
            for bank in given.banks:
                found[bank].append(_alone(given, data, bank))
                print(f"x{factor}, {bank}: {found[bank][-1]}", file=sys.stderr, flush=True)
            shutil.rmtree(data)
    for bank, trials in found.items():
        for number, trial in enumerate(trials):
            own = ("", "")
            if number == len(trials) - 1 and number:
                own = _exponents(trials)
            shown.add_row(
                bank if not number else "",
                f"{trial.normals:,}",
                f"{trial.seconds:.1f}",
                f"{trial.memory / 1e9:.2f} GB",
                f"{trial.rwap:.3f}",
                f"seconds {own[0]}, memory {own[1]}" if own[0] else "",
            )
    Console(width=120).print(shown)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", metavar="ROOT:CATEGORY", help="else the demo")
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--normals", type=int, help="of the dataset at most, before enlargement")
    parser.add_argument("--val-normals", type=int, default=10, help="for validation, always")
    parser.add_argument("--space", default="autopatch", help="whose first configuration it is")
    parser.add_argument("--banks", nargs="+", choices=BANKS, default=list(BANKS)[:2])
    parser.add_argument("--size", type=int, default=224, help="side of the input in pixels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the spec")
    parser.add_argument("--scratch", type=Path, help="folder for images")
    return parser.parse_args()


def _dataset(data: str | None) -> DatasetSpec:
    if data is None:
        return DatasetSpec()
    return DatasetSpec.model_validate({"name": "source", **data_section(data)})


def enlarge(dataset: DatasetSpec, out: Path, factor: int, most: int | None = None) -> int:
    """Write a dataset in folders whose normal images are so many times those of another.

    Args:
        dataset: The other; its normal images of all splits count.
        out: Folder that gets a category ``part``.
        factor: How many images come of one; the first is the image itself.
        most: Normal images that are taken, the first; None for all.

    Returns:
        Number of normal images outside the test split.
    """
    index = open_index(dataset)
    normals = [sample.path for sample in index.samples if sample.normal][:most]
    train, test = out / "part/train/good", out / "part/test/good"
    for folder in (train, test):
        folder.mkdir(parents=True)
    for number, path in enumerate(normals):
        picture = np.asarray(Image.open(path).convert("RGB"))
        for copy, changed in enumerate(copies(picture, factor)):
            Image.fromarray(changed).save(train / f"{number:05}_{copy:02}.png", compress_level=1)
        if number < _TEST:
            # Nobody looks at them, but without any a part of the others would be set aside.
            Image.fromarray(picture).save(test / f"{number:05}.png", compress_level=1)
    for sample in index.samples:
        if sample.normal or len(sample.masks) != 1:
            continue
        for path, top, suffix in (
            (sample.path, "test", ""), (sample.masks[0], "ground_truth", "_mask"),
        ):  # fmt: skip
            target = out / "part" / top / sample.type / f"{sample.path.stem}{suffix}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.open(path).convert("L" if suffix else "RGB").save(target, compress_level=1)
    return len(normals) * factor


def copies(picture: np.ndarray, factor: int) -> Iterator[np.ndarray]:
    """So many different versions of ``(H, W, 3)`` bytes, all of one shape; itself comes first."""
    if factor > 4 * len(BRIGHTER):
        raise SystemExit(f"--factors: at most {4 * len(BRIGHTER)}, not {factor}")
    turned = (picture, picture[:, ::-1], picture[::-1], picture[::-1, ::-1])
    for number in range(factor):
        changed = turned[number % 4] * BRIGHTER[number // 4]
        yield np.ascontiguousarray(changed.round().clip(0, 255).astype(np.uint8))


def _alone(given: argparse.Namespace, data: Path, bank: str) -> Trial:
    """In a process of its own, so that the most it held is that trial's."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_trial, (given, data, bank))


def _trial(given: argparse.Namespace, data: Path, bank: str) -> Trial:
    torch.set_num_threads(given.threads)
    asked = [
        f"dataset.root={data}", "dataset.category=part",
        f"dataset.image_size={given.size}", f"dataset.validation.normal={given.val_normals}",
    ]  # fmt: skip
    inputs = load_inputs(load_spec(spaces()[given.space], [*asked, *given.set]))
    start = inputs.spec.configurations[0]
    own = {name: value for name, value in start.items() if not _of_banks(name)}
    params: Params = {**own, **BANKS[bank]}
    canonical = inputs.runner.canonical(params)
    evaluator = TrialEvaluator(inputs.spec, inputs.runner, inputs.data)
    before, began = _memory("VmRSS"), time.perf_counter()
    outcome = evaluator(Assignment(0, params, canonical, trial_seed(0, canonical)))
    seconds = time.perf_counter() - began
    if outcome.status != Status.COMPLETE:
        raise SystemExit(f"{bank}: {outcome.status}, {outcome.reason}")
    # Reading images may have held more than is left of it; then this is too much, not too little.
    memory = _memory("VmHWM") - before
    rwap = {**outcome.measured, **outcome.values}["rwap"]
    return Trial(len(inputs.data.train), seconds, memory, rwap)


def _of_banks(name: str) -> bool:
    return name.startswith(("coreset_", "bank_")) or name in ("window", "rows_per_place")


def exponent(counts: list[int], values: list[float]) -> float:
    """Of the power of counts that fits values best by least squares of logarithms."""
    return float(np.polyfit(np.log(counts), np.log(values), 1)[0])


def _exponents(trials: list[Trial]) -> tuple[str, str]:
    counts = [trial.normals for trial in trials]
    seconds = exponent(counts, [trial.seconds for trial in trials])
    memory = exponent(counts, [max(1.0, float(trial.memory)) for trial in trials])
    return f"{seconds:.2f}", f"{memory:.2f}"


def _memory(field: str) -> int:
    """Bytes of this process in memory, now (``VmRSS``) or at most (``VmHWM``)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    if found is None:
        raise SystemExit(f"this system does not tell {field}")
    return int(found[1]) * 1024


if __name__ == "__main__":
    main()
