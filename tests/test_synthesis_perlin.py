"""Perlin noise against a slow oracle; how masks are drawn, combined, pooled and given up."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from autosearch.synthesis import draw_mask, perlin, pool_mask
from autosearch.synthesis.perlin import MAX_TRIES, perlin_mask, perlin_noise


def slow_noise(size: int, frequencies: tuple[int, int], seed: int) -> np.ndarray:
    """Perlin's definition, pixel by pixel: corner dot products, blended along x, then along y."""

    def mix(a: float, b: float, t: float) -> float:
        return a + (6 * t**5 - 15 * t**4 + 10 * t**3) * (b - a)

    rows, columns = frequencies
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, (rows + 1, columns + 1))
    result = np.empty((size, size))
    for i, j in itertools.product(range(size), repeat=2):
        y, x = i * rows / size, j * columns / size
        corner = {}
        for a, b in itertools.product((0, 1), repeat=2):
            direction = angle[int(y) + a, int(x) + b]
            dy, dx = y - int(y) - a, x - int(x) - b
            corner[a, b] = np.sin(direction) * dy + np.cos(direction) * dx
        upper = mix(corner[0, 0], corner[0, 1], x - int(x))
        lower = mix(corner[1, 0], corner[1, 1], x - int(x))
        result[i, j] = np.sqrt(2) * mix(upper, lower, y - int(y))
    return result


@pytest.mark.parametrize(
    ("size", "frequencies"), [(12, (3, 4)), (10, (3, 4)), (15, (2, 8)), (9, (1, 1))]
)
def test_noise_equals_its_definition_at_any_size(size: int, frequencies: tuple[int, int]) -> None:
    noise = perlin_noise((size, size), frequencies, np.random.default_rng(7))
    assert noise.dtype == np.float32
    np.testing.assert_allclose(noise, slow_noise(size, frequencies, 7), atol=1e-5)


def test_noise_is_zero_at_lattice_corners_and_bounded() -> None:
    noise = perlin_noise((256, 256), (8, 32), np.random.default_rng(0))
    np.testing.assert_allclose(noise[::32, ::8], 0, atol=1e-6)
    assert 0.5 < np.abs(noise).max() <= 1


def test_each_combination_of_two_noises_has_a_third(monkeypatch: pytest.MonkeyPatch) -> None:
    left, top = np.zeros((2, 4, 4), dtype=bool)
    left[:, :2], top[:2] = True, True
    both = itertools.cycle((left, top))
    monkeypatch.setattr(perlin, "_blobs", lambda *_: next(both))
    rng = np.random.default_rng(0)
    drawn = [perlin_mask((4, 4), 5, 0.5, rng) for _ in range(3000)]
    counts = [
        sum(np.array_equal(mask, kind) for mask in drawn)
        for kind in (left & top, left | top, left)
    ]
    assert sum(counts) == 3000
    # Four standard deviations of a binomial count with p = 1/3.
    assert max(abs(count - 1000) for count in counts) < 4 * np.sqrt(3000 * 2 / 9)


@pytest.mark.parametrize(
    ("size", "max_exp", "highest"), [(256, 5, 32), (300, 2, 4), (32, 5, 16), (5, 5, 2), (1, 5, 1)]
)
def test_frequencies_are_independent_powers_of_two_that_fit(
    monkeypatch: pytest.MonkeyPatch, size: int, max_exp: int, highest: int
) -> None:
    seen = set()

    def noise(shape: tuple[int, int], frequencies: tuple[int, int], _: object) -> np.ndarray:
        seen.add(frequencies)
        return np.zeros(shape, dtype=np.float32)

    monkeypatch.setattr(perlin, "perlin_noise", noise)
    rng = np.random.default_rng(0)
    for _ in range(200):
        perlin_mask((size, size), max_exp, 0.5, rng)
    powers = [2**e for e in range(highest.bit_length())]
    assert seen == set(itertools.product(powers, powers))


def test_noise_turns_by_up_to_a_right_angle_and_is_zero_outside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bar = np.zeros((65, 65), dtype=np.float32)
    bar[31:34, 40:] = 1
    monkeypatch.setattr(perlin, "perlin_noise", lambda *_: bar)
    rng = np.random.default_rng(0)
    angles = []
    for _ in range(100):
        rows, columns = np.nonzero(perlin._blobs((65, 65), 0, 0.5, rng))
        angles.append(np.rad2deg(np.arctan2(32 - rows.mean(), columns.mean() - 32)))
    assert -91 < min(angles) < -70
    assert 70 < max(angles) < 91
    monkeypatch.setattr(perlin, "perlin_noise", lambda *_: np.ones((64, 64), np.float32))
    turned = np.mean([perlin._blobs((64, 64), 0, 0.5, rng) for _ in range(40)], axis=0)
    assert turned[0, 0] < 0.5
    assert turned[32, 32] == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 70), st.integers(1, 17), st.integers(0, 6), st.integers(0, 2**32), st.data())
def test_a_mask_lies_in_the_foreground_and_its_pool_is_the_maximum(
    size: int, cell: int, max_exp: int, seed: int, data: st.DataObject
) -> None:
    foreground = data.draw(arrays(bool, (size, size), fill=st.booleans()))
    drawn = draw_mask(foreground, max_exp, 0.3, cell, np.random.default_rng(seed))
    assert drawn.mask.any()
    if foreground.any():
        assert not (drawn.mask & ~foreground).any()
    else:
        assert drawn.fell_back
    for row, column in np.ndindex(drawn.pooled.shape):
        block = drawn.mask[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
        assert drawn.pooled[row, column] == block.any()


@pytest.mark.parametrize(("size", "cells"), [(300, 38), (200, 25), (256, 32)])
def test_odd_sizes_give_whole_masks(size: int, cells: int) -> None:
    drawn = draw_mask(np.ones((size, size), bool), 5, 0.5, 8, np.random.default_rng(3))
    assert drawn.mask.shape == (size, size)
    assert drawn.pooled.shape == (cells, cells)
    assert not drawn.fell_back


def test_one_pixel_makes_its_cell_positive() -> None:
    mask = np.zeros((20, 20), bool)
    mask[15, 19] = True
    np.testing.assert_array_equal(np.argwhere(pool_mask(mask, 8)), [[1, 2]])


def test_redraws_end_with_the_whole_foreground(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(perlin, "perlin_mask", lambda size, *_: calls.append(size) or False)
    foreground = np.zeros((16, 16), bool)
    foreground[3, 4:7] = True
    drawn = draw_mask(foreground, 5, 0.5, 8, np.random.default_rng(0))
    assert len(calls) == MAX_TRIES
    assert drawn.fell_back
    np.testing.assert_array_equal(drawn.mask, foreground)
    assert drawn.pooled.sum() == 1


def test_an_empty_foreground_counts_as_full() -> None:
    rng = np.random.default_rng(0)
    drawn = draw_mask(np.zeros((64, 64), bool), 5, 0.5, 8, rng)
    assert drawn.fell_back
    assert 0 < drawn.mask.sum() < 64 * 64
