"""Fronts, hypervolume and knee against brute force."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from autosearch.metrics.pareto import front, hypervolume, knee

SIGNS = {"minimize": 1, "maximize": -1}
MIN2 = ("minimize", "minimize")


@st.composite
def problems(draw: st.DrawFn) -> tuple[NDArray[np.generic], tuple[str, ...]]:
    """Points on a coarse grid, so that ties and duplicates abound, with some not finite."""
    objectives = draw(st.integers(1, 4))
    directions = tuple(draw(st.sampled_from(tuple(SIGNS))) for _ in range(objectives))
    rows = draw(st.integers(0, 25))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    grid = rng.integers(-3, 4, (rows, objectives))
    dtype = draw(st.sampled_from([np.float64, np.float32, np.int64]))
    values = grid.astype(dtype)
    if dtype is not np.int64:
        values *= dtype(0.1)
        hole = rng.random(values.shape) < 0.05
        values[hole] = rng.choice([np.nan, np.inf, -np.inf], hole.sum())
    return values, directions


def brute_front(values: NDArray[np.generic], directions: tuple[str, ...]) -> list[int]:
    costs = [
        [SIGNS[way] * float(x) for way, x in zip(directions, row, strict=True)] for row in values
    ]
    finite = [i for i, row in enumerate(costs) if all(map(math.isfinite, row))]

    def removes(j: int, i: int) -> bool:
        nowhere_worse = all(x <= y for x, y in zip(costs[j], costs[i], strict=True))
        return nowhere_worse and (costs[j] != costs[i] or j < i)

    return [i for i in finite if not any(removes(j, i) for j in finite)]


@given(problems())
@settings(max_examples=300, deadline=None)
def test_front_keeps_exactly_the_non_dominated(
    problem: tuple[NDArray[np.generic], tuple[str, ...]],
) -> None:
    values, directions = problem
    assert front(values, directions).tolist() == brute_front(values, directions)


def test_equal_rows_keep_the_first_trial() -> None:
    values = [[2.0, 2.0], [1.0, 3.0], [1.0, 3.0], [2.0, 2.0], [-0.0, 9.0], [0.0, 9.0]]
    assert front(values, MIN2).tolist() == [0, 1, 4]


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_large_sets_keep_a_known_front(objectives: int) -> None:
    rng = np.random.default_rng(0)
    ideal = rng.dirichlet(np.ones(objectives), 300)  # on a simplex none dominates another
    ideal = ideal[:1] if objectives == 1 else ideal
    worse = ideal[rng.integers(0, len(ideal), 9_700)] + rng.random((9_700, objectives)) + 1e-9
    values = np.concatenate([worse, ideal])
    expected = list(range(len(worse), len(values)))
    assert front(values, ["minimize"] * objectives).tolist() == expected
    assert front(-values, ["maximize"] * objectives).tolist() == expected


@given(
    st.integers(1, 4),
    st.lists(st.lists(st.integers(-1, 4), min_size=4, max_size=4), max_size=9),
    st.lists(st.sampled_from(tuple(SIGNS)), min_size=4, max_size=4),
)
@settings(max_examples=200, deadline=None)
def test_hypervolume_counts_the_dominated_cells(
    objectives: int, rows: list[list[int]], ways: list[str]
) -> None:
    points = np.array(rows, dtype=np.float64).reshape(-1, 4)[:, :objectives]
    directions = ways[:objectives]
    # Unit cells of the grid from -1 to 3, each named by its lower corner.
    cells = itertools.product(range(-1, 3), repeat=objectives)
    expected = sum(bool((points <= np.array(cell)).all(axis=1).any()) for cell in cells)
    signs = np.array([SIGNS[way] for way in directions])
    reference = np.full(objectives, 3.0) * signs
    assert hypervolume(points * signs, reference, directions) == pytest.approx(expected)


@given(st.integers(2, 3), st.lists(st.tuples(*[st.floats(0, 1)] * 3), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_hypervolume_equals_inclusion_and_exclusion(
    objectives: int, rows: list[tuple[float, ...]]
) -> None:
    points = np.array(rows)[:, :objectives]
    expected = 0.0
    for size in range(1, len(points) + 1):
        for group in itertools.combinations(points, size):
            expected -= (-1) ** size * float(np.prod(1 - np.max(group, axis=0)))
    measured = hypervolume(points, np.ones(objectives), ["minimize"] * objectives)
    assert measured == pytest.approx(expected, abs=1e-12)


def test_hypervolume_in_closed_form() -> None:
    # GFLOPs down, rwAP up: steps of 0.2 x 0.5, 0.3 x 0.3 and nothing beyond the reference.
    values = [[0.2, 0.5], [0.1, 0.3], [0.3, 0.4], [0.5, 0.9], [0.1, math.nan]]
    directions = ("minimize", "maximize")
    assert hypervolume(values, [0.4, 0.0], directions) == pytest.approx(0.2 * 0.5 + 0.1 * 0.3)
    assert hypervolume([[-math.inf, 0.5]], [0.4, 0.0], directions) == 0
    assert hypervolume([[0.5, 0.9]], [0.4, 0.0], directions) == 0
    assert hypervolume(np.empty((0, 2)), [0.4, 0.0], directions) == 0


def test_knee_bulges_towards_the_better_values() -> None:
    values = [[0.0, 10.0], [1.0, 3.0], [4.0, 1.0], [10.0, 0.0], [5.0, 5.0]]
    assert knee(values, MIN2) == 1
    flipped = np.array(values) * [1, -1]
    assert knee(flipped, ("minimize", "maximize")) == 1
    # Units do not matter.
    assert knee(np.array(values) * [1e9, 1e-3], MIN2) == 1


def test_knee_of_a_front_that_bulges_away_is_an_extreme() -> None:
    assert knee([[0.7, 0.8], [1.0, 0.0], [0.0, 1.0]], MIN2) == 1


def test_knee_of_short_fronts() -> None:
    assert knee(np.empty((0, 2)), MIN2) is None
    assert knee([[math.nan, 1.0]], MIN2) is None
    assert knee([[3.0, 3.0], [1.0, 1.0]], MIN2) == 1
    assert knee([[2.0, 0.0], [0.0, 2.0]], MIN2) == 0


def test_input_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 2\) with 3 directions"):
        front([[1.0, 2.0]], ["minimize"] * 3)
    with pytest.raises(ValueError, match="'min' is not allowed"):
        front([[1.0]], ["min"])
    with pytest.raises(ValueError, match="one finite point"):
        hypervolume([[1.0, 2.0]], [math.inf, 1.0], MIN2)
    with pytest.raises(ValueError, match="defined for two"):
        knee([[1.0]], ["minimize"])
