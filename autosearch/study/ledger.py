"""Trials with a final status, as one process knows them, and the values that others may share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from optuna.trial import FrozenTrial

from autosearch.contracts import SCORED, Status, TrialRecord, canonical_key
from autosearch.metrics import pareto
from autosearch.storage import record_of


class Ledger:
    """Records of a study's finished trials.

    Args:
        directions: Objective name to ``minimize`` or ``maximize``, in the order of the spec.

    Attributes:
        listener: Called with every record that is new.
    """

    def __init__(self, directions: Mapping[str, str]) -> None:
        self.listener: Callable[[TrialRecord], None] = lambda record: None
        self.objectives = tuple(directions)
        self._directions = list(directions.values())
        self._records: dict[int, TrialRecord] = {}
        self._by_key: dict[str, FrozenTrial] = {}
        self._settled = 0  # All trials of lower numbers are among the records.
        self._counts = dict.fromkeys(Status, 0)
        self._front: list[TrialRecord] = []
        self._since: list[TrialRecord] = []  # Scored, and not yet compared with the front.

    def remember(self, trial: FrozenTrial) -> TrialRecord:
        """Take note of a trial that is told."""
        record = record_of(trial, self.objectives)
        # What was proposed, and not what was chosen on its fit: that is another trial's own.
        proposed = trial.user_attrs.get("canonical")
        new = record.number not in self._records
        self._records[record.number] = record
        if record.status == Status.COMPLETE and proposed:
            self._by_key.setdefault(canonical_key(proposed), trial)
        if new:
            self._counts[record.status] += 1
            if record.status in SCORED:
                self._since.append(record)
            self.listener(record)
        return record

    def refresh(self, trials: Sequence[FrozenTrial]) -> None:
        """Take note of what earlier and other processes have told.

        Args:
            trials: The study's, in order of number, up to its budget.
        """
        for trial in trials[self._settled :]:
            if trial.state.is_finished() and trial.number not in self._records:
                self.remember(trial)
        while self._settled in self._records:
            self._settled += 1

    @property
    def directions(self) -> dict[str, str]:
        """Objective name to ``minimize`` or ``maximize``."""
        return dict(zip(self.objectives, self._directions, strict=True))

    def complete(self, key: str) -> FrozenTrial | None:
        """The first complete trial for which a canonical configuration was proposed."""
        return self._by_key.get(key)

    @property
    def records(self) -> list[TrialRecord]:
        """All of them."""
        return list(self._records.values())

    def with_status(self, *statuses: Status) -> list[TrialRecord]:
        """Records of those statuses."""
        return [record for record in self._records.values() if record.status in statuses]

    def counts(self) -> dict[Status, int]:
        """Number of records of every status."""
        return dict(self._counts)

    def front(self) -> dict[int, Mapping[str, float]]:
        """Objective values of the non-dominated trials, by number."""
        if self._since:
            # What was dominated once can never be on the front again.
            scored = [*self._front, *self._since]
            table = [[record.values[name] for name in self.objectives] for record in scored]
            self._front = [scored[i] for i in pareto.front(table, self._directions)]
            self._since = []
        return {record.number: record.values for record in self._front}
