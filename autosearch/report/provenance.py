"""What stands behind a study's figures: data, weights, metrics and versions, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from autosearch.data import drawn_text, input_text, measured_text
from autosearch.spec import StudySpec


def header(spec: StudySpec, meta: Mapping[str, Any], figures: Iterable[str]) -> list[list[str]]:
    """What stands behind the figures, as pairs of a label and a text."""
    data, rows = meta.get("data", {}), []
    if data:
        split = "; ".join(
            f"{part} " + " + ".join(f"{number} {kind}" for kind, number in kinds.items())
            for part, kinds in data["counts"].items()
        )
        defects = drawn_text(data.get("defects", {}), measured_text(data))
        rows += [
            ["Dataset", f"{data['name']} / {data['category']}"],
            ["Split", f"{split} ({data['rule']})"],
            *([["Defects", defects]] if defects else []),
            ["Images", f"{input_text(data)}; resize: {data['resize_rule']}"],
            ["Masks", data["mask_rule"]],
            ["Regions", data.get("regions", "resized")],
            ["Data sha256", data["sha256"][:12]],
        ]
    rows += [
        ["Weights", f"{w['name']}, {w['source']}; sha256 {w['sha256'][:12]}; {w['note']}"]
        for w in meta.get("weights", ())
    ]
    rows += [
        ["Runner", spec.study.runner],
        ["Sampler", f"{spec.sampler.name}, seed {spec.study.seed}"],
        ["Objectives", ", ".join(spec.objectives)],
    ]
    rows += [["Constraints", ", ".join(spec.constraints)]] if spec.constraints else []
    versions = {"autosearch": meta.get("autosearch"), **meta.get("packages", {})}
    rows += [
        ["Metrics", _metrics_text(figures, spec.dataset.prevalence)],
        [
            "FLOPs",
            "gflops: network alone, 2 per multiply-accumulate; search_gflops: nearest neighbours; "
            "total_gflops: both",
        ],
        ["Versions", ", ".join(f"{name} {v}" for name, v in versions.items() if v)],
        ["Started", str(meta.get("written", "unknown"))],
    ]
    return rows


def _metrics_text(figures: Iterable[str], prevalence: float) -> str:
    names = set(figures)
    if "image_auroc" in names and "ap" not in names:
        return "of images alone, by their highest pixels: no anomalous validation image has a mask"
    return (
        "rwAP: every region counts alike, every anomaly type alike; exact over all validation "
        f"pixels. Calibrated: as it were if {100 * prevalence:.4g} % of the "
        "pixels were anomalous, so that splits can be compared"
    )


def warnings(meta: Mapping[str, Any]) -> Iterable[str]:
    """What must not be overlooked of data and weights."""
    random = [w["name"] for w in meta.get("weights", ()) if w["source"] == "random"]
    if random:
        yield (
            f"Random weights ({', '.join(random)}): accuracies show that the search works, and "
            "nothing about your parts."
        )
    if meta.get("data", {}).get("synthetic"):
        yield "Synthetic defects, drawn by a program: do not quote these accuracies."
    yield from (f"Weak: {note}." for note in meta.get("data", {}).get("weak", ()))
    yield from (f"Assumed of the data: {note}." for note in meta.get("data", {}).get("notes", ()))
