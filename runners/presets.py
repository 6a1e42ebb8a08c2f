"""Named sets of defaults: what a paper, its code or this project trains a method with."""

from __future__ import annotations

from collections.abc import Mapping

from autosearch.contracts import ParameterInfo, with_defaults
from autosearch.spec import Params, StudySpec, Value

from .parameters import drawn

PRESET = "preset"
SMALL = "small"
"""The preset whose values are the parameters' defaults: what two CPU cores train in minutes."""


def preset(presets: Mapping[str, Params]) -> ParameterInfo:
    """The parameter that names one of some presets, or `SMALL`."""
    help = "where the defaults of the other parameters come from"
    return ParameterInfo(SMALL, help, choices=(SMALL, *presets))


def backbones_of(spec: StudySpec, presets: Mapping[str, Params], usual: Value) -> list[str]:
    """The backbones that a study may draw, or that a preset stands for where it draws none.

    Args:
        spec: Of the study.
        presets: By name what a preset has instead of the defaults.
        usual: The backbone without a preset.
    """
    chosen = [presets.get(str(name), {}) for name in drawn(spec, PRESET, None)]
    defaults = [preset.get("backbone", usual) for preset in chosen]
    names = drawn(spec, "backbone", *defaults)
    if any(chosen) and spec.parsed_space.conditional:
        names = (*names, *defaults)  # A preset may stand where the space has no backbone.
    return [str(name) for name in dict.fromkeys(names)]


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
