"""Configurations that are out: each is worked on once, and its equals wait for what it gives."""

from __future__ import annotations

from autosearch.contracts import Assignment, canonical_key


class Handout:
    """What this process has handed out and not yet told."""

    def __init__(self) -> None:
        self._out: dict[int, Assignment] = {}
        self._leader: dict[str, int] = {}
        self._followers: dict[str, list[int]] = {}

    def __len__(self) -> int:
        """Number of trials that are out or wait for one that is."""
        return len(self._out) + sum(map(len, self._followers.values()))

    @property
    def idle(self) -> bool:
        """Whether nothing is being worked on."""
        return not self._out

    def numbers(self) -> list[int]:
        """Trials that are out, and those that wait for one that is."""
        return [
            *self._out,
            *(number for waiting in self._followers.values() for number in waiting),
        ]

    def works_on(self, number: int) -> bool:
        """Whether a trial is out, and does not wait for another."""
        return number in self._out

    def add(self, assignment: Assignment) -> None:
        """Take note that a configuration goes out."""
        self._leader[canonical_key(assignment.canonical)] = assignment.number
        self._out[assignment.number] = assignment

    def follow(self, number: int, key: str) -> bool:
        """Let a trial wait for its equal, if one is out."""
        if key not in self._leader:
            return False
        self._followers.setdefault(key, []).append(number)
        return True

    def take_back(self, number: int) -> Assignment:
        """A trial is no longer out; whoever waits for it still does."""
        return self._out.pop(number)

    def restore(self, assignment: Assignment) -> None:
        """What was taken back is out after all."""
        self._out[assignment.number] = assignment

    def release(self, key: str) -> list[int]:
        """Nothing is out under a key any more: those that waited for it."""
        self._leader.pop(key, None)
        return self._followers.pop(key, [])

    def clear(self) -> None:
        """Forget what is out."""
        self._out.clear()
