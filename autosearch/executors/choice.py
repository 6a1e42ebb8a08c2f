"""Executors by name."""

from __future__ import annotations

import threading
from collections.abc import Callable

from autosearch.errors import ConfigError
from autosearch.executors.address import chosen_address
from autosearch.executors.signals import stopping_on_signals
from autosearch.spec import StudySpec
from autosearch.study import Driver, Evaluator, Executor

SMALL_SECONDS = 60.0
"""Work that is done sooner by this process alone than by workers that have to be started first."""

Work = Callable[[], float | None]
"""Seconds that all trials still wanted take one after the other, about; None if not known."""


def make_executor(
    name: str,
    address: str | None = None,
    work: Work = lambda: None,
    told: Callable[[str], None] = lambda text: None,
) -> Executor:
    """The executor of a name: ``auto``, ``ray`` or ``local``.

    Args:
        name: Its name.
        address: Of a Ray cluster to join.
        work: For ``auto``, asked once when the search begins.
        told: For ``auto``, told which one it takes and why.

    Raises:
        ConfigError: An address was given to one that joins no cluster, or is none.
    """
    if name == "local":
        if address is not None:
            raise ConfigError("--address", address, "nothing with --executor local")
        from autosearch.executors import LocalExecutor

        return LocalExecutor()
    if name == "auto":
        return AutoExecutor(address, work, told)
    from autosearch.executors import RayTuneExecutor

    return RayTuneExecutor(address)


class AutoExecutor:
    """Evaluates in the calling process what that does in a minute, and all else in Ray Tune.

    Args:
        address: See `make_executor`; so are the others.
        work: What there is to do.
        told: Told what was chosen.

    Raises:
        ConfigError: The address is none.
    """

    def __init__(self, address: str | None, work: Work, told: Callable[[str], None]) -> None:
        self._given, self._work, self._told = address, work, told
        self._address, _ = chosen_address(address)

    def run(self, driver: Driver, evaluator: Evaluator) -> None:
        """See `Executor.run`."""
        with stopping_on_signals(driver.stop):
            name, why = self._chosen(driver.spec)
        if driver.stopped:
            return
        if name == "local":
            self._told(f"trials run in this process: {why}; for Ray's workers: --executor ray")
        else:
            self._told(f"trials run in Ray's workers: {why}")
        make_executor(name, self._given).run(driver, evaluator)

    def _chosen(self, spec: StudySpec) -> tuple[str, str]:
        """Name of an executor, and why it is taken."""
        if threading.current_thread() is not threading.main_thread():
            return "local", "Ray needs the main thread"
        if self._address is not None:
            return "ray", "a cluster is named"
        # Of these the calling process makes no use.
        its = spec.resources
        given = {"cpu": its.cpu != 1, "gpu": its.gpu not in ("auto", 0),
                 "max_concurrent": its.max_concurrent not in ("auto", 1)}  # fmt: skip
        for key in (key for key, is_given in given.items() if is_given):
            return "ray", f"resources.{key} is {getattr(its, key)}"
        if spec.study.trial_timeout is not None:
            return "ray", "only another process keeps study.trial_timeout in any case"
        if (seconds := self._work()) is None:
            return "ray", "how long trials take is not known"
        if seconds > SMALL_SECONDS:
            return "ray", "more than a minute of work"
        return "local", f"about {max(1, round(seconds))} s of work"
