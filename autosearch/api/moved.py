"""Images of a study that lie elsewhere now."""

from __future__ import annotations

from pathlib import Path

from autosearch.errors import ConfigError
from autosearch.files import user_path
from autosearch.spec import Override


def moved_to(data: str | Path | None, category: str | None) -> list[Override]:
    """What to replace in the spec of a study whose images lie elsewhere now.

    Raises:
        ConfigError: There is nothing there, or a category is given alone.
    """
    if data is None:
        if category is not None:
            raise ConfigError("--category", category, "--data beside it, to say where it is")
        return []
    root = user_path(str(data), "--data").resolve()
    if not root.exists():
        raise ConfigError("--data", str(data), "a folder or a CSV file that is there")
    moved: list[Override] = [("dataset.root", str(root))]
    if category is not None:
        # In brackets it names several.
        several = category.startswith("[")
        key = "dataset.category"
        moved.append(f"{key}={category}" if several else (key, category))
    return moved
