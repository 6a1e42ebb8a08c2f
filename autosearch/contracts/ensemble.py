"""Several detectors as one: the mean of their maps, each brought to one scale."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autosearch.contracts.detector import Cost, Detector, shared_tensor
from autosearch.contracts.staged import StagedDetector, stage_of
from autosearch.contracts.tiled import TiledDetector
from autosearch.data import ImageSet, numbered, resize_mask
from autosearch.errors import Infeasible

_PIXELS = 1 << 21
"""Of normal images that a member is asked at a time."""

_ROUNDING = float(np.finfo(np.float32).eps)
"""Scores that differ by less, as a share of them, are alike."""


class Scale(NamedTuple):
    """What a detector says of normal pixels.

    Attributes:
        mean: Of their scores.
        deviation: Standard deviation of their scores, above 0.
    """

    mean: float
    deviation: float


Scales = tuple[Scale, ...]
"""One of each member of an ensemble."""


@dataclass(frozen=True)
class Member:
    """One detector of an ensemble.

    Attributes:
        name: For people, such as ``trial 3``.
        detector: What answers.
        threads: Of torch while it is fitted; None leaves them as they are.
    """

    name: str
    detector: Detector
    threads: int | None = None


class EnsembleDetector(Detector):
    """The mean of standardised maps of several detectors.

    A member's map is standardised by the mean and the standard deviation of its scores of the
    pixels of normal validation images, those that count, as it was fitted on the train split: a
    member with a larger scale has no larger say. Images are scored as the first member scores
    them.

    Args:
        members: Two or more.
        validation: Its normal images give the scales; None where they are given.

    Attributes:
        members: The detectors, in order.
        scales: Of each member; empty before `fit`.
        given: Scales that `fit` takes instead of measuring them, as of a detector that is fitted
            on images of validation as well; empty where it measures them.
        top_share: See `Detector`.
    """

    def __init__(self, members: Sequence[Member], validation: ImageSet | None) -> None:
        if len(members) < 2:
            raise ValueError(f"an ensemble of {len(members)}")
        self.members, self._validation = tuple(members), validation
        self.scales: Scales = ()
        self.given: Scales = ()
        self.top_share = members[0].detector.top_share

    def memory(self, images: int) -> int:
        """See `Detector.memory`: all members stay in memory."""
        return sum(detector.memory(images) for detector in self._detectors)

    def fit(self, train: ImageSet) -> None:
        """Fit the members one after the other, then measure their scales unless they are given.

        Raises:
            Infeasible: Validation has no normal image of which a pixel counts, or a member scores
                all of them alike.
        """
        self.scales = ()
        for member in self.members:
            with _threads(member.threads):
                member.detector.fit(train)
        self.scales = self.given or tuple(
            _scale(member, self._validation) for member in self.members
        )

    def anomaly_maps(self, images: Tensor) -> Tensor:
        """See `Detector.anomaly_maps`; in standard deviations of normal pixels."""
        if not self.scales:
            raise RuntimeError("nothing was fitted")
        return _mean((one.anomaly_maps(images) for one in self._detectors), self.scales)

    def artifacts(self) -> dict[str, bytes]:
        """See `Detector.artifacts`; under numbered names."""
        return {
            numbered(name, number, len(self.members)): content
            for number, detector in enumerate(self._detectors)
            for name, content in detector.artifacts().items()
        }

    def figures(self) -> dict[str, float]:
        """See `Detector.figures`; under numbered names."""
        return {
            numbered(name, number, len(self.members)): value
            for number, detector in enumerate(self._detectors)
            for name, value in detector.figures().items()
        }

    def cost(self) -> Cost:
        """See `Detector.cost`: the sums of the members'."""
        costs = [detector.cost() for detector in self._detectors]
        return Cost(
            macs=sum(cost.macs for cost in costs),
            flops=sum(cost.flops for cost in costs),
            search_flops=sum(cost.search_flops for cost in costs),
            parameters=sum(cost.parameters for cost in costs),
            bank_bytes=sum(cost.bank_bytes for cost in costs),
        )

    def module(self) -> nn.Module:
        """See `Detector.module`; it shares no tensor with the members, nor do its parts.

        Raises:
            ValueError: A member is given pictures of its own: see `ensemble_of`.
        """
        if not self.scales:
            raise RuntimeError("nothing was fitted")
        if any(isinstance(detector, StagedDetector) for detector in self._detectors):
            raise ValueError("members that are given other pictures than each other")
        modules = [copy.deepcopy(detector.module()) for detector in self._detectors]
        return _Mean(modules, self.scales)

    @property
    def _detectors(self) -> tuple[Detector, ...]:
        return tuple(member.detector for member in self.members)


