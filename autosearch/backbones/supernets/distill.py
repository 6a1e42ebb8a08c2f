"""Train an OFA-MobileNetV3 supernet from a teacher and unlabelled images.

The supernet learns to answer with the teacher's feature maps at the ends of its stages, whatever
of it is active: each step trains two subnets, a random one and, in turn, the largest or the
smallest (the sandwich rule of Yu and Huang, "Universally Slimmable Networks and Improved Training
Techniques", ICCV 2019). At first each stage reads the teacher's map of the stage before it, so
that all stages learn at once; then more and more its own.

All randomness of a step is drawn from the seed and the step's number, so a run that was cut off
goes on as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autosearch.backbones.supernets.checkpoint import load_checkpoint, save_checkpoint
from autosearch.backbones.supernets.elastic import ActiveSizes, ElasticOFA, calibrate
from autosearch.backbones.supernets.feature_loss import FeatureLoss, in_chunks, normalise, spread
from autosearch.backbones.supernets.image_pack import ImagePack, augmented_batch, plain_batch
from autosearch.backbones.supernets.ofa_layout import STAGES
from autosearch.backbones.supernets.teacher import Teacher
from autosearch.backbones.supernets.transplant import initial_state
from autosearch.errors import ConfigError, StudyError

LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-5
GRADIENT_NORM = 5.0
WARM_UP = 0.02
"""Part of the budget over which the learning rate rises."""

LOSS_WEIGHTS = (0.05, 3.0, 2.0, 1.0, 1.0, 1.0)
"""Of block 0, which no teacher can be matched at, and of the stages: errors early spread far."""

OWN_INPUTS = (0.1, 0.4)
"""Between these parts of the budget, stages change from the teacher's inputs to their own."""

CHECKPOINT = "checkpoint.safetensors"
_MOMENTUM = 0.03
_VARIANCE_IMAGES = 256
_HELD_OUT_IMAGES = 128
_CALIBRATION_IMAGES = 512
_CALIBRATION_SIDE = 224


@dataclass(frozen=True)
class DistillationSettings:
    """How to train.

    Attributes:
        width: Width multiplier of the supernet.
        seed: Of the initial tensors and of every step.
        batch: Images per step.
        crop: Side of the images in pixels, a multiple of 32.
        steps: Steps in all, or None.
        minutes: Time in all, over all pieces of the run, or None. What a step does depends on the
            part of the budget that is used up, so only runs counted in steps repeat exactly.
        checkpoint_minutes: Time between two checkpoints, each with held-out losses.
    """

    width: float = 1.0
    seed: int = 0
    batch: int = 48
    crop: int = 96
    steps: int | None = None
    minutes: float | None = None
    checkpoint_minutes: float = 5.0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            given = {"steps": self.steps, "minutes": self.minutes}
            raise ConfigError("steps, minutes", given, "exactly one of the two")
        if self.crop < 32 or self.crop % 32:
            raise ConfigError("crop", self.crop, "a multiple of 32")
        if self.batch < 2:
            raise ConfigError("batch", self.batch, "at least 2 images")


@dataclass(frozen=True)
class DistillationProgress:
    """Where a distillation stands.

    Attributes:
        step: Steps done.
        fraction: Part of the budget that is used up.
        elapsed: Seconds over all pieces of the run.
        left: Seconds until the budget is met, NaN if not known yet.
        loss: Weighted loss of the last step, summed over its two subnets; NaN before the first.
        held_out: At checkpoints, what `FeatureLoss.held_out` measures; lower is better.
    """

    step: int
    fraction: float
    elapsed: float
    left: float
    loss: float
    held_out: dict[str, list[float | None]] | None = None


