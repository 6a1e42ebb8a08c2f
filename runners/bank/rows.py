"""Which patches of the training images a memory bank is made from, decided before any is seen."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from autosearch.contracts import shared_tensor
from autosearch.data import ImageSet
from autosearch.errors import Infeasible
from autosearch.memory import coreset, coreset_at_places, draw, draw_at_places, kept_count

from .parameters import BankSettings
from .transform import SAMPLE

_PROJECTED = 128
"""Numbers of a patch that ``kcenter`` looks at."""


def cells_within(valid: NDArray[np.bool_], grid: tuple[int, int]) -> Tensor:
    """Cells of a feature grid that lie within what counts, at least half of each.

    Args:
        valid: ``(N, H, W)`` bool.
        grid: Rows and columns of cells.

    Returns:
        ``(N, h, w)`` bool.
    """
    shares = F.interpolate(
        shared_tensor(valid)[:, None].float(), grid, mode="bilinear", antialias=True
    )
    return shares[:, 0] >= 0.5


def drawn_images(settings: BankSettings, train: ImageSet, seed: int) -> ImageSet:
    """The images that a bank is made from, in their order: all, or as many drawn at random."""
    most = settings.train_images
    if most is None or most >= len(train):
        return train
    wanted = np.zeros(len(train), dtype=bool)
    wanted[draw(len(train), most, seed).numpy()] = True
    return train.select(wanted)


def drawn_rows(settings: BankSettings, there: Tensor, seed: int) -> Tensor:
    """Which patches are computed: the bank, or what it is chosen from.

    Args:
        settings: Of the bank.
        there: ``(I, P)`` bool, true for the patches of every image that count.
        seed: Of the draw.

    Returns:
        ``(M,)`` int64 indices of ``(I * P)``, in the order in which they are wanted.

    Raises:
        Infeasible: They are fewer than the neighbours that are to be found.
    """
    total = int(there.sum())
    if settings.window is not None:
        pool = per_place(settings, there.shape[1])
        kept = there if pool is None else draw_at_places(there, pool, seed)
        return _enough(kept.flatten().nonzero()[:, 0], settings.num_neighbors)
    count = wanted_rows(settings, max(1, total))
    if min(total, count) < settings.num_neighbors:
        reason = f"num_neighbors {settings.num_neighbors} of a bank of {min(total, count)} patches"
        raise Infeasible(reason)
    if settings.choosing and count < total:
        pool = total if settings.coreset_pool is None else settings.coreset_pool
        count = min(total, max(pool, count))
    rows = draw(total, count, seed)
    return rows if total == there.numel() else there.flatten().nonzero()[:, 0][rows]


def chosen_rows(
    settings: BankSettings, vectors: Tensor, rows: Tensor, there: Tensor, seed: int
) -> Tensor | None:
    """Which of the patches drawn are kept, ``(m,)`` indices; None for all.

    Args:
        settings: Of the bank.
        vectors: ``(M, D)`` the patches as they are compared.
        rows: ``(M,)`` as `drawn_rows` gave them.
        there: ``(I, P)`` as it was given.
        seed: Of the projection.
    """
    if settings.window is None:
        count = wanted_rows(settings, max(1, int(there.sum())))
        if len(rows) <= count:
            return None
        return coreset(vectors, count=count, method=settings.coreset_method, seed=seed)
    if settings.rows_per_place is None or not settings.choosing:
        return None
    return coreset_at_places(vectors, rows % there.shape[1], settings.rows_per_place, seed)


def sample_rows(there: Tensor, seed: int) -> Tensor:
    """Patches that variances are estimated from, drawn at random from those that count.

    Args:
        there: ``(I, P)`` bool.
        seed: Of the draw.

    Returns:
        ``(m,)`` int64 indices of ``(I * P)``.
    """
    found = there.flatten().nonzero()[:, 0]
    return found[draw(len(found), min(len(found), SAMPLE), seed)]


def wanted_rows(settings: BankSettings, total: int) -> int:
    """How many of all patches a bank without windows keeps."""
    if settings.rows is None:
        return kept_count(total, settings.coreset_ratio)
    return min(settings.rows, total)


def per_place(settings: BankSettings, places: int) -> int | None:
    """Patches of a place that are computed with a window; None for all."""
    wanted = settings.rows_per_place
    if wanted is None or not settings.choosing:
        return wanted
    return max(wanted, (settings.coreset_pool or 0) // places)


def row_bytes(settings: BankSettings, images: int, cells: int, channels: int) -> tuple[int, int]:
    """How many patches a bank keeps, and the bytes that choosing them takes.

    Args:
        settings: Of the bank.
        images: Number of training images.
        cells: Of the patch grid.
        channels: Numbers of a patch.
    """
    total, pool = images * cells, None
    if settings.window is not None:
        count = cells * min(images, settings.rows_per_place or images)
        drawn = 16 * total if count < total else 0
        if settings.choosing and count < total:
            pool = cells * min(images, per_place(settings, cells) or images)
    else:
        count = wanted_rows(settings, total)
        drawn = 4 * total if count < total else 0
        if settings.choosing and count < total:
            pool = min(total, max(settings.coreset_pool or total, count))
    return count, drawn + 4 * (pool or 0) * (channels + _PROJECTED) * 2


def check_reached(
    settings: BankSettings, reached: Tensor, valid: NDArray[np.bool_] | None, there: Tensor
) -> None:
    """Refuse a bank that has too few rows for some place where pixels count.

    Places where nothing counts in any training image need none, and where only objects count no
    place does, as long as there is one that has enough.

    Args:
        settings: Of the bank.
        reached: ``(h, w)`` bool, false where there are too few.
        valid: ``(I, H, W)`` bool, true for pixels that count; None for all.
        there: ``(I, P)`` bool, true for cells that do.

    Raises:
        Infeasible: Says how many places it has too few rows for.
    """
    if reached.all():
        return
    if settings.foreground is not None and reached.any():
        return  # Objects move about: elsewhere a place has the score of the nearest one.
    wanted = there.any(0).view(reached.shape)
    if valid is not None:
        some = F.adaptive_max_pool2d(torch.from_numpy(valid).float()[:, None], reached.shape) > 0
        # Where it differs between training images, it may differ in those to come.
        wanted = wanted | (some.any(0) & ~some.all(0))[0]
    if missing := int((wanted & ~reached).sum()):
        raise Infeasible(f"{_named(settings)}: {missing} places have {_too_few(settings)}")


def _named(settings: BankSettings) -> str:
    named = {"window": settings.window, "neighbour_images": settings.neighbour_images}
    return ", ".join(f"{name} {value}" for name, value in named.items() if value is not None)


def _too_few(settings: BankSettings) -> str:
    return "no row" if settings.num_neighbors == 1 else f"fewer than {settings.num_neighbors} rows"


def _enough(rows: Tensor, wanted: int) -> Tensor:
    if len(rows) < wanted:
        raise Infeasible(f"num_neighbors {wanted} of a bank of {len(rows)} patches")
    return rows


def grid_cells(size: tuple[int, int], reduction: int) -> int:
    """Cells of the patch grid of an image."""
    return math.prod(math.ceil(side / reduction) for side in size)
