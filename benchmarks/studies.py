"""What benchmarks of quality share: studies, or single configurations, with their test figures."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from autosearch.contracts import (
    SCORED,
    Detector,
    Scored,
    TrialRecord,
    registry,
    shared_tensor,
    trial_seed,
)
from autosearch.data import load_test_set
from autosearch.spec import parse_spec
from autosearch.storage import StudyFolder
from autosearch.study import build, load_inputs, truth_of

Figures = Mapping[str, float]
"""Metrics of the test split and costs by the names of objectives; those of the validation split
with ``val_`` before them; ``training_seconds``."""


def data_section(text: str) -> dict[str, str]:
    """``ROOT:CATEGORY`` as part of a spec."""
    root, category = text.rsplit(":", 1)
    return {"root": str(Path(root).resolve()), "category": category}


def portfolio(path: Path, space: Mapping[str, Any]) -> list[dict[str, Any]]:
    """First configurations that `portfolio.py` wrote, without what a space does not name."""
    known = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [{key: value for key, value in one.items() if key in space} for one in known]


def run(results: Path, name: str, space: str, options: Sequence[str]) -> StudyFolder:
    """Run a study, or go on with it."""
    command = ["autosearch", "run", space, "--name", name, "--results", str(results), "--resume"]
    subprocess.run([*command, *options], check=True)
    return StudyFolder.open(results / name)


def best_trial(folder: StudyFolder, objective: str) -> TrialRecord:
    """The trial with most of an objective on validation, the first of several."""
    records = [record for record in folder.trials.records() if record.status in SCORED]
    return max(records, key=lambda record: (record.values[objective], -record.number))


def evaluated(folder: StudyFolder, number: int) -> Mapping[str, Any]:
    """Test figures of a trial as `evaluate` stores them, made unless they are there."""
    if number not in folder.files.load_tests():
        command = ["autosearch", "evaluate", str(folder.path), "--trial", str(number)]
        subprocess.run(command, check=True)
    return folder.files.load_tests()[number]


@dataclass(frozen=True)
class Job:
    """One configuration to fit and to score, without a search.

    Attributes:
        name: Of the file that keeps its figures.
        spec: All but study and objectives; every parameter of its space has one value.
        runner: Which one.
        seed: As that of a study.
        metrics: Names of objectives.
    """

    name: str
    spec: Mapping[str, Any]
    runner: str
    seed: int
    metrics: tuple[str, ...]


def fit_all(results: Path, jobs: Sequence[Job], processes: int) -> dict[str, Figures]:
    """Fit every configuration once, one thread each, and score both splits; by name."""
    results.mkdir(parents=True, exist_ok=True)
    context = get_context("spawn")
    with ProcessPoolExecutor(processes, context, torch.set_num_threads, (1,)) as pool:
        found = pool.map(_fitted, jobs, [results] * len(jobs))
        return {job.name: figures for job, figures in zip(jobs, found, strict=True)}


def _fitted(job: Job, results: Path) -> Figures:
    path = results / f"{job.name}.json"
    if path.exists():
        kept: Figures = json.loads(path.read_text(encoding="utf-8"))
        return kept
    study = {"name": job.name, "runner": job.runner, "seed": job.seed}
    spec = parse_spec({**job.spec, "study": study, "objectives": ["gflops", *job.metrics]})
    inputs = load_inputs(spec)
    params = {parameter.name: parameter.values()[0] for parameter in spec.parsed_space.parameters}
    canonical = inputs.runner.canonical(params)
    seed = trial_seed(job.seed, canonical)
    detector = build(inputs.spec, inputs.runner, canonical, seed, inputs.data.val)
    start = time.perf_counter()
    detector.fit(inputs.data.train)
    figures = {"training_seconds": time.perf_counter() - start}
    test, _ = load_test_set(inputs.spec.dataset)
    for prefix, images in (("", test), ("val_", inputs.data.val)):
        maps = detector.anomaly_maps(shared_tensor(images.pixels)).numpy()
        prevalence, share = spec.dataset.prevalence, detector.top_share
        scored = Scored(maps, truth_of(images), {}, prevalence, top_share=share)
        figures |= {prefix + name: _measured(name, detector, scored) for name in job.metrics}
    figures["gflops"] = _measured("gflops", detector, None)
    path.write_text(json.dumps(figures), encoding="utf-8")
    print(f"{job.name}: {figures}", flush=True)
    return figures


def _measured(name: str, detector: Detector, scored: Scored | None) -> float:
    return registry.objectives()[name].measure(detector, scored)


def cores() -> int:
    """How many processes there is room for."""
    return os.cpu_count() or 1


def mean_and_spread(values: Sequence[float]) -> str:
    """Mean, and standard deviation where there are several."""
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.3f}"
