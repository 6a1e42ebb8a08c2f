"""Ray clusters of several nodes: data once per node, shares of GPUs, nodes that come and go."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import ray
from ray import cloudpickle, tune
from ray.cluster_utils import Cluster
from ray_parts import fake_spec, run_fake
from tiny import TINY

from autosearch.contracts.trials import Assignment, Outcome, Status
from autosearch.errors import StudyError
from autosearch.spec.sections import StudySpec
from autosearch.storage.folder import StudyFolder
from autosearch.study.summary import counts

# Workers cannot import this module, so what it defines travels to them whole.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

NODE = {
    "num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False,
    "include_log_monitor": False,
}  # fmt: skip


class Marking:
    """An evaluator that leaves a file for everything it does: where, in which process, what.

    Args:
        spec: The study.
        folder: For the files.
    """

    def __init__(self, spec: StudySpec, folder: Path) -> None:
        folder.mkdir()
        self.spec, self.folder = spec, folder
        self.data = np.arange(300_000.0)

    def carried(self) -> Self:
        """Nothing of it lies in a file."""
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.mark("loaded")

    def mark(self, what: str) -> None:
        node = ray.get_runtime_context().get_node_id()
        (self.folder / f"{what} {node} {os.getpid()} {uuid.uuid4().hex}").touch()

    def marks(self, what: str) -> list[tuple[str, str]]:
        """Node and process of every file of a kind."""
        found = [path.name.split() for path in self.folder.iterdir()]
        return [(words[1], words[2]) for words in found if words[0] == what]

    def wait_for(self, what: str, number: int = 1) -> None:
        while len(self.marks(what)) < number:
            time.sleep(0.05)

    def steps(self, assignment: Assignment) -> Iterator[Outcome]:
        self.mark(f"began-{assignment.number}")
        self.work(assignment)
        self.mark(f"ended-{assignment.number}")
        yield Outcome(Status.COMPLETE, {"cost": float(assignment.canonical["x"])})

    def work(self, assignment: Assignment) -> None:
        """What a trial does."""


@pytest.fixture
def short_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """For Ray's files, away from those of other clusters; the paths of its sockets are short."""
    folder = Path(tempfile.mkdtemp(prefix="as-"))
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster with a head of one core; tests add nodes."""
    # Each node would take over the signal, which only the main thread may do.
    monkeypatch.setattr("ray._private.utils.set_sigterm_handler", lambda handler: None)
    made = Cluster(initialize_head=True, head_node_args=dict(NODE))
    yield made
    ray.shutdown()
    made.shutdown()


@contextmanager
def meanwhile(task: Callable[[], None]) -> Iterator[None]:
    """Do something in another thread, which lives as long: Ray ends its nodes with their maker."""
    over = threading.Event()
    thread = threading.Thread(target=lambda: (task(), over.wait()), daemon=True)
    thread.start()
    yield
    over.set()
    thread.join()


class Looking(Marking):
    """Notes whether the data are the node's own copy, which nobody may write to."""

    def work(self, assignment: Assignment) -> None:
        shared = not self.data.flags.owndata and not self.data.flags.writeable
        self.mark("shared" if shared and self.data[-1] == 299_999 else "copied")
        time.sleep(0.2)
        if assignment.number < 2:
            # Until then both nodes are at work.
            self.wait_for(f"began-{1 - assignment.number}")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_data_reach_every_node_once_and_every_process_once(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.add_node(**NODE)
    spec = fake_spec(trials=10)
    evaluator = Looking(spec, tmp_path / "marks")
    put, fit, stored, places = ray.put, tune.Tuner.fit, [], []

    def counted(value: Any) -> Any:
        reference = put(value)
        if isinstance(value, Looking):
            stored.append(reference)
        return reference

    def then_look(self: tune.Tuner) -> Any:
        found = fit(self)
        places.extend(ray.experimental.get_object_locations(stored).values())
        return found

    monkeypatch.setattr(ray, "put", counted)
    monkeypatch.setattr(tune.Tuner, "fit", then_look)
    told = run_fake(spec, tmp_path / "study", evaluator, cluster.address)
    assert counts(told)["complete"] == 10
    assert len(stored) == 1 and places[0]["object_size"] > evaluator.data.nbytes
    assert len(places[0]["node_ids"]) == 2
    # Trials ran on both, none with a copy of its own, and no process read the object twice.
    assert len(evaluator.marks("shared")) == 10 and not evaluator.marks("copied")
    workers, readers = set(evaluator.marks("shared")), evaluator.marks("loaded")
    assert len({node for node, _ in workers}) == 2
    assert len(readers) == len(set(readers)) and workers <= set(readers)
    assert len(workers) < 10


class Sharing(Marking):
    """A trial of which four must be under way at a time, all on one GPU."""

    def work(self, assignment: Assignment) -> None:
        self.mark(f"gpu-{ray.get_gpu_ids()[0]}-{os.environ['CUDA_VISIBLE_DEVICES']}")
        self.mark("together")
        self.wait_for("together", 4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_four_trials_share_a_gpu(tmp_path: Path, cluster: Cluster, full: bool) -> None:
    # Ray believes what it is told of GPUs; nothing here computes on one.
    cluster.add_node(**{**NODE, "num_cpus": 8, "num_gpus": 1})
    for gpu in [0.25, "auto"] if full else [0.25]:
        spec = fake_spec({"gpu": gpu}, trials=4)
        evaluator = Sharing(spec, tmp_path / f"marks-{gpu}")
        told = run_fake(spec, tmp_path / f"study-{gpu}", evaluator, cluster.address)
        assert counts(told)["complete"] == 4
        assert len(evaluator.marks("gpu-0-0")) == 4


class Patient(Marking):
    """Trials on other nodes than the first do not end before one was removed."""

    def __init__(self, spec: StudySpec, folder: Path) -> None:
        super().__init__(spec, folder)
        self.first: str | None = None

    def work(self, assignment: Assignment) -> None:
        here = ray.get_runtime_context().get_node_id()
        if here == self.first:
            time.sleep(0.3)
            if assignment.number >= 8:
                self.wait_for("newcomer")
        elif not self.marks("removed"):
            self.mark("hostage")
            self.wait_for("the end of its node")
        else:
            self.mark("newcomer")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_node_that_is_lost_costs_no_trial_and_one_that_joins_helps(
    tmp_path: Path, cluster: Cluster
) -> None:
    doomed = cluster.add_node(**NODE)
    spec = fake_spec(trials=14, retries=1)
    evaluator = Patient(spec, tmp_path / "marks")
    evaluator.first = cluster.head_node.node_id
    folder, before = StudyFolder(tmp_path / "study"), []

    def disturb() -> None:
        evaluator.wait_for("hostage")
        while counts(folder.trials.records())["complete"] < 3:
            time.sleep(0.1)
        before.append(counts(folder.trials.records()))
        cluster.remove_node(doomed, allow_graceful=False)
        (evaluator.folder / "removed x 0 0").touch()
        cluster.add_node(**NODE)

    with meanwhile(disturb):
        told = run_fake(spec, folder.path, evaluator, cluster.address)
    assert 3 <= before[0]["complete"] < 14 and before[0]["running"] == 2
    assert [record.number for record in told] == list(range(14))
    assert counts(told) == counts([]) | {"complete": 14}
    begun = {n: len(evaluator.marks(f"began-{n}")) for n in range(14)}
    ended = {n: len(evaluator.marks(f"ended-{n}")) for n in range(14)}
    # One was lost with the node, and is the only one that was begun twice.
    assert sorted(begun.values()) == [1] * 13 + [2] and set(ended.values()) == {1}
    assert evaluator.marks("newcomer")


class Elsewhere:
    """An evaluator of a package that nodes with LACKS in their environment have not installed."""

    def __init__(self, inner: Marking) -> None:
        self.inner, self.spec = inner, inner.spec

    def __reduce__(self) -> tuple[Any, ...]:
        return restored, (self.inner,)

    def carried(self) -> Self:
        """Nothing of it lies in a file."""
        return self

    def steps(self, assignment: Assignment) -> Iterator[Outcome]:
        if assignment.number == 3:
            # Otherwise its worker might take over the next trial before the other node fails.
            time.sleep(600)
        return self.inner.steps(assignment)


def restored(inner: Marking) -> Elsewhere:
    if os.environ.get("LACKS"):
        raise ModuleNotFoundError("No module named 'of_the_runner'")
    return Elsewhere(inner)


ABSENT = r"trials cannot run there: .*No module named 'of_the_runner'; install the same packages"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_node_without_a_package_is_named_before_a_trial_is_lost(
    tmp_path: Path, cluster: Cluster
) -> None:
    cluster.add_node(**NODE, env_vars={"LACKS": "1"})
    spec = fake_spec(trials=4)
    evaluator = Elsewhere(Marking(spec, tmp_path / "marks"))
    with pytest.raises(StudyError, match=rf"node [\d.]+: {ABSENT}") as caught:
        run_fake(spec, tmp_path / "study", evaluator, cluster.address)
    assert "\n" not in str(caught.value)
    assert StudyFolder(tmp_path / "study").trials.records() == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_node_without_a_package_that_joins_later_ends_the_search(
    tmp_path: Path, cluster: Cluster
) -> None:
    spec = fake_spec(trials=20)
    evaluator = Elsewhere(Marking(spec, tmp_path / "marks"))

    def disturb() -> None:
        evaluator.inner.wait_for("ended-2")
        cluster.add_node(**NODE, env_vars={"LACKS": "1"})

    with meanwhile(disturb), pytest.raises(StudyError, match=ABSENT):
        run_fake(spec, tmp_path / "study", evaluator, cluster.address)
    number = counts(StudyFolder(tmp_path / "study").trials.records())
    assert number == counts([]) | {"complete": 3, "running": 2}


def ray_start(*arguments: str) -> subprocess.Popen[bytes]:
    """A node as a person starts it, but in the foreground."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
    return subprocess.Popen(
        [*command, "--object-store-memory=80000000", "--disable-usage-stats",
         "--include-log-monitor=false", *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_command_joins_nodes_started_as_processes_and_survives_the_loss_of_one(
    tmp_path: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (short_folder / "token").write_text(secrets.token_hex(32))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(short_folder / "token"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    head = ray_start(
        "--head", f"--port={address.split(':')[1]}", "--node-ip-address=127.0.0.1",
        f"--temp-dir={short_folder}/ray", "--include-dashboard=false",
    )  # fmt: skip
    nodes = [head]
    folder = StudyFolder(tmp_path / "results" / "autopatch")
    try:
        wait_for_port(address)
        nodes.append(ray_start(f"--address={address}", "--node-ip-address=127.0.0.1"))
        settings = [f"--set={setting}" for setting in TINY]
        process = subprocess.Popen(
            [sys.executable, "-c", "from autosearch.cli import main; main()", "run", "autopatch",
             *settings, "--trials=12", "--address", address],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        while not folder.exists() or counts(folder.trials.records())["complete"] < 3:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.2)
        before = counts(folder.trials.records())
        os.killpg(nodes[1].pid, signal.SIGKILL)
        output = process.communicate()[0]
        assert process.returncode == 0, output
    finally:
        for node in nodes:
            os.killpg(node.pid, signal.SIGTERM)
            node.wait()
    told = folder.trials.records()
    assert 3 <= before["complete"] < 12
    assert [record.number for record in told] == list(range(12))
    assert counts(told)["running"] == counts(told)["failed"] == 0
    assert "Traceback" not in output


def wait_for_port(address: str) -> None:
    host, port = address.split(":")
    while True:
        try:
            socket.create_connection((host, int(port))).close()
            return
        except OSError:
            time.sleep(0.2)
