"""Patch features against a memory bank: what AutoPatch subnets and fixed backbones share.

After "Neural Architecture Search for Visual Anomaly Segmentation" (AutoPatch, Algorithm 1), itself
a plain PatchCore: patches of normal images form the bank, the squared distance of a patch to its
nearest neighbours there is its score, and scores are upsampled to the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
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
from autosearch.contracts import (
    Cost,
    Detector,
    ParameterInfo,
    TrialContext,
    passes,
    shared_tensor,
    with_defaults,
)
from autosearch.data import ImageSet
from autosearch.errors import Infeasible
from autosearch.memory import MemoryBank, coreset, draw, kept_count, make_memory_bank
from autosearch.spec import Params

_EXPORT_BLOCK, _EXPORT_BLOCKS = 2048, 64
"""Patches that an exported graph compares at a time, and how many such steps it has at most."""

_COPIES, _PROJECTED = 5, 128
"""Copies of the bank's rows for a moment, and numbers of one that ``kcenter`` looks at."""
_QUERIES, _NETWORK_BYTES = 3 * 64, 2000
"""Copies of an image's patches in a search, and what networks take for each pixel of an image."""

PARAMETERS = {
    "coreset_ratio": ParameterInfo(
        1.0, "share of the training patches that the memory bank keeps", low=1e-4, high=1
    ),
    "coreset_method": ParameterInfo(
        "random", "how they are chosen", choices=("random", "kcenter")
    ),
    "coreset_pool": ParameterInfo(
        50_000, "patches drawn at random that kcenter chooses from", low=100, high=10_000_000
    ),
    "num_neighbors": ParameterInfo(
        1, "neighbours whose mean squared distance is the score", low=1, high=50
    ),
}
"""Parameters of the bank, the same for all runners that have one."""


@dataclass(frozen=True)
class BankSettings:
    """How the memory bank is made and searched."""

    backend: str
    coreset_ratio: float
    coreset_method: str
    coreset_pool: int | None
    num_neighbors: int

    @classmethod
    def of(cls, canonical: Params, backend: str) -> BankSettings:
        """Settings of a canonical configuration."""
        full = with_defaults(canonical, PARAMETERS)
        return cls(
            backend,
            float(full["coreset_ratio"] or 0),
            str(full["coreset_method"]),
            # Studies older than the pool chose from all patches, and do not name it.
            None if canonical.get("coreset_pool") is None else int(canonical["coreset_pool"] or 0),
            int(full["num_neighbors"] or 0),
        )


def check_backend(backend: str) -> None:
    """Refuse a memory backend that does not work on this machine.

    Raises:
        ConfigError: Names the backend and how to install it.
    """
    if backend != "auto":
        make_memory_bank(backend, 1, "cuda" if backend == "faiss-gpu" else "cpu")


