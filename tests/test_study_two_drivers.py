"""Studies with two drivers at a time: they share its trials, and none is done twice."""

import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from driving import complete, load_study, make_spec, open_driver, records, start_child, work

from autosearch.contracts.trials import Outcome, Status
from autosearch.storage.folder import StudyFolder
from autosearch.study import leases
from autosearch.study.driver import StudyDriver
from autosearch.study.summary import counts


class TestTwoDrivers:
    def test_in_threads_share_the_budget(self, tmp_path: Path) -> None:
        spec, told, errors = make_spec(trials=40), [], []
        drivers = [open_driver(tmp_path, spec) for _ in range(2)]

        def run(driver: StudyDriver) -> None:
            try:
                while not driver.finished:
                    told.extend(assignment.number for assignment in work(driver))
            except BaseException as error:
                errors.append(error)
                raise

        threads = [threading.Thread(target=run, args=(driver,)) for driver in drivers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for driver in drivers:
            driver.close()
        assert not errors
        assert sorted(told) == list(range(40))
        assert counts(records(tmp_path)) == counts([]) | {"complete": 40}

    def test_in_processes_share_the_budget(self, tmp_path: Path) -> None:
        spec = make_spec(trials=40)
        children = [start_child(tmp_path, spec, "work") for _ in range(2)]
        for child in children:
            assert child.stdout is not None and child.stdout.readline() == "ready\n"
        told = [json.loads(child.communicate("go\n", timeout=60)[0]) for child in children]
        assert all(child.returncode == 0 for child in children)
        assert sorted(told[0] + told[1]) == list(range(40))
        assert counts(records(tmp_path)) == counts([]) | {"complete": 40}

    def test_do_not_repeat_what_the_other_took_up(self, tmp_path: Path) -> None:
        stopped = open_driver(tmp_path, make_spec(trials=6))
        assert stopped.ask() and stopped.ask() and stopped.ask()
        stopped.close()
        one = open_driver(tmp_path, make_spec(trials=6))
        two = open_driver(tmp_path, make_spec(trials=6))
        first = one.ask()
        told = [assignment.number for assignment in work(two)]
        one.tell(first.number, complete(first))
        told += [first.number, *(assignment.number for assignment in work(one))]
        one.close()
        two.close()
        assert sorted(told) == list(range(6))
        assert counts(records(tmp_path)) == counts([]) | {"complete": 6}

    def test_leave_alone_what_the_other_works_on(self, tmp_path: Path) -> None:
        one, two = (open_driver(tmp_path, make_spec(trials=2)) for _ in range(2))
        first, second = one.ask(), two.ask()
        assert {first.number, second.number} == {0, 1}
        two.tell(second.number, complete(second))
        assert two.ask() is None and not two.finished
        one.tell(first.number, complete(first))
        assert two.finished and one.finished
        one.close()
        two.close()

    def test_expired_lease_is_taken_over_and_the_late_result_ignored(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow = open_driver(tmp_path, make_spec(trials=1))
        late = slow.ask()
        later = SimpleNamespace(time=time.time, monotonic=lambda: time.monotonic() + 1000)
        monkeypatch.setattr(leases, "time", later)
        quick = open_driver(tmp_path, make_spec(trials=1))
        taken = quick.ask()
        assert taken == late
        values = {"cost": 1.0, "score": 1.0}
        quick.tell(taken.number, Outcome(Status.COMPLETE, values))
        told = slow.tell(late.number, Outcome(Status.FAILED, reason="too late", traceback="T"))
        assert told.status == Status.COMPLETE and told.values == values
        assert slow.finished and quick.finished
        slow.close()
        quick.close()
        assert [(r.status, r.values) for r in records(tmp_path)] == [("complete", values)]
        assert not StudyFolder(tmp_path).files.path(0).exists()

    def test_leases_of_running_trials_are_renewed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leases, "LEASE_SECONDS", 0.3)
        driver = open_driver(tmp_path)
        driver.ask()
        study = load_study(tmp_path)

        def expires() -> float:
            return float(study.get_trials()[0].user_attrs["lease"]["expires"])

        before = expires()
        while expires() <= before + 1:  # Else the test's own time limit ends it.
            time.sleep(0.05)
        driver.close()
        assert study.get_trials()[0].user_attrs["lease"] is None
