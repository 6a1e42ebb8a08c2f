"""Studies that benchmarks compare: run or continued, their best trials evaluated on test."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from autosearch.results import StudyFolder
from autosearch.trials import SCORED, TrialRecord


@dataclass(frozen=True)
class Result:
    """The trial of a study that validation prefers.

    Attributes:
        record: The trial.
        figures: Its test figures, as `autosearch.final` describes them.
        seconds: What training all trials of the study took.
    """

    record: TrialRecord
    figures: Mapping[str, Any]
    seconds: float

    def __getitem__(self, name: str) -> float:
        """A test metric, or a value that is the same on every split."""
        known = {**self.record.measured, **self.record.values, **self.figures["metrics"]}
        return float(known[name])


def data_section(text: str) -> dict[str, str]:
    """``ROOT:CATEGORY`` as part of a spec."""
    root, category = text.rsplit(":", 1)
    return {"root": str(Path(root).resolve()), "category": category}


def run(results: Path, name: str, space: str, options: Sequence[str], objective: str) -> Result:
    """Run a study or go on with it, and evaluate its best trial unless that was done.

    Args:
        results: Folder of studies.
        name: Of the study.
        space: Name or path of a space.
        options: Of ``autosearch run``.
        objective: What the best trial has most of on validation.
    """
    command = ["autosearch", "run", space, "--name", name, "--results", str(results), "--resume"]
    subprocess.run([*command, *options], check=True)
    folder = StudyFolder.open(results / name)
    records = [record for record in folder.records() if record.status in SCORED]
    best = max(records, key=lambda record: (record.values[objective], -record.number))
    if best.number not in folder.load_tests():
        command = ["autosearch", "evaluate", str(folder.path), "--trial", str(best.number)]
        subprocess.run(command, check=True)
    seconds = sum(record.seconds.get("fit", 0.0) for record in records)
    return Result(best, folder.load_tests()[best.number], seconds)


def run_side_by_side(
    results: Path, specs: Mapping[str, Mapping[str, Any]], objective: str, jobs: int
) -> dict[str, Result]:
    """Run studies by name, several at a time, each in one process with one thread."""
    results.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"

    def one(name: str) -> Result:
        path = results / f"{name}.yaml"
        path.write_text(yaml.safe_dump(dict(specs[name])), encoding="utf-8")
        return run(results, name, str(path), ["--executor", "local"], objective)

    with ThreadPoolExecutor(jobs) as pool:
        return dict(zip(specs, pool.map(one, specs), strict=True))


def mean_and_spread(values: Sequence[float]) -> str:
    """Mean, and standard deviation where there are several."""
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.3f}"
