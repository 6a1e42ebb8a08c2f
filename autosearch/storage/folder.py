"""The folder ``results/<study>/``: what is written during a search and read by all that follows.

``spec.yaml`` (resolved), ``meta.json`` (versions, seeds, hashes, machine), ``data.json`` (names
and short hashes of the images), ``study.journal``
(Optuna's) or ``storage.json`` (which database has the trials instead), ``trials/<number>/``
(artifacts, tracebacks), ``notes.json`` (what people wrote about trials), ``pareto.csv`` and
``study.log``. Files other than journal and log appear whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from functools import cached_property, reduce
from operator import getitem
from pathlib import Path
from typing import Any

from autosearch.errors import StudyError
from autosearch.files import write_atomic
from autosearch.spec import Override, StudySpec, defaults, load_spec
from autosearch.storage.data_files import Files, read_files, write_files
from autosearch.storage.database import VARIABLE, Database, read_place, write_place
from autosearch.storage.identity import begun_with
from autosearch.storage.notes import NOTES, TrialNote, read_notes, write_note
from autosearch.storage.stored import FORMAT, read_meta
from autosearch.storage.trial_files import TrialFiles
from autosearch.storage.trial_store import TrialStore

YOUNGER: dict[str, object] = {
    "dataset.regions": "resized",
    "dataset.fit": "stretch",
    "dataset.layout": "mvtec",
    "dataset.validation.normal": None,
    "resources.latency_threads": None,
    "dataset.validation.synthetic": None,
}
"""Keys of a spec that were added later, with the value that stands for what was done before."""


class StudyFolder:
    """Places of one study's files, its spec and its meta data.

    Args:
        path: The folder.
        database: Where a new study's trials shall be; by default in a file of the folder.

    Attributes:
        path: The folder.
        files: Those of single trials.
    """

    def __init__(self, path: Path, database: Database | None = None) -> None:
        self.path, self._given = path, database
        self.files = TrialFiles(path)

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
        folder.files.check()
        if folder.storage_path.is_file():
            folder._given = read_place(folder.storage_path, url)
        elif url is not None:
            raise StudyError(f"{path}: the trials are in {folder.journal_path}, in no database")
        return folder

    @classmethod
    def begin(
        cls, results: Path, spec: StudySpec, resume: bool, url: str | None = None
    ) -> StudyFolder:
        """The folder of a study about to be run.

        Args:
            results: The folder that holds it.
            spec: The study.
            resume: Whether it may be there already.
            url: Of the database that shall have its trials; by default the environment variable's.

        Raises:
            StudyError: There is one already, and it was not asked to continue it.
        """
        path = results / spec.study.name
        if not cls(path).exists():
            given = url or os.environ.get(VARIABLE)
            return cls(path, Database(given, spec.study.name) if given else None)
        folder = cls.open(path, url)
        if not resume:
            if not folder.trials.records():
                # Left by a run that ended before its first trial, on an error perhaps.
                folder.journal_path.unlink(missing_ok=True)
                return folder
            raise StudyError(
                f"{folder.path}: this study exists; continue it with `autosearch resume "
                f"{folder.path}`, or start another with --name"
            )
        return folder

    def exists(self) -> bool:
        """Whether a study has been started in the folder."""
        return self.spec_path.is_file() and (
            self.journal_path.is_file() or self.storage_path.is_file()
        )

    @cached_property
    def trials(self) -> TrialStore:
        """All trials."""
        return TrialStore(
            self.journal_path, self.spec_path, self.database, self.load_spec, self.begun_with
        )

    @cached_property
    def database(self) -> Database | None:
        """Who has the trials, if it is not the journal."""
        if self._given is None and self.storage_path.is_file():
            return read_place(self.storage_path)
        return self._given

    @property
    def spec_path(self) -> Path:
        """The resolved spec."""
        return self.path / "spec.yaml"

    @property
    def meta_path(self) -> Path:
        """Versions, seeds, hashes and the machine."""
        return self.path / "meta.json"

    @property
    def files_path(self) -> Path:
        """Names and short hashes of the images that the study was begun with."""
        return self.path / "data.json"

    @property
    def journal_path(self) -> Path:
        """Optuna's journal; opens in optuna-dashboard."""
        return self.path / "study.journal"

    @property
    def storage_path(self) -> Path:
        """Which database has the trials, if the journal does not."""
        return self.path / "storage.json"

    @property
    def notes_path(self) -> Path:
        """What people wrote about trials."""
        return self.path / NOTES

    @property
    def log_path(self) -> Path:
        """What happened to the study, line by line."""
        return self.path / "study.log"

    def load_spec(self, overrides: Iterable[Override] = ()) -> StudySpec:
        """The spec that the study was started with.

        A stored spec is complete, so a key that it lacks is younger than the study, which goes on
        as it was begun.

        Args:
            overrides: See `autosearch.spec.load_spec`.
        """
        return load_spec(self.spec_path, overrides, YOUNGER)

    def as_begun(self, spec: StudySpec) -> StudySpec:
        """A spec to go on with, in which what `YOUNGER` names is as the study has it.

        Args:
            spec: What is asked for, with defaults of this version. What is no default was meant,
                and stays: it is refused if the study has it otherwise.
        """
        if not self.exists():
            return spec
        begun, asked = self.load_spec().model_dump(), spec.model_dump()
        usual = defaults(StudySpec)
        kept = []
        for key in YOUNGER:
            before, now = (reduce(getitem, key.split("."), values) for values in (begun, asked))
            if now == usual.get(key, now):
                kept.append((key, before))
        return load_spec(asked, kept)

    def begun_with(self, guard: Mapping[str, Any]) -> dict[str, Any]:
        """Values of keys that the study was begun with, by dotted name.

        Args:
            guard: What stands beside its trials. Earlier versions kept less there, so that not
                all keys are known.
        """
        return begun_with(guard, self.load_meta(), YOUNGER)

    def load_meta(self) -> dict[str, Any]:
        """What `write_meta` wrote; empty if the search never came so far.

        Raises:
            StudyError: It is damaged, or written by a newer program.
        """
        return read_meta(self.meta_path)

    def load_files(self) -> Files | None:
        """The images that the study was begun with; None if that was not kept."""
        sha256 = (self.load_meta().get("data") or {}).get("sha256")
        return read_files(self.files_path, sha256) if sha256 else None

    def write_files(self, sha256: str, files: Files) -> None:
        """Keep which images the study is made with; see `autosearch.storage.data_files`."""
        write_files(self.files_path, sha256, files)

    def load_notes(self) -> dict[int, TrialNote]:
        """What people wrote about trials; see `autosearch.storage.notes`."""
        return read_notes(self.path)

    def write_note(self, number: int, text: str) -> TrialNote | None:
        """Attach a note to a trial; see `autosearch.storage.notes`."""
        return write_note(self.path, number, text)

    def write_spec(self, spec: StudySpec) -> None:
        """Write the resolved spec, and before it which database has the trials."""
        if self.database is not None:
            write_place(self.storage_path, self.database)
        write_atomic(self.spec_path, spec.to_yaml())

    def write_meta(self, meta: Mapping[str, Any]) -> None:
        """Write versions, seeds, hashes and the machine."""
        content = {"format": FORMAT, **meta}
        write_atomic(self.meta_path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
