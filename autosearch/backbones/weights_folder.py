"""A folder of files of weights, one a model."""

from __future__ import annotations

from pathlib import Path

from autosearch.backbones.foundation_weights import names_of
from autosearch.errors import WeightsError

SUFFIXES = (".safetensors", ".pth")
"""Of files of weights in a folder; where both are there, the first is taken."""

_SHOWN = 8
"""File names in an error, at most."""


def file_in(folder: Path, model: str) -> Path | None:
    """The file of a model, or None where the folder holds only files of others.

    It is called as the model, with or without timm's own first tag.

    Raises:
        WeightsError: The folder holds no file of weights at all, or cannot be read.
    """
    for name in names_of(model):
        for suffix in SUFFIXES:
            if (path := folder / f"{name}{suffix}").is_file():
                return path
    try:
        there = any(path.suffix in SUFFIXES for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise WeightsError(f"{folder}: cannot be read ({error.strerror})") from error
    if not there:
        raise missing_in(folder, model)
    return None


def missing_in(folder: Path, model: str) -> WeightsError:
    """The error that names the file that is wanted, and what lies there."""
    first, *others = names_of(model)
    wanted = f"{first}{SUFFIXES[0]} or {first}{SUFFIXES[1]}"
    wanted += "".join(f", or the same with {name}" for name in others)
    names = sorted(path.name for path in folder.iterdir())
    shown = ", ".join(names[:_SHOWN]) or "nothing"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return WeightsError(f"{folder}: no weights of {model}: expected {wanted}; found {shown}{more}")
