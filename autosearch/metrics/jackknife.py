"""How far figures of a split would be off with other anomalous images: the jackknife.

The figure is computed anew without each of the ``n`` anomalous images in turn, all normal pixels
and images kept. With ``f_i`` without image i and their mean ``f``, the standard error is
``sqrt((n - 1) / n * sum((f_i - f) ** 2))`` (Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993, Eq. 11.5). It is NaN with fewer than two anomalous images.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autosearch.metrics.ranking import Ranking
from autosearch.metrics.truth import Floats, Truth, negative_weight

_STEPS = 4096
"""Most distinct scores; beyond, neighbouring ones are taken as tied, in all subsets alike."""


def rwap_error(ranking: Ranking, truth: Truth, prevalence: float | None = None) -> float:
    """Standard error of rwAP over the anomalous images that hold regions.

    Without an image its regions are gone and all others are weighed anew, as `Truth` weighs them;
    a type that no other image has is gone, too.

    Args:
        ranking: Of one trial.
        truth: The same that it was ranked against.
        prevalence: See `Ranking.rwap`.

    Returns:
        A number of at least 0; NaN with fewer than two such images, or, with a prevalence, without
        a normal pixel.
    """
    standing = ranking.standing
    owners = np.unique(truth.region_images)
    if len(owners) < 2 or (prevalence is not None and standing.negatives == 0):
        return float("nan")
    groups = len(standing.starts)
    steps = min(groups, _STEPS)
    coarse = np.arange(groups) * steps // groups
    ends = np.flatnonzero(np.append(coarse[1:] != coarse[:-1], True))
    alarms = (standing.above + standing.tied)[ends]
    # Step of each anomalous pixel, in the order of `Truth.regions`: that of its images, too.
    step = np.empty(truth.regions.size, dtype=np.intp)
    sizes = np.diff(np.append(standing.starts, truth.regions.size))
    step[standing.order] = np.repeat(coarse, sizes)
    gains = (1 / truth.areas)[truth.regions]
    owner = np.searchsorted(owners, truth.region_images)
    bounds = np.searchsorted(owner[truth.regions], np.arange(len(owners) + 1))
    shares = [
        np.bincount(step[start:stop], gains[start:stop], minlength=steps)
        for start, stop in itertools.pairwise(bounds.tolist())
    ]
    if prevalence is None:
        factor = None
    else:
        factor = float(negative_weight(1.0, standing.negatives, prevalence))
    found = _without_each(np.array(shares), _Images.of(truth, owners, owner), alarms, factor)
    return float(np.sqrt((len(found) - 1) / len(found) * ((found - found.mean()) ** 2).sum()))


@dataclass(frozen=True)
class _Images:
    """What images say of the weights of others' regions.

    Attributes:
        kinds: ``(n,)`` type of each image with regions, as a number.
        regions: ``(n,)`` how many it has.
        areas: ``(n,)`` pixels of all of them.
        of_kind: Images of each type of which some pixel counts, whether or not they have regions.
    """

    kinds: NDArray[np.intp]
    regions: NDArray[np.intp]
    areas: NDArray[np.int64]
    of_kind: NDArray[np.intp]

    @classmethod
    def of(cls, truth: Truth, owners: NDArray[np.int64], owner: NDArray[np.intp]) -> _Images:
        """Those of a split.

        Args:
            truth: Of the split.
            owners: ``(n,)`` indices of the images with regions.
            owner: ``(R,)`` place of each region's image among them.
        """
        anomalous = np.flatnonzero(truth.labels & truth.told)
        names = sorted({truth.types[i] for i in anomalous.tolist()})
        number = {name: place for place, name in enumerate(names)}
        kinds = np.array([number[truth.types[i]] for i in owners.tolist()], dtype=np.intp)
        of_kind = np.bincount([number[truth.types[i]] for i in anomalous.tolist()])
        areas = np.bincount(owner, truth.areas).astype(np.int64)
        return cls(kinds, np.bincount(owner), areas, of_kind)


def _without_each(shares: Floats, images: _Images, alarms: Floats, factor: float | None) -> Floats:
    """Without each image, rwAP: ``(n,)``.

    ``shares``, ``(n, G)``, is what an image's pixels add at each score, 1 / area of their region.
    A region's weight is ``(mean area / area) * (mean regions per type / regions of its type)``,
    where the number of all regions cancels. With a factor, normal pixels have that times the
    whole mass of the anomalous ones for weight.
    """
    kinds = len(images.of_kind)
    regions = np.bincount(images.kinds, images.regions, minlength=kinds)
    sums = np.zeros((kinds, shares.shape[1]))
    np.add.at(sums, images.kinds, shares)
    weighed = np.divide(sums, regions[:, None], out=np.zeros_like(sums), where=sums > 0)
    whole, found = weighed.sum(axis=0), np.empty(len(shares))
    for i, kind in enumerate(images.kinds.tolist()):
        left = regions[kind] - images.regions[i]
        gains = whole - weighed[kind]
        if left:
            gains = gains + (sums[kind] - shares[i]) / left
        types = kinds - (images.of_kind[kind] == 1)
        gains = np.maximum(gains, 0.0) * ((images.areas.sum() - images.areas[i]) / types)
        hits = np.cumsum(gains)
        false = alarms if factor is None else alarms * (factor * hits[-1])
        reached = np.divide(hits, hits + false, out=np.zeros_like(hits), where=hits > 0)
        found[i] = np.average(reached, weights=gains)
    return found


def auroc_error(scores: ArrayLike, labels: ArrayLike) -> float:
    """Standard error of the area under the ROC curve over the positives.

    The area is the mean over positives of the share of negatives below each, ties half, so the
    jackknife is the standard error of that mean.

    Args:
        scores: ``(n,)`` finite numbers, higher is more anomalous.
        labels: ``(n,)`` bool, true for anomalous.

    Returns:
        A number of at least 0; NaN with fewer than two positives or without a negative.
    """
    flat, truth = np.asarray(scores), np.asarray(labels, dtype=bool)
    positives, negatives = flat[truth], np.sort(flat[~truth])
    if positives.size < 2 or not negatives.size:
        return float("nan")
    below = np.searchsorted(negatives, positives, side="left")
    reached = np.searchsorted(negatives, positives, side="right")
    shares = (below + reached) / (2 * negatives.size)
    return float(shares.std(ddof=1) / np.sqrt(positives.size))
