"""A spec as a person would write it: a comment with every choice, and a space's own text."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator

import yaml

_WIDTH = 96
_KEY = re.compile(r"([A-Za-z_]+):")


def comment_lines(text: str, indent: int = 0) -> Iterator[str]:
    """Lines of a comment, wrapped."""
    start = " " * indent + "# "
    yield from textwrap.wrap(
        text, _WIDTH, initial_indent=start, subsequent_indent=start,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def yaml_line(key: str, value: object, indent: int = 0) -> str:
    """A key and its value on one line."""
    return f"{' ' * indent}{key}: {_inline(value)}"


def yaml_sections(text: str, names: Iterable[str]) -> str:
    """Some top-level sections of a YAML file as they stand, with the comments before each.

    Args:
        text: Of the file. Its first comment, before any section, is left out.
        names: Of the sections that are wanted.
    """
    wanted, kept = set(names), list[str]()
    before: list[str] = []
    inside = first = False
    for one in text.splitlines():
        if (found := _KEY.match(one)) is not None:
            inside = found[1] in wanted
            kept += [*before, one] if inside and first else [one] if inside else []
            before, first = [], True
        elif one.startswith("#") or not one.strip():
            before.append(one)
        elif inside:
            kept += [*before, one]
            before = []
        else:
            before = []
    return "\n".join(kept) + "\n"


def _inline(value: object) -> str:
    """A value in YAML's flow style; text that YAML would take for something else is quoted."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_inline(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_inline(one) for one in value) + "]"
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z_/~][\w./~+-]*( [\w./~+-]+)*|[0-9.]+[smhd]", value)
        return (
            value
            if plain and yaml.safe_load(value) == value
            else json.dumps(value, ensure_ascii=False)
        )
    return json.dumps(value, ensure_ascii=False)
