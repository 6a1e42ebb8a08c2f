"""Errors that a user can act on: each says which key, which value and what is allowed.

The command line prints them on one line and exits with code 2; everything else is a defect of the
program and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

_LONGEST_LINE, _LONGEST_VALUE = 1500, 600


class AutosearchError(Exception):
    """Base of all errors that are the input's fault, not the program's."""


class ConfigError(AutosearchError):
    """A key of a spec or of the command line has a value that is not allowed.

    Args:
        key: Dotted path of the key, such as ``space.width``.
        value: The value found there.
        allowed: What would have been accepted, as a phrase.
    """

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(f"{key}: {_shown(value)} is not allowed; expected {allowed}")
        self.key, self.value, self.allowed = key, value, allowed

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, object, str]]:
        """Rebuild from the three parts, so that the error crosses process borders."""
        return type(self), (self.key, self.value, self.allowed)


class DataError(AutosearchError):
    """A dataset file or folder cannot be used.

    Args:
        path: The file or folder at fault.
        problem: What is wrong with it.
        remedy: What the user can do.
    """

    def __init__(self, path: str | Path, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}; {remedy}")
        self.path, self.problem, self.remedy = Path(path), problem, remedy

    def __reduce__(self) -> tuple[type[DataError], tuple[str, str, str]]:
        """Rebuild from the three parts, so that the error crosses process borders."""
        return type(self), (str(self.path), self.problem, self.remedy)


class WeightsError(AutosearchError):
    """Pretrained weights cannot be found, do not have the expected hash, or do not fit."""


class StudyError(AutosearchError):
    """A study on disk cannot be used as asked: missing, in the way, or made of other inputs."""


class Infeasible(AutosearchError):
    """A configuration that can never be evaluated, found before any work is done."""


class TrialTimeout(BaseException):
    """A trial ran longer than its time limit; no `except Exception` in it may hold it up."""


def one_line(text: str) -> str:
    """Text of any origin as one line that a terminal shows and does not obey.

    What cannot be printed (line breaks, control characters, bytes of file names that are no text)
    stands as its escape sequence; of very long text the middle is left out.
    """
    escaped = "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    )
    if len(escaped) <= _LONGEST_LINE:
        return escaped
    return f"{escaped[: _LONGEST_LINE // 2]} … {escaped[-_LONGEST_LINE // 2 :]}"


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes out no whole number of more than some thousand digits.
        return "a number of too many digits"
    if len(text) <= _LONGEST_VALUE:
        return text
    return f"{text[: _LONGEST_VALUE // 2]} … {text[-_LONGEST_VALUE // 2 :]}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Name the nearest known name, or list the known ones, for an error about an unknown name."""
    names = sorted(known)
    nearest = get_close_matches(name, names, n=1, cutoff=0.5)
    if nearest:
        return f"did you mean {nearest[0]!r}?"
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"known: {shown}" if names else "nothing is known here"
