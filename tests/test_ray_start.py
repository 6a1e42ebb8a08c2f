"""Which processes a Ray of our own is made of."""

import os
import subprocess
import sys

import ray
from ray._private import node

from autosearch.executors.ray_start import _UNUSED

# In a process of its own, since a test before may have left a Ray here.
DRIVER = """
import json, psutil, ray
from autosearch.executors.ray_tune import RayTuneExecutor
with RayTuneExecutor()._ray():
    began = [" ".join(one.cmdline()) for one in psutil.Process().children(recursive=True)]
    # Ray's own process is told how a worker is started.
    began = [line for line in began if "--python_worker_command" not in line]
    idle = sum("default_worker.py" in line or line.startswith("ray::IDLE") for line in began)
    answer = ray.get(ray.remote(lambda: 6 * 7).remote())
    found = psutil.Process().children(recursive=True)
    lines = [" ".join(one.cmdline()) for one in found]
print(json.dumps([answer, idle, lines]))
"""


def test_has_no_process_that_nobody_asks_for_anything() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DRIVER], capture_output=True, text=True, timeout=200,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()[-1]
    assert said.startswith("[42, 0, ") and "gcs_server" in said and "raylet" in said
    for name in ("monitor.py", "log_monitor.py", "dashboard.py"):
        assert name not in said


def test_ray_still_has_the_methods_that_are_left_out() -> None:
    missing = [name for name in _UNUSED if not callable(getattr(node.Node, name, None))]
    assert not missing, f"Ray {ray.__version__} starts these processes otherwise: {missing}"
