"""What the card says of graphs beside the plain one: fixed shapes, and 8-bit integers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def other_formats(d: Mapping[str, Any], of_static: str, of_int8: str) -> Iterable[str]:
    """Paragraphs, and a table, of the formats that a description has.

    Args:
        d: The description.
        of_static: Name of the graph of fixed shapes, of several the first.
        of_int8: Of that in integers, likewise.
    """
    if (static := d.get("static")) is not None:
        yield _static(static, of_static)
    if (int8 := d.get("int8")) is not None:
        yield _int8(int8, of_int8)
        yield "\n".join(_int8_table(int8))


def _static(static: Mapping[str, Any], name: str) -> str:
    short = static["network"] == "float16"
    computed = (
        "The network computes in float16; distances, which pass what 16 bits hold, and all that "
        "follows in float32: build with strong types (`trtexec --stronglyTyped`), or TensorRT "
        "chooses for itself."
        if short
        else "All of it computes in float32, since half precision changed the maps too much."
    )
    operators = ", ".join(f"{kind} {count}" for kind, count in static["operators"].items())
    return (
        f"`{name}` is for batches of {static['batch']} and no other, in opset "
        f"{static['opset']}, for TensorRT and what else wants fixed shapes. {computed} In "
        f"onnxruntime its maps differ from torch's by {static['difference']:.1e} of the highest "
        f"score (allowed: {static['tolerance']:g}); it was not run in TensorRT. Operators: "
        f"{operators}."
    )


def _int8(int8: Mapping[str, Any], name: str) -> str:
    calibration = int8["calibration"]
    left = int8["in_float"]
    return (
        f"`{name}` computes in 8-bit integers (OpenVINO; {left} left in float): "
        "`autosearch predict … --provider openvino-int8`. Ranges were measured on "
        f"{calibration['images']} {calibration['of']} (seed {calibration['seed']}); what lies "
        "beyond them is cut off, so the highest scores are lower than in float. It has "
        "thresholds of its own (`int8.scoring` in `model.json`), as its scores are others. "
        "Figures are of validation, with the detector that the thresholds were chosen with:"
    )


def _int8_table(int8: Mapping[str, Any]) -> Iterable[str]:
    names = {"rwap": "rwAP", "ap": "AP", "image_ap": "AP, images"}
    both = {"float32": "float", "8 bits": "int8"}
    shown = {name: title for name, title in names.items() if name in int8["validation"]["float"]}
    yield f"| OpenVINO | {' | '.join(shown.values())} | size | one image |"
    yield "|---|" + "---:|" * (len(shown) + 2)
    for title, kind in both.items():
        figures = " | ".join(f"{int8['validation'][kind][name]:.4f}" for name in shown)
        size, time = int8["bytes"][kind] / 1e6, int8["latency_ms"][kind]
        yield f"| {title} | {figures} | {size:.2f} MB | {time:.1f} ms |"
