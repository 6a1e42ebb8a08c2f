"""What a study was made from, as it stands beside its trials: nobody edits it there.

Studies of earlier versions have less of it, and only what they have is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autosearch.spec import StudySpec, defaults, differences

SPEC = "spec"
"""Entry of a guard that has the spec's identity; the others are hashes, by name."""

_EARLIER = {
    "runner": "study.runner",
    "repeats": "study.repeats",
    "seed": "study.seed",
    "objectives": "objectives",
    "constraints": "constraints",
    "space": "space",
}
"""Entries of guards of earlier versions, and the keys of a spec that they have values of."""


def begun_with(
    guard: Mapping[str, Any], meta: Mapping[str, Any], younger: Mapping[str, object]
) -> dict[str, Any]:
    """Values of keys of the spec that a study was begun with, by dotted name.

    Args:
        guard: What stands beside the trials; see `StudyDriver`.
        meta: What ``meta.json`` says, of which earlier versions are taken at their word.
        younger: Values that keys had before they were there, where it is not their default.
    """
    if SPEC in guard:
        return {**defaults(StudySpec), **younger, **guard[SPEC]}
    if "runner" not in guard:
        return {}
    found = {key: guard[name] for name, key in _EARLIER.items() if name in guard}
    found.setdefault("study.repeats", 1)
    found["backbone.architecture"] = None
    found |= {f"backbone.{name}": value for name, value in guard.get("backbone", {}).items()}
    return _told(meta) | found


def first_difference(begun: Mapping[str, Any], spec: StudySpec) -> tuple[str, Any, Any] | None:
    """A key of a spec that is not as the study was begun with, and both values; None if all are.

    Args:
        begun: See `begun_with`; what it does not have is not compared.
        spec: What is to be added to the study, or is said to be its spec.
    """
    return next(differences(StudySpec, begun, spec.identity()), None)


def not_kept(begun: Mapping[str, Any], spec: StudySpec) -> list[str]:
    """Keys that nothing can be said of."""
    return [key for key in spec.identity() if key not in begun]


def _told(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What earlier versions wrote into ``meta.json`` beside the trials."""
    data = meta.get("data") or {}
    found = {"study.seed": meta.get("seed"), "dataset.prevalence": data.get("prevalence")}
    size = data.get("image_size")
    found["dataset.image_size"] = size if isinstance(size, int) else None
    for name in ("mask_rule", "regions"):
        found[f"dataset.{name}"] = str(data.get(name) or "").partition(":")[0] or None
    return {key: value for key, value in found.items() if value is not None}
