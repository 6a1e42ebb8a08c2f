"""A study without a runner, and what drives it through its trials, here or in another process."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna

from autosearch.contracts.trials import Assignment, Outcome, Status, TrialRecord
from autosearch.spec.reading import parse_spec
from autosearch.spec.sections import StudySpec
from autosearch.storage.folder import StudyFolder
from autosearch.storage.optuna_study import STUDY
from autosearch.study.driver import StudyDriver

DIRECTIONS = {"cost": "minimize", "score": "maximize"}
WIDE = {"x": {"int": [0, 9999]}, "kind": ["a", "b", None], "rate": {"float": [0.0, 1.0]}}
NARROW = {"x": {"int": [0, 3]}}

CHILD = """
import json, os, signal, sys
from pathlib import Path
from autosearch.storage.folder import StudyFolder
from autosearch.spec import parse_spec
from autosearch.study import StudyDriver
from autosearch.contracts.trials import Outcome, Status

folder, content, task = StudyFolder(Path(sys.argv[1])), json.loads(sys.argv[2]), sys.argv[3]
directions = {"cost": "minimize", "score": "maximize"}
driver = StudyDriver(folder, parse_spec(content), directions, dict, {"data": "d1"})
if task == "die":
    asked = [driver.ask(), driver.ask()]
    print(json.dumps([[a.number, a.params, a.seed] for a in asked]), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
if task == "die while writing":
    os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
    driver.ask()
told = []
print("ready", flush=True)
sys.stdin.readline()
while not driver.finished:
    if assignment := driver.ask():
        x = float(assignment.params["x"])
        values = {"cost": x, "score": -x}
        driver.tell(assignment.number, Outcome(Status.COMPLETE, values))
        told.append(assignment.number)
driver.close()
print(json.dumps(told))
"""


def make_spec(
    space: dict | None = None, sampler: dict | None = None, **study: object
) -> StudySpec:
    return parse_spec(
        {
            "study": {"name": "fake", "runner": "fake", "trials": 8, **study},
            "space": space or WIDE,
            "objectives": list(DIRECTIONS),
            "sampler": sampler or {"name": "random"},
        }
    )


def open_driver(path: Path, spec: StudySpec | None = None, **options: object) -> StudyDriver:
    options = {"canonical": dict, "guard": {"data": "d1"}, **options}
    return StudyDriver(StudyFolder(path), spec or make_spec(), DIRECTIONS, **options)


def complete(assignment: Assignment) -> Outcome:
    x = float(assignment.canonical.get("x", 0))
    values = {"cost": x, "score": -((x - 700) ** 2)}
    return Outcome(Status.COMPLETE, values, measured={"extra": x / 2}, seconds={"fit": 0.5})


def work(
    driver: StudyDriver, evaluate: Callable[[Assignment], Outcome] = complete, limit: int = 10**9
) -> list[Assignment]:
    """Evaluate one after the other until there is nothing more, or ``limit`` were told."""
    done: list[Assignment] = []
    while len(done) < limit and (assignment := driver.ask()):
        driver.tell(assignment.number, evaluate(assignment))
        done.append(assignment)
    return done


class AtOnce:
    """An evaluator without pauses."""

    def __init__(self, evaluate: Callable[[Assignment], Outcome]) -> None:
        self._evaluate = evaluate

    def steps(self, assignment: Assignment) -> Iterator[Outcome]:
        yield self._evaluate(assignment)


def records(path: Path) -> list[TrialRecord]:
    return StudyFolder(path).trials.records()


def load_study(path: Path) -> optuna.Study:
    return optuna.load_study(study_name=STUDY, storage=StudyFolder(path).trials.storage())


def start_child(path: Path, spec: StudySpec, task: str) -> subprocess.Popen[str]:
    """A process that waits for a line and then works on a study, or dies: the task says which."""
    command = [sys.executable, "-c", CHILD, str(path), spec.model_dump_json(), task]
    return subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
