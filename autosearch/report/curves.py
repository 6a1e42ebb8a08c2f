"""Curves of a training as a detector left them: checked, and made small enough to draw."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

_MOST_BYTES = 1_000_000
_MOST_POINTS = 200

# Shown in a column 400 pixels wide; more of either is nothing that a person could read there.
_Label = Annotated[str, Field(max_length=200)]
_Few = Field(min_length=1, max_length=20)


class _Panel(BaseModel):
    title: _Label
    series: Annotated[dict[_Label, list[float | None]], _Few]


class _Curves(BaseModel):
    x: _Label
    panels: Annotated[list[_Panel], _Few]


def read_curves(path: Path) -> dict[str, Any] | None:
    """Read the ``curves.json`` that `autosearch.contracts.detector.Detector.artifacts` describes.

    Of more than 200 steps that many are kept, the first and the last among them. Each then has the
    last number known since the one before it, so that a series with a number every few steps
    loses none of its course.

    Returns:
        ``x``, its label; ``steps``, how many there were; ``at``, those that are kept, the first
        being 1; ``panels``, each with its ``title`` and its ``series``, as many numbers as in
        ``at`` by name, to four significant digits and None where there is none or it is not
        finite. None for a file that cannot be read, is larger than 1 MB, has another form, more
        than 20 panels or 20 series in one, or series of different lengths.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        found = _Curves.model_validate_json(path.read_bytes(), strict=True)
    except (OSError, ValidationError):
        return None
    lengths = {len(numbers) for panel in found.panels for numbers in panel.series.values()}
    steps = lengths.pop()
    if lengths or steps == 0:
        return None
    at = np.linspace(1, steps, min(steps, _MOST_POINTS)).round().astype(int).tolist()
    panels = [
        {
            "title": panel.title,
            "series": {name: _thinned(numbers, at) for name, numbers in panel.series.items()},
        }
        for panel in found.panels
    ]
    return {"x": found.x, "steps": steps, "at": at, "panels": panels}


def _thinned(numbers: list[float | None], at: list[int]) -> list[float | None]:
    kept = []
    for start, end in zip([0, *at], at, strict=False):
        short = (_short(number) for number in reversed(numbers[start:end]))
        kept.append(next((number for number in short if number is not None), None))
    return kept


def _short(number: float | None) -> float | None:
    if number is None:
        return None
    # The largest floats are rounded to infinity.
    rounded = float(f"{number:.4g}")
    return rounded if math.isfinite(rounded) else None
