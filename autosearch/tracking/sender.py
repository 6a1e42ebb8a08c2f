"""Sends trials to one tracker from a thread of its own, for as long as a search goes on."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from autosearch.contracts import TrialRecord
from autosearch.errors import StudyError, one_line
from autosearch.tracking.content import Contents, Tracker
from autosearch.tracking.sent import Sent

MOST_WAITING = 1000
"""Trials that may wait for a tracker; those beyond are left to `send_rest`."""

_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 300.0
"""Seconds until a tracker that failed is tried again; every failure in a row doubles them."""

_LAST_TRIES = 2
"""Failures in a row after which, with the search over, no more is tried."""


class Sender:
    """Has one tracker told of trials, whatever becomes of it.

    Args:
        tracker: Who is told. Its methods are called in this thread alone.
        sent: Takes note of what it has.
        contents: Makes what is sent, given the study's name; see `Contents`.
    """

    def __init__(self, tracker: Tracker, sent: Sent, contents: Callable[[str], Contents]) -> None:
        self._tracker, self._sent, self._contents = tracker, sent, contents
        self._its: Contents | None = None
        self._there: dict[int, str] = {}
        self._waiting: deque[TrialRecord] = deque()
        self._given: set[int] = set()
        self._changed = threading.Condition()
        self._closing, self._abandoned = "", False
        self._failures, self._again = 0, 0.0
        self._arrived = 0
        self._problem, self._told = "", False
        self._thread = threading.Thread(
            target=self._work, name=f"autosearch-{tracker.name}", daemon=True
        )

    @property
    def name(self) -> str:
        """The tracker's, and where it shows trials."""
        return f"{self._tracker.name} ({self._tracker.to})"

    def start(self, records: Iterable[TrialRecord]) -> None:
        """Begin, with trials of earlier runs, of which those that it has are passed over."""
        with suppress(StudyError):  # Is said when the first one is to be sent.
            self._there = self._sent.runs(self._tracker.name, self._tracker.to)
        for record in records:
            if record.number in self._there:
                self._given.add(record.number)
                self._arrived += 1
            else:
                self.add(record)
        self._thread.start()

    def add(self, record: TrialRecord) -> None:
        """Have a trial sent; returns at once."""
        with self._changed:
            if record.number in self._given:
                return
            self._given.add(record.number)
            if len(self._waiting) < MOST_WAITING:
                self._waiting.append(record)
                self._changed.notify()

    def warning(self) -> str | None:
        """The first problem, once."""
        with self._changed:
            if self._told or not self._problem:
                return None
            self._told = True
            return f"{self.name} cannot be told of trials for now: {self._problem}"

    def finish(self, status: str) -> None:
        """Have what is still to be sent sent now, and nothing after it.

        Args:
            status: How the search ended; see `Tracker.close`.
        """
        with self._changed:
            # One that was away already is tried once more.
            self._closing, self._failures = status, min(self._failures, _LAST_TRIES - 1)
            self._changed.notify()

    def wait(self, until: float) -> bool:
        """Whether all has been tried that can be, by a time of `time.monotonic`."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, until - time.monotonic()))
        return not self._thread.is_alive()

    def give_up(self) -> str:
        """Have nothing more sent.

        Returns:
            Why not all of it is there; empty if it is.
        """
        with self._changed:
            self._abandoned = True
            missing = len(self._given) - self._arrived
            if not missing and not self._thread.is_alive():
                return ""
            why = self._problem or "it took too long"
            return f"{missing} of {len(self._given)} trials are not there ({why})"

    def _work(self) -> None:
        while (record := self._next()) is not None:
            try:
                self._send(record)
            except Exception as error:
                self._failed(record, error)
            else:
                with self._changed:
                    self._failures, self._again = 0, 0.0
                    self._arrived += 1
        late = self._its is None and self._abandoned
        if self._closing and self._given and not self._failures and not late:
            try:
                self._tracker.close(self._opened().study(), self._closing)
            except Exception as error:
                self._problem = _said(error)

    def _next(self) -> TrialRecord | None:
        """The next trial to send, as soon as it may be; None if there will be none."""
        with self._changed:
            while not self._abandoned:
                now = time.monotonic()
                if self._closing and (not self._waiting or self._failures >= _LAST_TRIES):
                    return None
                if self._waiting and (self._closing or now >= self._again):
                    return self._waiting.popleft()
                self._changed.wait(self._again - now if self._waiting else None)
        return None

    def _opened(self) -> Contents:
        """What makes that which is sent, once the tracker is reached."""
        if self._its is None:
            its = self._contents(self._sent.study_id())
            self._tracker.open(its.study())
            self._there = self._sent.runs(self._tracker.name, self._tracker.to)
            self._its = its
        return self._its

    def _send(self, record: TrialRecord) -> None:
        its = self._opened()
        if record.number not in self._there:
            run = self._tracker.send(its.trial(record))
            self._sent.add(self._tracker.name, self._tracker.to, record.number, run)
            self._there[record.number] = run

    def _failed(self, record: TrialRecord, error: Any) -> None:
        """Let a trial wait behind the others, and the tracker rest."""
        with self._changed:
            self._waiting.append(record)
            self._problem = _said(error)
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._failures)
            self._failures += 1
            self._again = time.monotonic() + pause


def _said(error: Exception) -> str:
    """What an error says, on one line that a terminal can show."""
    first, *_ = f"{error}".strip().splitlines() or [""]
    return one_line(f"{type(error).__name__}: {first}"[:200])
