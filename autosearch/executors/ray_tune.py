"""Trials as Ray Tune trials: a thin searcher around our driver, and workers that keep its data.

Ray Tune schedules, Optuna proposes, and neither knows the other: Tune's own Optuna adapter leaves
trials without a final state when a value is not finite or a run ends early, and cannot carry
reasons, constraints or artifacts.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from autosearch.contracts import Outcome, Status
from autosearch.errors import ConfigError, StudyError
from autosearch.executors.address import VARIABLE as CLUSTER, chosen_address
from autosearch.executors.ray_cluster import (
    check_nodes,
    joining,
    missing_package,
    share,
    short_folder,
    spread,
)
from autosearch.executors.ray_start import lean, worker_environment
from autosearch.executors.signals import stopping_on_signals
from autosearch.executors.worker import GRACE_SECONDS, Worker
from autosearch.study import Driver, Evaluator

_SETTINGS = {
    # Our journal holds the results, so Tune's own copies of them would only cost time.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # Interrupts are ours: an interrupted trial is taken up again, so nobody waits for it.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # How many trials may wait for a worker is the searcher's to say.
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",
}


_log = logging.getLogger(__name__)


class RaySearcher(Searcher):  # type: ignore[misc]
    """Hands a driver's assignments to Ray Tune and Tune's results back to the driver."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(metric=None, mode=None)
        self.driver = driver
        self._limit = driver.spec.study.trial_timeout
        self._out: dict[str, tuple[int, float]] = {}
        self.slots: Callable[[], int] = lambda: 1
        self.stopped: dict[str, Outcome] = {}
        self.problem: StudyError | None = None

    def end(self, problem: StudyError) -> None:
        """End Tune's loop, and leave the problem to whoever runs the search.

        Tune would take an error that is raised in here for one of the trial's.
        """
        self.problem = self.problem or problem
        self.driver.stop()
        signal.raise_signal(signal.SIGUSR1)

    def number_of(self, trial_id: str) -> int | None:
        """The study's number of one of Tune's trials, if it is out."""
        return self._out[trial_id][0] if trial_id in self._out else None

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next assignment; None if there is none for the moment."""
        finished: str = Searcher.FINISHED
        if self._out and len(self._out) >= self.slots():
            return None
        try:
            assignment = self.driver.ask()
            if assignment is not None:
                self._out[trial_id] = (assignment.number, time.monotonic())
                return {"assignment": assignment}
            return finished if self.driver.finished else None
        except StudyError as problem:
            self.end(problem)
            return None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the driver; a trial without an outcome has lost its worker."""
        try:
            if trial_id in self._out:
                self._tell(trial_id, result, error)
        except StudyError as problem:
            self.end(problem)

    def _tell(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> None:
        number, start = self._out.pop(trial_id)
        if (outcome := self.stopped.pop(trial_id, None)) is not None:
            self.driver.tell(number, outcome)
        elif result and "outcome" in result and not error:
            self.driver.tell(number, result["outcome"])
        elif self._limit and time.monotonic() - start >= self._limit + GRACE_SECONDS:
            reason = f"ran longer than its limit of {self._limit:g} s and had to be killed"
            self.driver.tell(number, Outcome(Status.FAILED, reason=reason))
        elif not self.driver.stopped:
            self.driver.lost(number, "its worker process died (killed, or out of memory)")

    def lose_all(self) -> bool:
        """Hand out again what was out when memory ran short; whether there was anything."""
        lost, self._out = self._out, {}
        self.stopped.clear()
        for number, _ in lost.values():
            self.driver.lost(number, "a worker process was killed, since memory ran short")
        return bool(lost)

    def set_search_properties(self, *args: Any, **kwargs: Any) -> bool:
        """Tune's own metric and space are not used."""
        return True

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its configuration, to restore it some day; our studies never are."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study on disk is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class RayScheduler(FIFOScheduler):  # type: ignore[misc]
    """Asks the driver whether a trial that reports while it trains is worth finishing."""

    def __init__(self, driver: Driver, searcher: RaySearcher) -> None:
        super().__init__()
        self._driver, self._searcher = driver, searcher

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stop a trial, after which Tune tells the searcher that it is complete."""
        number = self._searcher.number_of(trial.trial_id)
        outcome = None
        if number is not None and "progress" in result and not self._driver.stopped:
            try:
                outcome = self._driver.report(number, result["progress"])
            except StudyError as problem:
                self._searcher.end(problem)
        if outcome is None:
            return str(TrialScheduler.CONTINUE)
        self._searcher.stopped[trial.trial_id] = outcome
        return str(TrialScheduler.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """End the search where a worker cannot even start; no other trial would fare better."""
        with suppress(OSError, TypeError):  # Of some errors Tune keeps no text.
            if problem := missing_package(Path(trial.error_file).read_text(encoding="utf-8")):
                self._searcher.end(problem)

    def __getstate__(self) -> dict[str, Any]:
        """As with the searcher."""
        return {}


class RayTuneExecutor:
    """Evaluates in Ray Tune trials, on this machine or on a cluster.

    Args:
        address: Of a running Ray cluster that this machine is a node of, ``host:port`` or
            ``auto``; None takes the one that ``RAY_ADDRESS`` names, or starts one on this machine.

    Raises:
        ConfigError: The address is of another kind.
    """

    def __init__(self, address: str | None = None) -> None:
        self._address, self._key = chosen_address(address)

    def run(self, driver: Driver, evaluator: Evaluator) -> None:
        """See `Executor.run`.

        Raises:
            ConfigError: It is not the main thread, the only one that can be told to stop.
        """
        if threading.current_thread() is not threading.main_thread():
            raise ConfigError("executor", "ray", "local, outside of the main thread")
        scratch = tempfile.TemporaryDirectory(prefix="autosearch-tune-")
        searcher, fewer = RaySearcher(driver), 0
        # Ray must not be interrupted while it starts: it would bring down the process.
        with _our_settings(), _stopping_tune(driver), scratch as folder:
            while True:
                try:
                    with self._ray():
                        self._fit(evaluator, searcher, folder, fewer)
                    return
                except SystemExit:
                    if not driver.stopped:
                        raise
                    return  # Stopped while Ray started.
                except Exception as error:
                    # Ray ends a process before memory runs out, and with it Tune's whole run.
                    if not _is_memory_short(error) or not searcher.lose_all():
                        raise
                    fewer += 1

    @contextmanager
    def _ray(self) -> Iterator[None]:
        if ray.is_initialized():
            yield
            return
        if self._key == CLUSTER:
            _log.warning("joining the Ray cluster %s, as %s says", self._address, self._key)
        own = self._address is None
        with short_folder() if own else nullcontext() as folder:
            leaner = lean() if own else nullcontext()
            with worker_environment(own), leaner, joining(self._address, self._key):
                ray.init(
                    address=self._address or "local",
                    include_dashboard=False if own else None,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    _temp_dir=folder,
                )
            try:
                yield
            finally:
                ray.shutdown()

    def _fit(self, evaluator: Evaluator, searcher: RaySearcher, folder: str, fewer: int) -> None:
        """Run Tune once, with so many trials fewer at a time than there is room for."""
        driver = searcher.driver
        demand, slots = share(driver.spec.resources)
        searcher.slots = lambda: max(1, slots() - fewer)
        # Other machines do not see the file in which pictures lie on this one.
        elsewhere = self._address is not None or spread()
        evaluator_there = ray.put(evaluator.carried() if elsewhere else evaluator)
        if elsewhere:
            check_nodes(evaluator_there)
        trainable = tune.with_parameters(Worker, shared=[evaluator_there])
        tuner = tune.Tuner(
            tune.with_resources(trainable, demand),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=RayScheduler(driver, searcher),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                verbose=0,
                storage_path=folder,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        tuner.fit()
        if searcher.problem is not None:
            raise searcher.problem


@contextmanager
def _our_settings() -> Iterator[None]:
    """Set up Tune for us, and leave it to whoever else uses it in this process as it was."""
    log = logging.getLogger("ray.tune")
    level = log.level
    before = {name: os.environ.get(name) for name in _SETTINGS}
    log.setLevel(logging.CRITICAL)
    os.environ.update(_SETTINGS)
    try:
        yield
    finally:
        log.setLevel(level)
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})


@contextmanager
def _stopping_tune(driver: Driver) -> Iterator[None]:
    """Let an interrupt stop the driver, and Tune if it is running already."""

    def stop() -> None:
        driver.stop()
        # Tune ends its loop on this signal; the loop may be in the middle of a write.
        signal.raise_signal(signal.SIGUSR1)

    # Until Tune listens to the signal, it would end the process.
    before = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    try:
        with stopping_on_signals(stop):
            yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def _is_memory_short(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, is Ray's answer to a lack of memory."""
    while error is not None and not isinstance(error, ray.exceptions.OutOfMemoryError):
        error = error.__cause__ or error.__context__
    return error is not None
