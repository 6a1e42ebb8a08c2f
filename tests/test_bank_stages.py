"""Whole banks that are asked part by part: what they say on the way, and that nothing is lost."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from autosearch_runners.bank.anytime import SHARES
from autosearch_runners.memory_bank import MemoryBankDetector
from bank_parts import ASKED, KNOWN, PLACES, QUERIES, SEED, SIZE, TRAIN, fitted, upsampled
from test_bank_rows import runner
from torch import Tensor

from autosearch.contracts import Assignment, Outcome, Progress, TrialContext
from autosearch.errors import ConfigError
from autosearch.memory import MemoryBank
from autosearch.spec import Params, StudySpec, parse_spec
from autosearch.study import TrialEvaluator, load_inputs

ROWS = len(TRAIN) * PLACES
ENDS = [*(round(share * ROWS) for share in SHARES), ROWS]


def in_parts(params: Params, least: int | None = ROWS) -> MemoryBankDetector:
    canonical = runner().canonical({"backbone": "tf_efficientnet_lite0", **params})
    context = TrialContext(SEED, "cpu", SIZE, staged_rows=least)
    detector = runner().build(canonical, context)
    assert isinstance(detector, MemoryBankDetector)
    return detector


def looks(params: Params) -> list[tuple[float, Tensor]]:
    """The part that is done and maps, in every pause and at the end."""
    detector = in_parts(params)
    found = [(done, detector.anomaly_maps(ASKED)) for done in detector.fit_in_steps(TRAIN)]
    return [*found, (1.0, detector.anomaly_maps(ASKED))]


@pytest.mark.parametrize("neighbours", [1, 13])
def test_in_every_pause_it_answers_from_the_rows_that_are_open(neighbours: int) -> None:
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(SEED))
    rows, asked = KNOWN.flatten(0, 1).double(), QUERIES.flatten(0, 1).double()
    distances = torch.cdist(asked, rows, compute_mode="donot_use_mm_for_euclid_dist").square()
    found = looks({"num_neighbors": neighbours})
    assert [done for done, _ in found] == [*SHARES, 1.0]
    for (_, maps), end in zip(found, ENDS, strict=True):
        # A part of 11 rows has no 13 neighbours: the first is made larger.
        known = distances[:, order[: max(end, neighbours)]]
        scores = known.topk(neighbours, largest=False).values.mean(1)
        torch.testing.assert_close(maps, upsampled(scores), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"num_neighbors": 3, "whitening": 1.0, "smoothing": 1.0},
        {"fusion": "levels", "distance": "root"},
        {"coreset_ratio": 0.999, "coreset_method": "random"},
    ],
)
def test_in_the_end_it_is_the_whole_bank(params: Params) -> None:
    whole, detector = fitted(params), in_parts(params, least=500)
    maps = [detector.anomaly_maps(ASKED) for _ in detector.fit_in_steps(TRAIN)]
    expected, scale = whole.anomaly_maps(ASKED), whole.anomaly_maps(ASKED).abs().max()
    for _ in range(2):
        last = detector.anomaly_maps(ASKED)
        torch.testing.assert_close(last / scale, expected / scale, rtol=0, atol=1e-4)
    assert len(maps) == 2 and all((part > last).any() for part in maps)
    assert detector.cost() == whole.cost() and detector.figures() == whole.figures()
    # What is exported has the same rows in the same order.
    with torch.inference_mode():
        torch.testing.assert_close(
            detector.module()(ASKED) / scale, whole.module()(ASKED) / scale, rtol=0, atol=1e-4
        )


def test_no_pair_is_compared_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, search = 0, MemoryBank.search

    def counted(self: MemoryBank, queries: Tensor, num_neighbors: int = 1) -> Tensor:
        nonlocal pairs
        pairs += len(queries) * len(self)
        return search(self, queries, num_neighbors)

    monkeypatch.setattr(MemoryBank, "search", counted)
    detector = in_parts({})
    for _ in detector.fit_in_steps(TRAIN):
        # In parts, as a split is asked; and another image only now and then.
        detector.anomaly_maps(ASKED[:2])
        detector.anomaly_maps(ASKED[2:])
    detector.anomaly_maps(ASKED[:2])
    detector.anomaly_maps(ASKED[2:])
    assert pairs == len(ASKED) * PLACES * ROWS
    store: Any = detector._stores[0]
    assert not store._found, "what was found is forgotten once nothing is added to it"


def test_a_pause_knows_the_cost_of_all_rows() -> None:
    detector = in_parts({})
    expected = fitted({}).cost()
    assert [detector.cost() for _ in detector.fit_in_steps(TRAIN)] == [expected, expected]


@pytest.mark.parametrize(
    ("params", "least"),
    [
        ({}, None),
        ({}, ROWS + 1),
        ({"window": 1}, 1),
        ({"neighbour_images": 5}, 1),
        ({"image_score": "reweighted"}, 1),
    ],
)
def test_other_banks_are_asked_at_once(params: Params, least: int | None) -> None:
    detector = in_parts(params, least)
    assert list(detector.fit_in_steps(TRAIN)) == []
    assert torch.equal(detector.anomaly_maps(ASKED), fitted(params).anomaly_maps(ASKED))


def study(**pruner: object) -> StudySpec:
    return parse_spec(
        {
            "study": {"name": "parts", "runner": "patchcore", "trials": 1},
            "space": {"backbone": ["tf_efficientnet_lite0"]},
            "objectives": ["total_gflops", "rwap"],
            "dataset": {"image_size": 32},
            "resources": {"gpu": 0},
            "pruner": pruner,
        }
    )


def test_a_study_that_asks_for_it_is_told_of_every_part() -> None:
    inputs = load_inputs(study())
    canonical = inputs.runner.canonical({})

    def steps(**pruner: object) -> list[Progress | Outcome]:
        evaluator = TrialEvaluator(study(**pruner), inputs.runner, inputs.data)
        return list(evaluator.steps(Assignment(0, {}, canonical, 0)))

    (plain,) = steps()
    assert isinstance(plain, Outcome)
    (unasked,) = steps(name="none", bank_rows=1)
    assert isinstance(unasked, Outcome) and unasked.values == plain.values
    first, second, last = steps(bank_rows=1)
    assert isinstance(first, Progress) and isinstance(second, Progress)
    assert isinstance(last, Outcome)
    assert (first.fraction, second.fraction) == SHARES
    for told in (first.values, second.values, last.values):
        assert told["total_gflops"] == plain.values["total_gflops"]
    assert math.isclose(last.values["rwap"], plain.values["rwap"], abs_tol=1e-5)
    assert not np.isclose(first.values["rwap"], plain.values["rwap"], atol=1e-3)


def test_a_bank_has_rows() -> None:
    with pytest.raises(ConfigError, match=r"pruner\.bank_rows: 0"):
        study(bank_rows=0)
