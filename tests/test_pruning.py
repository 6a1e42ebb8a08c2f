"""Nearest neighbours by a bound, against all distances in float64."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

from autosearch.memory.bank import TorchBank
from autosearch.memory.pruning import PrunedRows, leading_axes


def smooth(count: int, seed: int, dimension: int = 64, rank: int = 5, noise: float = 0.05):
    """Vectors that vary in few directions and a little in all others."""
    basis = torch.randn(rank, dimension, generator=torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(seed)
    low = torch.randn(count, rank, generator=generator) @ basis
    return low + noise * torch.randn(count, dimension, generator=generator)


def rows_of(patches: torch.Tensor) -> torch.Tensor:
    return torch.cat([patches * -2, patches.square().sum(1, keepdim=True)], dim=1)


def all_distances(queries: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
    return (queries.double()[:, None] - patches.double()[None]).square().sum(2).sort(1).values


@settings(max_examples=10, deadline=None)
@given(
    count=st.integers(2000, 4000),
    neighbours=st.integers(1, 9),
    seed=st.integers(0, 1000),
    noise=st.sampled_from([0.0, 0.05, 0.3]),
)
def test_equals_an_exhaustive_search(count: int, neighbours: int, seed: int, noise: float) -> None:
    patches, queries = smooth(count, seed, noise=noise), smooth(40, seed + 1, noise=noise)
    axes = torch.linalg.svd(patches, full_matrices=False).Vh[:16].T.contiguous()
    neighbours = min(neighbours, count // 128 + 1)
    found = PrunedRows(rows_of(patches), axes).search(queries, neighbours)
    if found is None:
        pytest.fail("smooth vectors must not be given up")
    truth = all_distances(queries, patches)[:, :neighbours]
    torch.testing.assert_close(found.double(), truth, rtol=1e-4, atol=1e-5 * patches.var().item())


def test_any_axes_give_the_same_answer() -> None:
    # A bound from bad axes is weak, never wrong.
    patches, queries = smooth(3000, 0), smooth(50, 1)
    truth = all_distances(queries, patches)[:, :2]
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        axes = torch.linalg.qr(torch.randn(64, 16, generator=generator)).Q
        found = PrunedRows(rows_of(patches), axes).search(queries, 2)
        if found is not None:
            torch.testing.assert_close(found.double(), truth, rtol=1e-4, atol=1e-4)


def test_own_patches_are_at_distance_zero_and_duplicates_count() -> None:
    patches = smooth(2000, 0)
    axes = leading_axes(rows_of(patches))
    assert axes is not None
    twice = PrunedRows(rows_of(torch.cat([patches, patches])), axes)
    found = twice.search(patches[:64], 3)
    assert found is not None
    assert torch.equal(found[:, :2], torch.zeros(64, 2))
    assert (found[:, 2] > 0).all()


def test_gives_up_where_bounds_do_not_separate() -> None:
    # All rows equally far from a query: every pair passes, and soon nobody asks again.
    patches = torch.nn.functional.normalize(torch.randn(3000, 64), dim=1)
    pruned = PrunedRows(rows_of(patches), torch.eye(64)[:, :16].contiguous())
    queries = torch.zeros(32, 64)
    assert all(pruned.search(queries, 1) is None for _ in range(20))
    assert pruned._searched < 10


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("neighbours", [1, 3])
def test_a_bank_uses_bounds_and_stays_exact(threads: int, neighbours: int) -> None:
    patches, queries = smooth(9000, 0) + 50, smooth(8200, 1) + 50
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        bank = TorchBank(64)
        bank.add(patches)
        with torch.inference_mode():
            found = bank.search(queries, neighbours)
        again = bank.search(queries, neighbours)
    finally:
        torch.set_num_threads(before)
    assert bank._bounded is not None and bank._bounded[1] is not None
    truth = all_distances(queries[::200], patches)[:, :neighbours]
    torch.testing.assert_close(found[::200].double(), truth, rtol=1e-3, atol=1e-4)
    assert torch.equal(found, again)


def test_axes_are_refused_where_variance_is_spread() -> None:
    spread = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0))
    assert leading_axes(rows_of(spread)) is None
    axes = leading_axes(rows_of(smooth(2000, 0)))
    assert axes is not None
    torch.testing.assert_close(axes.T @ axes, torch.eye(axes.shape[1]), atol=1e-5, rtol=0)


def test_adding_patches_renews_the_bounds() -> None:
    patches, queries = smooth(9000, 0), smooth(8200, 1)
    bank = TorchBank(64)
    bank.add(patches)
    before = bank.search(queries)
    bank.add(queries)
    assert bank.search(queries).max() < 1e-3 < before.max()
