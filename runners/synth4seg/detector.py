"""Synth4Seg as a detector: a U-Net that is told where defects are, on images that it makes up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from autosearch.backbones import profile
from autosearch.contracts import TrialContext, shared_tensor
from autosearch.data import ImageSet
from autosearch.errors import ConfigError
from autosearch.synthesis import at_input

from ..trained import TrainedDetector
from .artifacts import curves_json, locations_jpg
from .curve import Epoch, outer_figures
from .looks import LocationMaps
from .networks import ENCODERS, UNet, make_location_net, make_unet
from .sources import Sources, SourceSettings
from .training import BilevelSettings, BilevelTrainer


@dataclass(frozen=True)
class Synth4SegSettings:
    """All of Synth4Seg but the weights.

    Attributes:
        encoder: Of both U-Nets.
        decoder_width: Of both; see `UNet`.
        sources: How images are made.
        training: How both levels learn.
        outer_normals: Whether normal validation images count in the outer loss and in the choice
            of the checkpoint; in the paper, validation has none.
    """

    encoder: str = ENCODERS[0]
    decoder_width: int = 256
    sources: SourceSettings = field(default_factory=SourceSettings)
    training: BilevelSettings = field(default_factory=BilevelSettings)
    outer_normals: bool = False


class Probabilities(nn.Module):
    """A U-Net with a sigmoid.

    Args:
        network: Images to logits.
    """

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` in [0, 1] to ``(N, H, W)`` in [0, 1]; higher is more anomalous."""
        return torch.sigmoid(self.network(images))


class Synth4SegDetector(TrainedDetector):
    """Learns to segment defects that are cut from training images and pasted on others.

    Args:
        state: Tensors of the encoder as a whole timm model.
        settings: Everything else.
        context: Seed, device, image size, and for `fit` the validation images.

    Attributes:
        curve: Of every epoch of the last `fit`, as far as it came.
        locations: Location maps of some training images at some of its epochs.
    """

    def __init__(
        self, state: Mapping[str, Tensor], settings: Synth4SegSettings, context: TrialContext
    ) -> None:
        self.curve: list[Epoch] = []
        self.locations: list[LocationMaps] = []
        super().__init__(context)
        self._state, self._settings = state, settings
        self._train: ImageSet | None = None
        # The location net is left out, which only training needs.
        self._network = profile(self._untrained(), (1, 3, *context.image_size))

    def fit_in_steps(self, train: ImageSet) -> Iterator[float]:
        """Train on normal and anomalous images, while those for validation steer the outer level.

        Anomalous images on which nobody marked where are left out.

        Yields:
            See `Detector.fit_in_steps`. Who wants no more may close the iterator; what is learnt
            by then remains.

        Raises:
            ArithmeticError: A loss is not finite.
            ConfigError: There is nothing to cut and paste, or no defect to validate on.
        """
        settings, context = self._settings, self._context
        validation, train = self._validation(), train.select(train.marked)
        masks, counted = at_input(validation)
        sources = Sources(train, settings.sources)
        network, location_net = self._untrained(), None
        if settings.training.outer_task in ("location", "both"):
            location_net = make_location_net(
                settings.encoder, self._state, context.seed + 1, settings.decoder_width
            )
        trainer = BilevelTrainer(
            network, location_net, settings.training, context.seed, context.device
        )
        self.curve, self.locations, self._train = trainer.curve, trainer.locations, train
        self._module = Probabilities(network)
        try:
            yield from trainer.run(
                sources,
                shared_tensor(train.pixels),
                shared_tensor(validation.pixels),
                torch.from_numpy(masks.copy()),
                None if counted is None else torch.from_numpy(counted.copy()),
            )
        finally:
            network.requires_grad_(False).zero_grad()

    def artifacts(self) -> dict[str, bytes]:
        """See `Detector.artifacts`; empty before `fit`."""
        if not self.curve or self._train is None:
            return {}
        task = self._settings.training.outer_task
        learnt = task in ("source_weights", "both")
        files = {"curves.json": curves_json(self.curve, learnt, task != "none")}
        if self.locations:
            files["locations.jpg"] = locations_jpg(self._train.pixels, self.locations)
        return files

    def figures(self) -> dict[str, float]:
        """See `Detector.figures`: how hypergradients came about, if there were any."""
        return outer_figures(self.curve)

    def _untrained(self) -> UNet:
        settings = self._settings
        return make_unet(
            settings.encoder, self._state, self._context.seed, width=settings.decoder_width
        )

    def _validation(self) -> ImageSet:
        """Images that steer the outer level and choose the checkpoint."""
        given = self._context.validation
        if given is None:
            allowed = "validation images in the context, which training selects on"
            raise ConfigError("context.validation", None, allowed)
        if not at_input(given)[0].any():
            found = f"{int(given.labels.sum())} anomalous validation images, no defect on them"
            allowed = "a larger share, so that training can be judged by real defects"
            raise ConfigError("dataset.labelled.val", found, allowed)
        wanted = given.marked if self._settings.outer_normals else given.marked & given.labels
        return given.select(wanted)
