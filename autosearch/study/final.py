"""What a trial reaches on the test split, with thresholds from validation and intervals.

Nothing that selects reads any of this. The figures of a trial are one JSON object:

- ``trial``, ``same_as`` (the trial with the same canonical configuration that was evaluated),
  ``evaluated`` (time), ``seconds`` (by part), ``autosearch``, ``packages`` (versions);
- ``fit``: ``all`` where test figures are of a detector fitted on all normal images but the test
  split's, as it is exported, ``train`` where of one fitted as in the search; ``fitted_on``, the
  number of images; thresholds are always those of the second;
- ``data``: ``sha256``, ``counts`` by type and number of ``images`` of the test split;
- ``thresholds``: ``pixel`` and ``image``, each as `Threshold.to_plain` says, and ``pixel_is``
  where validation has no marked defect to choose the first on;
- ``metrics``: the names of `METRICS` to values, None where undefined: those of pixels where no
  image has a mask, and all but ``image_fpr_at_val`` where no image is anomalous;
- ``intervals``: the same names to ``[low, high]``, None where there is none;
- ``types``: anomaly type to ``images``, ``metrics`` and ``intervals``, of that type's images and
  all normal ones, or those of its category;
- ``categories``, where there are several: each likewise, and its number of ``normal`` images;
- ``prevalence``: of the calibrated metrics;
- ``bootstrap``: ``resamples``, ``level``, ``seed``, what was drawn: ``unit``, and ``too_few``, the
  types with too few of them for an interval to be trusted;
- ``validation``: ``metrics`` of the validation split; ``stored``, what the search recorded;
  ``largest_difference`` between both; ``reproduced``, whether it is at most
  `autosearch.study.reproduction.TOLERANCE`.

Of several trials as one detector ``ensemble`` has their numbers, and ``trial`` is None. No search
has recorded anything of them, so ``stored`` is empty; ``validation`` has ``objectives`` instead,
measured with the detector that was fitted on the train split, as those of trials are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autosearch.contracts import HALF, TrialRecord, derived_seed, scales_of
from autosearch.data import ImageSet
from autosearch.metrics import (
    Floats,
    Ranking,
    Scores,
    Truth,
    auroc,
    average_precision,
    bootstrap,
    decide,
    image_scores,
)
from autosearch.study.calibration import Thresholds, thresholds_of
from autosearch.study.clock import Clock
from autosearch.study.ensemble import fitted
from autosearch.study.fitted import Fit, all_normal, fit_of
from autosearch.study.inputs import Inputs
from autosearch.study.reproduction import checked_on_validation
from autosearch.study.subsets import Subset, Subsets, strata_of
from autosearch.study.truth import maps_of, truth_of

METRICS = {
    "rwap": "region-weighted average precision over pixels",
    "ap": "average precision over pixels",
    "rwap_calibrated": "rwap at a stated prevalence, so that splits can be compared",
    "ap_calibrated": "ap at that prevalence",
    "pixel_auroc": "area under the ROC over pixels",
    "aupro": "area under the per-region overlap up to 30 % false positives",
    "image_auroc": "area under the ROC over images, by their map's highest pixel or share",
    "image_ap": "average precision over images, scored likewise",
    "pixel_f1_at_val": "F1 over pixels at the threshold chosen on validation",
    "pixel_iou_at_val": "intersection over union of pixels at that threshold",
    "iou_half": "the same where a probability is at least 0.5; none of other scores",
    "pixel_f1_best": "F1 over pixels at the split's own best threshold: what no user can know",
    "image_f1_at_val": "F1 over images at the threshold chosen on validation",
    "image_tpr_at_val": "share of anomalous images found at that threshold",
    "image_fpr_at_val": "share of normal images that raise an alarm at that threshold",
}
"""Figures of a split, all in [0, 1]; all but the last are better the higher they are."""

Maps = NDArray[np.floating[Any]]


class Evaluated(NamedTuple):
    """What one trial reaches on the test split.

    Attributes:
        figures: As this module describes them.
        resamples: The names of `METRICS` to ``(S,)`` values in the resamples that every trial
            meets; empty where images do not vary, None where an earlier version kept none.
    """

    figures: dict[str, Any]
    resamples: Mapping[str, Scores] | None


class FinalEvaluator:
    """Evaluates scored trials of one study on its test split.

    All trials meet the same resamples, so that intervals of two can be compared.

    Args:
        inputs: What the study was made from.
        test: The test split.
        info: What `load_test_set` says of it.
        resamples: Number of bootstrap resamples.
        fit: What detectors are fitted on whose test figures are wanted.
    """

    def __init__(
        self,
        inputs: Inputs,
        test: ImageSet,
        info: Mapping[str, object],
        resamples: int,
        fit: Fit = "all",
    ) -> None:
        self._inputs, self._test = inputs, test
        self._fit = fit_of(fit, inputs.runner.supervised)
        data = inputs.data
        self._images = data.train if self._fit == "train" else all_normal(data)
        self._val_truth = truth_of(inputs.data.val)
        self._prevalence = inputs.spec.dataset.prevalence
        seed = derived_seed(inputs.spec.study.seed, "bootstrap")
        several = len(inputs.spec.dataset.categories) > 1
        strata = strata_of(test, several)
        copies = bootstrap.draw_copies(strata, test.groups, resamples, seed)
        self._subsets = Subsets.of(test, copies, several)
        grouped = len(set(test.groups)) < len(test)
        meta = inputs.meta()
        self._common = {
            "autosearch": meta["autosearch"],
            "packages": meta["packages"],
            "data": {**info, "images": len(test)},
            "prevalence": self._prevalence,
            "bootstrap": {
                "resamples": resamples,
                "level": bootstrap.LEVEL,
                "seed": seed,
                "unit": "groups, within their types" if grouped else "images, within their types",
                "too_few": bootstrap.too_few(strata, test.groups),
            },
        }

    def __call__(
        self,
        trials: TrialRecord | Sequence[TrialRecord],
        stage: Callable[[str], None] = lambda name: None,
    ) -> Evaluated:
        """Fit as the search did, choose thresholds on validation, fit anew, score the test split.

        Args:
            trials: A complete or cached trial, or several as one detector.
            stage: Told what is being done: ``fit``, ``validation``, ``refit`` unless figures are
                of the first fit, ``test``, ``intervals``.

        Raises:
            StudyError: The trial has no values.
        """
        clock = Clock(stage)
        clock.start("fit")
        data = self._inputs.data
        records = [trials] if isinstance(trials, TrialRecord) else list(trials)
        alone = len(records) == 1
        detector = fitted(self._inputs, records, data.train)
        clock.start("validation")
        val_maps = maps_of(detector, data.val)
        terms = _Terms(
            thresholds_of(val_maps, self._val_truth, top_share=detector.top_share),
            self._inputs.runner.probabilities and alone,
            self._prevalence,
            detector.top_share,
        )
        checked = {
            "metrics": _plain(_Figures(val_maps, self._val_truth, terms).metrics()),
            **checked_on_validation(
                self._inputs, records, detector, val_maps, self._val_truth, clock.seconds
            ),
        }
        if self._fit == "all":
            clock.start("refit")
            scales = scales_of(detector)
            del detector  # Two banks need not be in memory at once.
            detector = fitted(self._inputs, records, self._images, scales)
        clock.start("test")
        maps = maps_of(detector, self._test)
        clock.start("intervals")
        figures, resamples = _figures(maps, self._subsets.whole, terms)
        types, categories = (
            {
                name: {
                    "images": int(part.truth.labels.sum()),
                    **_figures(maps[part.indices], part, terms)[0],
                }
                for name, part in parts.items()
            }
            for parts in (self._subsets.types, self._subsets.categories)
        )
        for name, part in self._subsets.categories.items():
            categories[name]["normal"] = int((~part.truth.labels).sum())
        clock.stop()
        plain = {
            "trial": records[0].number if alone else None,
            "same_as": None,
            **({} if alone else {"ensemble": [record.number for record in records]}),
            "evaluated": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": clock.seconds,
            "fit": self._fit,
            "fitted_on": len(self._images),
            **self._common,
            "thresholds": terms.thresholds.to_plain(),
            **figures,
            "types": types,
            **({"categories": categories} if categories else {}),
            "validation": checked,
        }
        return Evaluated(plain, resamples)


@dataclass(frozen=True)
class _Terms:
    """What figures are measured with.

    Attributes:
        thresholds: Of pixels and of images, chosen on validation.
        probabilities: Whether one half is another threshold that means something.
        prevalence: Of calibrated metrics.
        top_share: Of image scores; see `autosearch.contracts.Detector`.
    """

    thresholds: Thresholds
    probabilities: bool
    prevalence: float
    top_share: float | None


class _Figures:
    """Metrics of one split or part of it, once exactly and once for every resample."""

    def __init__(self, maps: Maps, truth: Truth, terms: _Terms) -> None:
        self._maps, self._truth, self._prevalence = maps, truth, terms.prevalence
        self._scores = image_scores(maps, terms.top_share, truth.scored)
        called = decide(maps, terms.thresholds.pixel)
        self._pixels = _confusions(called, truth)
        self._halves = None
        if terms.probabilities:
            self._halves = _confusions(maps >= HALF, truth)
        alarms = decide(self._scores, terms.thresholds.image)
        self._images = _cells(alarms[:, None], truth.labels[:, None], ~truth.labels[:, None])

    def metrics(self) -> dict[str, float]:
        """Exact values by the names of `METRICS`, NaN where undefined."""
        ranking = Ranking.from_maps(self._maps, self._truth)
        every = np.ones((1, len(self._maps)))
        return {
            "rwap": ranking.rwap(),
            "ap": ranking.ap(),
            "rwap_calibrated": ranking.rwap(self._prevalence),
            "ap_calibrated": ranking.ap(self._prevalence),
            "pixel_auroc": ranking.pixel_auroc(),
            "aupro": ranking.aupro(),
            "image_auroc": auroc(self._scores, self._truth.labels),
            "image_ap": average_precision(self._scores, self._truth.labels),
            "pixel_f1_best": ranking.best_f1().f1,
            **{name: float(value[0]) for name, value in self._decided(every).items()},
        }

    def resampled(self, types: Sequence[str], copies: Floats) -> dict[str, Floats]:
        """``(S,)`` values by the names of `METRICS` for ``(S, N)`` copies of the images."""
        histograms = bootstrap.Histograms.of(self._maps, self._truth, types)
        return {
            **histograms.metrics(copies, self._prevalence),
            "image_auroc": bootstrap.image_auroc(self._scores, self._truth.labels, copies),
            "image_ap": bootstrap.image_ap(self._scores, self._truth.labels, copies),
            **self._decided(copies),
        }

    def _decided(self, copies: Floats) -> dict[str, Floats]:
        pixels, images = copies @ self._pixels, copies @ self._images
        tp, fp, fn, tn = images.T
        unknown = np.full(len(copies), np.nan)
        return {
            "pixel_f1_at_val": _f1(pixels),
            "pixel_iou_at_val": _iou(pixels),
            "iou_half": unknown if self._halves is None else _iou(copies @ self._halves),
            "image_f1_at_val": _f1(images),
            "image_tpr_at_val": _share(tp, tp + fn),
            "image_fpr_at_val": _share(fp, fp + tn),
        }


def _figures(maps: Maps, part: Subset, terms: _Terms) -> tuple[dict[str, Any], dict[str, Floats]]:
    """``metrics`` and ``intervals`` of a part of the test split; its metrics in every resample."""
    figures = _Figures(maps, part.truth, terms)
    intervals: dict[str, tuple[float, float] | None] = dict.fromkeys(METRICS)
    drawn: dict[str, Floats] = {}
    if part.copies is not None:
        drawn = figures.resampled(part.types, part.copies)
        intervals = {name: bootstrap.percentile_interval(drawn[name]) for name in METRICS}
    return {"metrics": _plain(figures.metrics()), "intervals": intervals}, drawn


def _confusions(called: NDArray[np.bool_], truth: Truth) -> NDArray[np.int64]:
    """TP, FP, FN and TN of each image's pixels, ``(N, 4)``."""
    return _cells(called, truth.masks, truth.normal)


def _cells(
    called: NDArray[np.bool_], anomalous: NDArray[np.bool_], normal: NDArray[np.bool_]
) -> NDArray[np.int64]:
    cells = (called & anomalous, called & normal, ~called & anomalous, ~called & normal)
    return np.stack([cell.reshape(len(cell), -1).sum(axis=1) for cell in cells], axis=1)


def _f1(counts: Floats) -> Floats:
    """NaN where nothing is anomalous: then it says nothing of what is found."""
    tp, fp, fn, _ = counts.T
    return np.where(tp + fn > 0, _share(2 * tp, 2 * tp + fp + fn), np.nan)


def _iou(counts: Floats) -> Floats:
    """NaN likewise."""
    tp, fp, fn, _ = counts.T
    return np.where(tp + fn > 0, _share(tp, tp + fp + fn), np.nan)


def _share(part: Floats, whole: Floats) -> Floats:
    out = np.full(part.shape, np.nan)
    share: Floats = np.divide(part, whole, out=out, where=whole > 0)
    return share


def _plain(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """In the order of `METRICS`, with None for NaN, which JSON does not have."""
    return {name: None if math.isnan(metrics[name]) else metrics[name] for name in METRICS}
