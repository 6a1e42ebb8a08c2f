"""Studies whose trials are in PostgreSQL: address, outbox, several heads, lost connections."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shared_study import DIRECTIONS, NAME, complete, make_spec, open_driver, work

from autosearch.contracts.trials import Outcome, Status
from autosearch.errors import ConfigError, StudyError
from autosearch.spec.sections import StudySpec
from autosearch.storage import database as database_module
from autosearch.storage.database import Database, read_place, write_place
from autosearch.storage.folder import StudyFolder
from autosearch.storage.outbox import Outbox
from autosearch.study import leases
from autosearch.study.driver import StudyDriver
from autosearch.study.summary import counts

if not os.environ.get("AUTOSEARCH_REQUIRE_POSTGRES"):
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")


def in_threads(*tasks: Callable[[], object]) -> None:
    """Run at the same time; raise what one of them raises."""
    errors: list[BaseException] = []

    def safely(task: Callable[[], object]) -> None:
        try:
            task()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=safely, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def check(path: Path, url: str, budget: int) -> None:
    """Every trial below the budget is there once, complete, and with its own value."""
    found = StudyFolder(path, Database(url, NAME)).trials.records()
    assert [record.number for record in found] == list(range(budget))
    assert counts(found) == counts([]) | {"complete": budget}
    assert all(record.values == {"gflops": record.params["x"]} for record in found)


class TestAddress:
    @pytest.mark.parametrize(
        "url",
        [
            "sqlite:///study.db",
            "mysql://bob:Zq7@host/db",
            "postgresql+psycopg2://bob:Zq7@host/db",
            "redis://:Zq7@host",
            "bob:Zq7@host/db",
            "postgresql://bob:Zq7@host",
            "postgresql://bob:Zq7@ho st:x[/db?=",
            "",
        ],
    )
    def test_of_anything_else_is_refused_on_a_line_without_secrets(self, url: str) -> None:
        with pytest.raises(ConfigError, match="postgresql://user:password@host") as caught:
            Database(url, NAME)
        assert "Zq7" not in str(caught.value) and "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("url", "address"),
        [
            ("postgresql://bob:Zq7@host/db", "postgresql://host/db"),
            ("postgres://bob@host:5433/db?sslmode=require", "postgresql://host:5433/db"),
            ("postgresql:///db?password=Zq7", "postgresql:///db"),
            ("postgresql://bob@/db?host=/run/pg", "postgresql:///db?host=%2Frun%2Fpg&port="),
            ("postgresql://[::1]:5/db", "postgresql:///db?host=%3A%3A1&port=5"),
        ],
    )
    def test_is_shown_and_kept_without_secrets(
        self, tmp_path: Path, url: str, address: str
    ) -> None:
        database = Database(url, NAME)
        assert database.address == address
        assert "Zq7" not in repr(database) and "bob" not in repr(database)
        write_place(tmp_path / "storage.json", database)
        assert json.loads((tmp_path / "storage.json").read_text()) == {
            "storage": address,
            "study": NAME,
        }
        again = read_place(tmp_path / "storage.json")
        assert (again.address, again.study) == (address, NAME)
        assert read_place(tmp_path / "storage.json", url).address == address

    @pytest.mark.parametrize(
        "content",
        [
            "", "[]", "{}", '{"storage": "x", "study": "y"}', "\0",
            '{"storage": "postgresql://bob@host/db", "study": "y"}',
            '{"storage": "postgresql://host/db?passfile=/etc/passwd", "study": "y"}',
        ],
    )  # fmt: skip
    def test_file_that_is_damaged_is_named(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "storage.json").write_text(content)
        with pytest.raises(StudyError, match=r"storage\.json: cannot be read"):
            read_place(tmp_path / "storage.json")

    def test_of_nobody_is_an_error_at_once(self, tmp_path: Path) -> None:
        url = "postgresql://bob:Zq7secret@127.0.0.1:1/db"
        with pytest.raises(StudyError, match=r"127\.0\.0\.1:1/db: .*refused") as caught:
            open_driver(tmp_path, url)
        assert "Zq7" not in str(caught.value) and "\n" not in str(caught.value)


class TestOutbox:
    def test_gives_back_what_it_was_given(self, tmp_path: Path) -> None:
        box = Outbox(tmp_path / "box")
        assert list(box.items()) == []
        first = Outcome(
            Status.COMPLETE, {"cost": 1.5}, {"m": 2.0}, {"cost <= 2": -0.5}, {"fit": 0.1},
            artifacts={"maps.jpg": bytes(range(256))},
        )  # fmt: skip
        second = Outcome(Status.FAILED, reason="E: x", traceback="line 1\nline 2")
        box.put(3, "k3", first)
        box.put(11, "k11", second)
        assert sorted(box.items()) == [(3, "k3", first), (11, "k11", second)]
        box.remove(3)
        box.remove(3)
        assert list(box.items()) == [(11, "k11", second)]

    @pytest.mark.parametrize("content", ["", "{}", '{"key": "k", "outcome": 3}', "\xff"])
    def test_names_a_damaged_file(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "4.json").write_text(content)
        with pytest.raises(StudyError, match=r"4.json: cannot be read"):
            list(Outbox(tmp_path).items())


CHILD = """
import json, os, signal, sys, time
from pathlib import Path
from autosearch.study import leases
from autosearch.storage.database import Database
from autosearch.storage.folder import StudyFolder
from autosearch.spec import parse_spec
from autosearch.study import StudyDriver
from autosearch.contracts.trials import Outcome, Status

