"""Ask, tell, reap, resume: the one place that drives an Optuna study. Knows nothing of Ray.

Every trial number below the budget is evaluated to one final status. A trial whose worker or
whose whole process died keeps its number and its parameters and is handed out again; so is one
that a user's Ctrl-C cut off.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial

from autosearch import pareto
from autosearch.early_stopping import EarlyStopping
from autosearch.errors import Infeasible, StudyError
from autosearch.leases import Leases
from autosearch.optuna_study import StoredTrials, attributes_of, open_study, record_of
from autosearch.results import StudyFolder
from autosearch.sampling import ReproducibleSampler
from autosearch.space import Params
from autosearch.spec import StudySpec
from autosearch.study_log import Note, silent
from autosearch.trials import (
    SCORED,
    Assignment,
    Outcome,
    Progress,
    Status,
    Summary,
    TrialRecord,
    canonical_key,
    trial_seed,
)


class StudyDriver:
    """Hands out configurations and takes results, from one process, for one study.

    Several drivers may work on one study at a time; each tells only its own trials.

    Args:
        folder: Where the study lives; it is created or continued.
        spec: What to search.
        directions: Objective name to ``minimize`` or ``maximize``, in the order of the spec.
        canonical: `Runner.canonical`, which may raise `Infeasible`.
        guard: What must not change between runs of one study, by name: hashes of data and weights.
        listener: Called with every trial that gets a final status from now on, after it was
            stored.
        note: Told what happens to trials, for a log.

    Raises:
        StudyError: The study on disk was made from something else.
    """

    def __init__(
        self,
        folder: StudyFolder,
        spec: StudySpec,
        directions: Mapping[str, str],
        canonical: Callable[[Params], Params],
        guard: Mapping[str, Any],
        listener: Callable[[TrialRecord], None] | None = None,
        note: Note = silent,
    ) -> None:
        self.note = note
        self._folder, self._spec, self._canonical = folder, spec, canonical
        self._objectives = tuple(directions)
        self._directions = list(directions.values())
        self._space = spec.parsed_space
        self._listener: Callable[[TrialRecord], None] = lambda record: None
        storage = folder.storage(repair=True)
        study = folder.exclusively(
            lambda: open_study(storage, directions, {**spec.identity(), **guard}, folder.study)
        )
        study.sampler = ReproducibleSampler(spec.sampler, self._space, spec.study.seed, spec.start)
        self._stopping = EarlyStopping(spec.pruner, directions)
        study.pruner = self._stopping.pruner()
        self._trials = StoredTrials(study, storage)
        self._leases = Leases(folder.database)
        self._retry: deque[int] = deque()
        self._mine: dict[int, Assignment] = {}
        self._leader: dict[str, int] = {}
        self._followers: dict[str, list[int]] = {}
        self._cache: dict[str, FrozenTrial] = {}
        self._records: dict[int, TrialRecord] = {}
        self._settled = 0  # All trials of lower numbers are among the records.
        self._asked: dict[int, float] = {}
        self._lock = threading.RLock()
        self._stopped = False
        timeout = spec.study.timeout
        self._deadline = time.monotonic() + timeout if timeout else math.inf
        self._refresh()
        self._tell_kept()
        folder.exclusively(self._reap)
        # A listener may well use the driver, which its maker does not have before now.
        self._listener = listener or self._listener
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._renew_leases, daemon=True)
        self._keeper.start()

    @property
    def spec(self) -> StudySpec:
        """What is searched."""
        return self._spec

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    @property
    def finished(self) -> bool:
        """Whether no further configuration will be handed out and none is out."""
        with self._lock:
            return not self._mine and (self._over() or self._exhausted())

    def ask(self) -> Assignment | None:
        """The next configuration to evaluate, or None if there is none for the moment.

        Configurations that cannot be built and those whose canonical form is already known are
        told at once and never handed out. None while `finished` is false means: a trial is being
        worked on elsewhere, and may come back.
        """
        with self._lock:
            while not self._over():
                self._refresh()
                trial = self._folder.exclusively(self._next_trial)
                if trial is None:
                    return None
                # Somebody else may have told it while a database was gone.
                with suppress(UpdateFinishedTrialError):
                    if assignment := self._prepare(trial):
                        its = {"seed": assignment.seed, "configuration": assignment.canonical}
                        self.note("trial handed out", trial=assignment.number, **its)
                        return assignment
        return None

    def tell(self, number: int, outcome: Outcome) -> TrialRecord:
        """Store what a worker sent back; a trial that is already told stays as it is."""
        with self._lock:
            assignment = self._mine.pop(number)
            key, outcome = canonical_key(assignment.canonical), outcome.checked(self._objectives)
            try:
                record = self._keep(number, key, outcome)
            except StudyError:
                # It is not told, and `close` shall give it back.
                self._mine[number] = assignment
                raise
            self._leader.pop(key, None)
            for follower in self._followers.pop(key, []):
                if key in self._cache:
                    self._tell_cached(follower, key)
                else:
                    self._store(follower, replace(outcome, artifacts={}))
            return record

    def report(self, number: int, progress: Progress) -> Outcome | None:
        """Take note of how a trial stands in the middle of its training.

        Returns:
            What to tell if the trial is not worth finishing, None to let it go on.
        """
        reason = None
        its = {"fraction": progress.fraction, "values": progress.values}
        self.note("trial reports", logging.DEBUG, trial=number, **its)
        with self._lock, suppress(UpdateFinishedTrialError):
            reason = self._reason_to_stop(self._trials.live(number), progress)
        if reason is None:
            return None
        measured = {"fraction": progress.fraction}
        return Outcome(Status.PRUNED, progress.values, measured, reason=reason)

    def lost(self, number: int, reason: str) -> None:
        """Take note that a trial's worker died: hand the trial out again, or give it up."""
        self.note("trial lost", logging.WARNING, trial=number, reason=reason)
        with self._lock:
            key = canonical_key(self._mine.pop(number).canonical)
            self._leader.pop(key, None)
            if self._holds(number):
                self._hand_out_again(number, reason)
            self._retry.extend(self._followers.pop(key, []))

    def stop(self) -> None:
        """Hand out nothing more."""
        self._stopped = True

    def close(self) -> None:
        """Give back all trials still out, so that a later run takes them up at once."""
        self._closing.set()
        self._keeper.join()
        with self._lock:
            for number in self._held():
                # Where nothing can be written any more, the lease runs out by itself.
                with suppress(StudyError, UpdateFinishedTrialError):
                    if self._holds(number):
                        self._trials.set(number, "lease", None)
            self._mine.clear()
        level = logging.WARNING if self._stopped else logging.INFO
        counts = {str(status): number for status, number in self.summary().counts.items()}
        self.note("study closed", level, stopped=self._stopped, counts=counts)

    def summary(self) -> Summary:
        """Counts and front so far."""
        with self._lock:
            counts = dict.fromkeys(Status, 0)
            for record in self._records.values():
                counts[record.status] += 1
            counts[Status.RUNNING] = len(self._mine) + sum(map(len, self._followers.values()))
            return Summary(counts, self._spec.study.trials, self._front())

    def _reason_to_stop(self, trial: optuna.Trial, progress: Progress) -> str | None:
        # A trial that lost its worker starts anew, and so does its curve.
        earlier = [p for p in trial.user_attrs.get("curve", ()) if p[0] < progress.fraction]
        curve = [*earlier, [progress.fraction, progress.values]]
        trial.set_user_attr("curve", curve)
        scored = [r for r in self._records.values() if r.status == Status.COMPLETE]
        if len(self._objectives) == 1:
            return self._stopping.halved(trial, progress, len(scored))
        finished = [(r.curve, r.values) for r in scored if r.curve]
        return self._stopping.hopeless(curve, finished, list(self._front().values()))

    def _front(self) -> dict[int, Mapping[str, float]]:
        scored = [record for record in self._records.values() if record.status in SCORED]
        if not scored:
            return {}
        table = [[record.values[name] for name in self._objectives] for record in scored]
        return {scored[i].number: scored[i].values for i in pareto.front(table, self._directions)}

    def _over(self) -> bool:
        return self._stopped or time.monotonic() > self._deadline

    def _exhausted(self) -> bool:
        return not self._retry and not self._running() and len(self._trials) >= self._budget

    @property
    def _budget(self) -> int:
        return self._spec.study.trials

    def _running(self) -> list[FrozenTrial]:
        return [trial for trial in self._trials.running() if trial.number < self._budget]

    def _held(self) -> list[int]:
        """Numbers that are out, wait for another's result, or are to be handed out again."""
        waiting = [number for numbers in self._followers.values() for number in numbers]
        return [*self._mine, *waiting, *self._retry]

    def _holds(self, number: int) -> bool:
        """Whether nobody else has taken over or told the trial, believing this process dead."""
        trial = self._trials.frozen(number)
        return not trial.state.is_finished() and self._leases.is_mine(_lease_of(trial))

    def _next_trial(self) -> optuna.Trial | None:
        """The next trial, new or to be evaluated again. Only while no other driver is at it."""
        full = len(self._trials) >= self._budget
        if not self._retry and full:
            self._reap()
        while self._retry:
            # Asking may fail; then the number must still be there.
            if holds := self._holds(number := self._retry[0]):
                self._set_lease(number, waiting=False)
            self._retry.popleft()
            if holds:
                self._asked[number] = time.monotonic()
                return self._trials.live(number)
        if full:
            return None
        trial = self._trials.ask()
        self._set_lease(trial.number, waiting=False)
        self._asked[trial.number] = time.monotonic()
        return trial

    def _prepare(self, trial: optuna.Trial) -> Assignment | None:
        """Draw a trial's parameters; tell it at once if nothing needs to be evaluated."""
        number, params = trial.number, self._space.suggest(trial)
        try:
            canonical = self._canonical(params)
        except Infeasible as reason:
            violations = {"feasible": 1.0}
            outcome = Outcome(Status.INFEASIBLE, violations=violations, reason=str(reason))
            self._store(number, outcome)
            return None
        key = canonical_key(canonical)
        trial.set_user_attr("canonical", canonical)
        if key in self._cache:
            self._tell_cached(number, key)
            return None
        if key in self._leader:
            self._followers.setdefault(key, []).append(number)
            self._set_lease(number, waiting=True)
            return None
        seed = trial_seed(self._spec.study.seed, canonical)
        assignment = Assignment(number, params, canonical, seed)
        self._leader[key] = number
        self._mine[number] = assignment
        return assignment

    def _keep(self, number: int, key: str, outcome: Outcome) -> TrialRecord:
        """Store what came back, on disk first where the study is in a database."""
        outbox = self._folder.outbox
        if outbox:
            outbox.put(number, key, outcome)
        record = self._store(number, outcome)
        if outbox:
            outbox.remove(number)
        return record

    def _store(self, number: int, outcome: Outcome) -> TrialRecord:
        if (told := self._trials.frozen(number)).state.is_finished():
            return self._remember(told)
        self._folder.write_outcome(number, outcome)
        return self._finish(number, outcome, attributes_of(outcome))

    def _tell_kept(self) -> None:
        """Store what a run of this folder had found when it lost its database, or was killed."""
        if (outbox := self._folder.outbox) is None:
            return
        for number, key, outcome in outbox.items():
            if number < len(self._trials):
                canonical = self._trials.frozen(number).user_attrs.get("canonical", {})
                if canonical_key(canonical) == key:
                    self._store(number, outcome)
            outbox.remove(number)

    def _tell_cached(self, number: int, key: str) -> None:
        source = self._cache[key]
        original = record_of(source, self._objectives)
        outcome = Outcome(
            Status.CACHED, original.values, original.measured, dict(source.constraints),
            threads=original.threads,
        )  # fmt: skip
        self._finish(number, outcome, attributes_of(outcome) | {"cached_from": source.number})

    def _finish(self, number: int, outcome: Outcome, attributes: Mapping[str, Any]) -> TrialRecord:
        if (asked := self._asked.pop(number, None)) is not None:
            attributes = {**attributes, "duration": round(time.monotonic() - asked, 6)}
        # Others may have told it meanwhile, or we did and the database's answer was lost.
        with suppress(UpdateFinishedTrialError):
            self._trials.tell(number, outcome, self._objectives, attributes)
        record = self._remember(self._trials.frozen(number))
        level = logging.ERROR if record.status == Status.FAILED else logging.INFO
        names = ("status", "values", "duration", "reason", "cached_from")
        self.note("trial told", level, trial=number, **{n: getattr(record, n) for n in names})
        return record

    def _remember(self, trial: FrozenTrial) -> TrialRecord:
        record = record_of(trial, self._objectives)
        new = record.number not in self._records
        self._records[record.number] = record
        if record.status == Status.COMPLETE and record.canonical:
            self._cache.setdefault(canonical_key(record.canonical), trial)
        if new:
            self._listener(record)
        return record

    def _refresh(self) -> None:
        """Take note of what this study's earlier and other drivers have told."""
        trials = self._trials.all()
        for trial in trials[self._settled : self._budget]:
            if trial.state.is_finished() and trial.number not in self._records:
                self._remember(trial)
        while self._settled in self._records:
            self._settled += 1

    def _reap(self) -> None:
        """Take over running trials that nobody works on. Only while no other driver does."""
        held = set(self._held())
        others = {t.number: _lease_of(t) for t in self._running() if t.number not in held}
        # Given back, or asked for when the connection to a database broke.
        free = {n for n, lease in others.items() if not lease or self._leases.is_mine(lease)}
        over = self._leases.over({n: others[n] for n in others.keys() - free})
        for number in sorted(free | over):
            if number in free or others[number].get("waiting"):
                self._set_lease(number, waiting=True)
                self._retry.append(number)
                self.note("trial taken up again", trial=number)
            else:
                self._hand_out_again(number, "the process that ran the search died")

    def _hand_out_again(self, number: int, reason: str) -> None:
        lost = int(self._trials.frozen(number).user_attrs.get("attempts", 0)) + 1
        # Whoever was believed dead may still tell it.
        with suppress(UpdateFinishedTrialError):
            self._trials.set(number, "attempts", lost)
        if lost > self._spec.study.retries:
            self._store(number, Outcome(Status.FAILED, reason=f"{reason} ({lost} times)"))
            return
        self._set_lease(number, waiting=True)
        self._retry.append(number)
        its = {"reason": reason, "attempts": lost}
        self.note("trial to be retried", logging.WARNING, trial=number, **its)

    def _set_lease(self, number: int, waiting: bool) -> None:
        """Claim a trial; see `Leases.new`."""
        with suppress(UpdateFinishedTrialError):
            self._trials.set(number, "lease", self._leases.new(waiting))

    def _renew_leases(self) -> None:
        while not self._closing.wait(self._leases.interval):
            # Whoever uses the driver next is told what is wrong.
            with self._lock, suppress(StudyError, OSError):
                for number in filter(self._holds, self._held()):
                    self._set_lease(number, waiting=number not in self._mine)


def _lease_of(trial: FrozenTrial) -> dict[str, Any]:
    """Empty if the trial was given back, or never claimed."""
    return trial.user_attrs.get("lease") or {}
