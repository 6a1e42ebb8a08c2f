"""One trial, from parameters to objective values and artifacts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

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
    Setting,
    Status,
    TiledDetector,
    TrialContext,
    registry,
)
from autosearch.data import ImageSet, SearchData, contact_sheet, grid_of
from autosearch.metrics import auroc_error, rwap_error
from autosearch.spec import Params, StudySpec
from autosearch.study.choice_data import CHOICE, Draws
from autosearch.study.clock import timed
from autosearch.study.distinct import ERROR
from autosearch.study.followers import Answered, followers
from autosearch.study.post_settings import chosen, of_accuracy, told
from autosearch.study.repetition import repeated_steps
from autosearch.study.room import Room
from autosearch.study.truth import Ask, beside_of, maps_of, truth_beside, truth_of

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
        self.spec, self._runner, self._others = spec, runner, others
        self._data = replace(data, whole=None)
        self._room = room
        self._truth, self._truth_beside = truth_of(data.val), truth_beside(data)
        self._draws = Draws.of(data)

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
        with timed(seconds, "build"):
            detector = build(
                self.spec, self._runner, assignment.canonical, assignment.seed, self._data.val
            )
            self._measure("build", detector, None, measured)
        violations = self._violations(measured)
        if any(violation > 0 for violation in violations.values()):
            yield _broken(measured, violations, seconds)
            return
        with self._enough_memory(detector, seconds):
            yield from self._trained(detector, measured, seconds, assignment)

    def carried(self) -> TrialEvaluator:
        """The same with pictures that travel to other machines with it."""
        train, val = self._data.train.carried(), self._data.val.carried()
        data = replace(self._data, train=train, val=val)
        return TrialEvaluator(self.spec, self._runner, data, self._others, self._room)

    @contextmanager
    def _enough_memory(self, detector: Detector, seconds: dict[str, float]) -> Iterator[None]:
        """Wait until other trials leave enough; see `Room.held`."""
        if self._room is None:
            yield
            return
        made = self._data.made
        pixels = self._data.val.masks.size + (0 if made is None else made.masks.size)
        train = len(self._data.train)
        with self._room.held(needed_memory(detector, train, pixels)) as waited:
            seconds["memory"] = round(waited, 6)
            yield

    def _trained(
        self,
        detector: Detector,
        measured: dict[str, float],
        seconds: dict[str, float],
        assignment: Assignment,
    ) -> Iterator[Progress | Outcome]:
        """Fit a detector that may be built, score validation, measure."""
        training = detector.fit_in_steps(self._data.train)
        graph: dict[str, float] = {}
        while True:
            with timed(seconds, "fit"):
                fraction = next(training, None)
            if fraction is None:
                break
            if self.spec.pruner.name == "none":
                continue
            with timed(seconds, "report"):
                standing = self._standing(detector, {**measured, **graph}, seconds)
                graph = {name: standing[name] for name in self._of_graphs}
                progress = Progress(fraction, standing)
            yield progress
        ask: Ask = maps_of
        post = None
        if assignment.others:
            with timed(seconds, "settings"):
                detector, ask, post = self._set(detector, assignment, seconds)
            measured["post_trials"] = float(len(post["tried"]) - 1)
            # It need not cost what the proposed one does.
            self._measure("build", detector, None, measured)
        self._measure("fit", detector, None, measured)
        with timed(seconds, "score"):
            maps = ask(detector, self._data.val)
            scored = self._scored(detector, maps, seconds, ask=ask)
        with timed(seconds, "measure"):
            self._measure("score", detector, scored, measured)
            measured |= self._errors(scored, measured)
        violations = self._violations(measured)
        if any(violation > 0 for violation in violations.values()):
            yield replace(_broken(measured, violations, seconds), post=post)
            return
        values = {name: measured.pop(name) for name in self.spec.objectives}
        told = {name: float(figure) for name, figure in detector.figures().items()}
        measured = {**{k: v for k, v in told.items() if k not in values}, **measured}
        with timed(seconds, "draws"):
            kept = self._draws.kept(scored)
        sheet = contact_sheet(self._data.val, maps)
        artifacts = {MAPS: sheet, CHOICE: kept, **detector.artifacts()}
        yield Outcome(
            Status.COMPLETE,
            values,
            measured,
            violations,
            seconds,
            artifacts=artifacts,
            threads=torch.get_num_threads(),
            post=post,
        )

    def _set(
        self, fitted: Detector, assignment: Assignment, seconds: dict[str, float]
    ) -> tuple[Detector, Ask, dict[str, Any]]:
        """The detector of the best setting, how its maps are had, and what was tried."""
        made = [] if self._data.made is None else [self._data.made]
        answered = Answered(fitted, [self._data.val, *made])
        known = {its.name: its for its in self._objectives}
        wanted = {n: known[n] for n in self.spec.objectives if of_accuracy(known[n])}
        bounds = [known[constraint.name] for constraint in self.spec.parsed_constraints]
        counted = {its.name: its for its in bounds if of_accuracy(its) or its.moment != "score"}
        tried: list[tuple[Setting, dict[str, float]]] = []
        detectors, broken = [], []

        def make(canonical: Params) -> Detector:
            seed, val = assignment.seed, self._data.val
            return build(self.spec, self._runner, canonical, seed, val)

        for setting, detector in followers(fitted, assignment, make):
            maps = answered.maps_of(detector, self._data.val)
            scored = self._scored(detector, maps, seconds, every=False, ask=answered.maps_of)
            values = {n: float(its.measure(detector, scored)) for n, its in wanted.items()}
            limited = {n: float(its.measure(detector, scored)) for n, its in counted.items()}
            tried.append((setting, values))
            detectors.append(detector)
            broken.append(sum(max(0.0, by) for by in self._violations(limited).values()))
        best = chosen([values for _, values in tried], broken, wanted)
        return detectors[best], answered.maps_of, told(tried, best)

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

    @cached_property
    def _of_graphs(self) -> list[str]:
        """Objectives that are the same in every pause of a training."""
        wanted = self.spec.objectives
        return [its.name for its in self._objectives if its.graph and its.name in wanted]

    def _usual(self, objective: Objective) -> bool:
        """Whether it is recorded without being asked for."""
        val = self._data.val
        made = bool(val.synthetic.any()) or self._data.made is not None
        real = bool((val.labels & ~val.synthetic).any())
        of = objective.anomalies
        return objective.default and (of == "all" or (made and (real or of == "synthetic")))

    def _standing(
        self, detector: Detector, measured: Mapping[str, float], seconds: dict[str, float]
    ) -> dict[str, float]:
        """The study's objectives in the middle of a training."""
        maps = maps_of(detector, self._data.val)
        scored = self._scored(detector, maps, seconds, every=False)
        known = {objective.name: objective for objective in self._objectives}
        return {
            name: float(
                measured[name] if name in measured else known[name].measure(detector, scored)
            )
            for name in self.spec.objectives
        }

    def _scored(
        self,
        detector: Detector,
        maps: NDArray[np.float32],
        seconds: dict[str, float],
        every: bool = True,
        ask: Ask = maps_of,
    ) -> Scored:
        """All that is known; made anomalies only if every figure is wanted, or an objective is."""
        asked = (its.anomalies for its in self._objectives if its.name in self.spec.objectives)
        beside = None
        if every or any(kind in ("synthetic", "both") for kind in asked):
            beside = beside_of(detector, self._data, self._truth_beside, ask)
        height, width = self._data.val.pixels.shape[2:]
        return Scored(
            maps,
            self._truth,
            seconds,
            self.spec.dataset.prevalence,
            (height, width),
            self._data.val.synthetic,
            top_share=detector.top_share,
            threads=self.spec.resources.latency_threads,
            beside=beside,
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


def needed_memory(detector: Detector, train: int, pixels: int) -> int:
    """About how many bytes a trial takes.

    Args:
        detector: That it fits and measures.
        train: Number of images that it is fitted on.
        pixels: Of all maps that are measured.
    """
    # Maps, their scores in order, and which pixels are of which kind.
    return detector.memory(train) + _MEASURING_BYTES * pixels


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
    torch.manual_seed(seed)
    return placed(spec, seed, validation, partial(runner.build, canonical))


def placed(
    spec: StudySpec, seed: int, validation: ImageSet, make: Callable[[TrialContext], Detector]
) -> Detector:
    """Make a detector of whole images, or of their tiles if the study has any.

    Args:
        spec: The study.
        seed: For the context.
        validation: The split that training may select on.
        make: Makes a detector.
    """
    wanted = spec.resources.gpu != 0
    device = "cuda" if wanted and torch.cuda.is_available() else "cpu"
    height, width = validation.pixels.shape[2:]
    pruner = spec.pruner
    staged = None if pruner.name == "none" else pruner.bank_rows
    context = TrialContext(seed, device, (height, width), validation, staged)
    tiling = spec.dataset.tiling
    grid = grid_of(tiling, (height, width))
    if tiling is None or grid is None:
        return make(context)
    by_position = tiling.banks == "position"
    return TiledDetector.built(grid, by_position, make, context)


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
