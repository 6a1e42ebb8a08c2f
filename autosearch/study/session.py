"""One run of a search over its inputs: open the study, hand it to an executor, keep the front."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Protocol

from autosearch.contracts import TrialRecord
from autosearch.files import write_atomic
from autosearch.storage import StudyFolder, StudyLog, files_of, silent
from autosearch.study.driver import StudyDriver
from autosearch.study.earlier import first_trials
from autosearch.study.evaluation import TrialEvaluator
from autosearch.study.hub import check_hub_sampler
from autosearch.study.inputs import Inputs
from autosearch.study.room import Room
from autosearch.study.same_data import check_data
from autosearch.study.summary import front, front_csv
from autosearch.study.windows import first_windows
from autosearch.study.work import Driver, Evaluator


class Executor(Protocol):
    """Carries configurations from a driver to workers and outcomes back."""

    def run(self, driver: Driver, evaluator: Evaluator) -> None:
        """Evaluate until the driver has no more to hand out or is stopped.

        SIGINT and SIGTERM stop it at once; trials then out stay with the driver, to be given back
        by `StudyDriver.close`.
        """


def open_driver(
    inputs: Inputs,
    folder: StudyFolder,
    listener: Callable[[TrialRecord], None] | None = None,
    log: StudyLog | None = None,
    told: Callable[[TrialRecord], None] = lambda record: None,
) -> StudyDriver:
    """Create the study or continue it, and write its spec and its meta data."""
    check_hub_sampler(inputs.spec, list(inputs.directions.values()))
    resumed, spec = folder.exists(), inputs.spec.study
    guard = inputs.guard()
    windows = None if resumed else first_windows(inputs)
    first = cache(partial(first_trials, inputs, windows.configurations if windows else ()))
    if resumed:
        check_data(folder, inputs.data)
    elif folder.database is None:
        first()  # Refused before anything is written.
    driver = StudyDriver(
        folder,
        inputs.spec,
        inputs.directions,
        inputs.runner.canonical,
        guard,
        listener,
        log.note if log else silent,
        inputs.cumulative,
        first,
        inputs.post_of,
        told,
    )
    aligned = folder.load_meta().get("alignment") if resumed else windows and windows.text
    meta = inputs.meta() | {"memory": inputs.memory(), "alignment": aligned}
    folder.write_spec(inputs.spec)
    folder.write_files(meta["data"]["sha256"], files_of(inputs.data.files))
    folder.write_meta(meta)
    if log is not None:
        versions = {"autosearch": meta["autosearch"], **meta["packages"]}
        its = {"study": spec.name, "runner": spec.runner, "seed": spec.seed, "trials": spec.trials}
        done = driver.summary().finished
        log.begin(**its, objectives=inputs.directions, resumed=resumed, told=done,
                  versions=versions)  # fmt: skip
    return driver


def run(inputs: Inputs, folder: StudyFolder, driver: StudyDriver, executor: Executor) -> None:
    """Search until the budget is met or somebody stops it; give back what is unfinished."""
    memory = inputs.spec.resources.memory
    room = Room(secrets.token_hex(8), None if memory == "auto" else memory)
    evaluator = TrialEvaluator(inputs.spec, inputs.runner, inputs.data, inputs.others, room)
    try:
        executor.run(driver, evaluator)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        driver.note("search failed", logging.ERROR, reason=reason)
        raise
    finally:
        room.clear()
        driver.close()
        write_front(folder, inputs.directions)


def write_front(folder: StudyFolder, directions: Mapping[str, str]) -> None:
    """Write ``pareto.csv``."""
    write_atomic(folder.path / "pareto.csv", front_csv(front(folder.trials.records(), directions)))
