"""A tiny backbone of tokens with a class token, images with an object, and banks of both."""

from __future__ import annotations

import numpy as np
import torch
from autosearch_runners.bank.parameters import BankSettings, canonical_bank
from autosearch_runners.memory_bank import MemoryBankDetector
from torch import Tensor, nn

from autosearch.backbones.features import FeatureExtractor, FeatureInfo
from autosearch.contracts import TrialContext
from autosearch.data import ImageSet
from autosearch.data.records import NORMAL
from autosearch.spec import Params

PATCH, GRID, WIDTH, TOKEN = 4, (10, 11), 12, 7
SIZE = (GRID[0] * PATCH, GRID[1] * PATCH)


class Tokens(FeatureExtractor):
    """Two blocks of tokens that are linear in the pixels of their patch, then bent."""

    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)

    def __init__(self, seed: int = 0, scale: float = 1.0) -> None:
        super().__init__()
        self.scale, self.class_token = scale, TOKEN
        self.feature_info = tuple(
            FeatureInfo(block, WIDTH, PATCH, f"blocks.{block}") for block in range(2)
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.blocks = nn.ModuleList(
                [nn.Conv2d(3, WIDTH, PATCH, PATCH), nn.Conv2d(WIDTH, WIDTH, 1)]
            )
            self.whole = nn.Linear(WIDTH * 4, TOKEN)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """See `FeatureExtractor.forward`."""
        first = self.blocks[0](images)
        return [self.scale * first, self.scale * self.blocks[1](torch.tanh(first))]

    def with_class_token(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """See `FeatureExtractor.with_class_token`."""
        maps = self(images)
        quarters = nn.functional.avg_pool2d(maps[-1], (GRID[0] // 2, GRID[1] // 2))[..., :2]
        token: Tensor = self.whole(quarters.flatten(1))
        return maps, token


def pictures(count: int, seed: int) -> Tensor:
    """``(N, 3, H, W)`` in [0, 1]: a bright and noisy object that moves about on a dark ground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    found = []
    for _ in range(count):
        centre = np.array(SIZE) / 2 + rng.uniform(-3, 3, 2)
        there = ((y - centre[0]) / 10) ** 2 + ((x - centre[1]) / 11) ** 2 < 1
        colours = rng.uniform(0.6, 0.9, 3)[:, None, None] + rng.normal(0, 0.08, (3, *SIZE))
        found.append(np.where(there, colours, 0.15 + rng.normal(0, 0.06, (3, *SIZE))))
    return torch.from_numpy(np.stack(found)).float().clamp(0, 1)


def image_set(images: Tensor) -> ImageSet:
    """Normal images."""
    names = tuple(f"{i}.png" for i in range(len(images)))
    masks = np.zeros((len(images), *SIZE), dtype=bool)
    return ImageSet(images.numpy(), masks, (NORMAL,) * len(images), names, names)


def fitted(params: Params, extractor: FeatureExtractor, train: Tensor) -> MemoryBankDetector:
    """A detector with a bank of all that an extractor returns."""
    groups = [f"block{info.block}" for info in extractor.feature_info]
    settings = BankSettings.of(canonical_bank(params, groups), "torch", groups)
    patch_sizes = (1,) * len(groups)
    detector = MemoryBankDetector(extractor, patch_sizes, settings, TrialContext(3, "cpu", SIZE))
    detector.fit(image_set(train))
    return detector
