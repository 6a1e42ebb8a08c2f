"""A driver meets the budget: statuses, cache, trials that wait for their like, and its guard."""

import math
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from driving import DIRECTIONS, NARROW, complete, load_study, make_spec, open_driver, records, work

from autosearch.contracts.trials import Assignment, Outcome, Status, TrialRecord
from autosearch.errors import Infeasible, StudyError
from autosearch.spec.space import Params
from autosearch.storage.folder import StudyFolder
from autosearch.study import driver as study_module
from autosearch.study.driver import StudyDriver
from autosearch.study.summary import counts, front


class TestBudget:
    def test_is_met_exactly(self, tmp_path: Path) -> None:
        driver = open_driver(tmp_path)
        assert not driver.finished
        done = work(driver)
        assert [assignment.number for assignment in done] == list(range(8))
        assert driver.finished and driver.ask() is None
        driver.close()
        assert [record.number for record in records(tmp_path)] == list(range(8))
        assert driver.summary().counts[Status.COMPLETE] == driver.summary().finished == 8

    def test_can_be_raised_later(self, tmp_path: Path) -> None:
        first = open_driver(tmp_path)
        work(first)
        first.close()
        more = open_driver(tmp_path, make_spec(trials=11))
        assert [assignment.number for assignment in work(more)] == [8, 9, 10]
        assert more.finished and more.summary().finished == 11
        more.close()

    def test_lowered_below_what_is_there_hands_out_nothing(self, tmp_path: Path) -> None:
        first = open_driver(tmp_path)
        work(first)
        first.close()
        less = open_driver(tmp_path, make_spec(trials=3))
        assert less.ask() is None and less.finished
        less.close()

    def test_deadline_hands_out_nothing_more(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [1000.0]
        clock = SimpleNamespace(time=time.time, monotonic=lambda: now[0])
        monkeypatch.setattr(study_module, "time", clock)
        driver = open_driver(tmp_path, make_spec(timeout="10m"))
        out = driver.ask()
        now[0] += 599
        assert out is not None and len(work(driver, limit=2)) == 2
        now[0] += 2
        assert driver.ask() is None
        assert not driver.finished  # One is still out, and its result is welcome.
        driver.tell(out.number, complete(out))
        assert driver.finished and not driver.stopped
        driver.close()
        assert counts(records(tmp_path))["complete"] == 3


class TestStatuses:
    def test_partition_all_trials(self, tmp_path: Path) -> None:
        def canonical(params: Params) -> Params:
            if params["x"] == 0:
                raise Infeasible("x is 0: nothing to build")
            return {"x": int(params["x"]) % 12}

        def evaluate(assignment: Assignment) -> Outcome:
            match assignment.canonical["x"]:
                case 1:
                    return Outcome(Status.COMPLETE, {"cost": 1.0, "score": math.nan})
                case 2:
                    return Outcome(Status.COMPLETE, {"cost": 1.0})
                case 3:
                    return Outcome(Status.FAILED, reason="ValueError: no", traceback="Trace…")
                case 4:
                    return Outcome(Status.PRUNED, reason="hopeless")
                case 5:
                    broken = {"cost <= 4": 1.0}
                    return Outcome(Status.INFEASIBLE, measured={"cost": 5.0}, violations=broken)
                case _:
                    return complete(assignment)

        heard: list[TrialRecord] = []
        spec = make_spec({"x": {"int": [0, 15]}}, trials=60)
        driver = open_driver(tmp_path, spec, canonical=canonical, listener=heard.append)
        evaluated = Counter(a.canonical["x"] for a in work(driver, evaluate))
        driver.close()

        on_disk = records(tmp_path)
        number = counts(on_disk)
        assert sum(number.values()) == len(on_disk) == 60
        assert number == {str(s): n for s, n in driver.summary().counts.items()}
        assert number["running"] == 0 and all(number[s] for s in number if s != "running")
        assert sorted(record.number for record in heard) == list(range(60))
        assert {record.number: record for record in heard} == dict(enumerate(on_disk))
        for record in on_disk:
            x = record.params["x"]
            expected = {0: "infeasible", 1: "failed", 2: "failed", 3: "failed", 4: "pruned",
                        5: "infeasible"}.get(x % 12 if x else 0)  # fmt: skip
            if x == 12:
                expected = None  # Its canonical form is {x: 0}, which can be built.
            assert expected in (None, record.status)
            assert bool(record.values) == (record.status in ("complete", "cached"))
        # Only what is complete stands for its like; nothing complete is evaluated again.
        assert all(evaluated[x] == 1 for x in evaluated if x == 0 or x > 5)

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ({"cost": 1.0, "score": math.nan}, "objective score is nan"),
            ({"cost": -math.inf, "score": 1.0}, "objective cost is -inf"),
            ({"score": 1.0}, "objective cost is missing"),
        ],
    )
    def test_value_that_is_not_finite_fails_the_trial(
        self, tmp_path: Path, values: dict[str, float], reason: str
    ) -> None:
        driver = open_driver(tmp_path)
        assignment = driver.ask()
        told = driver.tell(assignment.number, Outcome(Status.COMPLETE, values))
        driver.close()
        assert (told.status, told.reason, told.values) == (Status.FAILED, reason, {})
        trial = load_study(tmp_path).get_trials()[0]
        assert trial.state == optuna.trial.TrialState.FAIL and trial.values is None
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        assert records(tmp_path)[0].measured == finite

    def test_constraint_on_what_could_not_be_measured_fails_the_trial(
        self, tmp_path: Path
    ) -> None:
        driver = open_driver(tmp_path)
        assignment = driver.ask()
        outcome = Outcome(
            Status.COMPLETE, {"cost": 1.0, "score": 1.0}, violations={"auroc >= 0.5": math.nan}
        )
        told = driver.tell(assignment.number, outcome)
        driver.close()
        assert told.status == Status.FAILED and "auroc >= 0.5" in (told.reason or "")

    def test_failure_keeps_its_traceback_and_artifacts(self, tmp_path: Path) -> None:
        driver = open_driver(tmp_path)
        number = driver.ask().number
        driver.tell(number, Outcome(Status.FAILED, reason="E: x", traceback="line 1\nline 2",
                                    artifacts={"maps.jpg": b"\xff\x00"}))  # fmt: skip
        driver.close()
        folder = StudyFolder(tmp_path).files.path(number)
        assert (folder / "traceback.txt").read_text() == "line 1\nline 2"
        assert (folder / "maps.jpg").read_bytes() == b"\xff\x00"
        assert load_study(tmp_path).get_trials()[0].user_attrs["traceback"] == "line 1\nline 2"
        assert records(tmp_path)[0].reason == "E: x"

    def test_broken_constraint_keeps_a_trial_off_every_front(self, tmp_path: Path) -> None:
        def evaluate(assignment: Assignment) -> Outcome:
            values = {"cost": float(assignment.number), "score": float(assignment.number)}
            if assignment.number != 0:
                return Outcome(Status.COMPLETE, values, violations={"cost >= 1": -1.0})
            broken = {"cost >= 1": 1.0}
            return Outcome(Status.INFEASIBLE, measured=values, violations=broken)

        driver = open_driver(tmp_path)
        work(driver, evaluate)
        assert 0 not in driver.summary().front and len(driver.summary().front) == 7
        driver.close()
        study = load_study(tmp_path)
        assert sorted(trial.number for trial in study.best_trials) == list(range(1, 8))
        assert study.get_trials()[0].constraints == {"cost >= 1": 1.0}
        assert study.get_trials()[3].constraints == {"cost >= 1": -1.0}
        assert [r.number for r in front(records(tmp_path), DIRECTIONS)] == list(range(1, 8))
        assert records(tmp_path)[0].measured == {"cost": 0.0, "score": 0.0}

    def test_complete_values_are_stored_in_the_order_of_the_spec(self, tmp_path: Path) -> None:
        driver = open_driver(tmp_path)
        values = {"score": 5.0, "cost": 2.0}
        driver.tell(driver.ask().number, Outcome(Status.COMPLETE, values))
        driver.close()
        study = load_study(tmp_path)
        assert study.get_trials()[0].values == [2.0, 5.0]
        assert study.metric_names == ["cost", "score"]
        assert [d.name.lower() for d in study.directions] == ["minimize", "maximize"]


