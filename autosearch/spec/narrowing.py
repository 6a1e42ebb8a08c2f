"""What of a file's space remains where the command line leaves a choice fewer values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autosearch.errors import AutosearchError
from autosearch.spec.space import Space


def fitting_space(space: Mapping[str, Any], given: set[str]) -> dict[str, Any]:
    """Leave out conditions that can no longer hold, and parameters that then never exist.

    Args:
        space: Forms of all parameters by name, not yet checked.
        given: Names of those that the command line says; they and what is wrong with them stay.

    Returns:
        The space without what follows from values that are gone.
    """
    kept = dict(space)
    gone: set[str] = set()
    changed = True
    while changed:
        changed = False
        for name, form in list(kept.items()):
            when = form.get("when") if isinstance(form, Mapping) else None
            if not isinstance(when, Mapping) or name in given:
                continue
            left = {
                other: [value for value in _listed(values) if _can_be(kept, other, value)]
                for other, values in when.items()
                if other in given or other in gone
            }
            if not all(left.values()):
                del kept[name]
                gone.add(name)
                changed = True
            elif any(left[other] != _listed(when[other]) for other in left):
                kept[name] = {**form, "when": {**when, **left}}
    return kept


def _listed(values: Any) -> list[Any]:
    return list(values) if isinstance(values, list) else [values]


def _can_be(space: Mapping[str, Any], name: str, value: Any) -> bool:
    """Whether a parameter may have a value; that it exists need not be."""
    if name not in space:
        return False
    form = space[name]
    if isinstance(form, Mapping):
        form = {key: part for key, part in form.items() if key != "when"}
    try:
        (parameter,) = Space.parse({name: form}).parameters
        return parameter.contains(value)
    except (AutosearchError, AttributeError):
        return True  # Whoever reads the space next says what is wrong.
