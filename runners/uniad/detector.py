"""UniAD as a detector: what it cannot reconstruct is anomalous."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autosearch.backbones import FeatureExtractor, optimise_for_inference, profile, recalibrate
from autosearch.contracts import TrialContext, shared_tensor
from autosearch.data import ImageSet
from autosearch.errors import Infeasible

from ..frozen_maps import KeptMaps, kept_bytes, mean_where
from ..trained import ScheduledDetector
from ..training import Schedule, Training
from .maps import AlignedMaps, ChannelScale, PooledSpreading, UniADMaps, grid_of
from .reconstruction import Reconstruction, TransformerSettings

_DROP_AT, _FACTOR, _CLIP = 0.8, 0.1, 0.1
"""Share of the epochs after which the rate falls, to which part; bound of a step's gradients."""
_AT_ONCE = 64
"""Images whose features are summed together."""
_PASS_BYTES = 1000
"""What the frozen backbone takes for each pixel of the images that it looks at together."""


@dataclass(frozen=True)
class UniADSettings:
    """All of UniAD but the backbone.

    Attributes:
        stride: Side of a cell in pixels; all levels are brought to the grid of these.
        feature_scale: ``unit`` gives every channel of the normal features a mean of 0 and a
            deviation of 1, ``raw`` leaves them as the backbone makes them.
        mean_pool: Side in pixels of the squares whose means the maps are; 1 for none.
        transformer: What reconstructs.
        schedule: How it is trained.
        weight_decay: Of AdamW.
        bn_recalibration: Whether the backbone's batch norms take their statistics from the
            training images.
    """

    stride: int = 16
    feature_scale: Literal["raw", "unit"] = "raw"
    mean_pool: int = 16
    transformer: TransformerSettings = field(default_factory=TransformerSettings)
    schedule: Schedule = field(default_factory=Schedule)
    weight_decay: float = 1e-4
    bn_recalibration: bool = False


class UniADDetector(ScheduledDetector):
    """Learns to reconstruct a frozen backbone's features of normal images.

    A cell's score is the Euclidean distance of its features to the reconstructed ones. The network
    of the last epoch is kept, or the one of the lowest held-out loss; the released code takes the
    one that is best on the test images.

    Args:
        extractor: The frozen backbone, in evaluation mode.
        settings: Everything else.
        context: Seed, device and image size.

    Raises:
        Infeasible: The images do not divide into cells, or the neighbour mask covers the grid.
    """

    def __init__(
        self, extractor: FeatureExtractor, settings: UniADSettings, context: TrialContext
    ) -> None:
        super().__init__(context)
        self._extractor, self._settings = extractor, settings
        self._grid = grid_of(context.image_size, settings.stride, extractor)
        untrained = self._untrained(extractor)
        seen = profile(untrained, (1, 3, *context.image_size))
        self._network = replace(seen, flops=seen.flops + untrained.reconstruction.norm_flops())
        self._channels = untrained.features.channels[0]
        self._weights = sum(one.numel() for one in untrained.reconstruction.parameters())

    def fit_in_steps(self, train: ImageSet) -> Iterator[float]:
        """Train on the unlabelled normal images, all of which must have the context's size.

        Cells of which more than half does not count have no share in the loss.

        Yields:
            See `Detector.fit_in_steps`. Who wants no more may close the iterator; what is learnt
            by then remains.

        Raises:
            ArithmeticError: The training diverged.
            Infeasible: No image has a cell that counts.
        """
        settings, device = self._settings, self._context.device
        images = shared_tensor(train.pixels)
        extractor = self._extractor
        if settings.bn_recalibration:
            extractor = recalibrate(extractor, images)
        module = self._untrained(optimise_for_inference(extractor)).to(device).eval()
        network = module.reconstruction
        kept = KeptMaps(module.features, images, device, train.valid)
        counted = kept.counted(np.arange(len(images)))
        if counted is not None and not counted[0].any():
            rows, columns = self._grid
            raise Infeasible(f"no training image has a cell that counts, of {rows} x {columns}")
        if settings.feature_scale == "unit":
            module.scale.set(*channel_spread(kept, len(images)))
        epochs = settings.schedule.epochs
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.schedule.lr, weight_decay=settings.weight_decay
        )
        training = Training(
            network,
            optimiser,
            settings.schedule,
            self._context.seed,
            milestones=(max(1, round(_DROP_AT * epochs)),),
            factor=_FACTOR,
            clip=_CLIP,
        )

        def step(batch: NDArray[np.intp], rng: np.random.Generator) -> dict[str, Tensor]:
            (features,), cells = kept[batch], kept.counted(batch)
            features = module.scale(features)
            counted = None if cells is None else cells[0]
            return {"features": features_loss(features, network(features), counted)}

        yield from self._train(module, training, len(images), step)

    def memory(self, images: int) -> int:
        """See `Detector.memory`: kept features, and a pass of the backbone or a step."""
        settings, (height, width) = self._settings.transformer, self._context.image_size
        cells, batch = self._grid[0] * self._grid[1], self._settings.schedule.batch
        kept = kept_bytes(images * self._channels * cells)
        attentions = settings.encoder_layers + 2 * settings.decoder_layers
        layers = settings.encoder_layers + settings.decoder_layers
        # Attention keeps its weights before and after the softmax, and gradients of both.
        looks = 4 * attentions * settings.heads * cells
        tokens = 16 * attentions * settings.hidden + 4 * layers * settings.feedforward
        step = 4 * batch * cells * (looks + tokens) + 16 * self._weights
        return kept + max(step, 4 * _PASS_BYTES * height * width)

    def _untrained(self, extractor: FeatureExtractor) -> UniADMaps:
        """Around an extractor, which is not copied, a new transformer."""
        settings, grid = self._settings, self._grid
        features = AlignedMaps(extractor, grid)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self._context.seed)
            network = Reconstruction(features.channels[0], grid, settings.transformer)
        spreading = PooledSpreading(grid, self._context.image_size, settings.mean_pool)
        return UniADMaps(features, ChannelScale(features.channels[0]), network, spreading).eval()


def channel_spread(kept: KeptMaps, images: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every channel over all cells of all images that count.

    Args:
        kept: Maps of one level.
        images: How many there are.

    Returns:
        Two times ``(C,)`` float64; where a channel never changes its deviation is 1.
    """
    number, sums, squares = 0, torch.zeros(()), torch.zeros(())
    for start in range(0, images, _AT_ONCE):
        batch = np.arange(start, min(start + _AT_ONCE, images))
        (features,), cells = kept[batch], kept.counted(batch)
        vectors = features.movedim(1, 3).double().cpu()
        vectors = vectors.flatten(0, 2) if cells is None else vectors[cells[0].cpu()]
        number += len(vectors)
        sums, squares = sums + vectors.sum(dim=0), squares + vectors.square().sum(dim=0)
    mean = sums / number
    spread = (squares / number - mean.square()).clamp(min=0).sqrt()
    spread[spread <= 1e-6 * mean.abs()] = 1
    return mean, spread


def features_loss(features: Tensor, made: Tensor, counted: Tensor | None) -> Tensor:
    """Mean squared error of ``(N, C, h, w)`` reconstructed features.

    Args:
        features: What they should be.
        made: What they are.
        counted: ``(N, h, w)`` bool, cells that count; None for all.
    """
    return mean_where((made.float() - features).square().mean(dim=1), counted)
