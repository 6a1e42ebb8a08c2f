"""``sampler.noise: shrink``: TPE is shown what figures are likely to be without the luck."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from driving import complete, load_study, make_spec, open_driver, records, work

from autosearch.contracts.trials import Assignment, Outcome
from autosearch.errors import ConfigError
from autosearch.study import gower
from autosearch.study.gower import KnownDistances, distances
from autosearch.study.sampling import ReproducibleSampler
from autosearch.study.shrinkage import Shrinkage, shrunk
from autosearch.study.subset import Subset


def slow(values: list[float], errors: list[float], apart: np.ndarray) -> list[float]:
    """The same, one number after the other."""
    count, found = len(values), []
    for length in (0.03, 0.1, 0.3):
        means = []
        for i in range(count):
            near = min(apart[i][j] for j in range(count) if j != i)
            weights = [math.exp((near - apart[i][j]) / length) for j in range(count)]
            weights[i] = 0.0
            means.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))
        missed = sum((v - m) ** 2 for v, m in zip(values, means, strict=True)) / count
        found.append((missed, means))
    missed, means = min(found)
    beyond = max(0.0, missed - sum(e**2 for e in errors) / count)
    return [
        v + e**2 / (e**2 + beyond) * (m - v) if e else v
        for v, m, e in zip(values, means, errors, strict=True)
    ]


class TestShrunk:
    def test_is_what_a_loop_finds(self) -> None:
        generator = np.random.default_rng(3)
        places = generator.uniform(size=12)
        values = np.sin(3 * places) + generator.normal(0, 0.2, 12)
        errors = generator.uniform(0, 0.3, 12)
        errors[4] = 0.0
        apart = np.abs(places[:, None] - places)
        expected = slow(values.tolist(), errors.tolist(), apart)
        assert shrunk(values, errors, apart) == pytest.approx(expected)
        assert shrunk(values, errors, apart)[4] == values[4], "what is exact stays"

    def test_noise_alone_leaves_the_mean_of_the_others(self) -> None:
        values, apart = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), 1 - np.eye(5)
        found = shrunk(values, np.full(5, 9.0), apart)
        assert found == pytest.approx((15 - values) / 4)

    def test_nothing_is_said_where_nothing_is_known(self) -> None:
        values, apart = np.array([1.0, 2.0, 3.0, 4.0, 9.0]), 1 - np.eye(5)
        for errors in (np.zeros(5), np.full(5, np.nan)):
            assert (shrunk(values, errors, apart) == values).all()
        assert (shrunk(values[:4], np.ones(4), apart[:4, :4]) == values[:4]).all(), "too few"
        some = np.array([2.0, np.nan, np.nan, np.nan, 2.0])
        assert (shrunk(values, some, apart)[1:4] == values[1:4]).all()

    def test_of_a_noisy_line_the_better_places_are_found(self) -> None:
        """Mean truth of the best tenth: 20 draws of 60 trials, noise as large as the signal."""
        gains = []
        for seed in range(20):
            generator = np.random.default_rng(seed)
            places = generator.uniform(size=60)
            truth = -((places - 0.7) ** 2) * 4
            errors = generator.uniform(0.2, 0.8, 60)
            values = truth + generator.normal(size=60) * errors
            apart = distances([{"x": float(place)} for place in places])
            better = shrunk(values, errors, apart)
            plain, drawn = (truth[np.argsort(-v)[:6]].mean() for v in (values, better))
            gains.append(drawn - plain)
        # Twice the standard error of the mean.
        assert np.mean(gains) > 2 * np.std(gains, ddof=1) / math.sqrt(20) > 0


def noisy(assignment: Assignment) -> Outcome:
    found = complete(assignment)
    return replace(found, measured={**found.measured, "score_se": 1e9})


def test_a_study_is_shown_with_other_values_and_stays_as_it_is(tmp_path: Path) -> None:
    sampler = {"name": "tpe", "noise": "shrink", "startup_trials": 4}
    driver = open_driver(tmp_path, make_spec(sampler=sampler, trials=9))
    work(driver, noisy)
    driver.close()
    study = load_study(tmp_path)
    before = copy.deepcopy(study.trials)
    shown = Shrinkage(("cost", "score"), Subset(0)).of(study)._get_trials(deepcopy=False)
    assert [t.values for t in study.trials] == [t.values for t in before]
    assert [list(r.values.values()) for r in records(tmp_path)] == [t.values for t in before]
    assert [t.values[0] for t in shown] == [t.values[0] for t in before], "a cost has no error"
    kept = np.array([t.values[1] for t in before])
    assert np.std([t.values[1] for t in shown]) < np.std(kept)
    assert [t.params for t in shown] == [t.params for t in before]


def test_it_proposes_others_and_the_same_after_a_stop(tmp_path: Path) -> None:
    def lucky(assignment: Assignment) -> Outcome:
        found = noisy(assignment)
        return replace(found, measured={**found.measured, "cost_se": 1e9})

    def drawn(name: str, noise: str, stops: int = 10**9) -> list[object]:
        sampler = {"name": "tpe", "noise": noise, "startup_trials": 4}
        spec = make_spec(sampler=sampler, trials=12)
        while True:
            driver = open_driver(tmp_path / name, spec)
            work(driver, lucky, stops)
            finished = driver.finished
            driver.close()
            if finished:
                return [r.params for r in records(tmp_path / name)]

    whole = drawn("whole", "shrink")
    assert whole == drawn("stopped", "shrink", 5)
    assert whole != drawn("plain", "none")


def test_logarithms_are_compared_where_they_are_searched() -> None:
    study = optuna.create_study()
    study.sampler = optuna.samplers.RandomSampler(seed=0)
    for number in range(6):
        trial = study.ask()
        trial.suggest_float("rate", 1e-4, 1.0, log=True)
        trial.set_user_attr("cost_se", 1.0)
        study.tell(trial, float(number))
    shown = Shrinkage(("cost",), Subset(0)).of(study)._get_trials(deepcopy=False)
    logs = [math.log(t.params["rate"]) for t in study.trials]
    expected = shrunk(np.arange(6.0), np.ones(6), distances([{"rate": x} for x in logs]))
    assert [t.value for t in shown] == pytest.approx(expected.tolist())


def test_it_is_of_tpe_alone() -> None:
    with pytest.raises(ConfigError, match=r"sampler\.noise.*gp is no tpe"):
        make_spec(sampler={"name": "gp", "noise": "shrink"})
    with pytest.raises(ConfigError, match=r"sampler\.noise"):
        make_spec(sampler={"name": "tpe", "noise": "much"})


def test_without_it_nothing_is_shown_otherwise() -> None:
    spec = make_spec(sampler={"name": "tpe"})
    sampler = ReproducibleSampler(spec.sampler, spec.parsed_space, 0, (), ("cost", "score"))
    study = optuna.create_study(directions=["minimize", "maximize"])
    assert sampler._make(0)._seen.of(study) is study


def drawn_configurations(number: int) -> list[dict[str, object]]:
    generator = np.random.default_rng(1)
    kinds = [None, True, "a", 1, 1.0, 2.5]
    found: list[dict[str, object]] = []
    for place in range(number):
        one = {"x": float(generator.uniform()), "kind": kinds[int(generator.integers(6))]}
        found.append({**one, "same": 3, **({"only": place % 3} if place % 4 else {})})
    found[3]["x"], found[4]["x"] = 0.0, 1.0
    return found


class TestKnownDistances:
    GIVEN = drawn_configurations(24)

    def test_are_the_same_whatever_was_known_before(self) -> None:
        known = KnownDistances()
        grown = [list(range(n)) for n in (0, 1, 2, 3, 4, 6, 20)]
        between = [place for place in range(24) if place != 7]
        for keys in (*grown, between, list(range(24)), [1, 5, 9, 20], [5, 9, 20, 22]):
            chosen = [self.GIVEN[key] for key in keys]
            assert np.array_equal(known.between(keys, chosen), distances(chosen))

    def test_are_computed_once_while_no_range_grows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[list[int]] = []
        plain = gower._Scales.between

        def counted(self: gower._Scales, codes: np.ndarray, numbers: np.ndarray, new: list[int]):
            asked.append(list(new))
            return plain(self, codes, numbers, new)

        monkeypatch.setattr(gower._Scales, "between", counted)
        known = KnownDistances()
        for keys in (range(20), range(21), [*range(20), 21], range(22)):
            known.between(list(keys), [self.GIVEN[key] for key in keys])
        assert asked == [list(range(20)), [20], [20], [20]]
        known.between(list(range(23)), [*self.GIVEN[:22], {**self.GIVEN[22], "x": 1.5}])
        assert asked[-1] == list(range(23)), "all are nearer to each other now"


def test_a_study_that_grows_is_shown_what_one_read_anew_would_be() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    kept = Shrinkage(("cost",), Subset(0))
    for number in range(12):
        trial = study.ask()
        trial.suggest_float("rate", 1e-4, 1.0, log=True)
        trial.suggest_categorical("kind", ["a", "b"])
        trial.set_user_attr("cost_se", 1.0)
        study.tell(trial, float(number % 5))
        anew = Shrinkage(("cost",), Subset(0))
        shown, expected = (its.of(study)._get_trials(deepcopy=False) for its in (kept, anew))
        assert [t.values for t in shown] == [t.values for t in expected]
