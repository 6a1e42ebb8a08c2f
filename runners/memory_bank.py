"""Patch features against a memory bank: what AutoPatch subnets and fixed backbones share.

After "Neural Architecture Search for Visual Anomaly Segmentation" (AutoPatch, Algorithm 1), itself
a plain PatchCore: patches of normal images form the bank, the squared distance of a patch to its
nearest neighbours there is its score, and scores are upsampled to the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autosearch.backbones import (
    FeatureExtractor,
    PatchFeatures,
    nearest_neighbour_flops,
    optimise_for_inference,
    profile,
    recalibrate,
    to_patches,
)
from autosearch.contracts import Cost, Detector, TrialContext, passes, shared_tensor
from autosearch.data import ImageSet
from autosearch.errors import Infeasible
from autosearch.memory import AlikeImages

from .bank.augmentation import all_valid, augmented, enlargement
from .bank.parameters import BankSettings
from .bank.rows import (
    cells_within as cells_within,
    check_reached,
    chosen_rows,
    drawn_images,
    drawn_rows,
    grid_cells,
    row_bytes,
    sample_rows,
)
from .bank.scores import MixedScore, Mixture, NearestPatchScore, ScoreMaps
from .bank.stores import Store, WholeStore, make_store
from .bank.timing import seconds_of
from .bank.transform import SAMPLE, needs_sample, transforms_of
from .spreading import Spreading

_COPIES, _WEIGHING = 5, 2
"""Copies of the bank's rows for a moment, and more of them where images are weighed."""
_QUERIES, _NETWORK_BYTES = 3 * 16, 2000
"""Copies of an image's patches in a search, and what networks take for each pixel of an image."""
_TIMED = 4
"""Images whose passes are timed."""
_SAME = 0.03
"""Share by which a size may fall short of the images' and be theirs: sides come in steps."""
_ROOT_FLOOR = 1e-3
"""Share of the bank's total variance that is added to a squared distance before its root."""
_HELD_OUT = 10
"""Of so many training images one asks the others how large distances of normal patches are."""


@dataclass(frozen=True)
class _Rows:
    """Patches of a bank, and where they are from.

    Attributes:
        vectors: ``(M, d)`` for every bank.
        rows: ``(M,)`` which of the ``(I * P)`` patches, image by image, they are.
        pooled: ``(I, d)`` means of every image's last map; None where nobody asks.
    """

    vectors: tuple[Tensor, ...]
    rows: Tensor
    pooled: Tensor | None

    def of_images(self, wanted: Tensor, places: int) -> _Rows:
        """Those of some images, ``(I,)`` bool, numbered anew."""
        images, numbers = self.rows // places, wanted.cumsum(0) - 1
        kept = wanted[images]
        rows = numbers[images[kept]] * places + self.rows[kept] % places
        vectors = tuple(part[kept.to(part.device)] for part in self.vectors)
        pooled = None if self.pooled is None else self.pooled[wanted.to(self.pooled.device)]
        return _Rows(vectors, rows, pooled)


