"""One run of a search over its inputs: open the study, hand it to an executor, keep the front."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from autosearch.contracts import TrialRecord
from autosearch.files import write_atomic
from autosearch.storage import StudyFolder, StudyLog, silent
from autosearch.study.driver import StudyDriver
from autosearch.study.evaluation import TrialEvaluator
from autosearch.study.inputs import Inputs
from autosearch.study.summary import front, front_csv


class Executor(Protocol):
    """Carries configurations from a driver to workers and outcomes back."""

    def run(self, driver: StudyDriver, evaluator: TrialEvaluator) -> None:
        """Evaluate until the driver has no more to hand out or is stopped.

        SIGINT and SIGTERM stop it at once; trials then out stay with the driver, to be given back
        by `StudyDriver.close`.
        """


def open_driver(
    inputs: Inputs,
    folder: StudyFolder,
    listener: Callable[[TrialRecord], None] | None = None,
    log: StudyLog | None = None,
) -> StudyDriver:
    """Create the study or continue it, and write its spec and its meta data."""
    resumed, spec = folder.exists(), inputs.spec.study
    guard = inputs.guard()
    if folder.database is not None:
        # Whoever joins brings a spec of his own; with another seed, equal trials would differ.
        guard["seed"] = inputs.spec.study.seed
    driver = StudyDriver(
        folder,
        inputs.spec,
        inputs.directions,
        inputs.runner.canonical,
        guard,
        listener,
        log.note if log else silent,
        inputs.cumulative,
    )
    meta = inputs.meta()
    folder.write_spec(inputs.spec)
    folder.write_meta(meta)
    if log is not None:
        versions = {"autosearch": meta["autosearch"], **meta["packages"]}
        its = {"study": spec.name, "runner": spec.runner, "seed": spec.seed, "trials": spec.trials}
        told = driver.summary().finished
        log.begin(**its, objectives=inputs.directions, resumed=resumed, told=told,
                  versions=versions)  # fmt: skip
    return driver


def run(inputs: Inputs, folder: StudyFolder, driver: StudyDriver, executor: Executor) -> None:
    """Search until the budget is met or somebody stops it; give back what is unfinished."""
    try:
        executor.run(
            driver, TrialEvaluator(inputs.spec, inputs.runner, inputs.data, inputs.others)
        )
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        driver.note("search failed", logging.ERROR, reason=reason)
        raise
    finally:
        driver.close()
        write_front(folder, inputs.directions)


def write_front(folder: StudyFolder, directions: Mapping[str, str]) -> None:
    """Write ``pareto.csv``."""
    write_atomic(folder.path / "pareto.csv", front_csv(front(folder.trials.records(), directions)))
