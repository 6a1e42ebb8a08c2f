"""A detector that learns how likely the maps of a frozen backbone are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

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
from .coupling import negative_log_likelihood

LOSS = "negative log-likelihood"

Settings = TypeVar("Settings")
"""What a method says of its flow."""


class Flow(nn.Module, ABC):
    """Maps to as many numbers that are to be standard normal, and can be turned back."""

    @abstractmethod
    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Every ``(N, C, h, w)`` to the same shape, and ``(N, h, w)`` of its log-determinant."""

    @abstractmethod
    def inverse(self, latent: list[Tensor]) -> list[Tensor]:
        """Undo `forward`."""

    @abstractmethod
    def kept_numbers(self, grids: list[Size]) -> int:
        """About how many numbers of one image a step of training keeps for its gradients."""


class LikelihoodMaps(nn.Module):
    """A trained detector as one graph of plain operations.

    Args:
        maps: The backbone.
        flow: Of its maps.
        scores: What comes out of the flow to one map.
    """

    def __init__(self, maps: FrozenMaps, flow: Flow, scores: nn.Module) -> None:
        super().__init__()
        self.maps, self.flow, self.scores = maps, flow, scores

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` in [0, 1] to ``(N, H, W)``; higher is more anomalous."""
        latent, _ = self.flow(self.maps(images))
        found: Tensor = self.scores(latent)
        return found


@dataclass(frozen=True)
class FlowTraining:
    """How a flow is trained, with Adam.

    Attributes:
        schedule: How long. Always in single precision: a log-determinant sums many numbers.
        weight_decay: Added to gradients, as a share of the weights.
        eps: What Adam adds to denominators.
        clip: Largest norm of all gradients together; None for no bound.
        per_number: Whether the loss is divided by how many numbers an image's maps have.
    """

    schedule: Schedule
    weight_decay: float
    eps: float = 1e-8
    clip: float | None = None
    per_number: bool = False


class FlowDetector(ScheduledDetector, Generic[Settings]):
    """A frozen backbone and a flow that is trained to tell how likely its maps are.

    Args:
        extractor: The frozen backbone, in evaluation mode.
        settings: The method's own, of its flow.
        training: How the flow is trained.
        context: Seed, device and image size.
        recalibrated: Whether batch norms take their statistics from the training images.

    Raises:
        Infeasible: The sides of the images are no multiples of what the coarsest map needs.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        settings: Settings,
        training: FlowTraining,
        context: TrialContext,
        recalibrated: bool = False,
    ) -> None:
        super().__init__(context)
        self._extractor, self._recalibrated = extractor, recalibrated
        self._settings, self._how = settings, training
        self._grids = self._checked_grids(self._frozen(extractor))
        untrained = self._untrained(extractor)
        self._network = profile(untrained, (1, 3, *context.image_size))
        channels = untrained.maps.channels
        self._numbers = sum(
            count * height * width
            for count, (height, width) in zip(channels, self._grids, strict=True)
        )
        self._step_numbers = untrained.flow.kept_numbers(self._grids)
        self._weights = sum(weight.numel() for weight in untrained.flow.parameters())

    @abstractmethod
    def _frozen(self, extractor: FeatureExtractor) -> FrozenMaps:
        """The maps that the flow is of."""

    @abstractmethod
    def _reductions(self, maps: FrozenMaps) -> list[int]:
        """Sides of images divided by those of every map."""

    @abstractmethod
    def _flow(self, channels: tuple[int, ...]) -> Flow:
        """A flow of maps with so many channels. Torch's global generator is seeded."""

    @abstractmethod
    def _scores(self) -> nn.Module:
        """What comes out of the flow to ``(N, H, W)``."""

    def fit_in_steps(self, train: ImageSet) -> Iterator[float]:
        """Train on the unlabelled normal images; cells that do not count are not learnt from.

        Yields:
            See `Detector.fit_in_steps`. Who wants no more may close the iterator; what is learnt
            by then remains.

        Raises:
            ArithmeticError: The training diverged.
            Infeasible: No image has a cell that counts.
        """
        how, device = self._how, self._context.device
        images = shared_tensor(train.pixels)
        extractor = self._extractor
        if self._recalibrated:
            extractor = recalibrate(extractor, images)
        module = self._untrained(optimise_for_inference(extractor)).to(device)
        flow = module.flow.to(memory_format=torch.channels_last)
        kept = KeptMaps(module.maps, images, device, train.valid)
        every = kept.counted(np.arange(len(images)))
        if every is not None and not any(bool(cells.any()) for cells in every):
            raise Infeasible(f"no training image has a cell that counts, of {self._grids}")
        optimiser = torch.optim.Adam(
            flow.parameters(), lr=how.schedule.lr, eps=how.eps, weight_decay=how.weight_decay
        )
        training = Training(flow, optimiser, how.schedule, self._context.seed, clip=how.clip)
        divisor = self._numbers if how.per_number else 1

        def step(indices: NDArray[np.intp], rng: np.random.Generator) -> dict[str, Tensor]:
            latent, log_determinants = flow(kept[indices])
            loss = negative_log_likelihood(latent, log_determinants, kept.counted(indices))
            return {LOSS: loss / divisor}

        yield from self._train(module, training, len(images), step)

    def memory(self, images: int) -> int:
        """See `Detector.memory`: maps kept between epochs, one step, and Adam's state."""
        step = 4 * self._step_numbers * min(images, self._how.schedule.batch)
        return kept_bytes(self._numbers * images) + step + 16 * self._weights

    def _untrained(self, extractor: FeatureExtractor) -> LikelihoodMaps:
        """Around an extractor, which is not copied, a new flow."""
        maps = self._frozen(extractor)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._context.seed)
            flow = self._flow(maps.channels)
        return LikelihoodMaps(maps, flow, self._scores()).eval()

    def _checked_grids(self, maps: FrozenMaps) -> list[Size]:
        """Rows and columns of every map."""
        size, reductions = self._context.image_size, self._reductions(maps)
        most = max(reductions)
        if any(side % most for side in size):
            raise Infeasible(
                f"images of {size[0]} x {size[1]} pixels do not divide into the cells of the "
                f"coarsest map; both sides must be multiples of {most}"
            )
        with torch.no_grad():
            found = [(one.shape[2], one.shape[3]) for one in maps(torch.zeros(1, 3, *size))]
        expected = [(size[0] // one, size[1] // one) for one in reductions]
        if found != expected:
            raise Infeasible(
                f"the backbone makes maps of {found} cells from images of {size[0]} x {size[1]} "
                f"pixels, not of {expected}: it leaves some pixels out"
            )
        return found
