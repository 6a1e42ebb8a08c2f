"""Rectangles in whole pixels, and what they cut out of an image."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]
"""``(height, width)`` in pixels."""


class Box(NamedTuple):
    """A rectangle in whole pixels; ``bottom`` and ``right`` are past its end."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> Size:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    @classmethod
    def whole(cls, size: Size) -> Box:
        """All of an area."""
        return cls(0, 0, *size)

    @classmethod
    def around(cls, mask: NDArray[np.bool_]) -> Box:
        """The smallest one that holds all that is true in ``(h, w)``; something must be."""
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        return cls(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Of an array of which it is a part."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def meet(self, other: Box) -> Box:
        """What it has in common with another; empty rather than inside out."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom, right = min(self.bottom, other.bottom), min(self.right, other.right)
        return Box(top, left, max(top, bottom), max(left, right))

    def within(self, outer: Box) -> Box:
        """The same in coordinates of a box that holds it."""
        return self.moved(-outer.top, -outer.left)

    def moved(self, down: int, across: int) -> Box:
        """The same elsewhere."""
        return Box(self.top + down, self.left + across, self.bottom + down, self.right + across)

    def grown(self, margin: int, area: Box) -> Box:
        """With a margin all around, as far as there is room in an area."""
        top, left, bottom, right = self
        return Box(top - margin, left - margin, bottom + margin, right + margin).meet(area)

    def centred(self, size: Size) -> Box:
        """A box of another size around the same centre, to half a pixel."""
        height, width = self.size
        top, left = self.top - (size[0] - height) // 2, self.left - (size[1] - width) // 2
        return Box(top, left, top + size[0], left + size[1])


def cut(image: NDArray[Any], box: Box, beyond: float = 0) -> NDArray[Any]:
    """A part of ``(C, h, w)``.

    Args:
        image: Any channels.
        box: The part; may reach beyond the image.
        beyond: What stands there.
    """
    whole = Box.whole((image.shape[1], image.shape[2]))
    if box == whole:
        return image
    inside = box.meet(whole)
    if inside == box:
        return image[:, *box.slices]
    part = np.full((len(image), *box.size), beyond, dtype=image.dtype)
    part[:, *inside.within(box).slices] = image[:, *inside.slices]
    return part
