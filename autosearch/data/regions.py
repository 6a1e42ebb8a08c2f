"""Regions of a ground-truth mask, labelled at the size of its file and carried down to images.

Resizing a mask first and labelling it then would split thin regions and lose small ones. Here
each cell of the resized image belongs to one region of the file, and every region keeps a cell.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from autosearch.data.images import MaskRule, extent, nearest

RegionRule = Literal["source", "resized"]

REGION_RULES: dict[RegionRule, str] = {
    "source": "8-connected at the size of the file, each kept as one and given a cell at least",
    "resized": "8-connected in the resized mask, where thin ones fall apart and small ones vanish",
}

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


class Regions(NamedTuple):
    """Regions of one resized mask.

    Attributes:
        labels: ``(H, W)`` int32, number of each cell's region from 1 on, 0 where normal.
        lost: Regions without a cell of their own: where more of them meet than there are cells,
            two fall together.
    """

    labels: NDArray[np.int32]
    lost: int


class _Overlaps(NamedTuple):
    """Pixels that a region has in a cell, by region and then by falling number of pixels.

    Attributes:
        regions: ``(K,)`` rising.
        cells: ``(K,)`` flat index of a cell.
        pixels: ``(K,)`` pixels of the region that overlap the cell.
    """

    regions: NDArray[np.int64]
    cells: NDArray[np.int64]
    pixels: NDArray[np.int64]


def label_regions(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """8-connected regions of an ``(H, W)`` bool mask, numbered from 1 on; 0 where it is false."""
    labels, _ = scipy.ndimage.label(mask, _EIGHT_NEIGHBOURS)
    return np.asarray(labels, dtype=np.int32)


def resize_regions(
    mask: NDArray[np.bool_], size: tuple[int, int], rule: MaskRule = "nearest"
) -> Regions:
    """Label the regions of a mask and carry the labels to another size.

    Args:
        mask: ``(H, W)`` bool at the size of the file.
        size: Height and width of the result in pixels.
        rule: ``nearest`` gives each cell the region of the source pixel nearest to its centre;
            ``any`` gives it to the region with most pixels in it. Either way, a region that got
            no cell is given one: of the cells that it overlaps, that with most of its pixels
            among those of no other region, else among those whose region keeps another.
    """
    return carry_regions(label_regions(mask), size, rule)


def carry_regions(
    labels: NDArray[np.int32], size: tuple[int, int], rule: MaskRule = "nearest"
) -> Regions:
    """Carry labels of regions, numbered without gaps, to another size; see `resize_regions`."""
    height, width = labels.shape
    rows, columns = size
    found = labels[np.ix_(nearest(height, rows), nearest(width, columns))].ravel()
    count = int(labels.max(initial=0))
    if rule == "nearest" and np.unique(found[found > 0]).size == count:
        return Regions(found.reshape(size), 0)
    overlaps = _overlaps(labels, size)
    if rule == "any":
        found = np.zeros_like(found)
        rising = np.argsort(overlaps.pixels, kind="stable")
        # Of several values for a cell, the last one stays.
        found[overlaps.cells[rising]] = overlaps.regions[rising]
    lost = _give_cells(found, overlaps, count)
    return Regions(found.reshape(size), lost)


def _overlaps(labels: NDArray[np.int32], size: tuple[int, int]) -> _Overlaps:
    rows, ys = _pairs(labels.shape[0], size[0])
    columns, xs = _pairs(labels.shape[1], size[1])
    count = size[0] * size[1]
    repeated = labels[np.ix_(ys, xs)]
    at = np.nonzero(repeated)
    keys = repeated[at].astype(np.int64) * count + rows[at[0]] * size[1] + columns[at[1]]
    distinct, pixels = np.unique(keys, return_counts=True)
    regions, cells = np.divmod(distinct, count)
    order = np.lexsort((cells, -pixels, regions))
    return _Overlaps(regions[order], cells[order], pixels[order])


def _pairs(length: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cells and source indices of an axis that overlap each other."""
    first, past = extent(length, size)
    widths = past - first
    cells = np.repeat(np.arange(size), widths)
    within = np.arange(widths.sum()) - np.repeat(widths.cumsum() - widths, widths)
    return cells, np.repeat(first, widths) + within


def _give_cells(found: NDArray[np.int32], overlaps: _Overlaps, count: int) -> int:
    """Give each region that has none a cell of ``found``, in place; how many remain without."""
    owned = np.bincount(found, minlength=count + 1)
    missing = np.flatnonzero(owned[1:] == 0) + 1
    starts = np.searchsorted(overlaps.regions, [missing, missing + 1])
    for region, start, stop in zip(missing, *starts, strict=True):
        cells = overlaps.cells[start:stop]
        holders = found[cells]
        choice = [*cells[holders == 0], *cells[(holders > 0) & (owned[holders] > 1)]]
        if choice:
            owned[found[choice[0]]] -= 1
            owned[region] += 1
            found[choice[0]] = region
    if (owned[1:] > 0).all():
        return 0
    # Where even that leaves one without, all move together, if there are cells enough at all.
    graph = scipy.sparse.csr_array(
        (np.ones(overlaps.cells.size, dtype=bool), (overlaps.regions - 1, overlaps.cells)),
        shape=(count, found.size),
    )
    matched = scipy.sparse.csgraph.maximum_bipartite_matching(graph, perm_type="column")
    housed = np.flatnonzero(matched >= 0)
    found[matched[housed]] = housed + 1
    return count - np.unique(found[found > 0]).size
