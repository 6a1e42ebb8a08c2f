"""Ask, tell, reap, resume: the one place that drives an Optuna study. Knows nothing of Ray.

Every trial number below the budget is evaluated to one final status. A trial whose worker or
whose whole process died keeps its number and its parameters and is handed out again; so is one
that a user's Ctrl-C cut off. Who works on a running trial, and until when others must believe it,
stands in the trial itself as a lease.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from autosearch import pareto
from autosearch.early_stopping import EarlyStopping
from autosearch.errors import Infeasible
from autosearch.results import STUDY, StudyFolder, open_study, record_of
from autosearch.sampling import ReproducibleSampler
from autosearch.space import Params
from autosearch.spec import StudySpec
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

LEASE_SECONDS = 120.0
"""How long a running trial of a silent process on another machine is left alone."""

_MAX_TRACEBACK = 20_000


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
    ) -> None:
        self._folder, self._spec, self._canonical = folder, spec, canonical
        self._objectives = tuple(directions)
        self._directions = list(directions.values())
        self._space = spec.parsed_space
        self._listener: Callable[[TrialRecord], None] = lambda record: None
        self._storage = folder.storage(repair=True)
        self._study = open_study(self._storage, directions, {**spec.identity(), **guard})
        self._study.sampler = ReproducibleSampler(
            spec.sampler, self._space, spec.study.seed, spec.start
        )
        self._stopping = EarlyStopping(spec.pruner, directions)
        self._study.pruner = self._stopping.pruner()
        self._id = self._storage.get_study_id_from_name(STUDY)
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._retry: deque[int] = deque()
        self._mine: dict[int, Assignment] = {}
        self._leader: dict[str, int] = {}
        self._followers: dict[str, list[int]] = {}
        self._cache: dict[str, FrozenTrial] = {}
        self._records: dict[int, TrialRecord] = {}
        self._lock = threading.RLock()
        self._stopped = False
        timeout = spec.study.timeout
        self._deadline = time.monotonic() + timeout if timeout else math.inf
        self._refresh()
        with folder.lock():
            self._reap()
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
                number = self._next_number()
                if number is None:
                    return None
                if assignment := self._prepare(number):
                    return assignment
        return None

    def tell(self, number: int, outcome: Outcome) -> TrialRecord:
        """Store what a worker sent back; a trial that is already told stays as it is."""
        with self._lock:
            assignment = self._mine.pop(number)
            outcome = self._checked(outcome)
            record = self._store(number, outcome)
            key = canonical_key(assignment.canonical)
            self._leader.pop(key, None)
            for follower in self._followers.pop(key, []):
                if self._is_known(key):
                    self._tell_cached(follower, key)
                else:
                    self._store(follower, replace(outcome, artifacts={}))
            return record

    def report(self, number: int, progress: Progress) -> Outcome | None:
        """Take note of how a trial stands in the middle of its training.

        Returns:
            What to tell if the trial is not worth finishing, None to let it go on.
        """
        with self._lock:
            trial, key = self._trial(number), "curve"
            # A trial that lost its worker starts anew, and so does its curve.
            earlier = [p for p in trial.user_attrs.get(key, ()) if p[0] < progress.fraction]
            curve = [*earlier, [progress.fraction, progress.values]]
            trial.set_user_attr(key, curve)
            scored = [r for r in self._records.values() if r.status == Status.COMPLETE]
            if len(self._objectives) == 1:
                reason = self._stopping.halved(trial, progress, len(scored))
            else:
                finished = [(r.curve, r.values) for r in scored if r.curve]
                reason = self._stopping.hopeless(curve, finished, list(self._front().values()))
        if reason is None:
            return None
        measured = {"fraction": progress.fraction}
        return Outcome(Status.PRUNED, progress.values, measured, reason=reason)

    def lost(self, number: int, reason: str) -> None:
        """Take note that a trial's worker died: hand the trial out again, or give it up."""
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
            for number in filter(self._holds, self._held()):
                self._set(number, "lease", None)
            self._mine.clear()

    def summary(self) -> Summary:
        """Counts and front so far."""
        with self._lock:
            counts = dict.fromkeys(Status, 0)
            for record in self._records.values():
                counts[record.status] += 1
            counts[Status.RUNNING] = len(self._mine) + sum(map(len, self._followers.values()))
            return Summary(counts, self._spec.study.trials, self._front())

    def _front(self) -> dict[int, Mapping[str, float]]:
        scored = [record for record in self._records.values() if record.status in SCORED]
        if not scored:
            return {}
        table = [[record.values[name] for name in self._objectives] for record in scored]
        return {scored[i].number: scored[i].values for i in pareto.front(table, self._directions)}

    def _over(self) -> bool:
        return self._stopped or time.monotonic() > self._deadline

    def _exhausted(self) -> bool:
        return not self._retry and not self._running() and self._count() >= self._budget

    @property
    def _budget(self) -> int:
        return self._spec.study.trials

    def _count(self) -> int:
        return len(self._study.get_trials(deepcopy=False))

    def _running(self) -> list[FrozenTrial]:
        states = (TrialState.RUNNING,)
        trials = self._study.get_trials(deepcopy=False, states=states)
        return [trial for trial in trials if trial.number < self._budget]

    def _trial(self, number: int) -> optuna.Trial:
        return optuna.Trial(self._study, self._trial_id(number))

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, number)

    def _set(self, number: int, name: str, value: object) -> None:
        self._storage.set_trial_user_attr(self._trial_id(number), name, value)

    def _held(self) -> list[int]:
        """Numbers that are out, wait for another's result, or are to be handed out again."""
        waiting = [number for numbers in self._followers.values() for number in numbers]
        return [*self._mine, *waiting, *self._retry]

    def _holds(self, number: int) -> bool:
        """Whether nobody else has taken over or told the trial, believing this process dead."""
        trial = self._frozen(number)
        lease = trial.user_attrs.get("lease") or {}
        return not trial.state.is_finished() and lease.get("owner") == self._owner

    def _next_number(self) -> int | None:
        with self._folder.lock():
            if not self._retry and self._count() >= self._budget:
                self._reap()
            while self._retry:
                if self._holds(number := self._retry.popleft()):
                    return number
            if self._count() >= self._budget:
                return None
            number = self._study.ask().number
            self._set_lease(number)
            return number

    def _prepare(self, number: int) -> Assignment | None:
        """Draw a trial's parameters; tell it at once if nothing needs to be evaluated."""
        trial = self._trial(number)
        params = self._space.suggest(trial)
        try:
            canonical = self._canonical(params)
        except Infeasible as reason:
            violations = {"feasible": 1.0}
            outcome = Outcome(Status.INFEASIBLE, violations=violations, reason=str(reason))
            self._store(number, outcome)
            return None
        key = canonical_key(canonical)
        trial.set_user_attr("canonical", canonical)
        if self._is_known(key):
            self._tell_cached(number, key)
            return None
        if key in self._leader:
            self._followers.setdefault(key, []).append(number)
            return None
        seed = trial_seed(self._spec.study.seed, canonical)
        assignment = Assignment(number, params, canonical, seed)
        self._leader[key] = number
        self._mine[number] = assignment
        return assignment

    def _is_known(self, key: str) -> bool:
        if key not in self._cache:
            self._refresh()
        return key in self._cache

    def _checked(self, outcome: Outcome) -> Outcome:
        """A complete outcome with a value missing or not finite becomes a failed one."""
        unknown = [name for name, by in outcome.violations.items() if math.isnan(by)]
        if unknown:
            reason = f"constraint {unknown[0]} is on a value that is nan"
            return replace(outcome, status=Status.FAILED, violations={}, reason=reason)
        if outcome.status != Status.COMPLETE:
            return outcome
        for name in self._objectives:
            value = outcome.values.get(name)
            if value is None or not math.isfinite(value):
                reason = f"objective {name} is {'missing' if value is None else value}"
                return replace(outcome, status=Status.FAILED, reason=reason)
        return outcome

    def _store(self, number: int, outcome: Outcome) -> TrialRecord:
        if (told := self._frozen(number)).state.is_finished():
            return self._remember(told)
        self._folder.write_outcome(number, outcome)
        attributes: dict[str, Any] = {**outcome.measured, "seconds": outcome.seconds}
        if outcome.status != Status.COMPLETE:
            # A value that counts for nothing as an objective is still worth reading.
            finite = {n: v for n, v in outcome.values.items() if math.isfinite(v)}
            attributes.update(finite, reason=outcome.reason)
        if outcome.traceback:
            attributes["traceback"] = outcome.traceback[-_MAX_TRACEBACK:]
        return self._finish(number, outcome.status, outcome, attributes)

    def _tell_cached(self, number: int, key: str) -> None:
        source = self._cache[key]
        original = record_of(source, self._objectives)
        outcome = Outcome(
            Status.CACHED, original.values, original.measured, violations=source.constraints
        )
        attributes = {**original.measured, "cached_from": source.number}
        self._finish(number, Status.CACHED, outcome, attributes)

    def _finish(
        self, number: int, status: Status, outcome: Outcome, attributes: Mapping[str, Any]
    ) -> TrialRecord:
        trial = self._trial(number)
        for name, value in {**attributes, "status": str(status)}.items():
            trial.set_user_attr(name, value)
        for name, violation in outcome.violations.items():
            trial.set_constraint(name, violation)
        # Optuna's samplers learn from a pruned trial with a broken constraint; from a failed
        # one they learn nothing, and would go on proposing it.
        states = {Status.FAILED: TrialState.FAIL, Status.INFEASIBLE: TrialState.PRUNED,
                  Status.PRUNED: TrialState.PRUNED}  # fmt: skip
        state = states.get(status, TrialState.COMPLETE)
        complete = state == TrialState.COMPLETE
        values = [outcome.values[name] for name in self._objectives] if complete else None
        self._study.tell(number, values, state=state, skip_if_finished=True)
        return self._remember(self._frozen(number))

    def _frozen(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._trial_id(number))

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
        for trial in self._study.get_trials(deepcopy=False):
            mine = trial.number in self._records or trial.number >= self._budget
            if trial.state.is_finished() and not mine:
                self._remember(trial)

    def _reap(self) -> None:
        """Take over running trials that nobody works on any more. Only under the folder's lock."""
        held = set(self._held())
        for trial in self._running():
            number, lease = trial.number, trial.user_attrs.get("lease")
            if number in held:
                continue
            if lease is None:
                self._set_lease(number)
                self._retry.append(number)
            elif self._abandoned(lease):
                self._hand_out_again(number, "the process that ran the search died")

    def _abandoned(self, lease: Mapping[str, Any]) -> bool:
        if time.time() > lease["expires"]:
            return True
        host, pid, _ = lease["owner"].rsplit(":", 2)
        return host == socket.gethostname() and not _alive(int(pid))

    def _hand_out_again(self, number: int, reason: str) -> None:
        lost = int(self._frozen(number).user_attrs.get("attempts", 0)) + 1
        self._set(number, "attempts", lost)
        if lost > self._spec.study.retries:
            self._store(number, Outcome(Status.FAILED, reason=f"{reason} ({lost} times)"))
            return
        self._set_lease(number)
        self._retry.append(number)

    def _set_lease(self, number: int) -> None:
        lease = {"owner": self._owner, "expires": time.time() + LEASE_SECONDS}
        self._set(number, "lease", lease)

    def _renew_leases(self) -> None:
        while not self._closing.wait(LEASE_SECONDS / 3):
            with self._lock:
                for number in filter(self._holds, self._held()):
                    self._set_lease(number)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