class TestCache:
    def test_each_canonical_configuration_is_evaluated_once(self, tmp_path: Path) -> None:
        driver = open_driver(tmp_path, make_spec(NARROW, trials=20))
        done = work(driver)
        driver.close()
        assert sorted(a.canonical["x"] for a in done) == [0, 1, 2, 3]
        on_disk = records(tmp_path)
        assert counts(on_disk)["cached"] == 16 and counts(on_disk)["complete"] == 4
        for record in on_disk:
            if record.status == Status.CACHED:
                source = on_disk[record.cached_from]
                assert source.status == Status.COMPLETE and source.number < record.number
                assert record.values == source.values and record.measured == source.measured
                assert record.canonical == source.canonical

    def test_lasts_beyond_the_process(self, tmp_path: Path) -> None:
        first = open_driver(tmp_path, make_spec(NARROW, trials=20))
        work(first)
        first.close()
        second = open_driver(tmp_path, make_spec(NARROW, trials=30))
        assert work(second) == []
        assert second.finished and second.summary().counts[Status.CACHED] == 26
        second.close()

    def test_takes_over_constraints(self, tmp_path: Path) -> None:
        spec = make_spec({"x": 1}, trials=2)
        driver = open_driver(tmp_path, spec)
        values = {"cost": 1.0, "score": 1.0}
        kept = Outcome(Status.COMPLETE, values, violations={"cost <= 3": -2.0})
        work(driver, lambda assignment: kept)
        driver.close()
        assert [t.constraints for t in load_study(tmp_path).get_trials()] == [
            {"cost <= 3": -2}
        ] * 2


