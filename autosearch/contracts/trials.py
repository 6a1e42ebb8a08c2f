"""Plain records of a trial: what is asked of a worker, what comes back, what stands on disk."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from autosearch.spec import Params

PREPROCESS = "preprocess"
"""The parameter that a space may name whatever the runner; see `StagedRunner`."""


class Status(StrEnum):
    """How a trial stands. Every trial has exactly one status, so their counts add up."""

    COMPLETE = "complete"
    """Evaluated, all objectives finite, all constraints kept."""
    FAILED = "failed"
    """Raised, returned a value that is not finite, ran out of time, or lost its worker."""
    INFEASIBLE = "infeasible"
    """Cannot be built, or breaks a constraint."""
    PRUNED = "pruned"
    """Stopped early because it could not become one of the best."""
    RUNNING = "running"
    """Asked for and not yet told."""
    CACHED = "cached"
    """Same canonical configuration as an earlier complete trial, whose values it took over."""


FINISHED = frozenset(Status) - {Status.RUNNING}
SCORED = frozenset({Status.COMPLETE, Status.CACHED})


def canonical_key(canonical: Mapping[str, object]) -> str:
    """Short name of a canonical configuration, equal for equal configurations."""
    text = json.dumps(canonical, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def derived_seed(*parts: object) -> int:
    """A 32-bit seed that depends on every part and on nothing else."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:4], "big")


def trial_seed(
    study_seed: int, canonical: Mapping[str, object], without: Collection[str] = ()
) -> int:
    """Seed of a trial: the same wherever and whenever the configuration is evaluated.

    Args:
        study_seed: The study's.
        canonical: The configuration.
        without: Parameters that change nothing of it: those of `Runner.post_of` in a study that
            tries several settings on one fit, so that what is chosen afterwards is fitted alike.
    """
    kept = {name: value for name, value in canonical.items() if name not in without}
    return derived_seed(study_seed, canonical_key(kept))


def ensemble_name(numbers: Iterable[int]) -> str:
    """What trials are called that answer as one detector: ``3+7+12``, whatever their order."""
    return "+".join(map(str, sorted(numbers)))


def called(which: int | str) -> str:
    """A trial by its number, or an ensemble by its name, for people."""
    return f"trial {which}" if isinstance(which, int) else f"ensemble {which}"


@dataclass(frozen=True)
class Setting:
    """What a detector may be set to once it is fitted; see `Runner.post_of`.

    Attributes:
        params: All values, as if they had been drawn.
        canonical: What `Runner.canonical` makes of them.
        changes: Those of the values that differ from what was proposed.
    """

    params: Params
    canonical: Params
    changes: Params


@dataclass(frozen=True)
class Assignment:
    """One configuration to evaluate.

    Attributes:
        number: The trial's number in the study, from 0.
        params: Values as the sampler drew them.
        canonical: What `Runner.canonical` made of them: no value in it is without effect.
        seed: For every random draw of the trial; the same for the same canonical configuration.
        others: Settings that are tried beside its own on the same fit; the best is kept.
    """

    number: int
    params: Params
    canonical: Params
    seed: int
    others: tuple[Setting, ...] = ()


@dataclass(frozen=True)
class Progress:
    """What a trial reports while it trains.

    Attributes:
        fraction: Part of its training that is done, between 0 and 1.
        values: The study's objectives by name, as they stand.
    """

    fraction: float
    values: dict[str, float]


