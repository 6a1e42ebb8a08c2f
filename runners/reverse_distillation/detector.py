"""Reverse distillation as a detector: where the student fails to rebuild, something is new."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autosearch.backbones import FeatureExtractor, optimise_for_inference, profile, recalibrate
from autosearch.contracts import TrialContext, shared_tensor
from autosearch.data import ImageSet, Size
from autosearch.errors import Infeasible

from ..frozen_maps import FrozenMaps, KeptMaps, kept_bytes
from ..trained import ScheduledDetector
from ..training import Schedule, Training
from .distances import Compared, DistanceMaps, MapMode, level_loss
from .networks import Student

BETAS = (0.5, 0.999)
"""Of Adam, published."""
_STEP_BYTES = 32
"""What a step takes for each number of a map that the student makes, forth and back."""


@dataclass(frozen=True)
class ReverseSettings:
    """All of reverse distillation but the teacher.

    Attributes:
        decoder_width: See `Student`.
        decoder_blocks: See `Student`.
        compared: Vectors of the loss; see `level_loss`.
        map_mode: How levels become one map; see `DistanceMaps`.
        smoothing_sigma: Of the Gaussian over the map, in pixels; 0 for none.
        recalibrated: Whether the teacher's batch norms take their statistics from the training
            images.
        schedule: How it is trained.
    """

    decoder_width: float = 1.0
    decoder_blocks: int = 1
    compared: Compared = "cell"
    map_mode: MapMode = "add"
    smoothing_sigma: float = 4.0
    recalibrated: bool = False
    schedule: Schedule = field(default_factory=Schedule)


class ReverseMaps(nn.Module):
    """Teacher and student as one graph of plain operations.

    Args:
        teacher: Frozen.
        student: Of its levels.
        maps: Their distances.
    """

    def __init__(self, teacher: FrozenMaps, student: Student, maps: DistanceMaps) -> None:
        super().__init__()
        self.teacher, self.student, self.maps = teacher, student, maps

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` in [0, 1] to ``(N, H, W)``, at least 0; higher is more anomalous."""
        wanted = self.teacher(images)
        maps: Tensor = self.maps(wanted, self.student(wanted))
        return maps


class ReverseDistillationDetector(ScheduledDetector):
    """Learns to rebuild a teacher's maps of normal images.

    Args:
        extractor: The frozen teacher, in evaluation mode.
        settings: Everything else.
        context: Seed, device and image size.

    Raises:
        Infeasible: The levels cannot be joined, or images are too small or of no multiple of the
            coarsest level's cell.
    """

    def __init__(
        self, extractor: FeatureExtractor, settings: ReverseSettings, context: TrialContext
    ) -> None:
        super().__init__(context)
        self._extractor, self._settings = extractor, settings
        self._grids = _grids(extractor, context.image_size)
        untrained = self._untrained(extractor)
        self._network = profile(untrained, (1, 3, *context.image_size))
        self._weights = sum(one.numel() for one in untrained.student.parameters())

    def fit_in_steps(self, train: ImageSet) -> Iterator[float]:
        """Train on the normal images, all of which must have the context's size.

        Cells of which more than half does not count are left out of the loss.

        Yields:
            See `Detector.fit_in_steps`. Who wants no more may close the iterator; what is learnt
            by then remains.

        Raises:
            ArithmeticError: A loss is not finite.
        """
        settings, context = self._settings, self._context
        images, extractor = shared_tensor(train.pixels), self._extractor
        if settings.recalibrated:
            extractor = recalibrate(extractor, images)
        module = self._untrained(optimise_for_inference(extractor)).to(context.device).eval()
        student = module.student.to(memory_format=torch.channels_last)
        kept = KeptMaps(module.teacher, images, context.device, train.valid)
        optimiser = torch.optim.Adam(student.parameters(), settings.schedule.lr, betas=BETAS)
        training = Training(student, optimiser, settings.schedule, context.seed)
        names = [f"level {level.block}" for level in extractor.feature_info]

        def step(indices: NDArray[np.intp], rng: np.random.Generator) -> dict[str, Tensor]:
            wanted = [one.contiguous(memory_format=torch.channels_last) for one in kept[indices]]
            counted: Sequence[Tensor | None] = kept.counted(indices) or [None] * len(wanted)
            parts = zip(names, wanted, student(wanted), counted, strict=True)
            return {
                name: level_loss(own, found, cells, settings.compared)
                for name, own, found, cells in parts
            }

        yield from self._train(module, training, len(images), step)

    def memory(self, images: int) -> int:
        """See `Detector.memory`: maps kept between epochs, the optimiser, and one step."""
        levels = self._extractor.feature_info
        cells = [math.prod(grid) for grid in self._grids]
        numbers = sum(one.channels * own for one, own in zip(levels, cells, strict=True))
        settings = self._settings
        made = numbers * (1 + settings.decoder_width * (2 + 4 * settings.decoder_blocks))
        step = round(_STEP_BYTES * settings.schedule.batch * made)
        return kept_bytes(images * numbers) + 16 * self._weights + step

    def _untrained(self, extractor: FeatureExtractor) -> ReverseMaps:
        """Around an extractor, which is not copied, a new student."""
        settings, context = self._settings, self._context
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            student = Student(
                extractor.feature_info, settings.decoder_width, settings.decoder_blocks
            )
        maps = DistanceMaps(
            self._grids, context.image_size, settings.map_mode, settings.smoothing_sigma
        )
        return ReverseMaps(FrozenMaps(extractor), student, maps).eval()


def _grids(extractor: FeatureExtractor, size: Size) -> list[Size]:
    """Rows and columns of the maps of every level.

    Raises:
        Infeasible: They do not cover the image in whole cells, or the embedding would have one.
    """
    coarsest = extractor.feature_info[-1].reduction
    if any(side % coarsest for side in size):
        raise Infeasible(
            f"images of {size[0]} x {size[1]} pixels; both sides must be multiples of {coarsest}, "
            "a cell of the coarsest level"
        )
    if max(size) <= 2 * coarsest:
        raise Infeasible(
            f"images of {size[0]} x {size[1]} pixels leave the embedding, whose cells have "
            f"{2 * coarsest} a side, no more than one; larger ones, or finer levels, leave more"
        )
    with torch.no_grad():
        found = [tuple(one.shape[-2:]) for one in extractor(torch.zeros(1, 3, *size))]
    wanted = [
        (size[0] // level.reduction, size[1] // level.reduction)
        for level in extractor.feature_info
    ]
    if found != wanted:
        raise Infeasible(
            f"the backbone makes grids of {found} cells, but whole cells in {size[0]} x {size[1]} "
            f"pixels are {wanted}: it cuts borders off"
        )
    return wanted
