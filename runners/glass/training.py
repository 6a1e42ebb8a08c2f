"""GLASS's training: one pass over some images an epoch, three losses a step.

Section 3 of the paper; optimisers, batches and order of steps as in the released code. Its choice
of the best epoch on test data is left out: the last epoch is what remains.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .feature_synthesis import AscentSettings, ascend, coverage_radius, noise_like, project
from .hypothesis import Hypothesis
from .losses import binary_loss, focal_loss, hardest
from .networks import Discriminator

_PAUSES = 20
"""Parts of a training, at the ends of which it pauses."""

Synthesiser = Callable[[int, np.random.Generator], tuple[NDArray[np.float32], NDArray[np.bool_]]]
"""From the index of a normal image to ``(3, H, W)`` anomalous pixels and ``(h, w)`` cells."""


@dataclass(frozen=True)
class TrainingSettings:
    """How GLASS is trained; defaults are published.

    Attributes:
        use_gas: Whether anomalies are made in feature space.
        ascent: How those in feature space are made.
        center: One centre of normal vectors per ``location`` of the grid as in the released code,
            or a ``global`` one as in the paper.
        ohem_quantile: Share of patches of synthetic images that are too easy to be learnt from.
        lr: Learning rate of the adaptor; the discriminator's is twice that.
        batch: Normal images a step, and as many synthetic ones.
        epochs: How many; each ends with the batch that exceeds `images_per_epoch`, or earlier
            where all images were seen.
        images_per_epoch: See there.
    """

    use_gas: bool = True
    ascent: AscentSettings = field(default_factory=AscentSettings)
    center: Literal["location", "global"] = "location"
    ohem_quantile: float = 0.5
    lr: float = 1e-4
    batch: int = 8
    epochs: int = 640
    images_per_epoch: int = 392


@dataclass(frozen=True)
class Losses:
    """Means over the steps of an epoch; 0 where a kind of anomaly is not in use.

    Attributes:
        normal: Cross entropy of normal vectors.
        feature: Cross entropy of anomalies made in feature space.
        image: Focal loss of images with synthetic anomalies.
    """

    normal: float
    feature: float
    image: float

    @property
    def total(self) -> float:
        """What is minimised."""
        return self.normal + self.feature + self.image


class Sphere(NamedTuple):
    """What the hypersphere hypothesis knows of a step.

    Attributes:
        middles: ``(n, C)`` centre of every vector's location.
        radius: Scalar; most normal vectors are nearer to their centres.
    """

    middles: Tensor
    radius: Tensor


class NormalVectors:
    """Vectors of the unaugmented normal images, before the adaptor.

    Args:
        embed: ``(B, 3, H, W)`` images to ``(B, L, C)`` vectors.
        images: ``(N, 3, H, W)``.
        cache_bytes: What the vectors may take to be computed once instead of at every step, as
            float32 if they fit, else as float16; 0 for never.
        cells: ``(N, L)`` bool, vectors that count, some of every image; None for all.
    """

    def __init__(
        self,
        embed: Callable[[Tensor], Tensor],
        images: Tensor,
        cache_bytes: int,
        cells: Tensor | None = None,
    ) -> None:
        self._embed, self._images, self._cache_bytes = embed, images, cache_bytes
        self._cells = cells

    def __getitem__(self, indices: NDArray[np.intp]) -> Tensor:
        """``(B, L, C)`` float32 of some images."""
        chosen = torch.from_numpy(indices)
        if self._kept is None:
            return self._embed(self._images[chosen])
        return self._kept[chosen.to(self._kept.device)].float()

    def __len__(self) -> int:
        return len(self._images)

    def counted(self, indices: NDArray[np.intp]) -> slice | Tensor:
        """What picks the vectors that count from ``(B * L, ...)`` rows of some images."""
        if self._cells is None:
            return slice(None)
        return self._cells[torch.from_numpy(indices)].flatten()

    def spread(self) -> float:
        """Root mean squared distance of all vectors that count from their common mean."""
        squares, rows = 0.0, 0
        for index in range(len(self)):
            own = np.array([index])
            vectors = self[own][0][self.counted(own)]
            squares += float(vectors.double().square().sum())
            rows += len(vectors)
        variance = squares / rows - float(self.mean("global").double().square().sum())
        return math.sqrt(max(variance, 0.0))

    def mean(self, center: Literal["location", "global"]) -> Tensor:
        """Mean over all images, every vector that counts alike: ``(L, C)``, or ``(1, C)``.

        A location without any vector that counts has a mean of 0.
        """
        mean = self._mean
        if center == "location":
            return mean
        if self._cells is None:
            return mean.mean(dim=0, keepdim=True)
        counts = self._cells.sum(dim=0).to(mean)
        return (counts[None] @ mean) / counts.sum()

    @cached_property
    def _kept(self) -> Tensor | None:
        first = self._embed(self._images[:1])
        size = len(self._images) * first.numel()
        kinds = (torch.float32, torch.float16)
        kind = next((k for k in kinds if size * k.itemsize <= self._cache_bytes), None)
        if kind is None:
            return None
        kept = first.new_empty((len(self._images), *first.shape[1:]), dtype=kind)
        for index, image in enumerate(torch.split(self._images, 1)):
            kept[index : index + 1] = self._embed(image)
        # A network with fresh weights can exceed what half precision holds.
        return kept if kept.isfinite().all() else None

    @cached_property
    def _mean(self) -> Tensor:
        total = torch.zeros_like(self[np.arange(1)][0])
        for index in range(len(self)):
            vectors = self[np.array([index])][0]
            if self._cells is not None:
                vectors = vectors * self._cells[index].to(total)[:, None]
            total += vectors
        if self._cells is None:
            return total / len(self)
        return total / self._cells.sum(dim=0).clamp(min=1).to(total)[:, None]


class Trainer:
    """Trains an adaptor and a discriminator, in place.

    Args:
        adaptor: Vectors to vectors, affine.
        discriminator: Vectors to logits.
        hypothesis: How anomalies in feature space are kept at a distance.
        settings: The rest.
        seed: For noise, order of images and synthesis.

    Attributes:
        curve: The losses of every epoch so far.
    """

    def __init__(
        self,
        adaptor: nn.Module,
        discriminator: Discriminator,
        hypothesis: Hypothesis,
        settings: TrainingSettings,
        seed: int,
    ) -> None:
        self._adaptor, self._discriminator = adaptor, discriminator
        self._hypothesis, self._settings, self._seed = hypothesis, settings, seed
        self.curve: list[Losses] = []
        self._device = discriminator.first.weight.device
        self._generator = torch.Generator(self._device).manual_seed(seed + 1)
        trained = list(adaptor.parameters())
        self._optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(discriminator.parameters(), lr=2 * settings.lr, weight_decay=0.01)
        ]
        if trained:
            self._optimisers.append(torch.optim.Adam(trained, lr=settings.lr, weight_decay=1e-5))

    def run(
        self,
        vectors: NormalVectors,
        embed: Callable[[Tensor], Tensor],
        synthesise: Synthesiser | None,
    ) -> Iterator[float]:
        """Train for all epochs, and pause after every twentieth part of them.

        Args:
            vectors: Those of the normal images, of which there is at least one.
            embed: ``(B, 3, H, W)`` images to ``(B, L, C)`` vectors on the networks' device.
            synthesise: Makes an anomalous image of a normal one; None for none in image space.

        Yields:
            The share of epochs that are done, below 1. In a pause the networks may be used, and
            their modes changed.

        Raises:
            ArithmeticError: A loss is not finite.
        """
        settings = self._settings
        interval = -(-settings.epochs // _PAUSES)
        for epoch in range(settings.epochs):
            self._adaptor.train()
            self._discriminator.train()
            centres = self._centres(vectors)
            steps = []
            for batch in self._batches(len(vectors), epoch):
                anomalous = cells = None
                if synthesise is not None:
                    pixels, cells = self._synthetic(synthesise, batch, epoch)
                    anomalous = embed(pixels)
                counted = vectors.counted(batch)
                steps.append(self._step(vectors[batch], anomalous, cells, centres, counted))
            self.curve.append(Losses(*torch.stack(steps).mean(dim=0).tolist()))
            done = epoch + 1
            if not math.isfinite(self.curve[-1].total):
                raise ArithmeticError(f"the training diverged: no finite loss in epoch {done}")
            if done % interval == 0 and done < settings.epochs:
                yield done / settings.epochs

    def _batches(self, images: int, epoch: int) -> Iterator[NDArray[np.intp]]:
        """Indices of the images of every step of an epoch."""
        order = self._rng(epoch, 0).permutation(images)
        size = self._settings.batch
        end = (self._settings.images_per_epoch // size + 1) * size
        for start in range(0, min(images, end), size):
            yield order[start : start + size]

    def _rng(self, epoch: int, use: int) -> np.random.Generator:
        """A stream of its own for every image of every epoch, and 0 for their order."""
        return np.random.default_rng((self._seed, epoch, use))

    def _synthetic(
        self, synthesise: Synthesiser, batch: NDArray[np.intp], epoch: int
    ) -> tuple[Tensor, Tensor]:
        """Anomalous images ``(B, 3, H, W)`` and their cells ``(B, L)``."""
        made = [synthesise(int(index), self._rng(epoch, int(index) + 1)) for index in batch]
        pixels = torch.from_numpy(np.stack([pixels for pixels, _ in made]))
        cells = torch.from_numpy(np.stack([cells for _, cells in made])).flatten(1)
        return pixels, cells.to(self._device)

    @torch.no_grad()
    def _centres(self, vectors: NormalVectors) -> Tensor | None:
        """Means of the adapted normal vectors, where the hypothesis needs them."""
        if self._hypothesis == "manifold":
            return None
        # The adaptor is affine, so it may come after the mean, over which it has less to do.
        centres: Tensor = self._adaptor(vectors.mean(self._settings.center))
        return centres

    def _step(
        self,
        normal: Tensor,
        anomalous: Tensor | None,
        cells: Tensor | None,
        centres: Tensor | None,
        counted: slice | Tensor,
    ) -> Tensor:
        """One step of both optimisers on those of ``(B, L, C)`` vectors that count.

        Returns:
            The three losses.
        """
        normal = self._adaptor(normal)
        middles = None
        if centres is not None:
            middles = centres.expand_as(normal).flatten(0, 1)[counted]
        normal = normal.flatten(0, 1)[counted]
        synthetic = None
        if anomalous is not None and cells is not None:
            vectors = self._adaptor(anomalous).flatten(0, 1)
            synthetic = vectors[counted], cells.flatten()[counted]
        sphere = None if middles is None else self._sphere(middles, normal, synthetic)
        zero = normal.new_zeros(())
        on_normal, on_features = self._vector_losses(normal, sphere)
        on_images = zero if synthetic is None else self._image_loss(*synthetic, sphere)
        losses = torch.stack([on_normal, on_features, on_images])
        for optimiser in self._optimisers:
            optimiser.zero_grad()
        losses.sum().backward()  # type: ignore[no-untyped-call]
        for optimiser in self._optimisers:
            optimiser.step()
        return losses.detach()

    def _sphere(
        self, middles: Tensor, normal: Tensor, synthetic: tuple[Tensor, Tensor] | None
    ) -> Sphere:
        """The hypersphere that covers most normal vectors of a step."""
        vectors, around = normal, middles
        if synthetic is not None:
            untouched = ~synthetic[1]
            vectors = torch.cat([vectors, synthetic[0][untouched]])
            around = torch.cat([around, middles[untouched]])
        coverage = self._settings.ascent.coverage_quantile
        return Sphere(middles, coverage_radius(vectors, around, coverage))

    def _vector_losses(self, normal: Tensor, sphere: Sphere | None) -> tuple[Tensor, Tensor]:
        """Losses of ``(n, C)`` normal vectors and of anomalies made of them."""
        ascent = self._settings.ascent
        if not self._settings.use_gas:
            return binary_loss(self._discriminator(normal), False), normal.new_zeros(())
        noise = noise_like(normal, ascent.noise_std, self._generator)
        if sphere is None or ascent.steps == 0:
            anchors, offsets, low = normal, noise, normal.new_tensor(ascent.manifold_radius)
        else:
            anchors, offsets, low = sphere.middles, normal + noise - sphere.middles, sphere.radius
        shell = low, low * ascent.radius_ratio
        anomalous = ascend(self._discriminator, normal, anchors, offsets, shell, ascent)
        # In one call, so that the norm sees both at once, as it did during the ascent.
        logits = self._discriminator(torch.cat([normal, anomalous]))
        of_normal, of_anomalous = logits.split(len(normal))
        return binary_loss(of_normal, False), binary_loss(of_anomalous, True)

    def _image_loss(self, vectors: Tensor, cells: Tensor, sphere: Sphere | None) -> Tensor:
        """Loss of ``(n, C)`` vectors of synthetic images, anomalous where ``(n,)`` cells are."""
        if sphere is not None:
            ratio = self._settings.ascent.radius_ratio
            low = sphere.radius * ratio
            moved = sphere.middles + project(vectors - sphere.middles, low, low * ratio)
            vectors = torch.where(cells[:, None], moved, vectors)
        scores, targets = torch.sigmoid(self._discriminator(vectors)), cells.float()
        hard = hardest(scores, targets, self._settings.ohem_quantile)
        return focal_loss(scores[hard], targets[hard])
