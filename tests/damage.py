"""Ways to damage what lies in a folder, and what a command answers then."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

Refused = Callable[..., str]
"""The fixture `refused`, or one that asks it."""

Change = Callable[[Path], object]
"""What is done to a folder that a test owns."""


def overwritten(name: str, content: str | bytes) -> Change:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(data)


def changed(name: str, change: Callable[[bytes], bytes]) -> Change:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def cut(name: str, share: float) -> Change:
    return lambda folder: os.truncate(folder / name, int((folder / name).stat().st_size * share))


def edited(name: str, change: Callable[[dict[str, Any]], object]) -> Change:
    """Change what stands in a JSON file, as somebody who knows nothing of hashes would."""

    def apply(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return apply


def removed(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def replaced(name: str, make: Change) -> Change:
    """Put something else in the place of a file."""

    def apply(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return apply


def linked(name: str, target: str | Path) -> Change:
    """Put a link in the place of a file."""
    return replaced(name, lambda path: path.symlink_to(target))
