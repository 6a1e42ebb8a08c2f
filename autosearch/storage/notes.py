"""What a person writes about single trials: ``notes.json`` in the study's folder.

One note for each trial, plain text. No search reads them, and no figure depends on them.
"""

from __future__ import annotations

import fcntl
import json
import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autosearch.errors import ConfigError, StudyError
from autosearch.files import write_atomic

NOTES = "notes.json"

LONGEST_NOTE = 2000
"""Most characters of one note."""

_MAX_BYTES = 50_000_000
_JOINERS = "\u200c\u200d"
_ALLOWED = f"plain text of at most {LONGEST_NOTE} characters"


class TrialNote(BaseModel):
    """A person's note on a trial.

    Attributes:
        text: Plain text; it may have several lines.
        written: When, in ISO format.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = Field(min_length=1, max_length=LONGEST_NOTE)
    written: str = Field(max_length=40)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    notes: dict[int, TrialNote]


def read_notes(study: Path) -> dict[int, TrialNote]:
    """All notes of a study by trial number; empty where there are none.

    Args:
        study: The study's folder.

    Raises:
        StudyError: The file cannot be read, or is none of ours.
    """
    path = study / NOTES
    try:
        if path.is_symlink():
            raise StudyError(f"{path}: is a link, which leads out of the study's folder")
        if not path.exists():
            return {}
        if path.stat().st_size > _MAX_BYTES:
            raise StudyError(f"{path}: cannot be read (more than {_MAX_BYTES} bytes)")
        found = _File.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        told = f"{where}: {first['msg']}" if where else first["msg"]
        raise StudyError(f"{path}: cannot be read ({told})") from None
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror})") from None
    return dict(sorted(found.notes.items()))


def write_note(study: Path, number: int, text: str) -> TrialNote | None:
    """Attach a note to a trial in the place of the one before; without text it has none.

    Several processes may write at once: none loses what another wrote.

    Args:
        study: The study's folder.
        number: Of a trial that there is.
        text: Plain text; white space around it is dropped.

    Returns:
        The note; None where it was taken away.

    Raises:
        ConfigError: The text is too long, or has signs that are no text.
        StudyError: The folder cannot be written to, or the notes there cannot be read.
    """
    plain = "\n".join(text.splitlines()).strip()
    odd = next((sign for sign in plain if sign not in "\n\t" and not _is_text(sign)), None)
    if len(plain) > LONGEST_NOTE:
        raise ConfigError("note", f"{len(plain)} characters", _ALLOWED)
    if odd is not None:
        raise ConfigError("note", f"U+{ord(odd):04X}", f"{_ALLOWED}, without control characters")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    note = TrialNote(text=plain, written=now) if plain else None
    try:
        with _alone(study):
            notes = read_notes(study)
            notes.pop(number, None)
            if note is not None:
                notes[number] = note
            content = {"notes": {str(n): notes[n].model_dump() for n in sorted(notes)}}
            write_atomic(study / NOTES, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        place = study / NOTES
        raise StudyError(f"{place}: no note can be written here ({error.strerror})") from None
    return note


def _is_text(sign: str) -> bool:
    """Whether a sign is none of the control, format or private ones; some scripts need joiners."""
    return not unicodedata.category(sign).startswith("C") or sign in _JOINERS


@contextmanager
def _alone(study: Path) -> Iterator[None]:
    """Keep other writers of notes out; the folder itself is the lock, so that no file is left."""
    handle = os.open(study, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Some network drives lock no folders; the file is whole all the same.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
