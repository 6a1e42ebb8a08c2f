"""How long a memory bank of many images will take, and how much memory.

Parts of the work are timed and scaled; what takes memory is added up.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from autosearch.backbones import PatchFeatures, measure_latency, to_patches
from autosearch.memory import coreset, make_memory_bank

from .parameters import BankSettings
from .rows import grid_cells, per_place, row_bytes
from .transform import SAMPLE, needs_sample

_ROWS, _POOL, _CHOSEN = 20_000, 20_000, 512
"""Rows that are searched, patches that are chosen among and chosen, to see how long it takes."""
_COPIES, _WEIGHING = 5, 2
"""Copies of the bank's rows for a moment, and more of them where images are weighed."""
_QUERIES, _NETWORK_BYTES = 3 * 16, 2000
"""Copies of an image's patches in a search, and what networks take for each pixel of an image."""
HELD_OUT = 10
"""One of so many training images is asked the others where levels have weights."""


def seconds_of(
    settings: BankSettings, features: PatchFeatures, images: Tensor, fitted: int, asked: int
) -> float:
    """About how long it takes to fill a bank and to ask it, on the threads of this process.

    Args:
        settings: Of the bank.
        features: Images to patch features, as a fit makes them.
        images: ``(n, 3, H, W)``, a few of the size of all, on the bank's device.
        fitted: Images that it is filled from, with what is made of them.
        asked: Images that it is asked.
    """
    device, found = str(images.device), [images[:0]]

    def look() -> None:
        with torch.inference_mode():
            found[0] = to_patches(features(images))

    one = _seconds(look, device) / len(images)
    # Behind every patch there may be a class token, which is in no bank.
    cells, channels = len(found[0]) // len(images), features.channels
    count, _ = row_bytes(settings, fitted, cells, channels)
    bank = make_memory_bank(settings.backend, channels, device)
    rows = max(settings.num_neighbors, min(count, _ROWS))
    bank.add(torch.randn(rows, channels, device=device))
    queries = found[0][:cells, :channels]
    search = _seconds(lambda: bank.search(queries, settings.num_neighbors), device)
    search *= compared(settings, count, cells, fitted) / rows
    calibrated = fitted / HELD_OUT if settings.weights and settings.scaled else 0
    # What shows the object must be known before patches are drawn.
    looked = fitted * (1 if settings.foreground is None else 2)
    total = one * (looked + asked + calibrated) + search * (asked + calibrated)
    pool, pairs = _chosen_from(settings, count, cells, fitted)
    if pairs:
        patches = torch.randn(_POOL, channels, device=device)
        # What is done once to every patch, such as a projection, does not grow with the chosen.
        once = _seconds(lambda: coreset(patches, count=1), device)
        choosing = max(0.0, _seconds(lambda: coreset(patches, count=_CHOSEN), device) - once)
        total += once * pool / _POOL + choosing * pairs / (_POOL * _CHOSEN)
    return total


def bytes_of(
    settings: BankSettings, features: PatchFeatures, size: tuple[int, int], images: int
) -> int:
    """About how many bytes filling a bank and asking it takes at most.

    Args:
        settings: Of the bank.
        features: Images to patch features.
        size: Height and width of what the network is given.
        images: That it is filled from, with what is made of them.
    """
    cells = grid_cells(size, features.reduction)
    count, chosen = row_bytes(settings, images, cells, features.channels)
    count += SAMPLE if needs_sample(settings) else 0
    copies = _COPIES + (_WEIGHING if settings.reweighting else 0)
    rows = 4 * features.channels * count * copies
    queries = 4 * features.channels * cells * _QUERIES
    return chosen + rows + queries + _NETWORK_BYTES * size[0] * size[1]


def compared(settings: BankSettings, count: int, cells: int, images: int) -> float:
    """Rows that one patch is compared with, but for windows at the border.

    Args:
        settings: Of the bank.
        count: Rows that it keeps.
        cells: Of the patch grid.
        images: That it is filled from.
    """
    rows = float(count)
    if settings.window is not None:
        rows *= min(1.0, (2 * settings.window + 1) ** 2 / cells)
    if settings.neighbour_images is not None:
        rows *= min(1.0, settings.neighbour_images / images)
    return rows


def _chosen_from(settings: BankSettings, count: int, cells: int, images: int) -> tuple[int, int]:
    """Patches that rows are chosen from, and their pairs with those; 0 where rows are drawn.

    Thinning meets each patch with a hundredth of those that it is chosen from.
    """
    if not settings.choosing or count >= images * cells:
        return 0, 0
    if settings.window is not None:
        among = min(images, per_place(settings, cells) or images)
        return (among * cells, count * among) if among > count // cells else (0, 0)
    pool = min(images * cells, settings.coreset_pool or images * cells)
    if pool <= count:
        return 0, 0
    thinned = settings.coreset_method == "thinning"
    return pool, pool * pool // 100 if thinned else pool * count


def _seconds(call: Callable[[], object], device: str) -> float:
    return measure_latency(call, warmup=1, repeats=2, device=device) / 1e3
