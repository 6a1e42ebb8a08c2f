"""Thresholds of pixels and of images, chosen on the validation split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autosearch.metrics import Criterion, Rule, Threshold, Truth, choose_threshold, image_scores
from autosearch.study.truth import counted_pixels

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


def thresholds_of(
    maps: NDArray[np.float32],
    truth: Truth,
    rule: Rule | Criterion = "f1",
    max_fpr: float | None = None,
    top_share: float | None = None,
) -> Thresholds:
    """Choose both thresholds.

    Args:
        maps: ``(N, h, w)`` anomaly maps of the validation split.
        truth: What is known of it.
        rule: See `autosearch.metrics.choose_threshold`.
        max_fpr: Of the name ``fpr``.
        top_share: See `autosearch.metrics.image_scores`.

    Raises:
        ConfigError: As `autosearch.metrics.choose_threshold`.
    """
    scores = image_scores(maps, top_share, truth.scored)
    image = choose_threshold(scores, truth.labels, rule, max_fpr)
    marked = bool(truth.masks.any())
    if not marked:
        return Thresholds(image, image, marked)
    pixel = choose_threshold(*counted_pixels(maps, truth), rule, max_fpr)
    return Thresholds(pixel, image, marked)
