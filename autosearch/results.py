"""The folder ``results/<study>/``: what is written during a search and read by all that follows.

``spec.yaml`` (resolved), ``meta.json`` (versions, seeds, hashes, machine), ``study.journal``
(Optuna's), ``trials/<number>/`` (artifacts, tracebacks) and ``pareto.csv``. Files other than the
journal appear whole or not at all.
"""

from __future__ import annotations

import csv
import io
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autosearch import pareto
from autosearch.errors import StudyError
from autosearch.files import FileLock, write_atomic
from autosearch.spec import StudySpec, load_spec
from autosearch.trials import SCORED, Outcome, Status, TrialRecord

STUDY = "study"
"""Name of the one Optuna study in a journal."""

TEST = "test.json"
"""What a trial reached on the test split, written by ``autosearch evaluate`` alone."""

_OWN_ATTRIBUTES = {
    "status", "canonical", "key", "seconds", "reason", "traceback", "cached_from",
    "lease", "attempts", "curve",
}  # fmt: skip


class StudyFolder:
    """Paths and files of one study."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path) -> StudyFolder:
        """An existing study's folder.

        Raises:
            StudyError: There is no study.
        """
        folder = cls(path)
        if not folder.exists():
            raise StudyError(f"{path}: no study here (no spec.yaml and study.journal)")
        return folder

    def exists(self) -> bool:
        """Whether a study has been started in the folder."""
        return self.spec_path.is_file() and self.journal_path.is_file()

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

    def trial_path(self, number: int) -> Path:
        """Folder of one trial."""
        return self.path / "trials" / str(number)

    def load_spec(self) -> StudySpec:
        """The spec that the study was started with."""
        return load_spec(self.spec_path)

    def load_meta(self) -> dict[str, Any]:
        """What `write_meta` wrote; empty if the search never came so far."""
        try:
            meta = json.loads(self.meta_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise StudyError(f"{self.meta_path}: cannot be read ({error})") from None
        return meta if isinstance(meta, dict) else {}

    def write_spec(self, spec: StudySpec) -> None:
        """Write the resolved spec."""
        write_atomic(self.spec_path, spec.to_yaml())

    def write_meta(self, meta: Mapping[str, Any]) -> None:
        """Write versions, seeds, hashes and the machine."""
        write_atomic(self.meta_path, json.dumps(meta, indent=2, ensure_ascii=False) + "\n")

    def storage(self, *, repair: bool = False) -> optuna.storages.JournalStorage:
        """The study's Optuna storage, made if there is none.

        Args:
            repair: Cut off half a line that a process killed in the middle of an append has left;
                nothing that is added after it could be read. It never holds a told trial. Only
                for those who write: a reader might cut what a writer is just adding.

        Raises:
            StudyError: The folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(f"{self.path}: cannot be made ({error.strerror})") from None
        if repair:
            _cut_unfinished_line(self.journal_path)
        return optuna.storages.JournalStorage(_Journal(self.journal_path))

    def lock(self) -> FileLock:
        """To be held by whoever hands out trials."""
        return FileLock(self.path / "study.lock")

    def records(self) -> list[TrialRecord]:
        """All trials in order of number.

        Raises:
            StudyError: The journal holds no study.
        """
        try:
            study = optuna.load_study(study_name=STUDY, storage=self.storage())
        except KeyError:
            raise StudyError(f"{self.journal_path}: holds no study") from None
        names = study.metric_names or [f"value_{i}" for i in range(len(study.directions))]
        return [record_of(trial, names) for trial in study.get_trials(deepcopy=False)]

    def write_test(self, number: int, figures: Mapping[str, Any]) -> None:
        """Keep what a trial reached on the test split."""
        text = json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomic(self.trial_path(number) / TEST, text)

    def load_tests(self) -> dict[int, dict[str, Any]]:
        """What `write_test` wrote, by trial number; few trials have it.

        Raises:
            StudyError: A file cannot be read.
        """
        found = {}
        for path in self.path.glob(f"trials/*/{TEST}"):
            try:
                found[int(path.parent.name)] = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise StudyError(f"{path}: cannot be read ({error})") from None
        return dict(sorted(found.items()))

    def write_outcome(self, number: int, outcome: Outcome) -> None:
        """Keep a trial's artifacts and traceback."""
        for name, content in outcome.artifacts.items():
            write_atomic(self.trial_path(number) / name, content)
        if outcome.traceback:
            write_atomic(self.trial_path(number) / "traceback.txt", outcome.traceback)


