"""What a dataset looks like in memory: arrays, never file handles, and never test labels."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

NORMAL = "good"
"""The ``anomaly_type`` of a defect-free image, as MVTec AD's folders name it."""

SYNTHETIC = "synthetic_"
"""How the ``anomaly_type`` of anomalies begins that were made for validation."""


@dataclass(frozen=True)
class ImageSet:
    """Images of one split, resized, with their ground truth.

    Arrays are numpy so that many worker processes can share one read-only copy.

    Attributes:
        pixels: ``(N, 3, H, W)`` float32 in [0, 1], RGB, not normalised.
        masks: ``(N, H, W)`` bool, true where anomalous.
        types: ``anomaly_type`` per image, `NORMAL` where defect-free.
        paths: Where each image came from, relative to the dataset's root.
        groups: ``group_id`` per image; images of one physical object share it.
    """

    pixels: NDArray[np.float32]
    masks: NDArray[np.bool_]
    types: tuple[str, ...]
    paths: tuple[str, ...]
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.types)

    @property
    def labels(self) -> NDArray[np.bool_]:
        """``(N,)`` bool, true for an image whose type is not `NORMAL`."""
        return np.array([kind != NORMAL for kind in self.types], dtype=bool)

    def select(self, wanted: NDArray[np.bool_]) -> ImageSet:
        """Those images for which ``wanted``, ``(N,)`` bool, is true; the set itself if for all."""
        if wanted.all():
            return self
        pixels, masks = self.pixels[wanted], self.masks[wanted]
        for array in (pixels, masks):
            array.setflags(write=False)
        types, paths, groups = (
            tuple(itertools.compress(values, wanted))
            for values in (self.types, self.paths, self.groups)
        )
        return ImageSet(pixels, masks, types, paths, groups)


@dataclass(frozen=True)
class SearchData:
    """All that a trial may see: train and validation. There is no way from here to test data.

    Attributes:
        train: Images to fit on: defect-free, and labelled anomalous ones for a runner that learns
            from them.
        val: Defect-free and anomalous images that drive the search.
        info: What stands in reports: name, category, root, counts, ``sha256`` over the files
            used, resize and mask rules, anomalies per type, whether anomalies are synthetic.
    """

    train: ImageSet
    val: ImageSet
    info: dict[str, object] = field(default_factory=dict)
