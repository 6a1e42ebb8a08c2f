"""Our studies and trials as Optuna stores them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autosearch.contracts import SCORED, Outcome, Status, TrialRecord
from autosearch.errors import StudyError
from autosearch.storage.identity import SPEC

STUDY = "study"
"""Name of the one Optuna study in a journal; in a database it has the name that it was given."""

_FIRST = "first trials"

_OWN_ATTRIBUTES = {
    "status", "canonical", "key", "seconds", "reason", "traceback", "cached_from",
    "lease", "attempts", "curve", "duration", "threads", "taken_from", "values", "post",
}  # fmt: skip

# Optuna's samplers learn from a pruned trial with a broken constraint; from a failed one they
# learn nothing, and would go on proposing it.
_STATES = {
    Status.FAILED: TrialState.FAIL,
    Status.INFEASIBLE: TrialState.PRUNED,
    Status.PRUNED: TrialState.PRUNED,
}

_OF_SETTINGS = {*SCORED, Status.INFEASIBLE}
"""How trials end whose figures are of the setting that was chosen on their fit."""

_MAX_TRACEBACK = 20_000


def _anything(guard: Mapping[str, Any]) -> None:
    """Refuse nothing."""


def open_study(
    storage: optuna.storages.BaseStorage,
    directions: Mapping[str, str],
    guard: Mapping[str, Any],
    name: str = STUDY,
    check: Callable[[Mapping[str, Any]], object] = _anything,
    first: Callable[[], Sequence[object]] = tuple,
) -> optuna.Study:
    """Create or continue the study, refusing one that was made from something else.

    Args:
        storage: As `StudyFolder.storage` gives it.
        directions: Objective name to ``minimize`` or ``maximize``.
        guard: What must not change as long as the study lasts, by name.
        name: Of the Optuna study.
        check: Is given the guard of a study that is there, and refuses another spec.
        first: Gives what a new study begins with, to be kept; see `begins_with`.

    Raises:
        StudyError: The guard is another than when the study was made; both values are shown.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    existing = name in optuna.get_all_study_names(storage)
    begins = [] if existing else list(first())
    if existing:
        study = optuna.load_study(study_name=name, storage=storage)
    else:
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            directions=[StudyDirection[direction.upper()] for direction in directions.values()],
            load_if_exists=True,
        )
    if not existing or "guard" not in study.user_attrs:
        if begins := begins or list(first()):
            study.set_user_attr(_FIRST, begins)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(directions))
        study.set_user_attr("guard", dict(guard))
        return study
    before = study.user_attrs["guard"]
    check(before)
    hashes = {"data", "weights", "textures", *guard} - {SPEC}
    for name in sorted(hashes):
        if before.get(name) != guard.get(name):
            old, new = difference(before.get(name), guard.get(name))
            raise StudyError(
                f"this study was made with another {name}: {old} then, {new} now; "
                "give the new study another --name"
            )
    if SPEC in guard and SPEC not in before:
        # From now on all of it is compared.
        study.set_user_attr("guard", dict(guard))
    return study


def begins_with(study: optuna.Study) -> list[dict[str, Any]]:
    """What the study began with, where that was looked up elsewhere; see `open_study`."""
    return list(study.user_attrs.get(_FIRST, ()))


