"""Coresets: few patches that stand for all of a memory bank."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from autosearch.errors import ConfigError

_PROJECTED = 128


def kept_count(total: int, ratio: float) -> int:
    """How many of ``total`` patches a share stands for, at least 1.

    Raises:
        ConfigError: The share is not above 0 and at most 1.
    """
    if not 0 < ratio <= 1:
        raise ConfigError("coreset_ratio", ratio, "a number above 0 and at most 1")
    return max(1, round(ratio * total))


def draw(total: int, count: int, seed: int = 0) -> Tensor:
    """Draw ``count`` of ``total`` patches without replacement, before any of them is computed.

    Returns:
        int64 indices on the CPU, in the order in which they were drawn; all in their own order if
        all are kept.

    Raises:
        ConfigError: There are not so many, or none is wanted.
    """
    if not 1 <= count <= total:
        raise ConfigError("coreset_count", count, f"an integer from 1 to {total}")
    if count == total:
        return torch.arange(total)
    # The whole permutation takes 8 bytes a patch for a moment; a copy lets go of it.
    return torch.randperm(total, generator=_generator(seed))[:count].clone()


def coreset(
    patches: Tensor,
    *,
    ratio: float | None = None,
    count: int | None = None,
    method: str = "kcenter",
    seed: int = 0,
) -> Tensor:
    """Choose patches that stand for all.

    ``kcenter`` is PatchCore's greedy k-centre: always take the patch farthest from those taken,
    starting with the one nearest to the mean, on a Gaussian random projection where patches are
    long. The AutoPatch reference chooses anew within every batch; this choice is made over all
    patches at once. ``random`` draws without replacement.

    Indices stand in order of choice, so that the first ones are the coreset of a smaller count.

    Args:
        patches: ``(M, D)``, without NaN.
        ratio: Kept share, above 0 and at most 1; rounded to a count of at least 1.
        count: Kept number from 1 to ``M``, instead of the ratio.
        method: ``kcenter`` or ``random``.
        seed: Of the projection or of the draw.

    Returns:
        int64 indices on the CPU, all different; 0 to ``M - 1`` if everything is kept.

    Raises:
        ConfigError: If an argument is out of range, or ratio and count are both given or missing.
        ValueError: If a value is NaN or infinite.
    """
    total = len(patches)
    if (ratio is None) == (count is None):
        raise ConfigError("coreset_ratio", ratio, "either a ratio or a count, not both")
    if ratio is not None:
        count = kept_count(total, ratio)
    if count is None or not 1 <= count <= total:
        raise ConfigError("coreset_count", count, f"an integer from 1 to {total}")
    if method not in ("kcenter", "random"):
        raise ConfigError("coreset_method", method, "'kcenter' or 'random'")
    if not torch.isfinite(patches).all():
        raise ValueError("patches hold NaN or infinite values")
    if count == total:
        return torch.arange(total)
    if method == "random":
        return draw(total, count, seed)
    return _k_center(_project(patches.detach().float(), _generator(seed)), count).cpu()


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _project(patches: Tensor, generator: torch.Generator) -> Tensor:
    """Project to 128 dimensions at most, which changes distances by about 6 %."""
    centred = patches - patches.mean(0)
    if patches.shape[1] <= _PROJECTED:
        return centred
    matrix = torch.randn(patches.shape[1], _PROJECTED, generator=generator) / _PROJECTED**0.5
    return torch.mm(centred, matrix.to(patches.device))


def _k_center(points: Tensor, count: int) -> Tensor:
    """Greedy k-centre on centred points, ``(M, d)``, in ``count`` passes over them."""
    norms = points.square().sum(1)
    nearest = torch.full_like(norms, math.inf)
    chosen = torch.empty(count, dtype=torch.int64, device=points.device)
    current = norms.argmin()
    for position in range(count):
        chosen[position] = current
        distances = torch.addmv(norms, points, points[current], alpha=-2).add_(norms[current])
        torch.minimum(nearest, distances, out=nearest)
        # A chosen point must not come up again where only its duplicates are left.
        nearest[current] = -math.inf
        current = nearest.argmax()
    return chosen
