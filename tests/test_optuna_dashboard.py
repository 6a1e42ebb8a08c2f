"""A study's journal opens in optuna-dashboard, started as its users start it."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from autosearch.contracts.trials import SCORED, Status
from autosearch.storage.folder import StudyFolder
from autosearch.storage.optuna_study import STUDY
from autosearch.study.summary import front


@pytest.fixture(scope="module")
def folder(
    make_study: Callable[..., StudyFolder], tmp_path_factory: pytest.TempPathFactory
) -> StudyFolder:
    """A study with trials of every status, the last of them still running."""
    made = make_study(tmp_path_factory.mktemp("results") / "opened", 25)
    running = optuna.load_study(study_name=STUDY, storage=made.trials.storage()).ask()
    running.suggest_categorical("width", [1.0, 1.2])
    return made


@pytest.fixture(scope="module")
def api(folder: StudyFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the interface of an optuna-dashboard that shows the study."""
    program = Path(sys.executable).with_name("optuna-dashboard")
    if not program.is_file():
        pytest.skip(f"no optuna-dashboard beside {sys.executable}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("log") / "log.txt"
    options = ["--storage-class", "JournalFileStorage", "--port", str(port)]
    with log.open("wb") as out:
        server = subprocess.Popen([program, *options, folder.journal_path], stdout=out, stderr=out)
    try:
        address = f"http://127.0.0.1:{port}/api"
        _wait_for(f"{address}/studies", server, log)
        yield address
    finally:
        server.terminate()
        server.wait(10)


def test_the_study_is_listed_with_its_directions(api: str) -> None:
    (study,) = _ask(f"{api}/studies")["study_summaries"]
    assert study["study_name"] == STUDY
    assert study["directions"] == ["minimize", "maximize"]


def test_values_parameters_and_attributes_of_every_trial_are_shown(
    api: str, folder: StudyFolder
) -> None:
    shown = _ask(f"{api}/studies/0?after=0")
    records = folder.trials.records()
    assert {record.status for record in records} == set(Status)
    assert [trial["number"] for trial in shown["trials"]] == list(range(len(records)))
    for trial, record in zip(shown["trials"], records, strict=True):
        drawn = {p["name"]: p["param_external_value"] for p in trial["params"]}
        assert drawn == {name: str(value) for name, value in record.params.items()}
        assert trial.get("values") == (list(record.values.values()) or None)
        attributes = {a["key"]: a["value"] for a in trial["user_attrs"]}
        assert attributes.get("status", "running") == record.status
        for name, value in record.measured.items():
            assert float(attributes[name]) == value


def test_objectives_have_names_and_the_front_is_the_same(api: str, folder: StudyFolder) -> None:
    shown = _ask(f"{api}/studies/0?after=0")
    assert shown["objective_names"] == ["gflops", "rwap"]
    ours = front(folder.trials.records(), {"gflops": "minimize", "rwap": "maximize"})
    copies = {r.number for r in folder.trials.records() if r.status in SCORED - {Status.COMPLETE}}
    best = {trial["number"] for trial in shown["best_trials"]}
    assert best - copies == {record.number for record in ours} - copies


def test_looking_does_not_change_the_journal(api: str, folder: StudyFolder) -> None:
    before = folder.journal_path.read_bytes()
    _ask(f"{api}/studies/0?after=0")
    assert folder.journal_path.read_bytes() == before


def _ask(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return json.load(answer)


def _wait_for(address: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            _ask(address)
            return
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
