"""One trial, from parameters to objective values and artifacts."""

from __future__ import annotations

import math
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from types import FrameType

import numpy as np
import torch
from numpy.typing import NDArray

from autosearch.contracts import (
    Assignment,
    Detector,
    Moment,
    Objective,
    Outcome,
    Progress,
    Runner,
    Scored,
    Status,
    TiledDetector,
    TrialContext,
    registry,
)
from autosearch.data import ImageSet, SearchData, contact_sheet, grid_of
from autosearch.errors import Infeasible, TrialTimeout
from autosearch.metrics import auroc_error, rwap_error
from autosearch.spec import Params, StudySpec
from autosearch.study.distinct import ERROR
from autosearch.study.repetition import repeated_steps
from autosearch.study.room import Room
from autosearch.study.truth import maps_of, truth_of

_MEASURING_BYTES = 16
"""For each pixel of validation."""

MAPS = "maps.jpg"
"""Artifact with the anomaly maps of a few validation images."""


class TrialEvaluator:
    """Evaluates configurations of one study. Pickles, so that it travels to workers once.

    Args:
        spec: The study.
        runner: Its runner, weights loaded.
        data: Train and validation images.
        others: Objectives that are installed under no name.
        room: Memory that it shares with evaluators of the same search; None takes what it needs.
    """

    def __init__(
        self,
        spec: StudySpec,
        runner: Runner,
        data: SearchData,
        others: tuple[Objective, ...] = (),
        room: Room | None = None,
    ) -> None:
        self.spec, self._runner, self._data, self._others = spec, runner, data, others
        self._room = room
        self._truth = truth_of(data.val)

    def __call__(self, assignment: Assignment) -> Outcome:
        """Evaluate without a pause; see `steps`."""
        return next(step for step in self.steps(assignment) if isinstance(step, Outcome))

    def steps(self, assignment: Assignment) -> Iterator[Progress | Outcome]:
        """Evaluate as often as the study asks for, with another seed each time; see `once`."""
        repeats = self.spec.study.repeats
        if repeats == 1:
            return self.once(assignment)
        cumulative = [objective.name for objective in self._objectives if objective.cumulative]
        return repeated_steps(self.once, assignment, repeats, cumulative)

    def one_run(self, assignment: Assignment) -> Outcome:
        """Evaluate once, with the seed of the assignment, without a pause."""
        return next(step for step in self.once(assignment) if isinstance(step, Outcome))

    def once(self, assignment: Assignment) -> Iterator[Progress | Outcome]:
        """Fit on train, score validation, measure.

        A configuration that breaks a constraint on the network alone is not fitted.

        Yields:
            How the trial stands in each pause of its training, unless nothing prunes; then its
            outcome.
        """
        seconds: dict[str, float] = {}
        measured: dict[str, float] = {}
        with _timed(seconds, "build"):
            detector = build(
                self.spec, self._runner, assignment.canonical, assignment.seed, self._data.val
            )
            self._measure("build", detector, None, measured)
        violations = self._violations(measured)
        if any(violation > 0 for violation in violations.values()):
            yield _broken(measured, violations, seconds)
            return
        with self._enough_memory(detector, seconds):
            yield from self._trained(detector, measured, seconds)

    def carried(self) -> TrialEvaluator:
        """The same with pictures that travel to other machines with it."""
        data = replace(self._data, train=self._data.train.carried(), val=self._data.val.carried())
        return TrialEvaluator(self.spec, self._runner, data, self._others, self._room)

    @contextmanager
    def _enough_memory(self, detector: Detector, seconds: dict[str, float]) -> Iterator[None]:
        """Wait until other trials leave enough; see `Room.held`."""
        if self._room is None:
            yield
            return
        with self._room.held(needed_memory(detector, self._data)) as waited:
            seconds["memory"] = round(waited, 6)
            yield

    def _trained(
        self, detector: Detector, measured: dict[str, float], seconds: dict[str, float]
    ) -> Iterator[Progress | Outcome]:
        """Fit a detector that may be built, score validation, measure."""
        training = detector.fit_in_steps(self._data.train)
        while True:
            with _timed(seconds, "fit"):
                fraction = next(training, None)
            if fraction is None:
                break
            if self.spec.pruner.name == "none":
                continue
            with _timed(seconds, "report"):
                progress = Progress(fraction, self._standing(detector, measured, seconds))
            yield progress
        self._measure("fit", detector, None, measured)
        with _timed(seconds, "score"):
            maps = maps_of(detector, self._data.val)
        scored = self._scored(maps, seconds)
        with _timed(seconds, "measure"):
            self._measure("score", detector, scored, measured)
            measured |= self._errors(scored, measured)
        violations = self._violations(measured)
        if any(violation > 0 for violation in violations.values()):
            yield _broken(measured, violations, seconds)
            return
        values = {name: measured.pop(name) for name in self.spec.objectives}
        told = {name: float(figure) for name, figure in detector.figures().items()}
        measured = {**{k: v for k, v in told.items() if k not in values}, **measured}
        artifacts = {MAPS: contact_sheet(self._data.val, maps), **detector.artifacts()}
        yield Outcome(
            Status.COMPLETE,
            values,
            measured,
            violations,
            seconds,
            artifacts=artifacts,
            threads=torch.get_num_threads(),
        )

    @cached_property
    def _objectives(self) -> list[Objective]:
        known = registry.objectives(self._others)
        usual = [name for name, objective in known.items() if self._usual(objective)]
        return [known[name] for name in dict.fromkeys([*self._named, *usual])]

    @cached_property
    def _named(self) -> list[str]:
        """What the spec asks for."""
        bounds = [constraint.name for constraint in self.spec.parsed_constraints]
        return [*self.spec.objectives, *self.spec.measures, *bounds]

    def _usual(self, objective: Objective) -> bool:
        """Whether it is recorded without being asked for."""
        made = self._data.val.synthetic
        mixed = 0 < made.sum() < self._data.val.labels.sum()
        return objective.default and (objective.anomalies == "all" or bool(mixed))

    def _standing(
        self, detector: Detector, measured: Mapping[str, float], seconds: dict[str, float]
    ) -> dict[str, float]:
        """The study's objectives in the middle of a training."""
        maps = maps_of(detector, self._data.val)
        scored = self._scored(maps, seconds)
        known = {objective.name: objective for objective in self._objectives}
        return {
            name: float(
                measured[name] if name in measured else known[name].measure(detector, scored)
            )
            for name in self.spec.objectives
        }

    def _scored(self, maps: NDArray[np.float32], seconds: dict[str, float]) -> Scored:
        height, width = self._data.val.pixels.shape[2:]
        return Scored(
            maps,
            self._truth,
            seconds,
            self.spec.dataset.prevalence,
            (height, width),
            self._data.val.synthetic,
        )

    def _measure(
        self, moment: Moment, detector: Detector, scored: Scored | None, out: dict[str, float]
    ) -> None:
        for objective in self._objectives:
            if objective.moment != moment:
                continue
            # Somebody's own objective may give a number of numpy, which is no JSON.
            value = float(objective.measure(detector, scored))
            if not math.isnan(value) or objective.name in self._named:
                out[objective.name] = value

    def _errors(self, scored: Scored, measured: Mapping[str, float]) -> dict[str, float]:
        """Standard errors of figures over the anomalous images, where there are several."""
        found = {}
        if "rwap" in measured:
            found["rwap"] = rwap_error(scored.ranking, self._truth)
        if "rwap_calibrated" in self._named:
            found["rwap_calibrated"] = rwap_error(scored.ranking, self._truth, scored.prevalence)
        if "image_auroc" in measured:
            found["image_auroc"] = auroc_error(scored.images, self._truth.labels)
        return {name + ERROR: value for name, value in found.items() if not math.isnan(value)}

    def _violations(self, measured: dict[str, float]) -> dict[str, float]:
        return {
            str(constraint): constraint.violation(measured[constraint.name])
            for constraint in self.spec.parsed_constraints
            if constraint.name in measured
        }


