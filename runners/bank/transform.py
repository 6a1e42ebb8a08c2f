"""What patches become before they are compared: levels scaled alike, whitened, fewer numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parameters import BankSettings

SAMPLE = 16_384
"""Patches of normal images, drawn at random, that variances are estimated from."""

_LEAST = 1e-12
"""Variances below this share of the largest are rounding: a level without any keeps its scale."""


def level_slices(sizes: Sequence[int]) -> list[slice]:
    """Where each extracted map lies in a patch, from the channels of every one."""
    ends = list(itertools.accumulate(sizes))
    return [slice(a, b) for a, b in zip([0, *ends], ends, strict=False)]


def shrunk_covariance(patches: Tensor) -> Tensor:
    """Covariance drawn towards that of equal, independent channels, ``(d, d)`` float64.

    ``(1 - a) S + a (tr S / d) I`` with ``a = d / (d + n)`` for ``n`` patches: with fewer patches
    than channels most of it is the second part (form: Ledoit and Wolf, "A well-conditioned
    estimator for large-dimensional covariance matrices", 2004).

    Args:
        patches: ``(n, d)``.
    """
    count, size = patches.shape
    centred = (patches - patches.mean(0)).double()
    covariance: Tensor = centred.T @ centred / count
    share = size / (size + count)
    spread = covariance.trace() / size
    alike = spread * torch.eye(size, dtype=covariance.dtype, device=covariance.device)
    return (1 - share) * covariance + share * alike


def whitener(patches: Tensor, power: float) -> Tensor:
    """Matrix that divides every principal axis by its variance to half of a power.

    It keeps the total variance. At 1 all axes have the same variance, and distances are those of
    Mahalanobis up to a factor; at 0 nothing changes.

    Args:
        patches: ``(n, d)`` of normal images.
        power: From 0 to 1.

    Returns:
        ``(d, d)`` float32, symmetric; a patch is multiplied from its right.
    """
    variances, axes = torch.linalg.eigh(shrunk_covariance(patches))
    largest = float(variances.max())
    if largest <= 0:
        return torch.eye(patches.shape[1], device=patches.device)
    factors = variances.clamp(min=_LEAST * largest) ** (-power / 2)
    matrix: Tensor = (axes * factors) @ axes.T
    before, after = total_variance(patches), total_variance(patches @ matrix.float())
    return (matrix * math.sqrt(before / after if after > 0 else 1.0)).float()


def total_variance(patches: Tensor) -> float:
    """Sum over numbers of their variances, of ``(n, d)``."""
    return float((patches - patches.mean(0)).double().square().sum() / len(patches))


def leading_components(patches: Tensor, wanted: float) -> Tensor:
    """Principal axes of normal patches, those with most variance first.

    Args:
        patches: ``(n, d)``.
        wanted: From 1 on how many, and below 1 the share of the variance that they have at least.

    Returns:
        ``(d, k)`` float32, orthonormal columns, ``k`` at most ``d``.
    """
    centred = (patches - patches.mean(0)).double()
    variances, axes = torch.linalg.eigh(centred.T @ centred / len(patches))
    variances, axes = variances.flip(0).clamp(min=0), axes.flip(1)
    count = round(wanted)
    if wanted < 1:
        shares = variances.cumsum(0) / variances.sum().clamp(min=torch.finfo(torch.double).tiny)
        count = int((shares < wanted).sum()) + 1
    leading: Tensor = axes[:, : min(max(count, 1), patches.shape[1])]
    return leading.float().contiguous()


class PatchTransform(nn.Module):
    """Patches to the vectors of one bank: a matrix or factors, unit length, places.

    Args:
        matrix: ``(d, k)``, or ``(d,)`` factors; None leaves patches as they are.
        cosine: Whether vectors are scaled to unit length.
        places: ``(P, 2)`` coordinates that are appended to vectors of each place; None for none.
    """

    matrix: Tensor | None
    places: Tensor | None

    def __init__(
        self, matrix: Tensor | None = None, cosine: bool = False, places: Tensor | None = None
    ) -> None:
        super().__init__()
        self._cosine = cosine
        self.register_buffer("matrix", matrix)
        self.register_buffer("places", places)

    def forward(self, patches: Tensor, places: Tensor | None = None) -> Tensor:
        """``(..., d)`` to ``(..., k)``.

        Args:
            patches: ``(N, P, d)``, or ``(M, d)`` of given places.
            places: ``(M,)`` numbers of these.
        """
        vectors = patches
        if self.matrix is not None:
            whole = self.matrix.ndim == 2
            vectors = vectors @ self.matrix if whole else vectors * self.matrix
        if self._cosine:
            vectors = F.normalize(vectors, dim=-1)
        if self.places is None:
            return vectors
        where = self.places if places is None else self.places[places]
        return torch.cat([vectors, where.expand(*vectors.shape[:-1], 2)], dim=-1)

    def flops(self, size: int) -> int:
        """Operations for one patch of so many numbers."""
        if self.matrix is None:
            return 0
        return 2 * self.matrix.numel() if self.matrix.ndim == 2 else size


def transforms_of(
    settings: BankSettings, sizes: Sequence[int], sample: Tensor | None, grid: tuple[int, int]
) -> list[PatchTransform]:
    """What patches become for every bank.

    Args:
        settings: Of the bank.
        sizes: Channels of each extracted map.
        sample: ``(n, D)`` patches of normal images; None where `needs_sample` is false.
        grid: Rows and columns of places.
    """
    levels = level_slices(sizes)
    whole = slice(0, sum(sizes))
    banks = levels if settings.weights else [whole]
    if sample is None:
        return [PatchTransform(None, settings.cosine) for _ in banks]
    made = []
    for bank in banks:
        within = [level for level in levels if bank.start <= level.start < bank.stop]
        made.append(_transform(settings, within, bank.start, sample[:, bank], grid))
    return made


def needs_sample(settings: BankSettings) -> bool:
    """Whether anything is estimated from normal patches."""
    asked = (settings.level_scale, settings.whitening, settings.components, settings.position)
    return any(asked)


def _transform(
    settings: BankSettings,
    levels: Sequence[slice],
    start: int,
    sample: Tensor,
    grid: tuple[int, int],
) -> PatchTransform:
    """That of one bank, whose patches ``sample`` are, ``(n, d)``."""
    parts, factors = [], []
    for level, weight in zip(levels, settings.level_scale or [None] * len(levels), strict=True):
        own = sample[:, level.start - start : level.stop - start]
        part = whitener(own, settings.whitening) if settings.whitening else None
        factor = 1.0 if weight is None else math.sqrt(weight / (total_variance(own) or 1.0))
        parts.append(part)
        factors.append(torch.full((own.shape[1],), factor, device=sample.device))
    scales = torch.cat(factors)
    matrix: Tensor | None = scales if settings.level_scale else None
    if settings.whitening:
        blocks = [part for part in parts if part is not None]
        matrix = torch.block_diag(*blocks) * scales  # type: ignore[no-untyped-call]
    if settings.components is not None:
        changed = PatchTransform(matrix)(sample)
        axes = leading_components(changed, settings.components)
        if matrix is None:
            matrix = axes
        else:
            matrix = matrix[:, None] * axes if matrix.ndim == 1 else matrix @ axes
    if not settings.position:
        return PatchTransform(matrix, settings.cosine)
    spread = math.sqrt(total_variance(PatchTransform(matrix, settings.cosine)(sample)))
    places = settings.position * (spread or 1.0) * _coordinates(grid)
    return PatchTransform(matrix, settings.cosine, places.to(sample.device))


def _coordinates(grid: tuple[int, int]) -> Tensor:
    """``(P, 2)`` row and column of every place, from 0 to 1 over the longer side."""
    longest = max(*grid, 2) - 1
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    return torch.stack([rows.flatten(), columns.flatten()], dim=1) / longest
