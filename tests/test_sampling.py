"""Samplers propose what Optuna's own propose."""

import random
from typing import Any

import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from autosearch.spec.reading import parse_spec
from autosearch.spec.sections import StudySpec
from autosearch.spec.space import Params
from autosearch.study import sampling
from autosearch.study.sampling import ReproducibleSampler

STATIC = {
    "kind": ["a", "b", "c"],
    "width": {"int": [8, 64], "step": 8},
    "rate": {"float": [1e-4, 1e-1], "log": True},
}
CONDITIONAL = STATIC | {"depth": {"int": [1, 4], "when": {"kind": ["a", "b"]}}}


def make_spec(space: dict[str, Any], **sampler: Any) -> StudySpec:
    return parse_spec(
        {
            "study": {"name": "fake", "runner": "fake"},
            "space": space,
            "objectives": ["cost"],
            "sampler": {"name": "tpe", **sampler},
        }
    )


def proposals(spec: StudySpec, objectives: int) -> list[Params]:
    """Of 60 trials, two at a time, some of which fail, stop early or break a constraint."""
    sampler = ReproducibleSampler(spec.sampler, spec.parsed_space, seed=5)
    study = optuna.create_study(directions=["minimize"] * objectives, sampler=sampler)
    draw, running, proposed = random.Random(1), [], []
    for _ in range(60):
        running.append(study.ask())
        proposed.append(spec.parsed_space.suggest(running[-1]))
        if len(running) < 2:
            continue
        # Not always the one that began first.
        trial, kind = running.pop(draw.randrange(2)), draw.random()
        if kind < 0.1:
            study.tell(trial, state=TrialState.FAIL)
        elif kind < 0.2:
            trial.set_constraint("too large", 1.0)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, [draw.random() for _ in range(objectives)])
    return proposed


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("objectives", [1, 2])
@pytest.mark.parametrize("multivariate", [True, False])
@pytest.mark.parametrize("space", [STATIC, CONDITIONAL], ids=["static", "conditional"])
def test_tpe_that_remembers_its_numbers_proposes_what_optuna_does(
    monkeypatch: pytest.MonkeyPatch, space: dict[str, Any], multivariate: bool, objectives: int
) -> None:
    spec = make_spec(space, multivariate=multivariate)
    found = proposals(spec, objectives)
    monkeypatch.setattr(sampling, "_TPE", lambda numbers, subset, **options: TPESampler(**options))
    assert found == proposals(spec, objectives)
    assert len({str(params) for params in found}) > 20


def test_tpe_makes_numbers_of_a_finished_trial_once(monkeypatch: pytest.MonkeyPatch) -> None:
    converted: list[int] = []
    original = TPESampler._get_internal_repr

    def counting(self: Any, trials: Any, *others: Any) -> Any:
        converted.extend(t.number for t in trials if t.state.is_finished())
        return original(self, trials, *others)

    monkeypatch.setattr(TPESampler, "_get_internal_repr", counting)
    proposals(make_spec(STATIC), objectives=2)
    assert len(converted) == len(set(converted)) > 40
