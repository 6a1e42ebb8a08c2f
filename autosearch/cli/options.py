"""Arguments that several commands have, and a password that is seen by nobody else."""

from __future__ import annotations

import ctypes
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from autosearch.cli.completion import study_folders, trial_numbers
from autosearch.errors import ConfigError


class ExecutorName(StrEnum):
    """Where trials run."""

    AUTO = "auto"
    RAY = "ray"
    LOCAL = "local"


class LogLevel(StrEnum):
    """What is written into a study's log."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Directory = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="Folder of a study.", autocompletion=study_folders),
]
Directories = Annotated[
    list[Path],
    typer.Argument(
        metavar="DIR…",
        help="Folders of studies; several are compared.",
        autocompletion=study_folders,
    ),
]
Trials = Annotated[
    int | None, typer.Option("--trials", min=1, help="Trials in all, replacing the spec's.")
]
Timeout = Annotated[
    str | None,
    typer.Option("--timeout", help="Stop handing out trials after 90, 90s, 15m or 2h."),
]
ExecutorOption = Annotated[
    ExecutorName,
    typer.Option(
        "--executor",
        help="Ray Tune workers, or this process alone; auto: the latter for a minute of work.",
    ),
]
LevelOption = Annotated[
    LogLevel, typer.Option("--log-level", help="Least level that goes into study.log.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the spec; repeatable."),
]
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
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Folder or CSV file with the study's images, if they lie elsewhere now.",
        show_default="where they were",
    ),
]
CategoryOption = Annotated[
    str | None,
    typer.Option("--category", help="With --data: their category, if it has another name now."),
]
TrialOption = Annotated[
    int | None,
    typer.Option(
        "--trial",
        min=0,
        help="Its number.",
        show_default="the recommended one",
        autocompletion=trial_numbers,
    ),
]
EnsembleOption = Annotated[
    str | None,
    typer.Option(
        "--ensemble",
        metavar="N,N",
        help="Numbers of trials that answer as one detector, such as 3,7,12.",
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


def ensemble_of(text: str | None) -> list[int] | None:
    """Numbers that `EnsembleOption` names.

    Raises:
        ConfigError: They are no numbers.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        allowed = "numbers of two or more trials of one study, such as 3,7,12"
        raise ConfigError("--ensemble", text, allowed)
    return [int(part) for part in parts]


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
