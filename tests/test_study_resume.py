"""Studies that are stopped or die, and go on: no trial is lost, and none is done twice."""

import json
import os
import signal
import time
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import pytest
from driving import (
    NARROW,
    WIDE,
    AtOnce,
    complete,
    make_spec,
    open_driver,
    records,
    start_child,
    work,
)

from autosearch.contracts.trials import Assignment, Outcome, Status, TrialRecord
from autosearch.errors import Infeasible
from autosearch.storage.folder import StudyFolder
from autosearch.study import leases
from autosearch.study.driver import StudyDriver
from autosearch.study.summary import counts


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


def interrupted_trial(place: Path, number: int) -> None:
    """A search in this process whose third trial gets a signal, and the search that goes on."""
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
    driver = open_driver(place, make_spec(retries=0))
    LocalExecutor().run(driver, AtOnce(evaluator))
    driver.close()
    assert driver.stopped and signal.getsignal(number) is before
    assert counts(records(place)) == counts([]) | {"complete": 2, "running": 1}
    again = open_driver(place, make_spec(retries=0))
    LocalExecutor().run(again, AtOnce(evaluator))
    again.close()
    assert evaluator.calls == 3 + 6
    assert counts(records(place)) == counts([]) | {"complete": 8}


class TestCtrlC:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_in_a_local_trial_gives_it_back(self, tmp_path: Path, number: int) -> None:
        # Alone: a process that has run other tests has their threads, and dies now and then.
        process = get_context("spawn").Process(target=interrupted_trial, args=(tmp_path, number))
        process.start()
        process.join(100)
        assert process.exitcode == 0

    def test_between_local_trials_stops_after_the_write(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from autosearch.executors.local import LocalExecutor

        tell = StudyDriver.tell

        def interrupted(self: StudyDriver, number: int, outcome: Outcome) -> TrialRecord:
            signal.raise_signal(signal.SIGINT)
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
