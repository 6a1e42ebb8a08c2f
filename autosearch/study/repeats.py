"""Repeats of an estimate as trials: what a worker does with one, and who hands them out.

Steps 1 to 5 of the robust estimate of "From Lab to Factory". A repeat is evaluated by whatever
evaluates trials, on this machine or others; one that is finished is stored at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from autosearch.contracts import (
    Assignment,
    Detector,
    Outcome,
    Progress,
    Runner,
    Status,
    TrialRecord,
    derived_seed,
)
from autosearch.data import ImageSet, SearchData
from autosearch.errors import StudyError
from autosearch.metrics import Ranking, Truth, image_scores
from autosearch.spec import StudySpec
from autosearch.storage import PixelCounts, Pixels, Repeat, ScoredImages
from autosearch.study.clock import Clock
from autosearch.study.ensemble import fitted_ensemble
from autosearch.study.factory_split import factory_split
from autosearch.study.fitted import to_fit_on
from autosearch.study.inputs import Inputs, rebuild
from autosearch.study.truth import counted_pixels, maps_of, truth_of

REPEAT = "repeat.json"
"""Artifact of a repeat: JSON of `autosearch.storage.Repeat`."""

PIXEL_METRICS = ("rwap", "ap", "pixel_auroc", "aupro")
"""Figures of the inference set's pixels that are stored with a repeat."""

_CUTS = 256
"""Quantiles of the threshold set's normal pixels, and as many of its anomalous ones."""


def repeat_seed(study_seed: int, number: int) -> int:
    """Seed of a repeat's split and of its training."""
    return derived_seed(study_seed, "factory", number)


@dataclass(frozen=True)
class RepeatEvaluator:
    """Evaluates repeats of one detector. Pickles, so that it travels to workers once.

    Attributes:
        spec: The study.
        runner: Its runner, weights loaded.
        records: The trial, or those of an ensemble.
        images: All images that may be drawn.
        drawable: See `autosearch.study.factory_split`.
    """

    spec: StudySpec
    runner: Runner
    records: tuple[TrialRecord, ...]
    images: ImageSet
    drawable: NDArray[np.bool_] | None

    def carried(self) -> RepeatEvaluator:
        """The same with pictures that travel to other machines with it."""
        return replace(self, images=self.images.carried())

    def steps(self, assignment: Assignment) -> Iterator[Progress | Outcome]:
        """Evaluate the repeat of the assignment's number and seed.

        Yields:
            One outcome, whose artifact `REPEAT` is all that was found.
        """
        images, clock = self.images, Clock(lambda name: None)
        clock.start("split")
        split = factory_split(images.labels, images.groups, assignment.seed, self.drawable)
        train, threshold, inference = (
            images.select(np.isin(np.arange(len(images)), positions))
            for positions in (split.train, split.threshold, split.inference)
        )
        height, width = images.pixels.shape[2:]
        data = SearchData(to_fit_on(train, (height, width)), threshold)
        clock.start("fit")
        detector = self._fitted(data, assignment.seed)
        clock.start("score")
        maps = [maps_of(detector, part) for part in (threshold, inference)]
        clock.start("measure")
        truths = [truth_of(part) for part in (threshold, inference)]
        scored = [
            _scored(part, one, truth, detector.top_share)
            for part, one, truth in zip((threshold, inference), maps, truths, strict=True)
        ]
        ranking = Ranking.from_maps(maps[1], truths[1])
        metrics = {name: float(getattr(ranking, name)()) for name in PIXEL_METRICS}
        pixels = _pixels(maps, truths)
        clock.stop()
        found = Repeat(
            seed=assignment.seed,
            train=len(train),
            threshold_set=scored[0],
            inference_set=scored[1],
            metrics={n: None if math.isnan(value) else value for n, value in metrics.items()},
            pixels=pixels,
            seconds=clock.seconds,
        )
        content = found.model_dump_json().encode()
        yield Outcome(Status.COMPLETE, seconds=clock.seconds, artifacts={REPEAT: content})

    def _fitted(self, data: SearchData, seed: int) -> Detector:
        """The detector trained from scratch.

        Nothing of the inference set is near it; what a runner selects on, and what scales of an
        ensemble are measured on, is the threshold set.
        """
        study = self.spec.study.model_copy(update={"seed": seed})
        inputs = Inputs(self.spec.model_copy(update={"study": study}), {}, self.runner, data)
        if len(self.records) > 1:
            return fitted_ensemble(inputs, self.records, data.train)
        detector = rebuild(inputs, self.records[0])
        detector.fit(data.train)
        return detector


