"""Several trials of a study as one detector: which may be taken, and the detector itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from autosearch.contracts import (
    SCORED,
    Detector,
    Member,
    Scales,
    TrialContext,
    TrialRecord,
    canonical_key,
    ensemble_of,
    give_scales,
)
from autosearch.data import ImageSet
from autosearch.errors import ConfigError, StudyError
from autosearch.spec import Params
from autosearch.storage import StudyFolder
from autosearch.study.evaluation import placed
from autosearch.study.inputs import Inputs, rebuild, threads_of
from autosearch.study.repetition import of_first_run

MOST = 16
"""Members of an ensemble."""


def members_of(folder: StudyFolder, numbers: Sequence[int]) -> list[TrialRecord]:
    """The trials of an ensemble as their first runs left them, in order of number.

    Args:
        folder: The study's.
        numbers: Of its trials, in any order.

    Raises:
        ConfigError: They are not two to `MOST` numbers of different configurations.
        StudyError: There is no such trial, or it has no values.
    """
    whole = all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
    if not whole or not 2 <= len(numbers) <= MOST or len(set(numbers)) < len(numbers):
        shown = ",".join(map(str, numbers))
        allowed = f"numbers of 2 to {MOST} trials of one study, each once, such as 3,7,12"
        raise ConfigError("ensemble", shown, allowed)
    records, chosen = folder.trials.records(), []
    for number in sorted(numbers):
        if not 0 <= number < len(records):
            raise StudyError(f"{folder.path}: no trial {number}; there are {len(records)}")
        record = records[number]
        if record.status not in SCORED:
            why = f": {record.reason}" if record.reason else ""
            raise StudyError(f"{folder.path}: trial {number} is {record.status}{why}")
        chosen.append(of_first_run(record, folder.files.load_runs(record.origin)))
    first: dict[str, int] = {}
    for record in chosen:
        other = first.setdefault(canonical_key(record.canonical), record.number)
        if other != record.number:
            allowed = f"trials that differ; {other} and {record.number} are one configuration"
            raise ConfigError("ensemble", ",".join(map(str, numbers)), allowed)
    return chosen


def fitted_ensemble(
    inputs: Inputs,
    records: Sequence[TrialRecord],
    images: ImageSet,
    scales: Sequence[Scales] = (),
    configurations: Sequence[Params] | None = None,
) -> Detector:
    """Make the detector of an ensemble from its trials, and fit it.

    Of images in tiles it is an ensemble in every tile, so that one graph is all of a tile's map.

    Args:
        inputs: What the study was made from.
        records: The trials, as `members_of` gives them.
        images: What to fit on.
        scales: Of the ensemble as it was fitted on the train split (`scales_of`); needed where
            images of validation are among those to fit on, as their scores would be too low.
        configurations: Canonical ones to build in place of the trials'.

    Raises:
        Infeasible: As `EnsembleDetector.fit`.
    """
    detector = _rebuilt(inputs, records, configurations)
    if scales:
        give_scales(detector, scales)
    detector.fit(images)
    return detector


def fitted(
    inputs: Inputs,
    records: Sequence[TrialRecord],
    images: ImageSet,
    scales: Sequence[Scales] = (),
) -> Detector:
    """Make the detector of a trial, or that of several, and fit it as the search did.

    Args:
        inputs: What the study was made from.
        records: One, or as `members_of` gives them.
        images: What to fit on.
        scales: See `fitted_ensemble`; of a single trial none.
    """
    if len(records) > 1:
        return fitted_ensemble(inputs, records, images, scales)
    detector = rebuild(inputs, records[0])
    with threads_of(records[0]):
        detector.fit(images)
    return detector


def _rebuilt(
    inputs: Inputs, records: Sequence[TrialRecord], configurations: Sequence[Params] | None
) -> Detector:
    canonical = configurations or [record.canonical for record in records]
    seeds = [inputs.seed_of(record.canonical) for record in records]

    def make(context: TrialContext) -> Detector:
        members = []
        for record, params, seed in zip(records, canonical, seeds, strict=True):
            torch.manual_seed(seed)
            detector = inputs.runner.build(params, replace(context, seed=seed))
            members.append(Member(f"trial {record.number}", detector, record.threads))
        return ensemble_of(members, context.validation)

    return placed(inputs.spec, seeds[0], inputs.data.val, make)
