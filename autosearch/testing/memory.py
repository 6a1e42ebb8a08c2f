"""What every backend of memory banks must hold: exact distances, whatever the way in."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from autosearch.errors import ConfigError
from autosearch.memory import MemoryBank

MakeBank = Callable[[int], MemoryBank]


class MemoryBankSuite:
    """Checks of a `MemoryBank`.

    Give a fixture ``make_bank`` that returns a function from the length of a patch to an empty
    bank. Banks of a GPU are asked with patches of the CPU.

    Attributes:
        size: Number of patches among which exact distances are looked for: one block and part of
            another, for a backend that goes through them in blocks.
    """

    size: ClassVar[int] = 1300

    @pytest.mark.parametrize("offset", [0.0, 100.0])
    @pytest.mark.parametrize("dimension", [4, 24, 130])
    def test_distances_are_exact(self, make_bank: MakeBank, dimension: int, offset: float) -> None:
        """Squared distances, rising, as float64 gives them one query at a time."""
        patches = _normal(self.size, dimension) + offset
        queries = _normal(self.size - 7, dimension, seed=1) + offset
        bank = _filled(make_bank, patches[:7], patches[7:-9], patches[-9:])
        expected = _oracle(queries, patches, 9)
        for k in (1, 2, 9):
            found = bank.search(queries, k)
            assert found.shape == (len(queries), k) and found.dtype == torch.float32
            nothing = 1e-6 * dimension
            torch.testing.assert_close(found.double(), expected[:, :k], rtol=1e-3, atol=nothing)
            assert (found.diff(dim=1) >= 0).all()

    def test_own_patches_are_at_no_distance(self, make_bank: MakeBank) -> None:
        """Nor is a patch's double, and no distance is negative."""
        patches = _normal(300, 64) + 100
        twice = _filled(make_bank, patches, patches)
        assert twice.search(patches, 2).max() < 1e-5 * _oracle(patches, patches, 2)[:, 1].min()
        assert twice.search(patches).min() >= 0

    def test_size_is_that_of_the_patches(self, make_bank: MakeBank) -> None:
        """Length and bytes count every patch, and an empty part adds nothing."""
        bank = make_bank(24)
        assert len(bank) == bank.nbytes == 0 and bank.patches().shape == (0, 24)
        for part in (_normal(0, 24), _normal(5, 24), _normal(0, 24), _normal(7, 24)):
            bank.add(part)
        assert (len(bank), bank.nbytes) == (12, 12 * 24 * 4)
        assert bank.search(_normal(0, 24), 3).shape == (0, 3)

    def test_parts_and_their_order_do_not_matter(self, make_bank: MakeBank) -> None:
        """Patches at once, in parts or reversed give the same; more never raise a score."""
        for seed in range(25):
            draw = torch.Generator().manual_seed(seed)
            size, more, dimension = (
                int(torch.randint(1, high, (), generator=draw)) for high in (40, 40, 7)
            )
            first, second = (
                _normal(size, dimension, seed=seed),
                _normal(more, dimension, seed=seed + 1),
            )
            queries, both = _normal(12, dimension, seed=seed + 2), torch.cat([first, second])
            k = 1 + seed % size
            found = _filled(make_bank, both).search(queries, k)
            for bank in (_filled(make_bank, first, second), _filled(make_bank, both.flip(0))):
                _assert_near(bank.search(queries, k), found)
            assert (found <= _filled(make_bank, first).search(queries, k) + 1e-5).all()

    def test_ties_are_all_counted(self, make_bank: MakeBank) -> None:
        """Patches at one distance fill as many places as there are of them, in any order."""
        patches = _normal(6, 5).repeat(4, 1)
        queries = torch.cat([patches[:6], _normal(9, 5, seed=1)])
        for shuffled in (patches, patches[_order(24)]):
            found = _filled(make_bank, shuffled).search(queries, 10)
            _assert_near(found, _oracle(queries, patches, 10).float())

    def test_search_and_add_alternate(self, make_bank: MakeBank) -> None:
        """A bank that was searched still grows."""
        first, second, queries = _normal(30, 8), _normal(30, 8, seed=1), _normal(5, 8, seed=2)
        bank = _filled(make_bank, first)
        _assert_near(bank.search(queries), _oracle(queries, first).float())
        bank.add(second)
        _assert_near(bank.search(queries), _oracle(queries, torch.cat([first, second])).float())

    def test_inputs_are_copied_and_kept(self, make_bank: MakeBank) -> None:
        """Neither does a bank change what it is given, nor does it change with it."""
        patches, queries = _normal(30, 8), _normal(5, 8, seed=1)
        given = patches.clone(), queries.clone()
        bank = _filled(make_bank, patches)
        expected = bank.search(queries, 2)
        assert torch.equal(patches, given[0]) and torch.equal(queries, given[1])
        _assert_near(expected, _oracle(queries, patches, 2).float())
        patches.zero_()
        _assert_near(bank.search(queries, 2), expected)

    def test_patches_come_back(self, make_bank: MakeBank) -> None:
        """In order of addition, as a copy."""
        parts = [_normal(size, 24, seed=size) + 100 for size in (7, 30)]
        bank = _filled(make_bank, *parts)
        torch.testing.assert_close(bank.patches().cpu(), torch.cat(parts), rtol=1e-6, atol=1e-5)
        bank.patches().zero_()
        assert bank.search(parts[0]).max() < 1e-3

    @pytest.mark.parametrize("num_neighbors", [-1, 0, 4])
    def test_neighbours_must_exist(self, make_bank: MakeBank, num_neighbors: int) -> None:
        """An empty bank has none at all."""
        with pytest.raises(ConfigError, match=r"^num_neighbors: -?\d .* 1 to .* 3$"):
            _filled(make_bank, _normal(3, 2)).search(_normal(1, 2), num_neighbors)
        with pytest.raises(ConfigError, match=r"^num_neighbors.* 0$"):
            make_bank(2).search(_normal(1, 2))

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
    def test_numbers_must_be_finite(self, make_bank: MakeBank, bad: float) -> None:
        """What cannot be compared is refused, and the bank stays as it was."""
        broken = _normal(3, 2)
        broken[1, 1] = bad
        bank = _filled(make_bank, _normal(3, 2))
        with pytest.raises(ValueError, match="patches hold NaN"):
            bank.add(broken)
        with pytest.raises(ValueError, match="queries hold NaN"):
            bank.search(broken)
        assert len(bank) == 3

    @pytest.mark.parametrize("shape", [(3, 5), (2,), (1, 3, 2)])
    def test_vectors_must_have_the_length_of_a_patch(
        self, make_bank: MakeBank, shape: tuple[int, ...]
    ) -> None:
        """Errors name the shape and the one expected."""
        bank = _filled(make_bank, _normal(3, 2))
        with pytest.raises(ValueError, match=r"patches are \(.*\), expected \(\*, 2\)"):
            bank.add(_normal(*shape))
        with pytest.raises(ValueError, match=r"queries are \(.*\), expected \(\*, 2\)"):
            bank.search(_normal(*shape))
        assert len(bank) == 3


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _filled(make_bank: MakeBank, *parts: Tensor) -> MemoryBank:
    bank = make_bank(parts[0].shape[1])
    for part in parts:
        bank.add(part)
    return bank


def _oracle(queries: Tensor, patches: Tensor, num_neighbors: int = 1) -> Tensor:
    """Differences in float64, one query at a time."""
    rows = [(patches.double() - query).square().sum(1) for query in queries.double()]
    return torch.stack(rows).sort(dim=1).values[:, :num_neighbors]


def _order(count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))


def _assert_near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
