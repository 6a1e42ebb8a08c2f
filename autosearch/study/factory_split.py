"""One repeat's split of all images: to train on, to choose a threshold on, to measure on.

Steps 0 and 1 of the robust estimate of "From Lab to Factory". Groups are split first and labels
looked at then: images of one object never cross partitions, and an object with an anomalous view
trains with none of its views. Where groups make equal sizes impossible, the draw that comes
closest is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autosearch.errors import ConfigError

_DRAWS = 32
"""Of one seed, of which the closest to equal sizes is taken."""

Positions = NDArray[np.intp]


@dataclass(frozen=True)
class FactorySplit:
    """Positions of images, each set in rising order.

    Attributes:
        train: Normal images to train on; no group of theirs has an anomalous one.
        threshold: Images that a threshold is chosen on.
        inference: Images that all figures are taken on.
    """

    train: Positions
    threshold: Positions
    inference: Positions


@dataclass(frozen=True)
class _Groups:
    """Groups of images by number, in the order of their names.

    Attributes:
        of: ``(N,)`` the group of each image.
        anomalous: ``(G,)`` anomalous images of each.
        normal: ``(G,)`` normal ones.
        drawable: ``(G,)`` whether all of a group may be drawn into the sets to measure on.
    """

    of: NDArray[np.intp]
    anomalous: NDArray[np.int64]
    normal: NDArray[np.int64]
    drawable: NDArray[np.bool_]


def factory_split(
    labels: NDArray[np.bool_],
    groups: Sequence[str],
    seed: int,
    drawable: NDArray[np.bool_] | None = None,
) -> FactorySplit:
    """Split images for one repeat; the same seed always gives the same split.

    Half of the anomalous images go to either set. Normal ones are drawn into each until it has as
    many as anomalous ones, but not so many that less than half of those that may be drawn are left
    to train on, unless others are.

    Args:
        labels: ``(N,)`` bool, true for anomalous.
        groups: ``group_id`` per image.
        seed: Of the draw.
        drawable: ``(N,)`` bool, the normal images that may be measured on; the others train. None
            for all: the normal images of the test split are merged with those that train.

    Raises:
        ConfigError: Anomalous images are of fewer than two groups, or too few normal ones may be
            drawn.
    """
    known = _grouped(labels, groups, drawable)
    with_defect = np.flatnonzero(known.anomalous > 0)
    if with_defect.size < 2:
        found = f"{int(labels.sum())} anomalous images of {with_defect.size} groups"
        raise ConfigError("anomalous images", found, "at least 2 groups of them, one for each set")
    plain = np.flatnonzero((known.anomalous == 0) & known.drawable)
    generator = np.random.default_rng(seed)
    best, least = None, np.inf
    for _ in range(_DRAWS):
        sets = _drawn(known, generator.permutation(with_defect), generator.permutation(plain))
        far = _unequal(known, sets)
        if far < least:
            best, least = sets, far
    if best is None:
        found = f"{int(known.normal[plain].sum())} in {plain.size} groups without a defect"
        raise ConfigError(
            "normal images",
            found,
            "enough to measure on and to train on; merge those of the test split with the others, "
            "or add some",
        )
    threshold, inference = (np.flatnonzero(np.isin(known.of, chosen)) for chosen in best)
    held = np.union1d(threshold, inference)
    return FactorySplit(np.setdiff1d(np.arange(labels.size), held), threshold, inference)


def _grouped(
    labels: NDArray[np.bool_], groups: Sequence[str], drawable: NDArray[np.bool_] | None
) -> _Groups:
    names, of = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    size = len(names)
    barred = np.zeros(size, dtype=bool)
    if drawable is not None:
        barred[of[~drawable & ~labels]] = True
    return _Groups(
        of,
        np.bincount(of, labels, size).astype(np.int64),
        np.bincount(of, ~labels, size).astype(np.int64),
        ~barred,
    )


def _drawn(
    known: _Groups, anomalous: Positions, normal: Positions
) -> tuple[Positions, Positions] | None:
    """The groups of both sets, from groups in the order in which they were drawn."""
    cut = _closest(known.anomalous[anomalous], known.anomalous.sum() / 2, least=1)
    halves = [anomalous[:cut], anomalous[cut:]]
    if not halves[1].size:
        halves = [anomalous[:-1], anomalous[-1:]]
    others = int(known.normal[(known.anomalous == 0) & ~known.drawable].sum())
    there = int(known.normal[normal].sum())
    most = there / 2 if others else there / 4
    sets, start = [], 0
    for half in halves:
        wanted = min(known.anomalous[half].sum(), most) - known.normal[half].sum()
        least = 0 if known.normal[half].sum() else 1
        stop = start + _closest(known.normal[normal[start:]], wanted, least)
        sets.append(np.concatenate([half, normal[start:stop]]))
        start = stop
    trains = others + int(known.normal[normal[start:]].sum())
    complete = all(known.normal[chosen].sum() for chosen in sets)
    return (sets[0], sets[1]) if complete and trains else None


def _closest(sizes: NDArray[np.int64], wanted: float, least: int) -> int:
    """How many of the first groups come closest to a number of images; of two, the fewer."""
    if not sizes.size:
        return 0
    totals = np.append(0, np.cumsum(sizes))
    return least + int(np.argmin(np.abs(totals[least:] - wanted)))


def _unequal(known: _Groups, sets: tuple[Positions, Positions] | None) -> float:
    """How far the sets are from equal numbers, in images; infinite for no sets."""
    if sets is None:
        return np.inf
    (a, n), (b, m) = (
        (int(known.anomalous[chosen].sum()), int(known.normal[chosen].sum())) for chosen in sets
    )
    return abs(a - b) + abs(n - a) + abs(m - b)
