"""Pareto dominance: fronts, hypervolume and the knee, for any mix of directions.

``values`` is ``(N, M)``, one row per trial and one column per objective; ``directions`` names
``"minimize"`` or ``"maximize"`` per column. A row with a NaN or infinite value was not measured:
it never belongs to a front and adds no volume.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

_SIGNS = {"minimize": 1.0, "maximize": -1.0}


def front(values: ArrayLike, directions: Sequence[str]) -> Indices:
    """Rows that no other row dominates.

    A row dominates another if it is nowhere worse and somewhere better. Of equal rows the first
    is kept.

    Returns:
        Indices of the rows, rising.

    Raises:
        ValueError: If `values` is not ``(N, M)`` or `directions` does not fit it.
    """
    costs = _costs(values, directions)
    finite = np.flatnonzero(np.isfinite(costs).all(axis=1))
    return np.sort(finite[_non_dominated(costs[finite])])


def hypervolume(values: ArrayLike, reference: ArrayLike, directions: Sequence[str]) -> float:
    """Exact volume that the rows dominate, up to a reference point.

    Quick for two and three objectives; the time grows steeply with each further one.

    Args:
        values: ``(N, M)``.
        reference: ``(M,)``, the worst values of interest. Rows that are not better than it in
            every objective add nothing.
        directions: Per objective.

    Returns:
        The volume in the product of the objectives' units, at least 0; higher is better.

    Raises:
        ValueError: If shapes or directions do not fit, or the reference is not finite.
    """
    costs = _costs(values, directions)
    limit = _costs(np.atleast_2d(np.asarray(reference, dtype=np.float64)), directions)
    if limit.shape[0] != 1 or not np.isfinite(limit).all():
        raise ValueError(f"reference: {reference!r} is not allowed; expected one finite point")
    gains = limit - costs[np.isfinite(costs).all(axis=1)]
    gains = gains[(gains > 0).all(axis=1)]
    return _volume(gains[_non_dominated(-gains)])


def knee(values: ArrayLike, directions: Sequence[str]) -> int | None:
    """Row of the front where giving up a little of one objective stops buying much of the other.

    Both objectives are scaled to [0, 1] over the front; the knee lies farthest from the line
    between the two extremes, on the side of the better values. If no row lies on that side it is
    an extreme. Of equally far rows the first is taken.

    Args:
        values: ``(N, 2)``.
        directions: Of the two objectives.

    Returns:
        Index of the row, or None if the front is empty.

    Raises:
        ValueError: If there are not two objectives or directions do not fit.
    """
    costs = _costs(values, directions)
    if costs.shape[1] != 2:
        raise ValueError(f"values: {costs.shape[1]} objectives; a knee is defined for two")
    members = front(values, directions)
    if not members.size:
        return None
    candidates = costs[members]
    span = np.ptp(candidates, axis=0)
    if not span.all():
        return int(members[0])
    scaled = (candidates - candidates.min(axis=0)) / span
    return int(members[np.argmax(1 - scaled.sum(axis=1))])


def _costs(values: ArrayLike, directions: Sequence[str]) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != len(directions) or not directions:
        raise ValueError(
            f"values: shape {array.shape} with {len(directions)} directions; "
            "expected (N, M) with M >= 1 directions"
        )
    unknown = [name for name in directions if name not in _SIGNS]
    if unknown:
        raise ValueError(f"directions: {unknown[0]!r} is not allowed; expected {list(_SIGNS)}")
    costs: Floats = array * np.array([_SIGNS[name] for name in directions])
    return costs


def _non_dominated(costs: Floats) -> Indices:
    """Find the non-dominated rows of finite costs ``(N, M)``, in lexicographic order."""
    # Nothing that comes later in this order is better in the first column, so nothing dominates
    # what comes earlier; equal rows stay in their own order.
    order: Indices = np.lexsort(costs.T[::-1])
    later = costs[order, 1:]
    if later.shape[1] == 1:
        best_before = np.append(np.inf, np.minimum.accumulate(later[:, 0])[:-1])
        staircase: Indices = order[later[:, 0] < best_before[: order.size]]
        return staircase
    if later.shape[1] == 2:
        return order[_sweep(later)]
    kept = []
    while order.size:
        kept.append(order[0])
        unbeaten = (later < later[0]).any(axis=1)
        order, later = order[unbeaten], later[unbeaten]
    return np.array(kept, dtype=np.intp)


def _sweep(later: Floats) -> list[int]:
    """Places of the rows ``(N, 2)`` to which no earlier row is at least equal in both columns.

    The rows kept so far that matter form a staircase, rising in one column and falling in the
    other, so each row is decided by one look-up (Kung, Luccio and Preparata, 1975).
    """
    rising, falling, kept = [-np.inf], [np.inf], []
    for place, (first, second) in enumerate(later.tolist()):
        start = end = bisect_right(rising, first)
        if falling[start - 1] <= second:
            continue
        kept.append(place)
        while end < len(falling) and falling[end] >= second:
            end += 1
        rising[start:end], falling[start:end] = [first], [second]
    return kept


def _volume(gains: Floats) -> float:
    """Volume of the union of the boxes from the origin to each row of ``(F, M)``, all positive."""
    if not gains.size:
        return 0.0
    if gains.shape[1] == 1:
        return float(gains.max())
    gains = gains[np.argsort(-gains[:, -1], kind="stable")]
    # Slabs between consecutive values of the last objective; the section of a slab is the union
    # of the boxes that reach through it.
    depths = gains[:, -1] - np.append(gains[1:, -1], 0.0)
    if gains.shape[1] == 2:
        return float(depths @ np.maximum.accumulate(gains[:, 0]))
    section, total = np.empty((0, gains.shape[1] - 1)), 0.0
    for row, depth in zip(gains[:, :-1], depths, strict=True):
        section = np.vstack([section, row])
        section = section[_non_dominated(-section)]
        total += float(depth) * _volume(section)
    return total