path, name, content, task, lease = sys.argv[1:]
leases.LEASE_SECONDS = float(lease)
folder = StudyFolder(Path(path), Database(os.environ["URL"], name))
driver = StudyDriver(folder, parse_spec(json.loads(content)), {"gflops": "minimize"}, dict, {})
told = []
print("ready", flush=True)
sys.stdin.readline()
while not driver.finished:
    if task == "die" and len(told) == 3:
        out = [driver.ask().number, driver.ask().number]
        print(json.dumps([told, out]), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if assignment := driver.ask():
        time.sleep(0.01)
        values = {"gflops": assignment.params["x"]}
        driver.tell(assignment.number, Outcome(Status.COMPLETE, values))
        told.append(assignment.number)
driver.close()
print(json.dumps(told), flush=True)
"""


def start_child(
    path: Path, url: str, spec: StudySpec, task: str = "work", lease: float = 120
) -> subprocess.Popen[str]:
    arguments = [str(path), NAME, spec.model_dump_json(), task, str(lease)]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments], env=os.environ | {"URL": url}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


class TestHeads:
    def test_in_processes_share_one_budget(self, tmp_path: Path, postgres: Any) -> None:
        url, spec = postgres.make(), make_spec(trials=30)
        # Both make the tables, and the study, at the same time.
        children = [start_child(tmp_path / str(i), url, spec) for i in range(2)]
        for child in children:
            assert child.stdout is not None and child.stdout.readline() == "ready\n"
        told = [json.loads(child.communicate("go\n", timeout=100)[0]) for child in children]
        assert sorted(told[0] + told[1]) == list(range(30))
        check(tmp_path / "0", url, 30)

    def test_keep_artifacts_in_their_own_folders(self, tmp_path: Path, postgres: Any) -> None:
        url = postgres.make()
        one, two = (open_driver(tmp_path / name, url) for name in "ab")
        first = work(one, limit=2)
        second = work(two, limit=1)
        for name, numbers in (("a", first), ("b", second)):
            found = [path.name for path in (tmp_path / name / "trials").iterdir()]
            assert sorted(found) == sorted(map(str, numbers))
            assert not list((tmp_path / name / "outbox").iterdir())
            assert not (tmp_path / name / "study.journal").exists()
        one.close()
        two.close()

    def test_with_other_data_are_refused(self, tmp_path: Path, postgres: Any) -> None:
        url = postgres.make()
        open_driver(tmp_path / "a", url, data="d1").close()
        with pytest.raises(StudyError, match="another data: d1 then, d2 now"):
            open_driver(tmp_path / "b", url, data="d2")

    def test_studies_of_other_names_are_apart(self, tmp_path: Path, postgres: Any) -> None:
        url = postgres.make()
        work(open_driver(tmp_path / "a", url, make_spec(trials=2)))
        other = StudyFolder(tmp_path / "b", Database(url, "other"))
        driver = StudyDriver(other, make_spec(trials=3), DIRECTIONS, dict, {})
        assert work(driver) == [0, 1, 2]
        check(tmp_path / "a", url, 2)

    @pytest.mark.slow
    def test_takes_over_the_trials_of_a_killed_one_after_its_lease(
        self, tmp_path: Path, postgres: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url, spec = postgres.make(), make_spec(trials=12)
        monkeypatch.setattr(leases, "LEASE_SECONDS", 3.0)
        # As if it were another machine, where nobody can see that the process is gone.
        monkeypatch.setattr(leases, "_place", lambda: "elsewhere")
        # The lease of a fresh server is longer.
        monkeypatch.setattr(Database, "clock", lambda self: (time.time(), -1.0))
        driver = open_driver(tmp_path / "alive", url, spec)
        child = start_child(tmp_path / "killed", url, spec, "die", lease=3.0)
        told, out = json.loads(child.communicate("go\n", timeout=100)[0].splitlines()[1])
        assert child.returncode == -signal.SIGKILL
        before = counts(StudyFolder(tmp_path / "alive", Database(url, NAME)).trials.records())
        assert (before["complete"], before["running"]) == (3, 2)
        assert len(told) == 3 and len(out) == 2
        mine = work(driver)
        driver.close()
        assert sorted(told + mine) == list(range(12)) and set(out) <= set(mine)
        check(tmp_path / "alive", url, 12)

    def test_leases_that_ran_out_while_the_database_was_gone_are_not_held_against_anyone(
        self, tmp_path: Path, postgres: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = postgres.make()
        monkeypatch.setattr(leases, "LEASE_SECONDS", 1.0)
        silent = open_driver(tmp_path / "a", url, make_spec(trials=1, retries=0))
        out = silent.ask()
        silent._claims._closing.set()  # It renews nothing more, as if it could not.
        time.sleep(1.2)
        monkeypatch.setattr(leases, "_place", lambda: "elsewhere")
        monkeypatch.setattr(leases, "LEASE_SECONDS", 1000.0)
        postgres.stop()
        postgres.start()
        other = open_driver(tmp_path / "b", url, make_spec(trials=1, retries=0))
        assert other.ask() is None and not other.finished
        silent.tell(out.number, complete(out))
        assert other.finished
        check(tmp_path / "b", url, 1)


class Flaky:
    """Breaks connections of a database's engine now and then, before and after commits.

    Args:
        database: Whose.
        seed: Of the moments.
    """

    def __init__(self, database: Database, seed: int) -> None:
        import sqlalchemy

        self._draw, self._left = random.Random(seed), Counter[str]()
        self.broken = Counter[str]()
        database.open()
        engine = database._rdb.engine
        sqlalchemy.event.listen(engine, "before_cursor_execute", self._before_statement)
        dialect = engine.dialect
        commit = dialect.do_commit

        def do_commit(connection: Any) -> None:
            if self._strikes("before commit"):
                connection.dbapi_connection.close()
            commit(connection)
            if self._strikes("after commit"):
                # Done, but nobody hears of it.
                connection.dbapi_connection.close()
                commit(connection)

        dialect.do_commit = do_commit

    def _strikes(self, moment: str) -> bool:
        if moment in self._left and self._left[moment] == 0:
            self.broken[moment] += 1
            del self._left[moment]
            return True
        self._left.setdefault(moment, self._draw.randrange(20, 100))
        self._left[moment] -= 1
        return False

    def _before_statement(self, connection: Any, *_: object) -> None:
        if self._strikes("statement"):
            connection.connection.dbapi_connection.close()


class TestLostConnection:
    @pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
    def test_anywhere_costs_no_trial(
        self, tmp_path: Path, postgres: Any, monkeypatch: pytest.MonkeyPatch, seed: int
    ) -> None:
        url, spec = postgres.make(), make_spec(trials=12)
        drivers, flaky = [], []
        for number in range(2):
            folder = StudyFolder(tmp_path / str(number), Database(url, NAME))
            drivers.append(StudyDriver(folder, spec, DIRECTIONS, dict, {}))
            flaky.append(Flaky(folder.database, 2 * seed + number))
        told: list[list[int]] = [[], []]
        in_threads(*(lambda i=i: told[i].extend(work(drivers[i])) for i in range(2)))
        for driver in drivers:
            driver.close()
        broken = flaky[0].broken + flaky[1].broken
        assert len(broken) == 3 and sum(broken.values()) > 8, broken
        assert sorted(told[0] + told[1]) == list(range(12))
        check(tmp_path / "other", url, 12)

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
    def test_of_all_while_the_database_restarts_costs_no_trial(
        self, tmp_path: Path, postgres: Any, how: signal.Signals
    ) -> None:
        url, spec = postgres.make(), make_spec(trials=20)
        drivers = [open_driver(tmp_path / name, url, spec) for name in "ab"]
        told: list[list[int]] = [[], []]
        before: list[int] = []

        def restart() -> None:
            while sum(map(len, told)) < 6:
                time.sleep(0.02)
            before.append(sum(map(len, told)))
            postgres.stop(how)
            time.sleep(0.5)
            postgres.start()

        def head(i: int) -> None:
            while not drivers[i].finished:
                told[i].extend(work(drivers[i], seconds=0.05, limit=1))

        in_threads(restart, lambda: head(0), lambda: head(1))
        for driver in drivers:
            driver.close()
        assert 6 <= before[0] < 20
        assert sorted(told[0] + told[1]) == list(range(20))
        check(tmp_path / "a", url, 20)

    def test_for_too_long_ends_the_search_and_keeps_what_was_found(
        self, tmp_path: Path, postgres: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(database_module, "PATIENCE_SECONDS", 0.6)
        url = postgres.make()
        driver = open_driver(tmp_path / "a", url)
        work(driver, limit=2)
        assignment = driver.ask()
        postgres.stop()
        with pytest.raises(StudyError, match="no finished trial is lost") as caught:
            driver.tell(assignment.number, complete(assignment))
        assert "\n" not in str(caught.value) and postgres.password not in str(caught.value)
        start = time.monotonic()
        for _ in range(50):  # Nobody waits for it again.
            with pytest.raises(StudyError, match="no finished trial is lost"):
                driver.ask()
        assert time.monotonic() - start < 50 * 0.6 / 2
        driver.close()
        postgres.start()
        again = open_driver(tmp_path / "a", url)
        done = StudyFolder(tmp_path / "a", Database(url, NAME)).trials.records()
        assert counts(done)["complete"] == 3
        assert done[assignment.number].values == {"gflops": assignment.params["x"]}
        maps = StudyFolder(tmp_path / "a").files.path(assignment.number) / "maps.jpg"
        assert maps.read_bytes() == b"\xff\x00"
        told = work(again)
        again.close()
        assert assignment.number not in told and len(told) == 9
        check(tmp_path / "a", url, 12)

    def test_outcome_of_another_configuration_is_not_told(
        self, tmp_path: Path, postgres: Any
    ) -> None:
        url = postgres.make()
        folder = StudyFolder(tmp_path / "a", Database(url, NAME))
        first = open_driver(tmp_path / "a", url)
        assignment = first.ask()
        first.close()
        for number in (assignment.number, 99):
            folder.trials.outbox.put(number, "of another study", complete(assignment))
        open_driver(tmp_path / "a", url).close()
        assert counts(folder.trials.records())["complete"] == 0
        assert list(folder.trials.outbox.items()) == []
