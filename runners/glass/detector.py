"""GLASS as a detector: trained on normal images, it scores every pixel of new ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autosearch.backbones import (
    FeatureExtractor,
    PatchFeatures,
    optimise_for_inference,
    profile,
    recalibrate,
    to_patches,
)
from autosearch.contracts import TrialContext, passes, shared_tensor
from autosearch.data import ImageSet, Size, foreground_masks
from autosearch.errors import Infeasible
from autosearch.synthesis import SynthesisSettings, open_textures, places, synthesise

from ..memory_bank import cells_within
from ..spreading import Spreading
from ..trained import TrainedDetector
from .embedding import Embedding, MixedPatchFeatures, make_embedding
from .hypothesis import Hypothesis, judge
from .networks import Discriminator, Scale, make_adaptor
from .training import Losses, NormalVectors, Synthesiser, Trainer, TrainingSettings


@dataclass(frozen=True)
class GlassSettings:
    """All of GLASS but the backbone.

    Attributes:
        hypothesis: ``auto`` judges by the mean of the training images.
        embedding: How maps become vectors; see `make_embedding`.
        embed_dim: Length of a mixed vector.
        patch_size: Side of the neighbourhood of a vector, odd.
        feature_scale: ``unit`` brings the spread of the normal vectors to 1 before the adaptor,
            ``raw`` leaves them as the backbone makes them.
        adaptor_layers: Linear layers of the adaptor, maybe none.
        disc_hidden: Width of the discriminator's hidden layer.
        smoothing_sigma: Of the Gaussian over the maps, in pixels; 0 for none.
        cache_bytes: What the vectors of the normal images may take; see `NormalVectors`.
        training: How it is trained.
        use_las: Whether anomalies are made in image space, too.
        synthesis: How anomalies in image space are made; its ``cell`` follows from the backbone.
        textures: ``self``, ``procedural`` or a folder of images.
        use_foreground: Whether they lie on the object only.
        bn_recalibration: Whether the backbone's batch norms take their statistics from the
            training images.
        mixed_precision: Whether the backbone computes in half precision while the rest is trained.
    """

    hypothesis: Hypothesis | Literal["auto"] = "auto"
    embedding: Embedding = "mixed"
    embed_dim: int = 1536
    patch_size: int = 3
    feature_scale: Literal["raw", "unit"] = "raw"
    adaptor_layers: int = 1
    disc_hidden: int = 1024
    smoothing_sigma: float = 4.0
    cache_bytes: int = 2 << 30
    training: TrainingSettings = field(default_factory=TrainingSettings)
    use_las: bool = True
    synthesis: SynthesisSettings = field(default_factory=SynthesisSettings)
    textures: str = "procedural"
    use_foreground: bool = True
    bn_recalibration: bool = False
    mixed_precision: bool = False


class PatchScores(nn.Module):
    """Images to one score per patch.

    Args:
        embedding: Images to vectors.
        adaptor: Vectors to vectors.
        discriminator: Vectors to logits.

    Attributes:
        scale: Comes before the adaptor; 1 at first.
    """

    def __init__(
        self,
        embedding: MixedPatchFeatures | PatchFeatures,
        adaptor: nn.Module,
        discriminator: Discriminator,
    ) -> None:
        super().__init__()
        self.embedding, self.scale = embedding, Scale()
        self.adaptor, self.discriminator = adaptor, discriminator

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` in [0, 1] to ``(N, h, w)`` in [0, 1]; higher is more anomalous."""
        features = self.embedding(images)
        count, _, height, width = features.shape
        logits = self.discriminator(self.adaptor(self.scale(to_patches(features))))
        return torch.sigmoid(logits).view(count, height, width)


