"""Where trials run: in this process, or as Ray Tune trials."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from autosearch.evaluate import TrialEvaluator
from autosearch.study import StudyDriver


class Executor(Protocol):
    """Carries configurations from a driver to workers and outcomes back."""

    def run(self, driver: StudyDriver, evaluator: TrialEvaluator) -> None:
        """Evaluate until the driver has no more to hand out or is stopped.

        SIGINT and SIGTERM stop it at once; trials then out stay with the driver, to be given back
        by `StudyDriver.close`.
        """


@contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` on the first SIGINT or SIGTERM; a second one acts as without this."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def handle(number: int, frame: FrameType | None) -> None:
        for other in numbers:
            signal.signal(other, before[other])
        stop()

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])
