"""Scores in a few steps that a browser can count with, exact at every step.

A map's scores become levels: how many of up to 255 rising edges a score reaches. So ``level >= k``
says the same as ``score >= edges[k - 1]``, and the threshold that was chosen is one of the edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autosearch.metrics import Floats, Scores, Truth

_EVEN, _QUANTILES, _SAMPLE = 128, 63, 1_000_000
_TAIL = 1e-5


@dataclass(frozen=True, eq=False)
class Levels:
    """Maps in steps, and how many pixels of each type reach each step.

    Attributes:
        edges: ``(E,)`` rising scores, at most 255.
        start: The level from 1 on whose edge is the threshold that was chosen.
        counts: By type of image ``anomalous`` and ``normal``: ``(E + 1,)`` pixels that count and
            whose level is 0 or more, 1 or more, and so on, at the size of the maps.
    """

    edges: Floats
    start: int
    counts: dict[str, dict[str, NDArray[np.int64]]]

    @classmethod
    def of(cls, maps: NDArray[np.float32], truth: Truth, threshold: float) -> Levels:
        """Choose edges, and count.

        Args:
            maps: ``(N, h, w)`` scores.
            truth: Of the same images.
            threshold: That is to be an edge.
        """
        edges = _edges(maps, truth, threshold)
        start = int(np.searchsorted(edges, threshold)) + 1
        size = len(edges) + 1
        counts = {
            kind: {name: np.zeros(size, np.int64) for name in ("anomalous", "normal")}
            for kind in dict.fromkeys(truth.types)
        }
        for one, kind, mask, normal in zip(
            maps, truth.types, truth.masks, truth.normal, strict=True
        ):
            levels = levels_of(one, edges)
            for name, chosen in (("anomalous", mask), ("normal", normal)):
                found = np.bincount(levels[chosen], minlength=size)
                counts[kind][name] += found[::-1].cumsum()[::-1]
        return cls(edges, start, counts)


@dataclass(frozen=True, eq=False)
class Cuts:
    """All thresholds of images that differ in what they call anomalous.

    Attributes:
        values: ``(C,)`` rising: midway between two neighbouring scores, the first calls all images
            anomalous, the last none; the threshold that was chosen stands for its like.
        start: The place of that one.
    """

    values: Floats
    start: int

    @classmethod
    def of(cls, scores: Scores, threshold: float) -> Cuts:
        """Those of ``(N,)`` scores."""
        known = np.unique(np.asarray(scores, dtype=np.float64))
        middles = known[:-1] / 2 + known[1:] / 2
        values = np.concatenate([known[:1], middles, [np.nextafter(known[-1], np.inf)]])
        # Of neighbouring numbers the middle may be the lower one, which would call it anomalous.
        values[1:-1] = np.where(middles > known[:-1], middles, known[1:])
        start = int(np.searchsorted(known, threshold))
        values[start] = threshold
        return cls(values, start)


def levels_of(scores: NDArray[np.floating[Any]], edges: Floats) -> NDArray[np.uint8]:
    """How many of the edges each score reaches; compared in float64, as decisions are."""
    found = np.searchsorted(edges, np.asarray(scores, dtype=np.float64), side="right")
    return found.astype(np.uint8)


def largest_in_cells(values: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The largest value of each cell of a picture that is made smaller.

    Nothing that stands out is lost, and it may grow by up to a cell.

    Args:
        values: ``(h, w)``.
        side: Cells along the longer side, at most; a smaller picture stays as it is.
    """
    scale = min(1.0, side / max(values.shape))
    rows, columns = (_begins(length, max(1, round(length * scale))) for length in values.shape)
    by_row: NDArray[np.uint8] = np.maximum.reduceat(values, rows, axis=0)
    return np.maximum.reduceat(by_row, columns, axis=1)


def _begins(length: int, cells: int) -> NDArray[np.intp]:
    """Where each of some cells begins."""
    return np.arange(cells) * length // cells


def _edges(maps: NDArray[np.float32], truth: Truth, threshold: float) -> Floats:
    """Half of them equally far apart, the others where scores of defects and high ones lie."""
    low, high = float(maps.min()), float(maps.max())
    found: list[Floats] = [np.linspace(low, high, _EVEN), np.array([threshold])]
    tail = 1 - np.geomspace(0.5, _TAIL, _QUANTILES)
    for chosen, shares in (
        (truth.masks, np.linspace(0, 1, _QUANTILES)),
        (truth.normal, tail),
    ):
        pixels = maps[chosen]
        if pixels.size:
            step = -(-pixels.size // _SAMPLE)
            found.append(np.quantile(pixels[::step].astype(np.float64), shares))
    return np.unique(np.concatenate(found))
