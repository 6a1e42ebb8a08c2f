"""What repeats of an estimate say together: figures with intervals, beside naive ones.

Every repeat's threshold comes from its threshold set and all its figures from its inference set.
Beside them stand those of a threshold that was chosen on the inference set itself: what a single
split reports whose threshold is in-sample. Scores are stored, so another rule trains nothing anew.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from autosearch.contracts import derived_seed
from autosearch.data import NORMAL
from autosearch.errors import ConfigError, StudyError
from autosearch.metrics import (
    Confusion,
    Criterion,
    Interval,
    Threshold,
    auroc,
    average_precision,
    best_cut,
    bootstrap,
    choose_threshold,
    confusion,
    false_alarms,
    missed_defects,
    normal_cut,
    over_repeats,
    precision_at,
    wilson,
)
from autosearch.storage import PixelCounts, Pixels, Repeat, ScoredImages

FIGURES = {
    "image_auroc": "AUROC, images",
    "image_ap": "AP, images",
    "rwap": "rwAP, pixels",
    "ap": "AP, pixels",
    "pixel_auroc": "AUROC, pixels",
    "aupro": "AUPRO up to 30 % FPR",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1, images",
    "precision": "precision at the prevalence",
    "false_alarms": "false alarms per shift",
    "missed": "missed defects per 1,000 parts",
    "pixel_sensitivity": "sensitivity, pixels",
    "pixel_specificity": "specificity, pixels",
    "pixel_f1": "F1, pixels",
}
"""Figures of a repeat, with their titles, in the order in which they are shown."""

DECIDED = ("sensitivity", "specificity", "balanced_accuracy", "f1", "precision", "false_alarms",
           "missed", "pixel_sensitivity", "pixel_specificity", "pixel_f1")  # fmt: skip
"""Those that depend on a threshold, and differ where it is chosen in-sample."""

_COUNTS = ("false_alarms", "missed")

PER = 1000
"""Parts of which missed defects are counted."""

_RESAMPLES = 500


@dataclass(frozen=True)
class Terms:
    """What figures are brought to.

    Attributes:
        criterion: By which thresholds are chosen.
        prevalence: Share of anomalous parts on the line, in (0, 1).
        parts_per_shift: Parts that a shift inspects.
    """

    criterion: Criterion = field(default_factory=lambda: Criterion("youden"))
    prevalence: float = 0.01
    parts_per_shift: float = 1000.0

    def __post_init__(self) -> None:
        if not 0 < self.prevalence < 1:
            raise ConfigError("prevalence", self.prevalence, "a share between 0 and 1")
        if not 0 < self.parts_per_shift < math.inf:
            raise ConfigError("parts_per_shift", self.parts_per_shift, "a number above 0")


@dataclass(frozen=True)
class RepeatFigures:
    """Figures of one repeat.

    Attributes:
        number: Of the repeat.
        threshold: Of images, chosen on the threshold set.
        reached: What it does on the inference set.
        values: The names of `FIGURES` to numbers, NaN where undefined.
        in_sample: The same with thresholds chosen on the inference set itself.
        intervals: Of single figures within the inference set; None where there is none.
    """

    number: int
    threshold: Threshold
    reached: Confusion
    values: Mapping[str, float]
    in_sample: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float] | None]


@dataclass(frozen=True)
class Estimate:
    """An estimate so far.

    Attributes:
        terms: What figures are brought to.
        repeats: Those that are finished.
        sizes: Of each repeat, images by set and kind, in the order of ``repeats``.
        over: The names of `FIGURES` to mean and corrected interval over repeats; None of fewer
            than two, or where undefined.
        in_sample: The means of the in-sample figures.
    """

    terms: Terms
    repeats: tuple[RepeatFigures, ...]
    sizes: tuple[Mapping[str, int], ...]
    over: Mapping[str, Interval | None]
    in_sample: Mapping[str, float]

    @property
    def equal(self) -> bool:
        """Whether all four evaluated parts are of equal size in every repeat.

        The one image more of either kind that an odd number leaves to one set does not count.
        """
        parts = ("threshold_normal", "threshold_anomalous", "inference_normal",
                 "inference_anomalous")  # fmt: skip
        sizes = [[size[part] for part in parts] for size in self.sizes]
        return all(max(each) - min(each) <= 1 for each in sizes)

    def ends(self, name: str) -> tuple[float, float]:
        """Ends of an interval, cut at what the figure may be; NaN where there is none."""
        interval = self.over[name]
        if interval is None:
            return math.nan, math.nan
        most = math.inf if name in _COUNTS else 1.0
        return max(0.0, interval.low), min(most, interval.high)

    @property
    def precision(self) -> float:
        """Precision at the prevalence, at the mean sensitivity and specificity.

        The mean over repeats is another number, and a rough one: a repeat without a false alarm
        has a precision of 1, whatever the prevalence.
        """
        both = (self.over["sensitivity"], self.over["specificity"])
        if both[0] is None or both[1] is None:
            return math.nan
        return precision_at(both[0].mean, both[1].mean, self.terms.prevalence)

    def gap(self, name: str) -> float:
        """In-sample mean less the mean of the estimate: how much the naive figure promises."""
        interval = self.over[name]
        return math.nan if interval is None else self.in_sample[name] - interval.mean


def summarise(repeats: Mapping[int, Repeat], terms: Terms, seed: int = 0) -> Estimate:
    """Figures of repeats that are finished.

    Args:
        repeats: By their numbers.
        terms: What figures are brought to.
        seed: Of the bootstrap.

    Raises:
        StudyError: There is none.
    """
    if not repeats:
        raise StudyError("factory: no repeat is finished")
    figures = tuple(_figures(number, found, terms, seed) for number, found in repeats.items())
    ratio = statistics.fmean(
        len(found.inference_set.paths) / found.train for found in repeats.values()
    )
    over = {name: over_repeats([one.values[name] for one in figures], ratio) for name in FIGURES}
    naive = {name: _mean([one.in_sample[name] for one in figures]) for name in FIGURES}
    return Estimate(terms, figures, tuple(map(_sizes, repeats.values())), over, naive)


def labels_of(images: ScoredImages) -> NDArray[np.bool_]:
    """``(N,)`` bool, true for anomalous."""
    return np.array([kind != NORMAL for kind in images.types], dtype=bool)


def _figures(number: int, found: Repeat, terms: Terms, seed: int) -> RepeatFigures:
    threshold, inference = found.threshold_set, found.inference_set
    labels, scores = labels_of(inference), np.array(inference.scores)
    chosen = choose_threshold(threshold.scores, labels_of(threshold), terms.criterion)
    naive = choose_threshold(scores, labels, terms.criterion)
    reached = confusion(scores, labels, chosen)
    ranked = {
        "image_auroc": auroc(scores, labels),
        "image_ap": average_precision(scores, labels),
        **{name: math.nan if v is None else v for name, v in found.metrics.items()},
    }
    pixels = _pixels(found.pixels, terms.criterion)
    copies = bootstrap.draw_copies(
        inference.types, inference.groups, _RESAMPLES, derived_seed(seed, "factory", number)
    )
    intervals = {
        "sensitivity": wilson(reached.tp, reached.tp + reached.fn),
        "specificity": wilson(reached.tn, reached.tn + reached.fp),
        "image_auroc": bootstrap.percentile_interval(
            bootstrap.image_auroc(scores, labels, copies)
        ),
        "image_ap": bootstrap.percentile_interval(bootstrap.image_ap(scores, labels, copies)),
    }
    return RepeatFigures(
        number,
        chosen,
        reached,
        {**ranked, **_decided(reached, terms), **pixels[0]},
        {**ranked, **_decided(naive.reached, terms), **pixels[1]},
        intervals,
    )


def _decided(counts: Confusion, terms: Terms) -> dict[str, float]:
    """Figures of decisions."""
    sensitivity, specificity = counts.tpr, 1 - counts.fpr
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "f1": counts.f1,
        "precision": precision_at(sensitivity, specificity, terms.prevalence),
        "false_alarms": false_alarms(specificity, terms.parts_per_shift, terms.prevalence),
        "missed": missed_defects(sensitivity, PER, terms.prevalence),
    }


def _pixels(
    pixels: Pixels | None, criterion: Criterion
) -> tuple[dict[str, float], dict[str, float]]:
    """Figures of pixels: at the threshold of the threshold set, and of the inference set's own."""
    if pixels is None:
        unknown = dict.fromkeys(("pixel_sensitivity", "pixel_specificity", "pixel_f1"), math.nan)
        return unknown, unknown
    places = [
        _best(part, pixels.cuts, criterion)
        for part in (pixels.threshold_set, pixels.inference_set)
    ]
    honest, naive = (_counted(pixels.inference_set, place) for place in places)
    return honest, naive


