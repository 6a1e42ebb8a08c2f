"""What memory and time a trial will take, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.filesize import decimal


def forecast_text(forecast: Mapping[str, Any], space: str | None = None) -> str:
    """What pictures and a trial take.

    Args:
        forecast: As `autosearch.study.Forecast.to_plain` gives it.
        space: Whose trial it would be on this machine; None where it is that of a study.
    """
    text = f"pictures {decimal(forecast['pictures'])}, in a shared file"
    if "trial" in forecast:
        text += f"; a trial{f' of {space}' if space else ''} about {decimal(forecast['trial'])}"
    if "seconds" in forecast:
        text += f", and about {_about(forecast['seconds'])}"
        text += " on this machine" if space else ""
    return text


def _about(seconds: float) -> str:
    """An estimated time; no more figures than it deserves."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{max(1.0, float(f'{seconds:.1g}')):.0f} s"
