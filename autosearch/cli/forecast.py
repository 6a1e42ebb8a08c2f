"""What memory and time a trial will take, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.filesize import decimal

from autosearch.api import time_text


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
        text += f", and about {time_text(forecast['seconds'])}"
        text += " on this machine" if space else ""
    return text
