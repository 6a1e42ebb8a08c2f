"""Auto-encoders as a detector: trained on normal images, they score every pixel of new ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autosearch.backbones import profile
from autosearch.contracts import TrialContext, shared_tensor
from autosearch.data import ImageSet, Size
from autosearch.errors import Infeasible

from ..frozen_maps import mean_where
from ..spreading import Spreading
from ..ssim import SMALLEST, dissimilarity
from ..trained import ScheduledDetector
from ..training import Schedule, Training
from ..unets import unet_bytes
from .networks import MIDDLE, Architecture, AutoEncoder, make_autoencoder

Loss = Literal["l2", "ssim"]

_PIXEL_BYTES = 600
"""What the loss takes for each pixel of an image."""


@dataclass(frozen=True)
class AutoEncoderSettings:
    """All of an auto-encoder.

    Attributes:
        architecture: ``mvtec`` or ``unet``; see `make_autoencoder`.
        base_width: Channels of the finest maps.
        depth: How often maps are halved.
        code_size: Length of the code of ``mvtec``.
        skips: Whether the ``unet`` connects its way down with its way up. Anomalies can pass
            there.
        loss: What is minimised, and then scored; see `unlike`.
        smoothing_sigma: Of the Gaussian over the maps, in pixels; 0 for none.
        weight_decay: Of the weights, as Adam has it: part of the gradient.
        schedule: How the network is trained.
    """

    architecture: Architecture = "mvtec"
    base_width: int = 32
    depth: int = 5
    code_size: int = 100
    skips: bool = True
    loss: Loss = "ssim"
    smoothing_sigma: float = 0.0
    weight_decay: float = 0.0
    schedule: Schedule = field(default_factory=Schedule)


def unlike(images: Tensor, rebuilt: Tensor, loss: Loss) -> Tensor:
    """How far images are from what was rebuilt of them, pixel by pixel.

    Args:
        images: ``(N, C, H, W)`` in [0, 1].
        rebuilt: The same shape.
        loss: ``l2`` for the squared difference of pixels that were divided by 0.5, averaged over
            channels; ``ssim`` for `dissimilarity`.

    Returns:
        ``(N, H, W)``, at least 0; higher is more unlike.
    """
    if loss == "ssim":
        return dissimilarity(images, rebuilt)
    return ((images - rebuilt) / MIDDLE).square().mean(dim=1)


class AutoEncoderMaps(nn.Module):
    """A trained network as one graph of plain operations.

    Args:
        network: Which.
        size: Height and width of the images.
        loss: How maps are made; see `unlike`.
        sigma: Of the Gaussian in pixels; 0 for none.
    """

    def __init__(self, network: AutoEncoder, size: Size, loss: Loss, sigma: float) -> None:
        super().__init__()
        self.network, self._loss = network, loss
        self.spreading = Spreading(size, size, sigma) if sigma else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` in [0, 1] to ``(N, H, W)``, at least 0; higher is more anomalous."""
        maps: Tensor = self.spreading(unlike(images, self.network(images), self._loss))
        return maps


class AutoEncoderDetector(ScheduledDetector):
    """Learns to rebuild normal images.

    Args:
        settings: Everything but the images.
        context: Seed, device and image size.

    Raises:
        Infeasible: Images are too small.
    """

    def __init__(self, settings: AutoEncoderSettings, context: TrialContext) -> None:
        super().__init__(context)
        if settings.loss == "ssim" and min(context.image_size) < SMALLEST:
            raise Infeasible(
                f"SSIM needs sides of {SMALLEST} pixels, and images have {context.image_size}"
            )
        self._settings = settings
        self._network = profile(self._untrained(), (1, 3, *context.image_size))

    def fit_in_steps(self, train: ImageSet) -> Iterator[float]:
        """Train on the normal images, all of which must have the context's size.

        Yields:
            See `Detector.fit_in_steps`. Who wants no more may close the iterator; what is learnt
            by then remains.

        Raises:
            ArithmeticError: A loss is not finite.
        """
        settings, context = self._settings, self._context
        images = shared_tensor(train.pixels)
        valid = None if train.valid is None else shared_tensor(train.valid)
        module = self._untrained().to(context.device).to(memory_format=torch.channels_last)
        network = module.network
        optimiser = torch.optim.Adam(
            network.parameters(), lr=settings.schedule.lr, weight_decay=settings.weight_decay
        )
        training = Training(network, optimiser, settings.schedule, context.seed)

        def step(indices: NDArray[np.intp], rng: np.random.Generator) -> dict[str, Tensor]:
            chosen = torch.from_numpy(indices)
            shown = images[chosen].to(context.device)
            counted = None if valid is None else valid[chosen].to(context.device)
            rebuilt = network(shown)
            # In single precision: the variances of SSIM are small differences.
            with torch.autocast(torch.device(context.device).type, enabled=False):
                wrong = unlike(shown, rebuilt.float(), settings.loss)
                return {settings.loss: mean_where(wrong, counted)}

        yield from self._train(module, training, len(images), step)

    def memory(self, images: int) -> int:
        """See `Detector.memory`: one step, and what the optimiser keeps."""
        settings, (height, width) = self._settings, self._context.image_size
        # Without batch norms, and with maps that are halved at once, there is less than that.
        one = unet_bytes(settings.base_width, height * width) + _PIXEL_BYTES * height * width
        return settings.schedule.batch * one + 16 * self._network.parameters

    def _untrained(self) -> AutoEncoderMaps:
        settings, context = self._settings, self._context
        network = make_autoencoder(
            settings.architecture,
            context.image_size,
            settings.base_width,
            settings.depth,
            settings.code_size,
            settings.skips,
            context.seed,
        )
        maps = AutoEncoderMaps(
            network, context.image_size, settings.loss, settings.smoothing_sigma
        )
        return maps.eval()
