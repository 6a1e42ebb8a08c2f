"""What runners do alike with parameters: describe, ask what is drawn, read them as settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

from autosearch.backbones import DEFAULT_BACKBONE
from autosearch.contracts import ParameterInfo
from autosearch.spec import Params, StudySpec, Value, choice, integer, number

Settings = TypeVar("Settings")

BACKBONE = ParameterInfo(DEFAULT_BACKBONE, "name of a timm model", text=True)
PATCH_SIZE = ParameterInfo(3, "side of the neighbourhood that is averaged", low=1, high=16)


def switch(default: bool, help: str) -> ParameterInfo:
    """On or off."""
    return ParameterInfo(default, help, choices=(True, False))


def learning_rate(default: float, help: str) -> ParameterInfo:
    """Of what a runner trains."""
    return ParameterInfo(default, help, low=1e-6, high=0.1)


def epochs(default: int, help: str) -> ParameterInfo:
    """How many a training has."""
    return ParameterInfo(default, help, low=1, high=10_000)


def images_per_epoch(default: int, help: str) -> ParameterInfo:
    """How many images end an epoch."""
    return ParameterInfo(default, help, low=1, high=1_000_000)


def drawn(spec: StudySpec, name: str, *otherwise: Value) -> tuple[Value, ...]:
    """All values that a study may draw for a parameter; ``otherwise`` where it draws none."""
    named = {parameter.name: parameter for parameter in spec.parsed_space.parameters}
    if name not in named:
        return otherwise
    found = named[name]
    return (*found.values(), *otherwise) if found.when else found.values()


def settings(kind: Callable[..., Settings], full: Params, **given: object) -> Settings:
    """A dataclass whose fields are parameters of the same names, but for those that are given.

    Args:
        kind: The dataclass. The type of a field says how its parameter is read.
        full: A configuration that names every parameter.
        given: Values of all other fields, by name.
    """
    types = get_type_hints(kind)
    read = {name: _READERS.get(types[name], choice) for name in types if name not in given}
    return kind(**given, **{name: reader(full, name) for name, reader in read.items()})


def _flag(params: Params, name: str) -> bool:
    return bool(params[name])


_READERS: dict[object, Callable[[Params, str], Any]] = {
    int: integer,
    float: number,
    bool: _flag,
}
