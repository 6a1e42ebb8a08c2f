"""Gower's distance between configurations, of which a growing set is asked for again and again.

Source: Gower, "A general coefficient of similarity and some of its properties" (1971).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autosearch.metrics import Floats


def distances(configurations: Sequence[Mapping[str, object]]) -> Floats:
    """Gower's distance between N configurations, ``(N, N)`` in [0, 1].

    It is the mean over parameters, those that do not vary left out, of the difference of two
    numbers over the range of all, or else of whether two values differ; one that is there in one
    configuration alone differs.
    """
    return KnownDistances().between(range(len(configurations)), configurations)


class KnownDistances:
    """`distances` that are computed once, as long as no range of a parameter grows."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._kinds: list[dict[str, int]] = []
        self._rows: dict[int, tuple[NDArray[np.int64], Floats]] = {}
        self._place: dict[int, int] = {}
        self._scales = _Scales.of(np.zeros((0, 0), dtype=np.int64), np.zeros((0, 0)))
        self._apart: Floats = np.zeros((0, 0))

    def between(
        self, keys: Sequence[int], configurations: Sequence[Mapping[str, object]]
    ) -> Floats:
        """The same as `distances` to the last digit, ``(N, N)``; not to be written to.

        Args:
            keys: One for each, no two alike. What has been asked for under a key is known by it.
            configurations: N of them.
        """
        names = tuple(dict.fromkeys(name for one in configurations for name in one))
        if names != self._names:
            # The order of names is that of sums.
            self._names, self._kinds = names, [{} for _ in names]
            self._rows, self._place = {}, {}
        for key, one in zip(keys, configurations, strict=True):
            if key not in self._rows:
                self._rows[key] = self._row(one)
        shape = (len(keys), len(names))
        codes = np.array([self._rows[key][0] for key in keys], dtype=np.int64).reshape(shape)
        numbers = np.array([self._rows[key][1] for key in keys], dtype=float).reshape(shape)
        scales = _Scales.of(codes, numbers)
        known = self._place if scales.same(self._scales) else {}
        new = [place for place, key in enumerate(keys) if key not in known]
        apart = self._kept(keys, known)
        block = scales.between(codes, numbers, new)
        apart[new], apart[:, new] = block, block.T
        self._place = {key: place for place, key in enumerate(keys)}
        self._scales, self._apart = scales, apart
        return apart

    def _row(self, configuration: Mapping[str, object]) -> tuple[NDArray[np.int64], Floats]:
        """Of every parameter a code that equal values share, and its value if it is a number."""
        values = [configuration.get(name, _ABSENT) for name in self._names]
        codes = [
            kinds.setdefault(repr(value), len(kinds))
            for kinds, value in zip(self._kinds, values, strict=True)
        ]
        numbers = [
            v if isinstance(v, (int, float)) and not isinstance(v, bool) else np.nan
            for v in values
        ]
        return np.array(codes, dtype=np.int64), np.array(numbers, dtype=float)

    def _kept(self, keys: Sequence[int], known: Mapping[int, int]) -> Floats:
        """Distances that are known at their places, and anything at the others."""
        apart: Floats = np.empty((len(keys), len(keys)))
        to = [place for place, key in enumerate(keys) if key in known]
        taken = [known[key] for key in keys if key in known]
        if to == taken == list(range(len(self._apart))):
            # What came last stands last, as it mostly does.
            apart[: len(to), : len(to)] = self._apart
        else:
            apart[np.ix_(to, to)] = self._apart[np.ix_(taken, taken)]
        return apart


@dataclass(frozen=True)
class _Scales:
    """What all configurations together say of each parameter.

    Attributes:
        extents: ``(P,)`` range of those values that are numbers; NaN where none is.
        varied: ``(P,)`` bool, whether any two values differ.
    """

    extents: Floats
    varied: NDArray[np.bool_]

    @classmethod
    def of(cls, codes: NDArray[np.int64], numbers: Floats) -> _Scales:
        """From ``(N, P)`` codes and numbers, NaN where a value is none."""
        none = np.isnan(numbers)
        high = np.where(none, -np.inf, numbers).max(axis=0, initial=-np.inf)
        low = np.where(none, np.inf, numbers).min(axis=0, initial=np.inf)
        extents = np.where(none.all(axis=0), np.nan, high - low)
        several = (codes != codes[:1]).any(axis=0)
        return cls(extents, np.where(none.any(axis=0), several, extents > 0))

    def same(self, other: _Scales) -> bool:
        """Whether distances stay what they were."""
        return np.array_equal(self.extents, other.extents, equal_nan=True) and np.array_equal(
            self.varied, other.varied
        )

    def between(self, codes: NDArray[np.int64], numbers: Floats, new: Sequence[int]) -> Floats:
        """``(n, N)`` distances of some to all."""
        whole: Floats = np.zeros((len(new), len(codes)))
        for place in np.flatnonzero(self.varied).tolist():
            code, number, extent = codes[:, place], numbers[:, place], self.extents[place]
            part: Floats = (code[new, None] != code).astype(np.float64)
            if not np.isnan(extent):
                gaps = np.abs(number[new, None] - number) / (extent or 1.0)
                part = np.where(np.isnan(gaps), part, gaps)
            whole += part
        return whole / max(1, int(self.varied.sum()))


_ABSENT = object()
