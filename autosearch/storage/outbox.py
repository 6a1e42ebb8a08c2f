"""Outcomes on their way into a database: on disk from the moment they arrive until it has them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from autosearch.contracts import Outcome, Status
from autosearch.errors import StudyError
from autosearch.files import write_atomic


class Outbox:
    """Outcomes as files of a folder, made with the first one.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, number: int, key: str, outcome: Outcome) -> None:
        """Keep an outcome.

        Args:
            number: The trial's.
            key: Of its canonical configuration.
            outcome: What came back.

        Raises:
            StudyError: The disk is full or broken.
        """
        artifacts = {n: base64.b64encode(c).decode() for n, c in outcome.artifacts.items()}
        content = {"key": key, "outcome": {**asdict(outcome), "artifacts": artifacts}}
        path = self._file(number)
        try:
            write_atomic(path, json.dumps(content))
        except OSError as error:
            raise StudyError(f"{path}: cannot be written ({error.strerror})") from None

    def remove(self, number: int) -> None:
        """Forget an outcome that has arrived."""
        self._file(number).unlink(missing_ok=True)

    def items(self) -> Iterator[tuple[int, str, Outcome]]:
        """What `put` was given and is still there, in no order.

        Raises:
            StudyError: A file is damaged.
        """
        for path in self._path.glob("*.json"):
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                fields = content["outcome"]
                fields["status"] = Status(fields["status"])
                kept = {n: base64.b64decode(c) for n, c in fields["artifacts"].items()}
                yield int(path.stem), content["key"], Outcome(**{**fields, "artifacts": kept})
            except FileNotFoundError:
                continue  # Another head of the same folder was quicker.
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                raise StudyError(f"{path}: cannot be read ({type(error).__name__})") from None

    def _file(self, number: int) -> Path:
        return self._path / f"{number}.json"
