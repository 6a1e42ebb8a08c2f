"""Preprocessing that a space may search whatever the runner, and detectors of such pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autosearch.contracts.detector import Cost, Detector, ParameterInfo, Runner, TrialContext
from autosearch.contracts.trials import PREPROCESS
from autosearch.data import CANVAS_STAGES, CanvasStage, ImageSet, Placement
from autosearch.spec import Params, StudySpec

_NONE = "none"

SHARED: Mapping[str, ParameterInfo] = {
    PREPROCESS: ParameterInfo(
        _NONE,
        "what is done about the object on the input, before the detector sees it",
        choices=(_NONE, *CANVAS_STAGES),
    )
}
"""Parameters that a space may name whatever the runner."""

_SAID = ("description", "supervised", "probabilities", "reads", "elsewhere", "post_parameters")


def understood(runner: Runner | type[Runner]) -> dict[str, ParameterInfo]:
    """All parameters that a space may name: the runner's own, and those of every runner."""
    return {**runner.parameters, **{n: i for n, i in SHARED.items() if n not in runner.parameters}}


def staged_runner(runner: Runner, spec: StudySpec) -> Runner:
    """The runner of a study: one that preprocesses where the space names it, else as it is.

    A runner that has a parameter of that name keeps its own.
    """
    named = PREPROCESS in {parameter.name for parameter in spec.parsed_space.parameters}
    return StagedRunner(runner, spec) if named and PREPROCESS not in runner.parameters else runner


class StagedRunner(Runner):
    """A runner with the parameter ``preprocess``, whose detectors another one builds.

    Canonical configurations of ``none`` are those of the other runner, so that they are what a
    space without the parameter would draw.

    Args:
        inner: Builds detectors.
        spec: The study; its ``dataset.background`` stands around objects.

    Attributes:
        inner: See there.
    """

    def __init__(self, inner: Runner, spec: StudySpec) -> None:
        super().__init__(spec)
        self.inner = inner
        # What classes of runners say is the other runner's here, and differs by instance.
        vars(self).update({name: getattr(inner, name) for name in _SAID})
        vars(self).update(parameters=understood(inner))

    def canonical(self, params: Params) -> Params:
        """See `Runner.canonical`."""
        canonical = self.inner.canonical(_others(params))
        stage = params.get(PREPROCESS, _NONE)
        return canonical if stage == _NONE else {**canonical, PREPROCESS: stage}

    def build(self, params: Params, context: TrialContext) -> Detector:
        """See `Runner.build`; validation, which training may select on, is preprocessed, too."""
        stage = self._stage(params)
        if stage is None:
            return self.inner.build(_others(params), context)
        if context.validation is not None:
            context = replace(context, validation=stage.of(context.validation))
        return StagedDetector(stage, self.inner.build(_others(params), context))

    def post_of(self, canonical: Params) -> frozenset[str]:
        """See `Runner.post_of`."""
        return self.inner.post_of(_others(canonical))

    def weights(self) -> list[dict[str, str]]:
        """See `Runner.weights`."""
        return self.inner.weights()

    def _stage(self, params: Params) -> CanvasStage | None:
        named: Any = params.get(PREPROCESS, _NONE)
        return None if named == _NONE else CanvasStage(named, self.spec.dataset.background)


class StagedDetector(Detector):
    """A detector of preprocessed pictures, asked for the maps of pictures as they were.

    Args:
        stage: What is done about their objects.
        inner: The detector.

    Attributes:
        stage: See there.
        inner: See there.
        top_share: That of the detector, of a map that was taken back.
    """

    def __init__(self, stage: CanvasStage, inner: Detector) -> None:
        self.stage, self.inner = stage, inner
        self.top_share = inner.top_share

    def memory(self, images: int) -> int:
        """See `Detector.memory`; preprocessed pictures lie in a file if they are large."""
        return self.inner.memory(images)

    def seconds(self, fitted: int, asked: int) -> float | None:
        """See `Detector.seconds`; objects are looked for once a study, which is left out."""
        return self.inner.seconds(fitted, asked)

    def fit(self, train: ImageSet) -> None:
        """Learn from preprocessed pictures."""
        self.inner.fit(self.stage.of(train))

    def fit_in_steps(self, train: ImageSet) -> Iterator[float]:
        """See `Detector.fit_in_steps`."""
        yield from self.inner.fit_in_steps(self.stage.of(train))

    def anomaly_maps(self, images: Tensor) -> Tensor:
        """See `Detector.anomaly_maps`; where nothing is shown, the lowest value of what is."""
        seen, places = self._seen(images)
        return self._back(self.inner.anomaly_maps(seen), places)

    def answers(self, images: Tensor) -> Tensor:
        """See `Detector.answers`: those of the preprocessed pictures."""
        return self.inner.answers(self._seen(images)[0])

    def maps_of_answers(self, answers: Tensor, images: Tensor) -> Tensor:
        """See `Detector.maps_of_answers`; objects are looked for in the images."""
        seen, places = self._seen(images)
        return self._back(self.inner.maps_of_answers(answers, seen), places)

    def follow(self, fitted: Detector) -> None:
        """See `Detector.follow`."""
        if not isinstance(fitted, StagedDetector) or fitted.stage != self.stage:
            raise TypeError(f"not preprocessed alike: {fitted}")
        self.inner.follow(fitted.inner)

    def artifacts(self) -> dict[str, bytes]:
        """See `Detector.artifacts`."""
        return self.inner.artifacts()

    def figures(self) -> dict[str, float]:
        """See `Detector.figures`."""
        return self.inner.figures()

    def cost(self) -> Cost:
        """See `Detector.cost`; looking for an object is no part of it."""
        return self.inner.cost()

    def module(self) -> nn.Module:
        """Of preprocessed pictures, whose maps are not taken back."""
        return self.inner.module()

    def _seen(self, images: Tensor) -> tuple[Tensor, list[Placement]]:
        seen, places = self.stage.all_seen(images.cpu().numpy())
        return torch.from_numpy(seen), places

    def _back(self, maps: Tensor, places: list[Placement]) -> Tensor:
        pairs = zip(maps.numpy(), places, strict=True)
        return torch.from_numpy(np.stack([self.stage.back(values, at) for values, at in pairs]))


def stage_of(detector: Detector) -> CanvasStage | None:
    """What a detector does about objects on the canvas; None where that is nothing."""
    return detector.stage if isinstance(detector, StagedDetector) else None


def _others(params: Params) -> Params:
    """All of a configuration but what is done about the object."""
    return {name: value for name, value in params.items() if name != PREPROCESS}
