"""``sampler.pessimism``: the sampler is told less than what is stored."""

from dataclasses import replace
from pathlib import Path

import pytest
from driving import complete, load_study, make_spec, open_driver, records, work

from autosearch.contracts.trials import Assignment, Outcome
from autosearch.errors import ConfigError


def noisy(assignment: Assignment) -> Outcome:
    """With a standard error of one objective."""
    found = complete(assignment)
    return replace(found, measured={**found.measured, "score_se": 10.0, "cost_se": 1.0})


def test_values_are_told_worse_by_some_of_their_error_and_kept_as_they_are(tmp_path: Path) -> None:
    sampler = {"name": "random", "pessimism": 1.5}
    spec = make_spec({"x": {"int": [0, 3]}}, sampler, trials=6)
    driver = open_driver(tmp_path, spec)
    work(driver, noisy)
    front = driver.summary().front
    driver.close()
    kept = records(tmp_path)
    assert {r.status for r in kept} == {"complete", "cached"}, "some were drawn twice"
    for record, told in zip(kept, load_study(tmp_path).trials, strict=True):
        x = record.params["x"]
        assert record.values == {"cost": x, "score": -((x - 700) ** 2)}
        assert told.values == [x + 1.5, record.values["score"] - 15.0]
        assert "values" not in record.measured
    assert all(front[n] == kept[n].values for n in front)


def test_nothing_is_added_without_it_or_without_an_error(tmp_path: Path) -> None:
    for name, sampler, evaluate in (
        ("a", {"name": "random"}, noisy),
        ("b", {"name": "random", "pessimism": 2.0}, complete),
    ):
        driver = open_driver(tmp_path / name, make_spec(sampler=sampler, trials=2))
        work(driver, evaluate)
        driver.close()
        for record, told in zip(
            records(tmp_path / name), load_study(tmp_path / name).trials, strict=True
        ):
            assert list(record.values.values()) == told.values and "values" not in told.user_attrs


@pytest.mark.parametrize("value", [-0.1, 2.1, float("nan"), "much"])
def test_what_is_no_number_of_errors_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"sampler\.pessimism"):
        make_spec(sampler={"name": "tpe", "pessimism": value})
