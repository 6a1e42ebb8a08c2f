"""What a study on disk says, as an object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from autosearch.api.frames import to_frame
from autosearch.contracts import SCORED, TrialRecord, ensemble_name, registry
from autosearch.errors import ConfigError, StudyError
from autosearch.spec import Constraint, StudySpec
from autosearch.storage import StudyFolder
from autosearch.study import (
    Recommendation,
    Repeated,
    compare,
    counts,
    front,
    indistinct,
    over_runs,
    recommend,
)

if TYPE_CHECKING:
    import pandas
    import plotly.graph_objects

    from autosearch.contracts import Objective, Runner
    from autosearch.metrics import RankCorrelation
    from autosearch.storage import TrialNote
    from autosearch.study import Comparison


class StoredStudy:
    """All of a study that can be asked without loading its images.

    Whatever it is asked, it reads from disk, so it sees what others add.

    Attributes:
        path: The study's folder.
    """

    def __init__(
        self,
        folder: StudyFolder,
        runner: type[Runner] | None = None,
        objectives: Iterable[Objective] = (),
    ) -> None:
        self._folder, self._runner, self._others = folder, runner, tuple(objectives)
        self.path = folder.path

    @classmethod
    def open(
        cls,
        path: str | Path,
        storage: str | None = None,
        runner: type[Runner] | None = None,
        objectives: Iterable[Objective] = (),
    ) -> Self:
        """See `autosearch.open_study`."""
        return cls(StudyFolder.open(Path(path), storage), runner, objectives)

    def __repr__(self) -> str:
        number = self.counts
        shown = ", ".join(f"{count} {status}" for status, count in number.items() if count)
        return f"<Study {self.path}: {shown or 'no trials'}>"

    @property
    def spec(self) -> StudySpec:
        """What is searched."""
        return self._folder.load_spec()

    @property
    def meta(self) -> dict[str, Any]:
        """Versions, seeds, hashes of data and weights, the machine."""
        return self._folder.load_meta()

    @property
    def objectives(self) -> dict[str, Objective]:
        """The study's objectives by name, in its order."""
        known = registry.objectives(self._others, self.meta)
        return registry.resolve_objectives(self.spec, known)

    @property
    def budget(self) -> int:
        """Trials wanted in all."""
        return self.spec.study.trials

    @property
    def trials(self) -> list[TrialRecord]:
        """All trials in order of number, as plain records."""
        return self._folder.trials.records()

    def trial(self, number: int) -> TrialRecord:
        """One trial.

        Raises:
            StudyError: There is none of that number.
        """
        records = self.trials
        if not 0 <= number < len(records):
            raise StudyError(f"{self.path}: no trial {number}; there are {len(records)}")
        return records[number]

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials of every status; they add up to all trials."""
        return counts(self.trials)

    @property
    def front(self) -> list[TrialRecord]:
        """The non-dominated trials, ordered by the first objective."""
        return front(self.trials, self._directions())

    @property
    def doubt(self) -> str | None:
        """Why validation cannot tell the trials apart, and the ways out; None where it can."""
        spec, data = self.spec, self.meta.get("data") or {}
        return indistinct(self.trials, self.objectives, data, spec.dataset.prevalence)

    @property
    def tests(self) -> dict[int, dict[str, Any]]:
        """What `evaluate` has stored, by number of the trial."""
        return self._folder.files.load_tests()

    @property
    def ensembles(self) -> dict[str, dict[str, Any]]:
        """What `evaluate` has stored of several trials as one detector, by name: ``3+7+12``."""
        return self._folder.files.load_ensembles()

    @property
    def notes(self) -> dict[int, TrialNote]:
        """What people wrote about trials, by number of the trial."""
        return self._folder.load_notes()

    @property
    def in_database(self) -> bool:
        """Whether the trials are in a database, so that other heads have other folders."""
        return self._folder.database is not None

    def note(self, trial: int, text: str) -> TrialNote | None:
        """Attach a note to a trial, in the place of the one before.

        It lies in ``notes.json`` of this folder, also where the trials are in a database. The
        report and the dashboard show it; no search reads it.

        Args:
            trial: Its number.
            text: Plain text of at most 2000 characters; an empty one takes the note away.

        Returns:
            The note; None where it was taken away.

        Raises:
            ConfigError: The text is too long or has control characters.
            StudyError: There is no such trial, or the folder cannot be written to.
        """
        return self._folder.write_note(self.trial(trial).number, text)

    def files(self, number: int) -> list[Path]:
        """Files about a trial: anomaly maps, curves of its training, traceback, test figures."""
        folder = self._folder.files.path(number)
        return [p for p in sorted(folder.glob("*")) if p.is_file() and not p.is_symlink()]

    def to_frame(self) -> pandas.DataFrame:
        """Trials as a table, one row each, indexed by number.

        Columns are ``status``, ``reason``, ``duration`` (s), objectives and measured values by
        their names, ``test.NAME`` for figures of the test split, and ``params.NAME``. Where values
        of some were taken over from earlier studies, ``taken_from`` says from which trial.

        Raises:
            ConfigError: pandas is not installed.
        """
        return to_frame(self.trials, self.tests)

    def recommend(
        self,
        budget: Mapping[str, float] | Iterable[str] = (),
        prefer: str | None = None,
        rule: str | None = None,
        floor: bool = False,
    ) -> Recommendation:
        """The trial to take: of those within a budget the best by a rule.

        Args:
            budget: Bounds by name of an objective or a measured value, at most for what is
                minimised (``{"gflops": 0.5}``), at least for what is maximised; or texts such as
                ``gflops <= 0.5``.
            prefer: The objective, or a measured figure, that decides; by default the first
                objective that is maximised.
            rule: ``best`` (by that figure), ``pessimistic`` (by it less its standard error),
                ``synthetic`` (by the geometric mean of rwAP on real and on made anomalies),
                ``balanced`` (of these two and AP on both),
                ``ranks`` (by the mean rank over several figures) or ``smooth`` (by that figure
                averaged over similar configurations); by default ``balanced`` where rwAP decides
                and trials have one of real and one of made anomalies, else ``best``.
            floor: Whether its AP must be no lower than that of trial 0, a configuration of
                ``start``.

        Raises:
            ConfigError: A name stands for nothing that the trials have, a rule needs figures that
                they lack, or trial 0 is no configuration of ``start``.
            StudyError: No trial keeps to the budget.
        """
        known = registry.objectives(self._others, self.meta)
        if isinstance(budget, Mapping):
            budget = [
                f"{name} {'>=' if _maximised(name, known) else '<='} {bound}"
                for name, bound in budget.items()
            ]
        bounds = [Constraint.parse(text, "budget") for text in budget]
        records = self.trials
        runs = {r.number: over_runs(self._folder.files.load_runs(r.origin)) for r in records}
        several = {number: figures for number, figures in runs.items() if figures}
        return recommend(
            records,
            self.objectives,
            known,
            bounds,
            prefer,
            several,
            self.doubt,
            rule,
            floor,
            self._folder.files.load_choice,
            self._fixed_choice(records, floor),
        )

    def runs(self, number: int) -> dict[str, Repeated]:
        """Every figure of a trial over its runs; empty for a trial that was run once."""
        return over_runs(self._folder.files.load_runs(self.trial(number).origin))

    def compare(self, trial: int | Iterable[int], against: int | Iterable[int]) -> Comparison:
        """Ask whether one trial is better than another on the test split.

        Both have been evaluated, and met the same resamples of its images: differences of all
        metrics have intervals of their own, and nothing is fitted again.

        Args:
            trial: Number of the one, or numbers of an ensemble's trials.
            against: The same of the other, such as a fixed choice.

        Raises:
            StudyError: One was not evaluated, or with other images or resamples than the other.
        """
        from autosearch.study import compare_trials

        one, other = (
            which if isinstance(which, int) else ensemble_name(which) for which in (trial, against)
        )
        tests: dict[int | str, dict[str, Any]] = dict(
            [*self.tests.items(), *self.ensembles.items()]
        )
        return compare_trials(self._folder.files, tests, one, other)

    def correlate(self, first: str, second: str) -> RankCorrelation:
        """Ask whether one figure ranks the trials as another does.

        Args:
            first: An objective or measured value, or ``test.NAME`` for one of the test split.
            second: Another.

        Raises:
            ConfigError: No trial has a figure of that name, or fewer than four have both.
        """
        return compare(self.trials, self.tests, first, second)

    def report(self, out: str | Path | None = None) -> Path:
        """Write an HTML page with the study's front, trials and progress; opens without network.

        Args:
            out: The file; by default ``report.html`` in the study's folder.

        Returns:
            The file.
        """
        from autosearch.report import write_report

        return write_report([self._folder], Path(out or self.path / "report.html"))

    def figure(self, kind: str = "pareto", **options: Any) -> plotly.graph_objects.Figure:
        """Draw the study.

        `autosearch.figure` draws several in one picture, `autosearch.write_figure` a file.

        Args:
            kind: ``pareto`` (trials and front), ``progress`` (hypervolume after each trial),
                ``importance`` (of parameters), ``parallel`` (coordinates), ``thresholds`` (scores
                of validation images of one trial), or ``curves`` of one training.
            options: Of ``pareto`` the figures ``x`` and ``y``, and whether axes are logarithmic,
                ``log_x`` and ``log_y``; ``trial``, the number for ``curves`` and ``thresholds``,
                of which by default the recommended one.

        Raises:
            ConfigError: There is no such kind, figure or option.
            StudyError: No trial has values yet.
        """
        from autosearch.api.figures import drawn

        # Opened anew it would have lost the address of its database, which no file holds.
        return drawn([self._folder], kind, **options)

    def _fixed_choice(self, records: Sequence[TrialRecord], needed: bool) -> TrialRecord | None:
        """Trial 0, where it is a configuration that the search was to begin with.

        Raises:
            ConfigError: It is none, and is needed.
        """
        first = next(iter(self.spec.configurations), {})
        if first and records and first.items() <= records[0].params.items():
            return records[0]
        if needed:
            raise ConfigError("floor", True, "none: trial 0 is no configuration of start")
        return None

    def _directions(self) -> dict[str, str]:
        return {name: objective.direction for name, objective in self.objectives.items()}

    def _scored_one(self, number: int) -> TrialRecord:
        record = self.trial(number)
        if record.status not in SCORED:
            raise StudyError(f"{self.path}: trial {number} is {record.status}")
        return record

    def _scored(self, numbers: Iterable[int] | None) -> list[TrialRecord]:
        """Trials with values, each once: those of some numbers, or the front."""
        if numbers is None:
            chosen = self.front
            if not chosen:
                raise StudyError(f"{self.path}: no complete trial, so no front to evaluate")
            return chosen
        return [self._scored_one(number) for number in dict.fromkeys(numbers)]


def _maximised(name: str, known: Mapping[str, Objective]) -> bool:
    return name in known and known[name].direction == "maximize"
