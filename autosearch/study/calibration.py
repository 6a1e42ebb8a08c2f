"""Thresholds of pixels and of images, chosen on the validation split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autosearch.contracts import TrialRecord
from autosearch.metrics import (
    Criterion,
    Rule,
    Threshold,
    Truth,
    choose_threshold,
    image_scores,
    normal_threshold,
    set_threshold,
)
from autosearch.storage import StudyFolder
from autosearch.study.ensemble import fitted
from autosearch.study.inputs import Inputs
from autosearch.study.repetition import of_first_run
from autosearch.study.truth import counted_pixels, maps_of, truth_of

SHARED = "the threshold of images, since no pixel of the validation split is marked as anomalous"
"""Where the threshold of pixels comes from if no defect is marked."""


@dataclass(frozen=True)
class Thresholds:
    """From which score on a pixel, and an image, is called anomalous.

    Attributes:
        pixel: Of the values of a map. Where no defect of validation is marked it is that of
            images: some pixel of an image that reaches it does so as well, and where an image's
            score is its highest pixel, no other image has one. What it ``reached`` counts images.
        image: Of the scores of images.
        marked: Whether the pixel threshold was chosen on marked defects.
    """

    pixel: Threshold
    image: Threshold
    marked: bool

    def to_plain(self) -> dict[str, Any]:
        """``pixel`` and ``image`` as JSON, and ``pixel_is`` where they are one."""
        both = {"pixel": self.pixel.to_plain(), "image": self.image.to_plain()}
        return both if self.marked else {**both, "pixel_is": SHARED}


def choose_thresholds(
    folder: StudyFolder,
    records: Sequence[TrialRecord],
    reopened: Callable[[], Inputs],
    rule: Rule | Criterion = "f1",
    told: Callable[[str], None] = lambda text: None,
) -> Thresholds:
    """Fit a trial as the search did, and choose its thresholds on validation.

    Args:
        folder: The study's.
        records: A trial with values, or those of an ensemble.
        reopened: Loads what the study was made from.
        rule: By which; see `autosearch.metrics.choose_threshold`.
        told: Told what is being done.
    """
    inputs = reopened()
    records = [of_first_run(one, folder.files.load_runs(one.origin)) for one in records]
    data = inputs.data
    told(f"fitting on {len(data.train)} train images, for thresholds")
    detector = fitted(inputs, records, data.train)
    maps = maps_of(detector, data.val)
    return thresholds_of(maps, truth_of(data.val), rule, top_share=detector.top_share)


def thresholds_of(
    maps: NDArray[np.float32],
    truth: Truth,
    rule: Rule | Criterion = "f1",
    max_fpr: float | None = None,
    top_share: float | None = None,
) -> Thresholds:
    """Choose both thresholds.

    By a rule of normal scores alone, pixels are those of normal images: what lies around a defect
    is no fair sample.

    Args:
        maps: ``(N, h, w)`` anomaly maps of the validation split.
        truth: What is known of it.
        rule: See `autosearch.metrics.choose_threshold`.
        max_fpr: Of the name ``fpr``.
        top_share: See `autosearch.metrics.image_scores`.

    Raises:
        ConfigError: As `autosearch.metrics.choose_threshold`.
    """
    criterion = rule if isinstance(rule, Criterion) else Criterion(rule, max_fpr)
    scores = image_scores(maps, top_share, truth.scored)
    image = choose_threshold(scores, truth.labels, criterion)
    marked = bool(truth.masks.any())
    if not marked:
        return Thresholds(image, image, marked)
    pixels, labels = counted_pixels(maps, truth)
    if criterion.of_normals:
        normal = maps[~truth.labels]
        if truth.counted is not None:
            normal = normal[truth.counted[~truth.labels]]
        value = normal_threshold(normal.ravel(), criterion)
        return Thresholds(set_threshold(value, pixels, labels, criterion), image, marked)
    pixel = choose_threshold(pixels, labels, criterion)
    return Thresholds(pixel, image, marked)
