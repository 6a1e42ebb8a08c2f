"""How much Ray's workers give way to other processes, next to the process that searches."""

import json
import os
import subprocess
import sys

import pytest
import ray

from autosearch.executors.ray_tune import RayTuneExecutor

NAME = "RAY_worker_niceness"
# A driver that gives way itself, since Ray adds to what its workers start with.
DRIVER = """
import json, os, ray
from autosearch.executors.ray_tune import RayTuneExecutor
os.nice(1)
with RayTuneExecutor()._ray():
    worker = ray.get(ray.remote(lambda: os.nice(0)).remote())
print(json.dumps([os.nice(0), worker]))
"""


def test_a_worker_is_as_nice_as_its_driver():
    environment = {name: value for name, value in os.environ.items() if name != NAME}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER], capture_output=True, text=True, timeout=100,
        env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    driver, worker = json.loads(done.stdout.splitlines()[-1])
    assert worker == driver >= 1


@pytest.mark.parametrize(
    ("given", "address", "seen"),
    [(None, None, "0"), ("7", None, "7"), (None, "auto", None), ("7", "auto", "7")],
    ids=["ours", "as the user says", "a cluster's", "a cluster's, as the user says"],
)
def test_only_a_ray_of_our_own_is_told(monkeypatch, given, address, seen):
    monkeypatch.delenv(NAME, raising=False)
    if given is not None:
        monkeypatch.setenv(NAME, given)
    found = []
    monkeypatch.setattr(ray, "init", lambda **_: found.append(os.environ.get(NAME)))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with RayTuneExecutor(address)._ray():
        pass
    assert found == [seen] and os.environ.get(NAME) == given
