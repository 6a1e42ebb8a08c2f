"""Which keys of a spec make a study what it is, and which may change as long as it lasts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce
from operator import getitem
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

MAY_CHANGE = {
    "study.name": "says where the study lies",
    "study.trials": "more trials are added to those that are there",
    "study.timeout": "ends the search, and changes no trial",
    "study.trial_timeout": "a trial that ended in time is what it would have been without",
    "study.retries": "a trial that is handed out again is the same trial",
    "study.front_repeats": "runs are added to trials, whose values stay",
    "start": "says what is tried first, not what comes of it",
    "measures": "what else is measured changes no value",
    "sampler": "proposes configurations, and changes no value",
    "pruner": "ends trainings early; one that is complete is what it would have been without",
    "resources.cpu": "where trials run",
    "resources.gpu": "where trials run",
    "resources.max_concurrent": "how many run at a time",
    "resources.memory": "how many run at a time",
    "memory.backend": "every backend finds the same neighbours, the nearest ones",
    "dataset.name": "a label",
    "dataset.root": "the hash of the images is compared",
    "dataset.category": "the hash of the images is compared",
    "dataset.layout": "the hash of the images is compared",
    "backbone.weights": "the hashes of the weights are compared",
    "backbone.accept_licence": "says what was agreed to, and changes no value",
    "backbone.study": "what its trial was made from is compared",
    "backbone.trial": "what it was made from is compared",
    "synthesis.textures": "the hash of the folder is compared",
    "tracking": "shows trials elsewhere, and changes none",
}
"""Keys, or whole sections, that another run of a study may give other values, and why."""


def leaves(kind: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    """All keys of a kind of spec by dotted name; a section that may be null is one key."""
    found: dict[str, FieldInfo] = {}
    for name, field in kind.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            found |= leaves(section, f"{prefix}{name}.")
        else:
            found[prefix + name] = field
    return found


def may_change(key: str) -> bool:
    """Whether a dotted key, or a section that it is in, is named in `MAY_CHANGE`."""
    return any(key == name or key.startswith(f"{name}.") for name in MAY_CHANGE)


def fixed(spec: BaseModel) -> dict[str, Any]:
    """Values of all keys of a spec that must not change, by dotted name, as JSON has them."""
    plain = spec.model_dump(mode="json")
    keys = (key for key in leaves(type(spec)) if not may_change(key))
    return {key: reduce(getitem, key.split("."), plain) for key in keys}


def defaults(kind: type[BaseModel]) -> dict[str, Any]:
    """Defaults of all keys that must not change and have one, as JSON has them."""
    return {
        key: to_jsonable_python(field.get_default(call_default_factory=True))
        for key, field in leaves(kind).items()
        if not may_change(key) and not field.is_required()
    }


def differences(
    kind: type[BaseModel], then: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Keys that have other values now than then, and both values.

    Args:
        kind: Of spec.
        then: Values by dotted key; keys that it lacks are not compared.
        now: The same of another time.
    """
    known = leaves(kind)
    for key in (key for key in now if key in then):
        before = _complete(known[key], then[key])
        if before != _complete(known[key], now[key]):
            yield key, before, now[key]


def _complete(field: FieldInfo, value: Any) -> Any:
    """What may be a section from before it had all of its keys, with their defaults."""
    for section in (field.annotation, *get_args(field.annotation)):
        if (
            isinstance(value, Mapping)
            and isinstance(section, type)
            and issubclass(section, BaseModel)
        ):
            try:
                return section.model_validate(dict(value)).model_dump(mode="json")
            except ValidationError:
                continue  # Of another kind, or only a part of it is kept.
    return value
