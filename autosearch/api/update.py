"""What a callback is told while something takes its time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from autosearch.contracts import Objective, Summary, TrialRecord
from autosearch.spec import StudySpec


class Searched(Protocol):
    """What a callback may ask a study that is being searched; it is a `Study`."""

    @property
    def meta(self) -> dict[str, Any]:
        """Versions, seeds, hashes of data and weights, the machine."""

    @property
    def spec(self) -> StudySpec:
        """What is searched."""

    @property
    def objectives(self) -> dict[str, Objective]:
        """The study's objectives by name, in its order."""


@dataclass(frozen=True)
class Update:
    """How far some work has come.

    Attributes:
        stage: What is being done: ``reading images``, ``trials``, ``evaluating``, ``exporting``,
            ``drawing``; ``executor`` says in its text where trials run, and why, ``tracking``
            what a tracker does not have.
        done: Work that is done, in images or trials.
        total: All of the work, or None where it is not known.
        text: What is being done at the moment, in a few words; may be empty.
        trial: The trial at hand: the one that was just finished in a search.
        ensemble: Name of the ensemble at hand, such as ``3+7+12``.
        summary: Where a search stands.
        study: The study that is being searched.
    """

    stage: str
    done: float
    total: float | None
    text: str = ""
    trial: TrialRecord | None = None
    summary: Summary | None = None
    study: Searched | None = None
    ensemble: str | None = None


Progress = Callable[[Update], None]
"""Is called from the thread that works, in no fixed rhythm; what it raises ends the work."""


def quiet(update: Update) -> None:
    """Tell nobody."""


def reading(progress: Progress, what: str = "reading images") -> Callable[[int, int], None]:
    """A callback for images read so far and images in all."""
    return lambda done, total: progress(Update(what, done, total))
