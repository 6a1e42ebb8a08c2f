"""Memory and time of a search that has ever more normal images.

    python benchmarks/memory.py --data /data/mvtec:screw --normals 250 1000 2500 10000

Normals are crops of the dataset's, with noise; defects are its own, one a type for validation.
Memory is what the command and all processes that it starts have for themselves at the peak, and
the shared memory of Ray; pages of files, which are given back when memory runs short, are not
counted. Times mean something only with nothing beside.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table

from autosearch import open_study
from autosearch.data import open_index
from autosearch.spec import DatasetSpec

_EVERY_SECONDS = 0.5
_CELLS = 56 * 56
"""Patches of an image at the finest level of AutoPatch's space."""


@dataclass(frozen=True)
class Run:
    """One search.

    Attributes:
        taken: Bytes of all processes at the peak.
        seconds: From the command to its end.
        statuses: Of its trials.
        trial_seconds: Mean of those that are complete.
    """

    taken: int
    seconds: float
    statuses: Counter[str]
    trial_seconds: float


def main() -> None:
    """Print one row for every number of normal images."""
    given = _options()
    root, category = given.data.rsplit(":", 1)
    dataset = DatasetSpec(name="source", root=root, category=category)
    table = Table("normals", "memory at the peak", "seconds in all", "a trial", "trials", box=None)
    with tempfile.TemporaryDirectory(dir=given.scratch) as place:
        for count in given.normals:
            data = Path(place, f"n{count}")
            _write(dataset, data, count, given.file_size)
            for again in range(1 + given.again):
                run = _search(given, data, count, Path(place, f"results-{count}-{again}"))
                trials = ", ".join(f"{number} {status}" for status, number in run.statuses.items())
                name = f"{count:,}" + (" again" if again else "")
                table.add_row(name, f"{run.taken / 1e9:.1f} GB", f"{run.seconds:.0f}",
                              f"{run.trial_seconds:.1f}", trials)  # fmt: skip
            shutil.rmtree(data)
    Console().print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, help="ROOT:CATEGORY to cut normals from")
    parser.add_argument("--normals", type=int, nargs="+", default=[250, 1000, 2500, 10_000])
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--rows", type=int, default=50_000, help="most rows of a bank")
    parser.add_argument("--ratio", type=float, default=0.1, help="share of patches, if fewer")
    parser.add_argument("--size", type=int, default=224, help="side of the input in pixels")
    parser.add_argument("--file-size", type=int, default=256, help="side of the files")
    parser.add_argument("--again", action="store_true", help="search twice on the same data")
    parser.add_argument("--scratch", type=Path, help="folder for data and results")
    return parser.parse_args()


def _write(dataset: DatasetSpec, out: Path, count: int, side: int) -> None:
    """A dataset in folders with so many normal training images."""
    index, rng = open_index(dataset), np.random.default_rng(0)
    normals = [sample.path for sample in index.samples if sample.normal]
    pictures = [_square(path, side) for path in normals[:200]]
    train = out / "part/train/good"
    train.mkdir(parents=True)
    for i in range(count):
        whole = pictures[i % len(pictures)]
        low = round(0.8 * side)
        top, left = rng.integers(0, side - low, 2)
        part = Image.fromarray(whole[top : top + low, left : left + low]).resize((side, side))
        noisy = np.asarray(part) + rng.normal(0, 3, (side, side, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(train / f"{i:05}.png")
    for sample in index.samples:
        if sample.normal or len(sample.masks) != 1:
            continue
        for path, folder, suffix in (
            (sample.path, "test", ""), (sample.masks[0], "ground_truth", "_mask"),
        ):  # fmt: skip
            target = out / "part" / folder / sample.type
            target.mkdir(parents=True, exist_ok=True)
            kind = Image.Resampling.NEAREST if suffix else Image.Resampling.BILINEAR
            picture = Image.open(path).convert("L" if suffix else "RGB")
            picture.resize((side, side), kind).save(target / f"{sample.path.stem}{suffix}.png")


def _square(path: Path, side: int) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB").resize((side, side)))


def _own(pid: int) -> int:
    """Bytes of a process and all below it that belong to no file.

    Pages of a mapped file count as a process's own while no other has read them, too, so on Linux
    they are left out; elsewhere they are not.
    """
    total = 0
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += _anonymous(process.pid) or process.memory_full_info().uss
    return total


def _anonymous(pid: int) -> int:
    """Bytes as Linux counts them; 0 elsewhere."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Anonymous:"):
                return 1024 * int(line.split()[1])
    return 0


def _search(given: argparse.Namespace, data: Path, count: int, results: Path) -> Run:
    ratio = min(given.ratio, given.rows / (count * _CELLS))
    command = [
        str(Path(sys.executable).with_name("autosearch")), "run", "autopatch",
        "--results", str(results),
        "--trials", str(given.trials), "--set", f"dataset.root={data}",
        "--set", "dataset.category=part", "--set", f"dataset.image_size={given.size}",
        "--set", f"space.coreset_ratio={ratio}",
    ]  # fmt: skip
    start, most, shared = time.monotonic(), 0, shutil.disk_usage("/dev/shm").used
    log = results.with_suffix(".txt")
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        while process.poll() is None:
            objects = max(0, shutil.disk_usage("/dev/shm").used - shared)
            most = max(most, _own(process.pid) + objects)
            time.sleep(_EVERY_SECONDS)
    seconds = time.monotonic() - start
    if process.returncode:
        sys.exit(f"the search of {count} normals failed:\n{log.read_text()[-3000:]}")
    records = open_study(results / "autopatch").trials
    done = [record.duration or 0.0 for record in records if record.status == "complete"]
    statuses = Counter(str(record.status) for record in records)
    return Run(most, seconds, statuses, sum(done) / max(1, len(done)))


if __name__ == "__main__":
    main()
