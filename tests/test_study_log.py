"""What stands in ``study.log``, and that a log that cannot be written holds up nobody."""

import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from autosearch import cli
from autosearch.contracts.trials import Assignment, Outcome, Progress, Status
from autosearch.errors import Infeasible, StudyError
from autosearch.executors.local import LocalExecutor
from autosearch.spec.reading import parse_spec
from autosearch.spec.space import Params
from autosearch.storage import log as study_log
from autosearch.storage.folder import StudyFolder
from autosearch.storage.log import StudyLog
from autosearch.storage.trial_store import TrialStore
from autosearch.study import leases
from autosearch.study.driver import StudyDriver

TINY = [
    "--executor", "local", "--set", "dataset.image_size=32", "--set", "backbone.weights=random",
    "--set", "space={width: 1.0, stage0.extraction_block: 1, stage0.patch_size: [1, 2]}",
]  # fmt: skip


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def events(path: Path, trial: int | None = None) -> list[str]:
    return [line["event"] for line in lines(path) if line.get("trial") == trial]


def open_driver(folder: Path, log: StudyLog, guard: str = "a", **study: object) -> StudyDriver:
    content = {
        "study": {"name": "fake", "runner": "fake", "trials": 8, **study},
        "space": {"x": {"int": [0, 9999]}},
        "objectives": ["cost"],
        "sampler": {"name": "random"},
    }

    def canonical(params: Params) -> Params:
        if study.get("name") == "even" and int(params["x"] or 0) % 2:
            raise Infeasible("x is odd")
        return params

    directions = {"cost": "minimize"}
    driver = StudyDriver(
        StudyFolder(folder), parse_spec(content), directions, canonical, {"data": guard},
        note=log.note,
    )  # fmt: skip
    log.begin(study="fake", seed=0)
    return driver


def complete(assignment: Assignment) -> Outcome:
    return Outcome(Status.COMPLETE, {"cost": float(assignment.params["x"] or 0)})


def work(driver: StudyDriver, limit: int = 10**9) -> None:
    done = 0
    while done < limit and (assignment := driver.ask()):
        driver.tell(assignment.number, complete(assignment))
        done += 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.log"


