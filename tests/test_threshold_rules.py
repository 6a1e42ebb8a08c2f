"""Rules with numbers: the worked example, every cut tried, ties, and what is refused."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st
from typer.testing import CliRunner

from autosearch.cli import app
from autosearch.errors import ConfigError
from autosearch.export.card import _thresholds as card_thresholds
from autosearch.metrics import (
    RULES,
    Criterion,
    Truth,
    best_cut,
    choose_threshold,
    cost_of,
    decide,
    normal_cut,
)
from autosearch.metrics.thresholds import Confusion, Threshold
from autosearch.study import thresholds_of

# The worked example of "From Lab to Factory": normal scores, then anomalous ones.
SCORES = np.array([0.1, 0.2, 0.3, 0.6, 0.4, 0.5, 0.7, 0.8])
LABELS = np.array([False] * 4 + [True] * 4)
ALARMS_COST = Criterion("cost", prevalence=0.5, cost_fn=1, cost_fp=10)

few_values = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0, 3.0])
samples = st.lists(st.tuples(few_values, st.booleans()), min_size=2, max_size=25).filter(
    lambda pairs: len({label for _, label in pairs}) == 2
)


def cost(counts: Confusion, criterion: Criterion) -> float:
    rates = np.array(1 - counts.tpr), np.array(counts.fpr)
    return float(cost_of(*rates, criterion))


def test_worked_example() -> None:
    chosen = choose_threshold(SCORES, LABELS, ALARMS_COST)
    # Decisions are those of "score >= 0.7"; the value lies midway to the next lower score.
    assert (decide(SCORES, chosen) == (SCORES >= 0.7)).all()
    assert chosen.value == pytest.approx(0.65)
    assert cost(chosen.reached, ALARMS_COST) == pytest.approx(0.25)
    youden = choose_threshold(SCORES, LABELS, "youden")
    assert (decide(SCORES, youden) == (SCORES >= 0.4)).all()
    assert cost(youden.reached, ALARMS_COST) == pytest.approx(1.25)
    balanced = choose_threshold(SCORES, LABELS, "balanced_accuracy")
    assert (balanced.value, balanced.rule) == (youden.value, "balanced_accuracy")
    found = choose_threshold(SCORES, LABELS, Criterion("sensitivity", min_sensitivity=0.75))
    assert (decide(SCORES, found) == (SCORES >= 0.5)).all() and found.fpr == 0.25
    every = choose_threshold(SCORES, LABELS, Criterion("sensitivity", min_sensitivity=1))
    assert (every.tpr, every.fpr) == (1.0, 0.25)


def worth(counts: Confusion, criterion: Criterion) -> tuple[Fraction, ...]:
    """What a criterion maximises, without rounding; decimals mean what they say."""
    tpr = Fraction(counts.tp, counts.tp + counts.fn)
    fpr = Fraction(counts.fp, counts.fp + counts.tn)
    numbers = {name: Fraction(str(value)) for name, value in criterion.numbers.items()}
    if criterion.rule == "sensitivity":
        return (Fraction(tpr >= numbers["min_sensitivity"]), -fpr)
    share = numbers["prevalence"]
    missed = share * numbers["cost_fn"] * (1 - tpr)
    return (-missed - (1 - share) * numbers["cost_fp"] * fpr,)


CRITERIA = [
    Criterion("sensitivity", min_sensitivity=0.0),
    Criterion("sensitivity", min_sensitivity=0.5),
    Criterion("sensitivity", min_sensitivity=1.0),
    ALARMS_COST,
    Criterion("cost", prevalence=0.3, cost_fn=7, cost_fp=3),  # 0.3 x 7 = 0.7 x 3: ties
    Criterion("cost", prevalence=0.01, cost_fn=50, cost_fp=0.5),
]


@pytest.mark.parametrize("criterion", CRITERIA)
@given(pairs=samples)
@example(pairs=[(0.5, True), (0.5, False)])
@example(pairs=[(0.0, True), (1.0, False)])
@settings(max_examples=60, deadline=None)
def test_no_cut_is_better_and_equal_ones_are_lower(
    criterion: Criterion, pairs: list[tuple[float, bool]]
) -> None:
    scores = np.array([score for score, _ in pairs])
    labels = np.array([label for _, label in pairs])
    chosen = choose_threshold(scores, labels, criterion)
    every = []
    for cut in (math.inf, *sorted(set(scores.tolist()), reverse=True)):
        called = scores >= cut
        tp, fp = int((called & labels).sum()), int((called & ~labels).sum())
        every.append(Confusion(tp, fp, int(labels.sum()) - tp, int((~labels).sum()) - fp))
    best = max(worth(counts, criterion) for counts in every)
    assert chosen.reached == next(c for c in every if worth(c, criterion) == best)


def test_a_bound_that_no_given_cut_keeps_is_met_as_far_as_can_be() -> None:
    # Quantiles of many pixels need not hold the lowest score.
    criterion = Criterion("sensitivity", min_sensitivity=0.9)
    assert best_cut(np.array([0, 3, 7]), np.array([0, 1, 5]), 10, 10, criterion) == 2


def test_bound_is_not_lost_to_rounding() -> None:
    scores, labels = np.arange(101.0), np.arange(101) != 0
    found = choose_threshold(scores, labels, Criterion("sensitivity", min_sensitivity=0.29))
    assert found.reached.tp == 29


NORMALS = Criterion("normal_percentile", percentile=50, factor=1.4)


class TestNormalScoresAlone:
    def test_a_percentile_times_a_factor(self) -> None:
        found = choose_threshold(SCORES, LABELS, NORMALS)
        # Between 0.2 and 0.3 lies half of the four normal ones.
        assert found.value == pytest.approx(1.4 * 0.25)
        assert found.reached == Confusion(tp=4, fp=1, fn=0, tn=3)
        usual = Criterion("normal_percentile", percentile=95, factor=1.421)
        # Rank 0.95 x 3 = 2.85 of 0.1, 0.2, 0.3, 0.6.
        expected = 1.421 * (0.3 + 0.85 * 0.3)
        assert choose_threshold(SCORES, LABELS, usual).value == pytest.approx(expected)

    def test_no_anomaly_is_asked_for_and_none_moves_it(self) -> None:
        alone = choose_threshold(SCORES[~LABELS], LABELS[~LABELS], NORMALS)
        moved = choose_threshold(np.where(LABELS, 9, SCORES), LABELS, NORMALS)
        assert alone.value == moved.value == choose_threshold(SCORES, LABELS, NORMALS).value
        with pytest.raises(ConfigError, match="0 normal"):
            choose_threshold(SCORES[LABELS], LABELS[LABELS], NORMALS)

    def test_a_factor_of_what_is_below_zero_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"percentile: 50 .*: -0\.75 is not"):
            choose_threshold(SCORES - 1, LABELS, NORMALS)
        plain = Criterion("normal_percentile", percentile=50, factor=1)
        assert choose_threshold(SCORES - 1, LABELS, plain).value == pytest.approx(-0.75)

    def test_pixels_are_those_of_normal_images(self) -> None:
        maps = np.random.default_rng(0).random((8, 6, 5)).astype(np.float32)
        masks, valid = np.zeros(maps.shape, dtype=bool), np.ones(maps.shape, dtype=bool)
        masks[4:, 1:3, 2:4], valid[:, 0] = True, False
        maps[4:] += 1  # Also around the defects.
        truth = Truth.from_masks(masks, ["good"] * 4 + ["bad"] * 4, None, "good", valid)
        found = thresholds_of(maps, truth, NORMALS).pixel
        assert found.value == pytest.approx(1.4 * np.percentile(maps[:4, 1:], 50))
        assert found.reached.tp == masks.sum()
        assert sum(vars(found.reached).values()) == valid.sum()

    def test_of_counts_at_cuts_it_is_the_same_up_to_a_cut(self) -> None:
        normal = np.random.default_rng(1).random(5000)
        cuts = np.linspace(2, 0, 2001)
        counts = (normal[None] >= cuts[:, None]).sum(1)
        expected = 1.4 * np.percentile(normal, 50)
        value, place = normal_cut(cuts, counts, 5000, NORMALS)
        assert value == pytest.approx(expected, abs=0.002)
        assert cuts[place] >= value > cuts[place + 1]
        high = Criterion("normal_percentile", percentile=100, factor=9)
        assert normal_cut(cuts, counts, 5000, high)[1] == -1


@pytest.mark.parametrize(
    "criterion", [*CRITERIA, Criterion("fpr", 0.1), Criterion("youden"), NORMALS]
)
def test_json_round_trip(criterion: Criterion) -> None:
    chosen = choose_threshold(SCORES, LABELS, criterion)
    assert Threshold.from_plain(chosen.to_plain()) == chosen
    assert Criterion.from_plain(criterion.to_plain()) == criterion
    assert criterion.text and "{" not in criterion.text


def test_every_rule_can_be_asked_for_by_name_or_needs_numbers() -> None:
    for rule in RULES:
        try:
            assert Criterion(rule).rule == rule
        except ConfigError as error:
            assert f"with the rule {rule}" in str(error)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rule": "sensitivity"}, r"min_sensitivity: None.*a rate from 0 to 1"),
        ({"rule": "sensitivity", "min_sensitivity": 1.1}, r"min_sensitivity: 1\.1"),
        ({"rule": "cost", "prevalence": 0.1, "cost_fn": 1}, r"cost_fp: None.*above 0"),
        ({"rule": "cost", "prevalence": 1, "cost_fn": 1, "cost_fp": 1}, r"prevalence: 1 "),
        ({"rule": "cost", "prevalence": 0.1, "cost_fn": 0, "cost_fp": 1}, r"cost_fn: 0 "),
        ({"rule": "f1", "cost_fn": 1}, r"cost_fn: 1.*none with the rule f1"),
        ({"rule": "best"}, r"rule: 'best'.*sensitivity, cost"),
        ({"rule": "normal_percentile", "percentile": 95}, r"factor: None.*above 0"),
        ({"rule": "normal_percentile", "percentile": 101, "factor": 1}, r"percentile: 101 "),
        ({"rule": "youden", "factor": 1}, r"factor: 1.*none with the rule youden"),
    ],
)
def test_wrong_numbers(given: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Criterion(**given)
    with pytest.raises(ConfigError, match=r"threshold\." + message):
        Criterion.from_plain(given, "threshold.")


@pytest.mark.parametrize("criterion", [ALARMS_COST, Criterion("sensitivity", min_sensitivity=0.9)])
def test_pixels_and_images_are_cut_by_the_same_rule(criterion: Criterion) -> None:
    maps = np.random.default_rng(1).random((8, 6, 5)).astype(np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    masks[4:, 1:3, 2:4] = True
    maps[masks] += 0.3
    truth = Truth.from_masks(masks, ["good"] * 4 + ["bad"] * 4)
    found = thresholds_of(maps, truth, criterion)
    assert found.pixel == choose_threshold(maps.ravel(), masks.ravel(), criterion)
    assert found.image == choose_threshold(maps.max(axis=(1, 2)), LABELS, criterion)
    plain = {"chosen_on": "", **found.to_plain()}
    assert criterion.text in "".join(card_thresholds(plain, None))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["--threshold-rule", "sensitivity"], "min_sensitivity: None"),
        (["--threshold", "fpr", "--max-fpr", "2"], "max_fpr: 2"),
        (["--threshold-rule", "cost", "--cost-fn", "5", "--cost-fp", "1"], "prevalence: None"),
        (["--threshold-rule", "normal_percentile", "--percentile", "95"], "factor: None"),
    ],
)
def test_export_refuses_numbers_before_anything_is_opened(given: list[str], problem: str) -> None:
    run = CliRunner().invoke(app, ["export", "nowhere", *given])
    assert isinstance(run.exception, ConfigError) and problem in str(run.exception)
