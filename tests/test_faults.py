"""Faults put into real searches: what had finished stays as it was, and the budget is met exactly.

Every search here is the command in a process of its own, unless it says otherwise. Trials are
counted from the lines of the journal, before and after each fault.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import psutil
import pytest

from autosearch import leases
from autosearch.errors import StudyError
from autosearch.optuna_study import STUDY
from autosearch.results import StudyFolder, counts
from autosearch.spec import StudySpec, parse_spec
from autosearch.study import StudyDriver
from autosearch.trials import Assignment, Outcome, Status, TrialRecord

TINY = [
    "dataset.image_size=64", "backbone.weights=random", "space.width=1.0",
    "space.coreset_ratio=0.1", "resources.gpu=0",
]  # fmt: skip

PLUGIN = '''
"""A runner whose trials do what files in a folder say; installed by being on the path."""

import datetime
import os
import signal
import time
from pathlib import Path

import optuna.storages.journal._storage as journal
import torch
from autosearch.detector import Cost, Detector, ParameterInfo, Runner
from torch import nn

FOLDER = Path(os.environ["FAULTS"])
_time, _datetime = time.time, datetime.datetime


def shift():
    """By how many seconds the clock has been set forward."""
    try:
        return float((FOLDER / "clock").read_text())
    except (OSError, ValueError):
        return 0.0


class Shifted(_datetime):
    @classmethod
    def now(cls, tz=None):
        return _datetime.now(tz) + datetime.timedelta(seconds=shift())


time.time = lambda: _time() + shift()
journal.datetime = Shifted


class FaultyRunner(Runner):
    description = "goes wrong when told to"
    parameters = {"x": ParameterInfo(0, "number", low=0, high=999)}

    def canonical(self, params):
        return dict(params)

    def build(self, params, context):
        return Faulty(params["x"])


class Faulty(Detector):
    def __init__(self, x):
        self.x = x

    def fit(self, train):
        (FOLDER / f"began-{self.x}-{os.getpid()}").touch()
        wait, hang = FOLDER / f"wait-{self.x}", FOLDER / f"hang-{self.x}"
        while wait.exists():
            time.sleep(0.01)
        if hang.exists():
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
            time.sleep(3600)

    def anomaly_maps(self, images):
        return (images.mean(1) - self.x / 1000).abs()

    def artifacts(self):
        return {"notes.bin": bytes(10_000)}

    def cost(self):
        return Cost(1 + self.x, 2 + 2 * self.x, 0, 0, 0)

    def module(self):
        return nn.Identity()
'''

SPEC = """
study: {name: faulty, runner: faulty, retries: 2}
space: {x: {int: [0, 999]}}
objectives: [gflops, rwap]
sampler: {name: random}
start: [{x: 0}, {x: 1}, {x: 2}, {x: 3}, {x: 4}, {x: 5}, {x: 6}, {x: 7}]
dataset: {image_size: 32}
resources: {gpu: 0, max_concurrent: 2}
"""


class Place:
    """Where a test's searches run: folders, environment, and a mark on every process of theirs.

    Args:
        folder: For results and what trials leave.
        short: For files of Ray, whose sockets want short paths, and other temporary ones.
    """

    def __init__(self, folder: Path, short: Path) -> None:
        self.results, self.faults = folder / "results", folder / "faults"
        self.faults.mkdir()
        plugin = folder / "plugin"
        described = plugin / "faulty-1.0.dist-info"
        described.mkdir(parents=True)
        (plugin / "faulty_runner.py").write_text(PLUGIN)
        (described / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
        entry = "[autosearch.runners]\nfaulty = faulty_runner:FaultyRunner\n"
        (described / "entry_points.txt").write_text(entry)
        self.spec = folder / "faulty.yaml"
        self.spec.write_text(SPEC)
        self.mark = uuid.uuid4().hex
        path = os.pathsep.join(filter(None, [str(plugin), os.environ.get("PYTHONPATH")]))
        self._environment = os.environ | {
            "PYTHONPATH": path, "FAULTS": str(self.faults), "FAULTS_MARK": self.mark,
            "TMPDIR": str(short), "RAY_TMPDIR": str(short), "OMP_NUM_THREADS": "1",
            "COLUMNS": "500",
        }  # fmt: skip

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start the command, in a session of its own as a terminal would."""
        code = "from autosearch.cli import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)], env=self._environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def search(self, trials: int, executor: str, *more: str) -> subprocess.Popen[str]:
        """Start or continue the study of the faulty runner."""
        return self.start("run", self.spec, "--resume", "--results", self.results,
                          "--trials", str(trials), "--executor", executor, *more)  # fmt: skip

    @property
    def faulty(self) -> StudyFolder:
        """Its folder."""
        return StudyFolder(self.results / "faulty")

    def began(self, x: int) -> list[int]:
        """Processes in which a trial began, once each."""
        return [int(path.name.split("-")[2]) for path in self.faults.glob(f"began-{x}-*")]

    def processes(self) -> list[psutil.Process]:
        """All that live and descend from a command of this place, orphans too."""
        found = []
        for process in psutil.process_iter():
            try:
                dead = process.status() == psutil.STATUS_ZOMBIE
                if not dead and process.environ().get("FAULTS_MARK") == self.mark:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def wait_for_silence(self) -> None:
        """Wait until nobody is left; who is still there after minutes will never go."""
        until = time.monotonic() + 300
        while left := self.processes():
            if time.monotonic() > until:
                pytest.fail(f"still running: {[' '.join(p.cmdline())[:200] for p in left]}")
            time.sleep(0.2)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    short = Path(tempfile.mkdtemp(prefix="as-"))
    made = Place(tmp_path, short)
    yield made
    for process in made.processes():
        process.kill()
    shutil.rmtree(short, ignore_errors=True)


