"""A small runner with a bank, images, their patches, and what a slow search finds in them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from autosearch_runners.memory_bank import MemoryBankDetector
from test_bank_rows import runner
from test_windows import slow
from torch import Tensor, nn

from autosearch.contracts import TrialContext, shared_tensor
from autosearch.data import ImageSet
from autosearch.spec import Params
from autosearch.testing.images import image_set

SIZE = (48, 64)
GRID = (6, 8)
PLACES = 48
SEED = 5
TRAIN = image_set(SIZE, 11, 0, 4)
ASKED = torch.from_numpy(image_set(SIZE, 2, 1, 6).pixels.copy())
SHALLOW, DEEP = 40, 112


def built(params: Params, seed: int = SEED) -> MemoryBankDetector:
    canonical = runner().canonical({"backbone": "tf_efficientnet_lite0", **params})
    detector = runner().build(canonical, TrialContext(seed, "cpu", SIZE))
    assert isinstance(detector, MemoryBankDetector)
    return detector


def fitted(params: Params, train: ImageSet = TRAIN, seed: int = SEED) -> MemoryBankDetector:
    detector = built(params, seed)
    detector.fit(train)
    return detector


def maps_of(params: Params, train: ImageSet = TRAIN) -> Tensor:
    return fitted(params, train).anomaly_maps(ASKED)


def patches_of(images: Tensor) -> Tensor:
    """``(N, h * w, D)``."""
    detector: Any = built({})
    found: Tensor = detector._patches(detector._prepare(images), images)
    return found.view(len(images), PLACES, -1)


KNOWN = patches_of(shared_tensor(TRAIN.pixels))
QUERIES = patches_of(ASKED)


def upsampled(scores: Tensor) -> Tensor:
    whole = scores.float().view(-1, 1, *GRID)
    return F.interpolate(whole, SIZE, mode="bilinear", align_corners=False)[:, 0]


def expected_maps(
    known: Tensor, queries: Tensor, there: Tensor, radius: float, neighbours: int = 1
) -> Tensor:
    """Of ``(I, P, D)`` patches of which those that are ``there``, ``(I, P)``, are in the bank."""
    places = torch.arange(PLACES).expand(len(known), -1)[there]
    asked = queries.view(len(queries), *GRID, -1)
    return slow(asked, known[there], places, radius, neighbours).flatten(1)


EVERYWHERE = torch.ones(len(TRAIN), PLACES, dtype=torch.bool)


def valid_but(*areas: tuple[slice, slice, slice]) -> ImageSet:
    """The training images, with areas that do not count."""
    valid = np.ones(TRAIN.masks.shape, dtype=bool)
    for area in areas:
        valid[area] = False
    return replace(TRAIN, valid=valid)


ALL, CORNER = slice(None), slice(0, 16)


class Cells(nn.Module):
    """Features are pixels of a cell: what is exported beside them is soon written."""

    channels = SHALLOW + DEEP

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` to ``(N, D, h, w)``."""
        return F.pixel_unshuffle(images, 8)[:, : self.channels]
