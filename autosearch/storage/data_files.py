"""Which images a study was begun with: names and short hashes, to say later which are others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from autosearch.files import write_atomic

_MAX_BYTES = 200_000_000
_SHOWN = 3

Files = dict[str, dict[str, str]]
"""By split, then by name relative to the root: a hash of image, mask and how they were read."""


class _Kept(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    sha256: str
    files: Files


def files_of(lines: Iterable[str]) -> Files:
    """Files by split and name.

    Args:
        lines: `autosearch.data.SearchData.files`.
    """
    found: Files = {}
    for line in lines:
        split, name, rest = line.split("\0", 2)
        # Names that occur twice are told apart by what stands behind them.
        short = hashlib.sha256(rest.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        found.setdefault(split, {})[name] = short
    return found


def write_files(path: Path, sha256: str, files: Files) -> None:
    """Keep the files of a study.

    Args:
        path: Where.
        sha256: Over all of them, as in ``meta.json``.
        files: See `Files`.
    """
    write_atomic(path, json.dumps({"sha256": sha256, "files": files}, indent=0) + "\n")


def read_files(path: Path, sha256: str) -> Files | None:
    """What `write_files` wrote; None if it is not there, damaged, or of other data.

    Args:
        path: Where.
        sha256: That the files must have.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES)
        kept = _Kept.model_validate(json.loads(text))
    except (OSError, ValueError, RecursionError, ValidationError):
        return None  # It serves a message alone, which says less without it.
    return kept.files if kept.sha256 == sha256 else None


def changes(then: Files, now: Files) -> str:
    """What has become of files, in one line; empty if nothing has."""
    before, after = _by_name(then), _by_name(now)
    gone = [name for name in before if name not in after]
    new = [name for name in after if name not in before]
    renamed = _renamed(gone, new, before, after)
    both = [name for name in before if name in after]
    parts = {
        "added": [name for name in new if name not in renamed.values()],
        "removed": [name for name in gone if name not in renamed],
        "changed": [name for name in both if before[name][1] != after[name][1]],
        "renamed": [f"{old} to {name}" for old, name in renamed.items()],
    }
    for split, other in sorted({(before[n][0], after[n][0]) for n in both}):
        if split != other:
            moved = [n for n in both if (before[n][0], after[n][0]) == (split, other)]
            parts[f"moved from {_SPLITS.get(split, split)} to {_SPLITS.get(other, other)}"] = moved
    return ", ".join(f"{len(names)} {what} ({_first(names)})" for what, names in parts.items()
                     if names)  # fmt: skip


_SPLITS = {"val": "validation", "train": "training"}


def _by_name(files: Files) -> dict[str, tuple[str, str]]:
    """Split and hash by name."""
    return {name: (split, short) for split, its in files.items() for name, short in its.items()}


def _renamed(
    gone: Iterable[str],
    new: Iterable[str],
    before: Mapping[str, tuple[str, str]],
    after: Mapping[str, tuple[str, str]],
) -> dict[str, str]:
    """Names that are gone, and those under which the same content is found in the same split."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in reversed(sorted(new)):
        found.setdefault(after[name], []).append(name)
    return {name: found[before[name]].pop() for name in sorted(gone) if found.get(before[name])}


def _first(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = [f"and {len(listed) - _SHOWN} more"] if len(listed) > _SHOWN else []
    return ", ".join([*listed[:_SHOWN], *more])
