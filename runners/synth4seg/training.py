"""Synth4Seg's training: inner steps on synthetic images, outer steps on real ones (Algorithm 2).

Departures: the scale of the series counts once (see `hypergradients.neumann`); the gradient of the
inner loss is taken anew after the inner step, on the same images. Batch norms take statistics in
inner steps alone: hypergradients normalise as the inner step did, but leave no trace, and outer
losses see the network as it will be used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from autosearch.errors import ConfigError

from .curve import Epoch, OuterStep, Scale
from .hypergradients import (
    METHODS,
    SERIES,
    HypergradientSettings,
    Loss,
    Weights,
    largest_scale,
)
from .location import Reduction, allowed_areas, l1_penalty
from .looks import LocationMaps, look, moments
from .losses import segmentation_loss
from .outer import Constraint, OuterParameters
from .sources import Batch, Sources
from .validation import validate

_PAUSES = 20
"""Parts of a training, at the ends of which it pauses."""
_GAMMA_PIXELS = 256 * 256
"""At this size, the mean of a location map costs as much as its sum."""

_PRODUCTS = 5
"""Products with the Hessian for an estimate of the largest scale that a series bears.

After so many it has come to nine tenths of the eigenvalue, and half of it would do.
"""
_LEAST_FACTOR = 1e-6
"""Smallest sum of factors, as a share of their number, that losses are divided by."""

OuterTask = Literal["source_weights", "location", "both", "none"]


@dataclass(frozen=True)
class BilevelSettings:
    """How both levels are trained; defaults are published where the paper has them.

    Attributes:
        outer_task: What the outer level learns.
        method: Of `hypergradients.METHODS`.
        terms: See `HypergradientSettings`.
        scale: See there; ``inner_lr`` for the inner rate as it is by then; ``auto`` for the
            inverse of the largest eigenvalue, estimated once an epoch, 1 at most. Series of other
            scales take no larger one than that inverse, which is then estimated at first, and anew
            in every epoch after one in which a series was cut short.
        damping: See there.
        outer_interval: N: inner steps from one outer step to the next.
        outer_lr_weights: Learning rate (Adam) of the source weights.
        outer_lr_location: Learning rate (Adam) of the location net.
        outer_grad_clip: Longest hypergradient; None for any.
        outer_batch: Validation images an outer step, and training images for the L1 norm.
        warmup_fraction: Share of the inner steps before the first outer one.
        gamma: Price of the L1 norm of a location map, per pixel for ``sum``; for ``mean`` such
            that both agree at 256 x 256 pixels. The published 1e-4 outweighs a hypergradient that
            is scaled once by thousands; the default is that times the default scale.
        l1_reduction: See `l1_penalty`.
        location_threshold: Places must be above it.
        constraint: How source weights are kept from being negative; see `OuterParameters`.
        fixed_source: Index of the source whose weight stays.
        initial_weights: One per source; None for ones.
        normalise_factors: Whether the losses of a source are divided by the sum of their factors
            instead of their number.
        lr: Learning rate (Adam) of the inner level.
        halve_every_fraction: Share of the epochs after which the inner rate is halved, again and
            again.
        epochs: How many.
        images_per_epoch: Training images that are drawn, per source.
        batch: How many of them are drawn a step.
        checkpoint: Whether the epoch of the best validation IoU or the last one remains.
    """

    outer_task: OuterTask = "source_weights"
    method: str = "neumann"
    terms: int = 3
    scale: float | Literal["inner_lr", "auto"] = "inner_lr"
    damping: float = 0.0
    outer_interval: int = 1
    outer_lr_weights: float = 1e-2
    outer_lr_location: float = 1e-4
    outer_grad_clip: float | None = 10.0
    outer_batch: int = 4
    warmup_fraction: float = 0.2
    gamma: float = 2.5e-8
    l1_reduction: Reduction = "mean"
    location_threshold: float = 0.6
    constraint: Constraint = "projection"
    fixed_source: int = 0
    initial_weights: tuple[float, ...] | None = None
    normalise_factors: bool = False
    lr: float = 2.5e-4
    halve_every_fraction: float = 0.2
    epochs: int = 150
    images_per_epoch: int = 200
    batch: int = 2
    checkpoint: Literal["best", "last"] = "best"


class BilevelTrainer:
    """Trains a network, in place, and what the outer level learns.

    Args:
        network: ``(N, 3, H, W)`` images in [0, 1] to ``(N, H, W)`` logits.
        location_net: The same; trained with the outer tasks ``location`` and ``both`` alone.
        settings: The rest.
        seed: For synthesis and the order of images.
        device: A torch device string.

    Attributes:
        curve: Of every epoch so far.
        locations: Location maps of some training images, at about five epochs.

    Raises:
        ConfigError: The method is unknown, or locations shall be learnt without a net.
    """

    def __init__(
        self,
        network: nn.Module,
        location_net: nn.Module | None,
        settings: BilevelSettings,
        seed: int,
        device: str,
    ) -> None:
        if settings.method not in METHODS:
            raise ConfigError("method", settings.method, f"one of {', '.join(METHODS)}")
        self.curve: list[Epoch] = []
        self.locations: list[LocationMaps] = []
        self._settings, self._seed, self._device = settings, seed, device
        # On a CPU, up to twice as fast as the usual layout, but slower to differentiate twice.
        self._network = network.to(device).to(memory_format=torch.channels_last)
        self._network.requires_grad_()
        self._names = [name for name, _ in network.named_parameters()]
        self._location_net = None
        if settings.outer_task in ("location", "both"):
            if location_net is None:
                raise ConfigError("outer_task", settings.outer_task, "a location net with it")
            self._location_net = location_net.to(device).to(memory_format=torch.channels_last)
        self._optimiser = torch.optim.Adam(network.parameters(), lr=settings.lr)

    def run(
        self,
        sources: Sources,
        train_images: Tensor,
        val_images: Tensor,
        val_masks: Tensor,
        val_valid: Tensor | None = None,
    ) -> Iterator[float]:
        """Train for all epochs, and pause after every twentieth part of them.

        Args:
            sources: Make the images of the inner level.
            train_images: ``(N, 3, H, W)`` in [0, 1], what locations are learnt on.
            val_images: ``(M, 3, H, W)`` in [0, 1], M at least 1; these choose the checkpoint, too.
            val_masks: ``(M, H, W)``, not 0 on anomalous pixels.
            val_valid: ``(M, H, W)`` bool, the pixels that count; None for all.

        Yields:
            The share of epochs that are done, below 1. In a pause the network may be used, and its
            mode changed. What is learnt by then remains if nobody comes back, best or not.

        Raises:
            ArithmeticError: A loss is not finite.
            ConfigError: Weights do not fit the sources.
        """
        settings = self._settings
        self._outer = self._outer_parameters(sources.names)
        self._bearable: float | None = None
        self._train = train_images
        self._val, self._masks, self._valid = val_images, val_masks, val_valid
        interval = -(-settings.epochs // _PAUSES)
        looks = moments(settings.epochs)
        best, state = -math.inf, dict[str, Tensor]()
        self._look(0)
        for done in range(1, settings.epochs + 1):
            self.curve.append(self._epoch(sources, done))
            if not math.isfinite(self.curve[-1].inner + self.curve[-1].outer):
                raise ArithmeticError(f"the training diverged: no finite loss in epoch {done}")
            if done in looks:
                self._look(done)
            if settings.checkpoint == "best" and self.curve[-1].iou >= best:
                best = self.curve[-1].iou
                state = {k: tensor.clone() for k, tensor in self._network.state_dict().items()}
            if done % interval == 0 and done < settings.epochs:
                yield done / settings.epochs
        if state:
            self._network.load_state_dict(state)

    def _outer_parameters(self, names: tuple[str, ...]) -> OuterParameters:
        settings = self._settings
        initial, fixed = settings.initial_weights or (1.0,) * len(names), None
        if len(initial) != len(names) or min(initial) < 0:
            raise ConfigError(
                "initial_weights", initial, f"{len(names)} numbers, none negative, one a source"
            )
        if settings.outer_task in ("source_weights", "both"):
            fixed = settings.fixed_source
            if len(names) < 2:
                raise ConfigError("sources", names, "two or more, one of which keeps its weight")
            if fixed not in range(len(names)):
                raise ConfigError("fixed_source", fixed, f"an index from 0 to {len(names) - 1}")
        return OuterParameters(
            torch.tensor(initial, device=self._device),
            fixed,
            settings.constraint,
            self._location_net,
            (settings.outer_lr_weights, settings.outer_lr_location),
            settings.outer_grad_clip,
        )

    def _epoch(self, sources: Sources, number: int) -> Epoch:
        """All steps of an epoch, the first of which is number 1."""
        settings = self._settings
        steps = -(-settings.images_per_epoch // settings.batch)
        # Steps count from 1, so a training without warm-up begins at step 1, too.
        first = max(1, round(settings.warmup_fraction * steps * settings.epochs))
        halvings = (number - 1) // max(1, round(settings.halve_every_fraction * settings.epochs))
        for group in self._optimiser.param_groups:
            group["lr"] = settings.lr * 0.5**halvings
        if self.curve and self.curve[-1].diverged:
            self._bearable = None
        losses: list[Tensor] = []
        outer: list[OuterStep] = []
        for step in range((number - 1) * steps + 1, number * steps + 1):
            batch = self._draw(sources, step)
            losses.append(self._inner_step(batch))
            due = step >= first and step % settings.outer_interval == 0
            if due and settings.outer_task != "none":
                outer.append(self._outer_step(batch, step, outer[-1].scale if outer else None))
        loss, iou = validate(self._network, self._val, self._masks, self._device, self._valid)
        weights = self._outer.source_weights(self._outer.tensors).tolist()
        return Epoch(
            inner=torch.stack(losses).mean().item(),
            outer=loss,
            iou=iou,
            source_weights=dict(zip(sources.names, weights, strict=True)),
            outer_steps=tuple(outer),
        )

    def _draw(self, sources: Sources, step: int) -> Batch:
        """The images of a step, on the device."""

        @torch.no_grad()
        def location(images: Tensor) -> NDArray[np.bool_]:
            maps = self._outer.location_maps(self._outer.tensors, images.to(self._device))
            return allowed_areas(maps, self._settings.location_threshold)

        rng = np.random.default_rng((self._seed, step, 0))
        batch = sources.draw(rng, None if self._location_net is None else location)
        return batch.to(self._device)

    def _inner_step(self, batch: Batch) -> Tensor:
        """One step of Adam; the only one that batch norms take statistics of."""
        self._network.train()
        logits = self._network(batch.images.flatten(0, 1))
        loss = self._inner_loss(logits, self._outer.tensors, batch)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        return loss.detach()

    def _inner_loss(self, logits: Tensor, p: Weights, batch: Batch) -> Tensor:
        """Weighted sum over sources of the mean over samples; equation 4."""
        valid = None if batch.valid is None else batch.valid.flatten(0, 1)
        losses = segmentation_loss(logits, batch.targets.flatten(0, 1), valid)
        losses = losses.view(batch.targets.shape[:2])
        factors = self._outer.factors(p, batch.originals, batch.areas)
        means = (factors * losses).mean(dim=1)
        if self._settings.normalise_factors:
            # Where every place is as good as forbidden, both are 0.
            means = means / factors.mean(dim=1).clamp(min=_LEAST_FACTOR)
        return self._outer.source_weights(p) @ means

    def _outer_step(self, batch: Batch, step: int, scale: Scale | None) -> OuterStep:
        """One step of the outer parameters, unless the hypergradient is not finite.

        Args:
            batch: Of the inner step just done.
            step: Its number.
            scale: As found earlier in this epoch, if so.
        """
        settings = self._settings
        rng = np.random.default_rng((self._seed, step, 1))
        rows = _some(settings.outer_batch, len(self._val), rng)
        images, masks = self._val[rows].to(self._device), self._masks[rows].to(self._device) != 0
        valid = None if self._valid is None else self._valid[rows].to(self._device)
        train = self._train[_some(settings.outer_batch, len(self._train), rng)].to(self._device)

        def inner(w: Weights, p: Weights) -> Tensor:
            self._network.train()
            # Train mode writes to the statistics it is given, so it is given a copy.
            state = {name: buffer.clone() for name, buffer in self._network.named_buffers()}
            return self._inner_loss(self._call(w, batch.images.flatten(0, 1), state), p, batch)

        def outer(w: Weights, p: Weights) -> Tensor:
            self._network.eval()
            loss = segmentation_loss(self._call(w, images, {}), masks.float(), valid).mean()
            return loss if self._location_net is None else loss + self._price(p, train)

        w = tuple(parameter.detach().contiguous() for parameter in self._network.parameters())
        p = self._outer.tensors
        if scale is None:
            scale = self._scale(inner, w, p, step)
        wanted = HypergradientSettings(settings.terms, scale.value, settings.damping)
        found = METHODS[settings.method](inner, outer, w, p, wanted)
        length = torch.stack([gradient.norm() for gradient in found.gradients]).norm().item()
        if not math.isfinite(length):
            return OuterStep(True, 0.0, scale, 0)
        self._outer.step(found.gradients)
        return OuterStep(found.diverged, length, scale, found.terms)

    def _scale(self, inner: Loss, w: Weights, p: Weights, step: int) -> Scale:
        """As asked for, but no larger than a series bears."""
        settings = self._settings
        generator = torch.Generator().manual_seed(self._seed + step)
        if settings.scale == "auto":
            return Scale(min(1.0, largest_scale(inner, w, p, generator)), False)
        rate: float = self._optimiser.param_groups[0]["lr"]
        asked = rate if settings.scale == "inner_lr" else settings.scale
        if settings.method not in SERIES or settings.terms == 0:
            return Scale(asked, False)
        if self._bearable is None:
            self._bearable = largest_scale(inner, w, p, generator, _PRODUCTS)
        return Scale(min(asked, self._bearable), asked > self._bearable)

    def _price(self, p: Weights, images: Tensor) -> Tensor:
        """Of the location maps, so that not every place is allowed."""
        settings = self._settings
        pixels = _GAMMA_PIXELS if settings.l1_reduction == "mean" else 1
        maps = self._outer.location_maps(p, images)
        return settings.gamma * pixels * l1_penalty(maps, settings.l1_reduction)

    def _call(self, w: Weights, images: Tensor, buffers: dict[str, Tensor]) -> Tensor:
        """Logits of the network with other weights, and other buffers where given."""
        state = dict(zip(self._names, w, strict=True)) | buffers
        logits: Tensor = functional_call(self._network, state, (images,))
        return logits

    def _look(self, epoch: int) -> None:
        """Keep the location maps of a few training images."""
        if self._location_net is not None:
            self.locations.append(look(self._outer, self._train, self._device, epoch))


def _some(count: int, size: int, rng: np.random.Generator) -> Tensor:
    """Distinct indices below ``size``, all if there are not so many."""
    return torch.from_numpy(rng.choice(size, min(count, size), replace=False))
