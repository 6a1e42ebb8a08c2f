"""SuperADD's thinning against a slow oracle, and what it is for."""

from __future__ import annotations

import numpy as np
import torch

from autosearch.memory import coreset, thinning
from autosearch.memory.thinning import thin, thinned


def slow(points: np.ndarray, most: int, draws: np.ndarray) -> list[int]:
    """One round, pair by pair."""
    distances = [[float(np.linalg.norm(a - b)) for b in points] for a in points]
    nearest = [sorted(row)[:100] for row in distances]
    radius = sum(map(sum, nearest)) / sum(map(len, nearest)) / 10
    while True:
        chances = [1 / (1 + sum(d < radius for d in row)) for row in nearest]
        kept = [i for i, chance in enumerate(chances) if draws[i] < chance]
        if len(kept) <= most:
            return kept
        if radius >= max(map(max, nearest)):
            return sorted(sorted(kept, key=lambda i: draws[i])[:most])
        radius *= 1.1


def test_a_round_is_that_of_a_slow_oracle() -> None:
    rng = np.random.default_rng(0)
    for count, most in ((130, 40), (130, 6), (130, 1), (40, 12), (1, 1), (2, 1)):
        points = rng.normal(size=(count, 5)).astype(np.float32)
        points[: count // 2] *= 0.05
        draws = rng.random(count).astype(np.float32)
        found = thinned(torch.from_numpy(points), most, torch.from_numpy(draws))
        assert found.tolist() == slow(points, most, draws), (count, most)
        assert len(found) <= most


def test_as_many_as_asked_for_all_different_and_by_the_seed() -> None:
    points = torch.randn(1200, 4, generator=torch.Generator().manual_seed(0))
    for count in (1, 7, 100, 301, 1199):
        found = coreset(points, count=count, method="thinning", seed=4)
        assert len(found) == len(found.unique()) == count and found.dtype == torch.int64
        assert torch.equal(found, coreset(points, count=count, method="thinning", seed=4))
        assert count == 1199 or not torch.equal(
            found.sort().values,
            coreset(points, count=count, method="thinning", seed=5).sort().values,
        )


def test_dense_places_lose_more() -> None:
    generator = torch.Generator().manual_seed(1)
    dense = 0.01 * torch.randn(3600, 8, generator=generator)
    sparse = 5 * torch.randn(400, 8, generator=generator)
    found = thin(torch.cat([dense, sparse]), 400, generator)
    # At random a tenth would be of the sparse ones.
    assert (found >= 3600).sum() > 130


def test_duplicates_end() -> None:
    found = thin(torch.ones(500, 3), 50, torch.Generator().manual_seed(0))
    assert len(found.unique()) == 50


def test_no_more_than_some_distances_are_held_at_a_time(monkeypatch) -> None:
    points = torch.randn(700, 6, generator=torch.Generator().manual_seed(2))
    draws = torch.rand(700, generator=torch.Generator().manual_seed(3))
    whole = thinned(points, 60, draws)
    seen, cdist = [], torch.cdist

    def looked(first, second):
        seen.append(first.shape[0] * second.shape[0])
        return cdist(first, second)

    monkeypatch.setattr(thinning, "_DISTANCES", 7000)
    monkeypatch.setattr(thinning.torch, "cdist", looked)
    assert torch.equal(thinned(points, 60, draws), whole)
    assert max(seen) <= 7000 and len(seen) == 70