@dataclass(frozen=True)
class Outcome:
    """What a worker sends back.

    Attributes:
        status: `COMPLETE`, `FAILED`, `INFEASIBLE` or `PRUNED`.
        values: The study's objectives by name, in their own units.
        measured: Everything else that was measured, by name.
        violations: Constraint text to how far it was broken (positive) or kept (zero or less).
        seconds: Wall time of each part of the trial.
        reason: Why the trial is not complete, in one line.
        traceback: Of the error that ended it, if one did.
        artifacts: File name to content, to be kept in the trial's folder.
        threads: Of torch, on which the last digits of a training depend; None if it is not known.
        post: Of a trial that tried several settings on one fit, as JSON has it: ``params`` and
            ``canonical`` of the best, which all else is of, and of all that were ``tried``, the
            proposed one first, ``changes`` and ``values``. None if there was one alone.
    """

    status: Status
    values: dict[str, float] = field(default_factory=dict)
    measured: dict[str, float] = field(default_factory=dict)
    violations: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    reason: str | None = None
    traceback: str | None = None
    artifacts: dict[str, bytes] = field(default_factory=dict)
    threads: int | None = None
    post: dict[str, Any] | None = None

    def checked(self, objectives: Sequence[str]) -> Outcome:
        """The same, but failed if it is complete and a value is missing or not finite."""
        unknown = [name for name, by in self.violations.items() if math.isnan(by)]
        if unknown:
            reason = f"constraint {unknown[0]} is on a value that is nan"
            return replace(self, status=Status.FAILED, violations={}, reason=reason)
        if self.status != Status.COMPLETE:
            return self
        for name in objectives:
            value = self.values.get(name)
            if value is None or not math.isfinite(value):
                reason = f"objective {name} is {'missing' if value is None else value}"
                return replace(self, status=Status.FAILED, reason=reason)
        return self


@dataclass(frozen=True)
class TrialRecord:
    """One trial as it stands on disk.

    Attributes:
        number: The trial's number in the study.
        status: How it stands.
        params: Values as drawn, or as chosen of several settings on one fit.
        canonical: Values without those that have no effect; empty where none was derived.
        values: Objectives by name; empty unless `status` is complete or cached.
        measured: Everything else that was measured.
        seconds: Wall time by part.
        reason: Why it is not complete.
        cached_from: Number of the trial whose values a cached one took over.
        taken_from: Folder of an earlier study, and the number of the trial there that was
            evaluated; None if it was evaluated in this study.
        duration: Seconds from being asked for to being told, or None while running.
        curve: Fraction of the training and objective values, of trials that report while they
            train.
        threads: See `Outcome`.
        proposed: Values as drawn, where several settings were tried; else empty.
        post: ``changes`` and ``values`` of each that was tried, the proposed one first.
    """

    number: int
    status: Status
    params: Params
    canonical: Params = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    measured: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    reason: str | None = None
    cached_from: int | None = None
    taken_from: tuple[str, int] | None = None
    duration: float | None = None
    curve: tuple[tuple[float, dict[str, float]], ...] = ()
    threads: int | None = None
    proposed: Params = field(default_factory=dict)
    post: tuple[dict[str, dict[str, Any]], ...] = ()

    @property
    def settings(self) -> str | None:
        """What was tried on its fit and what was proposed, for people; None if no more was."""
        if not self.post:
            return None
        names = dict.fromkeys([*self.proposed, *self.params])
        changed = [n for n in names if self.params.get(n) != self.proposed.get(n)]
        before = ", ".join(f"{name} {_shown(self.proposed.get(name))}" for name in changed)
        values = self.post[0]["values"].items()
        figures = ", ".join(f"{name} {value:.4g}" for name, value in values)
        found = f"the best of {len(self.post)} tried on one fit, chosen on validation"
        if not changed:
            return f"{found}: the proposed one"
        return f"{found}; proposed was {before}, with {figures}"

    @property
    def source(self) -> str | None:
        """Where its values come from, for people; None if it was evaluated in this study."""
        return self.taken_from and f"{self.taken_from[0]}, trial {self.taken_from[1]}"

    @property
    def origin(self) -> int:
        """Number of the trial that was evaluated: another one if this one is cached."""
        return self.number if self.cached_from is None else self.cached_from


def _shown(value: object) -> str:
    return "null" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Summary:
    """Where a search stands.

    Attributes:
        counts: Trials of every status.
        budget: Trials wanted in all.
        front: Objective values of the non-dominated trials, by trial number.
    """

    counts: Mapping[Status, int]
    budget: int
    front: Mapping[int, Mapping[str, float]]

    @property
    def finished(self) -> int:
        """Trials with a final status."""
        return sum(number for status, number in self.counts.items() if status != Status.RUNNING)
