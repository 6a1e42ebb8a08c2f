"""Candidates from products in bfloat16: the neighbours are those of single precision."""

import pickle

import pytest
import torch
from torch import Tensor

from autosearch.memory import bank as banks, half, make_memory_bank
from autosearch.memory.bank import TorchBank
from autosearch.memory.half import HalfRows


def slowly(points: Tensor, queries: Tensor, k: int) -> Tensor:
    """Squared distances to the nearest points, from differences in double precision."""
    found = torch.cdist(
        queries.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    return found.square().topk(k, dim=1, largest=False).values


def stored(points: Tensor) -> Tensor:
    return torch.cat([points * -2, points.square().sum(1, keepdim=True)], dim=1)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("rows", [1000, 3000, 5001])
def test_neighbours_are_exact(rows: int, scale: float, k: int) -> None:
    points, queries = scale * drawn(rows, 70), scale * drawn(50, 70, seed=1)
    queries[:10] = points[:10]
    found = HalfRows(stored(points)).search(queries, k)
    assert found is not None
    wanted = slowly(points, queries, k)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-9 * scale**2)


def test_rows_that_bfloat16_cannot_tell_apart() -> None:
    """Near each of many places lie rows that differ in digits which are rounded away."""
    places = drawn(300, 64)
    points = (places[:, None] * (1 + 1e-4 * torch.arange(-5, 6)[:, None])).flatten(0, 1)
    assert len(points.bfloat16().unique(dim=0)) < len(points)
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))
    queries = places * (1 + 0.9e-4)
    found = HalfRows(stored(points[order])).search(queries, 1)
    assert found is not None
    torch.testing.assert_close(found.double(), slowly(points, queries, 1), rtol=1e-4, atol=1e-9)


def test_a_row_that_rounding_moves_away_is_not_lost() -> None:
    """Around 100 numbers of bfloat16 lie 0.5 apart: 100.24 and 100.2 become 100, 100.26 100.5."""
    shown = torch.tensor([0.26, 0.2])[:, None] + torch.full((2, 64), 100.0)
    query = torch.full((1, 64), 100.24)
    rounded = (shown.bfloat16().float() - query.bfloat16().float()).norm(dim=1)
    assert rounded.argmin() == 1
    points = torch.cat([105 + drawn(2000, 64), shown])
    found = HalfRows(stored(points)).search(query, 1)
    assert found is not None
    assert found.item() == pytest.approx(64 * 0.02**2, rel=1e-2)


def test_too_many_candidates_are_left_to_an_exhaustive_search() -> None:
    rows = HalfRows(stored(1 + 1e-5 * drawn(4096, 64)))
    assert rows.search(torch.ones(64, 64), 1) is None
    assert HalfRows(stored(drawn(200, 64))).search(drawn(4, 64), 100) is None


@pytest.mark.parametrize(("fast", "backend", "used"), [
    (True, "auto", True), (True, "torch-float32", False), (False, "torch", False),
])  # fmt: skip
def test_a_bank_uses_them_where_the_processor_is_fast(
    monkeypatch: pytest.MonkeyPatch, fast: bool, backend: str, used: bool
) -> None:
    made = []

    class Seen(HalfRows):
        def search(self, queries: Tensor, num_neighbors: int) -> Tensor | None:
            made.append(len(queries))
            return super().search(queries, num_neighbors)

    monkeypatch.setattr(banks, "has_fast_half", lambda: fast)
    monkeypatch.setattr(banks, "HalfRows", Seen)
    bank = make_memory_bank(backend, 64)
    assert isinstance(bank, TorchBank)
    points, queries = 5 + drawn(4200, 64), 5 + drawn(600, 64, seed=1)
    bank.add(points[:1000])
    bank.add(points[1000:])
    torch.testing.assert_close(
        bank.search(queries, 2).double(), slowly(points, queries, 2), rtol=1e-4, atol=1e-6
    )
    assert sum(made) == (600 if used else 0)
    copied = pickle.loads(pickle.dumps(bank))
    torch.testing.assert_close(copied.search(queries), bank.search(queries), rtol=1e-4, atol=1e-4)
    bank.add(queries[:7])
    assert bank.search(queries)[:7].max() < 1e-4


def test_what_torch_says_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for told, fast in (({}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)):
        half.has_fast_half.cache_clear()
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda told=told: told, raising=False)
        assert half.has_fast_half() is fast
    half.has_fast_half.cache_clear()
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert half.has_fast_half() is False
    monkeypatch.undo()
    half.has_fast_half.cache_clear()
