"""The category of a dataset as a spec gives it: one name, or several that one model is for."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError, PydanticKnownError


def _category(value: object) -> object:
    """Take a list for a tuple, and refuse what names no categories in words for people."""
    if not isinstance(value, (list, tuple)):
        if isinstance(value, str):
            return value
        raise PydanticKnownError("string_type")
    if not all(isinstance(name, str) for name in value):
        raise PydanticKnownError("string_type")
    if not value:
        problem = "one name or several, such as [bottle, screw]: the list is empty"
    elif len(set(value)) < len(value):
        problem = "each name once"
    elif not all(value) or any("/" in name for name in value):
        # A type is called category/type where there are several.
        problem = "names that are not empty and hold no /"
    else:
        return value[0] if len(value) == 1 else tuple(value)
    raise PydanticCustomError("category", "Input should be {problem}", {"problem": problem})


Category = Annotated[str | tuple[str, ...], BeforeValidator(_category)]
"""A name, or several different ones; a list of one is that one."""
