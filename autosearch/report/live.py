"""Studies while they are written: what changed is read; here nothing is written.

Whoever draws them may look every second or two: a study costs a few file stats as long as nothing
happens to it, a running one its new journal lines, and nobody waits for a large one. One whose
trials are in a database is asked for now and then.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import BaseJournalBackend

from autosearch.errors import AutosearchError
from autosearch.report.info import Info, study_info
from autosearch.storage import TEST, StudyFolder, TrialStore
from autosearch.study import LEASE_SECONDS, counts

_PATIENCE_SECONDS = 1.0
_TEST_SECONDS = 10.0
_DATABASE_SECONDS = 5.0
# After drawing up a large study for a second, leave it alone for four while it is being written.
_REST = 4.0


@dataclass(frozen=True)
class Reading:
    """Where a study stood when it was last read.

    Attributes:
        state: ``reading`` (for the first time), ``running``, ``finished``, ``stopped``, or
            ``unreadable``.
        counts: Trials of every status.
        budget: Trials wanted in all.
        problem: Why it is unreadable.
        info: `study_info`, or None where that was not asked for or is not there yet.
        version: Another number whenever ``info`` is another, in other processes too.
        changed: When the journal was last written to, or a lease renewed in the database, in
            seconds since the epoch.
    """

    state: str = "reading"
    counts: dict[str, int] = field(default_factory=dict)
    budget: int = 0
    problem: str | None = None
    info: Info | None = None
    version: int = 0
    changed: float = 0.0

    @property
    def finished(self) -> int:
        """Trials with a final status."""
        return sum(self.counts.values()) - self.counts.get("running", 0)


class JournalReader(BaseJournalBackend):
    """Optuna's journal, to be read only: each line once, and half a line not before it is whole.

    Optuna's own backend makes the file where there is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._head, self._offset = b"", 0

    def continues(self) -> bool:
        """Whether the file still begins as when it was first read, and has lost no line since."""
        with self._path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return size >= self._offset and file.readline().startswith(self._head)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """All lines that were not read before; ``log_number_from`` is their first number."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                log = json.loads(line)
                self._head = self._head or line
                self._offset += len(line)
                yield log

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Never done here.

        Raises:
            PermissionError: Always.
        """
        raise PermissionError(f"{self._path} is only read")


class _FollowedTrials(TrialStore):
    """Trials of a journal that is replayed once and followed from then on."""

    def __init__(self, folder: StudyFolder) -> None:
        super().__init__(
            folder.journal_path, folder.spec_path, None, folder.load_spec, folder.begun_with
        )
        self.reader = JournalReader(folder.journal_path)
        self._storage = optuna.storages.JournalStorage(self.reader)

    def storage(self, *, repair: bool = False) -> optuna.storages.JournalStorage:
        """The storage that follows the journal; it cannot be written to."""
        return self._storage


class FollowedFolder(StudyFolder):
    """A study's folder whose journal is replayed once and followed from then on."""

    @cached_property
    def trials(self) -> _FollowedTrials:
        """All trials."""
        return _FollowedTrials(self)


