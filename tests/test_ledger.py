"""Counts and front of a search as they are kept from trial to trial."""

import random

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from autosearch.contracts.trials import SCORED, Status
from autosearch.metrics import pareto
from autosearch.study.ledger import Ledger

DIRECTIONS = {"cost": "minimize", "score": "maximize"}
_STATES = {Status.FAILED: TrialState.FAIL, Status.PRUNED: TrialState.PRUNED}


def trial_of(number: int, status: Status, values: list[float]) -> FrozenTrial:
    state = _STATES.get(status, TrialState.COMPLETE)
    found = create_trial(
        state=state,
        values=values if state == TrialState.COMPLETE else None,
        user_attrs={"status": str(status), "canonical": {"x": number}},
    )
    found.number = number
    return found


def test_are_those_of_all_trials_whenever_somebody_asks() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    draw, ledger = random.Random(0), Ledger(DIRECTIONS)
    scored: dict[int, list[float]] = {}
    told = dict.fromkeys(Status, 0)
    for number in draw.sample(range(200), 200):
        status = draw.choice([Status.COMPLETE, Status.CACHED, Status.FAILED, Status.PRUNED])
        # Few values, so that many trials are equal; what is dear can be better.
        cost = draw.randrange(12)
        values = [float(cost), float(draw.randint(0, cost))]
        trial = trial_of(number, status, values)
        ledger.remember(trial)
        ledger.remember(trial)  # Which changes nothing.
        told[status] += 1
        if status in SCORED:
            scored[number] = values
        if draw.random() < 0.5:
            continue
        numbers = [*scored]
        rows = pareto.front([*scored.values()], [*DIRECTIONS.values()]) if scored else []
        expected = {numbers[row]: dict(zip(DIRECTIONS, scored[numbers[row]], strict=True))
                    for row in rows}  # fmt: skip
        assert list(ledger.front().items()) == list(expected.items())
        assert ledger.counts() == told
    assert len(ledger.front()) > 1