def canonical_bank(params: Params) -> Params:
    """The bank's part of a canonical configuration: no method where everything is kept."""
    full = with_defaults(params, PARAMETERS)
    if full["coreset_ratio"] == 1:
        del full["coreset_method"]
    if full.get("coreset_method") != "kcenter" or full["coreset_pool"] is None:
        del full["coreset_pool"]
    return full


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
        self._settings, self._context = bank, context
        self._network = profile(extractor, (1, 3, *context.image_size))
        self._extra_flops, self._bn_recalibration = extra_flops, bn_recalibration
        self._extractor, self._patch_sizes = extractor, patch_sizes
        self._features: PatchFeatures | None = None
        self._grid = (0, 0)
        self._bank: MemoryBank | None = None

    def fit(self, train: ImageSet) -> None:
        """Fill the memory bank with patches of all training images.

        Which ones depends on their number alone, so no others are kept: memory does not grow with
        the number of images.

        Raises:
            Infeasible: The coreset is smaller than the number of neighbours.
        """
        images, settings = shared_tensor(train.pixels), self._settings
        features = self._prepare(images)
        self._patches(features, images[:1])  # for the grid
        cells = None if train.valid is None else cells_within(train.valid, self._grid).flatten()
        total = len(images) * math.prod(self._grid) if cells is None else int(cells.sum())
        count = kept_count(max(1, total), settings.coreset_ratio)
        if (kept := min(total, count)) < settings.num_neighbors:
            reason = f"num_neighbors {settings.num_neighbors} of a bank of {kept} patches"
            raise Infeasible(reason)
        patches = self._drawn(features, images, cells, self._rows(total, count))
        if len(patches) > count:
            patches = patches[coreset(patches, count=count, seed=self._context.seed)]
        bank = make_memory_bank(settings.backend, patches.shape[1], self._context.device)
        bank.add(patches)
        self._features, self._bank = features, bank

    def anomaly_maps(self, images: Tensor) -> Tensor:
        """See `Detector.anomaly_maps`; the unit is that of squared feature distances."""
        features, bank = self._fitted()
        queries = self._patches(features, images)
        distances = bank.search(queries, self._settings.num_neighbors).mean(dim=1)
        scores = distances.view(len(images), 1, *self._grid)
        return _upsample(scores, images.shape[2:])[:, 0].cpu()

    def cost(self) -> Cost:
        """See `Detector.cost`."""
        bank = self._bank
        per_image = math.prod(self._grid)
        search = nearest_neighbour_flops(per_image, len(bank), bank.dimension) if bank else 0
        return Cost(
            macs=self._network.macs,
            flops=self._network.flops + self._extra_flops,
            search_flops=search,
            parameters=self._network.parameters,
            bank_bytes=bank.nbytes if bank else 0,
        )

    def memory(self, images: int) -> int:
        """See `Detector.memory`: what rows, queries and feature maps were seen to take."""
        features = PatchFeatures(self._extractor, self._patch_sizes)
        height, width = self._context.image_size
        cells = math.ceil(height / features.reduction) * math.ceil(width / features.reduction)
        total = images * cells
        count = kept_count(total, self._settings.coreset_ratio)
        drawn = 8 * total if count < total else 0
        rows = 4 * features.channels * count * _COPIES
        if self._settings.coreset_method == "kcenter" and count < total:
            pool = min(total, max(self._settings.coreset_pool or total, count))
            rows += 4 * pool * (features.channels + _PROJECTED) * 2
        queries = 4 * features.channels * cells * _QUERIES
        return drawn + rows + queries + _NETWORK_BYTES * height * width

    def module(self) -> nn.Module:
        """See `Detector.module`."""
        features, bank = self._fitted()
        return NearestPatchScore(features, bank.patches(), self._settings.num_neighbors)

    def _prepare(self, images: Tensor) -> PatchFeatures:
        extractor = self._extractor
        if self._bn_recalibration:
            extractor = recalibrate(extractor, images)
        fast = optimise_for_inference(extractor)
        return PatchFeatures(fast, self._patch_sizes).to(self._context.device).eval()

    def _fitted(self) -> tuple[PatchFeatures, MemoryBank]:
        if self._features is None or self._bank is None:
            raise RuntimeError("the detector has not been fitted")
        return self._features, self._bank

    def _rows(self, total: int, count: int) -> Tensor:
        """Which of all patches are computed: the bank, or what ``kcenter`` chooses it from."""
        settings = self._settings
        if settings.coreset_method == "kcenter" and count < total:
            pool = total if settings.coreset_pool is None else settings.coreset_pool
            count = min(total, max(pool, count))
        return draw(total, count, self._context.seed)

    def _drawn(
        self, features: PatchFeatures, images: Tensor, cells: Tensor | None, rows: Tensor
    ) -> Tensor:
        """Rows of all patches of all images, ``(M, D)``, of which no others are kept.

        Args:
            features: Images to patch features.
            images: ``(N, 3, H, W)``.
            cells: ``(N * h * w,)`` bool, true for the patches that are counted; None for all.
            rows: ``(M,)`` which of these, in the order in which they are wanted.
        """
        order = rows.argsort()
        rising = rows[order]
        kept = torch.empty(len(rows), features.channels, device=self._context.device)
        cell, row = 0, 0
        with torch.inference_mode():
            for part in passes(images, self._context.device):
                patches = to_patches(features(part))
                if cells is not None:
                    here = cells[cell : cell + len(patches)]
                    cell += len(patches)
                    patches = patches[here.to(patches.device)]
                first, last = torch.searchsorted(rising, torch.tensor([row, row + len(patches)]))
                wanted = (rising[first:last] - row).to(patches.device)
                kept[order[first:last].to(patches.device)] = patches[wanted]
                row += len(patches)
        return kept

    def _patches(self, features: PatchFeatures, images: Tensor) -> Tensor:
        patches = []
        with torch.inference_mode():
            for part in passes(images, self._context.device):
                grid = features(part)
                self._grid = (grid.shape[-2], grid.shape[-1])
                patches.append(to_patches(grid))
            return torch.cat(patches)