class LiveStudy:
    """One study's folder, read again only where it changed.

    Args:
        path: The folder; it may vanish, or hold anything.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._job: Future[None] | None = None
        self._folder: StudyFolder | None = None
        self._reading = Reading()
        self._counted: object = None
        self._drawn: object = None
        self._rest_until = 0.0
        self._tests: tuple[float, object] = (-_TEST_SECONDS, None)

    def refresh(self, pool: ThreadPoolExecutor, whole: bool) -> Future[None] | None:
        """Have the study read in the background if anything is new, one reading at a time.

        Args:
            pool: Who reads.
            whole: Whether `Reading.info` is wanted, not the counts alone.

        Returns:
            The reading under way, or None.
        """
        with self._lock:
            if self._job is None or self._job.done():
                now = self._stamps()
                stale = now[:-1] != self._counted or (
                    whole and now != self._drawn and time.monotonic() >= self._rest_until
                )
                self._job = pool.submit(self._read, now, whole) if stale else None
            return self._job

    def reading(self) -> Reading:
        """What the last reading found, and whether the study runs at this moment."""
        last = self._reading
        if last.problem or last.state == "reading":
            return last
        return replace(last, state=_state(last))

    def _stamps(self) -> tuple[object, ...]:
        """Another value whenever a file has changed; test figures are looked for now and then."""
        looked, tests = self._tests
        if time.monotonic() - looked >= _TEST_SECONDS:
            # A folder may vanish while it is listed.
            with suppress(OSError):
                places = (self.path.glob(f"{kind}/*/{TEST}") for kind in ("trials", "ensembles"))
                tests = sorted((str(p), _stamp(p)) for found in places for p in found)
            self._tests = (time.monotonic(), tests)
        paths = StudyFolder(self.path)
        files = (paths.journal_path, paths.spec_path, paths.meta_path, paths.storage_path)
        stamps = [*map(_stamp, (paths.notes_path, *files))]
        turn = None if stamps[-1] is None else time.monotonic() // _DATABASE_SECONDS
        return (*stamps, turn, tests)

    def _read(self, stamps: tuple[object, ...], whole: bool) -> None:
        last = self._reading
        try:
            folder = self._follow()
            changed = _last_sign(folder)
            budget, found = folder.load_spec().study.trials, counts(folder.trials.records())
            last = replace(
                last, state="stopped", counts=found, budget=budget, problem=None, changed=changed
            )
            self._reading = last
            self._counted = stamps[:-1]
            if whole:
                began = time.monotonic()
                info = study_info(folder)
                if info != last.info:
                    self._reading = replace(last, info=info, version=time.time_ns())
                self._drawn = stamps
                self._rest_until = time.monotonic() + _REST * (time.monotonic() - began)
        # Optuna replays a journal unchecked, so a damaged one may raise anything at all.
        except Exception as error:
            self._folder = None
            self._counted, self._drawn = stamps[:-1], stamps
            self._reading = Reading("unreadable", problem=_problem(error), version=time.time_ns())

    def _follow(self) -> StudyFolder:
        known, in_database = self._folder, StudyFolder(self.path).storage_path.is_file()
        if isinstance(known, FollowedFolder) == in_database or (
            isinstance(known, FollowedFolder) and not known.trials.reader.continues()
        ):
            known = None
        if known is None:
            known = StudyFolder.open(self.path) if in_database else FollowedFolder(self.path)
        self._folder = known
        return known


class Library:
    """The studies in a folder as they come and go. May be asked from several threads.

    Args:
        directory: A folder that holds studies, or the folder of one.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._known: dict[str, LiveStudy] = {}
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="reader")
        self._lock = threading.Lock()

    def paths(self) -> dict[str, Path]:
        """Folders of the studies that are there now, by name, in order of name."""
        try:
            inside = sorted(filter(_has_study, self.directory.iterdir()))
        except OSError:
            return {}
        found = [self.directory] if _has_study(self.directory) else inside
        # File names may be any bytes, but what is sent to a browser is text. The absolute path
        # has a name even where the folder was given as ".".
        return {os.fsencode(path.absolute().name).decode(errors="replace"): path for path in found}

    def foremost(self) -> str | None:
        """The study that was written to last."""
        paths = self.paths()
        return max(paths, key=lambda name: _changed(paths[name]), default=None)

    def look(self, whole: Collection[str]) -> dict[str, Reading]:
        """Where all studies stand, by name; those that take long to read are reported later.

        Args:
            whole: Names of the studies whose `Reading.info` is wanted.
        """
        with self._lock:
            self._known = {
                name: self._known.get(name) or LiveStudy(path)
                for name, path in self.paths().items()
            }
            known = dict(self._known)
        jobs = [study.refresh(self._pool, name in whole) for name, study in known.items()]
        wait([job for job in jobs if job], timeout=_PATIENCE_SECONDS)
        return {name: study.reading() for name, study in known.items()}


def _has_study(path: Path) -> bool:
    folder = StudyFolder(path)
    try:
        return folder.journal_path.is_file() or folder.storage_path.is_file()
    except OSError:
        return False


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _changed(path: Path) -> float:
    folder = StudyFolder(path)
    files = [folder.journal_path]
    if folder.storage_path.is_file():
        # Of a database nothing is known without asking; its heads make folders of their trials.
        files = [folder.storage_path, folder.path / "trials"]
    return max((stamp[2] / 1e9 for stamp in map(_stamp, files) if stamp), default=0.0)


def _last_sign(folder: StudyFolder) -> float:
    """When somebody who works on a study was last heard of."""
    if isinstance(folder, FollowedFolder):
        return folder.journal_path.stat().st_mtime
    return max(folder.trials.leases(), default=0.0) - LEASE_SECONDS


def _state(reading: Reading) -> str:
    # Whoever works on a trial renews its lease, and so writes, well before the lease runs out.
    if reading.counts["running"] and time.time() - reading.changed < LEASE_SECONDS:
        return "running"
    return "finished" if reading.finished >= reading.budget else "stopped"


def _problem(error: Exception) -> str:
    if isinstance(error, AutosearchError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return f"{error.filename} is gone"
    return f"the journal or the spec is damaged ({type(error).__name__}: {error})"
