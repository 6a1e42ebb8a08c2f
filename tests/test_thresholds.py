"""Thresholds against published vectors and an exhaustive search over every cut."""

import json
import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from autosearch.errors import ConfigError
from autosearch.metrics.thresholds import (
    RULES,
    Confusion,
    Threshold,
    choose_threshold,
    confusion,
    decide,
)

# The worked example of "From Lab to Factory": normal scores, then anomalous ones.
SCORES = [0.1, 0.2, 0.3, 0.6, 0.4, 0.5, 0.7, 0.8]
LABELS = np.array([False] * 4 + [True] * 4)

few_values = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0, 3.0])
samples = st.lists(st.tuples(few_values, st.booleans()), min_size=2, max_size=30).filter(
    lambda pairs: len({label for _, label in pairs}) == 2
)


def split(pairs: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([s for s, _ in pairs]), np.array([label for _, label in pairs])


def worth(counts: Confusion, rule: str, max_fpr: float | None) -> Fraction:
    """What a rule maximises, without rounding."""
    tpr = Fraction(counts.tp, counts.tp + counts.fn)
    fpr = Fraction(counts.fp, counts.fp + counts.tn)
    if rule == "f1":
        return Fraction(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)
    if rule == "youden":
        return tpr - fpr
    assert max_fpr is not None
    return tpr if fpr <= Fraction(str(max_fpr)) else Fraction(-1)


def counted(scores: np.ndarray, labels: np.ndarray, cut: float) -> Confusion:
    called = [score >= cut for score in scores]
    pairs = list(zip(called, labels.tolist(), strict=True))
    return Confusion(*(pairs.count(p) for p in [(1, 1), (1, 0), (0, 1), (0, 0)]))


def test_worked_example() -> None:
    youden = choose_threshold(SCORES, LABELS, "youden")
    assert youden.value == pytest.approx(0.35)
    assert youden.reached == Confusion(4, 1, 0, 3)
    assert youden.tpr - youden.fpr == 0.75
    best = choose_threshold(SCORES, LABELS)
    assert (best.rule, best.value, best.f1) == ("f1", pytest.approx(0.35), pytest.approx(8 / 9))
    none = choose_threshold(SCORES, LABELS, "fpr", max_fpr=0.0)
    assert (none.value, none.tpr, none.fpr) == (pytest.approx(0.65), 0.5, 0.0)
    quarter = choose_threshold(SCORES, LABELS, "fpr", max_fpr=0.25)
    assert (quarter.value, quarter.tpr, quarter.fpr) == (pytest.approx(0.35), 1.0, 0.25)


@pytest.mark.parametrize(("rule", "max_fpr"), [*((r, None) for r in RULES[:2]), ("fpr", 0.3)])
@given(pairs=samples)
@example(pairs=[(0.5, True), (0.5, False)])
@example(pairs=[(0.0, True), (1.0, False)])
@settings(max_examples=150, deadline=None)
def test_no_cut_is_better_and_equal_ones_are_lower(
    rule: str, max_fpr: float | None, pairs: list[tuple[float, bool]]
) -> None:
    scores, labels = split(pairs)
    chosen = choose_threshold(scores, labels, rule, max_fpr)
    assert chosen.reached == counted(scores, labels, chosen.value)
    cuts = [*sorted(set(scores.tolist()), reverse=True)]
    every = [counted(scores, labels, cut) for cut in (math.inf, *cuts)]
    best = max(worth(counts, rule, max_fpr) for counts in every)
    first = next(counts for counts in every if worth(counts, rule, max_fpr) == best)
    assert chosen.reached == first


@given(pairs=samples)
@settings(max_examples=50, deadline=None)
def test_value_is_midway(pairs: list[tuple[float, bool]]) -> None:
    scores, labels = split(pairs)
    value = choose_threshold(scores, labels, "youden").value
    below, above = scores[scores < value], scores[scores >= value]
    if not below.size:
        assert value == scores.min()
    elif not above.size:
        assert value == np.nextafter(scores.max(), np.inf)
    else:
        assert value - below.max() == above.min() - value


@given(pairs=samples, scale=st.sampled_from([0.5, 4.0]))
@settings(max_examples=50, deadline=None)
def test_decisions_do_not_depend_on_order_or_scale(
    pairs: list[tuple[float, bool]], scale: float
) -> None:
    scores, labels = split(pairs)
    plain = choose_threshold(scores, labels)
    turned = choose_threshold(scale * scores[::-1], labels[::-1])
    assert plain.reached == turned.reached
    assert turned.value == pytest.approx(scale * plain.value)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_scores_one_rounding_apart_are_told_apart(kind: type[np.floating]) -> None:
    low = kind(0.7)
    high = np.nextafter(low, kind(1))
    scores, labels = np.array([low, high], dtype=kind), np.array([False, True])
    chosen = choose_threshold(scores, labels)
    assert decide(scores, chosen).tolist() == [False, True]
    assert chosen.f1 == 1.0 and confusion(scores, labels, chosen) == Confusion(1, 0, 0, 1)


def test_huge_and_tiny_scores() -> None:
    labels = np.array([False, True])
    for low, high in [(-1.7e308, 1.7e308), (0.0, 5e-324), (-5e-324, 0.0)]:
        scores = np.array([low, high])
        assert decide(scores, choose_threshold(scores, labels)).tolist() == [False, True]


def test_bound_that_only_silence_keeps() -> None:
    chosen = choose_threshold([0.2, 0.9, 0.9], np.array([True, False, True]), "fpr", 0.0)
    assert chosen.reached == Confusion(0, 1 - 1, 2, 1)
    assert chosen.value == math.nextafter(0.9, 1)


def test_bound_is_not_lost_to_rounding() -> None:
    scores = np.arange(101.0)
    labels = scores == 71.0  # 29 of 100 normal scores lie above it.
    assert choose_threshold(scores, labels, "fpr", 0.29).tpr == 1.0
    assert choose_threshold(scores, labels, "fpr", 0.289).tpr == 0.0


def test_other_data_is_counted_by_the_same_rule() -> None:
    chosen = choose_threshold(SCORES, LABELS, "youden")
    other = confusion([0.1, 0.35, 0.36, 0.2], np.array([True, False, True, False]), chosen)
    assert other == counted(np.array([0.1, 0.35, 0.36, 0.2]), np.array([1, 0, 1, 0]), chosen.value)
    assert (other.tpr, other.fpr) == (0.5, 0.0 if chosen.value > 0.35 else 0.5)
    assert decide(np.array([[0.1, 0.9], [np.nan, 0.4]]), chosen).tolist() == [
        [False, True],
        [False, True],
    ]


def test_rates_without_either_kind_are_nan() -> None:
    assert math.isnan(Confusion(0, 1, 0, 1).tpr)
    assert math.isnan(Confusion(1, 0, 1, 0).fpr)
    assert math.isnan(Confusion(0, 0, 0, 3).f1)


@pytest.mark.parametrize("labels", [[False, False], [True, True]])
def test_one_kind_alone_is_refused(labels: list[bool]) -> None:
    with pytest.raises(ConfigError, match=r"labels: .*[02] anomalous and [02] normal"):
        choose_threshold([0.1, 0.2], np.array(labels))


@pytest.mark.parametrize(
    ("rule", "max_fpr", "message"),
    [
        ("best", None, r"rule: 'best'.*f1, youden, fpr"),
        ("f1", 0.1, r"max_fpr: 0.1.*none with the rule f1"),
        ("fpr", None, r"max_fpr: None.*a rate from 0 to 1"),
        ("fpr", 1.5, r"max_fpr: 1.5"),
        ("fpr", math.nan, r"max_fpr: nan"),
        ("fpr", True, r"max_fpr: True"),
    ],
)
def test_wrong_rules(rule: str, max_fpr: float | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_threshold(SCORES, LABELS, rule, max_fpr)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers(bad: float) -> None:
    with pytest.raises(ValueError, match="1 of 2 are NaN or infinite"):
        choose_threshold([0.1, bad], np.array([True, False]))


@pytest.mark.parametrize("labels", [[True], [1, 0], [[True, False]]])
def test_labels_that_do_not_fit(labels: list) -> None:
    with pytest.raises(ValueError, match="expected bool"):
        choose_threshold([0.1, 0.2], np.array(labels))


@pytest.mark.parametrize(("rule", "max_fpr"), [("f1", None), ("youden", None), ("fpr", 0.1)])
def test_json_round_trip(rule: str, max_fpr: float | None) -> None:
    chosen = choose_threshold(np.float32(SCORES), LABELS, rule, max_fpr)
    plain = json.loads(json.dumps(chosen.to_plain(), allow_nan=False))
    assert Threshold.from_plain(plain) == chosen
    assert plain["reached"]["f1"] == chosen.f1


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("value", "0.5", r"threshold\.value: '0.5'"),
        ("value", math.inf, r"threshold\.value: inf"),
        ("rule", "best", r"threshold\.rule: 'best'"),
        ("max_fpr", 0.1, r"threshold\.max_fpr: 0.1"),
        ("reached", None, r"threshold\.reached: None"),
        ("reached", {"tp": 1, "fp": -1, "fn": 0, "tn": 0}, r"threshold\.reached\.fp: -1"),
        ("reached", {"tp": 1, "fp": 1, "fn": 0.5, "tn": 0}, r"threshold\.reached\.fn: 0.5"),
    ],
)
def test_damaged_json_is_refused(key: str, value: object, message: str) -> None:
    plain = choose_threshold(SCORES, LABELS).to_plain()
    with pytest.raises(ConfigError, match=message):
        Threshold.from_plain({**plain, key: value})
    with pytest.raises(ConfigError, match="a mapping"):
        Threshold.from_plain([plain])


def test_needs_numpy_alone() -> None:
    script = "import sys, autosearch.metrics.thresholds; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    heavy = {"torch", "scipy", "optuna", "pydantic", "ray", "PIL"}
    assert "numpy" in done.stdout.split() and not heavy & set(done.stdout.split())
