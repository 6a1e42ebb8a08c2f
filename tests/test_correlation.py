"""Rank correlation against scipy and by hand."""

import numpy as np
import pytest
from scipy import stats

from autosearch.contracts.trials import Status, TrialRecord
from autosearch.errors import ConfigError
from autosearch.metrics.correlation import rank_correlation
from autosearch.study.correlation import compare, figures


def record(number: int, status: Status = Status.COMPLETE, **measured: float) -> TrialRecord:
    values = {"rwap": measured.pop("rwap")} if status == Status.COMPLETE else {}
    return TrialRecord(number, status, {}, {"x": measured.pop("x", number)}, values, measured)


def test_agrees_with_scipy_with_ties() -> None:
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 8, 40), draw.integers(0, 8, 40)
    found = rank_correlation(x, y)
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.kendall == pytest.approx(stats.kendalltau(x, y).statistic)


def test_same_order_and_reverse() -> None:
    x = np.arange(12.0)
    same, reverse = rank_correlation(x, x**3), rank_correlation(x, -x)
    assert (same.spearman, same.kendall, *same.interval) == pytest.approx((1, 1, 1, 1))
    assert (reverse.spearman, *reverse.interval) == pytest.approx((-1, -1, -1))


def test_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(1)
    truth = 6 / np.pi * np.arcsin(0.6 / 2)  # Spearman's rho of a normal pair of correlation 0.6
    held = 0
    for seed in range(100):
        x = draw.normal(size=60)
        y = 0.6 * x + 0.8 * draw.normal(size=60)
        low, high = rank_correlation(x, y, resamples=200, seed=seed).interval
        held += low <= truth <= high
    assert 87 <= held <= 100


def test_a_constant_has_no_rank() -> None:
    assert np.isnan(rank_correlation([1, 1, 1, 1], [1, 2, 3, 4]).spearman)


def test_only_scored_trials_count_and_repetitions_once() -> None:
    records = [
        *(record(i, rwap=i, other=-i) for i in range(5)),
        record(5, rwap=9, other=9, x=0),
        record(6, Status.FAILED, other=1),
        record(7, rwap=1),
    ]
    tests = {i: {"metrics": {"rwap": i / 10, "aupro": None}} for i in range(5)}
    found = figures(records, tests)
    assert found["other"] == {i: -i for i in range(5)}
    assert found["test.rwap"] == {i: i / 10 for i in range(5)} and "test.aupro" not in found
    against = compare(records, tests, "rwap", "other")
    assert (against.trials, against.spearman) == (5, pytest.approx(-1))
    assert compare(records, tests, "rwap", "test.rwap").spearman == pytest.approx(1)


def test_errors_name_the_figure() -> None:
    records = [record(i, rwap=i) for i in range(3)]
    with pytest.raises(ConfigError, match=r"rwpa.*did you mean 'rwap'"):
        compare(records, {}, "rwpa", "rwap")
    with pytest.raises(ConfigError, match="at least 4"):
        compare(records, {}, "rwap", "rwap")
