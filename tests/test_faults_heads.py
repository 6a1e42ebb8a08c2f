"""Faults of heads on one journal, in this process: deaths, half a line, clocks that jump."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from driving import complete, make_spec, open_driver, work
from faulty import attempts, check_met

from autosearch.storage.folder import StudyFolder
from autosearch.study import leases
from autosearch.study.summary import counts


def test_head_that_dies_before_it_hands_a_trial_out_again_costs_no_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process: what the search would do is left out, what it leaves on disk is there."""
    monkeypatch.setattr(leases, "_alive", lambda pid: False)
    first = open_driver(tmp_path, make_spec(trials=3, retries=1))
    held = first.ask()
    first._claims._closing.set()
    for _ in range(4):
        # Ray takes seconds to start, and any of them may be the last.
        open_driver(tmp_path, make_spec(trials=3, retries=1))._claims._closing.set()
    assert attempts(StudyFolder(tmp_path)) == {0: 1}
    last = open_driver(tmp_path, make_spec(trials=3, retries=1))
    assert last.ask() == held
    last._claims._closing.set()
    after = open_driver(tmp_path, make_spec(trials=3, retries=1))
    work(after)
    after.close()
    told = check_met(StudyFolder(tmp_path), 3)
    assert [record.status for record in told] == ["failed", "complete", "complete"]
    assert told[0].reason == "the process that ran the search died (2 times)"


def test_half_a_line_of_a_head_that_was_killed_does_not_spoil_those_of_another(
    tmp_path: Path,
) -> None:
    driver = open_driver(tmp_path, make_spec(trials=6))
    first = driver.ask()
    assert first is not None
    journal = StudyFolder(tmp_path).journal_path
    with journal.open("ab") as file:
        file.write(b'{"op_code":8,"worker_id":"w","trial_id":0,"user_at')
    driver.tell(first.number, complete(first))
    work(driver)
    driver.close()
    assert counts(check_met(StudyFolder(tmp_path), 6)) == counts([]) | {"complete": 6}


class TestClocks:
    """Of two heads on one journal; the clocks of whole machines are not the tests' to set."""

    def set_clock(self, monkeypatch: pytest.MonkeyPatch, seconds: float, ticks: float = 0) -> None:
        moved = SimpleNamespace(
            time=lambda: time.time() + seconds, monotonic=lambda: time.monotonic() + ticks
        )
        monkeypatch.setattr(leases, "time", moved)

    @pytest.mark.parametrize("hours", [-9, 5])
    def test_that_jump_cost_nobody_a_trial(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: float
    ) -> None:
        first = open_driver(tmp_path, make_spec(trials=4, retries=0))
        held = first.ask()
        assert held is not None
        self.set_clock(monkeypatch, hours * 3600)
        second = open_driver(tmp_path, make_spec(trials=4, retries=0))
        work(second)
        assert second.ask() is None and not second.finished
        first.tell(held.number, complete(held))
        assert first.finished and second.finished
        first.close()
        second.close()
        told = check_met(StudyFolder(tmp_path), 4)
        assert counts(told) == counts([]) | {"complete": 4}
        assert not attempts(StudyFolder(tmp_path))

    def test_that_were_set_back_do_not_keep_a_dead_machine_alive(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(leases, "_place", lambda: "another machine")
            first = open_driver(tmp_path, make_spec(trials=1))
            held = first.ask()
            # Its power fails.
            first._claims._closing.set()
        self.set_clock(monkeypatch, -9 * 3600)
        second = open_driver(tmp_path, make_spec(trials=1))
        assert second.ask() is None and not second.finished
        self.set_clock(monkeypatch, -9 * 3600, leases.LEASE_SECONDS + 1)
        again = second.ask()
        assert again == held and again is not None
        second.tell(again.number, complete(again))
        second.close()
        assert counts(check_met(StudyFolder(tmp_path), 1)) == counts([]) | {"complete": 1}
        assert attempts(StudyFolder(tmp_path)) == {0: 1}

    def test_that_jump_make_no_trial_last_for_hours_or_less_than_nothing(
        self, tmp_path: Path
    ) -> None:
        driver = open_driver(tmp_path, make_spec(trials=2))
        work(driver)
        driver.close()
        journal = StudyFolder(tmp_path).journal_path
        lines = [json.loads(line) for line in journal.read_text().splitlines()]
        for line in lines:
            if "datetime_complete" in line:
                hours = {0: "1999-01-01T00:00:00.000000", 1: "2199-01-01T00:00:00.000000"}
                line["datetime_complete"] = hours[line["trial_id"]]
        journal.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        assert all(0 <= record.duration < 600 for record in StudyFolder(tmp_path).trials.records())
