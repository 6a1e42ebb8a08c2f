"""Splits of an estimate: disjoint, groups intact, equal where they can be, the same every time."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from autosearch.errors import ConfigError
from autosearch.study.factory_split import FactorySplit, factory_split


def single(normal: int, anomalous: int) -> tuple[np.ndarray, list[str]]:
    labels = np.arange(normal + anomalous) >= normal
    return labels, [f"image {i}" for i in range(labels.size)]


def counts(labels: np.ndarray, split: FactorySplit) -> list[tuple[int, int]]:
    parts = (split.train, split.threshold, split.inference)
    return [(int((~labels[part]).sum()), int(labels[part].sum())) for part in parts]


def check(labels: np.ndarray, groups: list[str], split: FactorySplit) -> None:
    parts = (split.train, split.threshold, split.inference)
    assert sorted(np.concatenate(parts).tolist()) == list(range(labels.size))
    sets = [{groups[i] for i in part} for part in parts]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    assert not labels[split.train].any() and split.train.size


def test_images_by_themselves_make_equal_sets() -> None:
    labels, groups = single(60, 12)
    split = factory_split(labels, groups, 5)
    check(labels, groups, split)
    assert counts(labels, split) == [(48, 0), (6, 6), (6, 6)]
    again = factory_split(labels, groups, 5)
    for part in ("train", "threshold", "inference"):
        assert (getattr(again, part) == getattr(split, part)).all()
    other = factory_split(labels, groups, 6)
    assert set(other.threshold.tolist()) != set(split.threshold.tolist())


def test_every_image_is_measured_in_the_long_run() -> None:
    labels, groups = single(20, 6)
    measured = np.zeros(26, dtype=int)
    for seed in range(200):
        measured[factory_split(labels, groups, seed).inference] += 1
    # Half of the anomalous, and 3 of 20 normal ones in each.
    assert (np.abs(measured[20:] - 100) < 40).all() and (np.abs(measured[:20] - 30) < 25).all()


def test_an_object_with_one_anomalous_view_never_trains() -> None:
    labels = np.array([False] * 40 + [True, False, False, False] * 4)
    groups = [f"n{i // 2}" for i in range(40)] + [f"a{i // 4}" for i in range(16)]
    for seed in range(10):
        split = factory_split(labels, groups, seed)
        check(labels, groups, split)
        assert not set(split.train.tolist()) & set(range(40, 56))
        assert [pair[1] for pair in counts(labels, split)] == [0, 2, 2]


@given(
    sizes=st.lists(st.integers(1, 6), min_size=12, max_size=30),
    odd=st.lists(st.integers(1, 4), min_size=2, max_size=8),
    seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_groups_of_any_size(sizes: list[int], odd: list[int], seed: int) -> None:
    groups = [f"n{g}" for g, size in enumerate(sizes) for _ in range(size)]
    groups += [f"a{g}" for g, size in enumerate(odd) for _ in range(size)]
    labels = np.arange(len(groups)) >= sum(sizes)
    split = factory_split(labels, groups, seed)
    check(labels, groups, split)
    (_, _), (n, a), (m, b) = counts(labels, split)
    assert a and b and n and m
    # No further from the half than the largest group, nor normal ones beyond theirs.
    assert abs(a - b) <= 2 * max(odd) and n <= a + max(sizes) and m <= b + max(sizes)


def test_the_closest_draw_is_taken() -> None:
    # Halves of 7 are possible in few orders of these groups alone.
    groups = [f"n{i}" for i in range(60)] + [f"a{g}" for g, s in enumerate([5, 2, 4, 3]) for _ in
                                             range(s)]  # fmt: skip
    labels = np.arange(len(groups)) >= 60
    for seed in range(5):
        assert counts(labels, factory_split(labels, groups, seed))[1:] == [(7, 7), (7, 7)]


def test_few_normal_images_keep_half_to_train_on() -> None:
    labels, groups = single(20, 40)
    assert counts(labels, factory_split(labels, groups, 0)) == [(10, 0), (5, 20), (5, 20)]


def test_only_what_may_be_drawn_is_measured_on() -> None:
    labels, groups = single(50, 10)
    drawable = np.zeros(60, dtype=bool)
    drawable[30:50] = True
    split = factory_split(labels, groups, 3, drawable)
    check(labels, groups, split)
    assert set(range(30)) <= set(split.train.tolist())
    assert counts(labels, split) == [(40, 0), (5, 5), (5, 5)]


@pytest.mark.parametrize(
    ("labels", "groups", "message"),
    [
        (single(9, 1)[0], single(9, 1)[1], "anomalous images: '1 anomalous images of 1 groups'"),
        ([False] * 9 + [True] * 3, ["n"] * 9 + ["a"] * 3, "at least 2 groups"),
        ([False] * 9 + [True] * 2, ["n"] * 9 + ["a", "b"], "normal images: '9 in 1 groups"),
    ],
)
def test_what_cannot_be_split(labels: list[bool], groups: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        factory_split(np.array(labels), groups, 0)
