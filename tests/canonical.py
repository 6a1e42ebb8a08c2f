"""What holds for the canonical form of every runner's configurations."""

import json
import math
import random
from collections.abc import Sequence

from autosearch.contracts.detector import Runner
from autosearch.errors import Infeasible
from autosearch.spec.space import Params


def check_canonical_forms(
    runner: Runner, count: int, texts: Sequence[str] = (), never: Sequence[str] = ()
) -> None:
    """Canonical forms of random configurations are fixed points, and hold JSON scalars alone.

    Args:
        runner: Whose.
        count: Of configurations, at least a sixth of which must be feasible.
        texts: Values of parameters that may be any text; without, they are left out.
        never: Choices that the runner's study does not allow.
    """
    feasible = 0
    for seed in range(count):
        try:
            canonical = runner.canonical(_drawn(runner, random.Random(seed), texts, never))
        except Infeasible:
            continue
        feasible += 1
        assert runner.canonical(canonical) == canonical
        assert json.loads(json.dumps(canonical)) == canonical
        assert all(isinstance(v, (str, int, float, bool, type(None))) for v in canonical.values())
    assert feasible > count / 6


def _drawn(
    runner: Runner, rng: random.Random, texts: Sequence[str], never: Sequence[str]
) -> Params:
    """Some of the runner's parameters with values it allows."""
    params: Params = {}
    for name, info in runner.parameters.items():
        if rng.random() < 0.4 or (info.text and not texts):
            continue
        if info.text:
            params[name] = rng.choice(texts)
        elif info.choices is not None:
            params[name] = rng.choice([c for c in info.choices if c not in never])
        elif isinstance(info.default, int):
            params[name] = rng.randint(math.ceil(info.low), math.floor(info.high))
        else:
            ends = [info.low, min(1.0, info.high)]
            params[name] = rng.choice([*ends, rng.uniform(info.low, info.high)])
    return params
