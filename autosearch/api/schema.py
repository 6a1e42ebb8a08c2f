"""The spec for editors: a JSON schema of whatever is installed."""

from __future__ import annotations

import json
from pathlib import Path

from autosearch.contracts import registry, study_schema
from autosearch.errors import ConfigError
from autosearch.files import user_path, write_atomic


def schema_text() -> str:
    """The JSON schema of a spec, with the runners and objectives that are installed."""
    runners = {name: registry.load_runner(name) for name in registry.runner_names()}
    found = study_schema(runners, registry.objectives())
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def write_schema(out: str | Path) -> Path:
    """Write `schema_text` to a file.

    Returns:
        The file.

    Raises:
        ConfigError: It cannot be written.
    """
    path = user_path(str(out), "out")
    try:
        write_atomic(path, schema_text())
    except OSError as error:
        raise ConfigError("out", str(out), f"a file to write ({error.strerror})") from None
    return path


def modeline(schema: Path) -> str:
    """The comment by which an editor with yaml-language-server finds a spec's schema."""
    return f"# yaml-language-server: $schema={schema.as_posix()}"
