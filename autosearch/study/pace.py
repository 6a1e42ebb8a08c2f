"""How long trials of a study take on this machine, from a few that are tried and forgotten."""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from autosearch.contracts import SCORED, Assignment, Outcome, trial_seed
from autosearch.errors import Infeasible
from autosearch.spec import Params, ResourceSpec
from autosearch.study.evaluation import TrialEvaluator
from autosearch.study.forecast import first_and_drawn
from autosearch.study.inputs import Inputs
from autosearch.study.room import Room
from autosearch.study.safely import evaluate_safely

_TRIED, _ENOUGH_SECONDS, _LONGEST_SECONDS = 3, 45.0, 120.0
"""Trials that are tried; seconds after which none begins; and after which one is given up."""
_GPU_SHARE = 0.25
_START_SECONDS = 15.0
"""Until Ray's workers have begun."""


@dataclass(frozen=True)
class Pace:
    """What was measured.

    Attributes:
        seconds: Of each trial that came to its end.
        at_a_time: Trials that this machine runs at a time.
        problem: Why there is no figure; None where there is one.
    """

    seconds: tuple[float, ...]
    at_a_time: int
    problem: str | None = None

    def total(self, trials: int) -> float | None:
        """Seconds that so many trials take, about; None if none came to its end."""
        if not self.seconds:
            return None
        rounds = math.ceil(trials / self.at_a_time)
        return rounds * self._mean + (_START_SECONDS if self.at_a_time > 1 else 0)

    def fitting(self, seconds: float) -> int | None:
        """Trials that fit into some seconds, about, at least one; None as above."""
        if not self.seconds:
            return None
        start = _START_SECONDS if self.at_a_time > 1 else 0
        return max(1, int((seconds - start) / self._mean * self.at_a_time))

    @property
    def _mean(self) -> float:
        return sum(self.seconds) / len(self.seconds)


def measure_pace(inputs: Inputs, tell: Callable[[int, int], None] = lambda done, of: None) -> Pace:
    """Try the study's first configuration and two that are drawn from its space.

    Each gets the threads that a trial of the study has, and they run one after the other.

    Args:
        inputs: The study.
        tell: Told how many were tried, of how many.
    """
    spec, found, problem = inputs.spec, list[float](), "no configuration could be built"
    memory = spec.resources.memory
    room = Room(secrets.token_hex(8), None if memory == "auto" else memory)
    lanes = at_a_time(spec.resources)
    begin = time.monotonic()
    with _threads(max(1, int(spec.resources.cpu))):
        evaluator = TrialEvaluator(spec, inputs.runner, inputs.data, inputs.others, room)
        try:
            for assignment in _assignments(inputs):
                tell(len(found), _TRIED)
                start = time.monotonic()
                *_, outcome = evaluate_safely(evaluator, assignment, _LONGEST_SECONDS)
                taken = time.monotonic() - start
                if isinstance(outcome, Outcome) and outcome.status in SCORED:
                    found.append(taken)
                elif isinstance(outcome, Outcome):
                    problem = outcome.reason or str(outcome.status)
                if len(found) == _TRIED or time.monotonic() - begin > _ENOUGH_SECONDS:
                    break
        finally:
            room.clear()
    return Pace(tuple(found), lanes, None if found else problem)


def at_a_time(resources: ResourceSpec) -> int:
    """Trials that this machine runs at a time, as Ray hands its cores and GPUs out."""
    lanes = math.floor((os.cpu_count() or 1) / resources.cpu + 1e-6)
    gpus = torch.cuda.device_count()
    share = resources.gpu if resources.gpu != "auto" else _GPU_SHARE if gpus else 0
    if share:
        lanes = min(lanes, math.floor(gpus / share + 1e-6))
    if resources.max_concurrent != "auto":
        lanes = min(lanes, resources.max_concurrent)
    return max(1, lanes)


def _assignments(inputs: Inputs) -> Iterator[Assignment]:
    """Configurations that can be built, each once."""
    spec, known = inputs.spec, list[Params]()
    for params in first_and_drawn(spec, inputs.runner):
        try:
            canonical = inputs.runner.canonical(params)
        except Infeasible:
            continue
        if canonical not in known:
            number, seed = len(known), trial_seed(spec.study.seed, canonical)
            known.append(canonical)
            yield Assignment(number, params, canonical, seed)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