def succeed(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a command that must end well."""
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    assert "Traceback" not in out + err
    return out


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> bool:
    """Wait for a condition; false if the process ended before it held."""
    while not condition():
        if process.poll() is not None:
            return bool(condition())
        time.sleep(0.005)
    return True


def finals(folder: StudyFolder) -> Counter[int]:
    """How many lines of the journal give each trial a final state; optuna is not asked."""
    found: Counter[int] = Counter()
    if folder.journal_path.is_file():
        # A writer may be in the middle of the last line.
        for line in folder.journal_path.read_bytes().split(b"\n")[:-1]:
            entry = json.loads(line)
            if entry["op_code"] == 6 and entry["state"] in (1, 2, 3):
                found[entry["trial_id"]] += 1
    return found


def finished(folder: StudyFolder) -> dict[int, TrialRecord]:
    """Trials that are told, by number, each told once."""
    if not folder.exists():
        assert not finals(folder)
        return {}
    told = {r.number: r for r in folder.records() if r.status != Status.RUNNING}
    assert finals(folder) == dict.fromkeys(told, 1)
    return told


def check_kept(before: Mapping[int, TrialRecord], after: Mapping[int, TrialRecord]) -> None:
    """What had finished is there, and as it was."""
    assert {number: after.get(number) for number in before} == before


def check_met(folder: StudyFolder, budget: int) -> list[TrialRecord]:
    """The budget is met exactly, by trials that are told once each."""
    told = folder.records()
    assert [record.number for record in told] == list(range(budget))
    assert finals(folder) == dict.fromkeys(range(budget), 1)
    return told


def attempts(folder: StudyFolder) -> dict[int, int]:
    """How often a trial was lost, where it ever was."""
    study = optuna.load_study(study_name=STUDY, storage=folder.storage())
    found = {trial.number: trial.user_attrs.get("attempts", 0) for trial in study.get_trials()}
    return {number: lost for number, lost in found.items() if lost}


KINDS = ("delay", "opening", "trial", "end")


def wait_for_moment(
    kind: str, draw: random.Random, folder: StudyFolder, budget: int, process: Any, longest: float
) -> None:
    """Wait for a moment to kill a head: none of them is looked at closely, all come again."""

    def look() -> list[tuple[str, int, int]]:
        files = [path.stat() for path in folder.path.glob("*") if path.is_file()]
        return [(str(s.st_ino), s.st_size, s.st_mtime_ns) for s in files]

    match kind:
        case "delay":
            time.sleep(draw.uniform(0, longest))
        case "opening":
            start = look()
            wait_until(lambda: look() != start, process)
            time.sleep(draw.uniform(0, 0.1))
        case "trial":
            wanted = min(budget - 1, len(finals(folder)) + draw.randint(1, 3))
            wait_until(lambda: len(finals(folder)) >= wanted, process)
            time.sleep(draw.uniform(0, 0.4))
        case "end":
            wait_until(lambda: len(finals(folder)) >= budget, process)
            time.sleep(draw.uniform(0, 0.2))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_head_that_is_killed_again_and_again_ends_where_an_undisturbed_one_does(
    place: Place, full: bool
) -> None:
    draw = random.Random(7)
    kills = [*(("local", kind) for kind in KINDS * 4), *(("ray", kind) for kind in KINDS)]
    kills += [("ray", "trial"), ("ray", "delay")]
    draw.shuffle(kills)
    if not full:
        kills = [("ray", "trial"), ("local", "opening"), ("local", "end")]
    settings = [f"--set={s}" for s in (*TINY, "resources.max_concurrent=1", "study.retries=9")]

    def search(results: Path, budget: int, executor: str) -> subprocess.Popen[str]:
        return place.start("run", "autopatch", *settings, "--resume", "--results", results,
                           "--trials", str(budget), "--executor", executor)  # fmt: skip

    # How long it takes to start tells how long a kill that is to hit the start may wait.
    first, begin = StudyFolder(place.results.with_name("first") / "autopatch"), time.monotonic()
    process = search(first.path.parent, 1, "local")
    wait_until(first.path.exists, process)
    longest = {"local": 1.3 * (time.monotonic() - begin), "ray": 3 * (time.monotonic() - begin)}
    succeed(process)

    folder, budget, done = StudyFolder(place.results / "autopatch"), 4, []
    before: dict[int, TrialRecord] = {}
    while len(done) < len(kills):
        executor, kind = kills[len(done)]
        process = search(place.results, budget, executor)
        wait_for_moment(kind, draw, folder, budget, process, longest[executor])
        process.kill()
        out, err = process.communicate()
        after = finished(folder)
        check_kept(before, after)
        assert len(after) <= budget
        before = after
        if process.returncode == -signal.SIGKILL:
            done.append((executor, kind, len(after)))
        else:
            # It was quicker than the test; what it says it did, it did.
            assert process.returncode == 0, out + err
            check_met(folder, budget)
        if len(after) == budget:
            budget += 4
    succeed(search(place.results, budget, "local"))
    place.wait_for_silence()
    told = check_met(folder, budget)
    check_kept(before, dict(enumerate(told)))
    assert counts(told)["running"] == counts(told)["failed"] == 0
    assert max(attempts(folder).values(), default=0) <= 9
    print(f"{len(done)} kills {done}, {budget} trials, attempts {attempts(folder)}")

    whole = StudyFolder(place.results.with_name("whole") / "autopatch")
    succeed(search(whole.path.parent, budget, "local"))
    expected = check_met(whole, budget)
    assert {json.dumps(r.canonical, sort_keys=True) for r in told} == {
        json.dumps(r.canonical, sort_keys=True) for r in expected
    }
    for record, other in zip(told, expected, strict=True):
        assert (record.params, record.canonical) == (other.params, other.canonical)
        assert (record.status, record.values) == (other.status, other.values)
    # Nothing is there that an undisturbed search does not leave; names of files that were just
    # being written begin with a dot.
    left = {path.name for path in folder.path.rglob("[!.]*")}
    assert left <= {path.name for path in whole.path.rglob("[!.]*")}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_trial_that_its_head_dies_in_is_retried_as_often_as_allowed(
    place: Place, full: bool
) -> None:
    (place.faults / "wait-1").touch()
    retries = 2 if full else 1
    for turn in range(1, retries + 2):
        process = place.search(4, "local", "--set", f"study.retries={retries}")
        assert wait_until(lambda turn=turn: len(place.began(1)) == turn, process)
        process.kill()
        process.communicate()
    succeed(place.search(4, "local", "--set", f"study.retries={retries}"))
    told = check_met(place.faulty, 4)
    assert [record.status for record in told] == ["complete", "failed", "complete", "complete"]
    assert told[1].reason == f"the process that ran the search died ({retries + 1} times)"
    assert [len(place.began(x)) for x in range(4)] == [1, retries + 1, 1, 1]
    assert attempts(place.faulty) == {1: retries + 1}
    place.wait_for_silence()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("executor", ["local", "ray"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_signal_stops_at_once_and_costs_nothing(
    place: Place, full: bool, executor: str, number: int
) -> None:
    if not full and (executor, number) != ("ray", signal.SIGTERM):
        pytest.skip("one signal will do for a sample; other tests send SIGINT")
    (place.faults / "wait-3").touch()
    process = place.search(8, executor, "--set", "study.retries=0")
    assert wait_until(lambda: place.began(3) and len(finals(place.faulty)) >= 3, process)
    before = finished(place.faulty)
    # A terminal sends Ctrl-C to all processes of the session, a supervisor its signal to one.
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    out, err = process.communicate()
    assert process.returncode == 130, out + err
    assert f"autosearch resume {place.faulty.path}" in out and "Traceback" not in out + err
    check_kept(before, finished(place.faulty))
    assert 3 not in finished(place.faulty)
    place.wait_for_silence()
    before = finished(place.faulty)
    (place.faults / "wait-3").unlink()
    succeed(place.search(8, executor, "--set", "study.retries=0"))
    told = check_met(place.faulty, 8)
    check_kept(before, dict(enumerate(told)))
    assert counts(told) == counts([]) | {"complete": 8} and not attempts(place.faulty)
    assert len(place.began(3)) == 2
    place.wait_for_silence()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_process_of_a_trial_that_hangs_is_gone(place: Place) -> None:
    (place.faults / "hang-1").touch()
    process = place.search(6, "ray", "--set", "study.trial_timeout=10")
    assert wait_until(lambda: place.began(1), process)
    running = place.processes()
    assert place.began(1)[0] in {p.pid for p in running}
    # All of Ray's processes bear the mark, so that none is overlooked in the end.
    assert {"raylet", "gcs_server"} <= {p.name() for p in running}
    succeed(process)
    (hung,) = place.began(1)
    place.wait_for_silence()
    assert not psutil.pid_exists(hung)
    told = check_met(place.faulty, 6)
    assert counts(told) == counts([]) | {"complete": 5, "failed": 1}
    assert told[1].reason == "ran longer than its limit of 10 s and had to be killed"
    # Those that came after it ran in other processes.
    assert all(hung not in place.began(x) for x in (2, 3, 4, 5))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=2m", "autosearch-faults", str(path)]
    done = subprocess.run(command, capture_output=True, text=True) if mount else None
    if done is None or done.returncode:
        why = done.stderr.strip() if done else "there is no mount"
        pytest.skip(f"a file system that can be filled needs the right to mount one ({why})")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(path: Path, free: int = 0) -> Path:
    """Fill a file system, but for some bytes at the most."""
    filler = path / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            file.truncate(max(0, file.tell() - free))
    return filler


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("executor", ["local", "ray"])
def test_full_disk_ends_a_search_with_one_line_and_loses_nothing(
    place: Place, disk: Path, full: bool, executor: str
) -> None:
    if not full and executor == "local":
        pytest.skip("Ray will do for a sample")
    place.results = disk / "results"
    (place.faults / "wait-4").touch()
    process = place.search(8, executor)
    assert wait_until(lambda: place.began(4) and len(finals(place.faulty)) >= 4, process)
    filler = fill(disk)
    before = finished(place.faulty)
    (place.faults / "wait-4").unlink()
    out, err = process.communicate()
    assert process.returncode == 2, out + err
    assert err.startswith(f"error: {place.faulty.path}") and err.count("\n") == 1, err
    assert "No space left on device" in err and "Traceback" not in out
    check_kept(before, finished(place.faulty))
    before = finished(place.faulty)
    assert len(before) < 8
    if full:
        # Still no room: it says so again, and breaks nothing.
        again = place.search(8, executor)
        out, err = again.communicate()
        assert again.returncode == 2 and "No space left on device" in err, out + err
        assert err.count("\n") == 1
    filler.unlink()
    succeed(place.search(8, executor))
    told = check_met(place.faulty, 8)
    check_kept(before, dict(enumerate(told)))
    assert counts(told) == counts([]) | {"complete": 8}
    assert not [path for path in place.faulty.path.rglob(".*") if path.is_file()]
    place.wait_for_silence()


def fake_spec(**study: object) -> StudySpec:
    return parse_spec(
        {
            "study": {"name": "fake", "runner": "fake", **study},
            "space": {"x": {"int": [0, 999999]}},
            "objectives": ["cost"],
            "sampler": {"name": "random"},
        }
    )


def open_driver(path: Path, **study: object) -> StudyDriver:
    folder, spec = StudyFolder(path), fake_spec(**study)
    driver = StudyDriver(folder, spec, {"cost": "minimize"}, dict, {})
    folder.write_spec(spec)
    return driver


def outcome(assignment: Assignment) -> Outcome:
    cost = float(assignment.canonical["x"])
    return Outcome(Status.COMPLETE, {"cost": cost}, measured={"note": cost / 2})


def work(driver: StudyDriver) -> None:
    while assignment := driver.ask():
        driver.tell(assignment.number, outcome(assignment))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_disk_that_fills_up_anywhere_in_a_journal_leaves_whole_lines(
    disk: Path, full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, for it is done many times; the study and the disk are real."""
    monkeypatch.setattr(leases, "_alive", lambda pid: False)
    draw, kept = random.Random(3), 0
    for turn in range(60 if full else 8):
        path = disk / str(turn)
        driver = open_driver(path, trials=30)
        first = driver.ask()
        assert first is not None
        filler = fill(disk, draw.randrange(40_000))
        with pytest.raises(StudyError, match="No space left on device"):
            driver.tell(first.number, outcome(first))
            work(driver)
        driver.close()
        before = finished(StudyFolder(path))
        kept += len(before)
        assert StudyFolder(path).journal_path.read_bytes().endswith(b"\n")
        filler.unlink()
        later = open_driver(path, trials=30)
        work(later)
        assert later.finished
        later.close()
        told = check_met(StudyFolder(path), 30)
        check_kept(before, dict(enumerate(told)))
        assert counts(told) == counts([]) | {"complete": 30}
        shutil.rmtree(path)
    assert kept
    print(f"{kept} trials had finished before, all of them were kept")


def test_head_that_dies_before_it_hands_a_trial_out_again_costs_no_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process: what the search would do is left out, what it leaves on disk is there."""
    monkeypatch.setattr(leases, "_alive", lambda pid: False)
    first = open_driver(tmp_path, trials=3, retries=1)
    held = first.ask()
    first._closing.set()
    for _ in range(4):
        # Ray takes seconds to start, and any of them may be the last.
        open_driver(tmp_path, trials=3, retries=1)._closing.set()
    assert attempts(StudyFolder(tmp_path)) == {0: 1}
    last = open_driver(tmp_path, trials=3, retries=1)
    assert last.ask() == held
    last._closing.set()
    after = open_driver(tmp_path, trials=3, retries=1)
    work(after)
    after.close()
    told = check_met(StudyFolder(tmp_path), 3)
    assert [record.status for record in told] == ["failed", "complete", "complete"]
    assert told[0].reason == "the process that ran the search died (2 times)"


def test_half_a_line_of_a_head_that_was_killed_does_not_spoil_those_of_another(
    tmp_path: Path,
) -> None:
    driver = open_driver(tmp_path, trials=6)
    first = driver.ask()
    assert first is not None
    journal = StudyFolder(tmp_path).journal_path
    with journal.open("ab") as file:
        file.write(b'{"op_code":8,"worker_id":"w","trial_id":0,"user_at')
    driver.tell(first.number, outcome(first))
    work(driver)
    driver.close()
    assert counts(check_met(StudyFolder(tmp_path), 6)) == counts([]) | {"complete": 6}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("executor", ["local", "ray"])
def test_clock_that_jumps_by_hours_disturbs_no_search(
    place: Place, full: bool, executor: str
) -> None:
    if not full and executor == "local":
        pytest.skip("Ray will do for a sample")
    clock, hour = place.faults / "clock", 3600
    for x in (2, 4, 6):
        (place.faults / f"wait-{x}").touch()
    limits = ["--timeout", "30m", "--set", "study.trial_timeout=10m", "--set", "study.retries=0"]
    process = place.search(12, executor, *limits)
    jumps = {2: 5 * hour, 4: -9 * hour, 6: 0}
    for x, seconds in jumps.items():
        assert wait_until(lambda x=x: place.began(x), process)
        clock.write_text(str(seconds))
        (place.faults / f"wait-{x}").unlink()
    succeed(process)
    told = check_met(place.faulty, 12)
    assert counts(told) == counts([]) | {"complete": 12} and not attempts(place.faulty)
    # It did jump, there and back.
    study = optuna.load_study(study_name=STUDY, storage=place.faulty.storage())
    starts = [trial.datetime_start for trial in study.get_trials()]
    spread = max(starts) - min(starts)
    assert spread.total_seconds() > 10 * hour
    for record in told:
        assert record.duration is not None and 0 <= record.duration < 600
        assert all(0 <= value < 600 for value in record.seconds.values())
    place.wait_for_silence()


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
        first = open_driver(tmp_path, trials=4, retries=0)
        held = first.ask()
        assert held is not None
        self.set_clock(monkeypatch, hours * 3600)
        second = open_driver(tmp_path, trials=4, retries=0)
        work(second)
        assert second.ask() is None and not second.finished
        first.tell(held.number, outcome(held))
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
            first = open_driver(tmp_path, trials=1)
            held = first.ask()
            # Its power fails.
            first._closing.set()
        self.set_clock(monkeypatch, -9 * 3600)
        second = open_driver(tmp_path, trials=1)
        assert second.ask() is None and not second.finished
        self.set_clock(monkeypatch, -9 * 3600, leases.LEASE_SECONDS + 1)
        again = second.ask()
        assert again == held and again is not None
        second.tell(again.number, outcome(again))
        second.close()
        assert counts(check_met(StudyFolder(tmp_path), 1)) == counts([]) | {"complete": 1}
        assert attempts(StudyFolder(tmp_path)) == {0: 1}

    def test_that_jump_make_no_trial_last_for_hours_or_less_than_nothing(
        self, tmp_path: Path
    ) -> None:
        driver = open_driver(tmp_path, trials=2)
        work(driver)
        driver.close()
        journal = StudyFolder(tmp_path).journal_path
        lines = [json.loads(line) for line in journal.read_text().splitlines()]
        for line in lines:
            if "datetime_complete" in line:
                hours = {0: "1999-01-01T00:00:00.000000", 1: "2199-01-01T00:00:00.000000"}
                line["datetime_complete"] = hours[line["trial_id"]]
        journal.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        assert all(0 <= record.duration < 600 for record in StudyFolder(tmp_path).records())