def _best(counts: PixelCounts, cuts: Sequence[float], criterion: Criterion) -> int:
    """Position of the best of all cuts; -1 for one above all of them."""
    if criterion.of_normals:
        alarms = np.array(counts.alarms)
        return normal_cut(np.array(cuts), alarms, counts.negatives, criterion)[1]
    hits, alarms = (np.array([0, *values]) for values in (counts.hits, counts.alarms))
    return best_cut(hits, alarms, counts.positives, counts.negatives, criterion) - 1


def _counted(counts: PixelCounts, place: int) -> dict[str, float]:
    tp, fp = (counts.hits[place], counts.alarms[place]) if place >= 0 else (0, 0)
    cell = Confusion(tp, fp, counts.positives - tp, counts.negatives - fp)
    return {
        "pixel_sensitivity": cell.tpr,
        "pixel_specificity": 1 - cell.fpr,
        "pixel_f1": cell.f1,
    }


def _sizes(found: Repeat) -> dict[str, int]:
    sizes = {"train": found.train}
    for name, part in (("threshold", found.threshold_set), ("inference", found.inference_set)):
        anomalous = int(labels_of(part).sum())
        sizes[f"{name}_normal"] = len(part.paths) - anomalous
        sizes[f"{name}_anomalous"] = anomalous
    return sizes


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return statistics.fmean(known) if known else math.nan
