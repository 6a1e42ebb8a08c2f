"""The object in a photograph, found at a reduced size, and its place in the file."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autosearch.data.boxes import Box, Size
from autosearch.data.foreground import foreground_mask
from autosearch.data.images import resize, resize_mask

_LONGEST = 512
"""Longer side of the copy on which an object is looked for: bounds time and memory."""
_MARGIN = 0.05
"""Around an object that is cut out, as a share of its longer side."""


class Found(NamedTuple):
    """An object.

    Attributes:
        mask: ``(h, w)`` bool of the image's size, true on it.
        box: That holds it, with as much around as the mask may be off.
        small: The mask on the reduced copy that it was found on.
    """

    mask: NDArray[np.bool_]
    box: Box
    small: NDArray[np.bool_]


def find_object(
    image: NDArray[np.float32], marked: NDArray[np.bool_] | None = None
) -> Found | None:
    """Find what stands out from the border of an image; see `foreground_mask`.

    Args:
        image: ``(3, h, w)`` float32 RGB in [0, 1].
        marked: ``(h, w)``, true on an object that somebody marked, so that none is looked for.

    Returns:
        The object, or None where none stands out, or nothing or everything is marked.
    """
    size = (image.shape[1], image.shape[2])
    scale = max(1.0, max(size) / _LONGEST)
    reduced = (max(1, round(size[0] / scale)), max(1, round(size[1] / scale)))
    if marked is not None:
        if marked.all() or not marked.any():
            return None
        # With every cell that it touches, so that nothing is lost of it.
        return Found(marked, Box.around(marked), resize_mask(marked, reduced, "any"))
    mask = foreground_mask(image if reduced == size else resize(image, reduced))
    if mask.all():
        return None
    small = mask
    if reduced != size:
        mask = resize_mask(mask, size)
    # The mask is right to a pixel of the copy.
    box = Box.around(mask).grown(int(np.ceil(scale)), Box.whole(size))
    return Found(mask, box, small)


def with_margin(box: Box, area: Box) -> Box:
    """An object's box as it is cut out of an area."""
    return box.grown(round(_MARGIN * max(box.size)), area)


def largest(boxes: list[Box]) -> Size:
    """Greatest height and greatest width of boxes, which need not be of the same one."""
    heights, widths = zip(*(box.size for box in boxes), strict=True)
    return max(heights), max(widths)
