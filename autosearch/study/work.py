"""What an executor needs to know of whoever hands out work, and of whoever does it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, Self

from autosearch.contracts import Assignment, Outcome, Progress
from autosearch.spec import StudySpec


class Driver(Protocol):
    """Hands out assignments and takes results: trials of a search, or repeats of an estimate."""

    @property
    def spec(self) -> StudySpec:
        """The study, for its resources and limits."""

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""

    @property
    def finished(self) -> bool:
        """Whether nothing more will be handed out and nothing is out."""

    def ask(self) -> Assignment | None:
        """The next assignment, or None if there is none for the moment."""

    def tell(self, number: int, outcome: Outcome) -> object:
        """Store what a worker sent back."""

    def report(self, number: int, progress: Progress) -> Outcome | None:
        """Take note of how an assignment stands; what to tell if it is not worth finishing."""

    def lost(self, number: int, reason: str) -> None:
        """Take note that a worker died."""

    def stop(self) -> None:
        """Hand out nothing more."""


class Evaluator(Protocol):
    """Does the work, in any process."""

    @property
    def spec(self) -> StudySpec:
        """The study."""

    def steps(self, assignment: Assignment) -> Iterator[Progress | Outcome]:
        """How the work stands in each pause of it; then its outcome."""

    def carried(self) -> Self:
        """The same with pictures that travel to other machines with it."""