class _Mean(nn.Module):
    """The members' modules on the same images, and the mean of their standardised maps."""

    def __init__(self, modules: Iterable[nn.Module], scales: Scales) -> None:
        super().__init__()
        self.members, self._scales = nn.ModuleList(modules), scales

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` in [0, 1] to ``(N, H, W)``."""
        return _mean((member(images) for member in self.members), self._scales)


def ensemble_of(members: Sequence[Member], validation: ImageSet | None) -> Detector:
    """An ensemble; of members that preprocess pictures alike it is one of such pictures.

    Then their maps are averaged before they are taken back, and one graph is all of them.

    Args:
        members: Two or more.
        validation: See `EnsembleDetector`.
    """
    stages = {stage_of(one.detector) for one in members}
    stage = stages.pop()
    if stages or stage is None:
        return EnsembleDetector(members, validation)
    seen = None if validation is None else stage.of(validation)
    alike = [
        replace(one, detector=one.detector.inner)
        for one in members
        if isinstance(one.detector, StagedDetector)
    ]
    return StagedDetector(stage, EnsembleDetector(alike, seen))


def scales_of(detector: Detector) -> tuple[Scales, ...]:
    """Scales of the ensembles of which a detector consists, tile by tile; empty without any."""
    return tuple(part.scales for part in _ensembles(detector))


def give_scales(detector: Detector, scales: Sequence[Scales]) -> None:
    """Have the ensembles of a detector standardise as those of another did.

    Args:
        detector: Built, to be fitted.
        scales: What `scales_of` says of a detector that was built alike.
    """
    for part, own in zip(_ensembles(detector), scales, strict=True):
        part.given = own


def _ensembles(detector: Detector) -> list[EnsembleDetector]:
    detector = detector.inner if isinstance(detector, StagedDetector) else detector
    parts = detector.parts if isinstance(detector, TiledDetector) else (detector,)
    return [part for part in parts if isinstance(part, EnsembleDetector)]


def _mean(maps: Iterable[Tensor], scales: Scales) -> Tensor:
    """Mean of ``(N, H, W)`` maps, each less its scale's mean and over its deviation."""
    ours = [(one - scale.mean) / scale.deviation for one, scale in zip(maps, scales, strict=True)]
    return torch.stack(ours).mean(dim=0)


def _scale(member: Member, validation: ImageSet | None) -> Scale:
    """Mean and standard deviation of a member's scores of normal pixels that count."""
    # Of parts that are merged (Chan, Golub and LeVeque 1979), so that no map need be kept.
    count, mean, squares = 0, 0.0, 0.0
    for scores in _normal_scores(member.detector, validation):
        own, gap, total = float(scores.mean()), float(scores.mean()) - mean, count + scores.size
        squares += float(((scores - own) ** 2).sum()) + gap**2 * count * scores.size / total
        mean, count = mean + gap * scores.size / total, total
    if not count:
        raise Infeasible(
            "an ensemble weighs its members by normal images of validation, and none of their "
            "pixels counts"
        )
    deviation = math.sqrt(squares / count)
    if not deviation > _ROUNDING * abs(mean):
        raise Infeasible(
            f"{member.name} scores all pixels of the normal validation images alike ({mean:g}), "
            "so that its map has no scale for an ensemble"
        )
    return Scale(mean, deviation)


def _normal_scores(
    detector: Detector, validation: ImageSet | None
) -> Iterator[NDArray[np.float64]]:
    """Scores of the pixels that count, ``(n,)`` of some normal images at a time."""
    if validation is None:
        return
    height, width = validation.pixels.shape[2:]
    normal, step = np.flatnonzero(~validation.labels), max(1, _PIXELS // (height * width))
    for start in range(0, len(normal), step):
        chosen = normal[start : start + step]
        maps = detector.anomaly_maps(shared_tensor(validation.pixels[chosen])).numpy()
        if validation.valid is not None:
            size = (maps.shape[1], maps.shape[2])
            maps = maps[np.stack([resize_mask(validation.valid[i], size) for i in chosen])]
        if maps.size:
            yield maps.ravel().astype(np.float64)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
