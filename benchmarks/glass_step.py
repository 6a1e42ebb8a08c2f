"""One step of GLASS's training beside a straightforward loop with equal losses.

    python benchmarks/glass_step.py

Both sides see the same images, networks, noise and synthetic anomalies, and the same backbone with
its norms folded. The straightforward loop asks the backbone for the normal images in every step,
for centres in every epoch, and lets automatic differentiation climb through the discriminator with
all vectors, normal ones included. The other side is `Trainer`, with vectors of normal images kept
and the ascent in closed form. What is spent once, to fill what is kept, has its own column. That
the loss curves agree is checked: the times are of one and the same training. They are processor
time on one thread, which other programs on the machine disturb less than time on the wall.

Making anomalies in image space takes both sides equally long, and is the backbone's only work that
remains; the rows without them show the rest alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from autosearch_runners.glass.embedding import make_embedding
from autosearch_runners.glass.feature_synthesis import AscentSettings
from autosearch_runners.glass.hypothesis import Hypothesis
from autosearch_runners.glass.networks import Discriminator, make_adaptor
from autosearch_runners.glass.training import (
    NormalVectors,
    Synthesiser,
    Trainer,
    TrainingSettings,
)
from numpy.typing import NDArray
from parts import circumstances, parse_options
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from autosearch.backbones import DEFAULT_BACKBONE, TimmBackbone, optimise_for_inference, resolve
from autosearch.data import foreground_masks, load_search_data
from autosearch.spec import DatasetSpec
from autosearch.synthesis import SynthesisSettings, open_textures, synthesise

TOLERANCE = 1e-3
"""Largest relative difference between the losses of an epoch."""

ROWS: tuple[tuple[Hypothesis, bool], ...] = (
    ("manifold", True),
    ("hypersphere", True),
    ("manifold", False),
    ("hypersphere", False),
)


@dataclass(frozen=True)
class Task:
    """What both sides train.

    Attributes:
        options: Of the script; they say how large networks are.
        hypothesis: Where normal vectors lie.
        settings: Of the training.
        pixels: ``(N, 3, S, S)`` normal images.
        embed: ``(B, 3, S, S)`` images to ``(B, L, C)`` vectors.
        anomalies: Makes them in image space, if they are wanted.
    """

    options: argparse.Namespace
    hypothesis: Hypothesis
    settings: TrainingSettings
    pixels: NDArray[np.float32]
    embed: Callable[[Tensor], Tensor]
    anomalies: Synthesiser | None

    def networks(self) -> tuple[nn.Sequential, Discriminator]:
        """An adaptor and a discriminator, the same ones at every call."""
        generator = torch.Generator().manual_seed(0)
        channels, hidden = self.options.embed_dim, self.options.hidden
        return make_adaptor(channels, 1, generator), Discriminator(channels, hidden, generator)


@dataclass
class Side:
    """What a training took.

    Attributes:
        losses: Of every epoch.
        steps: Seconds of all steps.
        once: Seconds of what comes before the first.
    """

    losses: list[float]
    steps: float
    once: float = 0.0


def main() -> None:
    """Print the table."""
    options = parse_options(
        "Time a step of GLASS's training.",
        size=(128, "side of the images"),
        images=16,
        levels=[2, 3],
        embed_dim=256,
        hidden=256,
        epochs=2,
        repeats=2,
    )
    torch.set_num_threads(1)
    pixels = _images(options)
    embed, cell = _backbone(options)
    anomalies = _synthesiser(pixels, cell)
    settings = TrainingSettings(
        ascent=AscentSettings(), epochs=options.epochs, images_per_epoch=len(pixels)
    )
    per_epoch = -(-len(pixels) // settings.batch)
    table = Table("hypothesis", "image space", "plain", "ours", "once", "ratio", "losses differ")
    for hypothesis, in_image_space in ROWS:
        made = anomalies if in_image_space else None
        task = Task(options, hypothesis, settings, pixels, embed, made)
        sides = [(_plain(task), _ours(task)) for _ in range(options.repeats)]
        differ = max(_difference(plain.losses, ours.losses) for plain, ours in sides)
        if differ > TOLERANCE:
            raise SystemExit(f"{hypothesis}: the losses differ by {differ:.1e}")
        plain, ours = (min(s, key=lambda side: side.steps) for s in zip(*sides, strict=True))
        scale = 1000 / (per_epoch * options.epochs)
        table.add_row(
            hypothesis,
            "yes" if in_image_space else "no",
            f"{plain.steps * scale:.0f} ms",
            f"{ours.steps * scale:.0f} ms",
            f"{ours.once:.2f} s",
            f"{plain.steps / ours.steps:.2f}",
            f"{differ:.0e}",
        )
    console = Console(soft_wrap=True)
    console.print(
        f"{len(pixels)} images of {options.size} pixels, {DEFAULT_BACKBONE}, "
        f"levels {options.levels}, vectors of {options.embed_dim}, {options.hidden} hidden, "
        f"batches of {settings.batch}, {settings.ascent.steps} ascents. "
        f"{circumstances(options.repeats)}"
    )
    console.print(table)


def _images(options: argparse.Namespace) -> NDArray[np.float32]:
    data = load_search_data(DatasetSpec(image_size=options.size))
    return data.train.pixels[: options.images].copy()


def _backbone(options: argparse.Namespace) -> tuple[Callable[[Tensor], Tensor], int]:
    """``(B, 3, S, S)`` images to ``(B, L, C)`` vectors, and pixels a side of a cell."""
    extractor = TimmBackbone(
        DEFAULT_BACKBONE, tuple(options.levels), resolve(DEFAULT_BACKBONE, "bundled", 0).state
    )
    embedding = make_embedding("mixed", optimise_for_inference(extractor), 3, options.embed_dim)

    def embed(images: Tensor) -> Tensor:
        with torch.no_grad():
            parts = [embedding(part) for part in torch.split(images, 4)]
        return torch.cat(parts).flatten(2).transpose(1, 2).contiguous()

    return embed, embedding.reduction


def _synthesiser(pixels: NDArray[np.float32], cell: int) -> Synthesiser:
    masks, settings = foreground_masks(pixels), SynthesisSettings(cell=cell)
    textures = open_textures("procedural", pixels, masks)

    def anomalous(
        index: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        made = synthesise(pixels[index], settings, textures, masks[index], rng)
        return made.image, made.pooled_mask

    return anomalous


def _ours(task: Task) -> Side:
    trainer = Trainer(*task.networks(), task.hypothesis, task.settings, seed=0)
    vectors = NormalVectors(task.embed, torch.from_numpy(task.pixels), 2 << 30)
    start = time.process_time()
    vectors.mean("location")
    filled = time.process_time()
    for _ in trainer.run(vectors, task.embed, task.anomalies):
        pass
    end = time.process_time()
    return Side([losses.total for losses in trainer.curve], end - filled, filled - start)


def _plain(task: Task) -> Side:
    settings, embed = task.settings, task.embed
    adaptor, discriminator = task.networks()
    optimisers = [
        torch.optim.Adam(adaptor.parameters(), lr=settings.lr, weight_decay=1e-5),
        torch.optim.AdamW(discriminator.parameters(), lr=2 * settings.lr, weight_decay=0.01),
    ]
    step = _PlainStep(adaptor, discriminator, settings)
    images, curve, start = torch.from_numpy(task.pixels), [], time.process_time()
    for epoch in range(settings.epochs):
        centres = None
        if task.hypothesis == "hypersphere":
            with torch.no_grad():
                centres = adaptor(embed(images)).mean(dim=0)
        losses = []
        for batch in np.split(
            np.random.default_rng((0, epoch, 0)).permutation(len(images)),
            range(settings.batch, len(images), settings.batch),
        ):
            made = None
            if task.anomalies is not None:
                drawn = [
                    task.anomalies(int(i), np.random.default_rng((0, epoch, int(i) + 1)))
                    for i in batch
                ]
                synthetic = embed(torch.from_numpy(np.stack([image for image, _ in drawn])))
                made = synthetic, torch.from_numpy(np.stack([cells for _, cells in drawn]))
            loss = step(embed(images[batch]), made, centres)
            for optimiser in optimisers:
                optimiser.zero_grad()
            loss.backward()
            for optimiser in optimisers:
                optimiser.step()
            losses.append(loss.item())
        curve.append(float(np.mean(losses)))
    return Side(curve, time.process_time() - start)


class _PlainStep:
    """The losses of a step as the algorithm is written down."""

    def __init__(
        self, adaptor: nn.Module, discriminator: Discriminator, settings: TrainingSettings
    ) -> None:
        self._adaptor, self._discriminator, self._settings = adaptor, discriminator, settings
        self._noise = torch.Generator().manual_seed(1)

    def __call__(
        self, normal: Tensor, made: tuple[Tensor, Tensor] | None, centres: Tensor | None
    ) -> Tensor:
        """Loss of ``(B, L, C)`` normal vectors and of synthetic ones with ``(B, h, w)`` cells."""
        ascent = self._settings.ascent
        u = self._adaptor(normal).flatten(0, 1)
        c = None if centres is None else centres.repeat(len(normal), 1)
        f = m = None
        if made is not None:
            f, m = self._adaptor(made[0]).flatten(0, 1), made[1].flatten()
        radius = torch.tensor(ascent.manifold_radius)
        if c is not None:
            distances = [(u - c).norm(dim=1)]
            if f is not None and m is not None:
                distances.append((f - c)[~m].norm(dim=1))
            together = torch.cat(distances).detach()
            radius = torch.quantile(together, ascent.coverage_quantile)
        loss = self._feature_losses(u, u if c is None else c, radius)
        if f is None or m is None:
            return loss
        if c is not None:
            moved = c + _clamp_norms(f - c, 2 * radius, 4 * radius)
            f = torch.where(m[:, None], moved, f)
        return loss + self._focal(f, m.float())

    def _feature_losses(self, u: Tensor, anchors: Tensor, radius: Tensor) -> Tensor:
        ascent, discriminator = self._settings.ascent, self._discriminator
        deviation = ascent.noise_std * (1536 / u.shape[1]) ** 0.5
        g = u + torch.empty_like(u).normal_(0, deviation, generator=self._noise)
        for step in range(1, ascent.steps + 2):
            scores = torch.sigmoid(discriminator(torch.cat([u, g])))
            normal = F.binary_cross_entropy(scores[: len(u)], torch.zeros(len(u)))
            anomalous = F.binary_cross_entropy(scores[len(u) :], torch.ones(len(u)))
            if step > ascent.steps:
                break
            (slope,) = torch.autograd.grad(anomalous, g, retain_graph=True)
            g = g + ascent.rate * slope / (slope.norm(dim=1, keepdim=True) + 1e-10)
            if step % ascent.project_every == 0:
                g = anchors + _clamp_norms(g - anchors, radius, 2 * radius)
        return normal + anomalous

    def _focal(self, vectors: Tensor, targets: Tensor) -> Tensor:
        scores = torch.sigmoid(self._discriminator(vectors))
        difficulty = (scores - targets) ** 2
        cut = torch.quantile(difficulty.detach(), self._settings.ohem_quantile)
        s, t = scores[difficulty >= cut], targets[difficulty >= cut]
        right = torch.where(t == 1, s, 1 - s)
        return ((1 - right) ** 2 * -right.log()).mean()


def _clamp_norms(vectors: Tensor, low: Tensor, high: Tensor) -> Tensor:
    norms = vectors.norm(dim=1, keepdim=True)
    return vectors * (norms.clamp(low, high) / (norms + 1e-10))


def _difference(one: list[float], other: list[float]) -> float:
    return max(abs(a - b) / abs(a) for a, b in zip(one, other, strict=True))


if __name__ == "__main__":
    main()
