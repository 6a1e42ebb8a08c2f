"""Bootstrap intervals of segmentation metrics over images, fast enough for a thousand resamples.

A resample draws images with replacement, so it is a number of copies per image. Pixels are sorted
once into bins of score, each image its own histograms; a resample's metrics then follow from
weighted sums of histograms, without sorting anything again.

Chosen scores of anomalous pixels have a bin each, and between two of them lies another: where
all are chosen, every metric is exact. Otherwise they are quantiles, half of them of the pixels and
half of the pixels weighed by region as in rwAP, so that small regions and rare types are resolved
too; pixels within a bin between two are taken to be evenly mixed.

Two models meet the same resamples, so the interval of their difference is that of the differences.
Source of the percentile interval: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993),
chapter 13. Metrics are those of `autosearch.metrics`, with the same conventions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autosearch.metrics.truth import Floats, Scores, Truth, negative_weight

LEVEL = 0.95
"""Share of resamples between the two ends of an interval."""

FEW = 5
"""Images, or groups of them, below which a type's intervals are still too narrow."""

Copies = NDArray[np.integer[Any]] | NDArray[np.floating[Any]]
"""How often each of S resamples holds each of N images: ``(S, N)``, not always whole numbers."""

_EDGES = 1024
_AT_ONCE = 512
_MAX_FPR = 0.3


