"""How long a search takes to reach the front of a plain one: wall time, and trials a minute.

    python benchmarks/time_to_front.py --data ../shared/data/magnetic_tile:magnetic_tile
    python benchmarks/time_to_front.py --trials 4 --set dataset.image_size=64   (a try on the demo)

The plain search is AutoPatch's space as it is published: whole banks, nothing stopped early. The
other is `--space`, with what `--ours` sets. Both have the same data, seed and number of trials,
run in turn `--repeats` times, and are held against each other by what both measure of a trial:
operations of the network and rwAP on validation, on a canvas of the same size. That is what the
plain search is after; the other looks for the operations of network and search together, and so
has the harder task here.

What counts is the hypervolume of all complete trials so far, up to the dearest trial of the first
plain search and down to an rwAP of 0; with `--log` of the logarithm of operations, so that cheap
trials count as much as dear ones. The clock starts with the command, its imports included, and
ends when the trial that reaches the share is told.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from studies import data_section

from autosearch import open_study
from autosearch.contracts import SCORED
from autosearch.metrics import pareto

SHARES = (0.95, 0.99)
"""Of the plain search's hypervolume."""

DIRECTIONS = ("minimize", "maximize")

PLAIN = ("space.coreset_ratio=1", "pruner.name=none")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """A search that is over.

    Attributes:
        times: ``(N,)`` seconds from the command to when a complete trial was told, rising.
        values: ``(N, 2)`` operations of the network in billions, and rwAP, of these trials.
        trials: All that were told, whatever came of them.
        seconds: From the command to its end.
    """

    times: Floats
    values: Floats
    trials: int
    seconds: float

    @property
    def rate(self) -> float:
        """Trials a minute."""
        return 60 * self.trials / self.seconds


def main() -> None:
    """Print a row for every search, and what the better half of them comes to."""
    given = _options()
    plain: list[Run] = []
    ours: list[Run] = []
    with tempfile.TemporaryDirectory(dir=given.scratch) as place:
        # What is read for the first time takes longer, whoever reads it.
        _search(given, Path(place), "warm", given.space, given.ours, trials=1)
        for number in range(given.repeats):
            for name, space, asked, runs in (
                ("plain", "autopatch", PLAIN, plain),
                ("ours", given.space, given.ours, ours),
            ):
                runs.append(_search(given, Path(place), f"{name}-{number}", space, asked))
                print(f"{name} {number}: {runs[-1].seconds:.0f} s", file=sys.stderr, flush=True)
    if not len(plain[0].values):
        sys.exit("no trial of the plain search is complete: there is nothing to reach")
    worst = np.array([plain[0].values[:, 0].max() * (1 + 1e-9), 0.0])
    console = Console(width=120)
    console.print(_each(plain, ours, worst, given.log))
    console.print(_together(plain, ours, worst, given.log))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", metavar="ROOT:CATEGORY", help="else the demo")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=1, help="of both searches")
    parser.add_argument("--space", default="autopatch_plus", help="the other search")
    parser.add_argument("--ours", nargs="*", default=[], metavar="KEY=VALUE", help="of it alone")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of both")
    parser.add_argument("--executor", default="local", choices=("local", "ray", "auto"))
    parser.add_argument("--evaluation-size", type=int, default=224, help="of the canvas, pixels")
    parser.add_argument("--log", action="store_true", help="operations by their logarithm")
    parser.add_argument("--scratch", type=Path, help="folder for results")
    return parser.parse_args()


def _search(
    given: argparse.Namespace,
    results: Path,
    name: str,
    space: str,
    asked: Sequence[str],
    trials: int | None = None,
) -> Run:
    data = {} if given.data is None else data_section(given.data)
    wanted = [
        *(f"dataset.{key}={value}" for key, value in data.items()),
        f"dataset.evaluation_size={given.evaluation_size}",
        *given.set,
        *asked,
    ]
    command = [
        str(Path(sys.executable).with_name("autosearch")), "run", space, "--name", name,
        "--results", str(results), "--trials", str(trials or given.trials),
        "--executor", given.executor, *(word for one in wanted for word in ("--set", one)),
    ]  # fmt: skip
    start = datetime.now(UTC)
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = (datetime.now(UTC) - start).total_seconds()
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stderr[-3000:]}")
    told = _told(results / name / "study.log", start)
    records = [record for record in open_study(results / name).trials if record.number in told]
    found = sorted(
        (told[record.number], figures["gflops"], figures["rwap"])
        for record in records
        if record.status in SCORED
        for figures in ({**record.measured, **record.values},)
    )
    table = np.array(found, dtype=np.float64).reshape(-1, 3)
    return Run(table[:, 0], table[:, 1:], len(records), seconds)


def _told(log: Path, start: datetime) -> dict[int, float]:
    """Number of every trial, and seconds after which it was told."""
    found = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["event"] == "trial told":
            at = datetime.fromisoformat(event["time"])
            found[int(event["trial"])] = (at - start).total_seconds()
    return found


def volumes(run: Run, worst: Floats, log: bool = False) -> Floats:
    """Hypervolume after each complete trial of a search, ``(N,)``, rising.

    Args:
        run: The search.
        worst: ``(2,)`` operations and rwAP beyond which nothing counts.
        log: Whether operations count by their logarithm.
    """
    values, limit = run.values.copy(), worst.copy()
    if log:
        values[:, 0], limit[0] = np.log(values[:, 0]), np.log(limit[0])
    ends = range(1, len(values) + 1)
    return np.array([pareto.hypervolume(values[:end], limit, DIRECTIONS) for end in ends])


def reached(run: Run, grown: Floats, target: float) -> float | None:
    """Seconds after which a search had so much volume; None if it never had."""
    there = np.flatnonzero(grown >= target)
    return float(run.times[there[0]]) if len(there) else None


def _each(plain: list[Run], ours: list[Run], worst: Floats, log: bool) -> Table:
    target = volumes(plain[0], worst, log)[-1]
    shares = [f"s to {share:.0%}" for share in (*SHARES, 1.0)]
    shown = Table("search", "complete", "trials a minute", "volume", *shares, "s in all", box=None)
    for name, runs in (("plain", plain), ("ours", ours)):
        for run in runs:
            grown = volumes(run, worst, log)
            times = [reached(run, grown, share * target) for share in (*SHARES, 1.0)]
            last = grown[-1] / target if len(grown) and target else 0.0
            shown.add_row(
                name, f"{len(run.values)} of {run.trials}", f"{run.rate:.2f}", f"{last:.1%}",
                *("never" if at is None else f"{at:.0f}" for at in times), f"{run.seconds:.0f}",
            )  # fmt: skip
    return shown


def _together(plain: list[Run], ours: list[Run], worst: Floats, log: bool) -> str:
    """Medians over runs as multiples of the plain search."""
    target = volumes(plain[0], worst, log)[-1]
    rates = [statistics.median(run.rate for run in runs) for runs in (plain, ours)]
    told = [f"trials a minute: {rates[1] / rates[0]:.1f} times"]
    for share in SHARES:
        times = [
            [reached(run, volumes(run, worst, log), share * target) for run in runs]
            for runs in (plain, ours)
        ]
        if any(at is None for side in times for at in side):
            told.append(f"{share:.0%} of the volume: not reached by all")
            continue
        slow, quick = (statistics.median(at for at in side if at) for side in times)
        told.append(f"{share:.0%} of the volume: {slow / quick:.1f} times sooner")
    return "; ".join(told) + "."


if __name__ == "__main__":
    main()
