"""The folder ``results/<study>/``: what is written during a search and read by all that follows.

``spec.yaml`` (resolved), ``meta.json`` (versions, seeds, hashes, machine), ``study.journal``
(Optuna's) or ``storage.json`` (which database has the trials instead), ``trials/<number>/``
(artifacts, tracebacks), ``pareto.csv`` and ``study.log``. Files other than journal and log appear
whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.trial import TrialState

from autosearch.contracts import Outcome, TrialRecord
from autosearch.errors import AutosearchError, StudyError
from autosearch.files import FileLock, write_atomic
from autosearch.spec import StudySpec, load_spec
from autosearch.storage.database import Database, read_place, write_place
from autosearch.storage.journal import Journal, mend
from autosearch.storage.optuna_study import STUDY, difference, record_of
from autosearch.storage.outbox import Outbox
from autosearch.storage.stored import FORMAT, read_meta, read_test

_Result = TypeVar("_Result")

TEST = "test.json"
"""What a trial reached on the test split, written by ``autosearch evaluate`` alone."""


class StudyFolder:
    """Paths and files of one study.

    Args:
        path: The folder.
        database: Where a new study's trials shall be; by default in a file of the folder.
    """

    def __init__(self, path: Path, database: Database | None = None) -> None:
        self.path, self._given = path, database

    @classmethod
    def open(cls, path: Path, url: str | None = None) -> StudyFolder:
        """An existing study's folder.

        Args:
            path: The folder.
            url: Of the database that has its trials, with user and password.

        Raises:
            StudyError: There is no study, or it is not in that database; a newer program made it,
                or somebody put a link in the place of a trial's folder.
        """
        folder = cls(path)
        if not folder.exists():
            raise StudyError(f"{path}: no study here (no spec.yaml and study.journal)")
        folder.load_meta()
        for place in (path / "trials", *path.glob("trials/*")):
            if place.is_symlink():
                raise StudyError(f"{place}: is a link, which leads out of the study's folder")
        if folder.storage_path.is_file():
            folder._given = read_place(folder.storage_path, url)
        elif url is not None:
            raise StudyError(f"{path}: the trials are in {folder.journal_path}, in no database")
        return folder

    def exists(self) -> bool:
        """Whether a study has been started in the folder."""
        return self.spec_path.is_file() and (
            self.journal_path.is_file() or self.storage_path.is_file()
        )

    @cached_property
    def database(self) -> Database | None:
        """Who has the trials, if it is not the journal."""
        if self._given is None and self.storage_path.is_file():
            return read_place(self.storage_path)
        return self._given

    @property
    def study(self) -> str:
        """The name of the Optuna study."""
        return self.database.study if self.database else STUDY

    @property
    def outbox(self) -> Outbox | None:
        """For outcomes that a database does not have yet; a journal is as near as any file."""
        return Outbox(self.path / "outbox") if self.database else None

    @property
    def spec_path(self) -> Path:
        """The resolved spec."""
        return self.path / "spec.yaml"

    @property
    def meta_path(self) -> Path:
        """Versions, seeds, hashes and the machine."""
        return self.path / "meta.json"

    @property
    def journal_path(self) -> Path:
        """Optuna's journal; opens in optuna-dashboard."""
        return self.path / "study.journal"

    @property
    def storage_path(self) -> Path:
        """Which database has the trials, if the journal does not."""
        return self.path / "storage.json"

    @property
    def log_path(self) -> Path:
        """What happened to the study, line by line."""
        return self.path / "study.log"

    def trial_path(self, number: int) -> Path:
        """Folder of one trial."""
        return self.path / "trials" / str(number)

    def load_spec(self) -> StudySpec:
        """The spec that the study was started with."""
        return load_spec(self.spec_path)

    def load_meta(self) -> dict[str, Any]:
        """What `write_meta` wrote; empty if the search never came so far.

        Raises:
            StudyError: It is damaged, or written by a newer program.
        """
        return read_meta(self.meta_path)

    def write_spec(self, spec: StudySpec) -> None:
        """Write the resolved spec, and before it which database has the trials."""
        if self.database is not None:
            write_place(self.storage_path, self.database)
        write_atomic(self.spec_path, spec.to_yaml())

    def write_meta(self, meta: Mapping[str, Any]) -> None:
        """Write versions, seeds, hashes and the machine."""
        content = {"format": FORMAT, **meta}
        write_atomic(self.meta_path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

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
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(f"{self.path}: cannot be made ({error.strerror})") from None
        if self.database is not None:
            return self.database.storage
        if repair:
            mend(self.journal_path, begun=self.spec_path.is_file())
        with self._replaying():
            return optuna.storages.JournalStorage(Journal(self.journal_path))

    def exclusively(self, action: Callable[[], _Result]) -> _Result:
        """Do what only one of those who hand out trials may do at a time.

        Args:
            action: Is repeated from its start if a database is lost on the way.
        """
        if self.database is not None:
            return self.database.exclusively(action)
        with FileLock(self.path / "study.lock"):
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
                raise StudyError(f"{place or self.journal_path}: holds no study")
            study = optuna.load_study(study_name=self.study, storage=storage)
            names = study.metric_names or [f"value_{i}" for i in range(len(study.directions))]
            # A crash between the study's first lines leaves it without names, and without trials.
            named = {"objectives": names} if study.metric_names else {}
            self._check_spec({**study.user_attrs.get("guard", {}), **named})
            return [record_of(trial, names) for trial in study.get_trials(deepcopy=False)]

    def _check_spec(self, made: Mapping[str, Any]) -> None:
        """Refuse a spec that somebody has put in the place of the study's own."""
        if not self.spec_path.is_file():
            return
        now = self.load_spec().identity()
        for name in ("runner", "objectives", "space"):
            if made.get(name, now[name]) != now[name]:
                old, new = difference(made[name], now[name])
                raise StudyError(
                    f"{self.spec_path}: is not the spec of this study, which was made with "
                    f"another {name}: {old} then, {new} now"
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
                f"{self.journal_path}: is damaged ({type(error).__name__}: {error}); `autosearch "
                "resume` mends its end, anything else needs a copy of it"
            ) from None

    def leases(self) -> list[float]:
        """When those who work on trials must have renewed their leases, in seconds since 1970."""
        study = optuna.load_study(study_name=self.study, storage=self.storage())
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        given = [trial.user_attrs.get("lease") for trial in running]
        return [lease["expires"] for lease in given if lease]

    def write_test(self, number: int, figures: Mapping[str, Any]) -> None:
        """Keep what a trial reached on the test split."""
        text = json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        self._write(number, TEST, text)

    def load_tests(self) -> dict[int, dict[str, Any]]:
        """What `write_test` wrote, by trial number; few trials have it.

        Raises:
            StudyError: A file cannot be read.
        """
        found = {}
        for path in self.path.glob(f"trials/*/{TEST}"):
            linked = path.is_symlink() or path.parent.is_symlink()
            if path.parent.name.isdecimal() and not linked:
                found[int(path.parent.name)] = read_test(path)
        return dict(sorted(found.items()))

    def write_outcome(self, number: int, outcome: Outcome) -> None:
        """Keep a trial's artifacts and traceback.

        Raises:
            StudyError: The trial's folder is a link, or an artifact's name leads out of it; or the
                disk is full or broken.
        """
        for name, content in outcome.artifacts.items():
            self._write(number, name, content)
        if outcome.traceback:
            self._write(number, "traceback.txt", outcome.traceback)

    def _write(self, number: int, name: str, content: bytes | str) -> None:
        """Write a file of a trial, into the trial's own folder and no other."""
        folder = self.trial_path(number)
        own = Path(name).name == name != ".."
        if not own or folder.is_symlink() or folder.parent.is_symlink():
            raise StudyError(f"{folder / name}: lies outside of the study's folder")
        try:
            write_atomic(folder / name, content)
        except OSError as error:
            raise StudyError(f"{folder / name}: cannot be written ({error.strerror})") from None
