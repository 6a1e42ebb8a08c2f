"""The options of what a search runs on, and a password that is seen by nobody else."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URL",
        help="Keep trials in PostgreSQL, for several heads: postgresql://user:password@host/"
        "database. The environment variable AUTOSEARCH_STORAGE does the same.",
        show_default="a file in the study's folder",
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="ADDRESS",
        help="Join a running Ray cluster that this machine is a node of: host:port, or auto.",
        show_default="a Ray of its own on this machine",
    ),
]


def hidden(url: str | None) -> str | None:
    """The URL itself, after it was struck out of the command line that others can list."""
    if url is not None:
        seen = f"{url[: url.find('://') + 3]:*<{len(url)}}"
        sys.argv[:] = [argument.replace(url, seen) for argument in sys.argv]
        _overwrite(os.fsencode(url), os.fsencode(seen))
    return url


def _overwrite(text: bytes, other: bytes) -> None:
    """Change the arguments in this process's own memory, where Linux takes them from."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc(5)
    except (OSError, ValueError, IndexError):
        return  # Not Linux.
    if 0 < start < end and len(text) == len(other):
        line = ctypes.string_at(start, end - start)
        ctypes.memmove(start, line.replace(text, other), len(line))
