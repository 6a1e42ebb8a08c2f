"""A study as an object: what can be done with it, and what it says."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autosearch.api.gallery import ShownStudy
from autosearch.api.moved import moved_to as _moved
from autosearch.api.update import Progress, Update, quiet, reading
from autosearch.contracts import TrialRecord, ensemble_name, registry
from autosearch.spec import StudySpec
from autosearch.study import Repeated

if TYPE_CHECKING:
    from autosearch.metrics import Criterion, Rule
    from autosearch.study import Fit


class Study(ShownStudy):
    """One study. Made by `autosearch.search` and `autosearch.open_study`.

    Attributes:
        stopped: Whether the last search of this object was stopped from outside.
    """

    stopped = False

    def resume(
        self,
        trials: int | None = None,
        timeout: float | str | None = None,
        *,
        executor: str = "auto",
        address: str | None = None,
        log_level: str = "info",
        data: str | Path | None = None,
        category: str | None = None,
        progress: Progress = quiet,
    ) -> Study:
        """Go on with a search that was stopped, or give a finished one more trials.

        Args:
            trials: Trials in all.
            timeout: See `autosearch.search`; so are the others.
            executor: Where trials run.
            address: Of a Ray cluster.
            log_level: Of ``study.log``.
            data: Folder or CSV file that has the study's images now. It becomes the study's root
                if they are the same.
            category: Theirs, if it has another name now.
            progress: Told of images read, and of every trial that is finished.

        Returns:
            The study itself.

        Raises:
            StudyError: The images are others, or the spec has been changed where it must not.
        """
        given = {"study.trials": trials, "study.timeout": timeout}
        changed = [(key, value) for key, value in given.items() if value is not None]
        spec = self._folder.load_spec([*changed, *_moved(data, category)])
        self.search(spec, executor, address, log_level, progress)
        return self

    def search(
        self,
        spec: StudySpec,
        executor: str = "auto",
        address: str | None = None,
        log_level: str = "info",
        progress: Progress = quiet,
    ) -> None:
        """Search until the budget of a spec is met; see `autosearch.search`."""
        from autosearch.executors import SMALL_SECONDS, make_executor
        from autosearch.storage import StudyLog
        from autosearch.study import check_packages, load_inputs, open_driver, run
        from autosearch.tracking import Tracking, chosen as chosen_trackers, settled

        if self._folder.database is not None:
            self._folder.database.open()
        if self._folder.exists():
            self._folder.trials.check_early(spec)

        def work() -> float | None:
            left = driver.spec.study.trials - driver.summary().finished
            return inputs.work(left, SMALL_SECONDS)

        def say(text: str) -> None:
            log.note("executor chosen", text=text)
            progress(Update("executor", 0, None, text, study=self))

        spec = settled(spec)
        trackers = chosen_trackers(spec.tracking, self.path)
        chosen = make_executor(executor, address, work, say)
        check_packages(spec, registry.objectives(self._others))
        inputs = load_inputs(spec, reading(progress), self._runner, self._others)

        def tell(record: TrialRecord | None = None) -> None:
            summary = driver.summary()
            done, total = summary.finished, summary.budget
            progress(Update("trials", done, total, trial=record, summary=summary, study=self))

        def warn(text: str) -> None:
            log.note("tracking", logging.WARNING, text=text)
            progress(Update("tracking", 0, None, text, study=self))

        with StudyLog(self._folder.log_path, log_level) as log:
            tracking = Tracking(self._folder, trackers, warn)
            driver = open_driver(inputs, self._folder, tell, log, tracking.told)
            tell()
            ended = "failed"
            try:
                tracking.start()
                run(inputs, self._folder, driver, chosen)
                ended = "stopped" if driver.stopped else "finished"
            finally:
                tracking.close(ended)
        self.stopped = driver.stopped
        if spec.study.front_repeats > 1 and not self.stopped and self.front:
            try:
                self.repeat(repeats=spec.study.front_repeats, progress=progress)
            except KeyboardInterrupt:
                self.stopped = True  # Each run that ended is stored.

    def track(
        self,
        *,
        mlflow: str | None = None,
        wandb: str | None = None,
        tensorboard: str | Path | None = None,
        progress: Progress = quiet,
    ) -> dict[str, int]:
        """Send trackers what they do not have yet, of a search that is over.

        Each trial is there once, however often this is done.

        Args:
            mlflow: Address of a server or a database. Without any of the three, those that the
                spec names (``tracking``).
            wandb: ``project`` or ``entity/project``.
            tensorboard: Folder.
            progress: Told of every trial that is sent.

        Returns:
            Trials that were sent, by tracker.

        Raises:
            ConfigError: A tracker is not allowed, its package is missing, or there is none.
            StudyError: A tracker cannot be reached.
        """
        from autosearch.tracking import asked_for, chosen, send_rest

        given = {"mlflow": mlflow, "wandb": wandb, "tensorboard": tensorboard}
        tracking = asked_for(self._folder, given)

        def told(name: str, done: int, total: int) -> None:
            progress(Update("tracking", done, total, name, study=self))

        return send_rest(self._folder, chosen(tracking, self.path), told)

    def repeat(
        self,
        trials: Iterable[int] | None = None,
        repeats: int = 5,
        *,
        data: str | Path | None = None,
        category: str | None = None,
        progress: Progress = quiet,
    ) -> dict[int, dict[str, Repeated]]:
        """Evaluate trials again with other seeds, for a training is a single draw.

        Args:
            trials: Numbers; by default those of the front.
            repeats: Runs wanted of each, the trial itself included; what was run before is kept.
            data: Where the study's images lie now, if elsewhere; so for `evaluate` and `export`.
            category: See `resume`.
            progress: Told of images read, and of every run that begins.

        Returns:
            By trial number, mean and standard deviation over runs of every figure.

        Raises:
            StudyError: A trial does not exist or has no values, or a run failed.
        """
        from autosearch.study import TrialEvaluator, repeat_trials

        chosen = list({r.origin: self.trial(r.origin) for r in self._scored(trials)}.values())
        inputs = self._reopened(progress, _moved(data, category))
        evaluator = TrialEvaluator(inputs.spec, inputs.runner, inputs.data, inputs.others)

        def told(record: TrialRecord, done: int, total: int) -> None:
            text = f"trial {record.number}"
            progress(Update("repeating", done, total, text, trial=record, study=self))

        repeat_trials(self._folder, chosen, evaluator.one_run, inputs.seed_of, repeats, told)
        return {record.number: self.runs(record.number) for record in chosen}

    def evaluate(
        self,
        trials: Iterable[int] | None = None,
        *,
        resamples: int = 1000,
        force: bool = False,
        fit: Fit = "all",
        data: str | Path | None = None,
        category: str | None = None,
        progress: Progress = quiet,
        ensemble: Iterable[int] | None = None,
    ) -> dict[int | str, dict[str, Any]]:
        """Measure trials on the test split, which no search reads.

        Each is fitted again as the search did, and thresholds come from validation; then it is
        fitted on all normal images but those of the test split, as `export` does, and that
        detector is measured. What was measured before on the same split and with the same ``fit``
        is not measured again.

        Args:
            trials: Numbers; by default those of the front, and none beside an ensemble.
            resamples: Bootstrap resamples of an interval.
            force: Measure again what was measured before.
            fit: ``all``, or ``train`` to measure the detector that was fitted as in the search.
                Runners that learn from anomalous images are always fitted on the train split.
            data: See `repeat`.
            category: See `resume`.
            progress: Told of images read, and of each part of each evaluation.
            ensemble: Numbers of trials to measure as one detector: the mean of their maps, each
                less the mean and over the standard deviation of its scores of normal validation
                pixels.

        Returns:
            Figures by trial number, and by an ensemble's name (``3+7+12``), as they stand in
            ``test.json``: ``metrics``, 95 % ``intervals``, ``types``, ``thresholds``,
            ``validation``, ``fit`` and more.

        Raises:
            ConfigError: An ensemble is not of two or more trials that differ.
            StudyError: A trial does not exist or has no values; data or weights have changed.
            Infeasible: A member of an ensemble scores all normal validation pixels alike.
        """
        from autosearch.study import evaluate_ensemble, evaluate_trials, fit_of, members_of

        members = None if ensemble is None else list(ensemble)
        if members is not None:
            members_of(self._folder, members)  # Refused before anything is measured.
        chosen = [] if trials is None and members is not None else self._scored(trials)
        moved = _moved(data, category)
        runner = self._runner or registry.load_runner(self.spec.study.runner)
        way, told = fit_of(fit, runner.supervised), reading(progress, "reading the test split")
        inputs = cache(lambda: self._reopened(progress, moved))
        found: dict[int | str, dict[str, Any]] = {}
        if chosen:
            evaluate_trials(
                self._folder,
                chosen,
                inputs,
                resamples,
                force,
                told,
                lambda record, part, done, total: progress(
                    Update("evaluating", done, total, part, trial=record, study=self)
                ),
                moved,
                way,
            )
            tests = self.tests
            found |= {record.number: tests[record.number] for record in chosen}
        if members is not None:
            name = ensemble_name(members)
            evaluate_ensemble(
                self._folder,
                members,
                inputs,
                resamples,
                force,
                told,
                lambda part, done, total: progress(
                    Update("evaluating", done, total, part, study=self, ensemble=name)
                ),
                moved,
                way,
            )
            found[name] = self.ensembles[name]
        return found

    def export(
        self,
        trial: int | None = None,
        *,
        formats: Sequence[str] = ("onnx", "torch"),
        coreset: float | None = None,
        half: bool = False,
        threshold: Rule | Criterion = "f1",
        max_fpr: float | None = None,
        opset: int = 18,
        out: str | Path | None = None,
        force: bool = False,
        data: str | Path | None = None,
        category: str | None = None,
        progress: Progress = quiet,
        ensemble: Iterable[int] | None = None,
        batch: int | None = None,
    ) -> Path:
        """Make a model folder of a trial: one graph, thresholds, a model card.

        Args:
            trial: Its number; none beside an ensemble; by default the one that `recommend` names,
                which ``progress`` is told with the reasons.
            formats: Among ``onnx``, ``openvino``, ``torch`` (tensors), ``onnx-static`` (fixed
                shapes, for TensorRT) and ``openvino-int8`` (8-bit integers).
            coreset: Share of the patches that the memory bank keeps, chosen by k-centre.
            half: Store large tensors in half precision.
            threshold: How thresholds are chosen on validation: ``f1``, ``youden``,
                ``balanced_accuracy`` or ``fpr``, or an `autosearch.metrics.Criterion`, which the
                rules ``sensitivity``, ``cost`` and ``normal_percentile`` need for their numbers.
            max_fpr: Largest false-positive rate, for ``fpr``.
            opset: Of the ONNX graph, 15 to 18; older runtimes read lower ones.
            out: Folder to write; by default ``exports/trial-N`` of the study, or
                ``exports/ensemble-3+7+12``.
            force: Replace an export that is there.
            data: See `repeat`.
            category: See `resume`.
            progress: Told of images read, and of what is being done.
            ensemble: Numbers of trials to export as one detector in one graph; see `evaluate`.
            batch: Images of a pass, or tiles, of ``onnx-static``; None: one.

        Returns:
            The folder, which `autosearch.Predictor` opens.

        Raises:
            ConfigError: An option does not fit the study, or a package is missing.
            StudyError: The trial does not exist or has no values; something is in the way.
        """
        from autosearch.export import ExportOptions, export_trial

        moved, members = _moved(data, category), tuple(ensemble or ())
        if trial is None and ensemble is None:
            found = self.recommend()
            trial = found.trial.number
            said = f"{found}; steadier: {found.together_text}" if found.together else f"{found}"
            progress(Update("exporting", 0, None, f"recommended: {said}", study=self))
        options = ExportOptions(
            trial,
            tuple(formats),
            coreset,
            half,
            threshold,
            max_fpr,
            opset,
            members,
            batch=batch,
        )
        return export_trial(
            self._folder,
            options,
            Path(out) if out is not None else None,
            force,
            lambda text: progress(Update("exporting", 0, None, text, study=self)),
            lambda: self._reopened(progress, moved),
        ).path