@dataclass(frozen=True, eq=False)
class Histograms:
    """Pixels of each image by score, in ``B`` bins of falling score.

    Attributes:
        between: ``(B,)`` bool, true for a bin between two chosen scores.
        normal: ``(N, B)`` normal pixels.
        anomalous: ``(N, B)`` anomalous pixels.
        overlap: ``(N, B)`` anomalous pixels, each as the share that it is of its region.
        types: ``anomaly_type`` per image.
        all_types: Number of anomaly types among those of which pixels count.
    """

    between: NDArray[np.bool_]
    normal: Floats
    anomalous: Floats
    overlap: Floats
    types: tuple[str, ...]
    all_types: int

    @classmethod
    def of(
        cls,
        maps: Scores,
        truth: Truth,
        types: Sequence[str],
        edges: int = _EDGES,
    ) -> Histograms:
        """Sort the pixels of ``(N, H, W)`` finite maps into bins.

        Args:
            maps: Anomaly maps.
            truth: Their ground truth.
            types: ``anomaly_type`` per image.
            edges: Largest number of scores with a bin each.
        """
        scores = maps[truth.masks]
        chosen = _chosen(scores, truth.region_weights[truth.regions], edges)
        above = np.nextafter(chosen, np.array(np.inf, dtype=chosen.dtype))
        starts = np.union1d(chosen, above)
        between = np.append(False, ~np.isin(starts, chosen))[::-1]
        bins = starts.size + 1
        images = np.nonzero(truth.masks)[0]
        # Falling, so that sums from the left are over all that a threshold calls anomalous.
        flat = images * bins + starts.size - np.searchsorted(starts, scores, side="right")
        shape = (len(maps), bins)
        size = len(maps) * bins
        anomalous = np.bincount(flat, minlength=size).reshape(shape).astype(np.float64)
        shares = (1 / truth.areas)[truth.regions]
        overlap: Floats = np.bincount(flat, shares, size).astype(np.float64).reshape(shape)
        normal = np.empty(shape)
        for i, (scored, plain) in enumerate(zip(maps, truth.normal, strict=True)):
            rising = np.sort(scored[plain])
            below = np.searchsorted(rising, starts, side="left")
            normal[i] = np.diff(np.concatenate(([0], below, [rising.size])))[::-1]
        told = truth.labels & truth.told
        anomalies = {kind for kind, known in zip(types, told, strict=True) if known}
        return cls(between, normal, anomalous, overlap, tuple(types), len(anomalies))

    def metrics(self, copies: Copies, prevalence: float) -> dict[str, Floats]:
        """Pixel metrics of resamples.

        Args:
            copies: ``(S, N)``, how often each resample holds each image.
            prevalence: Of the calibrated figures; each resample is brought to it.

        Returns:
            ``(S,)`` of rwap and ap, both also calibrated, pixel_auroc, aupro and the F1 of the
            best threshold. NaN where a resample has no anomalous pixel, or no normal one.
        """
        parts = [
            self._metrics(copies[start : start + _AT_ONCE].astype(np.float64), prevalence)
            for start in range(0, len(copies), _AT_ONCE)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _metrics(self, copies: Floats, prevalence: float) -> dict[str, Floats]:
        normal, anomalous = copies @ self.normal, copies @ self.anomalous
        overlap = copies @ self.overlap
        by_region = (copies * self._region_scale(copies)) @ self.overlap
        alarms, hits = normal.cumsum(axis=1), anomalous.cumsum(axis=1)
        roc = _Roc(normal, alarms)
        # Halfway through a bin whose pixels are evenly mixed; at the end of tied ones.
        part = self.between / 2
        halfway = alarms - part * normal
        found = 2 * hits / np.maximum(hits + alarms + hits[:, -1:], 1)
        by_region_curve = _Precision.of(by_region, part, halfway, alarms[:, -1])
        by_pixel_curve = _Precision.of(anomalous, part, halfway, alarms[:, -1])
        return {
            "rwap": by_region_curve.mean(),
            "rwap_calibrated": by_region_curve.mean(prevalence),
            "ap": by_pixel_curve.mean(),
            "ap_calibrated": by_pixel_curve.mean(prevalence),
            "pixel_auroc": roc.mean_tpr(anomalous, 1.0),
            "aupro": roc.mean_tpr(overlap, _MAX_FPR),
            "pixel_f1_best": np.where(hits[:, -1] > 0, found.max(axis=1), np.nan),
        }

    def _region_scale(self, copies: Floats) -> Floats:
        """``(S, N)``: what a whole region of an image weighs in the rwAP of each resample.

        ``(mean area / area) * (mean regions per type / regions of its type)``, summed over the
        pixels of a region, with all counts those of the resample.
        """
        names = sorted(set(self.types))
        kinds = np.array([[kind == name for name in names] for kind in self.types], dtype=float)
        regions = self.overlap.sum(axis=1)
        of_type = copies @ (kinds * regions[:, None])
        area = copies @ self.anomalous.sum(axis=1)
        share = np.divide(1.0, of_type, out=np.zeros_like(of_type), where=of_type > 0)
        scale: Floats = (area / max(1, self.all_types))[:, None] * (share @ kinds.T)
        return scale


@dataclass(frozen=True, eq=False)
class _Roc:
    """Normal mass in each bin ``(S, B)`` and from the first bin to it."""

    normal: Floats
    alarms: Floats

    def mean_tpr(self, gains: Floats, max_fpr: float) -> Floats:
        """Area under the linearly interpolated ROC curve up to ``max_fpr``, over ``max_fpr``."""
        total, mass = self.alarms[:, -1:], gains.sum(axis=1)
        defined = (total[:, 0] > 0) & (mass > 0)
        total = np.maximum(total, 1)
        ramp = self.normal / total
        reach = np.clip(max_fpr - (self.alarms - self.normal) / total, 0, None)
        width = reach - ramp / 2
        np.divide(reach**2, 2 * ramp, out=width, where=reach < ramp)
        area = np.einsum("sb,sb->s", width, gains) / max_fpr
        mean: Floats = np.divide(area, mass, out=np.full_like(mass, np.nan), where=defined)
        return mean


@dataclass(frozen=True, eq=False)
class _Precision:
    """Anomalous mass in each bin ``(S, B)``, and what is called anomalous halfway through it."""

    gains: Floats
    hits: Floats
    alarms: Floats
    negatives: Floats

    @classmethod
    def of(cls, gains: Floats, part: Floats, alarms: Floats, negatives: Floats) -> _Precision:
        return cls(gains, gains.cumsum(axis=1) - part * gains, alarms, negatives)

    def mean(self, prevalence: float | None = None) -> Floats:
        """Average precision ``(S,)``; see `autosearch.metrics.ranking.Ranking.ap`."""
        mass = self.gains.sum(axis=1)
        defined, alarms = mass > 0, self.alarms
        if prevalence is not None:
            defined &= self.negatives > 0
            weight = negative_weight(mass, np.maximum(self.negatives, 1), prevalence)
            alarms = alarms * weight[:, None]
        out = np.zeros_like(self.hits)
        precision = np.divide(self.hits, self.hits + alarms, out=out, where=self.hits > 0)
        area = np.einsum("sb,sb->s", self.gains, precision)
        mean: Floats = np.divide(area, mass, out=np.full_like(mass, np.nan), where=defined)
        return mean


def image_auroc(scores: Scores, labels: NDArray[np.bool_], copies: Copies) -> Floats:
    """AUROC over images of resamples, exact: ``(N,)``, ``(N,)`` and ``(S, N)`` to ``(S,)``."""
    normal, anomalous = _by_score(scores, labels, copies)
    return _Roc(normal, normal.cumsum(axis=1)).mean_tpr(anomalous, 1.0)


def image_ap(scores: Scores, labels: NDArray[np.bool_], copies: Copies) -> Floats:
    """Average precision over images of resamples, as `image_auroc`."""
    normal, anomalous = _by_score(scores, labels, copies)
    alarms = normal.cumsum(axis=1)
    return _Precision.of(anomalous, np.zeros(anomalous.shape[1]), alarms, alarms[:, -1]).mean()


def _by_score(scores: Scores, labels: NDArray[np.bool_], copies: Copies) -> tuple[Floats, Floats]:
    """Normal and anomalous images of resamples at each distinct score, falling: ``(S, G)``."""
    distinct, rank = np.unique(-scores, return_inverse=True)
    standing = np.zeros((scores.size, distinct.size))
    standing[np.arange(scores.size), rank] = 1
    return (copies * ~labels) @ standing, (copies * labels) @ standing


def draw_copies(types: Sequence[str], groups: Sequence[str], resamples: int, seed: int) -> Floats:
    """Draw images with replacement, type by type, those of one group together.

    Of n groups of a type, n - 1 are drawn and count n / (n - 1) each: drawing n would make
    intervals too narrow, the more so the fewer there are. A group by itself is in every resample
    once. A group with images of several types counts with those of the same types.

    Args:
        types: ``anomaly_type`` per image.
        groups: ``group_id`` per image.
        resamples: Number of resamples S.
        seed: Of the draws.

    Returns:
        ``(S, N)``, how often each resample holds each image; the groups of a type sum up to their
        number.

    Source: Rao and Wu, "Resampling inference with complex survey data" (JASA 1988).
    """
    generator = np.random.default_rng(seed)
    member = np.array([sorted(set(groups)).index(group) for group in groups])
    copies = np.ones((resamples, len(types)))
    for units in _strata(types, groups).values():
        n = len(units)
        if n < 2:
            continue
        drawn = generator.multinomial(n - 1, [1 / n] * n, resamples) * (n / (n - 1))
        for column, unit in enumerate(units):
            copies[:, member == unit] = drawn[:, column, None]
    return copies


def can_vary(types: Sequence[str], groups: Sequence[str], normal: str) -> bool:
    """Whether resamples differ in their anomalous images; else an interval would say nothing."""
    strata = _strata(types, groups)
    return any(len(units) > 1 for kinds, units in strata.items() if set(kinds) - {normal})


def too_few(types: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Types of fewer than `FEW` groups of images, whose intervals are not to be trusted."""
    found: dict[str, set[str]] = {}
    for kind, group in zip(types, groups, strict=True):
        found.setdefault(kind, set()).add(group)
    return sorted(kind for kind, its in found.items() if len(its) < FEW)


def percentile_interval(values: Floats) -> tuple[float, float] | None:
    """The middle `LEVEL` of the resamples' values, NaN left out; None where all are NaN."""
    known = values[~np.isnan(values)]
    if not known.size:
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _strata(types: Sequence[str], groups: Sequence[str]) -> dict[tuple[str, ...], list[int]]:
    """Types of a group, sorted, to the positions of these groups among all sorted groups."""
    kinds: dict[str, set[str]] = {}
    for kind, group in zip(types, groups, strict=True):
        kinds.setdefault(group, set()).add(kind)
    strata: dict[tuple[str, ...], list[int]] = {}
    for position, group in enumerate(sorted(kinds)):
        strata.setdefault(tuple(sorted(kinds[group])), []).append(position)
    return dict(sorted(strata.items()))


def _chosen(scores: Scores, weights: Floats, count: int) -> NDArray[np.floating[Any]]:
    """Rising scores: all that differ, or quantiles by weight and by number."""
    distinct: NDArray[np.floating[Any]] = np.unique(scores)
    if distinct.size <= count:
        return distinct
    order = np.argsort(-scores, kind="stable")
    picks = []
    for mass in (np.cumsum(weights[order]), np.arange(1, scores.size + 1)):
        wanted = np.linspace(0, mass[-1], count // 2)
        picks.append(np.searchsorted(mass, wanted).clip(max=scores.size - 1))
    return np.unique(scores[order[np.concatenate(picks)]])
