"""How long the parts of an evaluation take, and how long they may."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from autosearch.errors import TrialTimeout


class Clock:
    """Seconds of parts that follow each other.

    Args:
        stage: Told the name of each part as it begins.

    Attributes:
        seconds: Of the parts that are over, by name.
    """

    def __init__(self, stage: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._stage, self._name, self._since = stage, "", 0.0

    def start(self, name: str) -> None:
        """Begin a part, which ends the one before."""
        self.stop()
        self._name, self._since = name, time.perf_counter()
        self._stage(name)

    def stop(self) -> None:
        """End the last part."""
        if self._name:
            self.seconds[self._name] = round(time.perf_counter() - self._since, 3)


@contextmanager
def timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Add to the seconds of a part what is spent inside."""
    start = time.perf_counter()
    yield
    seconds[part] = round(seconds.get(part, 0.0) + time.perf_counter() - start, 6)


@contextmanager
def time_limit(limit: float | None) -> Iterator[None]:
    """Interrupt what is inside after so many seconds, in the main thread; elsewhere it goes on.

    Raises:
        TrialTimeout: The time is over.
    """
    if limit is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise TrialTimeout

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