class Distillation:
    """A supernet in training.

    Args:
        teacher: The teacher.
        identity: What must be the same when a run is continued, such as the teacher's hash.
        pack: The images.
        settings: How to train.
        folder: Where the checkpoint lies.
        resume: Continue from the checkpoint.

    Attributes:
        net: The supernet.
        step: Steps done.
        elapsed: Seconds of training over all pieces of the run.
        history: Held-out losses at each checkpoint.
        pieces: Batch and crop, and the step from which they hold.
        copied_blocks: Number of blocks that started as the teacher's.

    Raises:
        StudyError: If a checkpoint is in the way, missing, or made of other inputs.
    """

    def __init__(
        self,
        teacher: Teacher,
        identity: Mapping[str, str],
        pack: ImagePack,
        settings: DistillationSettings,
        folder: Path,
        resume: bool = False,
    ) -> None:
        path = folder / CHECKPOINT
        if path.exists() != resume:
            problem = "there is no checkpoint to resume" if resume else "a run is there already"
            raise StudyError(f"{path}: {problem}")
        own = {"width": settings.width, "seed": settings.seed, "images_sha256": pack.sha256}
        self.identity = {**identity, **{key: str(value) for key, value in own.items()}}
        self.pack, self.settings, self.folder = pack, settings, folder
        self.step, self.elapsed = 0, 0.0
        self.history: list[dict[str, Any]] = []
        self.pieces: list[dict[str, int]] = []
        stages = teacher.stages[1:]
        state, self.copied_blocks = initial_state(settings.width, stages, settings.seed)
        self.teacher = teacher.to(memory_format=torch.channels_last)
        self.net = ElasticOFA(settings.width, state)
        indices = spread(pack.training, _VARIANCE_IMAGES)
        self.objective = FeatureLoss(self.teacher, self.net, self._images, indices)
        self.optimiser = torch.optim.AdamW(
            list(self._parameters().values()), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )
        if resume:
            self._load(path)
        piece = {"batch": settings.batch, "crop": settings.crop}
        self.pieces.append({"from_step": self.step, **piece})

    def run(
        self,
        report: Callable[[DistillationProgress], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train until the budget is met or ``stop`` says so, and leave a checkpoint.

        Args:
            report: Called after every step, and with held-out losses at start and checkpoints.
            stop: Asked before every step.

        Returns:
            Whether the budget was met.
        """
        if self.step == 0:
            self._measure(report, math.nan, math.nan)
        begun = saved = time.monotonic()
        before, first = self.elapsed, self.step
        loss = left = math.nan
        while self.fraction < 1 and not stop():
            loss = self.train_step()
            now = time.monotonic()
            self.elapsed = before + now - begun
            left = self._seconds_left((now - begun) / (self.step - first))
            report(DistillationProgress(self.step, self.fraction, self.elapsed, left, loss))
            if now - saved >= 60 * self.settings.checkpoint_minutes:
                self._measure(report, left, loss)
                self.save()
                saved = time.monotonic()
        self._measure(report, left, loss)
        self.save()
        return self.fraction >= 1

    @property
    def fraction(self) -> float:
        """Part of the budget that is used up, from 0 to 1."""
        if self.settings.steps is not None:
            return min(1.0, self.step / max(1, self.settings.steps))
        return min(1.0, self.elapsed / max(1e-9, 60 * (self.settings.minutes or 0)))

    def train_step(self) -> float:
        """Train two subnets on one batch.

        Returns:
            Their weighted losses, summed.
        """
        settings, fraction = self.settings, self.fraction
        draw = np.random.default_rng((settings.seed, self.step))
        images = augmented_batch(self.pack, settings.batch, settings.crop, draw)
        with torch.no_grad():
            targets = self.teacher(images)
        extreme = ActiveSizes.smallest() if self.step % 2 else ActiveSizes.largest()
        self.net.training, self.net.momentum = True, _MOMENTUM
        self.optimiser.zero_grad()
        total = 0.0
        for sizes in (extreme, ActiveSizes.random(draw)):
            own = draw.random(STAGES) < own_probability(fraction)
            losses = self.objective.losses(self.net, images, targets, sizes, own)
            pairs = zip(LOSS_WEIGHTS, losses, strict=True)
            loss = torch.stack([weight * part for weight, part in pairs if part is not None]).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self._parameters().values(), GRADIENT_NORM)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(fraction)
        self.optimiser.step()
        self.step += 1
        return total

    def finished(self) -> ElasticOFA:
        """Copy the supernet, its statistics those of the largest subnet on training images.

        They are taken at the size of images in use, where borders weigh less than in training.
        """
        net = ElasticOFA(self.settings.width, self.net.tensors)
        chunks = in_chunks(spread(self.pack.training, _CALIBRATION_IMAGES))
        batches = (
            normalise(plain_batch(self.pack.crops[chunk], _CALIBRATION_SIDE)) for chunk in chunks
        )
        calibrate(net, batches, ActiveSizes.largest())
        return net

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "identity": self.identity,
            "pieces": self.pieces,
            "step": self.step,
            "elapsed": self.elapsed,
            "history": self.history,
        }
        path = self.folder / CHECKPOINT
        save_checkpoint(path, self._tensors(), self._parameters(), self.optimiser, state)

    def _load(self, path: Path) -> None:
        names = self._parameters()
        state = load_checkpoint(path, self.identity, self._tensors(), names, self.optimiser)
        try:
            self.step, self.elapsed = int(state["step"]), float(state["elapsed"])
            self.history, self.pieces = list(state["history"]), list(state["pieces"])
        except (KeyError, TypeError, ValueError) as error:
            raise StudyError(f"{path}: not a checkpoint: its state lacks {error}") from error

    def _measure(
        self, report: Callable[[DistillationProgress], None], left: float, loss: float
    ) -> None:
        indices = spread(self.pack.held_out, _HELD_OUT_IMAGES)
        held_out = self.objective.held_out(self.net, self._images, indices, self.settings.seed)
        elapsed = round(self.elapsed, 1)
        self.history.append({"step": self.step, "elapsed": elapsed, "held_out": held_out})
        report(DistillationProgress(self.step, self.fraction, self.elapsed, left, loss, held_out))

    def _seconds_left(self, pace: float) -> float:
        if self.settings.steps is not None:
            return max(0.0, (self.settings.steps - self.step) * pace)
        return max(0.0, 60 * (self.settings.minutes or 0) - self.elapsed)

    def _images(self, indices: NDArray[np.int64]) -> Tensor:
        return plain_batch(self.pack.crops[indices], self.settings.crop)

    def _parameters(self) -> dict[str, Tensor]:
        return _named(self.net.parameters(), self.objective.projections)

    def _tensors(self) -> dict[str, Tensor]:
        return _named(self.net.tensors, self.objective.projections)


def learning_rate(fraction: float) -> float:
    """Linear warm-up, then a cosine down to nearly nothing, by the part of the budget."""
    warm = min(1.0, fraction / WARM_UP)
    return LEARNING_RATE * warm * 0.5 * (1 + math.cos(math.pi * fraction)) + 1e-6


def own_probability(fraction: float) -> float:
    """Probability that a stage reads the subnet's own features, by the part of the budget."""
    start, end = OWN_INPUTS
    return min(1.0, max(0.0, (fraction - start) / (end - start)))


def _named(net: Mapping[str, Tensor], projections: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        **{f"net.{name}": tensor for name, tensor in net.items()},
        **{f"projection.{name}": tensor for name, tensor in projections.items()},
    }
