"""Pictures that were read once, in files that all processes of a machine map.

An entry is a folder of the cache: an ``.npy`` file for each array, and ``about.json``, which is
written last. It is named after a hash of all that went into it, so it is never out of date. Pages
of a mapped file are shared, and given back when memory runs short.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from autosearch.errors import StudyError
from autosearch.files import cache_dir

LARGE = 64 << 20
"""Bytes of pictures from which on they lie in a file; reading fewer takes a second."""

LIMIT = 20 << 30
"""Bytes that all entries may take; those used longest ago make room."""

_ABOUT, _DAY = "about.json", 24 * 3600
_open: dict[Path, IO[bytes]] = {}
"""Entries in use by this process, each with its lock; they are not removed."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Place:
    """Where the arrays of a set lie: an entry, and which of its images they are."""

    folder: Path
    start: int
    stop: int

    def part(self, start: int, stop: int) -> Place:
        """Images ``start`` to ``stop`` of these."""
        return Place(self.folder, self.start + start, self.start + stop)


@dataclass(frozen=True)
class Entry:
    """An entry that is mapped.

    Attributes:
        folder: Where it is.
        arrays: By name, read-only.
        about: What was stored with them.
    """

    folder: Path
    arrays: Mapping[str, Array]
    about: Mapping[str, Any]


def opened(folder: Path) -> Entry | None:
    """Map an entry, and keep it from being removed while this process lasts; None if none."""
    try:
        if folder not in _open:
            lock = (folder / _ABOUT).open("rb")
            fcntl.flock(lock, fcntl.LOCK_SH)
            _open[folder] = lock
        about = json.loads((folder / _ABOUT).read_bytes())
        arrays = {
            name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))
            for name in about["arrays"]
        }
        (folder / _ABOUT).touch()
    except (OSError, ValueError, KeyError):
        _open.pop(folder, None)
        return None
    return Entry(folder, arrays, about["about"])


def mapped(folder: Path) -> Entry:
    """The same where it must be there.

    Raises:
        StudyError: It is not, as on another machine.
    """
    entry = opened(folder)
    if entry is None:
        raise StudyError(f"{folder}: pictures that were read for this search are gone")
    return entry


def folder_of(key: str) -> Path:
    """Where the entry of a key is, or would be."""
    return cache_dir("pictures", key[:32])


def room_for(needed: int) -> bool:
    """Whether an entry of so many bytes may be written, after others made room for it."""
    root = cache_dir("pictures")
    try:
        root.mkdir(parents=True, exist_ok=True)
        _make_room(root, needed)
        # A full disk would stop more than this search.
        return needed <= shutil.disk_usage(root).free // 2
    except OSError:
        return False


def entry_for(
    key: str,
    shapes: Mapping[str, tuple[tuple[int, ...], Any]],
    fill: Callable[[dict[str, Array]], Mapping[str, Any]],
) -> Path | None:
    """The folder of a key's entry, made if it is not there; None where there is no room."""
    folder = folder_of(key)
    if opened(folder) is not None:
        return folder
    made = write(folder, shapes, fill) if room_for(size_of(shapes)) else None
    return None if made is None else folder


def size_of(shapes: Mapping[str, tuple[tuple[int, ...], Any]]) -> int:
    """Bytes of arrays."""
    return sum(math.prod(shape) * np.dtype(kind).itemsize for shape, kind in shapes.values())


def write(
    folder: Path,
    shapes: Mapping[str, tuple[tuple[int, ...], Any]],
    fill: Callable[[dict[str, Array]], Mapping[str, Any]],
) -> Entry | None:
    """Make an entry, which appears whole or not at all.

    Args:
        folder: Where.
        shapes: Shape and type of each array.
        fill: Fills arrays that are zero, and returns what is to be stored with them; of arrays
            that are named as ``left_out`` nothing is kept.

    Returns:
        The entry; None if the disk was full.
    """
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        files = {
            name: np.lib.format.open_memmap(temporary / f"{name}.npy", "w+", kind, shape)
            for name, (shape, kind) in shapes.items()
        }
        arrays: dict[str, Array] = dict(files)
        for name in arrays:
            _allocate(temporary / f"{name}.npy")
        about = fill(arrays)
        for name in about.get("left_out", ()):
            del arrays[name]
            (temporary / f"{name}.npy").unlink()
        for name in arrays:
            files[name].flush()
        content = json.dumps({"arrays": list(arrays), "about": about})
        (temporary / _ABOUT).write_text(content, encoding="utf-8")
        if (meanwhile := opened(folder)) is not None:
            return meanwhile
        shutil.rmtree(folder, ignore_errors=True)  # damaged
        temporary.rename(folder)
        return opened(folder)
    except OSError:
        return None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _allocate(path: Path) -> None:
    """Fill holes of a file: to write to one on a full disk is a bus error."""
    with path.open("rb+") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _make_room(root: Path, needed: int) -> None:
    """Remove entries used longest ago until the limit holds; what is in use stays."""
    found = []
    for folder in root.iterdir():
        with suppress(OSError):
            if folder.name.startswith(".") and time.time() - folder.stat().st_mtime > _DAY:
                shutil.rmtree(folder)
                continue
            size = sum(file.stat().st_size for file in folder.iterdir())
            found.append(((folder / _ABOUT).stat().st_mtime, size, folder))
    held = sum(size for _, size, _ in found)
    for _, size, folder in sorted(found):
        if held + needed <= LIMIT:
            return
        if _removed(folder):
            held -= size


def _removed(folder: Path) -> bool:
    try:
        with (folder / _ABOUT).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
    except OSError:
        return False
    return True
