"""What a trial answers to every image of a split, with thresholds that validation chose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from autosearch.contracts import TrialRecord, scales_of
from autosearch.data import ImageSet, load_test_set
from autosearch.errors import ConfigError
from autosearch.metrics import Criterion, Rule, Scores, Truth, image_scores
from autosearch.spec import Override
from autosearch.storage import StudyFolder
from autosearch.study.calibration import Thresholds, thresholds_of
from autosearch.study.ensemble import fitted
from autosearch.study.fitted import all_normal, fit_of
from autosearch.study.inputs import Inputs
from autosearch.study.repetition import of_first_run
from autosearch.study.reproduction import checked_on_validation
from autosearch.study.truth import maps_of, truth_of

SplitName = Literal["validation", "test"]
"""Splits that a trial may be asked about."""


@dataclass(frozen=True, eq=False)
class Answer:
    """A trial's maps of a split, and what they are held against.

    Attributes:
        split: Which one.
        images: Its N images.
        truth: What is known of them.
        maps: ``(N, h, w)`` anomaly maps.
        scores: ``(N,)`` scores of images.
        thresholds: Chosen on validation, with the detector that was fitted as in the search.
        fitted_on: Images that the detector of the maps was fitted on: those of the train split,
            and for the test split all normal ones but its own, as `evaluate` does.
        difference: The largest one between figures of validation now and in the search.
        reproduced: Whether rounding can explain it.
    """

    split: SplitName
    images: ImageSet
    truth: Truth
    maps: NDArray[np.float32]
    scores: Scores
    thresholds: Thresholds
    fitted_on: int
    difference: float
    reproduced: bool


def answer_of(
    folder: StudyFolder,
    records: Sequence[TrialRecord],
    reopened: Callable[[], Inputs],
    split: SplitName = "validation",
    rule: Rule | Criterion = "f1",
    progress: Callable[[int, int], None] | None = None,
    told: Callable[[str], None] = lambda text: None,
    moved: Iterable[Override] = (),
) -> Answer:
    """Fit a trial as `evaluate` does, and ask it about a split.

    Args:
        folder: The study's.
        records: A trial with values, or those of an ensemble.
        reopened: Loads what the study was made from.
        split: Which images.
        rule: By which thresholds are chosen; see `autosearch.metrics.choose_threshold`.
        progress: Told of images of the test split read, and their total.
        told: Told what is being done.
        moved: See `autosearch.study.inputs.reopen`.

    Raises:
        ConfigError: There is no such split, or the rule does not fit the images.
        DataError: The test split is empty, or cannot be read.
    """
    if split not in get_args(SplitName):
        raise ConfigError("split", split, " or ".join(get_args(SplitName)))
    test = None
    if split == "test":
        test, _ = load_test_set(folder.load_spec(moved).dataset, progress)
    inputs = reopened()
    records = [of_first_run(one, folder.files.load_runs(one.origin)) for one in records]
    data, number = inputs.data, len(inputs.data.train)
    told(f"fitting on {number} train images")
    detector = fitted(inputs, records, data.train)
    told(f"scoring {len(data.val)} validation images")
    images, truth, maps = data.val, truth_of(data.val), maps_of(detector, data.val)
    thresholds = thresholds_of(maps, truth, rule, top_share=detector.top_share)
    checked = checked_on_validation(inputs, records, detector, maps, truth)
    if test is not None:
        if fit_of("all", inputs.runner.supervised) == "all":
            normal, scales = all_normal(data), scales_of(detector)
            del detector  # Two banks need not be in memory at once.
            number = len(normal)
            told(f"fitting on all {number} normal images but the test split's")
            detector = fitted(inputs, records, normal, scales)
        told(f"scoring {len(test)} test images")
        images, truth, maps = test, truth_of(test), maps_of(detector, test)
    scores = image_scores(maps, detector.top_share, truth.scored)
    difference, reproduced = checked["largest_difference"], checked["reproduced"]
    return Answer(split, images, truth, maps, scores, thresholds, number, difference, reproduced)