class NearestPatchScore(nn.Module):
    """A fitted memory-bank detector as one graph of plain operations.

    The bank is compared block by block, so that no more than the products of the queries with one
    block are held at a time, however large the bank: per image ``4 * h * w`` bytes for every
    patch of a block.

    Args:
        features: Images to patch features.
        bank: ``(M, D)`` patches of normal images.
        num_neighbors: Neighbours whose mean squared distance is the score.

    Attributes:
        origin: ``(D,)`` mean of the bank. Products of features with a large mean would leave no
            digits for their differences.
        bank: Blocks of ``(D, C)``, each column a patch less the origin.
        squares: ``(M,)`` squared norms of these columns. Not part of the state: it follows from
            the bank, also after other tensors were loaded.
    """

    origin: Tensor
    squares: Tensor

    def __init__(self, features: PatchFeatures, bank: Tensor, num_neighbors: int) -> None:
        super().__init__()
        self.features, self.num_neighbors = features, num_neighbors
        self.register_buffer("origin", bank.mean(dim=0))
        size = max(_EXPORT_BLOCK, math.ceil(len(bank) / _EXPORT_BLOCKS))
        self.bank = nn.ParameterList(
            nn.Parameter(part.T.contiguous(), requires_grad=False)
            for part in torch.split(bank - self.origin, size)
        )
        self.register_buffer("squares", self._squares(), persistent=False)
        self.register_load_state_dict_post_hook(_refresh_squares)  # type: ignore[no-untyped-call]

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` in [0, 1] to ``(N, H, W)``; higher is more anomalous."""
        features = self.features(images)
        count, _, height, width = features.shape
        queries = to_patches(features) - self.origin
        # |a - b|² = |a|² + |b|² - 2ab: the last two in one product, the first at the very end.
        extended = torch.cat([queries * -2, torch.ones_like(queries[:, :1])], dim=1)
        nearest, start = [], 0
        for block in self.bank:
            stop = start + block.shape[1]
            rows = torch.cat([block, self.squares[None, start:stop]])
            nearest.append(self._least(extended @ rows))
            start = stop
        distances = self._least(torch.cat(nearest, dim=1))
        distances = distances + queries.square().sum(dim=1, keepdim=True)
        scores = distances.clamp(min=0).mean(dim=1).view(count, 1, height, width)
        return _upsample(scores, images.shape[2:])[:, 0]

    def _least(self, distances: Tensor) -> Tensor:
        """The smallest of every row, as many as there are neighbours to find."""
        if self.num_neighbors == 1:
            return distances.amin(dim=1, keepdim=True)
        number = min(self.num_neighbors, distances.shape[1])
        return distances.topk(number, dim=1, largest=False).values

    def _squares(self) -> Tensor:
        return torch.cat([part.square().sum(dim=0) for part in self.bank])


def _refresh_squares(module: nn.Module, keys: object) -> None:
    if isinstance(module, NearestPatchScore):
        module.squares.copy_(module._squares())


def cells_within(valid: NDArray[np.bool_], grid: tuple[int, int]) -> Tensor:
    """Cells of a feature grid that lie within what counts, at least half of each.

    Args:
        valid: ``(N, H, W)`` bool.
        grid: Rows and columns of cells.

    Returns:
        ``(N, h, w)`` bool.
    """
    shares = F.interpolate(
        torch.from_numpy(valid)[:, None].float(), grid, mode="bilinear", antialias=True
    )
    return shares[:, 0] >= 0.5


def _upsample(scores: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(scores, tuple(size), mode="bilinear", align_corners=False)
