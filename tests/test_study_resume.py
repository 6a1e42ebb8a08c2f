"""Studies that are stopped, die or have two drivers: no trial is lost, and none is done twice."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from driving import (
    NARROW,
    WIDE,
    AtOnce,
    complete,
    load_study,
    make_spec,
    open_driver,
    records,
    work,
)

from autosearch.contracts.trials import Assignment, Outcome, Status, TrialRecord
from autosearch.errors import Infeasible
from autosearch.spec.sections import StudySpec
from autosearch.storage.folder import StudyFolder
from autosearch.study import leases
from autosearch.study.driver import StudyDriver
from autosearch.study.summary import counts

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


def start_child(path: Path, spec: StudySpec, task: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(path), spec.model_dump_json(), task]
    return subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


class TestDeath:
    def test_of_the_process_hands_out_its_trials_again(self, tmp_path: Path) -> None:
        spec = make_spec(trials=5, retries=1)
        handed = []
        for _ in range(2):
            child = start_child(tmp_path, spec, "die")
            handed.append(json.loads(child.communicate(timeout=60)[0]))
            assert child.returncode == -signal.SIGKILL
        assert handed[0] == handed[1]
        assert [number for number, _, _ in handed[0]] == [0, 1]
        # Both were lost once more than they may be, and are given up by the next to come.
        driver = open_driver(tmp_path, spec)
        assert [assignment.number for assignment in work(driver)] == [2, 3, 4]
        assert driver.finished
        driver.close()
        lost = records(tmp_path)[:2]
        assert all(record.status == Status.FAILED for record in lost)
        assert all("died (2 times)" in (record.reason or "") for record in lost)
        assert [record.params for record in lost] == [params for _, params, _ in handed[0]]

    def test_of_a_worker_hands_the_trial_out_again_at_most_so_often(self, tmp_path: Path) -> None:
        driver = open_driver(tmp_path, make_spec(trials=1, retries=2))
        handed = []
        while assignment := driver.ask():
            handed.append(assignment)
            driver.lost(assignment.number, "its worker died")
        assert len(handed) == 3 and handed[0] == handed[1] == handed[2]
        assert driver.finished
        driver.close()
        (record,) = records(tmp_path)
        assert record.status == Status.FAILED and record.reason == "its worker died (3 times)"

    def test_between_ask_and_the_first_value_leaves_a_trial_to_take_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        driver = open_driver(tmp_path)

        class Killed(BaseException):
            pass

        def die(*args: object) -> None:
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(StudyDriver, "_prepare", die)
            with pytest.raises(Killed):
                driver.ask()
        monkeypatch.setattr(leases, "_alive", lambda pid: False)
        second = open_driver(tmp_path)
        assert sorted(assignment.number for assignment in work(second)) == list(range(8))
        second.close()

    @pytest.mark.timeout(20)
    def test_in_the_middle_of_a_write_holds_up_nobody(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)  # Results are usually given as a relative path.
        path = Path("results")
        child = start_child(path, make_spec(), "die while writing")
        child.communicate(timeout=60)
        assert child.returncode == -signal.SIGKILL
        # It died telling trial 1, with the lock in its hand; trial 0 it had only asked for.
        assert [record.status for record in records(path)] == [Status.RUNNING, Status.COMPLETE]
        driver = open_driver(path)
        assert sorted(assignment.number for assignment in work(driver)) == [0, *range(2, 8)]
        driver.close()
        assert all(record.status == Status.COMPLETE for record in records(path))

    def test_half_a_line_at_the_end_of_the_journal_is_cut_off(self, tmp_path: Path) -> None:
        first = open_driver(tmp_path)
        work(first, limit=3)
        first.close()
        journal = StudyFolder(tmp_path).journal_path
        whole = journal.read_bytes()
        with journal.open("ab") as file:
            file.write(b'{"op_code":8,"worker_id":"w","trial_id":0,"user_at')
        assert counts(records(tmp_path))["complete"] == 3
        assert journal.read_bytes() != whole  # A reader leaves the file alone.
        second = open_driver(tmp_path)
        assert journal.read_bytes().startswith(whole) and journal.read_bytes().endswith(b"\n")
        assert [assignment.number for assignment in work(second)] == [3, 4, 5, 6, 7]
        second.close()
        assert counts(records(tmp_path))["complete"] == 8


class TestGivingBack:
    def test_close_costs_no_attempt(self, tmp_path: Path) -> None:
        spec = make_spec(retries=0)
        for _ in range(3):
            driver = open_driver(tmp_path, spec)
            out = [driver.ask(), driver.ask()]
            assert [assignment.number for assignment in out] == [0, 1]
            driver.stop()
            assert driver.ask() is None and driver.stopped
            driver.close()
            assert counts(records(tmp_path))["running"] == 2
        last = open_driver(tmp_path, spec)
        assert sorted(assignment.number for assignment in work(last)) == list(range(8))
        last.close()
        assert counts(records(tmp_path))["complete"] == 8

    def test_followers_come_back_too(self, tmp_path: Path) -> None:
        spec = make_spec({"x": 1}, trials=3, retries=0)
        first = open_driver(tmp_path, spec)
        assert first.ask().number == 0 and first.ask() is None
        first.close()
        second = open_driver(tmp_path, spec)
        assert len(work(second)) == 1 and second.finished
        second.close()
        assert counts(records(tmp_path)) == counts([]) | {"complete": 1, "cached": 2}

    def test_a_result_after_stop_is_kept(self, tmp_path: Path) -> None:
        driver = open_driver(tmp_path)
        assignment = driver.ask()
        driver.stop()
        assert not driver.finished
        driver.tell(assignment.number, complete(assignment))
        assert driver.finished
        driver.close()
        assert counts(records(tmp_path))["complete"] == 1

    def test_what_another_driver_took_over_stays_its_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = open_driver(tmp_path)
        number = first.ask().number
        with monkeypatch.context() as patch:
            later = SimpleNamespace(time=time.time, monotonic=lambda: time.monotonic() + 1000)
            patch.setattr(leases, "time", later)
            second = open_driver(tmp_path)
            assert second.ask().number == number
        first.close()
        third = open_driver(tmp_path)
        assert third.ask().number != number
        second.close()
        third.close()


class TestCtrlC:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_in_a_local_trial_gives_it_back(self, tmp_path: Path, number: int) -> None:
        from autosearch.executors.local import LocalExecutor

        class Evaluator:
            calls = 0

            def __call__(self, assignment: Assignment) -> Outcome:
                self.calls += 1
                if self.calls == 3:
                    os.kill(os.getpid(), number)
                    time.sleep(60)
                return complete(assignment)

        evaluator, before = Evaluator(), signal.getsignal(number)
        driver = open_driver(tmp_path, make_spec(retries=0))
        LocalExecutor().run(driver, AtOnce(evaluator))
        driver.close()
        assert driver.stopped and signal.getsignal(number) is before
        assert counts(records(tmp_path)) == counts([]) | {"complete": 2, "running": 1}
        again = open_driver(tmp_path, make_spec(retries=0))
        LocalExecutor().run(again, AtOnce(evaluator))
        again.close()
        assert evaluator.calls == 3 + 6
        assert counts(records(tmp_path)) == counts([]) | {"complete": 8}

    def test_between_local_trials_stops_after_the_write(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from autosearch.executors.local import LocalExecutor

        tell = StudyDriver.tell

        def interrupted(self: StudyDriver, number: int, outcome: Outcome) -> TrialRecord:
            os.kill(os.getpid(), signal.SIGINT)
            return tell(self, number, outcome)

        monkeypatch.setattr(StudyDriver, "tell", interrupted)
        driver = open_driver(tmp_path)
        LocalExecutor().run(driver, AtOnce(complete))
        driver.close()
        assert counts(records(tmp_path)) == counts([]) | {"complete": 1}

    def test_local_errors_and_time_limit_fail_the_trial(self, tmp_path: Path) -> None:
        from autosearch.executors.local import LocalExecutor

        def evaluate(assignment: Assignment) -> Outcome:
            if assignment.number == 1:
                raise ValueError("first line\nsecond line")
            if assignment.number == 2:
                time.sleep(60)
            if assignment.number == 3:
                raise Infeasible("too small")
            return complete(assignment)

        driver = open_driver(tmp_path, make_spec(trials=5, trial_timeout=0.2))
        LocalExecutor().run(driver, AtOnce(evaluate))
        driver.close()
        told = records(tmp_path)
        assert [record.status for record in told] == [
            "complete", "failed", "failed", "infeasible", "complete",
        ]  # fmt: skip
        assert told[1].reason == "ValueError: first line"
        trace = StudyFolder(tmp_path).files.path(1) / "traceback.txt"
        assert 'raise ValueError("first line' in trace.read_text()
        assert told[2].reason == "ran longer than its limit of 0.2 s"
        assert told[3].reason == "too small"


SAMPLERS = {
    "random": {"name": "random"},
    "tpe": {"name": "tpe", "startup_trials": 4},
    "nsga2": {"name": "nsga2", "population_size": 4},
}
CONDITIONAL = WIDE | {"depth": {"int": [1, 4], "when": {"kind": ["a", "b"]}}}


class TestReproducibility:
    @pytest.mark.parametrize("name", SAMPLERS)
    @pytest.mark.parametrize("space", [WIDE, CONDITIONAL], ids=["static", "conditional"])
    @pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
    def test_interrupted_search_proposes_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, space: dict
    ) -> None:
        spec = make_spec(space, SAMPLERS[name], trials=14, seed=3)
        whole = open_driver(tmp_path / "whole", spec)
        expected = work(whole)
        whole.close()

        monkeypatch.setattr(leases, "_alive", lambda pid: False)
        found: list[Assignment] = []
        for turn in range(20):
            driver = open_driver(tmp_path / "pieces", spec)
            found += work(driver, limit=3)
            driver.ask()  # Under way when the search is stopped …
            if turn % 2:
                driver.close()  # … by Ctrl-C, or else by the death of the process.
            else:
                driver._claims._closing.set()
            if driver.finished and driver.ask() is None:
                break
        assert found == expected
        assert len({a.params["x"] for a in expected}) > 5

    def test_seeds_differ_between_studies_and_not_between_equal_trials(
        self, tmp_path: Path
    ) -> None:
        def seeds(name: str, seed: int) -> dict[int, int]:
            driver = open_driver(tmp_path / name, make_spec(NARROW, trials=20, seed=seed))
            done = work(driver)
            driver.close()
            return {assignment.canonical["x"]: assignment.seed for assignment in done}

        one, other, twin = seeds("a", 1), seeds("b", 2), seeds("c", 1)
        assert one == twin and one.keys() == other.keys()
        assert len({*one.values(), *other.values()}) == 8

    def test_study_seed_changes_what_is_proposed(self, tmp_path: Path) -> None:
        drawn = []
        for seed in (0, 1):
            driver = open_driver(tmp_path / str(seed), make_spec(seed=seed))
            drawn.append([assignment.params for assignment in work(driver)])
            driver.close()
        assert drawn[0] != drawn[1]


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
