import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
from ray import cloudpickle, tune
from ray_parts import fake_spec, run_fake
from tiny import TINY

from autosearch.contracts.trials import (
    Assignment,
    Outcome,
    Progress,
    Status,
    TrialRecord,
    canonical_key,
    derived_seed,
)
from autosearch.executors.ray_tune import RayTuneExecutor
from autosearch.spec.reading import load_spec
from autosearch.spec.sections import StudySpec
from autosearch.storage.folder import StudyFolder
from autosearch.study import session
from autosearch.study.driver import StudyDriver
from autosearch.study.evaluation import TrialEvaluator
from autosearch.study.inputs import load_inputs
from autosearch.study.summary import counts

TWO = {"gpu": 0, "max_concurrent": 2}
SPACES = Path(__file__).parents[1] / "searchspaces"
# Workers cannot import this module, so what it defines travels to them whole.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One Ray on this machine, with room for two trials at a time."""
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        logging_level="ERROR",
    )  # fmt: skip
    yield
    ray.shutdown()


class Misbehaving:
    """An evaluator whose trials go wrong, each in its own way.

    Args:
        spec: The study.
        folder: For marks that outlive a worker.
    """

    def __init__(self, spec: StudySpec, folder: Path) -> None:
        self.spec, self._folder = spec, folder

    def __call__(self, assignment: Assignment) -> Outcome:
        number = assignment.number
        tries = sorted(self._folder.glob(f"{number}.*"))
        (self._folder / f"{number}.{len(tries)}").touch()
        match number:
            case 0 | 1:
                self._wait_for(1 - number)
            case 2:
                raise ValueError("a trial that raises")
            case 3:
                return Outcome(Status.COMPLETE, {"cost": math.nan})
            case 4 if not tries:
                os.kill(os.getpid(), signal.SIGKILL)
            case 5:
                os.kill(os.getpid(), signal.SIGKILL)
        return Outcome(Status.COMPLETE, {"cost": float(assignment.canonical["x"])})

    def steps(self, assignment: Assignment) -> Iterator[Outcome]:
        yield self(assignment)

    def _wait_for(self, number: int) -> None:
        while not list(self._folder.glob(f"{number}.*")):
            time.sleep(0.05)


class Slow:
    """An evaluator whose first trial sleeps and whose second does not even hear its time limit."""

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec

    def __call__(self, assignment: Assignment) -> Outcome:
        if assignment.number == 1:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        if assignment.number < 2:
            time.sleep(300)
        return Outcome(Status.COMPLETE, {"cost": 1.0})

    def steps(self, assignment: Assignment) -> Iterator[Outcome]:
        yield self(assignment)


class Training:
    """An evaluator whose trials report a third and two thirds on their way down to their cost."""

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec

    def steps(self, assignment: Assignment) -> Iterator[Progress | Outcome]:
        cost = float(assignment.canonical["x"])
        for done in (1, 2):
            yield Progress(done / 3, {"cost": cost * (4 - done)})
        yield Outcome(Status.COMPLETE, {"cost": cost})


@pytest.fixture(scope="module")
def misbehaved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a study, and of the marks that its trials left."""
    return tmp_path_factory.mktemp("misbehaved")


@pytest.fixture(scope="module")
def told(cluster: None, misbehaved: Path) -> list[TrialRecord]:
    """The study's trials."""
    spec = fake_spec(TWO, trials=8, retries=1)
    (misbehaved / "marks").mkdir()
    return run_fake(spec, misbehaved / "study", Misbehaving(spec, misbehaved / "marks"))


class TestMisbehaviour:
    def tries(self, folder: Path, number: int) -> int:
        return len(list((folder / "marks").glob(f"{number}.*")))

    def test_every_trial_has_a_final_status(self, told: list[TrialRecord]) -> None:
        assert [record.number for record in told] == list(range(8))
        assert counts(told) == counts([]) | {"complete": 5, "failed": 3}

    def test_two_trials_run_at_a_time(self, told: list[TrialRecord]) -> None:
        # Neither of the two ends before the other has begun.
        assert told[0].status == told[1].status == Status.COMPLETE

    def test_results_belong_to_their_parameters(self, told: list[TrialRecord]) -> None:
        done = [record for record in told if record.status == Status.COMPLETE]
        assert all(record.values == {"cost": record.params["x"]} for record in done)

    def test_error_is_recorded_with_its_traceback(
        self, told: list[TrialRecord], misbehaved: Path
    ) -> None:
        assert told[2].status == Status.FAILED
        assert told[2].reason == "ValueError: a trial that raises"
        trace = StudyFolder(misbehaved / "study").files.path(2) / "traceback.txt"
        assert 'raise ValueError("a trial that raises")' in trace.read_text()
        assert self.tries(misbehaved, 2) == 1

    def test_value_that_is_not_finite_fails(self, told: list[TrialRecord]) -> None:
        assert (told[3].status, told[3].reason) == (Status.FAILED, "objective cost is nan")

    def test_killed_worker_gets_the_same_trial_again(
        self, told: list[TrialRecord], misbehaved: Path
    ) -> None:
        assert told[4].status == Status.COMPLETE and self.tries(misbehaved, 4) == 2

    def test_trial_that_kills_every_worker_is_given_up(
        self, told: list[TrialRecord], misbehaved: Path
    ) -> None:
        assert told[5].status == Status.FAILED and self.tries(misbehaved, 5) == 2
        assert told[5].reason is not None and "(2 times)" in told[5].reason


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_trials_beyond_their_time_limit_fail(tmp_path: Path) -> None:
    spec = fake_spec(TWO, trials=4, trial_timeout=1)
    told = run_fake(spec, tmp_path, Slow(spec))
    assert [record.status for record in told] == ["failed", "failed", "complete", "complete"]
    assert told[0].reason == "ran longer than its limit of 1 s"
    assert told[1].reason == "ran longer than its limit of 1 s and had to be killed"


