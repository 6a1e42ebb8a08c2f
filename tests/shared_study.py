"""One study whose trials are in PostgreSQL, and heads that work on it in this process."""

import time
from pathlib import Path

from autosearch.contracts.trials import Assignment, Outcome, Status
from autosearch.spec.reading import parse_spec
from autosearch.spec.sections import StudySpec
from autosearch.storage.database import Database
from autosearch.storage.folder import StudyFolder
from autosearch.study.driver import StudyDriver

DIRECTIONS = {"gflops": "minimize"}
NAME = "shared"


def make_spec(**study: object) -> StudySpec:
    return parse_spec(
        {
            "study": {"name": NAME, "runner": "fake", "trials": 12, **study},
            "space": {"x": {"int": [0, 999999]}},
            "objectives": list(DIRECTIONS),
            "sampler": {"name": "random"},
        }
    )


def open_driver(path: Path, url: str, spec: StudySpec | None = None, **guard: str) -> StudyDriver:
    folder = StudyFolder(path, Database(url, NAME))
    return StudyDriver(folder, spec or make_spec(), DIRECTIONS, dict, guard)


def complete(assignment: Assignment) -> Outcome:
    artifacts = {"maps.jpg": b"\xff\x00"}
    return Outcome(Status.COMPLETE, {"gflops": assignment.canonical["x"]}, artifacts=artifacts)


def work(driver: StudyDriver, seconds: float = 0.0, limit: int = 10**9) -> list[int]:
    """Evaluate until the study is finished, or some were told; the numbers of those."""
    told: list[int] = []
    while not driver.finished and len(told) < limit:
        if (assignment := driver.ask()) is None:
            time.sleep(0.1)
            continue
        time.sleep(seconds)
        driver.tell(assignment.number, complete(assignment))
        told.append(assignment.number)
    return told
