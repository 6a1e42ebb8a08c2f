"""YAML that holds data alone, read strictly: whatever looks like a mistake is one."""

from __future__ import annotations

import codecs
import copy
import re
import sys
from collections.abc import Hashable
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from autosearch.errors import ConfigError

_MAX_BYTES = 1_000_000
# Besides its own errors, PyYAML raises these on bad numbers, dates and tags such as `!!bool x`.
_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)


def read_yaml(path: Path) -> Any:
    """What a file of one YAML document holds.

    Raises:
        ConfigError: It cannot be read, is larger than a megabyte, or is no YAML in UTF-8.
    """
    try:
        with path.open("rb") as file:
            # A pipe has no size that could be asked for.
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise ConfigError(str(path), "more than that", "a YAML file below 1 MB")
        return copy.deepcopy(_parsed(text.decode("utf-8")))
    except OSError as error:
        raise ConfigError(str(path), error.strerror, "a readable YAML file") from None
    except _ERRORS as error:
        place = getattr(error, "problem_mark", None)
        where = f"{path}:{place.line + 1}" if place else str(path)
        problem = getattr(error, "problem", None) or type(error).__name__
        raise ConfigError(where, problem, "valid YAML in UTF-8") from None


@lru_cache(maxsize=8)
def _parsed(text: str) -> Any:
    """What a text holds, not to be changed; a search reads the same spec again and again."""
    return yaml.load(text, Loader=_UniqueKeyLoader)


def yaml_value(text: str, key: str) -> Any:
    """What a text of one YAML value means.

    Args:
        text: Such as ``[1.0, 1.2]``.
        key: What an error names.

    Raises:
        ConfigError: It is no YAML.
    """
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except _ERRORS:
        raise ConfigError(key, text, "a value in YAML") from None


def yaml_text(content: object) -> str:
    """YAML that `read_yaml` reads back to the same plain content."""
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def check_encoding(value: object, key: str) -> None:
    """Refuse text of which this process could not read all bytes.

    Args:
        value: Of any kind; what is no text is let through.
        key: What an error names.

    Raises:
        ConfigError: It holds bytes of an argument that stand for no character here.
    """
    if not isinstance(value, str) or not any("\ud800" <= sign <= "\udfff" for sign in value):
        return
    remedy = "text in UTF-8"
    if codecs.lookup(sys.getfilesystemencoding()).name != "utf-8":
        remedy += "; this locale has ASCII alone: set PYTHONUTF8=1 or LC_ALL=C.UTF-8"
    raise ConfigError(key, value, remedy)


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML in which a key that stands twice is an error instead of a silent loss.

    Aliases are refused: a spec needs none, and nested ones can grow to any size.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "aliases (*name) are not used in specs", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key in (key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Safe YAML in which text is quoted that the loader takes for a number."""


# YAML 1.1, which PyYAML reads, takes 1e-3 for text; everybody else means a number.
for _reader_or_writer in (_UniqueKeyLoader, _Dumper):
    _reader_or_writer.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
        "-+.0123456789",
    )
