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
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError

from autosearch.contracts import (
    Assignment,
    Outcome,
    Progress,
    Setting,
    Status,
    Summary,
    TrialRecord,
    canonical_key,
    trial_seed,
)
from autosearch.errors import Infeasible, StudyError
from autosearch.spec import Params, StudySpec
from autosearch.storage import (
    Note,
    StoredTrials,
    StudyFolder,
    begins_with,
    open_study,
    silent,
)
from autosearch.study.begun import canonical_as_begun
from autosearch.study.claims import Claims
from autosearch.study.early_stopping import EarlyStopping
from autosearch.study.handout import Handout
from autosearch.study.leases import Leases
from autosearch.study.ledger import Ledger
from autosearch.study.post_settings import drawn_settings, settings_seed
from autosearch.study.sampling import ReproducibleSampler
from autosearch.study.telling import Teller


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
        cumulative: Objectives that only grow while a trial trains.
        first: Looks up what a new study begins with in earlier ones; see
            `autosearch.study.earlier.first_trials`. A study that goes on has it already.
        post_of: Parameters of a canonical configuration that may be set after its fit, for
            ``study.post_trials``; see `Runner.post_of`.
        told: Called with every trial that this driver tells, and no other, after it was stored; at
            once, since nothing else goes on meanwhile.

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
        cumulative: Collection[str] = (),
        first: Callable[[], Sequence[Mapping[str, Any]]] = tuple,
        post_of: Callable[[Params], Collection[str]] = lambda canonical: (),
        told: Callable[[TrialRecord], None] = lambda record: None,
    ) -> None:
        self.note = note
        self._folder, self._spec = folder, spec
        self._space = spec.parsed_space
        storage = folder.trials.storage(repair=True)
        whole = {"spec": spec.identity(), **guard}

        def check(before: Mapping[str, Any]) -> None:
            folder.trials.check(before, spec)

        study = folder.trials.exclusively(
            lambda: open_study(storage, directions, whole, folder.trials.study, check, first)
        )
        begins = begins_with(study)
        self._taken = {one["key"]: one for one in begins if "key" in one}
        start = [one["params"] for one in begins] or spec.configurations
        self._start, self._post_of = start, post_of
        study.sampler = ReproducibleSampler(
            spec.sampler,
            self._space,
            spec.study.seed,
            start,
            tuple(directions),
            bool(spec.constraints),
        )
        self._stopping = EarlyStopping(spec.pruner, directions, cumulative)
        study.pruner = self._stopping.pruner()
        self._trials = StoredTrials(study, storage)
        self._ledger, self._handout = Ledger(directions), Handout()
        pessimism = spec.sampler.pessimism
        self._teller = Teller(folder, self._trials, self._ledger, note, pessimism, told)
        self._claims = Claims(
            self._trials,
            Leases(folder.database),
            self._handout,
            spec.study.trials,
            spec.study.retries,
            self._give_up,
            note,
        )
        self._lock = threading.RLock()
        self._stopped = False
        timeout = spec.study.timeout
        self._deadline = time.monotonic() + timeout if timeout else math.inf
        self._refresh()
        self._canonical = canonical_as_begun(self._ledger.records, canonical)
        self._teller.tell_kept()
        folder.trials.exclusively(self._claims.reap)
        # A listener may well use the driver, which its maker does not have before now.
        if listener is not None:
            self._ledger.listener = listener
        self._claims.keep(self._lock)

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
            return self._handout.idle and (self._over() or self._claims.exhausted)

    def ask(self) -> Assignment | None:
        """The next configuration to evaluate, or None if there is none for the moment.

        Configurations that cannot be built and those whose canonical form is already known are
        told at once and never handed out. None while `finished` is false means: a trial is being
        worked on elsewhere, and may come back.
        """
        with self._lock:
            while not self._over():
                self._refresh()
                trial = self._folder.trials.exclusively(self._claims.next)
                if trial is None:
                    return None
                self._teller.asked(trial.number)
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
            assignment = self._handout.take_back(number)
            key = canonical_key(assignment.canonical)
            outcome = outcome.checked(self._ledger.objectives)
            try:
                record = self._teller.keep(number, key, outcome)
            except StudyError:
                # It is not told, and `close` shall give it back.
                self._handout.restore(assignment)
                raise
            for follower in self._handout.release(key):
                if (source := self._ledger.complete(key)) is not None:
                    self._teller.cached(follower, source)
                else:
                    self._teller.store(follower, replace(outcome, artifacts={}))
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
            key = canonical_key(self._handout.take_back(number).canonical)
            waiting = self._handout.release(key)
            self._claims.lost(number, reason)
            self._claims.again(waiting)

    def stop(self) -> None:
        """Hand out nothing more."""
        self._stopped = True

    def close(self) -> None:
        """Give back all trials still out, so that a later run takes them up at once."""
        self._claims.stop_keeping()
        with self._lock:
            self._claims.give_back()
            self._handout.clear()
        level = logging.WARNING if self._stopped else logging.INFO
        counts = {str(status): number for status, number in self.summary().counts.items()}
        self.note("study closed", level, stopped=self._stopped, counts=counts)

    def summary(self) -> Summary:
        """Counts and front so far."""
        with self._lock:
            counts = self._ledger.counts() | {Status.RUNNING: len(self._handout)}
            return Summary(counts, self._spec.study.trials, self._ledger.front())

    def _over(self) -> bool:
        return self._stopped or time.monotonic() > self._deadline

    def _refresh(self) -> None:
        self._ledger.refresh(self._trials.all()[: self._spec.study.trials])

    def _prepare(self, trial: optuna.Trial) -> Assignment | None:
        """Draw a trial's parameters; tell it at once if nothing needs to be evaluated."""
        number, params = trial.number, self._space.suggest(trial)
        try:
            canonical = self._canonical(params)
        except Infeasible as reason:
            violations = {"feasible": 1.0}
            outcome = Outcome(Status.INFEASIBLE, violations=violations, reason=str(reason))
            self._teller.store(number, outcome)
            return None
        key = canonical_key(canonical)
        trial.set_user_attr("canonical", canonical)
        if (source := self._ledger.complete(key)) is not None:
            self._teller.cached(number, source)
            return None
        if (earlier := self._taken.get(key)) is not None:
            self._teller.taken(number, earlier)
            return None
        if self._handout.follow(number, key):
            self._claims.wait(number)
            return None
        seed = trial_seed(self._spec.study.seed, canonical, self._post_of(canonical))
        others = self._others(number, Setting(params, canonical, {}), seed)
        assignment = Assignment(number, params, canonical, seed, others)
        self._handout.add(assignment)
        return assignment

    def _others(self, number: int, proposed: Setting, seed: int) -> tuple[Setting, ...]:
        """What is tried on the fit of a trial beside what was proposed."""
        wanted = self._spec.study.post_trials
        if not wanted:
            return ()
        # What a first configuration names is meant.
        meant = self._start[number] if number < len(self._start) else {}
        names = set(self._post_of(proposed.canonical)) - set(meant)
        drawn = settings_seed(seed, proposed.canonical)
        return drawn_settings(self._space, self._canonical, proposed, names, wanted, drawn)

    def _give_up(self, number: int, reason: str) -> None:
        self._teller.store(number, Outcome(Status.FAILED, reason=reason))

    def _reason_to_stop(self, trial: optuna.Trial, progress: Progress) -> str | None:
        # A trial that lost its worker starts anew, and so does its curve.
        earlier = [p for p in trial.user_attrs.get("curve", ()) if p[0] < progress.fraction]
        curve = [*earlier, [progress.fraction, progress.values]]
        trial.set_user_attr("curve", curve)
        complete = self._ledger.with_status(Status.COMPLETE)
        if len(self._ledger.objectives) == 1:
            return self._stopping.halved(trial, progress, len(complete))
        finished = [(r.curve, r.values) for r in complete if r.curve]
        return self._stopping.hopeless(curve, finished, list(self._ledger.front().values()))
