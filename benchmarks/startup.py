"""How long a search takes until its first trial is told, and what it costs in processor time.

    python benchmarks/startup.py --executors ray local auto
    git worktree add ../before HEAD~1 && python benchmarks/startup.py --against ../before

The command is run on the demo with a few trials, as a person would run it, one after the other in
turn; with `--against` also that of another copy of the repository, whose packages are found first.
Processor time is that of the command and of all processes that it has started, workers and Ray's
own, until the first trial is told, and until the command is over; it is looked at every twentieth
of a second, so that what a process does in its last moments is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

_LOOK_SECONDS = 0.05
_PACKAGES = {"autosearch_runners": "runners", "autosearch_searchspaces": "searchspaces"}
"""Names under which folders of the repository are installed."""


def main() -> None:
    """Print medians over all runs of each executor and copy."""
    parser = argparse.ArgumentParser(description="Time the start of a search.")
    parser.add_argument("--executors", nargs="+", default=["ray", "local"])
    parser.add_argument("--against", type=Path, help="another copy of the repository")
    parser.add_argument("--space", default="autopatch")
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[])
    options = parser.parse_args()
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    copies = {"now": None, "then": options.against} if options.against else {"now": None}
    for _ in range(options.repeats):
        for executor in options.executors:
            for copy, place in copies.items():
                if executor == "auto" and copy == "then":
                    continue
                with _packages(place) as environment:
                    run = _run(options, executor, environment)
                found.setdefault((copy, executor), []).append(run)
    table = Table(title=f"{options.space}, {options.trials} trials, {os.cpu_count()} cores")
    for heading in ("copy", "executor", "first trial told", "cpu until then", "all", "cpu in all"):
        table.add_column(heading, justify="left" if heading in ("copy", "executor") else "right")
    for (copy, executor), runs in found.items():
        medians = [statistics.median(figure) for figure in zip(*runs, strict=True)]
        table.add_row(copy, executor, *(f"{value:.1f} s" for value in medians))
    Console(width=100).print(table)


@contextmanager
def _packages(place: Path | None) -> Iterator[dict[str, str]]:
    """The environment in which a copy's packages are found before those that are installed."""
    environment = dict(os.environ)
    if place is None:
        yield environment
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "autosearch").symlink_to((place / "autosearch").resolve())
        for name, source in _PACKAGES.items():
            Path(folder, name).symlink_to((place / source).resolve())
        yield environment | {"PYTHONPATH": folder}


def _run(
    options: argparse.Namespace, executor: str, environment: dict[str, str]
) -> tuple[float, float, float, float]:
    """Seconds until the first trial is told, processor time until then, and both in all."""
    with tempfile.TemporaryDirectory() as results:
        command = [sys.executable, "-c", "from autosearch.cli import main; main()", "run",
                   options.space, "--trials", str(options.trials), "--executor", executor,
                   "--results", results, "--name", "s",
                   *(word for given in options.set for word in ("--set", given))]  # fmt: skip
        start, first = time.perf_counter(), None
        # Not from the repository's folder, whose packages would be found before all others.
        process = subprocess.Popen(
            command, cwd=results, env=environment, stdout=subprocess.DEVNULL
        )
        used: dict[int, float] = {}
        log = Path(results, "s", "study.log")
        while process.poll() is None:
            _look(process.pid, used)
            if first is None and _told(log):
                first = time.perf_counter() - start, sum(used.values())
            time.sleep(_LOOK_SECONDS)
        if process.returncode or first is None:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
        return *first, time.perf_counter() - start, sum(used.values())


def _look(process: int, used: dict[int, float]) -> None:
    """Take note of the processor time of a process and of all below it."""
    try:
        root = psutil.Process(process)
        everyone = [root, *root.children(recursive=True)]
    except psutil.Error:
        return
    for one in everyone:
        try:
            times = one.cpu_times()
        except psutil.Error:
            continue
        used[one.pid] = times.user + times.system


def _told(log: Path) -> bool:
    """Whether a line of a study's log says that a trial is told."""
    try:
        lines = log.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(json.loads(line)["event"] == "trial told" for line in lines)


if __name__ == "__main__":
    main()
