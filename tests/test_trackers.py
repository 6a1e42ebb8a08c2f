"""The trackers themselves, read back as their own programs read them."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tracking_parts import LOSS, finished, wandb_records

from autosearch.tracking.content import Contents
from autosearch.tracking.rest import send_rest
from autosearch.tracking.to_mlflow import MlflowTracker
from autosearch.tracking.to_tensorboard import TensorboardTracker


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    folder = finished(tmp_path / "fake")
    assert send_rest(folder, [TensorboardTracker(str(tmp_path / "tb"))]) == {"tensorboard": 3}
    (folder.path / "tracking.jsonl").rename(tmp_path / "kept")
    text = (tmp_path / "kept").read_text().splitlines()[0]
    (folder.path / "tracking.jsonl").write_text(text + "\n")  # As if nothing had arrived.
    send_rest(folder, [TensorboardTracker(str(tmp_path / "tb"))])
    (place,) = (tmp_path / "tb").glob("fake-*")
    assert sorted(path.name for path in place.glob("trial-*")) == [
        "trial-0000", "trial-0001", "trial-0002"
    ]  # fmt: skip
    read = event_accumulator.EventAccumulator(str(place / "trial-0000"))
    read.Reload()
    tags = read.Tags()
    record = folder.trials.records()[0]
    cost = [(event.step, event.value) for event in read.Scalars("cost")]
    assert cost == [(0, pytest.approx(record.values["cost"]))]
    loss = [(event.step, event.value) for event in read.Scalars("loss/l2")]
    assert loss == [(1, LOSS[0]), (2, LOSS[1]), (4, LOSS[3])]
    (image,) = read.Images("maps.png")
    assert (image.height, image.width) == (4, 6)
    assert "about/text_summary" in tags["tensors"]
    from tensorboard.plugins.hparams import plugin_data_pb2

    data = read.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    found = plugin_data_pb2.HParamsPluginData.FromString(data).session_start_info.hparams
    assert found["x"].number_value == record.params["x"]
    kind = record.params["kind"]
    assert found["kind"].string_value == ("null" if kind is None else kind)


@pytest.mark.slow
def test_wandb_keeps_runs_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    folder = finished(tmp_path / "fake")
    script = (
        "import sys; from pathlib import Path; from autosearch.storage import StudyFolder;"
        "from autosearch.tracking.rest import send_rest;"
        "from autosearch.tracking.to_wandb import WandbTracker;"
        "folder = StudyFolder.open(Path(sys.argv[1]));"
        "print(send_rest(folder, [WandbTracker('me/mine', folder.path)]))"
    )
    # In a process of its own: W&B's settings are those of the process.
    set_apart = {"WANDB_MODE": "offline", "HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder.path)],
        env=set_apart, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "{'wandb': 3}\n", done.stderr
    runs = {path.stem: list(wandb_records(path)) for path in folder.path.rglob("*.wandb")}
    assert len(runs) == 4
    by_name = {_run(records).display_name: records for records in runs.values()}
    assert set(by_name) == {"fake", "trial 0", "trial 1", "trial 2"}
    trial, record = by_name["trial 0"], folder.trials.records()[0]
    run = _run(trial)
    assert (run.project, run.entity, run.job_type) == ("mine", "me", "trial")
    assert run.run_group.startswith("fake-") and not run.HasField("git")
    config = {update.key: update.value_json for update in run.config.update}
    assert config["x"] == str(record.params["x"]) and "d" * 64 in config["autosearch"]
    rows = [
        {item.key or item.nested_key[0]: item.value_json for item in entry.history.item}
        for entry in trial
        if entry.WhichOneof("record_type") == "history"
    ]
    loss = [(row["loss/epoch"], row["loss/l2"]) for row in rows if "loss/l2" in row]
    assert loss == [("1", "0.5"), ("2", "0.25"), ("4", "0.125")]
    assert len(list(folder.path.rglob("files/media/images/*.png"))) == 2
    exits = {name: _exit(records) for name, records in by_name.items()}
    assert exits == {"fake": 0, "trial 0": 0, "trial 1": 1, "trial 2": 0}


def _run(records: list[Any]) -> Any:
    return next(one.run for one in records if one.WhichOneof("record_type") == "run")


def _exit(records: list[Any]) -> int:
    return next(one.exit.exit_code for one in records if one.WhichOneof("record_type") == "exit")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server of MLflow, with its database and its artifacts."""
    pytest.importorskip("flask_cors", reason="a server needs the package mlflow")
    place = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--backend-store-uri", f"sqlite:///{place}/mlflow.db", "--workers", "1",
        "--artifacts-destination", str(place / "artifacts"),
    ]  # fmt: skip
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (place / "server.log").open("w") as log:
        started = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 100
        while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
            assert started.poll() is None and time.monotonic() < deadline, (
                place / "server.log"
            ).read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(started.pid, 15)
        started.wait(20)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_mlflow_has_one_run_a_trial_under_one_for_the_study(server: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    folder = finished(tmp_path / "fake")
    assert send_rest(folder, [MlflowTracker(server)]) == {"mlflow": 3}
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("autosearch").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert set(runs) == {"fake", "trial 0", "trial 1", "trial 2"}
    parent, trial, record = runs["fake"], runs["trial 0"], folder.trials.records()[0]
    for number in range(3):
        assert runs[f"trial {number}"].data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert [runs[f"trial {n}"].info.status for n in range(3)] == ["FINISHED", "FAILED", "FINISHED"]
    assert trial.data.params["x"] == str(record.params["x"])
    assert trial.data.metrics["cost"] == record.values["cost"]
    tags = trial.data.tags
    assert tags["data_sha256"] == "d" * 64 and tags["weights_sha256.net_1"] == "e" * 64
    assert not [name for name in tags if "git" in name]
    loss = client.get_metric_history(trial.info.run_id, "loss/l2")
    assert sorted((one.step, one.value) for one in loss) == [(1, 0.5), (2, 0.25), (4, 0.125)]
    shown = {file.path for file in client.list_artifacts(trial.info.run_id)}
    assert shown == {"maps.png", "curves.json"}
    path = client.download_artifacts(trial.info.run_id, "maps.png", str(tmp_path))
    assert Path(path).read_bytes() == (folder.files.path(0) / "maps.png").read_bytes()
    assert parent.info.status == "FINISHED" and parent.data.metrics["trials/complete"] == 2
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == {
        "spec.yaml", "meta.json", "pareto.csv"
    }  # fmt: skip
    # Nothing is there twice, even if what was noted of it is lost, or a run was left half sent.
    lines = (folder.path / "tracking.jsonl").read_text().splitlines()
    (folder.path / "tracking.jsonl").write_text(lines[0] + "\n")
    client.update_run(runs["trial 2"].info.run_id, "RUNNING")
    assert send_rest(folder, [MlflowTracker(server)]) == {"mlflow": 3}
    again = {run.info.run_name: run.info.run_id for run in client.search_runs([experiment])}
    assert len(client.search_runs([experiment])) == 4
    before = {name: run.info.run_id for name, run in runs.items()}
    assert {name for name in again if again[name] != before[name]} == {"trial 2"}


class Page(list[Any]):
    """What a search of MLflow's gives."""

    token = None


class Client:
    """MLflow's, of runs that several have in common.

    Args:
        runs: By name; what is deleted is not among them.
        clock: When its runs begin.
        blind: How many of its first searches come too early to find anything.
    """

    def __init__(self, runs: dict[str, Any], clock: int, blind: int) -> None:
        self.runs, self.clock, self.blind = runs, clock, blind

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=name)

    def search_runs(self, *_: Any, **__: Any) -> Page:
        self.blind -= 1
        return Page(() if self.blind >= 0 else self.runs.values())

    def create_run(
        self, place: str, start_time: int | None = None, tags: Any = None, run_name: str = ""
    ) -> Any:
        info = SimpleNamespace(
            run_id=f"{run_name} {len(self.runs)} {self.clock}", run_name=run_name,
            start_time=start_time or self.clock, status="RUNNING",
        )  # fmt: skip
        made = SimpleNamespace(info=info, data=SimpleNamespace(tags=dict(tags)))
        self.runs[info.run_id] = made
        return made

    def get_run(self, run: str) -> Any:
        return self.runs[run]

    def delete_run(self, run: str) -> None:
        self.runs.pop(run, None)

    def set_tag(self, run: str, name: str, value: str) -> None:
        self.runs[run].data.tags[name] = value

    def update_run(self, run: str, status: str) -> None:
        self.runs[run].info.status = status

    def set_terminated(self, run: str, status: str, ended: int | None = None) -> None:
        self.update_run(run, status)

    def log_batch(self, run: str, *_: Any, **__: Any) -> None:
        assert run in self.runs

    log_artifacts = log_batch


