"""Which of a study's running trials this process answers for, and which it may take over."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial

from autosearch.errors import StudyError
from autosearch.storage import Note, StoredTrials
from autosearch.study.handout import Handout
from autosearch.study.leases import Leases


class Claims:
    """Leases on trials: those handed out, those waiting, and those to be handed out again.

    Args:
        trials: The study's.
        leases: What gives and judges leases.
        handout: What this process has handed out.
        budget: Trials wanted in all.
        retries: How often a trial that was lost is handed out again.
        give_up: Called with a trial's number and a reason when it was lost too often.
        note: Told what happens to trials, for a log.
    """

    def __init__(
        self,
        trials: StoredTrials,
        leases: Leases,
        handout: Handout,
        budget: int,
        retries: int,
        give_up: Callable[[int, str], None],
        note: Note,
    ) -> None:
        self._trials, self._leases, self._handout = trials, leases, handout
        self._budget, self._retries = budget, retries
        self._give_up, self._note = give_up, note
        self._again: deque[int] = deque()
        self._closing = threading.Event()
        self._keeper: threading.Thread | None = None

    @property
    def exhausted(self) -> bool:
        """Whether the budget is met, and no trial is running anywhere."""
        return not self._again and len(self._trials) >= self._budget and not self._running()

    def next(self) -> optuna.Trial | None:
        """The next trial, new or to be evaluated again. Only while no other driver is at it."""
        full = len(self._trials) >= self._budget
        if not self._again and full:
            self.reap()
        while self._again:
            # Asking may fail; then the number must still be there.
            if holds := self.holds(number := self._again[0]):
                self._set(number, waiting=False)
            self._again.popleft()
            if holds:
                return self._trials.live(number)
        if full:
            return None
        trial = self._trials.ask()
        self._set(trial.number, waiting=False)
        return trial

    def wait(self, number: int) -> None:
        """A trial waits for its equal."""
        self._set(number, waiting=True)

    def holds(self, number: int) -> bool:
        """Whether nobody else has taken over or told the trial, believing this process dead."""
        trial = self._trials.frozen(number)
        return not trial.state.is_finished() and self._leases.is_mine(_lease_of(trial))

    def lost(self, number: int, reason: str) -> None:
        """A trial's worker died: hand it out again if it is still ours, or give it up."""
        if self.holds(number):
            self._hand_out_again(number, reason)

    def again(self, numbers: list[int]) -> None:
        """Hand out trials again that waited for one that was lost."""
        self._again.extend(numbers)

    def reap(self) -> None:
        """Take over running trials that nobody works on. Only while no other driver does."""
        held = set(self._held())
        others = {t.number: _lease_of(t) for t in self._running() if t.number not in held}
        # Given back, or asked for when the connection to a database broke.
        free = {n for n, lease in others.items() if not lease or self._leases.is_mine(lease)}
        over = self._leases.over({n: others[n] for n in others.keys() - free})
        for number in sorted(free | over):
            if number in free or others[number].get("waiting"):
                self._set(number, waiting=True)
                self._again.append(number)
                self._note("trial taken up again", trial=number)
            else:
                self._hand_out_again(number, "the process that ran the search died")

    def keep(self, lock: threading.RLock) -> None:
        """Renew leases from now on, in a thread of its own that holds the lock meanwhile."""

        def renew() -> None:
            while not self._closing.wait(self._leases.interval):
                # Whoever uses the driver next is told what is wrong.
                with lock, suppress(StudyError, OSError):
                    for number in filter(self.holds, self._held()):
                        self._set(number, waiting=not self._handout.works_on(number))

        self._keeper = threading.Thread(target=renew, daemon=True)
        self._keeper.start()

    def stop_keeping(self) -> None:
        """Renew no lease any more."""
        self._closing.set()
        if self._keeper is not None:
            self._keeper.join()

    def give_back(self) -> None:
        """Let whoever comes next take up all trials still out, at once."""
        for number in self._held():
            # Where nothing can be written any more, the lease runs out by itself.
            with suppress(StudyError, UpdateFinishedTrialError):
                if self.holds(number):
                    self._trials.set(number, "lease", None)

    def _running(self) -> list[FrozenTrial]:
        return [trial for trial in self._trials.running() if trial.number < self._budget]

    def _held(self) -> list[int]:
        """Numbers that are out, wait for another's result, or are to be handed out again."""
        return [*self._handout.numbers(), *self._again]

    def _hand_out_again(self, number: int, reason: str) -> None:
        lost = int(self._trials.frozen(number).user_attrs.get("attempts", 0)) + 1
        # Whoever was believed dead may still tell it.
        with suppress(UpdateFinishedTrialError):
            self._trials.set(number, "attempts", lost)
        if lost > self._retries:
            self._give_up(number, f"{reason} ({lost} times)")
            return
        self._set(number, waiting=True)
        self._again.append(number)
        its = {"reason": reason, "attempts": lost}
        self._note("trial to be retried", logging.WARNING, trial=number, **its)

    def _set(self, number: int, waiting: bool) -> None:
        """Claim a trial; see `Leases.new`."""
        with suppress(UpdateFinishedTrialError):
            self._trials.set(number, "lease", self._leases.new(waiting))


def _lease_of(trial: FrozenTrial) -> dict[str, Any]:
    """Empty if the trial was given back, or never claimed."""
    return trial.user_attrs.get("lease") or {}
