"""Whether validation can tell the trials of a study apart, or chance decides which look best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autosearch.contracts import SCORED, Objective, TrialRecord, canonical_key
from autosearch.data import NORMAL

ERROR = "_se"
"""What follows the name of a figure whose standard error over anomalous images is stored."""

CHANCE = 2.0
"""Times what a constant score gives up to which rwAP counts as chance."""

SAME = 5e-5
"""Least difference between figures of which no standard error is known: half of the last digit
that is shown."""

AUROC_ERROR = 0.05
"""Stands for the standard error of an AUROC of images where it was not stored."""

_IMAGE = "image_"


def indistinct(
    records: Sequence[TrialRecord],
    objectives: Mapping[str, Objective],
    data: Mapping[str, Any],
    prevalence: float,
) -> str | None:
    """One sentence where validation cannot tell the finished trials of a study apart.

    Judged is the first objective that is maximised, if it is a figure of pixels or images, over
    trials of different configurations, two at least. They cannot be told apart if

    - validation holds a single anomalous image (with a mask, if the objective is of pixels);
    - or none is better than chance: ``rwap_calibrated`` at most `CHANCE` times ``prevalence``,
      which is what a constant score gives, or, where the objective is of images, ``image_auroc``
      at most its standard error above 0.5;
    - or the best is at most its own standard error (`ERROR`) above the worst: all meet the same
      images, so what tells two of them apart is mostly smaller than the error of either, and a
      spread beyond it is no chance. Studies of earlier versions stored no error: there the spread
      must be below `SAME`.

    Args:
        records: Trials of the study.
        objectives: The study's, in its order.
        data: What the study's meta data say of its images; may be empty.
        prevalence: That calibrated figures stand for.

    Returns:
        What was found, why, and the ways out; None where trials can be told apart.
    """
    scored = {canonical_key(r.canonical): r for r in reversed(records) if r.status in SCORED}
    trials = list(scored.values())
    judged = next((o for o in objectives.values() if o.direction == "maximize"), None)
    if len(trials) < 2 or judged is None:
        return None
    if not judged.pixels and not judged.name.startswith(_IMAGE):
        return None
    name, images = judged.name, _anomalous(data, judged.pixels)
    values = [trial.values[name] for trial in trials]
    found = f"{name} from {min(values):.4f} to {max(values):.4f}"
    if images == 1:
        why = f"{found} on a single anomalous image"
    else:
        chance = _chance(trials, judged.pixels, prevalence)
        why = f"{found}, {chance}" if chance else _within_error(trials, name, found)
    if not why:
        return None
    return (
        f"validation cannot tell these trials apart: {why}; the front is by chance and cost. "
        f"{_ways_out(judged.pixels)}"
    )


def _ways_out(pixels: bool) -> str:
    larger = ", raise dataset.image_size" if pixels else ""
    return (
        f"Ways out: raise dataset.validation.real_per_type{larger}, or have "
        "dataset.validation.synthetic make more"
    )


def _anomalous(data: Mapping[str, Any], pixels: bool) -> int | None:
    """Anomalous images of validation that the figure is of; None if not known."""
    counts = (data.get("counts") or {}).get("val")
    if counts is None:
        return None
    unmarked = sum(drawn["images"] - drawn["marked"] for drawn in data.get("defects", {}).values())
    number = sum(number for kind, number in counts.items() if kind != NORMAL)
    return int(number - unmarked if pixels else number)


def _chance(trials: Sequence[TrialRecord], pixels: bool, prevalence: float) -> str:
    """Says so where no trial is better than chance."""
    name = "rwap_calibrated" if pixels else "image_auroc"
    figures = [{**trial.measured, **trial.values} for trial in trials]
    if any(name not in known for known in figures):
        return ""
    values = [known[name] for known in figures]
    if pixels:
        if max(values) > CHANCE * prevalence:
            return ""
        return f"near chance ({name} at most {max(values):.4f}; chance gives {prevalence:g})"
    above = (known[name] - known.get(name + ERROR, AUROC_ERROR) for known in figures)
    return "near chance, which gives an image_auroc of 0.5" if max(above) <= 0.5 else ""


def _within_error(trials: Sequence[TrialRecord], name: str, found: str) -> str:
    """Says so where the best is hardly better than the worst."""
    best = max(trials, key=lambda trial: trial.values[name])
    ahead = best.values[name] - min(trial.values[name] for trial in trials)
    error = best.measured.get(name + ERROR)
    if error is None:
        return f"{found}, hardly a difference" if ahead < SAME else ""
    return f"{found}, standard error {error:.4f}" if ahead <= error else ""
