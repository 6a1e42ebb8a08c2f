"""Which patches a memory bank holds: those it held when all patches were joined first."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import autosearch_runners.bank.stores as bank_stores
import numpy as np
import pytest
import torch
from autosearch_runners.memory_bank import MemoryBankDetector, cells_within
from torch import Tensor

from autosearch.contracts import Runner, TrialContext, registry, shared_tensor
from autosearch.data import ImageSet
from autosearch.errors import Infeasible
from autosearch.memory import MemoryBank, coreset, make_memory_bank
from autosearch.spec import Params, parse_spec
from autosearch.testing.images import image_set

SIDE, SEED = 48, 5
WHOLE = image_set(SIDE, 11, 0, 4)
CORNER = np.ones(WHOLE.masks.shape, dtype=bool)
CORNER[:, :16, :24] = False
CORNER[3] = False
PARTLY = replace(WHOLE, valid=CORNER)


@cache
def runner() -> Runner:
    content = {
        "study": {"name": "test", "runner": "patchcore"},
        "space": {"backbone": ["tf_efficientnet_lite0"]},
        "objectives": ["rwap"],
        "backbone": {"weights": "random"},
    }
    return registry.load_runner("patchcore")(parse_spec(content))


def built(params: Params) -> MemoryBankDetector:
    context = TrialContext(SEED, "cpu", (SIDE, SIDE))
    canonical = {"backbone": "tf_efficientnet_lite0", **params}
    detector = runner().build(runner().canonical(canonical), context)
    assert isinstance(detector, MemoryBankDetector)
    return detector


def joined(train: ImageSet) -> Tensor:
    """All patches that count, of all images."""
    detector = built({})
    images = shared_tensor(train.pixels)
    patches = detector._patches(detector._prepare(images), images)
    if train.valid is None:
        return patches
    return patches[cells_within(train.valid, detector._grid).flatten()]


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What banks are given."""
    given: list[Tensor] = []

    def make(backend: str, dimension: int, device: str) -> MemoryBank:
        bank = make_memory_bank(backend, dimension, device)
        monkeypatch.setattr(bank, "_append", given.append)
        return bank

    monkeypatch.setattr(bank_stores, "make_memory_bank", make)
    return given


@pytest.mark.parametrize("train", [WHOLE, PARTLY], ids=["all", "partly"])
@pytest.mark.parametrize(
    ("ratio", "method"), [(1.0, "random"), (0.03, "random"), (0.4, "random"), (0.05, "kcenter")]
)
def test_same_rows_bit_by_bit(
    train: ImageSet, ratio: float, method: str, added: list[Tensor]
) -> None:
    everything = joined(train)
    wanted = everything[coreset(everything, ratio=ratio, method=method, seed=SEED)]
    built({"coreset_ratio": ratio, "coreset_method": method}).fit(train)
    assert torch.equal(added[0], wanted - wanted.mean(0))


def test_kcenter_chooses_from_a_pool(added: list[Tensor]) -> None:
    everything = joined(WHOLE)
    params: Params = {"coreset_ratio": 0.05, "coreset_method": "kcenter", "coreset_pool": 100}
    built(params).fit(WHOLE)
    pool = everything[coreset(everything, count=100, method="random", seed=SEED)]
    wanted = pool[coreset(pool, count=len(added[0]), seed=SEED)]
    assert len(wanted) == round(0.05 * len(everything)) < 100
    assert torch.equal(added[0], wanted - wanted.mean(0))


def test_a_pool_is_never_smaller_than_the_bank(added: list[Tensor]) -> None:
    params: Params = {"coreset_ratio": 0.9, "coreset_method": "kcenter", "coreset_pool": 100}
    built(params).fit(WHOLE)
    assert len(added[0]) == round(0.9 * len(joined(WHOLE)))


def test_pools_of_older_studies_are_everything(added: list[Tensor]) -> None:
    everything = joined(WHOLE)
    params = built_params = {"coreset_ratio": 0.05, "coreset_method": "kcenter"}
    canonical = runner().canonical({"backbone": "tf_efficientnet_lite0", **built_params})
    del canonical["coreset_pool"]
    context = TrialContext(SEED, "cpu", (SIDE, SIDE))
    runner().build(canonical, context).fit(WHOLE)
    wanted = everything[coreset(everything, ratio=float(params["coreset_ratio"]), seed=SEED)]
    assert torch.equal(added[0], wanted - wanted.mean(0))


def test_nothing_that_counts_is_infeasible() -> None:
    nothing = replace(WHOLE, valid=np.zeros(WHOLE.masks.shape, dtype=bool))
    with pytest.raises(Infeasible, match="num_neighbors 1 of a bank of 0 patches"):
        built({}).fit(nothing)


def test_memory_grows_with_the_bank_alone() -> None:
    few = built({"coreset_ratio": 0.01, "coreset_method": "random"})
    assert few.memory(10_000) > few.memory(100)
    # Indices of all patches, and a hundredth of the rows.
    assert few.memory(10_000) < built({}).memory(10_000) / 10
