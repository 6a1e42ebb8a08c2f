"""What a search costs beside its trials: trials that do nothing, on the real AutoPatch space.

    python benchmarks/overhead.py --trials 100 2000 --workers 2
    python benchmarks/overhead.py --before 2000 10000 50000 --trials 100 --executors local --cpu

With `--before`, a study has so many trials already: 2,000 configurations drawn at random, taken
again and again, each time with other values. `--cpu` counts processor time of the driver's process
in the place of time that passes, for machines with other work.

Time runs from the first told trial to the last, and the first trials wait until all workers are
there, so that the start of Ray and of its workers is left out. It is split into the sampler's own,
the study's journal (reading and writing it), waiting for the disk to have it (fsync), the rest of
our driver, and what remains: with Ray, its scheduling and messages; else nearly nothing. The last
column is the cost of the last tenth of the trials, since samplers that learn from all earlier
trials grow slower.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import optuna
import ray
from rich.console import Console
from rich.table import Table

from autosearch.contracts import (
    Assignment,
    Outcome,
    Runner,
    Status,
    registry,
)
from autosearch.errors import Infeasible
from autosearch.executors import make_executor
from autosearch.spec import StudySpec, load_spec
from autosearch.storage import Journal, StudyFolder
from autosearch.study import ReproducibleSampler, StudyDriver

_DISTINCT = 2000
"""Configurations of the trials that a study has before."""

PARTS: dict[str, tuple[tuple[Any, str], ...]] = {
    "sampler": (
        (ReproducibleSampler, "sample_relative"),
        (ReproducibleSampler, "sample_independent"),
        (ReproducibleSampler, "infer_relative_search_space"),
        (ReproducibleSampler, "after_trial"),
    ),
    "journal": ((Journal, "append_logs"), (Journal, "read_logs")),
    "disk": ((os, "fsync"),),
    "driver": ((StudyDriver, "ask"), (StudyDriver, "tell")),
}


class Trivial:
    """Two random objective values, drawn from the assignment's seed.

    Args:
        spec: The study.
        meeting: Folder in which workers wait for each other before their first trial.
        workers: How many there are.
        seconds: How long a trial waits.
    """

    def __init__(self, spec: StudySpec, meeting: Path, workers: int, seconds: float = 0.0) -> None:
        self.spec, self._meeting, self._workers = spec, meeting, workers
        self._seconds = seconds

    def steps(self, assignment: Assignment) -> Iterator[Outcome]:
        """Evaluate nothing."""
        (self._meeting / str(os.getpid())).touch()
        while len(list(self._meeting.iterdir())) < self._workers:
            time.sleep(0.05)
        time.sleep(self._seconds)
        rng = random.Random(assignment.seed)
        yield Outcome(Status.COMPLETE, {name: rng.random() for name in self.spec.objectives})


class Stopwatch:
    """Time by part, each without the parts that ran inside it.

    Args:
        clock: Gives seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.seconds: Counter[str] = Counter()
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Charge what happens inside to ``name``."""
        self._charge()
        self._running.append(name)
        try:
            yield
        finally:
            self._charge()
            self._running.pop()

    def watching(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a method."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return method(*args, **kwargs)

        return call

    def _charge(self) -> None:
        now = self.clock()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since  # type: ignore[assignment]
        self._since = now


def main() -> None:
    """Print one line per executor, sampler and number of trials."""
    parser = argparse.ArgumentParser(description="Time the search itself.")
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 2000])
    parser.add_argument("--before", type=int, nargs="+", default=[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--samplers", nargs="+", default=["tpe", "random"])
    parser.add_argument("--executors", nargs="+", default=["ray", "local"])
    parser.add_argument("--objectives", nargs="+", default=["gflops", "rwap"])
    parser.add_argument("--cpu", action="store_true", help="processor time of the driver")
    options = parser.parse_args()
    console = Console(width=100)
    console.print(
        f"{options.workers} workers, Ray {ray.__version__}, Optuna {optuna.__version__}, "
        f"{os.cpu_count()} cores, load of the machine {os.getloadavg()[0]:.1f}"
    )
    spec = load_spec(registry.find_space("autopatch"), ["backbone.weights=random"])
    runner = registry.load_runner(spec.study.runner)(spec)
    if "ray" in options.executors:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        ray.init("local", include_dashboard=False, log_to_driver=False, num_cpus=options.workers)
    table = Table(title="milliseconds per trial")
    for heading in (
        "executor",
        "sampler",
        "before",
        "trials",
        "total",
        *PARTS,
        "remainder",
        "last tenth",
    ):
        left = heading in ("executor", "sampler")
        table.add_column(heading, justify="left" if left else "right")
    clock = time.process_time if options.cpu else time.perf_counter
    each = product(options.samplers, options.before, options.trials, options.executors)
    for sampler, before, trials, executor in each:
        changed = [
            f"sampler.name={sampler}",
            f"study.trials={before + trials}",
            f"resources.max_concurrent={options.workers}",
            f"objectives=[{', '.join(options.objectives)}]",
            "backbone.weights=random",
            "resources.gpu=0",
        ]
        study = load_spec(registry.find_space("autopatch"), changed)
        workers = 1 if executor == "local" else options.workers
        figures = _measure(study, runner, executor, workers, before, Stopwatch(clock))
        shown = [f"{1e3 * value:.1f}" for value in figures]
        table.add_row(executor, sampler, str(before), str(trials), *shown)
    console.print(table)


def _measure(
    spec: StudySpec, runner: Runner, executor: str, workers: int, before: int, watch: Stopwatch
) -> list[float]:
    """Seconds per trial: in all, of every part, of the remainder, and late in the search."""
    directions = {name: item.direction for name, item in registry.resolve_objectives(spec).items()}
    told: list[float] = []

    def listen(record: object) -> None:
        if not told:
            watch.seconds.clear()
        told.append(watch.clock())
        driver.summary()  # As everybody who listens asks for it.

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        place = StudyFolder(Path(folder))
        if before:
            StudyDriver(place, spec, directions, runner.canonical, {}).close()
            _fill(place, spec, runner, before)
        driver = StudyDriver(place, spec, directions, runner.canonical, {}, listen)
        for name, methods in PARTS.items():
            for owner, method in methods:
                wrapped = watch.watching(name, getattr(owner, method))
                stack.enter_context(patch.object(owner, method, wrapped))
        meeting = Path(folder, "workers")
        meeting.mkdir()
        evaluator: Any = Trivial(spec, meeting, workers)
        make_executor(executor).run(driver, evaluator)
        driver.close()
    late = max(2, len(told) // 10)
    total = told[-1] - told[0]
    parts = [watch.seconds[name] for name in PARTS]
    intervals = len(told) - 1
    spent = [value / intervals for value in (total, *parts, total - sum(parts))]
    return [*spent, (told[-1] - told[-late]) / (late - 1)]


def _fill(folder: StudyFolder, spec: StudySpec, runner: Runner, number: int) -> None:
    """Give a study trials that are complete, with random values."""
    storage, rng = folder.trials.storage(), random.Random(0)
    study_id = storage.get_study_id_from_name(folder.trials.study)
    drawn: list[tuple[optuna.Trial, dict[str, Any]]] = []
    while len(drawn) < min(number, _DISTINCT):
        # A study that is small answers at once.
        draws = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=len(drawn)))
        for trial in (draws.ask() for _ in range(100)):
            with suppress(Infeasible):
                drawn.append((trial, runner.canonical(spec.parsed_space.suggest(trial))))
    with patch.object(os, "fsync"):
        for i in range(number):
            trial, canonical = drawn[i % len(drawn)]
            storage.create_new_trial(
                study_id,
                optuna.trial.create_trial(
                    values=[rng.random() for _ in spec.objectives],
                    params=trial.params,
                    distributions=trial.distributions,
                    user_attrs={"status": str(Status.COMPLETE), "canonical": canonical},
                ),
            )


if __name__ == "__main__":
    main()
