"""Patch features against a memory bank: what AutoPatch subnets and fixed backbones share.

After "Neural Architecture Search for Visual Anomaly Segmentation" (AutoPatch, Algorithm 1), itself
a plain PatchCore: patches of normal images form the bank, the squared distance of a patch to its
nearest neighbours there is its score, and scores are upsampled to the image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from autosearch.backbones import (
    FeatureExtractor,
    PatchFeatures,
    in_precision,
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

from .bank.anytime import opened, staged
from .bank.augmentation import all_valid, augmented, enlargement
from .bank.foreground import Foreground
from .bank.known import KnownRows, smaller_size as smaller_size, together
from .bank.parameters import BankSettings
from .bank.post import Afterwards, as_one, kept_stores
from .bank.rows import (
    cells_within as cells_within,
    check_reached,
    chosen_rows,
    drawn_images,
    drawn_rows,
    sample_rows,
)
from .bank.scores import MixedScore, Mixture, NearestPatchScore, ScoreMaps
from .bank.stores import Store, WholeStore, filled_stores
from .bank.timing import HELD_OUT, bytes_of, seconds_of
from .bank.transform import needs_sample, transforms_of

_TIMED = 4
"""Images whose passes are timed."""


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
        shape = (1, 3, *(self._input or context.image_size))
        self._network = profile(extractor, shape, products=not extractor.layers_alone)
        self._extra_flops, self._bn_recalibration = extra_flops, bn_recalibration
        self._extractor, self._patch_sizes = extractor, patch_sizes
        self._channels = tuple(info.channels for info in extractor.feature_info)
        self._features: PatchFeatures | None = None
        self._grid = (0, 0)
        self._mixture, self._maps = self._mixed(), ScoreMaps()
        self._stores: tuple[Store | None, ...] = ()
        self._after: Afterwards | None = None
        self._foreground: Foreground | None = None
        if bank.class_token and extractor.class_token is None:
            raise Infeasible("likeness class_token: the backbone has no class token")

    def fit(self, train: ImageSet) -> None:
        """Fill the memory bank with patches of all training images.

        Which ones depends on their number alone, so no others are kept: memory does not grow with
        the number of images. ``kcenter`` and ``thinning`` choose among more than they keep. Where
        only the object counts, all images are looked at once more, before any patch is drawn.

        Raises:
            Infeasible: The bank holds fewer patches than neighbours are to be found, at all or
                within the window of a place that counts; or no image shows an object.
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
        places = there.any(0).nonzero()[:, 0]
        self._mixture = self._mixed(places=places)
        there &= self._object_of(features, images)
        rows, cells = drawn_rows(settings, there, seed), there.shape[1]
        wanted = torch.cat([rows, sample_rows(there, seed)]) if needs_sample(settings) else rows
        patches, pooled = self._drawn(features, images, wanted)
        patches, sample = patches[: len(rows)], patches[len(rows) :]
        self._mixture = self._mixed(sample=sample, places=places)
        vectors = self._mixture.vectors(patches, rows % cells)
        del patches
        kept = chosen_rows(settings, together(vectors), rows, there, seed)
        if kept is not None:
            vectors = tuple(part[kept.to(part.device)] for part in vectors)
            rows = rows[kept]
        known = KnownRows(vectors, rows, pooled)
        stores = self._filled(known, len(there))
        for store in filter(None, stores):
            check_reached(settings, store.reached(), train.valid, there)
        usual = self._usual(features, images, there, known) if settings.weights else ()
        after = Afterwards.of(known.vectors, usual)
        self._mixture = self._mixed(
            after.factors(settings), pooled, places, sample, after.floors(settings)
        )
        self._features, self._stores = features, stores
        self._set(after)

    def follow(self, fitted: Detector) -> None:
        """See `Detector.follow`; what counts nowhere there cannot count here."""
        if not isinstance(fitted, MemoryBankDetector) or fitted._after is None:
            raise TypeError(f"no fitted memory bank: {fitted}")
        self._stores = kept_stores(self._settings, fitted._stores)
        self._features, self._grid = fitted._features, fitted._grid
        after, self._foreground = fitted._after, fitted._foreground
        self._mixture = fitted._mixture.weighed(
            after.factors(self._settings), after.floors(self._settings)
        )
        self._mixture.to(self._context.device)
        self._set(after)

    def _set(self, after: Afterwards) -> None:
        """Settle what comes after the distances."""
        maps = after.maps(self._settings, self._grid, self._context.image_size)
        self._after, self._maps = after, maps.to(self._context.device)

    def fit_in_steps(self, train: ImageSet) -> Iterator[float]:
        """See `Detector.fit_in_steps`; with pauses if the context asks for banks in parts."""
        self.fit(train)
        self._stores = staged(self._stores, self._context.staged_rows, self._context.seed)
        yield from opened(self._stores)

    def anomaly_maps(self, images: Tensor) -> Tensor:
        """See `Detector.anomaly_maps`; the unit is that of squared feature distances.

        It is that of distances where the settings say so. With a bank for each map they are
        divided by what they are for normal patches.
        """
        with torch.inference_mode():
            return self._maps_of(self._answers(images), images)

    def answers(self, images: Tensor) -> Tensor:
        """See `Detector.answers`: ``(N, B, P)``, what each of B banks answers to P patches.

        Where only the object counts, the last of them is no answer, but 1 for its patches.
        """
        with torch.inference_mode():
            return as_one(self._answers(images))

    def maps_of_answers(self, answers: Tensor, images: Tensor) -> Tensor:
        """See `Detector.maps_of_answers`."""
        each = answers.to(self._context.device).unbind(1)
        with torch.inference_mode():
            pairs = zip(each, self._stores, strict=self._foreground is None)
            known = [None if store is None else answer for answer, store in pairs]
            return self._maps_of([*known, *each[len(known) :]], images)

    def _answers(self, images: Tensor) -> list[Tensor | None]:
        """What every bank answers to patches, ``(N, P)``; and behind it which show the object."""
        features, stores = self._fitted()
        queries = self._patches(features, images).view(len(images), math.prod(self._grid), -1)
        banks = [None if store is None else store.answers for store in stores]
        answers = self._mixture.answers(queries, banks)
        if self._foreground is not None:
            answers.append(self._foreground(self._mixture.last(queries)))
        return answers

    def _maps_of(self, answers: Sequence[Tensor | None], images: Tensor) -> Tensor:
        kept = None if self._foreground is None else answers[-1]
        scores = self._mixture.mixed(answers[: len(self._stores)])
        maps: Tensor = self._maps(scores.view(len(images), 1, *self._grid), images, kept)
        return maps.cpu()

    def cost(self) -> Cost:
        """See `Detector.cost`."""
        stores = list(filter(None, self._stores))
        search = sum(nearest_neighbour_flops(1, s.compared(), s.dimension) for s in stores)
        stored = sum(store.nbytes for store in stores)
        pairs = zip(self._mixture.transforms, self._mixture.lengths, strict=True)
        changed = sum(transform.flops(length) for transform, length in pairs)  # type: ignore[operator]
        search += math.prod(self._grid) * changed + self._maps.flops()
        if self._foreground is not None:
            search += self._foreground.flops(self._channels[-1])
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
        size = self._context.image_size
        images = min(images, self._settings.train_images or images)
        images *= enlargement(self._settings.augment, size)
        return bytes_of(self._settings, features, self._input or size, images)

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
        plain = plain and not settings.euclidean and self._foreground is None
        if isinstance(store, WholeStore) and plain:
            return NearestPatchScore(features, store.patches(), settings.num_neighbors)
        banks = [None if store is None else store.module() for store in stores]
        return MixedScore(features, self._mixture, banks, self._maps, self._foreground)

    def _mixed(
        self,
        factors: Sequence[float] = (),
        pooled: Tensor | None = None,
        places: Tensor | None = None,
        sample: Tensor | None = None,
        floors: Sequence[float] = (),
    ) -> Mixture:
        settings = self._settings
        alike, token = None, (self._extractor.class_token or 0) if settings.class_token else 0
        if pooled is not None and settings.neighbour_images is not None:
            alike = AlikeImages(pooled, settings.neighbour_images, settings.class_token)
        sample = None if sample is None or not len(sample) else sample
        transforms = transforms_of(settings, self._channels, sample, self._grid)
        mixture = Mixture(self._channels, transforms, factors, alike, places, token, floors)
        return mixture.to(self._context.device)

    def _filled(self, known: KnownRows, images: int) -> tuple[Store | None, ...]:
        device, counted = self._context.device, self._mixture.places
        return filled_stores(self._settings, self._grid, device, counted, known, images)

    def _usual(
        self, features: PatchFeatures, images: Tensor, there: Tensor, known: KnownRows
    ) -> list[float]:
        """Usual distance of normal patches to each bank; 1 where it does not count.

        That is the median distance of patches of every tenth training image to the others, or 1
        where distances are averaged as they are.

        Raises:
            Infeasible: There are not enough images or patches for that.
        """
        if not self._settings.scaled:
            return [1.0 for _ in self._settings.weights]
        # What is made of an image is held out with it.
        held = torch.arange(len(there)) % len(images) % HELD_OUT == 0
        others = known.of_images(~held, there.shape[1])
        if held.all() or len(others.rows) < self._settings.num_neighbors:
            raise Infeasible(f"fusion levels: {len(images)} training images are too few")
        stores = self._filled(others, int((~held).sum()))
        mixture = self._mixed((), others.pooled, self._mixture.places)
        mixture.transforms = self._mixture.transforms
        found: list[list[Tensor]] = [[] for _ in stores]
        for number in range(0, len(images), HELD_OUT):
            one = self._patches(features, images[number : number + 1])[None]
            alike = None if mixture.alike is None else mixture.alike(mixture.pooled(one))
            for answers, vectors, store in zip(found, mixture.vectors(one), stores, strict=True):
                if store is not None:
                    distances = store.distances(vectors, alike)[0].cpu()[there[number]]
                    answers.append(distances[distances.isfinite()])
        usual = []
        for answers in found:
            every = torch.cat(answers) if answers else torch.ones(1)
            if not len(every):
                raise Infeasible(f"fusion levels: {len(images)} training images are too few")
            # Images that are all the same have no distance to go by.
            usual.append(float(every.median()) or 1.0)
        return usual

    def _prepare(self, images: Tensor) -> PatchFeatures:
        extractor = self._extractor
        if self._bn_recalibration:
            extractor = recalibrate(extractor, images, image_size=self._input)
        fast = optimise_for_inference(extractor)
        fast = in_precision(fast, self._settings.precision, self._context.device)
        grid, token = self._settings.grid, self._settings.class_token
        features = PatchFeatures(fast, self._patch_sizes, grid, self._input, token)
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
            The patches, and where images are chosen, what they are likened by, ``(I, d)``.
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
                found = patches[wanted, : features.channels]
                kept[order[first:last].to(patches.device)] = found
                row += len(patches)
                if self._settings.neighbour_images is not None:
                    whole = patches.view(len(part), -1, patches.shape[1])
                    pooled.append(self._mixture.pooled(whole))
        return kept, torch.cat(pooled) if pooled else None

    def _object_of(self, features: PatchFeatures, images: Tensor) -> Tensor:
        """Which patches of images and what is made of them count: ``(I, P)`` bool, or one row.

        Raises:
            Infeasible: None does.
        """
        if (threshold := self._settings.foreground) is None:
            return torch.ones(1, math.prod(self._grid), dtype=torch.bool)
        self._foreground = Foreground(self._grid, threshold).to(self._context.device)
        found = []
        for part in augmented(images, self._settings.augment, self._context.device):
            patches = self._patches(features, part).view(len(part), math.prod(self._grid), -1)
            found.append(self._foreground(self._mixture.last(patches)).cpu() > 0)
        there = torch.cat(found)
        if not there.any():
            reason = f"foreground_threshold {threshold:g}: no patch of any training image is above"
            raise Infeasible(reason)
        return there

    def _patches(self, features: PatchFeatures, images: Tensor) -> Tensor:
        patches = []
        with torch.inference_mode():
            for part in passes(images, self._context.device):
                grid = features(part)
                self._grid = (grid.shape[-2], grid.shape[-1])
                patches.append(to_patches(grid))
            return torch.cat(patches)
