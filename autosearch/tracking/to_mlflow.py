"""MLflow: one run a trial under one parent run for the study.

Heads that share a study may each make a parent before they see the other's, and MLflow has nothing
by which one alone could be made. They agree afterwards: whoever opens or closes the study looks
for parents, keeps the one that began first, and moves the trials of others to it.

Runs are in the experiment that ``MLFLOW_EXPERIMENT_NAME`` names, else in ``autosearch``. User,
password and token come from MLflow's own environment variables.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from autosearch.contracts import SCORED, Status
from autosearch.tracking.content import StudyContent, TrialContent, tag, text_of

EXPERIMENT = "autosearch"

_STUDY, _TRIAL, _PARENT = "autosearch.study", "autosearch.trial", "mlflow.parentRunId"
_ENDED = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_LONGEST_PARAMETER, _LONGEST_TAG = 6000, 5000
_MOST_METRICS, _MOST_OTHERS = 1000, 100
"""Limits of MLflow's interface: signs of a value, and entries of one call."""

_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""By default it says after minutes that nobody is there, tells its makers of its users, and prints
into the progress of a search."""

_Entry = TypeVar("_Entry")


class MlflowTracker:
    """Sends trials to a server of MLflow, or into its database or folder.

    Args:
        uri: Address, as MLflow understands it.
        artifacts: Where files go if the address has no place of its own for them.
    """

    name = "mlflow"

    def __init__(self, uri: str, artifacts: Path | None = None) -> None:
        self.to, self._artifacts = uri, artifacts
        self._runs: dict[str, Any] = {}
        self._experiment = self._parent = ""

    def open(self, study: StudyContent) -> None:
        """See `Tracker`."""
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        self._client = MlflowClient(tracking_uri=self.to)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        try:
            known = self._client.get_experiment_by_name(name)
        except MlflowException as error:
            if "failed with exception" in str(error):
                raise ConnectionError("nobody answers there") from error
            raise
        place = self._artifacts.as_uri() if self._artifacts else None
        self._experiment = (
            known.experiment_id if known else self._client.create_experiment(name, place)
        )
        if self._settle(study):
            self._client.update_run(self._parent, "RUNNING")
            return
        made = self._client.create_run(
            self._experiment, tags=_tags(study.tags), run_name=study.name
        )
        self._parent = made.info.run_id
        self._log(self._parent, study.params, [])
        self._settle(study)

    def send(self, trial: TrialContent) -> str:
        """See `Tracker`."""
        number = str(trial.number)
        if (there := self._runs.get(number)) is not None:
            if there.info.status != "RUNNING":
                return str(there.info.run_id)
            self._client.delete_run(there.info.run_id)  # Somebody stopped in the middle of it.
            del self._runs[number]
        ended = int(time.time() * 1000)
        tags = {**_tags(trial.tags), _TRIAL: number, _PARENT: self._parent}
        made = self._client.create_run(
            self._experiment, ended - int(1000 * trial.seconds), tags, trial.name
        )
        self._runs[number] = made
        run = made.info.run_id
        self._log(run, trial.params, list(_metrics(trial, ended)))
        self._files(run, trial.files)
        self._client.set_terminated(run, _state(trial.status), ended)
        self._runs[number] = self._client.get_run(run)
        return str(run)

    def close(self, study: StudyContent, status: str) -> None:
        """See `Tracker`."""
        self._settle(study)
        now = int(time.time() * 1000)
        values = [_metric(name, value, now, 0) for name, value in study.values.items()]
        self._log(self._parent, {}, values)
        self._files(self._parent, study.files)
        self._client.set_terminated(self._parent, _ENDED[status])

    def _settle(self, study: StudyContent) -> bool:
        """Look at what is there, and leave the study one parent; whether it has one."""
        found = list(self._found(study.id))
        trials = [run for run in found if _TRIAL in run.data.tags]
        self._runs = {run.data.tags[_TRIAL]: run for run in trials}
        # The same order for all heads, whenever they look.
        parents = sorted(
            (run.info.start_time, run.info.run_id) for run in found if _TRIAL not in run.data.tags
        )
        if not parents:
            return False
        (_, self._parent), *others = parents
        for run in trials:
            if run.data.tags.get(_PARENT) != self._parent:
                self._client.set_tag(run.info.run_id, _PARENT, self._parent)
        for _, other in others:
            self._client.delete_run(other)
        return True

    def _found(self, study: str) -> Iterator[Any]:
        """Runs of a study that are there, and not deleted."""
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment], f"tags.`{_STUDY}` = '{study}'", max_results=1000,
                page_token=token,
            )  # fmt: skip
            yield from page
            if not (token := page.token):
                return

    def _log(self, run: str, params: Mapping[str, Any], metrics: Sequence[Any]) -> None:
        from mlflow.entities import Param

        named = [
            Param(tag(name), text_of(value)[:_LONGEST_PARAMETER]) for name, value in params.items()
        ]
        for some in _chunks(named, _MOST_OTHERS):
            self._client.log_batch(run, params=some)
        for some in _chunks(metrics, _MOST_METRICS):
            self._client.log_batch(run, metrics=some)

    def _files(self, run: str, files: Mapping[str, bytes]) -> None:
        if not files:
            return
        with tempfile.TemporaryDirectory(prefix="autosearch-mlflow-") as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            self._client.log_artifacts(run, folder)


def _metric(name: str, value: float, now: int, step: int) -> Any:
    from mlflow.entities import Metric

    return Metric(tag(name), value, now, step)


def _metrics(trial: TrialContent, now: int) -> Iterator[Any]:
    for name, value in trial.values.items():
        yield _metric(name, value, now, 0)
    for curve in trial.curves:
        for name, steps in curve.series.items():
            for step, value in steps:
                yield _metric(f"{curve.group}/{name}", value, now, step)


def _state(status: Status) -> str:
    """MLflow's word: what has values is finished, what was given up early is killed."""
    if status in SCORED:
        return "FINISHED"
    return "FAILED" if status == Status.FAILED else "KILLED"


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: value[:_LONGEST_TAG] for name, value in tags.items()}


def _chunks(entries: Sequence[_Entry], most: int) -> Iterator[Sequence[_Entry]]:
    for start in range(0, len(entries), most):
        yield entries[start : start + most]
