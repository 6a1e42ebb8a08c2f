"""Detectors that share one fit, each with another setting of what comes after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from autosearch.contracts import Assignment, Detector, Setting, shared_tensor
from autosearch.data import ImageSet
from autosearch.errors import Infeasible
from autosearch.spec import Params
from autosearch.study.truth import maps_by, parts_of


class Answered:
    """What a detector answered to some sets of images, before any setting has a part in it.

    Args:
        detector: Fitted.
        sets: The images.
    """

    def __init__(self, detector: Detector, sets: Sequence[ImageSet]) -> None:
        self._known = {
            id(images): [detector.answers(shared_tensor(part.pixels)) for part in parts_of(images)]
            for images in sets
        }

    def maps_of(self, detector: Detector, images: ImageSet) -> NDArray[np.float32]:
        """`autosearch.study.truth.maps_of` of a detector that follows the one that answered."""
        answers = iter(self._known[id(images)])
        return maps_by(lambda pixels: detector.maps_of_answers(next(answers), pixels), images)


def followers(
    fitted: Detector, assignment: Assignment, make: Callable[[Params], Detector]
) -> Iterator[tuple[Setting, Detector]]:
    """The settings of an assignment and their detectors, the proposed one first.

    Args:
        fitted: Of the proposed one.
        assignment: See `Assignment`.
        make: Builds the detector of a canonical configuration.
    """
    yield Setting(assignment.params, assignment.canonical, {}), fitted
    for setting in assignment.others:
        # Building draws initial weights anew, which the trial's own draws shall not feel.
        with torch.random.fork_rng(devices=[]):
            detector = make(setting.canonical)
        try:
            detector.follow(fitted)
        except Infeasible:
            continue
        yield setting, detector
