"""Windows of a memory bank that suit how well a study's images are aligned, to begin with."""

from __future__ import annotations

import math
from typing import NamedTuple

from autosearch.data import likeness_of
from autosearch.spec import Parameter, Params, Value
from autosearch.study.inputs import Inputs

_NAME = "window"


class FirstWindows(NamedTuple):
    """What a study tries beside its first configuration.

    Attributes:
        configurations: The first one with other windows; none where windows will hardly help.
        text: How well the images are aligned, and what follows from it.
    """

    configurations: tuple[Params, ...]
    text: str


def first_windows(inputs: Inputs) -> FirstWindows | None:
    """The first configuration with the windows that `autosearch data check` would advise.

    Returns:
        None where ``start.windows`` does not ask for it, the space has no windows, nothing is
        listed to begin with, or there is too little to compare.
    """
    spec = inputs.spec
    parameters = {parameter.name: parameter for parameter in spec.parsed_space.parameters}
    if not (spec.windows and spec.configurations and _NAME in parameters):
        return None
    found = likeness_of(inputs.data.train, spec.dataset.preprocess)
    if found is None:
        return None
    radii = [] if found.windows is None else _radii(parameters[_NAME], *found.windows)
    first = spec.configurations[0]
    made = [_with(first, radius, parameters) for radius in radii if radius != first.get(_NAME)]
    tried = " and ".join(str(radius) for radius in radii)
    text = f"{found.text}; tried first: {tried}" if radii else found.text
    return FirstWindows(tuple(made), text)


def _radii(window: Parameter, least: int, greatest: int) -> list[int]:
    """Radii of the space within the limits, at least the nearest to them."""
    known = sorted(value for value in window.values() if isinstance(value, int))
    within = [radius for radius in known if least <= radius <= greatest]
    nearest = sorted(known, key=lambda radius: min(abs(radius - least), abs(radius - greatest)))
    return within or nearest[:1]


def _with(first: Params, radius: int, parameters: dict[str, Parameter]) -> Params:
    """A configuration with another window, and what that brings with it in the middle."""
    changed: Params = {}
    for name, parameter in parameters.items():
        if name == _NAME:
            changed[name] = radius
        elif parameter.active({**first, **changed}):
            if name in first:
                changed[name] = first[name]
            elif any(key == _NAME for key, _ in parameter.when):
                changed[name] = _middle(parameter)
    return changed


def _middle(parameter: Parameter) -> Value:
    """A value that is neither small nor large."""
    if parameter.kind == "choice":
        return parameter.choices[len(parameter.choices) // 2]
    low, high = parameter.low, parameter.high
    middle = math.sqrt(low * high) if parameter.log else (low + high) / 2
    if parameter.step:
        middle = low + round((middle - low) / parameter.step) * parameter.step
    return round(middle) if parameter.kind == "int" else middle
