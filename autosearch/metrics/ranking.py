"""Pixel and image metrics of anomaly segmentation, exact under ties, in float64.

Every pooled metric depends only on where the scores of the anomalous pixels stand among the
scores of the normal ones. So normal scores are sorted by value alone, once per trial, and looked
up at each distinct anomalous score; what the masks determine is computed once per split.

Conventions: a higher score is more anomalous, and a pixel is called anomalous where
``score >= threshold``. Every metric lies in [0, 1] and is to be maximised. Scores that are NaN or
infinite raise `ValueError`. A metric that the labels leave undefined is NaN, as each one states.

Sources: rwAP is the region-weighted average precision of "Neural Architecture Search for Visual
Anomaly Segmentation" (AutoPatch), integrated in steps as its reference code does, not as its
Eq. 4 reads; AUPRO follows "The MVTec Anomaly Detection Dataset" (IJCV 2021), Sec. 5; the
standardised partial AUROC is McClish, "Analyzing a portion of the ROC curve" (1989); calibrated
average precision is that of Siblini et al., "Master your metrics with calibration" (IDA 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autosearch.metrics.truth import Floats, Scores, Truth, negative_weight


class BestF1(NamedTuple):
    """The largest F1 score and the threshold that reaches it."""

    f1: float
    threshold: float


@dataclass(frozen=True, eq=False)
class _Standing:
    """Where each distinct score of the positives stands among the negatives.

    Attributes:
        order: ``(P,)`` positives by falling score.
        starts: ``(G,)`` place in `order` where each group of equal scores begins.
        thresholds: ``(G,)`` the distinct scores, falling.
        above: ``(G,)`` mass of the negatives with a higher score.
        tied: ``(G,)`` mass of the negatives with the same score.
        negatives: Mass of all negatives.
    """

    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    thresholds: Scores
    above: Floats
    tied: Floats
    negatives: float

    @classmethod
    def of(
        cls, positives: Scores, negatives: Scores, negative_weights: Floats | None = None
    ) -> _Standing:
        """Rank positives among negatives; unweighted `negatives` must already be rising."""
        # A stable order makes the sums within ties the same on every machine.
        order = np.argsort(-positives, kind="stable")
        falling = positives[order]
        starts = np.flatnonzero(np.append(True, falling[1:] != falling[:-1])[: falling.size])
        thresholds = falling[starts]
        if negative_weights is not None:
            rising = np.argsort(negatives, kind="stable")
            negatives = negatives[rising]
            mass = np.append(0.0, np.cumsum(negative_weights[rising]))
        left = np.searchsorted(negatives, thresholds, side="left")
        right = np.searchsorted(negatives, thresholds, side="right")
        if negative_weights is None:
            total, below, reached = negatives.size, left, right
        else:
            total, below, reached = mass[-1], mass[left], mass[right]
        return cls(
            order,
            starts,
            thresholds,
            above=(total - reached).astype(np.float64),
            tied=(reached - below).astype(np.float64),
            negatives=float(total),
        )

    def gains(self, weights: Floats) -> Floats:
        """Sum the weights ``(P,)`` of the positives at each threshold: ``(G,)``."""
        if not self.order.size:
            return np.zeros(0)
        return np.add.reduceat(weights[self.order], self.starts, dtype=np.float64)

    def step_integral(self, gains: Floats, prevalence: float | None = None) -> float:
        """Sum of recall steps times the precision at the end of the same step.

        With a prevalence, one factor weighs all negatives so that positives are that share of the
        whole mass; then NaN without negatives.
        """
        # Thresholds at normal scores alone add no recall, so they need no term.
        if not gains.size or (prevalence is not None and self.negatives == 0):
            return float("nan")
        hits, alarms = np.cumsum(gains), self.above + self.tied
        if prevalence is not None:
            alarms *= negative_weight(hits[-1], self.negatives, prevalence)
        return float(np.average(hits / (hits + alarms), weights=gains))

    def mean_tpr(self, gains: Floats, max_fpr: float = 1.0) -> float:
        """Mean height of the linearly interpolated ROC curve up to `max_fpr`: area / `max_fpr`."""
        if not 0 < max_fpr <= 1:
            raise ValueError(f"max_fpr: {max_fpr!r} is not allowed; expected a rate in (0, 1]")
        if not gains.size or self.negatives == 0:
            return float("nan")
        # A group adds a ramp as wide as its tied negatives, then a plateau up to the limit.
        reach = np.clip(max_fpr - self.above / self.negatives, 0, None)
        ramp = self.tied / self.negatives
        width = reach - ramp / 2
        np.divide(reach**2, 2 * ramp, out=width, where=reach < ramp)
        return float(np.average(width / max_fpr, weights=gains))

    def best_f1(self, gains: Floats) -> BestF1:
        """The largest F1 over the thresholds; of equal ones, that of the highest."""
        if not gains.size:
            return BestF1(float("nan"), float("nan"))
        hits = np.cumsum(gains)
        f1 = 2 * hits / (hits + self.above + self.tied + hits[-1])
        best = int(np.argmax(f1))
        return BestF1(float(f1[best]), float(self.thresholds[best]))


@dataclass(frozen=True, eq=False)
class Ranking:
    """One trial's anomaly maps against a `Truth`: all that its pooled pixel metrics need.

    Attributes:
        standing: The anomalous scores among the normal ones.
        normal_scores: Scores of all normal pixels, rising.
        counts: ``(G,)`` anomalous pixels at each distinct anomalous score.
        region_gains: ``(G,)`` their summed region weights.
        overlap_gains: ``(G,)`` the summed shares by which they cover their regions.
    """

    standing: _Standing
    normal_scores: Scores
    counts: Floats
    region_gains: Floats
    overlap_gains: Floats

    @classmethod
    def from_maps(cls, maps: ArrayLike, truth: Truth) -> Ranking:
        """Rank the pixels of all images together.

        Args:
            maps: ``(N, H, W)`` anomaly maps at the resolution of the masks, any float type.
            truth: Ground truth of the same images.

        Raises:
            ValueError: If the shapes differ or a score is NaN or infinite.
        """
        scores = finite_scores("anomaly maps", maps)
        if scores.shape != truth.masks.shape:
            raise ValueError(
                f"anomaly maps: shape {scores.shape} is not allowed; "
                f"expected that of the masks, {truth.masks.shape}"
            )
        normal_scores = scores[truth.normal]
        normal_scores.sort()
        standing = _Standing.of(scores[truth.masks], normal_scores)
        return cls(
            standing,
            normal_scores,
            counts=standing.gains(np.ones(truth.regions.size)),
            region_gains=standing.gains(truth.region_weights[truth.regions]),
            overlap_gains=standing.gains((1 / truth.areas)[truth.regions]),
        )

    def ap(self, prevalence: float | None = None) -> float:
        """Average precision over pixels. NaN without an anomalous pixel.

        Args:
            prevalence: Share of anomalous pixels in (0, 1) that normal ones are weighed to, so
                that splits with other shares can be compared (calibrated AP; then NaN without a
                normal pixel too); None for the split's own share.
        """
        return self.standing.step_integral(self.counts, prevalence)

    def rwap(self, prevalence: float | None = None) -> float:
        """Region-weighted average precision. NaN without an anomalous pixel.

        Every anomalous pixel counts with its region's weight, every normal pixel with 1.

        Args:
            prevalence: See `ap`; the share is of the anomalous pixels' weight.
        """
        return self.standing.step_integral(self.region_gains, prevalence)

    def pixel_auroc(self) -> float:
        """Area under the pixel ROC curve, ties half. NaN unless both kinds of pixel exist."""
        return self.standing.mean_tpr(self.counts)

    def pauroc_norm(self, max_fpr: float = 0.3) -> float:
        """Area under the pixel ROC curve up to `max_fpr`, divided by `max_fpr`.

        A constant score gives ``max_fpr / 2``. NaN unless both kinds of pixel exist.
        """
        return self.standing.mean_tpr(self.counts, max_fpr)

    def pauroc_mcclish(self, max_fpr: float = 0.3) -> float:
        """Partial pixel AUROC rescaled so that chance gives 1/2 and perfection 1 (McClish).

        NaN unless both kinds of pixel exist.
        """
        chance = max_fpr**2 / 2
        area = max_fpr * self.standing.mean_tpr(self.counts, max_fpr)
        return 0.5 * (1 + (area - chance) / (max_fpr - chance))

    def aupro(self, max_fpr: float = 0.3) -> float:
        """Area under the per-region-overlap curve up to `max_fpr`, divided by `max_fpr`.

        The mean overlap over regions is a true-positive rate in which every region has the same
        mass, so this is the partial area of that ROC curve. The false-positive rate is over all
        normal pixels of the split. NaN unless both kinds of pixel exist.
        """
        return self.standing.mean_tpr(self.overlap_gains, max_fpr)

    def iou(self, threshold: float) -> float:
        """Intersection over union of ``score >= threshold`` with the masks, all images pooled.

        The threshold is rounded to the scores' own float type, as comparing arrays does.
        NaN without an anomalous pixel.

        Raises:
            ValueError: If the threshold is NaN.
        """
        if np.isnan(threshold):
            raise ValueError("threshold: nan is not allowed; expected a number")
        if not self.counts.size:
            return float("nan")
        at = self.normal_scores.dtype.type(threshold)
        false_alarms = self.normal_scores.size - np.searchsorted(self.normal_scores, at)
        hits = self.counts[self.standing.thresholds >= at].sum()
        return float(hits / (self.counts.sum() + false_alarms))

    def best_f1(self) -> BestF1:
        """Largest pixel F1 score; of equal ones, that of the highest threshold.

        The threshold is always the score of an anomalous pixel: any other decision can be made
        no worse by raising it to the next one. It also maximises the IoU. NaN without an
        anomalous pixel.
        """
        return self.standing.best_f1(self.counts)


def mean_image_iou(maps: ArrayLike, truth: Truth, threshold: float) -> float:
    """Mean over anomalous images of each one's intersection over union.

    Args:
        maps: ``(N, H, W)`` scores.
        truth: What is known of the split.
        threshold: From which score on a pixel is called anomalous.

    Returns:
        A value in [0, 1], higher is better; images whose masks are empty are left out. NaN if
        nothing remains.

    Raises:
        ValueError: If a score is NaN or infinite.
    """
    called = finite_scores("anomaly maps", maps) >= threshold
    masks = truth.masks
    if truth.counted is not None:
        called &= truth.counted
    chosen = masks.any(axis=(1, 2))
    if not chosen.any():
        return float("nan")
    hits = (called & masks)[chosen].sum(axis=(1, 2))
    union = (called | masks)[chosen].sum(axis=(1, 2))
    return float((hits / union).mean())


def average_precision(
    scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> float:
    """Average precision of flat scores, as a step integral with tied scores grouped.

    Args:
        scores: ``(n,)``, higher is more anomalous.
        labels: ``(n,)`` bool or 0/1, 1 for anomalous.
        weights: ``(n,)`` mass of each sample, not negative; all 1 if left out.

    Returns:
        A value in [0, 1], higher is better. NaN if no positive has mass.

    Raises:
        ValueError: If lengths differ, or an entry is not finite or not allowed.
    """
    standing, gains = _weighted_standing(scores, labels, weights)
    return standing.step_integral(gains)


def auroc(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve of flat scores; a tied pair counts half.

    Arguments and errors are those of `average_precision`.

    Returns:
        A value in [0, 1], higher is better. NaN unless both classes have mass.
    """
    standing, gains = _weighted_standing(scores, labels, weights)
    return standing.mean_tpr(gains)


