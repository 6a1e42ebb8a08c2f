"""Where a study's trials are kept: in Optuna's journal, or in a database in its place."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.trial import TrialState

from autosearch.contracts import TrialRecord
from autosearch.errors import AutosearchError, StudyError
from autosearch.files import FileLock
from autosearch.spec import StudySpec
from autosearch.storage.database import Database
from autosearch.storage.identity import first_difference, not_kept
from autosearch.storage.journal import Journal, mend
from autosearch.storage.optuna_study import STUDY, difference, record_of
from autosearch.storage.outbox import Outbox

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class TrialStore:
    """All trials of one study.

    Args:
        journal: The file that has them if no database does.
        spec: The study's spec, beside which they make sense.
        database: Who has them, if it is not the journal.
        load: Reads the spec.
        begun: What a guard says that the study was begun with, by dotted key.
    """

    def __init__(
        self,
        journal: Path,
        spec: Path,
        database: Database | None,
        load: Callable[[], StudySpec],
        begun: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    ) -> None:
        self._journal, self._spec, self.database = journal, spec, database
        self._load, self._begun = load, begun

    @property
    def study(self) -> str:
        """The name of the Optuna study."""
        return self.database.study if self.database else STUDY

    @property
    def outbox(self) -> Outbox | None:
        """For outcomes that a database does not have yet; a journal is as near as any file."""
        return Outbox(self._journal.parent / "outbox") if self.database else None

    def storage(self, *, repair: bool = False) -> optuna.storages.BaseStorage:
        """The study's Optuna storage, made if there is none.

        Args:
            repair: Cut off what stands behind the last whole line: half a line, as a process
                killed in the middle of an append leaves it, or what a power cut leaves. Nothing
                that is added after it could be read. It never holds a told trial. Only for those
                who write: a reader might cut what a writer is just adding.

        Raises:
            StudyError: The folder cannot be made, the database cannot be reached, or the journal
                is damaged.
        """
        folder = self._journal.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(f"{folder}: cannot be made ({error.strerror})") from None
        if self.database is not None:
            return self.database.storage
        if repair:
            mend(self._journal, begun=self._spec.is_file())
        with self._replaying():
            return optuna.storages.JournalStorage(Journal(self._journal))

    def exclusively(self, action: Callable[[], _Result]) -> _Result:
        """Do what only one of those who hand out trials may do at a time.

        Args:
            action: Is repeated from its start if a database is lost on the way.
        """
        if self.database is not None:
            return self.database.exclusively(action)
        with FileLock(self._journal.with_name("study.lock")):
            return action()

    def records(self) -> list[TrialRecord]:
        """All trials in order of number.

        Raises:
            StudyError: The journal holds no study or is damaged, or the spec is another one's.
        """
        storage = self.storage()
        with self._replaying():
            if self.study not in optuna.get_all_study_names(storage):
                place = f"{self.database.address}, {self.study}" if self.database else ""
                raise StudyError(f"{place or self._journal}: holds no study")
            study = optuna.load_study(study_name=self.study, storage=storage)
            names = study.metric_names or [f"value_{i}" for i in range(len(study.directions))]
            # A crash between the study's first lines leaves it without names, and without trials.
            named = {"objectives": names} if study.metric_names else {}
            self._check_spec({**self._begun(study.user_attrs.get("guard", {})), **named})
            return [record_of(trial, names) for trial in study.get_trials(deepcopy=False)]

    def leases(self) -> list[float]:
        """When those who work on trials must have renewed their leases, in seconds since 1970."""
        study = optuna.load_study(study_name=self.study, storage=self.storage())
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        given = [trial.user_attrs.get("lease") for trial in running]
        return [lease["expires"] for lease in given if lease]

    def check(self, guard: Mapping[str, Any], spec: StudySpec) -> None:
        """Refuse a spec with which no trial may be added to the study.

        Args:
            guard: What stands beside the trials.
            spec: What is asked for.

        Raises:
            StudyError: A key has another value than the study was begun with; both are shown.
        """
        begun = self._begun(guard)
        self._refuse(begun, spec)
        if missing := not_kept(begun, spec):
            _log.warning(
                "%s: begun by an earlier version, which did not keep all that a study is made "
                "with; not compared: %s",
                self._spec.parent,
                ", ".join(missing),
            )

    def check_early(self, spec: StudySpec) -> None:
        """Refuse before images are read what `check` would refuse after.

        Args:
            spec: What is asked for; the architecture that it builds upon may not be looked up yet,
                and what its validation has by itself depends on the images.

        Raises:
            StudyError: As `check`, or the journal is damaged.
        """
        storage = self.storage(repair=True)
        with self._replaying():
            if self.study not in optuna.get_all_study_names(storage):
                return
            study = optuna.load_study(study_name=self.study, storage=storage)
            guard = study.user_attrs.get("guard", {})
        begun = dict(self._begun(guard))
        begun.pop("backbone.architecture", None)
        if spec.dataset.validation.real_per_type == "auto":
            for name in ("real_per_type", "synthetic"):
                begun.pop(f"dataset.validation.{name}", None)
        self._refuse(begun, spec)

    def _refuse(self, begun: Mapping[str, Any], spec: StudySpec) -> None:
        if (found := first_difference(begun, spec)) is not None:
            key, then, now = found
            old, new = difference(then, now)
            raise StudyError(
                f"this study was made with another {key}: {old} then, {new} now; set it back, or "
                "give the new study another --name"
            )

    def _check_spec(self, begun: Mapping[str, Any]) -> None:
        """Refuse a spec that somebody has put in the place of the study's own."""
        if not self._spec.is_file():
            return
        if (found := first_difference(begun, self._load())) is not None:
            key, then, now = found
            old, new = difference(then, now)
            raise StudyError(
                f"{self._spec}: is not the spec of this study, which was made with another {key}: "
                f"{old} then, {new} now; set it back, or begin another study with --name"
            )

    @contextmanager
    def _replaying(self) -> Iterator[None]:
        """Name the journal where Optuna, which replays it unchecked, fails in any way at all."""
        try:
            yield
        except (AutosearchError, OSError):
            raise
        except Exception as error:
            if self.database is not None:
                raise
            raise StudyError(
                f"{self._journal}: is damaged ({type(error).__name__}: {error}); `autosearch "
                "resume` mends its end, anything else needs a copy of it"
            ) from None
