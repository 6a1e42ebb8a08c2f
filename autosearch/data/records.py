"""What a dataset looks like in memory: arrays, never file handles, and never test labels."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

NORMAL = "good"
"""The ``anomaly_type`` of a defect-free image, as MVTec AD's folders name it."""


@dataclass(frozen=True)
class ImageSet:
    """Images of one split, resized, with their ground truth.

    Arrays are numpy so that many worker processes can share one read-only copy.

    Attributes:
        pixels: ``(N, 3, H, W)`` float32 in [0, 1], RGB, not normalised.
        masks: ``(N, h, w)`` bool, true where anomalous; of the size at which maps are measured,
            which need not be that of ``pixels``.
        types: ``anomaly_type`` per image, `NORMAL` where defect-free.
        paths: Where each image came from, relative to the dataset's root.
        groups: ``group_id`` per image; images of one physical object share it.
        made: Whether each image's anomaly was made for validation; empty where none was.
        regions: ``(N, h, w)`` int32, for each anomalous pixel the number, from 1 on, of its region
            within its image as labelled at the file's own resolution, 0 elsewhere; None where
            regions are those of ``masks``.
        valid: ``(N, h, w)`` bool, false in padding and where nothing is to be scored; None where
            all pixels count.
        unmarked: Whether each image is anomalous and nobody said where; empty where none is.
    """

    pixels: NDArray[np.float32]
    masks: NDArray[np.bool_]
    types: tuple[str, ...]
    paths: tuple[str, ...]
    groups: tuple[str, ...]
    made: tuple[bool, ...] = ()
    regions: NDArray[np.int32] | None = None
    valid: NDArray[np.bool_] | None = None
    unmarked: tuple[bool, ...] = ()

    def __len__(self) -> int:
        return len(self.types)

    @property
    def labels(self) -> NDArray[np.bool_]:
        """``(N,)`` bool, true for an image whose type is not `NORMAL`."""
        return np.array([kind != NORMAL for kind in self.types], dtype=bool)

    @property
    def synthetic(self) -> NDArray[np.bool_]:
        """``(N,)`` bool, true for an image whose anomaly was made for validation."""
        return np.array(self.made or [False] * len(self), dtype=bool)

    @property
    def marked(self) -> NDArray[np.bool_]:
        """``(N,)`` bool, true for an image of which every pixel's label is known."""
        return ~np.array(self.unmarked or [False] * len(self), dtype=bool)

    @property
    def counted(self) -> NDArray[np.bool_] | None:
        """``(N, h, w)`` bool, true where a pixel is valid and its label known; None for all."""
        if self.marked.all():
            return self.valid
        known = self.marked[:, None, None]
        return np.broadcast_to(known, self.masks.shape) if self.valid is None else self.valid & known

    def select(self, wanted: NDArray[np.bool_]) -> ImageSet:
        """Those images for which ``wanted``, ``(N,)`` bool, is true; the set itself if for all."""
        if wanted.all():
            return self
        types, paths, groups = (
            tuple(itertools.compress(values, wanted))
            for values in (self.types, self.paths, self.groups)
        )
        made, unmarked = (
            tuple(itertools.compress(values, wanted)) for values in (self.made, self.unmarked)
        )
        regions = None if self.regions is None else self.regions[wanted]
        valid = None if self.valid is None else self.valid[wanted]
        pixels, masks = self.pixels[wanted], self.masks[wanted]
        chosen = ImageSet(pixels, masks, types, paths, groups, made, regions, valid, unmarked)
        return chosen.locked()

    def locked(self) -> ImageSet:
        """The same, after nobody can write to its arrays any more."""
        for array in (self.pixels, self.masks, self.regions, self.valid):
            if array is not None:
                array.setflags(write=False)
        return self


def join(*sets: ImageSet) -> ImageSet:
    """Several sets of the same size as one, in their order."""
    pixels, masks = (
        np.concatenate([getattr(part, name) for part in sets]) for name in ("pixels", "masks")
    )
    types, paths, groups = (
        tuple(value for part in sets for value in getattr(part, name))
        for name in ("types", "paths", "groups")
    )
    made = tuple(bool(value) for part in sets for value in part.synthetic)
    unmarked = tuple(not value for part in sets for value in part.marked)
    labelled = [part.regions for part in sets if part.regions is not None]
    regions = np.concatenate(labelled) if len(labelled) == len(sets) else None
    valid = None
    if any(part.valid is not None for part in sets):
        valid = np.concatenate([_all_valid(part) for part in sets])
    return ImageSet(pixels, masks, types, paths, groups, made, regions, valid, unmarked).locked()


def _all_valid(part: ImageSet) -> NDArray[np.bool_]:
    return np.ones(part.masks.shape, dtype=bool) if part.valid is None else part.valid


@dataclass(frozen=True)
class SearchData:
    """All that a trial may see: train and validation. There is no way from here to test data.

    Attributes:
        train: Images to fit on: defect-free, and labelled anomalous ones for a runner that learns
            from them.
        val: Defect-free and anomalous images that drive the search.
        info: What stands in reports: name, category, root, counts, ``sha256`` over the files
            used, resize and mask rules, anomalies per type, whether anomalies are synthetic.
        files: What ``sha256`` is over, a line for each file: split, name relative to the root and
            hashes, with NUL between them.
    """

    train: ImageSet
    val: ImageSet
    info: dict[str, object] = field(default_factory=dict)
    files: tuple[str, ...] = ()
