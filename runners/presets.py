"""Named sets of defaults: what a paper, its code or this project trains a method with."""

from __future__ import annotations

from collections.abc import Mapping

from autosearch.contracts import ParameterInfo, with_defaults
from autosearch.spec import Params

PRESET = "preset"
SMALL = "small"
"""The preset whose values are the parameters' defaults: what two CPU cores train in minutes."""


def preset(presets: Mapping[str, Params]) -> ParameterInfo:
    """The parameter that names one of some presets, or `SMALL`."""
    help = "where the defaults of the other parameters come from"
    return ParameterInfo(SMALL, help, choices=(SMALL, *presets))


def with_preset(
    params: Params, known: Mapping[str, ParameterInfo], presets: Mapping[str, Params]
) -> Params:
    """All parameters of a runner but `PRESET`: those given, else the preset's, else defaults.

    Args:
        params: What a trial names.
        known: The runner's parameters.
        presets: By name what a preset has instead of the defaults.
    """
    name = str(params.get(PRESET, SMALL))
    full = with_defaults({**presets.get(name, {}), **params}, known)
    full.pop(PRESET, None)
    return full
