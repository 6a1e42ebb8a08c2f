"""A fitted trial under changes of its pictures: what becomes of scores, alarms and defects.

What is measured of a trial is one JSON object (the invariance report):

- ``trial``, or None and ``ensemble``, their numbers; ``written`` (time), ``autosearch``, ``data``:
  ``sha256`` of the test split;
- ``fit`` and ``fitted_on``, as in `autosearch.study.final`; ``size``, height and width of the
  input; ``preprocess``, the stage that came before the changes;
- ``images``: ``normal`` and ``anomalous``, how many were changed, and ``of``, how many there are;
- ``threshold``: of images, as `Threshold.to_plain` says, and ``threshold_from``, in words;
- ``spread``: standard deviation of the normal images' unchanged scores;
- ``unchanged``: the figures below without a change; ``changes``: one a change, with ``name``,
  ``family``, ``severity`` and figures; ``left_out``: names of changes that the canvas forbids.

Figures, None where undefined: ``shift`` (mean over normal images of the score less that of the
unchanged image), ``shift_in_spreads`` (the same in units of ``spread``), ``false_alarms`` (share
of normal images at or above the threshold), ``found`` (share of anomalous ones), ``rwap``, ``ap``
and ``image_auroc``, of all images changed alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autosearch import __version__
from autosearch.contracts import Detector, TrialRecord, derived_seed, ensemble_name, scales_of
from autosearch.data import ImageSet, load_test_set
from autosearch.metrics import Ranking, Scores, Threshold, Truth, auroc, decide, image_scores
from autosearch.spec import Override
from autosearch.storage import StudyFolder
from autosearch.study.calibration import thresholds_of
from autosearch.study.changes import Change, changes_of
from autosearch.study.ensemble import fitted
from autosearch.study.findings import about_trials, finding_name, write_finding
from autosearch.study.fitted import all_normal, fit_of
from autosearch.study.inputs import Inputs
from autosearch.study.repetition import of_first_run
from autosearch.study.truth import maps_of, truth_of

INVARIANCE = "invariance"
"""Folder of these reports among the findings of a study."""

_AT_ONCE = 8
"""Images that are changed at a time: all of them, changed, would be as large as the split."""

Told = Callable[[str, int, int], None]
"""Told what is being done, and how many steps of how many are done."""


def measure_invariance(
    folder: StudyFolder,
    records: Sequence[TrialRecord],
    reopened: Callable[[], Inputs],
    most: int = 100,
    progress: Callable[[int, int], None] | None = None,
    told: Told = lambda text, done, total: None,
    moved: Sequence[Override] = (),
) -> dict[str, Any]:
    """Fit a trial as `evaluate` does, change the images of the test split, measure, and store.

    The threshold of images is their own: the one that `evaluate` stored, or else chosen on
    validation by the usual rule with a detector that was fitted as in the search.

    Args:
        folder: The study's.
        records: A trial with values, or those of an ensemble.
        reopened: Loads what the study was made from.
        most: Normal and anomalous images of each kind that are changed; of more, that many are
            drawn with the study's seed.
        progress: Told of images of the test split read, and their total.
        told: Told of the fits, then of each change.
        moved: See `autosearch.study.inputs.reopen`.

    Returns:
        As this module describes it.
    """
    test, info = load_test_set(folder.load_spec(moved).dataset, progress)
    inputs = reopened()
    data, seed = inputs.data, inputs.spec.study.seed
    fit = fit_of("all", inputs.runner.supervised)
    images = data.train if fit == "train" else all_normal(data)
    records = [of_first_run(one, folder.files.load_runs(one.origin)) for one in records]
    known = _evaluated(folder, records)
    if known is not None and len(records) == 1:
        threshold, source = known, "evaluate"
        told(f"fitting on {len(images)} images", 0, 1)
        detector = fitted(inputs, records, images)
    else:
        told(f"fitting on {len(data.train)} train images, for the threshold", 0, 1)
        detector = fitted(inputs, records, data.train)
        scales = scales_of(detector)  # An ensemble needs this first fit for them, too.
        maps, truth = maps_of(detector, data.val), truth_of(data.val)
        threshold = known or thresholds_of(maps, truth, top_share=detector.top_share).image
        source = "validation" if known is None else "evaluate"
        if fit == "all":
            del detector  # Two banks need not be in memory at once.
            told(f"fitting on all {len(images)} normal images", 0, 1)
            detector = fitted(inputs, records, images, scales)
    chosen = drawn(test, most, derived_seed(seed, INVARIANCE))
    found = invariance_of(detector, chosen, threshold, derived_seed(seed, "noise"), told)
    report = {
        **about_trials(records),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "autosearch": __version__,
        "data": {"sha256": info["sha256"]},
        "fit": fit,
        "fitted_on": len(images),
        "size": list(test.pixels.shape[2:]),
        "preprocess": inputs.spec.dataset.preprocess,
        "images": {
            "normal": int((~chosen.labels).sum()),
            "anomalous": int(chosen.labels.sum()),
            "of": len(test),
        },
        "threshold": threshold.to_plain(),
        "threshold_from": source,
        **found,
    }
    write_finding(folder, INVARIANCE, f"{finding_name(report)}.json", report)
    return report


def invariance_of(
    detector: Detector,
    images: ImageSet,
    threshold: Threshold,
    seed: int,
    told: Told = lambda text, done, total: None,
) -> dict[str, Any]:
    """What becomes of scores and figures when images are changed.

    Args:
        detector: Fitted.
        images: Normal and anomalous ones.
        threshold: Of image scores.
        seed: Of noise.
        told: Told of each change.

    Returns:
        ``spread``, ``unchanged``, ``changes`` and ``left_out`` of the report.
    """
    size = (images.pixels.shape[2], images.pixels.shape[3])
    wanted, left_out = changes_of(size)
    told("as they are", 0, len(wanted) + 1)
    before, figures = _measured(detector, images, threshold, None)
    normal = ~images.labels
    spread = float(before[normal].std(ddof=1)) if normal.sum() > 1 else math.nan
    rows = []
    for number, change in enumerate(wanted, 1):
        told(change.name, number, len(wanted) + 1)
        noise = torch.Generator().manual_seed(seed)
        after, changed = _measured(detector, images, threshold, (change, noise))
        moved = (after[normal] - before[normal]).astype(np.float64)
        shift = float(moved.mean()) if len(moved) else math.nan
        inside = shift / spread if spread > 0 else (0.0 if shift == 0 else math.nan)
        rows.append(
            {
                "name": change.name,
                "family": change.family,
                "severity": change.severity,
                **_plain({"shift": shift, "shift_in_spreads": inside, **changed}),
            }
        )
    told("done", len(wanted) + 1, len(wanted) + 1)
    return {
        **_plain({"spread": spread}),
        "unchanged": _plain({"shift": 0.0, "shift_in_spreads": 0.0, **figures}),
        "changes": rows,
        "left_out": [change.name for change in left_out],
    }


def drawn(images: ImageSet, most: int, seed: int) -> ImageSet:
    """At most so many normal and so many anomalous images, in their order."""
    draw = np.random.default_rng(seed)
    wanted = np.zeros(len(images), dtype=bool)
    for label in (False, True):
        places = np.flatnonzero(images.labels == label)
        wanted[places if len(places) <= most else draw.choice(places, most, False)] = True
    return images.select(wanted)


def _evaluated(folder: StudyFolder, records: Sequence[TrialRecord]) -> Threshold | None:
    """The threshold of images that `evaluate` stored of them."""
    if len(records) == 1:
        found = folder.files.load_tests().get(records[0].number, {})
    else:
        name = ensemble_name(record.number for record in records)
        found = folder.files.load_ensembles().get(name, {})
    known = found.get("thresholds")
    return None if known is None else Threshold.from_plain(known["image"])


def _measured(
    detector: Detector,
    images: ImageSet,
    threshold: Threshold,
    how: tuple[Change, torch.Generator] | None,
) -> tuple[Scores, dict[str, float]]:
    """Scores of the images, changed or not, and figures of all of them together."""
    truth, maps = _asked(detector, images, how)
    scores = image_scores(maps, detector.top_share, truth.scored).astype(np.float64)
    alarms, labels = decide(scores, threshold), truth.labels
    ranking = Ranking.from_maps(maps, truth)
    return scores, {
        "false_alarms": float(alarms[~labels].mean()) if not labels.all() else math.nan,
        "found": float(alarms[labels].mean()) if labels.any() else math.nan,
        "rwap": ranking.rwap(),
        "ap": ranking.ap(),
        "image_auroc": auroc(scores, labels),
    }


def _asked(
    detector: Detector, images: ImageSet, how: tuple[Change, torch.Generator] | None
) -> tuple[Truth, NDArray[np.float32]]:
    """Ground truth and maps; changed pictures are made and forgotten some at a time."""
    if how is None:
        return truth_of(images), maps_of(detector, images)
    change, noise = how
    parts, maps = [], []
    for start in range(0, len(images), _AT_ONCE):
        part = images.part(start, min(start + _AT_ONCE, len(images)))
        part = change.pictures(part, noise)
        maps.append(maps_of(detector, part))
        parts.append(replace(part, pixels=part.pixels[:0]))
    fields: dict[str, Any] = {
        name: None
        if getattr(parts[0], name) is None
        else np.concatenate([getattr(part, name) for part in parts])
        for name in ("masks", "regions", "valid")
    }
    return truth_of(replace(images, **fields, place=None)), np.concatenate(maps)


def _plain(figures: Mapping[str, float]) -> dict[str, float | None]:
    """With None for NaN, which JSON does not have."""
    return {name: None if math.isnan(value) else value for name, value in figures.items()}
