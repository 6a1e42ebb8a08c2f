"""What the ground truth of a split says: regions, and how much each of their pixels counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float64]
Scores = NDArray[np.floating[Any]]

_EIGHT_NEIGHBOURS_WITHIN_AN_IMAGE = np.zeros((3, 3, 3), dtype=bool)
_EIGHT_NEIGHBOURS_WITHIN_AN_IMAGE[1] = True


@dataclass(frozen=True, eq=False)
class Truth:
    """What the ground truth of one split says, computed once and shared by all trials.

    Attributes:
        masks: ``(N, H, W)`` bool, true where anomalous.
        labels: ``(N,)`` bool, true for an anomalous image, even if its mask is empty.
        regions: ``(P,)`` int32, region of each anomalous pixel, in the order of ``scores[masks]``.
        areas: ``(R,)`` int64, pixels per region; regions are 8-connected and never cross images.
        region_images: ``(R,)`` int64, image that holds each region.
        region_weights: ``(R,)`` float64, rwAP's weight of each pixel of the region,
            ``(mean area / area) * (mean regions per type / regions of its type)``.
    """

    masks: NDArray[np.bool_]
    labels: NDArray[np.bool_]
    regions: NDArray[np.int32]
    areas: NDArray[np.int64]
    region_images: NDArray[np.int64]
    region_weights: Floats

    @classmethod
    def from_masks(
        cls, masks: NDArray[np.bool_], types: Sequence[str], normal: str = "good"
    ) -> Truth:
        """Find the regions of all masks and weigh them.

        Args:
            masks: ``(N, H, W)`` bool. Other types are refused: connected components of a float
                mask would be those of its truncated values.
            types: ``anomaly_type`` per image. A type all of whose regions vanished, say by
                resizing, still counts in the mean number of regions per type.
            normal: The type of defect-free images; it takes no part in the weights.

        Raises:
            ValueError: If shapes or types do not fit, or a normal image has anomalous pixels.
        """
        masks = np.ascontiguousarray(masks)
        if masks.dtype != np.bool_ or masks.ndim != 3:
            raise ValueError(
                f"masks: {masks.dtype} of shape {masks.shape} is not allowed; "
                "expected bool of shape (N, H, W)"
            )
        if len(types) != len(masks):
            raise ValueError(f"types: {len(types)} for {len(masks)} masks; expected one per mask")
        labels = np.array([kind != normal for kind in types], dtype=bool)
        mislabelled = np.flatnonzero(masks.any(axis=(1, 2)) & ~labels)
        if mislabelled.size:
            raise ValueError(
                f"masks: images {mislabelled.tolist()} are of type {normal!r} but have anomalous "
                "pixels; expected empty masks"
            )
        components, count = ndimage.label(masks, structure=_EIGHT_NEIGHBOURS_WITHIN_AN_IMAGE)
        regions = components[masks].astype(np.int32) - np.int32(1)
        areas = np.bincount(regions, minlength=count)
        images = np.zeros(count, dtype=np.int64)
        images[regions] = np.nonzero(masks)[0]
        weights = _region_weights(areas, [types[image] for image in images], set(types) - {normal})
        return cls(masks, labels, regions, areas, images, weights)

    @property
    def gap(self) -> str | None:
        """Why pixel metrics of this split are NaN, or None if all of them are defined."""
        if not self.masks.any():
            return "no anomalous pixel in the split"
        return "no normal pixel in the split" if self.masks.all() else None


def _region_weights(areas: NDArray[np.int64], kinds: list[str], all_kinds: set[str]) -> Floats:
    if not kinds:
        return np.zeros(0)
    regions_of = Counter(kinds)
    mean_regions = len(kinds) / len(all_kinds)
    balance = np.array([mean_regions / regions_of[kind] for kind in kinds])
    return np.asarray(areas.mean() / areas * balance, dtype=np.float64)
