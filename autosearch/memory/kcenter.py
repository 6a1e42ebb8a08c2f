"""Coresets: few patches that stand for all of a memory bank."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from autosearch.errors import ConfigError
from autosearch.memory.thinning import thin

_PROJECTED = 128
_HELD = 1024
"""Points that are chosen among at a time, 0.5 MB: more leave the cache, fewer are soon spent."""
_PRODUCTS = 1 << 20
"""Products with what was chosen that are held at a time: 4 MB."""


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
    # The whole permutation takes 4 bytes a patch for a moment; a copy lets go of it. It is the
    # same with numbers of either length.
    short = torch.int32 if total < 2**31 else torch.int64
    return torch.randperm(total, generator=_generator(seed), dtype=short)[:count].long()


def draw_at_places(there: Tensor, count: int, seed: int = 0) -> Tensor:
    """Draw images for every place, before any patch is computed; each place on its own.

    Args:
        there: ``(I, P)`` bool, true where a place of an image may be kept.
        count: Most images of a place.
        seed: Of the draw.

    Returns:
        ``(I, P)`` bool, true for what is kept: ``count`` images of a place, or all that there are.
    """
    if count >= len(there):
        return there.clone()
    numbers = torch.rand(there.shape, generator=_generator(seed)).masked_fill_(~there, 2)
    first = numbers.topk(count, dim=0, largest=False).indices
    return torch.zeros_like(there).scatter_(0, first, True) & there


def coreset_at_places(patches: Tensor, places: Tensor, count: int, seed: int = 0) -> Tensor:
    """Choose patches that stand for all of their place: `coreset` of every place, all at once.

    Args:
        patches: ``(M, D)``, without NaN.
        places: ``(M,)`` number of each one's place, from 0 on.
        count: Most patches of a place.
        seed: Of the projection.

    Returns:
        int64 indices on the CPU, all different, rising.
    """
    places = places.to(patches.device)
    counts = torch.bincount(places)
    order = places.argsort(stable=True)
    within = torch.arange(len(places), device=places.device)
    within -= (counts.cumsum(0) - counts)[places[order]]
    points = _project(patches.detach().float(), _generator(seed))
    most = int(counts.max())
    spread = points.new_zeros(len(counts), most, points.shape[1])
    spread[places[order], within] = points[order]
    missing = torch.arange(most, device=places.device) >= counts[:, None]
    means = spread.sum(1, keepdim=True) / counts.clamp(min=1)[:, None, None]
    chosen = _k_center_each((spread - means).masked_fill_(missing[..., None], 0), missing, count)
    return order[chosen[places[order], within]].sort().values.cpu()


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
    patches at once. ``random`` draws without replacement. ``thinning`` is SuperADD's: patches of
    dense places are dropped by chance; see `autosearch.memory.thinning`.

    Indices stand in order of choice, so that the first ones are the coreset of a smaller count,
    but for ``thinning``.

    Args:
        patches: ``(M, D)``, without NaN.
        ratio: Kept share, above 0 and at most 1; rounded to a count of at least 1.
        count: Kept number from 1 to ``M``, instead of the ratio.
        method: ``kcenter``, ``random`` or ``thinning``.
        seed: Of the projection or of the draws.

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
    if method not in ("kcenter", "random", "thinning"):
        raise ConfigError("coreset_method", method, "'kcenter', 'random' or 'thinning'")
    if not torch.isfinite(patches).all():
        raise ValueError("patches hold NaN or infinite values")
    if count == total:
        return torch.arange(total)
    if method == "random":
        return draw(total, count, seed)
    if method == "thinning":
        return thin(patches, count, _generator(seed))
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
    """Greedy k-centre on centred points, ``(M, d)``: ``(count,)`` indices in order of choice.

    A step needs no more than the farthest point, and distances to what is chosen only ever fall.
    So those that lie farthest are held in cache, and chosen among for as long as one of them lies
    no nearer than all others did; then all points meet what was chosen since, in one matrix
    product. A pass over all of them for each step would wait for their memory most of the time.
    """
    norms = points.square().sum(1)
    nearest = torch.full_like(norms, math.inf)
    chosen = torch.empty(count, dtype=torch.int64, device=points.device)
    chosen[0] = norms.argmin()
    met, done = 0, 1
    # Memory of a GPU is fast, and to ask it how far something lies takes longer than a pass.
    held = _HELD if points.device.type == "cpu" else len(points)
    while done < count:
        _meet(nearest, points, norms, chosen[met:done])
        # A chosen point must not come up again where only its duplicates are left.
        nearest[chosen[met:done]] = -math.inf
        met = done
        if len(points) <= held:
            found = _farthest(points, norms, nearest, count - done)
        else:
            distances, far = nearest.topk(held + 1)
            others, far = distances[-1], far[:-1]
            own = _farthest(points[far], norms[far], distances[:-1], count - done, others)
            found = far[own]
        chosen[done : done + len(found)] = found
        done += len(found)
    return chosen


def _meet(nearest: Tensor, points: Tensor, norms: Tensor, chosen: Tensor) -> None:
    """Lower squared distances, ``(M,)``, to those to the nearest chosen point, in place."""
    centres, size = points[chosen], max(1, _PRODUCTS // len(chosen))
    for start in range(0, len(points), size):
        part = slice(start, start + size)
        products = torch.addmm(norms[chosen], points[part], centres.T, alpha=-2)
        distances = products.amin(1).add_(norms[part])
        torch.minimum(nearest[part], distances, out=nearest[part])


def _farthest(
    points: Tensor, norms: Tensor, nearest: Tensor, most: int, others: Tensor | None = None
) -> Tensor:
    """Choose the farthest of some points again and again.

    Args:
        points: ``(m, d)``.
        norms: ``(m,)`` their squares.
        nearest: ``(m,)`` squared distances to what was chosen before; changed in place.
        most: Choices at most.
        others: Largest such distance of any other point: it ends where all these lie nearer.

    Returns:
        int64 indices in order of choice.
    """
    chosen = torch.empty(most, dtype=torch.int64, device=points.device)
    for position in range(most):
        current = nearest.argmax()
        if others is not None and nearest[current] < others:
            return chosen[:position]
        chosen[position] = current
        distances = torch.addmv(norms, points, points[current], alpha=-2).add_(norms[current])
        torch.minimum(nearest, distances, out=nearest)
        nearest[current] = -math.inf
    return chosen


def _k_center_each(points: Tensor, missing: Tensor, count: int) -> Tensor:
    """Greedy k-centre on many sets of centred points at once.

    Args:
        points: ``(P, m, d)``.
        missing: ``(P, m)`` bool, true for points that are none.
        count: Most that are chosen of a set.

    Returns:
        ``(P, m)`` bool, true for those chosen.
    """
    norms, every = points.square().sum(2), torch.arange(len(points), device=points.device)
    nearest = torch.full_like(norms, math.inf).masked_fill_(missing, -math.inf)
    chosen = torch.zeros_like(missing)
    current = norms.masked_fill(missing, math.inf).argmin(1)
    for _ in range(min(count, points.shape[1])):
        chosen[every, current] = True
        products = torch.bmm(points, points[every, current, :, None])[..., 0]
        distances = norms - 2 * products + norms[every, current, None]
        torch.minimum(nearest, distances, out=nearest)
        nearest[every, current] = -math.inf
        current = nearest.argmax(1)
    return chosen & ~missing
