"""Commands on studies whose trials are in PostgreSQL: a password kept, heads that are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from shared_study import DIRECTIONS, NAME, make_spec, open_driver, work
from tiny import TINY
from typer.testing import CliRunner

from autosearch.cli import app
from autosearch.contracts.registry import find_space
from autosearch.contracts.trials import TrialRecord
from autosearch.errors import ConfigError, StudyError
from autosearch.report.live import Library
from autosearch.spec.reading import load_spec
from autosearch.storage.database import VARIABLE, Database
from autosearch.storage.folder import StudyFolder
from autosearch.study.driver import StudyDriver
from autosearch.study.summary import counts

if not os.environ.get("AUTOSEARCH_REQUIRE_POSTGRES"):
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")


def run_cli(*arguments: str | Path, **environment: str) -> tuple[int, str]:
    done = CliRunner(env=environment).invoke(app, [str(argument) for argument in arguments])
    if isinstance(done.exception, StudyError | ConfigError):
        return 2, f"error: {done.exception}"
    return done.exit_code, done.output


@pytest.fixture
def no_variable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(VARIABLE, raising=False)
    return


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a search: `start(folder, url, *arguments)`. None outlives its test."""
    started: list[subprocess.Popen[str]] = []

    def begin(folder: Path, url: str, *more: str) -> subprocess.Popen[str]:
        code = "from autosearch.cli import main; main()"
        settings = [f"--set={setting}" for setting in TINY]
        process = subprocess.Popen(
            [sys.executable, "-c", code, "run", "autopatch", *settings, "--storage", url, *more],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()


@pytest.mark.usefixtures("no_variable")
class TestCommands:
    @pytest.mark.timeout(300)
    @pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.slow)])
    def test_keep_the_password_to_themselves(
        self,
        tmp_path: Path,
        postgres: Any,
        monkeypatch: pytest.MonkeyPatch,
        start: Any,
        executor: str,
    ) -> None:
        url = postgres.make()
        secret = url.split(":")[2].split("@")[0]
        forbidden = (postgres.password.encode(), secret.encode())
        # Ray's own files are among what is written.
        ray_files = Path("/tmp") / f"ray-{os.getpid()}"  # A socket's path must be short.
        monkeypatch.setenv("RAY_TMPDIR", str(ray_files))
        process = start(
            tmp_path, url, "--trials=4", "--executor", executor, "--log-level", "debug"
        )
        titles: list[bytes] = []
        while process.poll() is None:
            now = [command_line(number) for number in family(process.pid)]
            # Until the program itself has begun, the system shows what was typed.
            if titles or b"postgresql://***" in b" ".join(now):
                titles += now
            time.sleep(0.1)
        output = process.communicate()[0]
        assert process.returncode == 0, output
        folder = tmp_path / "results" / "autopatch"
        assert run_cli("show", folder, **{VARIABLE: url})[0] == 0
        assert run_cli("report", folder, **{VARIABLE: url})[0] == 0
        for wrong in (url.replace("@", "x@", 1), url[:-3]):
            code, error = run_cli("show", folder, **{VARIABLE: wrong})
            assert code == 2
            output += error
        files = [f for root in (tmp_path, ray_files) for f in root.rglob("*") if f.is_file()]
        names = {file.name for file in files}
        assert {"spec.yaml", "meta.json", "storage.json", "report.html", "pareto.csv"} <= names
        assert titles
        for content in [output.encode(), *titles, *map(Path.read_bytes, files)]:
            assert not any(word in content for word in forbidden)

    @pytest.mark.slow
    @pytest.mark.timeout(900)
    def test_two_heads_of_which_one_after_the_other_is_killed_meet_the_budget(
        self, tmp_path: Path, postgres: Any, start: Any, full: bool
    ) -> None:
        kills, budget, url = (12, 120, postgres.make()) if full else (2, 24, postgres.make())
        heads = [tmp_path / name / "results" / "autopatch" for name in "ab"]
        local = ["--executor=local", "--resume", "--set=study.retries=9"]

        def begin(folder: Path) -> subprocess.Popen[str]:
            place = folder.parents[1]
            place.mkdir(exist_ok=True)
            return start(place, url, *local, f"--trials={budget}")

        running, before = [begin(folder) for folder in heads], []
        reader = Database(url, "autopatch")  # Every one keeps a connection, and there are few.
        for kill in range(kills):
            number = kill % 2
            doomed, process = heads[number], running[number]
            before.append(counts(stop_in_a_trial(process, StudyFolder(doomed, reader))))
            process.kill()
            process.communicate()
            running[number] = begin(doomed)
        for process in running:
            output = process.communicate()[0]
            assert process.returncode == 0 and "Traceback" not in output, output
        found = StudyFolder(heads[0], reader).trials.records()
        assert [record.number for record in found] == list(range(budget))
        after = counts(found)
        assert after["complete"] + after["cached"] + after["infeasible"] == budget, after
        assert all(0 < seen["complete"] < budget for seen in before), before
        events = [event for folder in heads for event in logged(folder / "study.log")]
        told = Counter(event["trial"] for event in events if event["event"] == "trial told")
        # A head may die between storing a trial and noting it down, but not the other way round.
        assert set(told.values()) == {1} and budget - kills <= len(told)
        assert [event["event"] for event in events].count("trial to be retried") == kills

    def test_without_credentials_say_what_is_needed(self, tmp_path: Path, postgres: Any) -> None:
        url = postgres.make()
        folder = StudyFolder(tmp_path / NAME, Database(url, NAME))
        open_driver(folder.path, url).close()
        folder.write_spec(load_spec(find_space("autopatch")))
        for command in (["show"], ["report"], ["evaluate", "--front"], ["export", "--trial=0"],
                        ["correlate", "a", "b"], ["resume"]):  # fmt: skip
            code, output = run_cli(command[0], folder.path, *command[1:])
            assert code == 2 and output.count("\n") <= 1
            assert VARIABLE in output and folder.database.address in output, output
        other = postgres.make()
        for arguments, environment in ((["--storage", other], {}), ([], {VARIABLE: other})):
            code, output = run_cli("resume", folder.path, *arguments, **environment)
            assert code == 2 and "the trials are in" in output, output

    def test_refuse_a_database_for_a_study_in_a_journal(
        self, tmp_path: Path, make_study: Callable[..., StudyFolder]
    ) -> None:
        folder = make_study(tmp_path / "x", 5)
        url = "postgresql://bob:Zq7@127.0.0.1:1/db"
        code, output = run_cli("resume", folder.path, "--storage", url)
        assert code == 2 and "study.journal" in output and "Zq7" not in output
        assert run_cli("show", folder.path, **{VARIABLE: url})[0] == 0

    def test_dashboard_follows_a_study_in_a_database(
        self, tmp_path: Path, postgres: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = postgres.make()
        folder = StudyFolder(tmp_path / NAME, Database(url, NAME))
        driver = StudyDriver(folder, make_spec(trials=3), DIRECTIONS, dict, {})
        folder.write_spec(make_spec(trials=3))
        now = [0.0]
        clock = SimpleNamespace(time=time.time, monotonic=lambda: now[0], time_ns=time.time_ns)
        monkeypatch.setattr("autosearch.report.live.time", clock)
        library = Library(tmp_path)

        def look(state: str) -> Any:
            now[0] += 100
            # A look does not wait for a slow reading; what was there before stands until then.
            until = time.monotonic() + 60
            while (seen := library.look(())[NAME]).state != state and time.monotonic() < until:
                time.sleep(0.05)
            assert seen.state == state
            return seen

        assert VARIABLE in look("unreadable").problem
        monkeypatch.setenv(VARIABLE, url)
        work(driver, limit=1)
        driver.ask()
        seen = look("running")
        assert (seen.finished, seen.budget) == (1, 3)
        driver.close()
        work(open_driver(tmp_path / "b", url, make_spec(trials=3)))
        assert look("finished").finished == 3
        assert library.foremost() == NAME


def logged(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a study's log."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def stop_in_a_trial(process: subprocess.Popen[str], folder: StudyFolder) -> list[TrialRecord]:
    """Bring a head to a halt in the middle of a trial, after it has finished some.

    Returns:
        The study's trials as they stand then.
    """
    import psutil

    start = len(logged(folder.log_path))
    while process.poll() is None:
        process.send_signal(signal.SIGSTOP)
        while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.01)
        events = logged(folder.log_path)[start:]
        told = [event for event in events if event["event"] == "trial told"]
        if len(told) > 1 and events[-1]["event"] == "trial handed out":
            found = folder.trials.records()
            # It may just be storing the trial, without having said so.
            if found[events[-1]["trial"]].status == "running" and not [
                *folder.trials.outbox.items()
            ]:
                return found
        process.send_signal(signal.SIGCONT)
        time.sleep(0.1)
    pytest.fail(f"ended before: {process.communicate()[0]}")


def family(number: int) -> list[int]:
    """A process and all that it has started."""
    import psutil

    try:
        process = psutil.Process(number)
        return [number, *(child.pid for child in process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def command_line(number: int) -> bytes:
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return b""
