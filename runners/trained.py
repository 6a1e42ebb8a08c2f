"""What detectors share that train a network by gradients."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from autosearch.backbones import Complexity
from autosearch.contracts import Cost, Detector, TrialContext, passes
from autosearch.data import ImageSet

from .training import Step, Training


class TrainedDetector(Detector):
    """A network, and once it is trained the module of its anomaly maps.

    Those that derive from it set `_network`, what one image costs, when they are made. They train
    in `fit_in_steps`, and set `_module` before its first pause.

    Args:
        context: Seed, device and image size.
    """

    _network: Complexity

    def __init__(self, context: TrialContext) -> None:
        self._context = context
        self._module: nn.Module | None = None

    def fit(self, train: ImageSet) -> None:
        """See `fit_in_steps`, here without pauses."""
        for _ in self.fit_in_steps(train):
            pass

    def anomaly_maps(self, images: Tensor) -> Tensor:
        """See `Detector.anomaly_maps`; scores are in [0, 1]."""
        module = self.module()
        with torch.inference_mode():
            return torch.cat([module(part).cpu() for part in passes(images, self._context.device)])

    def cost(self) -> Cost:
        """See `Detector.cost`."""
        network = self._network
        return Cost(
            macs=network.macs,
            flops=network.flops,
            search_flops=0,
            parameters=network.parameters,
            bank_bytes=0,
        )

    def module(self) -> nn.Module:
        """See `Detector.module`."""
        if self._module is None:
            raise RuntimeError("the detector has not been fitted")
        return self._module.eval()


class ScheduledDetector(TrainedDetector):
    """A network that a `Training` trains.

    Those that derive from it end `fit_in_steps` with `_train`.

    Args:
        context: Seed, device and image size.
    """

    _training: Training | None = None

    def artifacts(self) -> dict[str, bytes]:
        """See `Detector.artifacts`: the losses of every epoch."""
        return {} if self._training is None else self._training.curves()

    def _train(
        self, module: nn.Module, training: Training, images: int, step: Step
    ) -> Iterator[float]:
        """Train to the end, or to where the iterator is closed; no gradients are left then.

        Args:
            module: That of the anomaly maps, which holds the network.
            training: Of the network.
            images: How many there are.
            step: See `Training.run`.

        Yields:
            See `Detector.fit_in_steps`.

        Raises:
            ArithmeticError: A loss is not finite.
        """
        self._module, self._training = module, training
        try:
            yield from training.run(images, step)
        finally:
            module.requires_grad_(False).zero_grad()
