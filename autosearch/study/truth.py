"""The ground truth of a split, with the regions that it was read with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autosearch.data import NORMAL, ImageSet
from autosearch.metrics import Truth


def truth_of(images: ImageSet, chosen: NDArray[np.intp] | None = None) -> Truth:
    """What metrics need to know of a split, or of some of its images.

    Args:
        images: The split.
        chosen: ``(M,)`` positions of the images; None for all.
    """
    if chosen is None:
        return Truth.from_masks(images.masks, images.types, images.regions, NORMAL)
    regions = None if images.regions is None else images.regions[chosen]
    types = [images.types[i] for i in chosen]
    return Truth.from_masks(images.masks[chosen], types, regions, NORMAL)
