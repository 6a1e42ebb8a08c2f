"""Where Ray keeps its sockets, and which cluster the environment makes a search join."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# A whole search by Ray, without images; what it prints last is for the test.
SEARCH = """
import json, sys
from pathlib import Path
import ray
from ray import cloudpickle
import ray_parts
from autosearch.contracts import Outcome, Status

cloudpickle.register_pickle_by_value(sys.modules["__main__"])

class Evaluator:
    def __init__(self, spec):
        self.spec = spec

    def carried(self):
        return self

    def steps(self, assignment):
        session = ray.worker._global_node.get_session_dir_path()
        yield Outcome(Status.COMPLETE, {"cost": 1.0}, {"length": float(len(session))})

spec = ray_parts.fake_spec(trials=2, resources={"gpu": 0, "max_concurrent": 1})
told = ray_parts.run_fake(spec, Path(sys.argv[1]), Evaluator(spec))
print(json.dumps([[t.status, t.measured["length"]] for t in told]))
"""


def search(
    folder: Path, settings: dict[str, str]
) -> tuple[subprocess.CompletedProcess[str], list[tuple[str, float]]]:
    """The search in a process of its own, and its trials' states and lengths of Ray's paths."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_TMPDIR"}
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", SEARCH, str(folder)], capture_output=True, text=True, timeout=110,
        env={**environment, "PYTHONPATH": path, **settings},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done, json.loads(done.stdout.splitlines()[-1])


def test_a_search_under_a_long_tmpdir_has_short_paths(tmp_path: Path) -> None:
    usual = tmp_path / ("x" * max(1, 119 - len(str(tmp_path))))
    usual.mkdir()
    assert len(str(usual)) >= 120
    done, told = search(tmp_path / "study", {"TMPDIR": str(usual)})
    assert [status for status, _ in told] == ["complete", "complete"]
    assert all(length < 80 for _, length in told)
    (line,) = [row for row in done.stderr.splitlines() if row.startswith("Ray's files are in")]
    folder = line.split()[4].rstrip(",")
    assert str(usual) in line and not Path(folder).exists()


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a cluster of one node, started as people start it."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with tempfile.TemporaryDirectory(prefix="as-", ignore_cleanup_errors=True) as folder:
        ray = Path(sys.executable).with_name("ray")
        command = [ray, "start", "--head", "--port=0", f"--temp-dir={folder}", "--num-cpus=1"]
        command += ["--include-dashboard=false", "--disable-usage-stats", "--block"]
        address = Path(folder, "ray_current_cluster")
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not address.exists() or not address.read_text():
                assert process.poll() is None
                time.sleep(0.1)
            yield address.read_text().strip()
        finally:
            process.terminate()
            process.wait(30)


@pytest.mark.slow
def test_a_search_joins_the_cluster_of_the_environment(tmp_path: Path, head: str) -> None:
    done, told = search(tmp_path / "study", {"RAY_ADDRESS": head})
    assert [status for status, _ in told] == ["complete", "complete"]
    assert f"joining the Ray cluster {head}, as RAY_ADDRESS says" in done.stderr
