"""How a trial gets its final status: artifacts on disk, values in the study, a line in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial

from autosearch.contracts import Outcome, Status, TrialRecord, canonical_key
from autosearch.storage import Note, StoredTrials, StudyFolder, attributes_of, record_of
from autosearch.study.distinct import ERROR
from autosearch.study.ledger import Ledger


class Teller:
    """Tells trials of one study.

    Args:
        folder: Where the study lives.
        trials: The study's.
        ledger: Is given every trial that is told.
        note: Told what happens to trials, for a log.
        pessimism: Standard errors that are taken off figures before the sampler is told of them.
        listener: Called with every trial that this process tells, after it was stored.
    """

    def __init__(
        self,
        folder: StudyFolder,
        trials: StoredTrials,
        ledger: Ledger,
        note: Note,
        pessimism: float = 0.0,
        listener: Callable[[TrialRecord], None] = lambda record: None,
    ) -> None:
        self._folder, self._trials, self._ledger, self._note = folder, trials, ledger, note
        self._pessimism, self._listener = pessimism, listener
        self._asked: dict[int, float] = {}

    def asked(self, number: int) -> None:
        """Take note of when a trial was asked for."""
        self._asked[number] = time.monotonic()

    def keep(self, number: int, key: str, outcome: Outcome) -> TrialRecord:
        """Store what came back, on disk first where the study is in a database."""
        outbox = self._folder.trials.outbox
        if outbox:
            outbox.put(number, key, outcome)
        record = self.store(number, outcome)
        if outbox:
            outbox.remove(number)
        return record

    def store(self, number: int, outcome: Outcome) -> TrialRecord:
        """Store an outcome, unless the trial is told."""
        if (told := self._trials.frozen(number)).state.is_finished():
            return self._ledger.remember(told)
        self._folder.files.write_outcome(number, outcome)
        return self._finish(number, outcome, attributes_of(outcome))

    def cached(self, number: int, source: FrozenTrial) -> TrialRecord:
        """Give a trial the values of its equal."""
        original = record_of(source, self._ledger.objectives)
        outcome = Outcome(
            Status.CACHED, original.values, original.measured, dict(source.constraints),
            threads=original.threads, post=source.user_attrs.get("post"),
        )  # fmt: skip
        attributes = attributes_of(outcome) | {"cached_from": source.number}
        return self._finish(number, outcome, attributes)

    def taken(self, number: int, first: Mapping[str, Any]) -> TrialRecord:
        """Give a trial what its equal in an earlier study had.

        Args:
            number: Of the trial.
            first: See `autosearch.study.earlier.first_trials`.
        """
        path, other = first["from"]
        outcome = _outcome_of(first, StudyFolder(Path(path)).files.load_artifacts(other))
        self._folder.files.write_outcome(number, outcome)
        attributes = {**attributes_of(outcome), "taken_from": [path, other]}
        if first["curve"]:
            attributes["curve"] = first["curve"]
        return self._finish(number, outcome, attributes)

    def tell_kept(self) -> None:
        """Store what a run of this folder had found when it lost its database, or was killed."""
        if (outbox := self._folder.trials.outbox) is None:
            return
        for number, key, outcome in outbox.items():
            if number < len(self._trials):
                canonical = self._trials.frozen(number).user_attrs.get("canonical", {})
                if canonical_key(canonical) == key:
                    self.store(number, outcome)
            outbox.remove(number)

    def _told(self, outcome: Outcome) -> dict[str, float]:
        """Objectives that have a standard error, worse by some of it; empty without pessimism."""
        if not self._pessimism:
            return {}
        found = {}
        for name, way in self._ledger.directions.items():
            error = outcome.measured.get(name + ERROR)
            if error is not None and name in outcome.values:
                off = self._pessimism * error
                found[name] = outcome.values[name] + (off if way == "minimize" else -off)
        return found

    def _finish(self, number: int, outcome: Outcome, attributes: Mapping[str, Any]) -> TrialRecord:
        if (asked := self._asked.pop(number, None)) is not None:
            attributes = {**attributes, "duration": round(time.monotonic() - asked, 6)}
        # Others may have told it meanwhile, or we did and the database's answer was lost.
        with suppress(UpdateFinishedTrialError):
            names, told = self._ledger.objectives, self._told(outcome)
            self._trials.tell(number, outcome, names, attributes, told)
        record = self._ledger.remember(self._trials.frozen(number))
        level = logging.ERROR if record.status == Status.FAILED else logging.INFO
        names = ("status", "values", "duration", "reason", "cached_from", "taken_from")
        self._note("trial told", level, trial=number, **{n: getattr(record, n) for n in names})
        self._listener(record)
        return record


def _outcome_of(first: Mapping[str, Any], artifacts: Mapping[str, bytes]) -> Outcome:
    """What was taken over of a trial, as if it had just been evaluated."""
    return Outcome(
        Status(first["status"]),
        first["values"],
        first["measured"],
        first["violations"],
        first["seconds"],
        first["reason"],
        artifacts=dict(artifacts),
        threads=first["threads"],
    )
