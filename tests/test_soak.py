"""A long search stays as it began: its memory, its open files and its processes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def trials(full: bool) -> int:
    """How many."""
    return 2000 if full else 200


@pytest.fixture(scope="module")
def found(full: bool, trials: int, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the benchmark measures, by sampler, in a process of its own."""
    out = tmp_path_factory.mktemp("soak") / "found.json"
    samplers = ["tpe", "random"] if full else ["tpe"]
    options = ["--trials", trials, "--warm", trials // 10, "--json", out, "--samplers", *samplers]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "soak.py", *map(str, options)],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(out.read_text())
    assert list(figures) == samplers
    return figures


@pytest.mark.slow
@pytest.mark.timeout(1800)
class TestALongSearch:
    def test_no_trial_is_lost_or_counted_twice(self, found: dict[str, Any], trials: int) -> None:
        for figures in found.values():
            counts = figures["counts"]
            assert sum(counts.values()) == trials
            assert not counts["failed"] and not counts["running"]

    def test_memory_is_flat(self, found: dict[str, Any]) -> None:
        """What the driver knows of a trial must stay there, some 10 to 40 KB of it."""
        for figures in found.values():
            for process, its in figures["end"].items():
                before = figures["warm"][process]
                assert its["memory"] < 1.1 * before["memory"], process

    def test_no_process_and_no_file_is_left_open_on_the_way(self, found: dict[str, Any]) -> None:
        for figures in found.values():
            assert sorted(figures["end"]) == ["driver", "ray", "worker 0", "worker 1"]
            for process, its in figures["end"].items():
                before = figures["warm"][process]
                assert its["files"] <= before["files"] + 10, process
                assert its["threads"] <= before["threads"] + 10, process

    def test_nothing_is_left_in_the_end(self, found: dict[str, Any]) -> None:
        for figures in found.values():
            left = figures["left"]
            assert (left["processes"], left["temporary files"]) == (0, 0)
            # Ray forgets to close one socket each time it is started.
            assert left["open files"] <= 1