def needed_memory(detector: Detector, data: SearchData) -> int:
    """About how many bytes a trial takes that fits and measures a detector."""
    # Maps, their scores in order, and which pixels are of which kind.
    return detector.memory(len(data.train)) + _MEASURING_BYTES * data.val.masks.size


def build(
    spec: StudySpec, runner: Runner, canonical: Params, seed: int, validation: ImageSet
) -> Detector:
    """Make the detector of a trial, the same every time.

    Args:
        spec: The study.
        runner: Its runner, weights loaded.
        canonical: The trial's canonical configuration.
        seed: The trial's seed, `autosearch.contracts.trials.trial_seed`.
        validation: The split that training may select on.
    """
    wanted = spec.resources.gpu != 0
    device = "cuda" if wanted and torch.cuda.is_available() else "cpu"
    torch.manual_seed(seed)
    height, width = validation.pixels.shape[2:]
    context = TrialContext(seed, device, (height, width), validation)
    tiling = spec.dataset.tiling
    grid = grid_of(tiling, (height, width))
    if tiling is None or grid is None:
        return runner.build(canonical, context)
    by_position = tiling.banks == "position"
    return TiledDetector.built(grid, by_position, partial(runner.build, canonical), context)


def evaluate_safely(
    evaluator: TrialEvaluator, assignment: Assignment, timeout: float | None = None
) -> Iterator[Progress | Outcome]:
    """Evaluate, turning every error of the trial into a failed outcome with its traceback.

    Args:
        evaluator: What evaluates.
        assignment: What to evaluate.
        timeout: Seconds after which the trial fails. Only the main thread of a process can be
            interrupted; elsewhere the limit is not kept.

    Yields:
        What `TrialEvaluator.steps` yields; the last is an outcome, whatever happens.
    """
    start = time.monotonic()
    steps = evaluator.steps(assignment)
    while True:
        left = None if timeout is None else max(1e-3, timeout - (time.monotonic() - start))
        step = _next_safely(steps, left, start, timeout)
        yield step
        if isinstance(step, Outcome):
            return


def _next_safely(
    steps: Iterator[Progress | Outcome], left: float | None, start: float, timeout: float | None
) -> Progress | Outcome:
    try:
        with _time_limit(left):
            return next(steps)
    except TrialTimeout:
        reason = f"ran longer than its limit of {timeout:g} s"
        trace: str | None = None
    except Infeasible as error:
        violations = {"feasible": 1.0}
        return Outcome(Status.INFEASIBLE, violations=violations, reason=str(error))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        trace = traceback.format_exc()
    elapsed = {"until_failure": time.monotonic() - start}
    return Outcome(Status.FAILED, seconds=elapsed, reason=reason, traceback=trace)


def _broken(
    measured: dict[str, float], violations: dict[str, float], seconds: dict[str, float]
) -> Outcome:
    worst = next(name for name, violation in violations.items() if violation > 0)
    value = measured[worst.split()[0]]
    reason = f"breaks {worst}: {value:.4g}"
    return Outcome(
        Status.INFEASIBLE,
        measured=measured,
        violations=violations,
        seconds=seconds,
        reason=reason,
    )


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[part] = round(seconds.get(part, 0.0) + time.perf_counter() - start, 6)


@contextmanager
def _time_limit(limit: float | None) -> Iterator[None]:
    if limit is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise TrialTimeout

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
