"""What ends a search from outside: Ctrl-C, SIGTERM, and a terminal that closes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` on the first SIGINT, SIGTERM or SIGHUP; a second one acts as without this.

    A SIGHUP that is ignored, as under ``nohup``, stays so. Signals reach the main thread of a
    process alone; in another there is nothing to be done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if (terminal := signal.getsignal(signal.SIGHUP)) != signal.SIG_IGN:
        before[signal.SIGHUP] = terminal

    def handle(number: int, frame: FrameType | None) -> None:
        restore()
        stop()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
