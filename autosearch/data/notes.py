"""What was assumed of files that can be understood in two ways, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from autosearch.errors import one_line


@dataclass(frozen=True)
class Note:
    """One assumption about one file.

    Attributes:
        path: The file.
        kind: What was found and assumed, in the same words for all files alike.
        remedy: How to have it otherwise.
        detail: What is particular to this file; may be empty.
    """

    path: Path
    kind: str
    remedy: str
    detail: str = ""

    @property
    def text(self) -> str:
        """Kind and detail."""
        return f"{self.kind} ({self.detail})" if self.detail else self.kind


def summary(notes: Iterable[Note], name: Callable[[Path], str]) -> list[str]:
    """One line a kind: how many files, the first of them, and how to have it otherwise.

    Args:
        notes: Of any files, in the order in which they are to be told.
        name: How a file is called in records.
    """
    kinds: dict[tuple[str, str], list[Note]] = {}
    for note in notes:
        kinds.setdefault((note.kind, note.remedy), []).append(note)
    lines = []
    for (kind, remedy), alike in kinds.items():
        first, count = alike[0], len(alike)
        example = ": ".join(filter(None, (name(first.path), first.detail)))
        if count == 1:
            lines.append(f"1 file {kind} ({example}); {remedy}")
        else:
            lines.append(f"{count} files: each {kind} (first {example}); {remedy}")
    return [one_line(line) for line in lines]