class TestFollowers:
    """Trials whose canonical configuration is being evaluated wait for its result."""

    def start(self, path: Path, **study: object) -> tuple[StudyDriver, Assignment]:
        driver = open_driver(path, make_spec({"x": 1}, trials=4, **study))
        leader = driver.ask()
        assert driver.ask() is None and not driver.finished
        assert driver.summary().counts[Status.RUNNING] == 4
        return driver, leader

    def test_take_over_values(self, tmp_path: Path) -> None:
        driver, leader = self.start(tmp_path)
        driver.tell(leader.number, complete(leader))
        assert driver.finished
        driver.close()
        assert [record.status for record in records(tmp_path)] == ["complete"] + ["cached"] * 3
        assert {record.cached_from for record in records(tmp_path)[1:]} == {0}

    def test_share_a_failure(self, tmp_path: Path) -> None:
        driver, leader = self.start(tmp_path)
        outcome = Outcome(Status.FAILED, reason="E: x", traceback="T", artifacts={"a": b"b"})
        driver.tell(leader.number, outcome)
        assert driver.finished
        driver.close()
        assert [(r.status, r.reason) for r in records(tmp_path)] == [("failed", "E: x")] * 4
        assert not (StudyFolder(tmp_path).files.path(1) / "a").exists()

    def test_share_a_value_that_is_not_finite(self, tmp_path: Path) -> None:
        driver, leader = self.start(tmp_path)
        driver.tell(leader.number, Outcome(Status.COMPLETE, {"cost": math.nan, "score": 0.0}))
        assert driver.finished
        driver.close()
        reasons = [(record.status, record.reason) for record in records(tmp_path)]
        assert reasons == [("failed", "objective cost is nan")] * 4

    def test_wait_on_while_their_leader_is_handed_out_again(self, tmp_path: Path) -> None:
        driver, leader = self.start(tmp_path)
        driver.lost(leader.number, "its worker died")
        again = driver.ask()
        assert again == leader
        driver.tell(again.number, complete(again))
        assert driver.ask() is None and driver.finished
        driver.close()
        assert counts(records(tmp_path))["cached"] == 3

    def test_are_evaluated_themselves_when_their_leader_is_given_up(self, tmp_path: Path) -> None:
        driver, leader = self.start(tmp_path, retries=0)
        driver.lost(leader.number, "its worker died")
        second = driver.ask()
        assert second.number != leader.number and second.canonical == leader.canonical
        driver.tell(second.number, complete(second))
        assert driver.ask() is None and driver.finished
        driver.close()
        number = counts(records(tmp_path))
        assert (number["failed"], number["complete"], number["cached"]) == (1, 1, 2)

    def test_are_told_what_another_driver_found_for_their_lost_leader(
        self, tmp_path: Path
    ) -> None:
        spec = make_spec({"x": 1}, trials=3)
        driver, other = open_driver(tmp_path, spec), open_driver(tmp_path, spec)
        leader, found = driver.ask(), other.ask()
        assert driver.ask() is None
        other.tell(found.number, complete(found))
        driver.lost(leader.number, "its worker died")
        assert driver.ask() is None
        assert driver.finished
        driver.close()
        other.close()
        assert counts(records(tmp_path)) == counts([]) | {"complete": 1, "cached": 2}


class TestGuard:
    @pytest.mark.parametrize(
        ("options", "name", "old", "new"),
        [
            ({"guard": {"data": "d2"}}, "data", "d1", "d2"),
            ({"guard": {}}, "data", "d1", "None"),
            ({"spec": make_spec(NARROW)}, "space", "9999", "3"),
            ({"spec": make_spec(runner="other")}, "study.runner", "fake", "other"),
        ],
    )
    def test_refuses_another_study_and_names_both_values(
        self, tmp_path: Path, options: dict, name: str, old: str, new: str
    ) -> None:
        open_driver(tmp_path).close()
        with pytest.raises(StudyError, match=f"another {name}: ") as caught:
            open_driver(tmp_path, **options)
        then, now = str(caught.value).split(f"another {name}: ")[1].split(" then, ")
        assert old in then and new in now.split(" now;")[0]
        # Nothing was changed by the attempt.
        open_driver(tmp_path).close()

    def test_shows_only_what_differs(self, tmp_path: Path) -> None:
        open_driver(tmp_path, guard={"weights": {"a": "1", "b": "2"}}).close()
        with pytest.raises(StudyError) as caught:
            open_driver(tmp_path, guard={"weights": {"a": "1", "b": "3"}})
        assert "{'b': '2'} then, {'b': '3'} now" in str(caught.value)
