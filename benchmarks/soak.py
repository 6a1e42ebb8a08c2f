"""Whether a long search stays as it began: memory, open files and processes, and time per trial.

    python benchmarks/soak.py --trials 2000 --workers 2

Trials that only wait for a moment run through Ray Tune, as in ``overhead.py``, so that all that
grows is the search's own. With ``--seconds 0`` they do not even wait, and the time per trial is
that of the search itself. The driver, its workers and Ray's own processes are looked at once the
workers are warm, after trial 200, and at the last trial; and once more what is left when Ray has
ended.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
import psutil
import ray
from overhead import Trivial
from rich.console import Console
from rich.table import Table

from autosearch.contracts import TrialRecord, registry
from autosearch.executors import make_executor
from autosearch.spec import StudySpec, load_spec
from autosearch.storage import StudyFolder
from autosearch.study import StudyDriver

WARM = 200
"""Trials after which memory should be flat."""


def main() -> None:
    """Print, for every sampler, what there is at the two moments, and the time by quarters."""
    parser = argparse.ArgumentParser(description="Watch a long search.")
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.1, help="that a trial waits")
    parser.add_argument("--samplers", nargs="+", default=["tpe", "random"])
    parser.add_argument("--warm", type=int, default=WARM, help="trials before the first look")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    console = Console(width=100)
    console.print(
        f"{options.trials} trials of {options.seconds:g} s, {options.workers} workers, Ray "
        f"{ray.__version__}, Optuna {optuna.__version__}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}"
    )
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    found = {}
    with tempfile.TemporaryDirectory(prefix="soak-") as scratch:
        # All that anybody leaves behind is found here; workers have the same environment.
        os.environ["TMPDIR"] = tempfile.tempdir = scratch
        # What a first search opens for good, such as a library's files, is no leak.
        soak("random", 2 * options.workers, options.workers, 1, 0.0)
        for sampler in options.samplers:
            found[sampler] = soak(
                sampler, options.trials, options.workers, options.warm, options.seconds
            )
            _print(console, sampler, found[sampler], options.warm, options.trials)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def soak(sampler: str, trials: int, workers: int, warm: int, seconds: float) -> dict[str, Any]:
    """Run one search.

    Returns:
        ``counts`` of trials by status; ``milliseconds`` per trial in each quarter, and those of
        them in which the driver had a processor, which other programs disturb less; ``warm`` and
        ``end``, each with memory (MiB), open files and threads of ``driver``, every ``worker N``
        and ``ray``, the rest together; ``left``: child processes, entries of the folder for
        temporary files, open files and threads of this process that were not there before.
    """
    spec = _spec(sampler, trials, workers)
    runner = registry.load_runner(spec.study.runner)(spec)
    directions = {name: item.direction for name, item in registry.resolve_objectives(spec).items()}
    before = _own()
    told, looks, moments = [], {}, {warm: "warm", trials: "end"}
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder, "workers")
        meeting.mkdir()

        def listen(record: TrialRecord) -> None:
            told.append((time.perf_counter(), time.process_time()))
            if len(told) in moments:
                looks[moments[len(told)]] = look(meeting)

        driver = StudyDriver(
            StudyFolder(Path(folder, "study")), spec, directions, runner.canonical, {}, listen
        )
        ray.init("local", include_dashboard=False, log_to_driver=False, num_cpus=workers)
        make_executor("ray").run(driver, Trivial(spec, meeting, workers, seconds))
        ray.shutdown()
        counts = {str(status): number for status, number in driver.summary().counts.items()}
        driver.close()
    return {
        "counts": counts,
        "milliseconds": _by_quarter([clock for clock, _ in told]),
        "processor": _by_quarter([processor for _, processor in told]),
        **looks,
        "left": {name: value - before[name] for name, value in _own().items()},
    }


def look(meeting: Path) -> dict[str, dict[str, float]]:
    """Memory, open files and threads of all processes of a search, by what they do."""
    here = psutil.Process()
    workers = sorted(int(path.name) for path in meeting.iterdir())
    found = {"driver": _of(here)}
    found["ray"] = dict.fromkeys(found["driver"], 0.0)
    for process in here.children(recursive=True):
        try:
            its = _of(process)
        except psutil.NoSuchProcess:
            continue
        if process.pid in workers:
            found[f"worker {workers.index(process.pid)}"] = its
        else:
            found["ray"] = {name: its[name] + value for name, value in found["ray"].items()}
    return found


def _spec(sampler: str, trials: int, workers: int) -> StudySpec:
    changed = {
        "sampler.name": sampler,
        "study.trials": trials,
        "resources.max_concurrent": workers,
        "backbone.weights": "random",
        "resources.gpu": 0,
    }
    return load_spec(
        registry.find_space("autopatch"), [f"{key}={changed[key]}" for key in changed]
    )


def _of(process: psutil.Process) -> dict[str, float]:
    with process.oneshot():
        memory = process.memory_info().rss / 2**20
        return {"memory": memory, "files": process.num_fds(), "threads": process.num_threads()}


def _by_quarter(told: list[float]) -> list[float]:
    """Milliseconds from one told trial to the next, on the average of every quarter."""
    edges = [round(quarter * (len(told) - 1) / 4) for quarter in range(5)]
    return [
        1e3 * (told[end] - told[start]) / max(1, end - start) for start, end in pairwise(edges)
    ]


def _own() -> dict[str, float]:
    """What this process has; its children are given some time to end."""
    here = psutil.Process()
    _, alive = psutil.wait_procs(here.children(recursive=True), timeout=20)
    # Below, Ray keeps its logs, to be read when something went wrong.
    temporary = len(list(Path(tempfile.gettempdir()).iterdir()))
    its = _of(here)
    return {
        "processes": len(alive),
        "temporary files": temporary,
        "open files": its["files"],
        "threads": its["threads"],
    }


def _print(
    console: Console, sampler: str, found: Mapping[str, Any], warm: int, trials: int
) -> None:
    table = Table(title=f"{sampler}: {found['counts']}")
    table.add_column("process")
    for name in ("memory (MiB)", "files", "threads"):
        for moment in (warm, trials):
            table.add_column(f"{name} at {moment}", justify="right")
    for process, its in found["end"].items():
        cells = [
            f"{moment.get(process, {}).get(name, float('nan')):.0f}"
            for name in its
            for moment in (found["warm"], found["end"])
        ]
        table.add_row(process, *cells)
    console.print(table)
    for name, quarters in (("in all", found["milliseconds"]), ("driver", found["processor"])):
        shown = ", ".join(f"{value:.1f}" for value in quarters)
        ratio = quarters[3] / quarters[0]
        console.print(f"ms per trial by quarter, {name}: {shown}; last to first {ratio:.2f}")
    console.print(f"left: {found['left']}\n")


if __name__ == "__main__":
    main()
