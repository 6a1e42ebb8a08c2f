"""What a folder with an ONNX graph shows of how to run it without autosearch.

``snippets/`` holds the examples: one for Python, which reads ``model.json`` itself, and one for
C++, which reads no JSON, so that its numbers are filled in here. Free of torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

PYTHON, CPP = "run_onnx.py", "run_onnx.cpp"

_SNIPPETS = files("autosearch.export") / "snippets"


def examples(description: Mapping[str, Any]) -> dict[str, bytes]:
    """The examples by name, for the model that ``model.json`` describes.

    One that has to do more than resize an image says that it does not, and ends.
    """
    text = (_SNIPPETS / CPP).read_text(encoding="utf-8")
    values = _numbers(description)
    filled = re.sub(r"@(\w+)@", lambda found: values[found[1]], text)
    return {PYTHON: (_SNIPPETS / PYTHON).read_bytes(), CPP: filled.encode()}


def examples_text(description: Mapping[str, Any]) -> str:
    """What the card says of them."""
    if why := beyond(description):
        return f"`{PYTHON}` and `{CPP}` run graphs without autosearch, but not this one: {why}."
    return (
        f"`{PYTHON}` (numpy, onnxruntime, Pillow) and `{CPP}` (onnxruntime's C++ API; how to "
        "compile it stands in its head) give the scores, verdicts and maps of `predict` without "
        "autosearch. They are examples to start from: nothing runs them by itself."
    )


def beyond(description: Mapping[str, Any]) -> str | None:
    """Why the examples are not enough for a model; None where they are."""
    described = description["input"]
    framing = described["framing"]
    if described.get("tiling"):
        return "its images are cut into tiles"
    if framing.get("preprocess", "none") != "none" or described.get("stage"):
        return "an object is looked for in its images"
    if framing.get("looked_at"):
        return "a mask says what counts in its images"
    return None


def _numbers(description: Mapping[str, Any]) -> dict[str, str]:
    """What stands between ``@`` in the C++ example."""
    framing, why = description["input"]["framing"], beyond(description)
    height, width = framing["size"]
    return {
        "refused": f"{why}: this example does not do that, autosearch predict does" if why else "",
        "height": str(height),
        "width": str(width),
        "stretch": json.dumps(framing["fit"] == "stretch"),
        "region": ", ".join(map(str, framing["region"] or [-1] * 4)),
        "top_share": repr(float(description["image_score"]["top_share"] or 0)),
        "limit": repr(float(description["thresholds"]["image"]["value"])),
    }
