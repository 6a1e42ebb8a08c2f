"""A node that runs short of memory: Ray kills a worker, the search goes on."""

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ray import cloudpickle

from autosearch.contracts.trials import Assignment, Outcome, Status
from autosearch.executors.ray_tune import RayTuneExecutor
from autosearch.spec.reading import parse_spec
from autosearch.spec.sections import StudySpec
from autosearch.storage.folder import StudyFolder
from autosearch.study.driver import StudyDriver

GIGABYTE = 2**30
# Workers cannot import this module, so what it defines travels to them whole.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Hungry:
    """An evaluator whose trials 1 and 3 take more memory than there is, trial 1 only once."""

    def __init__(self, spec: StudySpec, folder: Path) -> None:
        self.spec, self._folder = spec, folder

    def steps(self, assignment: Assignment) -> Iterator[Outcome]:
        number = assignment.number
        tries = len(list(self._folder.glob(f"{number}.*")))
        (self._folder / f"{number}.{tries}").touch()
        if number == 3 or (number == 1 and not tries):
            taken = [b"x" * (GIGABYTE // 8) for _ in range(48)]
            raise AssertionError(f"{len(taken)} pieces of memory were to be had")
        yield Outcome(Status.COMPLETE, {"cost": 1.0})


@pytest.mark.slow
def test_short_memory_costs_retries_and_no_finished_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = psutil.virtual_memory()
    limit = (memory.total - memory.available + 3 * GIGABYTE) / memory.total
    if limit > 0.95:
        pytest.skip("less than 3 GB of memory are free")
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{limit:.4f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "50")
    spec = parse_spec(
        {
            "study": {"name": "fake", "runner": "fake", "trials": 6, "retries": 2},
            "space": {"x": {"int": [0, 999999]}},
            "objectives": ["cost"],
            "sampler": {"name": "random"},
            "resources": {"gpu": 0, "max_concurrent": 2},
        }
    )
    (tmp_path / "marks").mkdir()
    driver = StudyDriver(StudyFolder(tmp_path / "study"), spec, {"cost": "minimize"}, dict, {})
    RayTuneExecutor().run(driver, Hungry(spec, tmp_path / "marks"))  # type: ignore[arg-type]
    assert driver.finished and not driver.stopped
    driver.close()
    told = StudyFolder(tmp_path / "study").trials.records()
    assert [record.number for record in told] == list(range(6))
    assert told[3].status == Status.FAILED and "memory" in str(told[3].reason)
    statuses = [record.status for record in told if record.number != 3]
    assert statuses == [Status.COMPLETE] * 5
    assert len(list((tmp_path / "marks").glob("1.*"))) > 1