@pytest.mark.parametrize("blind", [0, 1, 2])
@pytest.mark.parametrize("clocks", [(1, 2), (2, 1)])
def test_mlflow_has_one_study_of_two_heads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clocks: tuple[int, int], blind: int
) -> None:
    folder, runs = finished(tmp_path / "fake"), {}
    clients = {
        "first": Client(runs, clocks[0], 0), "second": Client(runs, clocks[1], blind)
    }  # fmt: skip
    parts = {
        "mlflow": {"MlflowClient": lambda tracking_uri: clients[tracking_uri]},
        "mlflow.exceptions": {"MlflowException": OSError},
        "mlflow.entities": {"Param": lambda *values: values, "Metric": lambda *values: values},
    }
    for name, content in parts.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**content))
    its = Contents(folder, "id")
    first, second = MlflowTracker("first"), MlflowTracker("second")
    # With `blind` the second one looks before the first one has made its parent.
    for one in (first, second):
        one.open(its.study())
    records = folder.trials.records()
    for one, record in ((first, records[0]), (second, records[1])):
        one.send(its.trial(record))
    second.close(its.study(), "finished")
    # Its parent may be gone by now, and its trials are not.
    first.send(its.trial(records[2]))
    first.close(its.study(), "finished")
    (parent,) = (run.info.run_id for run in runs.values() if run.info.run_name == "fake")
    trials = [run for run in runs.values() if run.info.run_name != "fake"]
    assert len(trials) == 3
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent}
    assert runs[parent].info.status == "FINISHED"


@pytest.mark.slow
def test_nobody_there_is_said_in_few_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    folder = finished(tmp_path / "fake")
    with pytest.raises(ConnectionError, match=r"^nobody answers there$"):
        MlflowTracker("http://127.0.0.1:9").open(Contents(folder, "id").study())
