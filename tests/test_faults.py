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
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from driving import complete, make_spec, open_driver, work
from faulty import Place, attempts, check_kept, check_met, finals, finished, succeed, wait_until
from tiny import TINY

from autosearch.contracts.trials import TrialRecord
from autosearch.errors import StudyError
from autosearch.storage.folder import StudyFolder
from autosearch.storage.optuna_study import STUDY
from autosearch.study import leases
from autosearch.study.summary import counts


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    short = Path(tempfile.mkdtemp(prefix="as-"))
    made = Place(tmp_path, short)
    yield made
    for process in made.processes():
        process.kill()
    shutil.rmtree(short, ignore_errors=True)


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
@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name
)
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


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_disk_that_fills_up_anywhere_in_a_journal_leaves_whole_lines(
    disk: Path, full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, for it is done many times; the study and the disk are real."""
    monkeypatch.setattr(leases, "_alive", lambda pid: False)
    draw, kept, spec = random.Random(3), 0, make_spec(trials=30)
    for turn in range(60 if full else 8):
        path = disk / str(turn)
        driver = open_driver(path, spec)
        StudyFolder(path).write_spec(spec)
        first = driver.ask()
        assert first is not None
        filler = fill(disk, draw.randrange(40_000))
        with pytest.raises(StudyError, match="No space left on device"):
            driver.tell(first.number, complete(first))
            work(driver)
        driver.close()
        before = finished(StudyFolder(path))
        kept += len(before)
        assert StudyFolder(path).journal_path.read_bytes().endswith(b"\n")
        filler.unlink()
        later = open_driver(path, spec)
        work(later)
        assert later.finished
        later.close()
        told = check_met(StudyFolder(path), 30)
        check_kept(before, dict(enumerate(told)))
        assert counts(told) == counts([]) | {"complete": 30}
        shutil.rmtree(path)
    assert kept
    print(f"{kept} trials had finished before, all of them were kept")


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
    study = optuna.load_study(study_name=STUDY, storage=place.faulty.trials.storage())
    starts = [trial.datetime_start for trial in study.get_trials()]
    spread = max(starts) - min(starts)
    assert spread.total_seconds() > 10 * hour
    for record in told:
        assert record.duration is not None and 0 <= record.duration < 600
        assert all(0 <= value < 600 for value in record.seconds.values())
    place.wait_for_silence()