class _Journal(JournalFileBackend):
    """Optuna's journal file, with a lock that dies with its process, and fewer waits for the disk.

    Optuna's own locks outlive a process that is killed while it writes, the default one for ever
    where the path is relative. And it waits for the disk after every line, some 30 times a trial;
    here only a trial that begins or ends is worth that. A crash of the process loses nothing
    either way; a power cut can lose what is known of trials still running.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lock: Any = FileLock(path)
        super().__init__(str(path), lock_obj=lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add lines; see `JournalFileBackend.append_logs`."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with FileLock(self._path), self._path.open("ab") as file:
            file.write(lines.encode())
            file.flush()
            if any("state" in log for log in logs):
                os.fsync(file.fileno())


def open_study(
    storage: optuna.storages.BaseStorage, directions: Mapping[str, str], guard: Mapping[str, Any]
) -> optuna.Study:
    """Create or continue the study, refusing one that was made from something else.

    Args:
        storage: As `StudyFolder.storage` gives it.
        directions: Objective name to ``minimize`` or ``maximize``.
        guard: What must not change as long as the study lasts, by name.

    Raises:
        StudyError: The guard is another than when the study was made; both values are shown.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    existing = STUDY in optuna.get_all_study_names(storage)
    study = optuna.create_study(
        study_name=STUDY,
        storage=storage,
        directions=[StudyDirection[direction.upper()] for direction in directions.values()],
        load_if_exists=True,
    )
    if not existing or "guard" not in study.user_attrs:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(directions))
        study.set_user_attr("guard", dict(guard))
        return study
    before = study.user_attrs["guard"]
    for name in sorted({*before, *guard}):
        if before.get(name) != guard.get(name):
            old, new = _difference(before.get(name), guard.get(name))
            raise StudyError(
                f"this study was made with another {name}: {old} then, {new} now; "
                "give the new study another --name"
            )
    return study


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
    values = trial.values if status in SCORED else None
    return TrialRecord(
        number=trial.number,
        status=status,
        params=dict(trial.params),
        canonical=attributes.get("canonical", {}),
        values=dict(zip(objectives, values, strict=True)) if values else {},
        measured={
            name: value for name, value in attributes.items() if name not in _OWN_ATTRIBUTES
        },
        seconds=attributes.get("seconds", {}),
        reason=attributes.get("reason"),
        cached_from=attributes.get("cached_from"),
        duration=trial.duration.total_seconds() if trial.duration else None,
        curve=tuple((at, values) for at, values in attributes.get("curve", ())),
    )


def counts(records: Iterable[TrialRecord]) -> dict[str, int]:
    """Number of trials of every status; they add up to all trials."""
    found = Counter(record.status for record in records)
    order = ("complete", "failed", "infeasible", "pruned", "running", "cached")
    return {name: found[Status(name)] for name in order}


def front(records: Sequence[TrialRecord], directions: Mapping[str, str]) -> list[TrialRecord]:
    """Non-dominated trials, ordered by the first objective; of equal ones the earliest.

    Args:
        records: Trials of one study.
        directions: Objective name to ``minimize`` or ``maximize``.
    """
    scored = [record for record in records if record.status in SCORED]
    if not scored:
        return []
    table = [[record.values[name] for name in directions] for record in scored]
    chosen = pareto.front(table, list(directions.values()))
    first = next(iter(directions))
    return sorted((scored[i] for i in chosen), key=lambda record: record.values[first])


def front_csv(records: Sequence[TrialRecord]) -> str:
    """Trials as CSV: number, objectives, measured values, parameters."""
    columns = ["number"]
    for part in ("values", "measured", "params"):
        columns += dict.fromkeys(name for record in records for name in getattr(record, part))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow(
            {"number": record.number, **record.params, **record.measured, **record.values}
        )
    return out.getvalue()


def _difference(old: object, new: object) -> tuple[str, str]:
    """Show only those entries of two mappings that differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        left = {name: old[name] for name in names if name in old}
        right = {name: new[name] for name in names if name in new}
        return str(left), str(right)
    return str(old), str(new)


def _cut_unfinished_line(path: Path) -> None:
    if not path.is_file() or path.stat().st_size == 0:
        return
    with FileLock(path):
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)