def best_f1(scores: ArrayLike, labels: ArrayLike) -> BestF1:
    """Largest F1 score of flat scores, over all thresholds; of equal ones, the highest threshold.

    Arguments and errors are those of `average_precision`, without weights.

    Returns:
        An F1 in [0, 1], higher is better, and its threshold. Both NaN without a positive.
    """
    standing, gains = _weighted_standing(scores, labels, None)
    return standing.best_f1(gains)


def _weighted_standing(
    scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None
) -> tuple[_Standing, Floats]:
    flat = finite_scores("scores", scores)
    truth = np.asarray(labels)
    if flat.ndim != 1 or truth.shape != flat.shape:
        raise ValueError(
            f"labels: shape {truth.shape} for scores of shape {flat.shape}; "
            "expected both to be (n,)"
        )
    if not np.isin(truth, (0, 1)).all():
        raise ValueError("labels: values other than 0 and 1; expected bool or 0/1")
    positive = truth.astype(bool)
    if weights is None:
        standing = _Standing.of(flat[positive], np.sort(flat[~positive]))
        return standing, standing.gains(np.ones(int(positive.sum())))
    mass = np.asarray(weights, dtype=np.float64)
    if mass.shape != flat.shape or not np.isfinite(mass).all() or (mass < 0).any():
        raise ValueError("weights: expected one finite number >= 0 per score")
    positive, negative = positive & (mass > 0), ~positive & (mass > 0)
    standing = _Standing.of(flat[positive], flat[negative], mass[negative])
    return standing, standing.gains(mass[positive])


def finite_scores(name: str, scores: ArrayLike) -> Scores:
    """An array of floats.

    Raises:
        ValueError: If one is NaN or infinite; says how many are, of what `name` says.
    """
    array = np.asarray(scores)
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float64)
    finite = np.isfinite(array)
    if not finite.all():
        nans = int(np.isnan(array).sum())
        infinite = int(array.size - finite.sum()) - nans
        raise ValueError(
            f"{name}: {nans} NaN and {infinite} infinite of {array.size} scores; "
            "expected finite numbers"
        )
    return array
