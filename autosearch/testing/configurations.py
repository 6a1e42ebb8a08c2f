"""Configurations of a runner, drawn at random, to look at what becomes of them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

from autosearch.contracts import Runner
from autosearch.errors import Infeasible
from autosearch.spec import Params, Value


def drawn_forms(
    runner: Runner, number: int, texts: Sequence[str] = (), never: Sequence[Value] = ()
) -> Iterator[tuple[Params, Params]]:
    """Random configurations and their canonical forms; few may be infeasible.

    Args:
        runner: Whose parameters are drawn.
        number: How many configurations.
        texts: Values for parameters that take any text; without, those keep their defaults.
        never: Choices that are left out.
    """
    feasible = 0
    for seed in range(number):
        params = _drawn(runner, random.Random(seed), texts, never)
        try:
            canonical = runner.canonical(dict(params))
        except Infeasible as error:
            assert str(error), "an infeasible configuration is told why"
            continue
        feasible += 1
        yield params, canonical
    assert feasible > number / 6


def _drawn(
    runner: Runner, rng: random.Random, texts: Sequence[str], never: Sequence[Value]
) -> Params:
    """Some of the runner's parameters with values that it allows."""
    params: Params = {}
    for name, info in runner.parameters.items():
        if rng.random() < 0.4 or (info.text and not texts):
            continue
        if info.text:
            params[name] = rng.choice(texts)
        elif info.choices is not None:
            if allowed := [c for c in info.choices if c not in never]:
                params[name] = rng.choice(allowed)
        elif isinstance(info.default, int):
            params[name] = rng.randint(math.ceil(info.low), math.floor(info.high))
        else:
            ends = [info.low, min(1.0, info.high)]
            params[name] = rng.choice([*ends, rng.uniform(info.low, info.high)])
    return params
