"""Which trials TPE learns from once a study has many."""

import random
from typing import Any, ClassVar

import optuna
import pytest
from optuna.samplers._tpe import sampler as tpe
from optuna.trial import TrialState
from test_sampling import CONDITIONAL, STATIC, make_spec, proposals

from autosearch.study import subset
from autosearch.study.sampling import ReproducibleSampler
from autosearch.study.subset import Subset

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty trials are many."""
    for name, value in {"WHOLE": 40, "GOOD": 4, "OTHERS": 26, "EVERY": 10}.items():
        monkeypatch.setattr(subset, name, value)


def study_of(values: list[float | None], running: int = 0) -> optuna.Study:
    """Trials with these values; one without a value has failed. The last one is the current."""
    study = optuna.create_study()
    for number, value in enumerate(values):
        trial = study.ask()
        trial.suggest_int("x", 0, 9)
        if number == running or number == len(values) - 1:
            continue
        if value is None:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, value)
    return study


def shown(found: optuna.Study) -> list[int]:
    return [trial.number for trial in found._get_trials(deepcopy=False)]


@pytest.mark.usefixtures("small")
class TestSubset:
    VALUES: ClassVar = [None if n % 9 == 5 else float(n * 37 % 101) for n in range(88)]

    def test_is_the_best_some_others_and_the_latest(self) -> None:
        study = study_of([*self.VALUES], running=3)
        found = shown(Subset(seed=1).of(study))
        finished = {n: v for n, v in enumerate(self.VALUES[:80]) if v is not None and n != 3}
        best = sorted(finished, key=finished.__getitem__)[:4]
        assert found == sorted(found) and {*best, 3, *range(80, 88)} <= {*found}
        others = {*found} - {*best, 3, *range(80, 88)}
        assert len(others) == 26 and others <= finished.keys()
        # Best of what is shown is best of all, so that TPE takes the same for good ones.
        assert sorted(others | {*best}, key=finished.__getitem__)[:4] == best

    def test_follows_from_trials_and_seed_alone(self) -> None:
        study, other = study_of(self.VALUES), Subset(seed=1)
        other.of(study_of(self.VALUES[:60]))
        assert shown(other.of(study)) == shown(Subset(seed=1).of(study))
        assert shown(Subset(seed=2).of(study)) != shown(Subset(seed=1).of(study))
        # Between two choices, trials are only added.
        before = shown(Subset(seed=1).of(study_of(self.VALUES[:-3])))
        assert before == shown(Subset(seed=1).of(study))[:-3]

    def test_is_all_of_them_up_to_a_number(self) -> None:
        study = study_of(self.VALUES[:41])
        assert Subset(seed=1).of(study) is study
        assert Subset(seed=1).of(study_of(self.VALUES[:42])) is not study

    def test_spreads_over_all_others(self) -> None:
        study = study_of([float(number) for number in range(88)])
        drawn = [n for seed in range(40) for n in shown(Subset(seed).of(study)) if 5 <= n < 80]
        assert {*drawn} == {*range(5, 80)}
        assert sum(n < 42 for n in drawn) / len(drawn) == pytest.approx(37 / 75, abs=0.05)


@pytest.mark.parametrize("objectives", [1, 2])
@pytest.mark.parametrize("space", [STATIC, CONDITIONAL], ids=["static", "conditional"])
def test_a_study_of_few_trials_proposes_as_if_there_were_no_subset(
    monkeypatch: pytest.MonkeyPatch, space: dict[str, Any], objectives: int
) -> None:
    whole = proposals(make_spec(space), objectives)
    for name, value in {"WHOLE": 40, "GOOD": 4, "OTHERS": 26, "EVERY": 10}.items():
        monkeypatch.setattr(subset, name, value)
    part = proposals(make_spec(space), objectives)
    # Of 60 trials, the one of number 40 is the last that learns from all.
    assert part[:41] == whole[:41] and part[41:] != whole[41:]


@pytest.mark.usefixtures("small")
def test_kernels_do_not_grow_and_a_resumed_search_proposes_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []
    original = tpe._ParzenEstimator.__init__

    def counting(self: Any, observations: Any, *others: Any) -> None:
        seen.append(len(next(iter(observations.values()))))
        original(self, observations, *others)

    monkeypatch.setattr(tpe._ParzenEstimator, "__init__", counting)
    spec, draw = make_spec(STATIC), random.Random(3)
    study = optuna.create_study(directions=["minimize", "minimize"])
    again = optuna.create_study(directions=["minimize", "minimize"])
    study.sampler = ReproducibleSampler(spec.sampler, spec.parsed_space, seed=5)
    for number in range(90):
        if number % 30 == 0:  # Another process.
            again.sampler = ReproducibleSampler(spec.sampler, spec.parsed_space, seed=5)
        one, other = study.ask(), again.ask()
        assert spec.parsed_space.suggest(one) == spec.parsed_space.suggest(other)
        values = [draw.random(), draw.random()]
        study.tell(one, values)
        again.tell(other, values)
    both = [good + bad for good, bad in zip(seen[::2], seen[1::2], strict=True)]
    assert max(both) == 40 and len(both) == 2 * 80 and min(both[-40:]) == 30


def test_no_more_is_shown_than_what_is_learnt_from_whole() -> None:
    assert subset.GOOD + subset.OTHERS + subset.EVERY <= subset.WHOLE
    # Good ones of TPE are a tenth of all that it sees.
    assert subset.GOOD * 10 >= subset.GOOD + subset.OTHERS + subset.EVERY