@dataclass
class RepeatDriver:
    """Hands out repeats as if they were trials; see `autosearch.study.Driver`.

    Attributes:
        spec: The study, for its resources and limits.
        record: The trial that is repeated.
        seeds: Seed of each repeat that is still to be evaluated, by its number.
        keep: Stores what a repeat found.
        told: Told of every repeat that is finished.
    """

    spec: StudySpec
    record: TrialRecord
    seeds: Mapping[int, int]
    keep: Callable[[int, bytes], None]
    told: Callable[[int], None] = lambda number: None
    stopped: bool = False
    _waiting: list[int] = field(init=False)
    _out: set[int] = field(default_factory=set, init=False)
    _lost: dict[int, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._waiting = sorted(self.seeds)

    @property
    def finished(self) -> bool:
        """Whether no further repeat will be handed out and none is out."""
        return not self._out and (self.stopped or not self._waiting)

    def ask(self) -> Assignment | None:
        """The next repeat; None if there is none for the moment."""
        if self.stopped or not self._waiting:
            return None
        number = self._waiting.pop(0)
        self._out.add(number)
        its = self.record
        return Assignment(number, its.params, its.canonical, self.seeds[number])

    def tell(self, number: int, outcome: Outcome) -> None:
        """Store what a repeat found.

        Raises:
            StudyError: It did not complete, with its reason.
        """
        self._out.discard(number)
        if outcome.status != Status.COMPLETE:
            raise StudyError(f"repeat {number}: {outcome.status}: {outcome.reason}")
        self.keep(number, outcome.artifacts[REPEAT])
        self.told(number)

    def report(self, number: int, progress: Progress) -> Outcome | None:
        """Repeats are never stopped early."""
        return None

    def lost(self, number: int, reason: str) -> None:
        """Hand out again what lost its worker, as often as the study retries a trial.

        Raises:
            StudyError: That often it was handed out already.
        """
        self._out.discard(number)
        self._lost[number] = self._lost.get(number, 0) + 1
        if self._lost[number] > self.spec.study.retries:
            raise StudyError(f"repeat {number}: {reason}")
        self._waiting.append(number)

    def stop(self) -> None:
        """Hand out nothing more."""
        self.stopped = True


def _scored(
    images: ImageSet, maps: NDArray[np.float32], truth: Truth, top_share: float | None
) -> ScoredImages:
    scores = image_scores(maps, top_share, truth.scored)
    return ScoredImages(
        paths=list(images.paths),
        types=list(images.types),
        groups=list(images.groups),
        scores=[float(score) for score in scores],
    )


def _pixels(maps: Sequence[NDArray[np.float32]], truths: Sequence[Truth]) -> Pixels | None:
    """Pixels of both sets at quantiles of the first; None where one has none of a kind."""
    parts = [counted_pixels(one, truth) for one, truth in zip(maps, truths, strict=True)]
    if any(marked.all() or not marked.any() for _, marked in parts):
        return None
    scores, marked = parts[0]
    shares = np.linspace(0, 1, _CUTS)
    chosen = [np.quantile(scores[kind], shares, method="higher") for kind in (marked, ~marked)]
    cuts = np.unique(np.concatenate(chosen))[::-1]
    counted = [_counted(scores, marked, cuts) for scores, marked in parts]
    return Pixels(
        cuts=[float(cut) for cut in cuts], threshold_set=counted[0], inference_set=counted[1]
    )


def _counted(
    scores: NDArray[np.float32], marked: NDArray[np.bool_], cuts: NDArray[np.float32]
) -> PixelCounts:
    """How many pixels reach each cut."""
    kinds = [np.sort(scores[kind]) for kind in (marked, ~marked)]
    hits, alarms = (kind.size - np.searchsorted(kind, cuts, side="left") for kind in kinds)
    return PixelCounts(
        hits=hits.tolist(),
        alarms=alarms.tolist(),
        positives=kinds[0].size,
        negatives=kinds[1].size,
    )
