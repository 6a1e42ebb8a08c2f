"""Thinning: patches that lie close together are dropped by chance, until few enough are left.

After SuperADD (arXiv 2605.14808): many rounds, each on a random part of the patches, so that no
round compares more than a hundredth of them with each other.
"""

from __future__ import annotations

import torch
from torch import Tensor

_ROUNDS = 100
"""Random parts that are thinned, each of a hundredth of the patches."""
_NEIGHBOURS = 100
"""Nearest patches of a round, the patch itself among them, that are counted."""
_FIRST, _WIDER = 0.1, 1.1
"""The first radius as a share of the mean distance to these, and what it is multiplied with."""
_DISTANCES = 1 << 22
"""Distances that are held at a time: 16 MB."""


def thin(patches: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Choose patches, those of dense places less often.

    A hundred times a hundredth of the patches that are not kept yet is drawn, and thinned to a
    hundredth of the count (see `thinned`). What is then missing is drawn at random. Of fewer than
    a hundred wanted patches there are as many rounds.

    Args:
        patches: ``(M, D)``, without NaN.
        count: Kept number, from 1 to ``M - 1``.
        generator: Of all draws, on the CPU.

    Returns:
        ``(count,)`` int64 indices on the CPU, all different, in the order in which they were kept.
    """
    points = patches.detach().float()
    points = points - points.mean(0)
    rounds = min(_ROUNDS, count)
    size, share = len(points) // rounds, count // rounds
    left = torch.ones(len(points), dtype=torch.bool)
    chosen = []
    for _ in range(rounds):
        some = left.nonzero()[:, 0]
        some = some[torch.randperm(len(some), generator=generator)[:size]]
        draws = torch.rand(len(some), generator=generator)
        kept = some[thinned(points[some.to(points.device)], share, draws)]
        left[kept] = False
        chosen.append(kept)
    found = torch.cat(chosen)
    others = left.nonzero()[:, 0]
    order = torch.randperm(len(others), generator=generator)
    return torch.cat([found, others[order[: count - len(found)]]])


def thinned(points: Tensor, most: int, draws: Tensor) -> Tensor:
    """Which points of one round are kept.

    Of a point with ``n`` of its hundred nearest, itself among them, within a radius the chance is
    ``1 / (1 + n)``. The radius begins with a tenth of the mean distance to these and is widened
    by a tenth until no more than ``most`` points are left. Where that does not come about, since
    chances cannot fall further, those of the lowest draws are kept.

    Args:
        points: ``(m, D)``.
        most: Points that may be left.
        draws: ``(m,)`` numbers in [0, 1): a point is kept if its own is below its chance.

    Returns:
        ``(k,)`` int64 indices on the CPU, at most ``most``, rising.
    """
    nearest = _nearest(points)
    radius = _FIRST * nearest.mean()
    while True:
        chances = 1 / (1 + (nearest < radius).sum(1))
        kept = (draws < chances).nonzero()[:, 0]
        if len(kept) <= most:
            return kept
        if radius >= nearest.max():
            return kept[draws[kept].argsort()[:most]].sort().values
        radius = radius * _WIDER


def _nearest(points: Tensor) -> Tensor:
    """``(m, k)`` distances to the nearest points, on the CPU."""
    wanted, step = min(_NEIGHBOURS, len(points)), max(1, _DISTANCES // len(points))
    found = [
        torch.cdist(part, points).topk(wanted, largest=False).values
        for part in torch.split(points, step)
    ]
    return torch.cat(found).cpu()
