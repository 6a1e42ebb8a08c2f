"""What the shell offers when Tab is pressed: studies, trials and spaces. Reads names alone."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import typer

_RESULTS = "results"


def study_folders(incomplete: str) -> Iterator[str]:
    """Folders that begin as typed, and where nothing else was, studies among the results."""
    typed = Path(incomplete)
    parent = typed if incomplete.endswith(os.sep) else typed.parent
    inside = [path for path in _folders(parent) if str(path).startswith(incomplete)]
    others = _folders(Path(_RESULTS)) if _RESULTS.startswith(incomplete) else []
    studies = [path for path in (*inside, *others) if _is_study(path)]
    yield from dict.fromkeys(map(str, studies))
    for path in inside:
        if not _is_study(path) and str(path) != _RESULTS:
            yield f"{path}{os.sep}"


def space_names(incomplete: str) -> Iterator[str]:
    """Spaces that are installed, and specs in files here."""
    from autosearch.contracts import registry

    yield from (name for name in registry.spaces() if name.startswith(incomplete))
    typed = Path(incomplete)
    parent = typed if incomplete.endswith(os.sep) else typed.parent
    for path in _entries(parent):
        if str(path).startswith(incomplete) and path.suffix in (".yaml", ".yml"):
            yield str(path)


def trial_numbers(ctx: typer.Context, incomplete: str) -> Iterator[str]:
    """Trials of the front of the study that the command names."""
    # An option that still lacks its value leaves all arguments of the command unread.
    words = [] if ctx.parent is None else ctx.parent.args
    for folder in (ctx.params.get("directory"), ctx.params.get("folder"), *words):
        numbers = _front(Path(str(folder))) if folder else []
        if numbers:
            yield from (number for number in numbers if number.startswith(incomplete))
            return


def _front(folder: Path) -> list[str]:
    """Numbers of a study's front; none where there is no study, or nothing yet."""
    try:
        with (folder / "pareto.csv").open(encoding="utf-8", newline="") as file:
            return [row["number"] for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, csv.Error):
        return []


def _is_study(path: Path) -> bool:
    return (path / "spec.yaml").is_file()


def _folders(parent: Path) -> list[Path]:
    return [path for path in _entries(parent) if path.is_dir()]


def _entries(parent: Path) -> list[Path]:
    """What lies in a folder, hidden things left out; nothing where it cannot be read."""
    try:
        return sorted(path for path in parent.iterdir() if not path.name.startswith("."))
    except OSError:
        return []
