"""What a detector that was fitted again reaches on validation, beside what a search recorded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autosearch.contracts import Detector, Scored, TrialRecord
from autosearch.metrics import Truth
from autosearch.study.inputs import Inputs
from autosearch.study.truth import beside_of, truth_beside

TOLERANCE = 1e-4
"""Largest difference to the search's figures that rounding on another machine may explain."""


def checked_on_validation(
    inputs: Inputs,
    records: Sequence[TrialRecord],
    detector: Detector,
    maps: NDArray[np.float32],
    truth: Truth,
    seconds: dict[str, float] | None = None,
) -> dict[str, Any]:
    """Hold a detector that was fitted as in the search against what the search recorded.

    Args:
        inputs: What the study was made from.
        records: The trial, or those of an ensemble.
        detector: Fitted on the train split.
        maps: ``(N, h, w)``, its answer to validation.
        truth: Of validation.
        seconds: What parts of this took.

    Returns:
        See `held_against`.
    """
    data, spec = inputs.data, inputs.spec
    height, width = data.val.pixels.shape[2:]
    scored = Scored(
        maps,
        truth,
        seconds or {},
        spec.dataset.prevalence,
        (height, width),
        data.val.synthetic,
        top_share=detector.top_share,
        threads=spec.resources.latency_threads,
        beside=beside_of(detector, data, truth_beside(data)),
    )
    return held_against(inputs, records, detector, scored)


def held_against(
    inputs: Inputs, records: Sequence[TrialRecord], detector: Detector, scored: Scored
) -> dict[str, Any]:
    """Hold figures of a trial's detector against those that the search recorded.

    Args:
        inputs: What the study was made from.
        records: The trial; of several as one detector, nothing was recorded.
        detector: Fitted as in the search.
        scored: Its answer to validation.

    Returns:
        ``stored``, ``largest_difference`` and ``reproduced``, and ``objectives`` of several
        trials, as `autosearch.study.final` describes them.
    """
    if len(records) > 1:
        measured = _objectives(inputs, records, detector, scored)
        unrecorded = {"stored": {}, "largest_difference": 0.0, "reproduced": True}
        return {**unrecorded, "objectives": measured}
    (record,) = records
    recorded, known = {**record.measured, **record.values}, inputs.known
    # A ratio of scores is the same every time; a latency is not.
    stored = {
        name: recorded[name]
        for name, objective in known.items()
        if name in recorded and objective.moment == "score" and not objective.unit
    }
    differences = [
        abs(known[name].measure(detector, scored) - value) for name, value in stored.items()
    ]
    largest = max(differences, default=0.0)
    return {
        "stored": stored,
        "largest_difference": largest,
        "reproduced": largest <= TOLERANCE,
    }


def _objectives(
    inputs: Inputs, records: Sequence[TrialRecord], detector: Detector, scored: Scored
) -> dict[str, float]:
    """Figures of an ensemble that all its members have, by the names of objectives.

    Those of probabilities are left out, which an ensemble's maps are not, and those that are
    undefined.
    """
    names = [{**record.measured, **record.values}.keys() for record in records]
    found = {
        name: float(objective.measure(detector, scored))
        for name, objective in inputs.known.items()
        if not objective.probabilities and all(name in own for own in names)
    }
    return {name: value for name, value in found.items() if math.isfinite(value)}
