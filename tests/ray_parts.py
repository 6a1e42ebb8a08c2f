"""A study without a runner, carried out by Ray."""

from pathlib import Path

from autosearch.contracts.trials import TrialRecord
from autosearch.executors.ray_tune import RayTuneExecutor
from autosearch.spec.reading import parse_spec
from autosearch.spec.sections import StudySpec
from autosearch.storage.folder import StudyFolder
from autosearch.study.driver import StudyDriver


def fake_spec(resources: dict[str, object] | None = None, **study: object) -> StudySpec:
    return parse_spec(
        {
            "study": {"name": "fake", "runner": "fake", **study},
            "space": {"x": {"int": [0, 999999]}},
            "objectives": ["cost"],
            "sampler": {"name": "random"},
            "resources": resources or {"gpu": 0},
        }
    )


def run_fake(
    spec: StudySpec, folder: Path, evaluator: object, address: str | None = None
) -> list[TrialRecord]:
    """Its trials, once Ray has carried out all: at an address, or what is up here."""
    driver = StudyDriver(StudyFolder(folder), spec, {"cost": "minimize"}, dict, {})
    try:
        RayTuneExecutor(address).run(driver, evaluator)
        assert driver.finished and not driver.stopped
    finally:
        driver.close()
    return StudyFolder(folder).trials.records()