@pytest.mark.usefixtures("cluster")
def test_interrupt_before_tune_listens_stops_without_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = tune.Tuner.fit
    loose: list[int] = []

    def interrupted(self: tune.Tuner) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        return fit(self)

    monkeypatch.setattr(tune.Tuner, "fit", interrupted)
    # Not handled by anyone, Tune's own signal would end this process.
    before = signal.signal(signal.SIGUSR1, lambda number, frame: loose.append(number))
    try:
        spec = fake_spec(TWO, trials=3)
        driver = StudyDriver(StudyFolder(tmp_path), spec, {"cost": "minimize"}, dict, {})
        RayTuneExecutor().run(driver, Slow(spec))
    finally:
        signal.signal(signal.SIGUSR1, before)
    driver.close()
    assert driver.stopped and not loose
    assert StudyFolder(tmp_path).trials.records() == []


@pytest.mark.usefixtures("cluster")
def test_real_trials_come_out_as_in_this_process(tmp_path: Path) -> None:
    spec = load_spec(
        SPACES / "autopatch.yaml", [*TINY, "study.trials=6", "resources.max_concurrent=2"]
    )
    inputs, folder = load_inputs(spec), StudyFolder(tmp_path)
    session.run(inputs, folder, session.open_driver(inputs, folder), RayTuneExecutor())
    told = folder.trials.records()
    assert [record.number for record in told] == list(range(6))
    assert sum(counts(told).values()) - counts(told)["running"] == 6
    assert all(record.status in ("complete", "infeasible") for record in told)
    done = [record for record in told if record.status == Status.COMPLETE]
    assert len(done) >= 3
    assert (folder.files.path(done[-1].number) / "maps.jpg").read_bytes()[:2] == b"\xff\xd8"
    here = TrialEvaluator(inputs.spec, inputs.runner, inputs.data)
    for record in done[-2:]:
        seed = derived_seed(spec.study.seed, canonical_key(record.canonical))
        outcome = here(Assignment(record.number, record.params, record.canonical, seed))
        assert outcome.values["gflops"] == record.values["gflops"]
        assert outcome.values["rwap"] == pytest.approx(record.values["rwap"], rel=1e-3)


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    code = "from autosearch.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not condition():
        if process.poll() is not None:
            pytest.fail(f"ended with {process.returncode}: {process.communicate()[0]}")
        time.sleep(0.02)


def finished(folder: StudyFolder) -> dict[int, TrialRecord]:
    if not folder.exists():
        return {}
    return {r.number: r for r in folder.trials.records() if r.status != Status.RUNNING}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_search_that_was_stopped_is_resumed_to_its_budget(tmp_path: Path, number: int) -> None:
    folder = StudyFolder(tmp_path / "autopatch")
    settings = [f"--set={setting}" for setting in (*TINY, "resources.max_concurrent=2")]
    process = start("run", "autopatch", *settings, "--trials", "20", "--results", tmp_path)
    wait_until(lambda: len(finished(folder)) >= 3, process)
    # A terminal sends Ctrl-C to every process that the command has started.
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    output = process.communicate(timeout=60)[0]
    before = finished(folder)
    assert 3 <= len(before) < 20
    if number == signal.SIGINT:
        assert process.returncode == 130, output
        assert f"autosearch resume {folder.path}" in output.replace("\n", "")
        assert "Traceback" not in output
    else:
        assert process.returncode == -signal.SIGKILL

    process = start("resume", folder.path, "--executor", "local")
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 0, output
    after = folder.trials.records()
    assert [record.number for record in after] == list(range(20))
    assert counts(after)["running"] == counts(after)["failed"] == 0
    assert sum(counts(after).values()) == 20
    assert all(after[number] == record for number, record in before.items())


@pytest.mark.usefixtures("cluster")
def test_hopeless_trainings_are_stopped_and_told_as_pruned(tmp_path: Path) -> None:
    spec = fake_spec(TWO, trials=16)
    found = run_fake(spec, tmp_path, Training(spec))
    number = counts(found)
    assert number["pruned"] >= 4 and number["complete"] >= 5
    assert number["pruned"] + number["complete"] == 16
    best = min(found, key=lambda record: record.params["x"])
    assert best.status == Status.COMPLETE
    for record in found:
        stopped = record.status == Status.PRUNED
        assert (not record.values) == stopped
        if stopped:
            assert "not among the best so far" in record.reason
            assert record.measured["fraction"] == pytest.approx(record.curve[-1][0])
        else:
            assert [at for at, _ in record.curve] == pytest.approx([1 / 3, 2 / 3])