class StoredTrials:
    """The trials of one study, by their numbers.

    Args:
        study: As `open_study` gives it.
        storage: Where it is.
    """

    def __init__(self, study: optuna.Study, storage: optuna.storages.BaseStorage) -> None:
        self._study, self._storage = study, storage
        self._study_id = storage.get_study_id_from_name(study.study_name)
        self._seen = len(self.all())

    def __len__(self) -> int:
        # None is ever taken away, and listing all of them takes long where there are many.
        with suppress(KeyError):
            while True:
                self._id(self._seen)
                self._seen += 1
        return self._seen

    def all(self) -> list[FrozenTrial]:
        """As they stand, in order of number."""
        return self._study.get_trials(deepcopy=False)

    def running(self) -> list[FrozenTrial]:
        """Those that are not told."""
        return self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def frozen(self, number: int) -> FrozenTrial:
        """One as it stands."""
        return self._storage.get_trial(self._id(number))

    def live(self, number: int) -> optuna.Trial:
        """One to draw parameters of, or to report to."""
        return optuna.Trial(self._study, self._id(number))

    def ask(self) -> optuna.Trial:
        """A new one."""
        return self._study.ask()

    def set(self, number: int, name: str, value: object) -> None:
        """Set an attribute of one."""
        self._storage.set_trial_user_attr(self._id(number), name, value)

    def tell(
        self,
        number: int,
        outcome: Outcome,
        objectives: Sequence[str],
        attributes: Mapping[str, Any],
        told: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Give one its final state.

        Args:
            number: Of the trial.
            outcome: What came of it.
            objectives: Names, in order.
            attributes: What is kept beside the values.
            told: What the sampler shall take objectives for, where that is another value than
                theirs, which is then kept beside it.

        Raises:
            UpdateFinishedTrialError: It has one.
        """
        for name, value in attributes.items():
            self.set(number, name, value)
        for name, violation in outcome.violations.items():
            self.live(number).set_constraint(name, violation)
        state = _STATES.get(outcome.status, TrialState.COMPLETE)
        complete = state == TrialState.COMPLETE
        values = [outcome.values[name] for name in objectives] if complete else None
        if values is not None and told:
            self.set(number, "values", values)
            values = [told.get(name, outcome.values[name]) for name in objectives]
        self._study.tell(number, values, state=state, skip_if_finished=True)

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def record_of(trial: FrozenTrial, objectives: Sequence[str]) -> TrialRecord:
    """An Optuna trial as a plain record."""
    attributes = trial.user_attrs
    stated = attributes.get("status")
    if not trial.state.is_finished():
        status = Status.RUNNING
    elif stated in set(Status):
        status = Status(stated)
    else:
        status = Status.COMPLETE if trial.state == TrialState.COMPLETE else Status.FAILED
    values = attributes.get("values", trial.values) if status in SCORED else None
    # What an interrupted trial left counts for nothing.
    post = attributes.get("post") if status in _OF_SETTINGS else None
    drawn = dict(trial.params)
    # The clock of the machine may have been set back in the meantime.
    by_clock = max(0.0, trial.duration.total_seconds()) if trial.duration else None
    return TrialRecord(
        number=trial.number,
        status=status,
        params=post["params"] if post else drawn,
        canonical=post["canonical"] if post else attributes.get("canonical", {}),
        values=dict(zip(objectives, values, strict=True)) if values else {},
        measured={
            name: value for name, value in attributes.items() if name not in _OWN_ATTRIBUTES
        },
        seconds=attributes.get("seconds", {}),
        reason=attributes.get("reason"),
        cached_from=attributes.get("cached_from"),
        taken_from=_source(attributes.get("taken_from")),
        duration=attributes.get("duration", by_clock) if trial.state.is_finished() else None,
        curve=tuple((at, values) for at, values in attributes.get("curve", ())),
        threads=attributes.get("threads"),
        proposed=drawn if post else {},
        post=tuple(post["tried"]) if post else (),
    )


def _source(kept: Sequence[Any] | None) -> tuple[str, int] | None:
    """Folder and number of a trial of another study."""
    return (str(kept[0]), int(kept[1])) if kept else None


def attributes_of(outcome: Outcome) -> dict[str, Any]:
    """What an Optuna trial keeps of an outcome beside its values and constraints."""
    attributes: dict[str, Any] = {**outcome.measured, "seconds": outcome.seconds}
    if outcome.threads is not None:
        attributes["threads"] = outcome.threads
    if outcome.post is not None:
        attributes["post"] = outcome.post
    if outcome.status not in SCORED:
        # A value that counts for nothing as an objective is still worth reading.
        finite = {name: value for name, value in outcome.values.items() if math.isfinite(value)}
        attributes.update(finite, reason=outcome.reason)
    if outcome.traceback:
        attributes["traceback"] = outcome.traceback[-_MAX_TRACEBACK:]
    return attributes | {"status": str(outcome.status)}


def difference(old: object, new: object) -> tuple[str, str]:
    """Show only those entries of two mappings that differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        left = {name: old[name] for name in names if name in old}
        right = {name: new[name] for name in names if name in new}
        return str(left), str(right)
    return str(old), str(new)