class MemoryBankDetector(Detector):
    """Scores patches by their distance to those of normal images.

    Args:
        extractor: The frozen backbone, in evaluation mode.
        patch_sizes: Pooling kernel per extracted map.
        bank: How the memory bank is made and searched.
        context: Seed, device and image size.
        extra_flops: Added to the network's FLOPs, for conventions that count more than it runs.
        bn_recalibration: Whether batch norms take their statistics from the training images.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        patch_sizes: tuple[int, ...],
        bank: BankSettings,
        context: TrialContext,
        extra_flops: int = 0,
        bn_recalibration: bool = False,
    ) -> None:
        self._settings, self._context, self.top_share = bank, context, bank.top_share
        self._input = smaller_size(context.image_size, bank.image_size)
        self._network = profile(extractor, (1, 3, *(self._input or context.image_size)))
        self._extra_flops, self._bn_recalibration = extra_flops, bn_recalibration
        self._extractor, self._patch_sizes = extractor, patch_sizes
        self._channels = tuple(info.channels for info in extractor.feature_info)
        self._features: PatchFeatures | None = None
        self._grid = (0, 0)
        self._mixture, self._maps = self._mixed(), ScoreMaps()
        self._stores: tuple[Store | None, ...] = ()

    def fit(self, train: ImageSet) -> None:
        """Fill the memory bank with patches of all training images.

        Which ones depends on their number alone, so no others are kept: memory does not grow with
        the number of images. ``kcenter`` chooses among more than it keeps.

        Raises:
            Infeasible: The bank holds fewer patches than neighbours are to be found, at all or
                within the window of a place that counts.
        """
        settings, seed = self._settings, self._context.seed
        train = drawn_images(settings, train, seed)
        images = shared_tensor(train.pixels)
        features = self._prepare(images)
        self._patches(features, images[:1])  # for the grid
        copies = enlargement(settings.augment, self._context.image_size)
        there = torch.ones(copies * len(images), math.prod(self._grid), dtype=torch.bool)
        if train.valid is not None:
            there = cells_within(all_valid(train.valid, settings.augment), self._grid).flatten(1)
        rows, cells = drawn_rows(settings, there, seed), there.shape[1]
        places = there.any(0).nonzero()[:, 0]
        self._mixture = self._mixed(places=places)
        wanted = torch.cat([rows, sample_rows(there, seed)]) if needs_sample(settings) else rows
        patches, pooled = self._drawn(features, images, wanted)
        patches, sample = patches[: len(rows)], patches[len(rows) :]
        self._mixture = self._mixed(sample=sample, places=places)
        vectors = self._mixture.vectors(patches, rows % cells)
        del patches
        kept = chosen_rows(settings, _together(vectors), rows, there, seed)
        if kept is not None:
            vectors = tuple(part[kept.to(part.device)] for part in vectors)
            rows = rows[kept]
        known = _Rows(vectors, rows, pooled)
        stores = self._filled(known, len(there))
        for store in filter(None, stores):
            check_reached(settings, store.reached(), train.valid, there)
        factors = self._factors(features, images, there, known) if settings.weights else ()
        self._mixture = self._mixed(factors, pooled, places, sample)
        spreading = None
        if settings.smoothing:
            spreading = Spreading(self._grid, self._context.image_size, settings.smoothing)
        root = _root(known.vectors, factors or (1.0,)) if settings.root else None
        self._maps = ScoreMaps(root, spreading).to(self._context.device)
        self._features, self._stores = features, stores

    def anomaly_maps(self, images: Tensor) -> Tensor:
        """See `Detector.anomaly_maps`; the unit is that of squared feature distances.

        It is that of distances where the settings say so. With a bank for each map they are
        divided by what they are for normal patches.
        """
        features, stores = self._fitted()
        with torch.inference_mode():
            queries = self._patches(features, images).view(
                len(images), math.prod(self._grid), features.channels
            )
            answers = [None if store is None else store.answers for store in stores]
            scores = self._mixture.scores(queries, answers)
            maps: Tensor = self._maps(scores.view(len(images), 1, *self._grid), images)
            return maps.cpu()

    def cost(self) -> Cost:
        """See `Detector.cost`."""
        stores = list(filter(None, self._stores))
        search = sum(nearest_neighbour_flops(1, s.compared(), s.dimension) for s in stores)
        stored = sum(store.nbytes for store in stores)
        pairs = zip(self._mixture.transforms, self._mixture.lengths, strict=True)
        changed = sum(transform.flops(length) for transform, length in pairs)  # type: ignore[operator]
        search += math.prod(self._grid) * changed + self._maps.flops()
        if (alike := self._mixture.alike) is not None:
            search += nearest_neighbour_flops(1, *alike.known.shape)
            stored += alike.known.nbytes
        return Cost(
            macs=self._network.macs,
            flops=self._network.flops + self._extra_flops,
            search_flops=search,
            parameters=self._network.parameters,
            bank_bytes=stored,
        )

    def figures(self) -> dict[str, float]:
        """See `Detector.figures`: rows that a patch is compared with, if not all; components."""
        stores = [store for store in self._stores if store]
        placed = [store for store in stores if not isinstance(store, WholeStore)]
        told = {"rows_a_query": float(max(store.most() for store in placed))} if placed else {}
        if self._settings.components is not None and stores:
            told["components"] = float(max(store.dimension for store in stores))
        return told

    def memory(self, images: int) -> int:
        """See `Detector.memory`: what rows, queries and feature maps were seen to take."""
        features = PatchFeatures(self._extractor, self._patch_sizes, self._settings.grid)
        height, width = self._input or self._context.image_size
        cells = grid_cells((height, width), features.reduction)
        images = min(images, self._settings.train_images or images)
        images *= enlargement(self._settings.augment, self._context.image_size)
        count, chosen = row_bytes(self._settings, images, cells, features.channels)
        count += SAMPLE if needs_sample(self._settings) else 0
        copies = _COPIES + (_WEIGHING if self._settings.reweighting else 0)
        rows = 4 * features.channels * count * copies
        queries = 4 * features.channels * cells * _QUERIES
        return chosen + rows + queries + _NETWORK_BYTES * height * width

    def seconds(self, fitted: int, asked: int) -> float | None:
        """See `Detector.seconds`."""
        size, settings = self._context.image_size, self._settings
        images, fitted = torch.rand(_TIMED, 3, *size), min(fitted, settings.train_images or fitted)
        features, images = self._prepare(images), images.to(self._context.device)
        return seconds_of(
            settings, features, images, fitted * enlargement(settings.augment, size), asked
        )

    def module(self) -> nn.Module:
        """See `Detector.module`."""
        features, stores = self._fitted()
        (store, *others), settings = stores, self._settings
        plain = not (others or settings.weights or settings.cosine or needs_sample(settings))
        plain = plain and not (settings.root or settings.smoothing or settings.reweighting)
        if isinstance(store, WholeStore) and plain:
            return NearestPatchScore(features, store.patches(), settings.num_neighbors)
        banks = [None if store is None else store.module() for store in stores]
        return MixedScore(features, self._mixture, banks, self._maps)

    def _mixed(
        self,
        factors: Sequence[float] = (),
        pooled: Tensor | None = None,
        places: Tensor | None = None,
        sample: Tensor | None = None,
    ) -> Mixture:
        settings = self._settings
        alike = None
        if pooled is not None and settings.neighbour_images is not None:
            alike = AlikeImages(pooled, settings.neighbour_images)
        sample = None if sample is None or not len(sample) else sample
        transforms = transforms_of(settings, self._channels, sample, self._grid)
        mixture = Mixture(self._channels, transforms, factors, alike, places)
        return mixture.to(self._context.device)

    def _filled(self, known: _Rows, images: int) -> tuple[Store | None, ...]:
        """A bank for every vector of a patch; None where its weight is 0."""
        stores: list[Store | None] = []
        cells, settings = math.prod(self._grid), self._settings
        counted = self._mixture.places
        for vectors, weight in zip(known.vectors, settings.weights or (1.0,), strict=True):
            store = None
            if weight:
                store = make_store(
                    settings, self._grid, vectors.shape[1], self._context.device, counted
                )
                store.fill(vectors, known.rows // cells, known.rows % cells, images)
            stores.append(store)
        return tuple(stores)

    def _factors(
        self, features: PatchFeatures, images: Tensor, there: Tensor, known: _Rows
    ) -> list[float]:
        """What answers of each bank are multiplied with: its weight by its usual distance.

        That is the median distance of patches of every tenth training image to the others.

        Raises:
            Infeasible: There are not enough images or patches for that.
        """
        # What is made of an image is held out with it.
        held = torch.arange(len(there)) % len(images) % _HELD_OUT == 0
        others = known.of_images(~held, there.shape[1])
        if held.all() or len(others.rows) < self._settings.num_neighbors:
            raise Infeasible(f"fusion levels: {len(images)} training images are too few")
        stores = self._filled(others, int((~held).sum()))
        mixture = self._mixed((), others.pooled, self._mixture.places)
        mixture.transforms = self._mixture.transforms
        found: list[list[Tensor]] = [[] for _ in stores]
        for number in range(0, len(images), _HELD_OUT):
            one = self._patches(features, images[number : number + 1])[None]
            alike = None if mixture.alike is None else mixture.alike(mixture.pooled(one))
            for answers, vectors, store in zip(found, mixture.vectors(one), stores, strict=True):
                if store is not None:
                    distances = store.distances(vectors, alike)[0].cpu()[there[number]]
                    answers.append(distances[distances.isfinite()])
        total, factors = sum(self._settings.weights), []
        for answers, weight in zip(found, self._settings.weights, strict=True):
            usual = torch.cat(answers) if answers else torch.ones(1)
            if not len(usual):
                raise Infeasible(f"fusion levels: {len(images)} training images are too few")
            # Images that are all the same have no distance to go by.
            factors.append(weight / total / (float(usual.median()) or 1.0))
        return factors

    def _prepare(self, images: Tensor) -> PatchFeatures:
        extractor = self._extractor
        if self._bn_recalibration:
            extractor = recalibrate(extractor, images, image_size=self._input)
        fast = optimise_for_inference(extractor)
        features = PatchFeatures(fast, self._patch_sizes, self._settings.grid, self._input)
        return features.to(self._context.device).eval()

    def _fitted(self) -> tuple[PatchFeatures, tuple[Store | None, ...]]:
        if self._features is None or not self._stores:
            raise RuntimeError("the detector has not been fitted")
        return self._features, self._stores

    def _drawn(
        self, features: PatchFeatures, images: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Rows of all patches of all images, ``(M, D)``, of which no others are kept.

        Args:
            features: Images to patch features.
            images: ``(I, 3, H, W)``, with what is made of them.
            rows: ``(M,)`` which of their ``(I * P)`` patches, in the order in which they are
                wanted.

        Returns:
            The patches, and where images are chosen by them, the ``(I, d)`` means of the last map.
        """
        order = rows.argsort()
        rising = rows[order]
        kept = torch.empty(len(rows), features.channels, device=self._context.device)
        row, pooled = 0, []
        with torch.inference_mode():
            every = augmented(images, self._settings.augment, self._context.device)
            for part in every:
                patches = to_patches(features(part))
                first, last = torch.searchsorted(rising, torch.tensor([row, row + len(patches)]))
                wanted = (rising[first:last] - row).to(patches.device)
                kept[order[first:last].to(patches.device)] = patches[wanted]
                row += len(patches)
                if self._settings.neighbour_images is not None:
                    whole = patches.view(len(part), -1, features.channels)
                    pooled.append(self._mixture.pooled(whole))
        return kept, torch.cat(pooled) if pooled else None

    def _patches(self, features: PatchFeatures, images: Tensor) -> Tensor:
        patches = []
        with torch.inference_mode():
            for part in passes(images, self._context.device):
                grid = features(part)
                self._grid = (grid.shape[-2], grid.shape[-1])
                patches.append(to_patches(grid))
            return torch.cat(patches)


