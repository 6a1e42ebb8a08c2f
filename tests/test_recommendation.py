"""One trial by a rule, with reasons in words, a floor, and how sure the choice is."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from autosearch.contracts import Status, TrialRecord
from autosearch.contracts.objectives import TABLE
from autosearch.errors import ConfigError, StudyError
from autosearch.spec import Constraint
from autosearch.study.recommendation import Recommendation, recommend

OBJECTIVES = {name: TABLE[name] for name in ("gflops", "rwap")}


def record(number: int, rwap: float, gflops: float = 1.0, **measured: float) -> TrialRecord:
    canonical = {"width": number}
    values = {"gflops": gflops, "rwap": rwap}
    return TrialRecord(number, Status.COMPLETE, canonical, canonical, values, measured)


def chosen(records: list[TrialRecord], *bounds: str, **options: Any) -> Recommendation:
    budget = [Constraint.parse(text, "budget") for text in bounds]
    return recommend(records, OBJECTIVES, TABLE, budget, **options)


def kept_of(draws: Mapping[int, Mapping[str, list[float]]], seed: int = 5) -> Any:
    """What trials kept: values in draws, by number."""

    def kept(number: int) -> dict[str, np.ndarray] | None:
        if number not in draws:
            return None
        found = {f"draws.{name}": np.array(v, np.float32) for name, v in draws[number].items()}
        return {"seed": np.array(seed), **found}

    return kept


RECORDS = [
    record(0, 0.40, 0.5, ap=0.50, rwap_calibrated=0.40, image_auroc=0.9, rwap_calibrated_se=0.02),
    record(1, 0.60, 0.9, ap=0.30, rwap_calibrated=0.60, image_auroc=0.5, rwap_calibrated_se=0.3),
    record(2, 0.55, 0.7, ap=0.60, rwap_calibrated=0.55, image_auroc=0.9, rwap_calibrated_se=0.05),
]


class TestRules:
    def test_best_is_what_it_was(self) -> None:
        found = chosen(RECORDS)
        assert found.trial.number == 1 and found.rule == "best" and found.sure is None
        assert found.reasons == (
            "best validation rwap of all 3 trials: 0.6", "gflops 0.9",
            "next is trial 2 with rwap 0.55",
        )  # fmt: skip
        assert [one.number for one in found.runners_up] == [2, 0]

    @pytest.mark.parametrize(
        ("rule", "reason"),
        [
            ("pessimistic", "best validation rwap_calibrated less its standard error of all 3 "
             "trials: 0.55 less 0.05"),
            ("ranks", "best mean rank by validation rwap_calibrated, ap and image_auroc of all 3 "
             "trials: 1.5"),
        ],
    )  # fmt: skip
    def test_others_pass_over_the_lucky_one(self, rule: str, reason: str) -> None:
        found = chosen(RECORDS, rule=rule)
        assert found.trial.number == 2 and found.rule == rule
        assert found.reasons[:3] == (reason, "rwap 0.55", "gflops 0.7")

    def test_ranks_with_made_anomalies(self) -> None:
        made = [{"rwap_synthetic": value} for value in (0.7, 0.1, 0.8)]
        records = [
            record(r.number, r.values["rwap"], **r.measured, **more)
            for r, more in zip(RECORDS, made, strict=True)
        ]
        found = chosen(records, rule="synthetic")
        assert found.trial.number == 2
        said = "best geometric mean of validation rwap_calibrated and rwap_synthetic of all 3"
        assert said in str(found)
        said = "validation rwap_calibrated, ap and rwap_synthetic of all 3"
        assert said in str(chosen(records, rule="balanced"))

    def test_of_configurations_that_are_alike(self) -> None:
        assert "averaged with that of similar configurations" in str(
            chosen(RECORDS, rule="smooth")
        )

    def test_equal_configurations_count_once(self) -> None:
        first = RECORDS[0]
        again = [
            replace(first, number=number, status=Status.CACHED, cached_from=0)
            for number in range(3, 8)
        ]
        found = chosen([*RECORDS, *again], rule="ranks")
        assert found.reasons[0].endswith("of all 8 trials: 1.5")
        assert [one.number for one in found.runners_up] == [0, 1]

    def test_doubt_is_of_rules_that_look_at_one_figure(self) -> None:
        assert chosen(RECORDS, doubt="no").doubt == "no"
        assert chosen(RECORDS, doubt="no", rule="pessimistic").reasons[0] == "no"
        assert chosen(RECORDS, doubt="no", rule="ranks").doubt is None

    def test_bad_names_and_lacks_are_one_line(self) -> None:
        with pytest.raises(ConfigError, match=r"rule: 'bst' .* a rule: best, pessimistic, syn"):
            chosen(RECORDS, rule="bst")
        with pytest.raises(ConfigError, match=r"rule: 'synthetic' .* no rwap_synthetic"):
            chosen(RECORDS, rule="synthetic")
        with pytest.raises(ConfigError, match=r"prefer: 'image_aur' .* mean 'image_auroc'"):
            chosen(RECORDS, prefer="image_aur")


class TestPreferred:
    def test_is_any_measured_figure(self) -> None:
        found = chosen(RECORDS, prefer="ap")
        assert found.trial.number == 2
        assert found.reasons[0] == "best validation ap of all 3 trials: 0.6"
        assert {"gflops 0.7", "rwap 0.55"} < set(found.reasons)
        assert chosen([*RECORDS, record(3, 0.9)], prefer="ap").trial.number == 2, "that has it"

    def test_is_minimised_where_less_is_better(self) -> None:
        for rule in ("best", "pessimistic", "smooth"):
            assert chosen(RECORDS, prefer="gflops", rule=rule).trial.number == 0


class TestFloor:
    def test_is_the_ap_of_a_fixed_choice(self) -> None:
        found = chosen(RECORDS, floor=True, fixed=RECORDS[0])
        assert found.trial.number == 2
        assert "of 2 trials within ap >= 0.5" in found.reasons[0]
        assert "no lower ap than the first fixed choice, trial 0" in found.reasons

    def test_is_beside_a_budget(self) -> None:
        assert chosen(RECORDS, "gflops <= 0.6", floor=True, fixed=RECORDS[0]).trial.number == 0
        with pytest.raises(StudyError, match=r"no trial .* gflops >= 0.8 and ap >= 0.5"):
            chosen(RECORDS, "gflops >= 0.8", floor=True, fixed=RECORDS[0])

    def test_needs_an_ap(self) -> None:
        with pytest.raises(ConfigError, match=r"floor: 'trial 4' .* a trial that has ap"):
            chosen(RECORDS, floor=True, fixed=record(4, 0.5))


class TestTogether:
    def banks(self, *costs: float) -> list[TrialRecord]:
        found = [record(place, 0.9 - place / 20) for place in range(len(costs))]
        return [
            replace(one, measured={**one.measured, "search_gflops": 0.1, "total_gflops": cost})
            for one, cost in zip(found, costs, strict=True)
        ]

    def test_are_the_five_that_stand_first(self) -> None:
        found = chosen(self.banks(1, 2, 3, 4, 5, 6))
        assert found.trial.number == 0 and found.together == (0, 1, 2, 3, 4)
        assert found.together_gflops == 15
        assert found.together_text.startswith("trials 0, 1, 2, 3 and 4 as one detector")

    def test_cost_no_more_than_the_budget_or_the_fixed_choice(self) -> None:
        found = self.banks(1, 5, 5, 2)
        assert chosen(found, "total_gflops <= 8").together == (0, 1, 3)
        assert chosen(found, fixed=found[1]).together == (0, 3)
        assert chosen(found, "total_gflops <= 8", fixed=found[1]).together == (0, 1, 3)
        assert chosen(found, "total_gflops <= 2").together == ()

    def test_are_not_much_worse_than_the_best(self) -> None:
        first, second, third = self.banks(1, 2, 3)
        worse = replace(second, values={**second.values, "rwap": 0.5})
        assert chosen([first, worse, third]).together == (0, 2)

    def test_are_banks_of_different_configurations(self) -> None:
        first, second, third = self.banks(1, 2, 3)
        same = replace(second, canonical=first.canonical)
        assert chosen([first, same, third]).together == (0, 2)
        trained = [replace(one, measured={**one.measured, "search_gflops": 0.0})
                   for one in (first, second, third)]  # fmt: skip
        assert chosen(trained).together == ()


def test_made_anomalies_decide_beside_real_ones_where_they_are_known() -> None:
    alone = [replace(one, measured={**one.measured, "rwap_synthetic": value})
             for one, value in zip(RECORDS, (0.1, 0.2, 0.9), strict=True)]  # fmt: skip
    assert chosen(alone).rule == "best", "all are made"
    made = [replace(one, measured={**one.measured, "rwap_real": one.values["rwap"]})
            for one in alone]  # fmt: skip
    assert chosen(made).rule == "balanced" and chosen(made, prefer="ap").rule == "best"
    without = [replace(one, measured={n: v for n, v in one.measured.items() if n != "ap"})
               for one in made]  # fmt: skip
    assert chosen(without).rule == "synthetic"
    assert chosen(RECORDS).rule == "best" and chosen([*made, record(3, 0.1)]).rule == "best"


class TestSureness:
    DRAWS: Mapping[int, Mapping[str, list[float]]] = {
        0: {"rwap": [0.4, 0.7, 0.2, 0.3]},
        1: {"rwap": [0.6, 0.1, 0.4, 0.5]},
        2: {"rwap": [0.5, 0.6, 0.1, 0.6]},
    }

    def test_is_how_often_the_trial_wins(self) -> None:
        found = chosen(RECORDS, kept=kept_of(self.DRAWS))
        assert found.sure == 0.5
        expected = "wins in 50 % of 4 draws of the validation defects, against the 2 next best"
        assert found.reasons[-1] == expected

    def test_is_not_known_of_earlier_versions(self) -> None:
        found = chosen(RECORDS, kept=lambda number: None)
        assert found.sure is None and found.trial.number == 1
        assert "cannot be said: 3 trials of an earlier version kept no draws" in found.reasons[-1]
        mixed = chosen(RECORDS, kept=kept_of({0: self.DRAWS[0], 1: self.DRAWS[1]}))
        assert "cannot be said: trial 2 of an earlier version" in mixed.reasons[-1]

    def test_is_not_known_where_nothing_can_be_drawn(self) -> None:
        same = {number: {"rwap": [value] * 4} for number, value in enumerate([0.4, 0.6, 0.5])}
        found = chosen(RECORDS, kept=kept_of(same))
        assert found.sure is None and "too few validation defects" in found.reasons[-1]

    def test_errors_are_those_that_trials_kept(self) -> None:
        plain = [record(0, 0.5), record(1, 0.6)]
        arrays = {0: [0.5, 0.5, 0.51], 1: [0.2, 0.6, 0.9]}

        def kept(number: int) -> dict[str, np.ndarray]:
            values = np.array(arrays[number], np.float32)
            return {"seed": np.array(1), "draws.rwap": values, "without.rwap": values}

        found = chosen(plain, rule="pessimistic", kept=kept)
        assert found.trial.number == 0 and "less its standard error" in found.reasons[0]
        nothing = chosen(plain, rule="pessimistic")
        assert nothing.trial.number == 1 and "no standard error is known" in nothing.reasons[0]
