"""DRAEM as a detector: trained on normal images, it scores every pixel of new ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autosearch.backbones import profile
from autosearch.contracts import TrialContext
from autosearch.data import ImageSet
from autosearch.synthesis import open_textures

from ..frozen_maps import mean_where
from ..glass.losses import focal_loss
from ..ssim import dissimilarity
from ..trained import ScheduledDetector
from ..training import Schedule, Training
from ..unets import unet_bytes
from .anomalies import Anomalies, AnomalySettings, Batch
from .networks import DraemMaps, DraemNetwork, make_network

_FALLS, _FACTOR = (0.8, 0.9), 0.2
"""Shares of the epochs after which the learning rate is multiplied: 560 and 630 of 700."""
_PIXEL_BYTES = 600
"""What the losses take for each pixel of an image."""


@dataclass(frozen=True)
class DraemSettings:
    """All of DRAEM.

    Attributes:
        base_width: Of the reconstructive network; see `DraemNetwork`.
        disc_width: Of the discriminative one.
        smoothing: See `DraemMaps`.
        textures: ``self``, ``procedural`` or a folder of images.
        anomalies: How training images are made.
        schedule: How the networks are trained.
    """

    base_width: int = 128
    disc_width: int = 64
    smoothing: int = 21
    textures: str = "procedural"
    anomalies: AnomalySettings = field(default_factory=AnomalySettings)
    schedule: Schedule = field(default_factory=Schedule)


class DraemDetector(ScheduledDetector):
    """Learns to repair made-up anomalies and to say where they were.

    Args:
        settings: Everything but the images.
        context: Seed, device and image size.

    Raises:
        Infeasible: Images are too small.
    """

    def __init__(self, settings: DraemSettings, context: TrialContext) -> None:
        super().__init__(context)
        self._settings = settings
        self._network = profile(self._untrained(), (1, 3, *context.image_size))

    def fit_in_steps(self, train: ImageSet) -> Iterator[float]:
        """Train on the normal images, all of which must have the context's size.

        Yields:
            See `Detector.fit_in_steps`. Who wants no more may close the iterator; what is learnt
            by then remains.

        Raises:
            ArithmeticError: A loss is not finite.
            DataError: The folder of textures is missing or empty.
        """
        settings, context = self._settings, self._context
        textures = open_textures(settings.textures, train.pixels, train.valid)
        anomalies = Anomalies(train, settings.anomalies, textures)
        # Channels beside each other are what convolutions of few of them compute fastest with.
        module = self._untrained().to(context.device).to(memory_format=torch.channels_last)
        network = module.network
        training = training_of(network, settings.schedule, context.seed)

        def step(indices: NDArray[np.intp], rng: np.random.Generator) -> dict[str, Tensor]:
            return losses(network, anomalies.batch(indices, rng), context.device)

        yield from self._train(module, training, len(train.pixels), step)

    def memory(self, images: int) -> int:
        """See `Detector.memory`: one step, and what the optimiser keeps."""
        settings, (height, width) = self._settings, self._context.image_size
        widths = settings.base_width + settings.disc_width
        one = unet_bytes(widths, height * width) + _PIXEL_BYTES * height * width
        return settings.schedule.batch * one + 16 * self._network.parameters

    def _untrained(self) -> DraemMaps:
        settings, context = self._settings, self._context
        network = make_network(
            context.image_size, settings.base_width, settings.disc_width, context.seed
        )
        return DraemMaps(network, settings.smoothing).eval()


def training_of(network: DraemNetwork, schedule: Schedule, seed: int) -> Training:
    """Adam, whose learning rate falls to a fifth after 0.8 and after 0.9 of the epochs."""
    optimiser = torch.optim.Adam(network.parameters(), lr=schedule.lr)
    falls = tuple(round(share * schedule.epochs) for share in _FALLS)
    return Training(network, optimiser, schedule, seed, milestones=falls, factor=_FACTOR)


def losses(network: DraemNetwork, batch: Batch, device: str) -> dict[str, Tensor]:
    """What DRAEM minimises the sum of, over the pixels that count.

    Returns:
        ``squared``, the mean squared error of the repaired images; ``structure``, the mean of
        ``1 - SSIM``; ``focal``, the focal loss of the probabilities of the right answer.
    """
    counted = None if batch.counted is None else batch.counted.to(device)
    normal, masks = batch.normal.to(device), batch.masks.to(device)
    repaired, logits = network(batch.seen.to(device))
    # In single precision: the variances of SSIM are small differences.
    with torch.autocast(torch.device(device).type, enabled=False):
        repaired, probability = repaired.float(), torch.softmax(logits.float(), dim=1)[:, 1]
        squared = (repaired - normal).square().mean(dim=1)
        where = torch.ones_like(masks) if counted is None else counted
        focal = probability.new_zeros(())
        if where.any():
            focal = focal_loss(probability[where], masks[where])
        return {
            "squared": mean_where(squared, counted),
            "structure": mean_where(dissimilarity(repaired, normal), counted),
            "focal": focal,
        }
