"""What the ground truth of a split says: regions, and how much each of their pixels counts."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

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
        areas: ``(R,)`` int64, pixels per region; regions never cross images.
        region_images: ``(R,)`` int64, image that holds each region.
        region_weights: ``(R,)`` float64, rwAP's weight of each pixel of the region,
            ``(mean area / area) * (mean regions per type / regions of its type)``.
        types: ``anomaly_type`` per image.
        counted: ``(N, H, W)`` bool, false for pixels that no pixel metric knows of, such as
            padding; true wherever ``masks`` is. None where all count.
        valid: ``(N, H, W)`` bool, false for pixels that image scores do not know of either. It
            differs from ``counted`` in images that nobody marked: these have a score all the same.
            None where it is ``counted``.
    """

    masks: NDArray[np.bool_]
    labels: NDArray[np.bool_]
    regions: NDArray[np.int32]
    areas: NDArray[np.int64]
    region_images: NDArray[np.int64]
    region_weights: Floats
    types: tuple[str, ...]
    counted: NDArray[np.bool_] | None = None
    valid: NDArray[np.bool_] | None = None

    @classmethod
    def from_masks(
        cls,
        masks: NDArray[np.bool_],
        types: Sequence[str],
        regions: NDArray[np.int32] | None = None,
        normal: str = "good",
        counted: NDArray[np.bool_] | None = None,
        valid: NDArray[np.bool_] | None = None,
    ) -> Truth:
        """Find the regions of all masks and weigh them.

        Args:
            masks: ``(N, H, W)`` bool. Other types are refused: connected components of a float
                mask would be those of its truncated values.
            types: ``anomaly_type`` per image. A type all of whose regions vanished, say by
                resizing, still counts in the mean number of regions per type; one of whose images
                no pixel counts does not.
            regions: ``(N, H, W)`` integers, number of each anomalous pixel's region within its
                image, 0 where ``masks`` is false; None for the 8-connected regions of ``masks``.
            normal: The type of defect-free images; it takes no part in the weights.
            counted: ``(N, H, W)`` bool, false for pixels to be left out; None for none.
            valid: ``(N, H, W)`` bool, false for those that images are not scored by either; None
                for those of ``counted``.

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
        if counted is not None and (counted.shape != masks.shape or (masks & ~counted).any()):
            raise ValueError("counted: expected the shape of masks, and true wherever they are")
        if valid is not None and valid.shape != masks.shape:
            raise ValueError("valid: expected the shape of masks")
        found = _connected(masks) if regions is None else _renumbered(masks, regions)
        areas = np.bincount(found)
        images = np.zeros(areas.size, dtype=np.int64)
        images[found] = np.nonzero(masks)[0]
        kinds = [types[image] for image in images.tolist()]
        told = labels if counted is None else labels & counted.any(axis=(1, 2))
        known = set(itertools.compress(types, told.tolist()))
        weights = _region_weights(areas, kinds, known)
        return cls(masks, labels, found, areas, images, weights, tuple(types), counted, valid)

    def select(self, chosen: NDArray[np.bool_], normal: str = "good") -> Truth:
        """What is known of some of the images, weighed anew.

        Args:
            chosen: ``(N,)`` bool, true for those.
            normal: The type of defect-free images.
        """
        regions = np.zeros(self.masks.shape, dtype=np.int32)
        regions[self.masks] = self.regions + 1
        types = list(itertools.compress(self.types, chosen))
        counted, valid = (
            None if pixels is None else pixels[chosen] for pixels in (self.counted, self.valid)
        )
        masks, numbers = self.masks[chosen], regions[chosen]
        return Truth.from_masks(masks, types, numbers, normal, counted, valid)

    @property
    def scored(self) -> NDArray[np.bool_] | None:
        """``(N, H, W)`` bool, true for pixels that images are scored by, marked or not.

        None for all; so it is meant of an image that has none.
        """
        return self.counted if self.valid is None else self.valid

    @cached_property
    def told(self) -> NDArray[np.bool_]:
        """``(N,)`` bool, true for an image of which some pixel counts."""
        if self.counted is None:
            return np.ones(len(self.masks), dtype=bool)
        return np.asarray(self.counted.any(axis=(1, 2)))

    @cached_property
    def normal(self) -> NDArray[np.bool_]:
        """``(N, H, W)`` bool, true for a pixel that counts and is not anomalous."""
        return ~self.masks if self.counted is None else self.counted & ~self.masks

    @property
    def gap(self) -> str | None:
        """Why pixel metrics of this split are NaN, or None if all of them are defined."""
        if not self.masks.any():
            return "no anomalous pixel in the split"
        return None if self.normal.any() else "no normal pixel in the split"


def negative_weight(positives: ArrayLike, negatives: ArrayLike, prevalence: float) -> Any:
    """What a negative counts where positives are to be a share of the whole mass.

    Args:
        positives: Their mass, a number or an array.
        negatives: Theirs, above 0.
        prevalence: The share.

    Raises:
        ValueError: It does not lie in (0, 1).
    """
    if not 0 < prevalence < 1:
        raise ValueError(f"prevalence: {prevalence!r} is not allowed; expected one in (0, 1)")
    return np.divide(positives, negatives) * (1 / prevalence - 1)


def _connected(masks: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Region of each anomalous pixel, from 0 on: 8-connected, each within its image."""
    components, _ = scipy.ndimage.label(masks, structure=_EIGHT_NEIGHBOURS_WITHIN_AN_IMAGE)
    return np.asarray(components[masks] - 1, dtype=np.int32)


def _renumbered(masks: NDArray[np.bool_], regions: NDArray[np.int32]) -> NDArray[np.int32]:
    """The same of regions that are numbered anew, and with gaps, in each image."""
    if regions.shape != masks.shape or not np.array_equal(regions > 0, masks):
        raise ValueError("regions: expected numbers above 0 where masks are true, 0 elsewhere")
    within = regions[masks].astype(np.int64)
    keys = np.nonzero(masks)[0] * (within.max(initial=0) + 1) + within
    return np.unique(keys, return_inverse=True)[1].astype(np.int32)


def _region_weights(areas: NDArray[np.int64], kinds: list[str], all_kinds: set[str]) -> Floats:
    if not kinds:
        return np.zeros(0)
    regions_of = Counter(kinds)
    mean_regions = len(kinds) / len(all_kinds)
    balance = np.array([mean_regions / regions_of[kind] for kind in kinds])
    return np.asarray(areas.mean() / areas * balance, dtype=np.float64)
