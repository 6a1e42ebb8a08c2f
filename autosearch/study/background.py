"""Where a fitted trial's scores lie on normal images: on the object, or around it.

A detector whose normal images get their scores from the surroundings looks at the wrong thing: it
may tell dirt on the table from none, and a defect from none only by chance. What is measured is
one JSON object:

- ``trial``, or None and ``ensemble``, their numbers; ``written`` (time), ``autosearch``, ``data``:
  ``sha256`` of train and validation;
- ``images``: normal validation images that were asked about; the detector is fitted on the train
  split, so that it has seen none of them;
- ``foreground``: how many of them show an object that stands out from its surroundings;
- ``area_outside``: share of the pixels of those images that lie outside the object;
- ``mass_outside``: share of their score mass that does; the mass of a pixel is its score less the
  lowest one of its image, so that no constant counts;
- ``times_area``: the second over the first: 1 where scores do not care, above it where they prefer
  the surroundings;
- ``highest_outside``: share of these images whose highest score, which may decide, lies there;
- ``picture``: name of the PNG file beside it: the mean of all normal images, and the mean map.

Figures are None where no object stands out. Padding and what is not looked at count nowhere.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autosearch import __version__
from autosearch.contracts import TrialRecord
from autosearch.data import ImageSet, foreground_masks, heat, resize_mask
from autosearch.storage import StudyFolder
from autosearch.study.ensemble import fitted
from autosearch.study.findings import about_trials, finding_name, write_finding
from autosearch.study.inputs import Inputs
from autosearch.study.repetition import of_first_run
from autosearch.study.truth import maps_of

BACKGROUND = "background"
"""Folder of these reports among the findings of a study."""

_SIDE, _GAP = 320, 8
"""Longer side of each half of the picture, and what lies between both, in pixels."""


def measure_background(
    folder: StudyFolder,
    records: Sequence[TrialRecord],
    reopened: Callable[[], Inputs],
    told: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Fit a trial as the search did, ask it about normal validation images, and store.

    The test split is not read, so that what is found may be used to choose among trials.

    Args:
        folder: The study's.
        records: A trial with values, or those of an ensemble.
        reopened: Loads what the study was made from.
        told: Told what is being done.

    Returns:
        As this module describes it.
    """
    inputs = reopened()
    data = inputs.data
    records = [of_first_run(one, folder.files.load_runs(one.origin)) for one in records]
    told(f"fitting on {len(data.train)} train images")
    detector = fitted(inputs, records, data.train)
    normal = data.val.select(~data.val.labels)
    told(f"looking at {len(normal)} normal validation images")
    maps = maps_of(detector, normal)
    about = about_trials(records)
    name = finding_name(about)
    report = {
        **about,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "autosearch": __version__,
        "data": {"sha256": data.info["sha256"]},
        **background_of(normal, maps),
        "picture": f"{name}.png",
    }
    write_finding(folder, BACKGROUND, f"{name}.png", mean_picture(normal, maps))
    write_finding(folder, BACKGROUND, f"{name}.json", report)
    return report


def background_of(normal: ImageSet, maps: NDArray[np.float32]) -> dict[str, Any]:
    """How much of the scores of normal images lies outside of their objects.

    Args:
        normal: Normal images.
        maps: ``(N, h, w)``, theirs.

    Returns:
        ``images`` to ``highest_outside`` of the report.
    """
    size = (maps.shape[1], maps.shape[2])
    areas, masses, highest = [], [], []
    for i, found in enumerate(foreground_masks(normal.pixels)):
        if found.all():
            continue
        inside = found if found.shape == size else resize_mask(found, size)
        counted = np.ones(size, dtype=bool) if normal.valid is None else normal.valid[i]
        if not (counted & inside).any():
            continue
        outside = (counted & ~inside)[counted]
        scores = maps[i][counted].astype(np.float64)
        mass = scores - scores.min()
        areas.append((outside.sum(), outside.size))
        masses.append((mass[outside].sum(), mass.sum()))
        highest.append(bool(outside[scores.argmax()]))
    area, share = _share(areas), _share(masses)
    return {
        "images": len(normal),
        "foreground": len(areas),
        "area_outside": area,
        "mass_outside": share,
        "times_area": None if share is None or not area else share / area,
        "highest_outside": float(np.mean(highest)) if highest else None,
    }


def mean_picture(normal: ImageSet, maps: NDArray[np.float32]) -> bytes:
    """The mean of normal images beside the mean of their maps, from its lowest to its highest.

    Colours are those of anomaly maps in reports: black, red, pale yellow.

    Returns:
        A PNG file.
    """
    photo = np.zeros(normal.pixels.shape[1:], dtype=np.float64)
    for one in normal.pixels:
        photo += one
    left = ((photo / len(normal)).transpose(1, 2, 0) * 255).round().astype(np.uint8)
    mean = maps.mean(axis=0, dtype=np.float64)
    low, high = float(mean.min()), float(mean.max())
    right = heat((mean - low) / (high - low if high > low else 1.0))
    scale = _SIDE / max(left.shape[:2])
    height, width = (max(1, round(side * scale)) for side in left.shape[:2])
    both = Image.new("RGB", (2 * width + _GAP, height), "white")
    for number, part in enumerate((left, right)):
        scaled = Image.fromarray(part).resize((width, height), Image.Resampling.BILINEAR)
        both.paste(scaled, (number * (width + _GAP), 0))
    out = io.BytesIO()
    both.save(out, "PNG")
    return out.getvalue()


def _share(parts: list[tuple[Any, Any]]) -> float | None:
    """Sum of parts over sum of wholes; None without any."""
    part, whole = (float(sum(values)) for values in zip(*parts, strict=True)) if parts else (0, 0)
    return part / whole if whole > 0 else None