class TestEvents:
    def test_of_trials_in_order(self, tmp_path: Path, path: Path) -> None:
        with StudyLog(path) as log:
            driver = open_driver(tmp_path, log, trials=3, retries=1)
            first = driver.ask()
            driver.tell(first.number, complete(first))
            second = driver.ask()
            driver.tell(second.number, Outcome(Status.FAILED, reason="E: no", traceback="T"))
            for _ in range(2):
                driver.lost(driver.ask().number, "its worker died")
            driver.close()
        assert events(path) == ["study opened", "study closed"]
        assert events(path, 0) == events(path, 1) == ["trial handed out", "trial told"]
        assert events(path, 2) == [
            "trial handed out", "trial lost", "trial to be retried",
            "trial handed out", "trial lost", "trial told",
        ]  # fmt: skip
        told = {line["trial"]: line for line in lines(path) if line["event"] == "trial told"}
        assert told[0]["status"] == "complete" and told[0]["level"] == "info"
        assert told[0]["values"] == {"cost": first.params["x"]} and told[0]["duration"] >= 0
        assert (told[1]["status"], told[1]["reason"]) == ("failed", "E: no")
        assert told[2]["reason"] == "its worker died (2 times)"
        assert told[1]["level"] == told[2]["level"] == "error"
        out = next(line for line in lines(path) if line["event"] == "trial handed out")
        assert out["seed"] == first.seed and out["configuration"] == first.canonical
        retried = next(line for line in lines(path) if line["event"] == "trial to be retried")
        assert (retried["attempts"], retried["level"]) == (1, "warning")
        assert lines(path)[-1]["counts"]["failed"] == 2 and not lines(path)[-1]["stopped"]

    def test_every_trial_is_told_once(self, tmp_path: Path, path: Path) -> None:
        with StudyLog(path) as log:
            driver = open_driver(tmp_path, log, name="even", trials=30)
            work(driver)
            driver.close()
        told = [line for line in lines(path) if line["event"] == "trial told"]
        assert sorted(line["trial"] for line in told) == list(range(30))
        assert {line["status"] for line in told} == {"complete", "infeasible"}
        recorded = {record.number: record for record in StudyFolder(tmp_path).trials.records()}
        for line in told:
            assert line["status"] == recorded[line["trial"]].status
            assert line["reason"] == recorded[line["trial"]].reason

    def test_of_a_stop(self, tmp_path: Path, path: Path) -> None:
        with StudyLog(path) as log:
            driver = open_driver(tmp_path, log)
            driver.ask()
            driver.stop()
            driver.close()
        last = lines(path)[-1]
        assert (last["event"], last["level"], last["stopped"]) == ("study closed", "warning", True)

    def test_of_a_resumed_study_follow_those_before(self, tmp_path: Path, path: Path) -> None:
        for _ in range(2):
            with StudyLog(path) as log:
                driver = open_driver(tmp_path, log)
                work(driver, limit=2)
                driver.ask()
                driver.close()
        assert events(path).count("study opened") == 2
        assert events(path, 2) == [
            "trial handed out", "trial taken up again", "trial handed out", "trial told"
        ]  # fmt: skip
        # What the driver did before the study counted as open stands behind its opening.
        second = [line["event"] for line in lines(path)].index("study opened", 1)
        assert lines(path)[second + 1]["event"] == "trial taken up again"

    def test_of_a_trial_whose_process_died(
        self, tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with StudyLog(path) as log:
            open_driver(tmp_path, log).ask()
        monkeypatch.setattr(leases, "_is_dead", lambda owner: True)
        with StudyLog(path) as log:
            open_driver(tmp_path, log).close()
        found = next(line for line in lines(path) if line["event"] == "trial to be retried")
        assert found["trial"] == 0 and "process that ran the search died" in found["reason"]

    def test_of_a_refused_study_are_not_written(self, tmp_path: Path, path: Path) -> None:
        with StudyLog(path) as log:
            open_driver(tmp_path, log).close()
        before = path.read_bytes()
        with StudyLog(path) as log, pytest.raises(StudyError):
            open_driver(tmp_path, log, guard="b")
        assert path.read_bytes() == before

    def test_have_a_time_in_utc_and_a_process(self, tmp_path: Path, path: Path) -> None:
        with StudyLog(path) as log:
            log.begin()
            log.note("anything", logging.WARNING, trial=3)
        for line in lines(path):
            time = datetime.fromisoformat(line["time"])
            assert time.utcoffset() == timedelta(0)
            assert abs(datetime.now(UTC) - time) < timedelta(minutes=5)
            assert line["process"] == os.getpid()

    def test_hold_nothing_that_json_lacks_or_a_line_breaks(self, path: Path) -> None:
        with StudyLog(path) as log:
            log.begin()
            log.note("odd", values={"a": math.nan, "b": [math.inf, 1.5]}, reason="a\n\u2028\udcff",
                     path=Path("x"), long="x" * 10**6)  # fmt: skip
        text = path.read_text().splitlines()[1]
        assert "NaN" not in text and len(text) < 5000 and text.isascii()
        line = json.loads(text)
        assert line["values"] == {"a": None, "b": [None, 1.5]}
        assert line["reason"] == "a\n\u2028\udcff" and line["path"] == "x"


class TestLevels:
    @pytest.mark.parametrize(
        ("level", "expected"),
        [
            ("debug", {"study opened", "trial handed out", "trial reports", "trial lost",
                       "trial to be retried", "trial told", "study closed"}),
            ("info", {"study opened", "trial handed out", "trial lost", "trial to be retried",
                      "trial told", "study closed"}),
            ("warning", {"trial lost", "trial to be retried", "trial told"}),
            ("error", {"trial told"}),
        ],
    )  # fmt: skip
    def test_govern_the_file(
        self, tmp_path: Path, path: Path, level: str, expected: set[str]
    ) -> None:
        with StudyLog(path, level) as log:
            driver = open_driver(tmp_path, log, trials=2)
            number = driver.ask().number
            driver.report(number, Progress(0.5, {"cost": 1.0}))
            driver.lost(number, "its worker died")
            driver.tell(driver.ask().number, Outcome(Status.FAILED, reason="no"))
            work(driver)
            driver.close()
        assert {line["event"] for line in lines(path)} == expected
        allowed = study_log.LEVELS[study_log.LEVELS.index(level) :]
        assert {line["level"] for line in lines(path)} <= set(allowed)

    def test_without_a_line_there_is_no_file(self, tmp_path: Path, path: Path) -> None:
        with StudyLog(path, "error") as log:
            driver = open_driver(tmp_path, log, trials=2)
            work(driver)
            driver.close()
        assert not path.exists()


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
class TestThatCannotBeWritten:
    def search(self, folder: Path, path: Path) -> None:
        with StudyLog(path) as log:
            driver = open_driver(folder, log)
            work(driver)
            driver.close()
        assert len(StudyFolder(folder).trials.records()) == 8

    @pytest.mark.parametrize(
        "make",
        [lambda path: path.mkdir(), lambda path: os.mkfifo(path),
         lambda path: path.symlink_to(path), lambda path: path.symlink_to("/dev/full")],
        ids=["folder", "pipe", "loop", "link"],
    )  # fmt: skip
    def test_because_something_is_in_the_way(
        self, tmp_path: Path, path: Path, make: Callable[[Path], object],
        capfd: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        make(path)
        self.search(tmp_path, path)
        assert capfd.readouterr() == ("", "")

    def test_because_the_disk_is_full(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        self.search(tmp_path, Path("/dev/full"))
        assert capfd.readouterr() == ("", "")

    def test_because_the_folder_is_gone(self, tmp_path: Path) -> None:
        self.search(tmp_path, tmp_path / "gone" / "study.log")

    def test_is_not_written_to_where_a_link_leads(self, tmp_path: Path, path: Path) -> None:
        target = tmp_path / "target"
        target.write_text("mine")
        path.symlink_to(target)
        self.search(tmp_path, path)
        assert target.read_text() == "mine"

    def test_a_disk_with_room_again_is_written_to(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened = study_log._regular
        with StudyLog(path) as log:
            log.begin()
            for number in range(6):
                # Whole lines alone: what a full disk took of one is followed by a new line.
                if number == 2:
                    monkeypatch.setattr(
                        study_log, "_regular", lambda path, flags: os.open("/dev/full", flags)
                    )
                    log._handler.close()
                if number == 4:
                    monkeypatch.setattr(study_log, "_regular", opened)
                log.note("counted", trial=number)
        assert [line.get("trial") for line in lines(path)] == [None, 0, 1, 4, 5]

    def test_half_a_line_spoils_no_other(self, path: Path) -> None:
        path.write_bytes(b'{"time": "2026-')
        with StudyLog(path) as log:
            log.begin()
        first, *rest = path.read_text().splitlines()
        assert first == '{"time": "2026-' and [json.loads(line)["event"] for line in rest] == [
            "study opened"
        ]


def test_its_size_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_log, "MAX_BYTES", 3000)
    with StudyLog(path) as log:
        log.begin()
        for number in range(500):
            log.note("counted", trial=number)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["study.log", "study.log.1", "study.log.2"]
    assert all(file.stat().st_size <= 3000 for file in files)
    kept = [line["trial"] for file in reversed(files) for line in lines(file)]
    assert kept == list(range(kept[0], 500))


def test_the_bound_is_thirty_megabytes() -> None:
    assert study_log.MAX_BYTES * study_log.FILES == 30_000_000


def test_two_studies_in_one_process_keep_apart(tmp_path: Path) -> None:
    with StudyLog(tmp_path / "a.log") as one, StudyLog(tmp_path / "b.log") as other:
        one.begin()
        other.begin()
        one.note("mine")
        other.note("yours")
    assert events(tmp_path / "a.log") == ["study opened", "mine"]
    assert events(tmp_path / "b.log") == ["study opened", "yours"]


def test_warnings_of_other_modules_are_kept_and_still_shown(path: Path) -> None:
    script = (
        "import logging, pathlib; from autosearch.storage.log import StudyLog\n"
        f"with StudyLog(pathlib.Path({str(path)!r})) as log:\n"
        "    log.begin()\n"
        "    logging.getLogger('autosearch.storage.database').warning('%s: gone', 'postgresql://h/d')\n"
        "logging.getLogger('autosearch.storage.database').warning('afterwards')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr.splitlines() == ["postgresql://h/d: gone", "afterwards"]
    assert [(line["event"], line["level"]) for line in lines(path)][1:] == [
        ("postgresql://h/d: gone", "warning")
    ]


class TestCommand:
    def run(self, monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["autosearch", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return int(caught.value.code or 0)

    def test_logs_a_search_and_its_resumption(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        command = ["run", "autopatch", *TINY, "--trials", "1", "--results", tmp_path]
        assert self.run(monkeypatch, *command) == 0
        folder = tmp_path / "autopatch"
        assert self.run(monkeypatch, "resume", folder, "--trials", "2", "--executor", "local",
                        "--log-level", "debug") == 0  # fmt: skip
        opened = [line for line in lines(folder / "study.log") if line["event"] == "study opened"]
        assert [line["resumed"] for line in opened] == [False, True]
        assert [line["told"] for line in opened] == [0, 1]
        assert [line["trials"] for line in opened] == [1, 2]
        first = opened[0]
        assert first["seed"] == 0 and first["runner"] == "autopatch"
        meta = json.loads((folder / "meta.json").read_text())
        assert first["versions"] == {"autosearch": meta["autosearch"], **meta["packages"]}
        assert events(folder / "study.log", 1) == ["trial handed out", "trial told"]

    def test_logs_what_ended_a_search(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def run(*_: object) -> None:
            raise StudyError("the database is gone")

        monkeypatch.setattr(LocalExecutor, "run", run)
        command = ["run", "autopatch", *TINY, "--trials", "1", "--results", tmp_path]
        assert self.run(monkeypatch, *command) == 2
        ended = lines(tmp_path / "autopatch" / "study.log")[-2:]
        assert [line["event"] for line in ended] == ["search failed", "study closed"]
        assert ended[0]["reason"] == "StudyError: the database is gone"

    def test_refuses_another_level(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = ["run", "autopatch", "--log-level", "loud", "--results", tmp_path]
        assert self.run(monkeypatch, *command) == 2
        err = capsys.readouterr().err
        assert "--log-level" in err and "Traceback" not in err and not list(tmp_path.iterdir())

    def test_a_failed_trials_traceback_is_one_command_away(
        self, tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        class Evaluator:
            def steps(self, assignment: Assignment) -> Iterator[Outcome]:
                raise ValueError("the reason why")
                yield

        with StudyLog(path) as log:
            driver = open_driver(tmp_path, log, trials=1)
            LocalExecutor().run(driver, Evaluator())
            driver.close()
        folder = StudyFolder(tmp_path)
        spec = driver.spec.model_copy(update={"objectives": ["gflops"]})
        (told,) = [line for line in lines(path) if line["event"] == "trial told"]
        assert told["reason"] == "ValueError: the reason why" and told["level"] == "error"
        # The objective of these tests is none that can be looked up.
        monkeypatch.setattr(StudyFolder, "load_spec", lambda self: spec)
        monkeypatch.setattr(TrialStore, "_check_spec", lambda self, made: None)
        folder.write_spec(spec)
        assert self.run(monkeypatch, "show", tmp_path, "--trial", "0") == 0
        out = capsys.readouterr().out
        assert "ValueError: the reason why" in out and "Traceback (most recent call last)" in out
        assert 'raise ValueError("the reason why")' in out
