"""Searches to put faults into, as commands in processes of their own, and how they are checked."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import optuna
import psutil
import pytest

from autosearch.contracts.trials import Status, TrialRecord
from autosearch.storage.folder import StudyFolder
from autosearch.storage.optuna_study import STUDY

PLUGIN = '''
"""A runner whose trials do what files in a folder say; installed by being on the path."""

import datetime
import os
import signal
import time
from pathlib import Path

import optuna.storages.journal._storage as journal
import torch
from autosearch.contracts.detector import Cost, Detector, ParameterInfo, Runner
from torch import nn

FOLDER = Path(os.environ["FAULTS"])
_time, _datetime = time.time, datetime.datetime


def shift():
    """By how many seconds the clock has been set forward."""
    try:
        return float((FOLDER / "clock").read_text())
    except (OSError, ValueError):
        return 0.0


class Shifted(_datetime):
    @classmethod
    def now(cls, tz=None):
        return _datetime.now(tz) + datetime.timedelta(seconds=shift())


time.time = lambda: _time() + shift()
journal.datetime = Shifted


class FaultyRunner(Runner):
    description = "goes wrong when told to"
    parameters = {"x": ParameterInfo(0, "number", low=0, high=999)}

    def canonical(self, params):
        return dict(params)

    def build(self, params, context):
        return Faulty(params["x"])


class Faulty(Detector):
    def __init__(self, x):
        self.x = x

    def fit(self, train):
        (FOLDER / f"began-{self.x}-{os.getpid()}").touch()
        wait, hang = FOLDER / f"wait-{self.x}", FOLDER / f"hang-{self.x}"
        while wait.exists():
            time.sleep(0.01)
        if hang.exists():
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
            time.sleep(3600)

    def anomaly_maps(self, images):
        return (images.mean(1) - self.x / 1000).abs()

    def artifacts(self):
        return {"notes.bin": bytes(10_000)}

    def cost(self):
        return Cost(1 + self.x, 2 + 2 * self.x, 0, 0, 0)

    def module(self):
        return nn.Identity()
'''

SPEC = """
study: {name: faulty, runner: faulty, retries: 2}
space: {x: {int: [0, 999]}}
objectives: [gflops, rwap]
sampler: {name: random}
start: [{x: 0}, {x: 1}, {x: 2}, {x: 3}, {x: 4}, {x: 5}, {x: 6}, {x: 7}]
dataset: {image_size: 32}
resources: {gpu: 0, max_concurrent: 2}
"""


class Place:
    """Where a test's searches run: folders, environment, and a mark on every process of theirs.

    Args:
        folder: For results and what trials leave.
        short: For files of Ray, whose sockets want short paths, and other temporary ones.
    """

    def __init__(self, folder: Path, short: Path) -> None:
        self.results, self.faults = folder / "results", folder / "faults"
        self.faults.mkdir()
        plugin = folder / "plugin"
        described = plugin / "faulty-1.0.dist-info"
        described.mkdir(parents=True)
        (plugin / "faulty_runner.py").write_text(PLUGIN)
        (described / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
        entry = "[autosearch.runners]\nfaulty = faulty_runner:FaultyRunner\n"
        (described / "entry_points.txt").write_text(entry)
        self.spec = folder / "faulty.yaml"
        self.spec.write_text(SPEC)
        self.mark = uuid.uuid4().hex
        path = os.pathsep.join(filter(None, [str(plugin), os.environ.get("PYTHONPATH")]))
        self._environment = os.environ | {
            "PYTHONPATH": path, "FAULTS": str(self.faults), "FAULTS_MARK": self.mark,
            "TMPDIR": str(short), "RAY_TMPDIR": str(short), "OMP_NUM_THREADS": "1",
            "COLUMNS": "500",
        }  # fmt: skip

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start the command, in a session of its own as a terminal would."""
        code = "from autosearch.cli import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)], env=self._environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def search(self, trials: int, executor: str, *more: str) -> subprocess.Popen[str]:
        """Start or continue the study of the faulty runner."""
        return self.start("run", self.spec, "--resume", "--results", self.results,
                          "--trials", str(trials), "--executor", executor, *more)  # fmt: skip

    @property
    def faulty(self) -> StudyFolder:
        """Its folder."""
        return StudyFolder(self.results / "faulty")

    def began(self, x: int) -> list[int]:
        """Processes in which a trial began, once each."""
        return [int(path.name.split("-")[2]) for path in self.faults.glob(f"began-{x}-*")]

    def processes(self) -> list[psutil.Process]:
        """All that live and descend from a command of this place, orphans too."""
        found = []
        for process in psutil.process_iter():
            try:
                dead = process.status() == psutil.STATUS_ZOMBIE
                if not dead and process.environ().get("FAULTS_MARK") == self.mark:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def wait_for_silence(self) -> None:
        """Wait until nobody is left; who is still there after minutes will never go."""
        until = time.monotonic() + 300
        while left := self.processes():
            if time.monotonic() > until:
                pytest.fail(f"still running: {[' '.join(p.cmdline())[:200] for p in left]}")
            time.sleep(0.2)


def succeed(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a command that must end well."""
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    assert "Traceback" not in out + err
    return out


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> bool:
    """Wait for a condition; false if the process ended before it held."""
    while not condition():
        if process.poll() is not None:
            return bool(condition())
        time.sleep(0.005)
    return True


def finals(folder: StudyFolder) -> Counter[int]:
    """How many lines of the journal give each trial a final state; optuna is not asked."""
    found: Counter[int] = Counter()
    if folder.journal_path.is_file():
        # A writer may be in the middle of the last line.
        for line in folder.journal_path.read_bytes().split(b"\n")[:-1]:
            entry = json.loads(line)
            if entry["op_code"] == 6 and entry["state"] in (1, 2, 3):
                found[entry["trial_id"]] += 1
    return found


def finished(folder: StudyFolder) -> dict[int, TrialRecord]:
    """Trials that are told, by number, each told once."""
    if not folder.exists():
        assert not finals(folder)
        return {}
    told = {r.number: r for r in folder.trials.records() if r.status != Status.RUNNING}
    assert finals(folder) == dict.fromkeys(told, 1)
    return told


def check_kept(before: Mapping[int, TrialRecord], after: Mapping[int, TrialRecord]) -> None:
    """What had finished is there, and as it was."""
    assert {number: after.get(number) for number in before} == before


def check_met(folder: StudyFolder, budget: int) -> list[TrialRecord]:
    """The budget is met exactly, by trials that are told once each."""
    told = folder.trials.records()
    assert [record.number for record in told] == list(range(budget))
    assert finals(folder) == dict.fromkeys(range(budget), 1)
    return told


def attempts(folder: StudyFolder) -> dict[int, int]:
    """How often a trial was lost, where it ever was."""
    study = optuna.load_study(study_name=STUDY, storage=folder.trials.storage())
    found = {trial.number: trial.user_attrs.get("attempts", 0) for trial in study.get_trials()}
    return {number: lost for number, lost in found.items() if lost}