class GlassMaps(nn.Module):
    """A trained detector as one graph of plain operations.

    Args:
        scores: Images to patch scores.
        grid: Rows and columns of the patch grid.
        size: Height and width of the images.
        sigma: Of the Gaussian in pixels; 0 for none.
    """

    def __init__(self, scores: PatchScores, grid: Size, size: Size, sigma: float) -> None:
        super().__init__()
        self.scores = scores
        self.spreading = Spreading(grid, size, sigma)

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` in [0, 1] to ``(N, H, W)`` in [0, 1]; higher is more anomalous."""
        maps: Tensor = self.spreading(self.scores(images))
        return maps


_STEP_BYTES = 10_000
"""What a step of training takes for each pixel of an image."""


class GlassDetector(TrainedDetector):
    """Learns to tell normal patches from synthetic anomalies.

    Args:
        extractor: The frozen backbone, in evaluation mode.
        settings: Everything else.
        context: Seed, device and image size.

    Attributes:
        hypothesis: What `fit` decided on; None before.
        losses: Of every epoch of the last `fit`, as far as it came.
    """

    def __init__(
        self, extractor: FeatureExtractor, settings: GlassSettings, context: TrialContext
    ) -> None:
        self.hypothesis: Hypothesis | None = None
        self.losses: list[Losses] = []
        super().__init__(context)
        self._extractor, self._settings = extractor, settings
        untrained = self._untrained(extractor)
        self._network = profile(untrained, (1, 3, *context.image_size))
        self._cell_bytes = 4 * untrained.embedding.channels / untrained.embedding.reduction**2

    def fit_in_steps(self, train: ImageSet) -> Iterator[float]:
        """Train on the unlabelled normal images, all of which must have the context's size.

        Cells of which more than half does not count are left out, and an image of such cells only.

        Yields:
            See `Detector.fit_in_steps`. Who wants no more may close the iterator; what is learnt
            by then remains.

        Raises:
            DataError: The folder of textures is missing or empty.
            Infeasible: The backbone's grid does not cover the image in cells of equal size, or no
                image has a cell that counts.
        """
        settings, device = self._settings, self._context.device
        scores = self._ready(shared_tensor(train.pixels))
        size, sigma, grid = self._context.image_size, settings.smoothing_sigma, self._grid(scores)
        train, cells = _with_cells(train, grid)
        images, chosen = shared_tensor(train.pixels), settings.hypothesis
        self.hypothesis = judge(train.pixels, train.valid) if chosen == "auto" else chosen

        def embed(images: Tensor) -> Tensor:
            with torch.no_grad(), self._mixed_precision():
                parts = [scores.embedding(part) for part in passes(images, device)]
            return torch.cat(parts).float().flatten(2).transpose(1, 2).contiguous()

        module = GlassMaps(scores, grid, size, sigma).to(device)
        self._module = module
        vectors = NormalVectors(embed, images, settings.cache_bytes, cells)
        if settings.feature_scale == "unit" and (spread := vectors.spread()) > 0:
            scores.scale.factor.fill_(1 / spread)
        adaptor = nn.Sequential(scores.scale, scores.adaptor)
        trainer = Trainer(
            adaptor, scores.discriminator, self.hypothesis, settings.training, self._context.seed
        )
        synthesiser = None
        if settings.use_las:
            synthesiser = self._synthesiser(train, scores.embedding.reduction)
        self.losses = trainer.curve
        try:
            yield from trainer.run(vectors, embed, synthesiser)
        finally:
            module.requires_grad_(False).zero_grad()

    def memory(self, images: int) -> int:
        """See `Detector.memory`: vectors kept between epochs, foregrounds, and one step."""
        height, width = self._context.image_size
        every, most = round(self._cell_bytes * images * height * width), self._settings.cache_bytes
        # In half precision where they would not fit otherwise, and else not at all.
        kept = next((size for size in (every, every // 2) if size <= most), 0)
        return kept + (images + _STEP_BYTES) * height * width

    def artifacts(self) -> dict[str, bytes]:
        """See `Detector.artifacts`: the losses of every epoch, of the kinds that are in use."""
        settings = self._settings
        used = {"normal": True, "feature": settings.training.use_gas, "image": settings.use_las}
        series = {
            name: [getattr(losses, name) for losses in self.losses]
            for name, wanted in used.items()
            if wanted
        }
        curves = {"x": "epoch", "panels": [{"title": "loss", "series": series}]}
        return {"curves.json": json.dumps(curves).encode()}

    def _mixed_precision(self) -> AbstractContextManager[object]:
        """Half precision where the frozen backbone computes.

        What is trained stays in single precision: an update of the ascent is shorter than the
        rounding of a half.
        """
        if not self._settings.mixed_precision:
            return nullcontext()
        device = torch.device(self._context.device).type
        # The range of float16 holds all maps of a network with normalisation, and its rounding is
        # 8 times finer than that of bfloat16, but few CPUs compute in it.
        kind = torch.bfloat16 if device == "cpu" else torch.float16
        return torch.autocast(device, kind)

    def _ready(self, images: Tensor) -> PatchScores:
        """On its device and as fast as it gets, but untrained."""
        extractor = self._extractor
        if self._settings.bn_recalibration:
            extractor = recalibrate(extractor, images)
        scores = self._untrained(optimise_for_inference(extractor))
        return scores.to(self._context.device).eval()

    def _untrained(self, extractor: FeatureExtractor) -> PatchScores:
        """Around an extractor, which is not copied, a new adaptor and discriminator."""
        settings = self._settings
        generator = torch.Generator().manual_seed(self._context.seed)
        embedding = make_embedding(
            settings.embedding, extractor, settings.patch_size, settings.embed_dim
        )
        channels = embedding.channels
        return PatchScores(
            embedding,
            make_adaptor(channels, settings.adaptor_layers, generator),
            Discriminator(channels, settings.disc_hidden, generator),
        ).eval()

    def _grid(self, scores: PatchScores) -> Size:
        """Rows and columns of the patch grid."""
        cell = scores.embedding.reduction
        with torch.no_grad():
            image = torch.zeros(1, 3, *self._context.image_size, device=self._context.device)
            found = scores(image).shape[1:]
        for grid, size in zip(found, self._context.image_size, strict=True):
            if grid != -(-size // cell):
                raise Infeasible(
                    f"the backbone makes {grid} cells of {cell} pixels a side from images of "
                    f"{size} pixels, which leaves some out; a multiple of {cell} fits"
                )
        return found[0], found[1]

    def _synthesiser(self, train: ImageSet, cell: int) -> Synthesiser:
        """Anomalies in image space on the training images, where these count."""
        settings, pixels = replace(self._settings.synthesis, cell=cell), train.pixels
        masks = foreground_masks(pixels) if self._settings.use_foreground else None
        masks = places(masks, train.valid)
        textures = open_textures(self._settings.textures, pixels, masks)

        def anomalous(
            index: int, rng: np.random.Generator
        ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
            foreground = None if masks is None else masks[index]
            made = synthesise(pixels[index], settings, textures, foreground, rng)
            return made.image, made.pooled_mask

        return anomalous


def _with_cells(train: ImageSet, grid: Size) -> tuple[ImageSet, Tensor | None]:
    """Those images that have cells that count, and ``(N, L)`` bool of these; None for all."""
    if train.valid is None:
        return train, None
    cells = cells_within(train.valid, grid).flatten(1)
    some = cells.any(dim=1)
    if not some.any():
        raise Infeasible(f"no training image has a cell that counts, of {grid[0]} x {grid[1]}")
    return train.select(some.numpy()), cells[some]
