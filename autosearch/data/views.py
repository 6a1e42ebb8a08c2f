"""What is seen of one image, and where it lies on the canvas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autosearch.data.boxes import Box, Size, cut
from autosearch.data.regions import label_regions
from autosearch.data.turning import Turn, upright_regions

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class View:
    """What is seen of one image, and where.

    Attributes:
        shape: Height and width of the file.
        source: The part that is seen, in pixels of the file; may reach beyond it. Of a turned
            image, all of the upright picture.
        target: Where that part lies on the canvas; the rest is padding.
        counted: ``(h, w)`` bool of the file's size, true where pixels count; None for all.
        shown: ``(h, w)`` bool of the file's size, false where background stands instead of the
            photograph; None if it stands nowhere.
        object: The object's box in the same pixels as ``source``; None where none was looked for
            or found.
        turn: How the upright picture lies on the file; None where nothing is turned.
        beyond: RGB that stands beyond the file and in padding; None for what is usual there.
    """

    shape: Size
    source: Box
    target: Box
    counted: Mask | None = None
    shown: Mask | None = None
    object: Box | None = None
    turn: Turn | None = None
    beyond: tuple[float, ...] | None = None

    def cut(self, mask: Mask) -> Mask:
        """The part of a file's ``(h, w)`` mask that is seen; nothing is true beyond the file."""
        if self.turn is not None:
            return np.asarray(self.turn.upright(mask, self.source.size))
        return np.asarray(cut(mask[None], self.source)[0])

    def regions_of(self, mask: Mask) -> NDArray[np.int32]:
        """Regions of the part of a mask that is seen and counts, numbered from 1 on."""
        mask = self._counted(mask)
        if self.turn is not None:
            return upright_regions(mask, self.turn, self.source.size)
        return label_regions(self.cut(mask))

    def part_of(self, mask: Mask) -> Mask:
        """The part of a mask that is seen and counts; turning loses no region."""
        if self.turn is not None:
            return self.regions_of(mask) > 0
        return self.cut(self._counted(mask))

    def seen(self, mask: Mask) -> bool:
        """Whether anything of a file's ``(h, w)`` mask is seen and counts."""
        # Quick, except for a region that the nearest pixels miss.
        return bool(self.cut(self._counted(mask)).any() or self.part_of(mask).any())

    def _counted(self, mask: Mask) -> Mask:
        return mask if self.counted is None else mask & self.counted

    @property
    def whole_object(self) -> bool:
        """Whether all of the object is seen, if there is one."""
        return self.object is None or self.object.meet(self.source) == self.object

    @property
    def known(self) -> Mask:
        """``(h, w)`` bool of the file's size, true where pixels are seen and count."""
        if self.turn is None:
            known = np.zeros(self.shape, dtype=bool)
            known[self.source.meet(Box.whole(self.shape)).slices] = True
        else:
            known = self.turn.laid_back(np.ones(self.source.size, dtype=bool), self.shape)
        return known if self.counted is None else known & self.counted
