"""A study on disk as an object: its trials, and what can be made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autosearch.api.update import Progress, Update, quiet, reading
from autosearch.contracts import SCORED, TrialRecord, registry
from autosearch.errors import ConfigError, StudyError
from autosearch.spec import Constraint, StudySpec, load_spec
from autosearch.storage import StudyFolder
from autosearch.study import Recommendation, compare, counts, front, recommend

if TYPE_CHECKING:
    import pandas
    import plotly.graph_objects

    from autosearch.contracts import Objective, Runner
    from autosearch.metrics import RankCorrelation, Rule


class Study:
    """One study. Whatever it is asked, it reads from disk, so it sees what others add.

    Made by `autosearch.search` and `autosearch.open_study`.

    Attributes:
        path: Its folder.
        stopped: Whether the last search of this object was stopped from outside.
    """

    def __init__(
        self,
        folder: StudyFolder,
        runner: type[Runner] | None = None,
        objectives: Iterable[Objective] = (),
    ) -> None:
        self._folder, self._runner, self._others = folder, runner, tuple(objectives)
        self.path, self.stopped = folder.path, False

    @classmethod
    def open(
        cls,
        path: str | Path,
        storage: str | None = None,
        runner: type[Runner] | None = None,
        objectives: Iterable[Objective] = (),
    ) -> Study:
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
    def tests(self) -> dict[int, dict[str, Any]]:
        """What `evaluate` has stored, by number of the trial."""
        return self._folder.files.load_tests()

    def files(self, number: int) -> list[Path]:
        """Files about a trial: anomaly maps, curves of its training, traceback, test figures."""
        folder = self._folder.files.path(number)
        return [p for p in sorted(folder.glob("*")) if p.is_file() and not p.is_symlink()]

    def to_frame(self) -> pandas.DataFrame:
        """Trials as a table, one row each, indexed by number.

        Columns are ``status``, ``reason``, ``duration`` (s), objectives and measured values by
        their names, ``test.NAME`` for figures of the test split, and ``params.NAME``.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise ConfigError("pandas", "not installed", "pip install pandas") from None
        tests = self.tests
        rows = {
            record.number: {
                "status": str(record.status),
                "reason": record.reason,
                "duration": record.duration,
                **record.values,
                **record.measured,
                **{
                    f"test.{name}": value
                    for name, value in tests.get(record.number, {}).get("metrics", {}).items()
                },
                **{f"params.{name}": value for name, value in record.params.items()},
            }
            for record in self.trials
        }
        return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("number")

    def recommend(
        self, budget: Mapping[str, float] | Iterable[str] = (), prefer: str | None = None
    ) -> Recommendation:
        """The trial to take: of those within a budget the best by one objective.

        Args:
            budget: Bounds by name of an objective or a measured value, at most for what is
                minimised (``{"gflops": 0.5}``), at least for what is maximised; or texts such as
                ``gflops <= 0.5``.
            prefer: The objective that decides; by default the first that is maximised.

        Raises:
            ConfigError: A name stands for nothing that the trials have.
            StudyError: No trial keeps to the budget.
        """
        known = registry.objectives(self._others, self.meta)
        if isinstance(budget, Mapping):
            budget = [
                f"{name} {'>=' if _maximised(name, known) else '<='} {bound}"
                for name, bound in budget.items()
            ]
        bounds = [Constraint.parse(text, "budget") for text in budget]
        return recommend(self.trials, self.objectives, known, bounds, prefer)

    def resume(
        self,
        trials: int | None = None,
        timeout: float | str | None = None,
        *,
        executor: str = "ray",
        address: str | None = None,
        log_level: str = "info",
        progress: Progress = quiet,
    ) -> Study:
        """Go on with a search that was stopped, or give a finished one more trials.

        Args:
            trials: Trials in all.
            timeout: See `autosearch.search`; so are the others.
            executor: Where trials run.
            address: Of a Ray cluster.
            log_level: Of ``study.log``.
            progress: Told of images read, and of every trial that is finished.

        Returns:
            The study itself.
        """
        given = {"study.trials": trials, "study.timeout": timeout}
        changed = [(key, value) for key, value in given.items() if value is not None]
        spec = load_spec(self._folder.spec_path, changed)
        self.search(spec, executor, address, log_level, progress)
        return self

    def search(
        self,
        spec: StudySpec,
        executor: str = "ray",
        address: str | None = None,
        log_level: str = "info",
        progress: Progress = quiet,
    ) -> None:
        """Search until the budget of a spec is met; see `autosearch.search`."""
        from autosearch.executors import make_executor
        from autosearch.storage import StudyLog
        from autosearch.study import load_inputs, open_driver, run

        if self._folder.database is not None:
            self._folder.database.open()
        chosen = make_executor(executor, address)
        inputs = load_inputs(spec, reading(progress), self._runner, self._others)

        def tell(record: TrialRecord | None = None) -> None:
            summary = driver.summary()
            done, total = summary.finished, summary.budget
            progress(Update("trials", done, total, trial=record, summary=summary, study=self))

        with StudyLog(self._folder.log_path, log_level) as log:
            driver = open_driver(inputs, self._folder, tell, log)
            tell()
            run(inputs, self._folder, driver, chosen)
        self.stopped = driver.stopped

    def evaluate(
        self,
        trials: Iterable[int] | None = None,
        *,
        resamples: int = 1000,
        force: bool = False,
        progress: Progress = quiet,
    ) -> dict[int, dict[str, Any]]:
        """Measure trials on the test split, which no search reads.

        Each is fitted again as the search did; thresholds come from validation. What was measured
        before on the same split is not measured again.

        Args:
            trials: Numbers; by default those of the front.
            resamples: Bootstrap resamples of an interval.
            force: Measure again what was measured before.
            progress: Told of images read, and of each part of each evaluation.

        Returns:
            Figures by trial number, as they stand in ``test.json``: ``metrics``, 95 %
            ``intervals``, ``types``, ``thresholds``, ``validation`` and more.

        Raises:
            StudyError: A trial does not exist or has no values; data or weights have changed.
        """
        from autosearch.study import evaluate_trials

        chosen = self._scored(trials)
        evaluate_trials(
            self._folder,
            chosen,
            lambda: self._reopened(progress),
            resamples,
            force,
            reading(progress, "reading the test split"),
            lambda record, part, done, total: progress(
                Update("evaluating", done, total, part, trial=record, study=self)
            ),
        )
        tests = self.tests
        return {record.number: tests[record.number] for record in chosen}

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

        Args:
            kind: ``pareto`` (trials and front), ``progress`` (hypervolume after each trial),
                ``importance`` (of parameters), ``parallel`` (coordinates), or ``curves`` of one
                training.
            options: ``x`` and ``y``, the figures of ``pareto``; ``trial``, the number for
                ``curves``.

        Raises:
            ConfigError: There is no such kind, figure or option.
        """
        from autosearch.report import draw, study_info

        return draw(study_info(self._folder), kind, self._folder, **options)

    def export(
        self,
        trial: int,
        *,
        formats: Sequence[str] = ("onnx", "torch"),
        coreset: float | None = None,
        half: bool = False,
        threshold: Rule = "f1",
        max_fpr: float | None = None,
        out: str | Path | None = None,
        force: bool = False,
        progress: Progress = quiet,
    ) -> Path:
        """Make a model folder of a trial: one graph, thresholds, a model card.

        Args:
            trial: Its number.
            formats: Among ``onnx``, ``openvino`` and ``torch`` (tensors).
            coreset: Share of the patches that the memory bank keeps, chosen by k-centre.
            half: Store large tensors in half precision.
            threshold: How thresholds are chosen on validation: ``f1``, ``youden`` or ``fpr``.
            max_fpr: Largest false-positive rate, for ``fpr``.
            out: Folder to write; by default ``exports/trial-N`` of the study.
            force: Replace an export that is there.
            progress: Told of images read, and of what is being done.

        Returns:
            The folder, which `autosearch.Predictor` opens.

        Raises:
            ConfigError: An option does not fit the study, or a package is missing.
            StudyError: The trial does not exist or has no values; something is in the way.
        """
        from autosearch.export import ExportOptions, export_trial

        options = ExportOptions(trial, tuple(formats), coreset, half, threshold, max_fpr)
        return export_trial(
            self._folder,
            options,
            Path(out) if out is not None else None,
            force,
            lambda text: progress(Update("exporting", 0, None, text, study=self)),
            lambda: self._reopened(progress),
        ).path

    def _directions(self) -> dict[str, str]:
        return {name: objective.direction for name, objective in self.objectives.items()}

    def _reopened(self, progress: Progress) -> Any:
        from autosearch.study import reopen

        return reopen(self._folder, reading(progress), self._runner, self._others)

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