def _root(vectors: Sequence[Tensor], factors: Sequence[float]) -> float:
    """What is added to scores before a root: little beside those of patches that differ at all."""
    spreads = [float(part.var(0, correction=0).sum()) for part in vectors]
    return _ROOT_FLOOR * sum(f * s for f, s in zip(factors, spreads, strict=True))


def _together(vectors: tuple[Tensor, ...]) -> Tensor:
    """Vectors of all banks as one, ``(M, D)``, in which each bank counts alike."""
    if len(vectors) == 1:
        return vectors[0]
    spreads = [(part - part.mean(0)).square().sum(1).mean().sqrt() for part in vectors]
    scaled = [part / (spread or 1) for part, spread in zip(vectors, spreads, strict=True)]
    return torch.cat(scaled, dim=1)


def smaller_size(size: tuple[int, int], side: int | None) -> tuple[int, int] | None:
    """Height and width of what the network is given, where images are to be smaller for it.

    Args:
        size: Of the images.
        side: Of the square that has as many pixels; None leaves images as they are.

    Returns:
        The images' own shape, in steps of 8 pixels where it is no square; None where it is theirs
        or would be larger.
    """
    height, width = size
    scale = (side or math.inf) / math.sqrt(height * width)
    if side is None or scale > 1 - _SAME:
        return None
    if height == width:
        return side, side
    return max(8, 8 * round(scale * height / 8)), max(8, 8 * round(scale * width / 8))
