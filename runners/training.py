"""A training on normal images: epochs, held-out loss, early stopping, curves.

What a step computes is the method's; everything around it is the same for all of them.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autosearch.contracts import ParameterInfo

from .parameters import epochs, images_per_epoch, learning_rate, switch

_PAUSES = 20
"""Parts of a training, at the ends of which it pauses."""
_HELD_OUT = 10
"""Of so many images one tells when to stop, at least one, and of fewer than `_FEWEST` none."""
_FEWEST = 4

Step = Callable[[NDArray[np.intp], np.random.Generator], dict[str, Tensor]]
"""From indices of images and a stream of random numbers to losses, whose sum is minimised."""


@dataclass(frozen=True)
class Schedule:
    """How long and in which steps a network is trained.

    Attributes:
        epochs: How many at most.
        batch: Images a step.
        images_per_epoch: Images after which an epoch ends, or earlier where all were seen.
        patience: Epochs without a lower loss on held-out normal images after which the training
            ends, and the best of them is taken; None trains on all images to the last epoch.
        lr: Learning rate at first.
        mixed_precision: Whether steps compute in bfloat16 where torch deems it safe.
    """

    epochs: int = 20
    batch: int = 8
    images_per_epoch: int = 400
    patience: int | None = None
    lr: float = 1e-3
    mixed_precision: bool = False


def schedule_parameters(default: Schedule) -> dict[str, ParameterInfo]:
    """The parameters of a `Schedule`, with a runner's own defaults."""
    return {
        "epochs": epochs(default.epochs, "passes over the images, at most"),
        "batch": ParameterInfo(default.batch, "images a step", low=1, high=256),
        "images_per_epoch": images_per_epoch(
            default.images_per_epoch, "images seen after which a pass ends"
        ),
        "patience": ParameterInfo(
            default.patience,
            "passes without a lower loss on a tenth of the images, held out, that end the "
            "training; null: none is held out",
            low=1,
            high=10_000,
            whole=True,
        ),
        "lr": learning_rate(default.lr, "learning rate"),
        "mixed_precision": switch(
            default.mixed_precision, "train in bfloat16 where torch deems it safe"
        ),
    }


class Training:
    """Trains a network in place.

    Args:
        network: What is trained; its mode is set.
        optimiser: Of its parameters.
        schedule: How long.
        seed: For the order of images and all that a step draws.
        milestones: Epochs from which on the learning rate is multiplied with `factor` once more.
        factor: See there.
        clip: Largest norm of all gradients together; None for no bound.

    Attributes:
        curve: Mean losses of every epoch so far by name, and ``held_out`` where there are such.
    """

    def __init__(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        schedule: Schedule,
        seed: int,
        *,
        milestones: tuple[int, ...] = (),
        factor: float = 0.1,
        clip: float | None = None,
    ) -> None:
        self._network, self._optimiser, self._clip = network, optimiser, clip
        self._schedule, self._seed = schedule, seed
        self._device = next(network.parameters()).device
        self._rates = torch.optim.lr_scheduler.MultiStepLR(optimiser, list(milestones), factor)
        self.curve: list[dict[str, float]] = []

    def run(self, images: int, step: Step) -> Iterator[float]:
        """Train, and pause after every twentieth part of the epochs.

        Args:
            images: How many there are, at least one.
            step: Losses of some of them. It may draw from its own stream and from torch's global
                one, which is seeded before.

        Yields:
            The share of epochs that are done, below 1. In a pause the network may be used, and its
            mode changed.

        Raises:
            ArithmeticError: A loss is not finite.
        """
        schedule = self._schedule
        learnt, held_out = self._divided(images)
        interval = -(-schedule.epochs // _PAUSES)
        best, state, since = math.inf, None, 0
        for epoch in range(schedule.epochs):
            self._network.train()
            steps = [
                self._learn(step, batch, (epoch, number))
                for number, batch in enumerate(self._batches(learnt, epoch))
            ]
            self._rates.step()
            means = {name: float(np.mean([one[name] for one in steps])) for name in steps[0]}
            if len(held_out):
                means["held_out"] = self._loss(step, held_out)
            self.curve.append(means)
            if not all(map(math.isfinite, means.values())):
                raise ArithmeticError(
                    f"the training diverged: no finite loss in epoch {epoch + 1}"
                )
            since += 1
            if len(held_out) and means["held_out"] < best:
                best, since = means["held_out"], 0
                state = copy.deepcopy(self._network.state_dict())
            if schedule.patience is not None and len(held_out) and since >= schedule.patience:
                break
            done = epoch + 1
            if done % interval == 0 and done < schedule.epochs:
                yield done / schedule.epochs
        if state is not None:
            self._network.load_state_dict(state)

    def curves(self) -> dict[str, bytes]:
        """The losses of every epoch as an artifact; see `Detector.artifacts`."""
        if not self.curve:
            return {}
        series = {name: [one[name] for one in self.curve] for name in self.curve[0]}
        drawn = {"x": "epoch", "panels": [{"title": "loss", "series": series}]}
        return {"curves.json": json.dumps(drawn).encode()}

    def _divided(self, images: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Images that are learnt from, and those that tell when to stop."""
        order = np.random.default_rng((self._seed, images)).permutation(images)
        if self._schedule.patience is None or images < _FEWEST:
            return order, order[:0]
        count = max(1, images // _HELD_OUT)
        return order[count:], np.sort(order[:count])

    def _batches(self, learnt: NDArray[np.intp], epoch: int) -> Iterator[NDArray[np.intp]]:
        order = np.random.default_rng((self._seed, epoch)).permutation(learnt)
        for start in range(0, min(len(order), self._schedule.images_per_epoch), self._batch):
            yield order[start : start + self._batch]

    @property
    def _batch(self) -> int:
        return self._schedule.batch

    def _learn(
        self, step: Step, batch: NDArray[np.intp], use: tuple[int, int]
    ) -> dict[str, float]:
        with self._drawing(*use) as rng, self._precision():
            losses = step(batch, rng)
        total = torch.stack(list(losses.values())).sum()
        self._optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self._network.parameters(), self._clip)
        self._optimiser.step()
        return {name: float(loss.detach()) for name, loss in losses.items()}

    @torch.no_grad()
    def _loss(self, step: Step, images: NDArray[np.intp]) -> float:
        """The mean loss of held-out images, with the same draws after every epoch."""
        self._network.eval()
        total = 0.0
        for start in range(0, len(images), self._batch):
            batch = images[start : start + self._batch]
            with self._drawing(-1, start) as rng, self._precision():
                losses = step(batch, rng)
            total += len(batch) * sum(float(loss) for loss in losses.values())
        return total / len(images)

    @contextmanager
    def _drawing(self, epoch: int, number: int) -> Iterator[np.random.Generator]:
        """A stream of its own for every step, and torch's global ones seeded for its duration."""
        rng = np.random.default_rng((self._seed, epoch + 1, number, 1))
        cuda = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(int(rng.integers(2**63)))
            yield rng

    def _precision(self) -> AbstractContextManager[object]:
        if not self._schedule.mixed_precision:
            return nullcontext()
        return torch.autocast(self._device.type, torch.bfloat16)
