"""All trackers of one search."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from autosearch.contracts import FINISHED, TrialRecord
from autosearch.storage import StudyFolder
from autosearch.tracking.content import Contents, Tracker
from autosearch.tracking.sender import Sender
from autosearch.tracking.sent import Sent

FLUSH_SECONDS = 30.0
"""How long the end of a search waits for what has not arrived."""

_QUIET_SECONDS = 2.0
"""How long it does so without a word."""


class Tracking:
    """Has trackers told of trials while a search goes on; nothing of it can fail or wait.

    Args:
        folder: The study's.
        trackers: Who is told.
        say: Told what a person must know, from the threads that call this.
    """

    def __init__(
        self, folder: StudyFolder, trackers: Sequence[Tracker], say: Callable[[str], None]
    ) -> None:
        self._folder, self._say = folder, say
        sent = Sent(folder)
        self._senders = [Sender(one, sent, partial(Contents, folder)) for one in trackers]

    def start(self) -> None:
        """Begin with the trials that are told, once the study's files are there.

        Where several heads share a database each sends its own trials; what was told before is
        left to `send_rest`.
        """
        if not self._senders:
            return
        known = [] if self._folder.database else self._folder.trials.records()
        for sender in self._senders:
            sender.start(record for record in known if record.status in FINISHED)

    def told(self, record: TrialRecord) -> None:
        """Take note of a trial that has just been given its final status."""
        for sender in self._senders:
            sender.add(record)
            self._warn(sender)

    def close(self, status: str) -> None:
        """Wait for trackers, but not for long, and say what is missing.

        Args:
            status: How the search ended; see `Tracker.close`.
        """
        now = time.monotonic()
        for sender in self._senders:
            sender.finish(status)
        try:
            for sender in self._senders:
                if not sender.wait(now + _QUIET_SECONDS):
                    self._say(f"waiting for {sender.name}, {FLUSH_SECONDS:g} s at most …")
                    sender.wait(now + FLUSH_SECONDS)
        except KeyboardInterrupt:
            pass  # Of somebody who will not wait for it.
        for sender in self._senders:
            if missing := sender.give_up():
                later = f"autosearch track {self._folder.path}"
                self._say(f"{sender.name}: {missing}; all is stored here; to send it: {later}")
            else:
                self._warn(sender)

    def _warn(self, sender: Sender) -> None:
        if warning := sender.warning():
            self._say(warning)
