"""Rules by which a trial is taken, against closed forms and slow oracles on made-up trials."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from autosearch.errors import ConfigError
from autosearch.study.gower import distances
from autosearch.study.rules import (
    RULES,
    Candidate,
    pessimistic,
    ranks,
    smooth,
    synthetic,
    wins,
)


def trials(*figures: dict[str, float], **others: Sequence[dict]) -> list[Candidate]:
    """One for each mapping of figures; ``errors``, ``draws`` and ``parameters`` likewise."""
    more = [{name: its[i] for name, its in others.items()} for i in range(len(figures))]
    return [
        Candidate(i, f, "rwap", **m) for i, (f, m) in enumerate(zip(figures, more, strict=True))
    ]


def of_rwap(*values: float, **others: Sequence[dict]) -> list[Candidate]:
    return trials(*({"rwap": value} for value in values), **others)


def test_best_is_the_figure_itself_whichever_way_is_better() -> None:
    found = of_rwap(0.2, 0.5, 0.4)
    assert RULES["best"](found).tolist() == [0.2, 0.5, 0.4]
    down = [replace(one, sign=-1) for one in found]
    assert RULES["best"](down).argmax() == 0


class TestPessimistic:
    def test_takes_the_error_off(self) -> None:
        found = of_rwap(0.6, 0.5, 0.4, errors=[{"rwap": 0.3}, {"rwap": 0.05}, {"ap": 9.0}])
        # Where none is known it is the mean of the others.
        assert pessimistic(found) == pytest.approx([0.3, 0.45, 0.225])
        assert pessimistic(of_rwap(0.6, 0.5)) == pytest.approx([0.6, 0.5])

    def test_uses_the_calibrated_figure_where_all_have_it(self) -> None:
        both = {"rwap": 0.6, "rwap_calibrated": 0.5}
        errors = [{"rwap": 0.1, "rwap_calibrated": 0.2}] * 2
        found = trials(both, {"rwap": 0.7, "rwap_calibrated": 0.4}, errors=errors)
        assert pessimistic(found) == pytest.approx([0.3, 0.2])
        found = trials(both, {"rwap": 0.7}, errors=errors)
        assert pessimistic(found) == pytest.approx([0.5, 0.6])


class TestRanks:
    FIGURES = (
        {"rwap_calibrated": 0.9, "ap_calibrated": 0.1, "image_auroc": 0.5, "rwap": 0.9},
        {"rwap_calibrated": 0.8, "ap_calibrated": 0.8, "image_auroc": 0.9, "rwap": 0.8},
        {"rwap_calibrated": 0.1, "ap_calibrated": 0.7, "image_auroc": 0.9, "rwap": 0.1},
    )

    def test_are_averaged_and_ties_share_theirs(self) -> None:
        assert ranks(trials(*self.FIGURES)) == pytest.approx([5 / 3, (2 + 3 + 2.5) / 3, 5.5 / 3])

    def test_are_of_the_figures_that_all_have(self) -> None:
        made = [{**figures, "rwap_synthetic": 0.1 * i} for i, figures in enumerate(self.FIGURES)]
        assert ranks(trials(*made)) == pytest.approx([6 / 4, (7.5 + 2) / 4, (5.5 + 3) / 4])
        older = [{"rwap": one["rwap"], "ap": one["ap_calibrated"]} for one in self.FIGURES]
        assert ranks(trials(*older)) == pytest.approx([2, 2.5, 1.5])
        assert ranks(trials(*made[:2], self.FIGURES[2])) == pytest.approx(
            ranks(trials(*self.FIGURES))
        )
        with pytest.raises(ConfigError, match="another rule: trials have none of"):
            ranks(trials({"gflops": 1.0}, {"gflops": 2.0}))

    def test_on_real_and_on_made_anomalies(self) -> None:
        real, made = [0.9, 0.8, 0.1, 0.2], [0.1, 0.7, 0.8, 0.2]
        found = trials(
            *({"rwap": a, "rwap_synthetic": b} for a, b in zip(real, made, strict=True))
        )
        expected = [0.3, 0.56**0.5, 0.08**0.5, 0.2]
        assert synthetic(found) == pytest.approx(expected, abs=3e-3)
        turned = [
            {"rwap": 1 - a, "rwap_real": a, "rwap_synthetic": b}
            for a, b in zip(real, made, strict=True)
        ]
        assert synthetic(trials(*turned)) == pytest.approx(expected, abs=3e-3)

    def test_a_clear_lead_on_real_ones_is_not_lost_to_a_rank(self) -> None:
        found = trials(
            *({"rwap": a, "rwap_synthetic": b} for a, b in ((0.35, 0.4), (0.12, 0.5), (0.1, 0.6)))
        )
        assert synthetic(found).argmax() == 0

    def test_figures_of_0_are_told_apart_by_the_others(self) -> None:
        found = trials(*({"rwap": 0.0, "rwap_synthetic": b} for b in (0.2, 0.4)))
        assert synthetic(found).argmax() == 1

    def test_balanced_multiplies_ap_too(self) -> None:
        found = trials(
            {"rwap": 0.5, "ap": 0.2, "rwap_synthetic": 0.4},
            {"rwap": 0.4, "ap": 0.4, "rwap_synthetic": 0.4},
        )
        scores = RULES["balanced"](found)
        assert scores == pytest.approx([0.04 ** (1 / 3), 0.064 ** (1 / 3)], abs=2e-3)
        assert synthetic(found).argmax() == 0 and scores.argmax() == 1
        with pytest.raises(ConfigError, match=r"rule: 'balanced' .* trials have no ap,"):
            RULES["balanced"](trials({"rwap": 0.5, "rwap_synthetic": 0.4}))

    def test_balanced_takes_ap_of_made_anomalies_where_all_have_it(self) -> None:
        own = {"rwap": 0.5, "ap": 0.4, "rwap_synthetic": 0.3}
        found = trials({**own, "ap_synthetic": 0.2}, {**own, "ap_synthetic": 0.6})
        expected = [(0.5 * 0.4 * 0.3 * each) ** (1 / 4) for each in (0.2, 0.6)]
        assert RULES["balanced"](found) == pytest.approx(expected, abs=3e-3)
        older = trials(own, {**own, "ap_synthetic": 0.6})
        assert RULES["balanced"](older) == pytest.approx([0.06 ** (1 / 3)] * 2, abs=3e-3)

    def test_on_made_anomalies_need_some(self) -> None:
        with pytest.raises(
            ConfigError, match=r"rule: 'synthetic' .* trials have no rwap_synthetic"
        ):
            synthetic(of_rwap(0.1, 0.2))


class TestSmooth:
    @staticmethod
    def lucky() -> list[Candidate]:
        """Figures rise with a parameter, but for one trial that was lucky among bad ones."""
        x = np.arange(20)
        values = 0.4 + 0.01 * x + 0.01 * np.random.default_rng(0).standard_normal(20)
        values[3] = 0.9 * values.max() + 0.1
        return of_rwap(*values, parameters=[{"x": int(i), "same": "a"} for i in x])

    def test_passes_over_the_lucky_one(self) -> None:
        found = self.lucky()
        assert RULES["best"](found).argmax() == 3 and smooth(found).argmax() > 14

    def test_is_the_mean_under_noise_alone_and_the_value_without(self) -> None:
        values = np.random.default_rng(1).random(12)
        apart = of_rwap(*values, parameters=[{"x": str(i)} for i in range(12)])
        # No configuration says anything of another: all are drawn to the mean alike, in order.
        assert (smooth(apart).argsort() == values.argsort()).all()
        alike = of_rwap(*values, parameters=[{"x": 1}] * 12)
        assert smooth(alike) == pytest.approx(np.full(12, values.mean()), abs=1e-3)
        assert smooth(of_rwap(0.1, 0.1, 0.1)).tolist() == [0.1] * 3
        assert smooth(of_rwap(0.1, 0.3)).tolist() == [0.1, 0.3]

    def test_is_a_posterior_mean(self) -> None:
        """Some length and noise of the grid give it, by the formula of the book."""
        found = self.lucky()
        values = np.array([one.figures["rwap"] for one in found])
        y, apart = (
            (values - values.mean()) / values.std(),
            distances([one.parameters for one in found]),
        )
        best = (-np.inf, np.zeros(20))
        for length in (0.03, 0.1, 0.3, 1.0):
            for noise in (0.02, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.98):
                signal = (1 - noise) * np.exp(-apart / length)
                whole = signal + noise * np.eye(20)
                solved = np.linalg.solve(whole, y)
                fit = -20 * np.log(y @ solved / 20) - np.linalg.slogdet(whole)[1]
                best = max(best, (fit, signal @ solved), key=lambda pair: pair[0])
        assert smooth(found) == pytest.approx(values.mean() + values.std() * best[1], rel=1e-9)

    def test_distances_are_gowers(self) -> None:
        kinds = [{"n": 1, "k": "a", "b": True}, {"n": 3, "k": "b", "b": True},
                 {"n": 5, "k": "a", "b": True, "only": 1}]  # fmt: skip
        found = distances(kinds)
        expected = np.array([[0, 0.5 + 1, 1 + 1], [1.5, 0, 0.5 + 1 + 1], [2, 2.5, 0]]) / 3
        assert found == pytest.approx(expected)


class TestNoise:
    """Many trials alike but for luck on few defects, and one that is better everywhere."""

    @pytest.fixture
    def found(self) -> list[Candidate]:
        rng = np.random.default_rng(3)
        figures, errors = [], []
        for i in range(30):
            good = 0.1 if i == 7 else 0.0
            others = {name: 0.5 + good + 0.02 * rng.standard_normal()
                      for name in ("ap_calibrated", "image_auroc", "rwap_synthetic")}  # fmt: skip
            figures.append({"rwap": 0.5 + good + 0.02 * rng.standard_normal(), **others})
            errors.append({"rwap": 0.03})
        figures[20]["rwap"], errors[20] = 0.75, {"rwap": 0.25}
        for one in figures:
            one["rwap_calibrated"] = one["rwap"]
        return trials(*figures, errors=[{**e, "rwap_calibrated": e["rwap"]} for e in errors])

    def test_the_best_is_lucky_and_others_see_it(self, found: list[Candidate]) -> None:
        assert RULES["best"](found).argmax() == 20
        for rule in ("pessimistic", "ranks"):
            assert RULES[rule](found).argmax() == 7, rule
        # Made anomalies take off most of a lead by luck, and of a clear one leave some.
        plain, both = (RULES[rule](found) for rule in ("best", "synthetic"))
        assert both[20] / both[7] - 1 < (plain[20] / plain[7] - 1) / 2


class TestWins:
    def test_counts_draws(self) -> None:
        draws = np.array([[0.5, 0.1, 0.4, np.nan], [0.4, 0.3, 0.4, 0.2], [0.3, 0.2, 0.1, 0.9]])
        found = of_rwap(0.5, 0.4, 0.3, draws=[{"rwap": row} for row in draws])
        # The last is defined for two of them only; in the third two share the highest.
        shares = [wins(RULES["best"], found, place) for place in range(3)]
        assert shares == pytest.approx([1.5 / 3, 1.5 / 3, 0])

    def test_is_unknown_without_draws_or_where_they_change_nothing(self) -> None:
        assert wins(RULES["best"], of_rwap(0.5, 0.4), 0) is None
        same = of_rwap(0.5, 0.4, draws=[{"ap": np.arange(3.0)}] * 2)
        assert wins(RULES["best"], same, 0) is None
        one = of_rwap(0.5, 0.4, draws=[{"rwap": np.ones(3)}, {}])
        assert wins(RULES["best"], one, 0) is None
