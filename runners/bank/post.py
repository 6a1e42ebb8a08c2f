"""What comes after the distances of a bank: factors of levels, a root, resizing, smoothing.

All of it can be set anew on the same features, rows and distances.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from autosearch.errors import Infeasible
from autosearch.spec import Params

from ..spreading import Spreading
from .parameters import BankSettings
from .scores import ScoreMaps
from .stores import Store

_AFTER = frozenset({"distance", "smoothing", "top_share"})
_WEIGHT = ".weight"
_ROOT_FLOOR, _OWN_FLOOR = 1e-3, 1e-5
"""Share of the bank's total variance that is added to a squared distance before its root: after
banks were averaged, and before."""


def names_after(known: Iterable[str]) -> frozenset[str]:
    """Those of a runner's parameters that `post_of` may name."""
    return frozenset(name for name in known if name in _AFTER or name.endswith(_WEIGHT))


def post_of(canonical: Params) -> frozenset[str]:
    """Parameters that touch nothing before the distances; see `Runner.post_of`.

    Weights do where each level has a bank of its own. A bank that weighs scores by its rows must
    know whether roots are taken of them, and then that is set before.
    """
    names = set(_AFTER)
    if canonical.get("image_score") == "reweighted":
        names.remove("distance")
    if canonical.get("fusion") in ("levels", "mean"):
        names |= {name for name in canonical if name.endswith(_WEIGHT)}
    return frozenset(names)


@dataclass(frozen=True)
class Afterwards:
    """What is known of banks that are filled, as far as it is needed after their distances.

    Attributes:
        usual: Usual distance of normal patches to each bank; empty of a single bank.
        spreads: Total variance of the rows of each.
    """

    usual: tuple[float, ...]
    spreads: tuple[float, ...]

    @classmethod
    def of(cls, vectors: Sequence[Tensor], usual: Sequence[float]) -> Afterwards:
        """Of the rows of every bank, ``(M, d)`` each."""
        spreads = (float(part.var(0, correction=0).sum()) for part in vectors)
        return cls(tuple(usual), tuple(spreads))

    def factors(self, settings: BankSettings) -> list[float]:
        """What answers of each bank are multiplied with: its weight by its usual distance."""
        total, pairs = sum(settings.weights), zip(settings.weights, self.usual, strict=True)
        # Usual distances are squared.
        power = 0.5 if settings.euclidean else 1
        return [weight / total / usual**power for weight, usual in pairs]

    def floors(self, settings: BankSettings) -> list[float]:
        """What is added to answers of each bank before their roots; empty where none are taken."""
        return [_OWN_FLOOR * spread for spread in self.spreads] if settings.euclidean else []

    def maps(
        self, settings: BankSettings, grid: tuple[int, int], size: tuple[int, int]
    ) -> ScoreMaps:
        """From scores of patches to maps.

        Args:
            settings: Of the bank.
            grid: Rows and columns of patches.
            size: Of the images.
        """
        spreading = Spreading(grid, size, settings.smoothing) if settings.smoothing else None
        root = None
        if settings.root:
            # Little beside scores of patches that differ at all.
            factors = self.factors(settings) or [1.0]
            pairs = zip(factors, self.spreads, strict=True)
            root = _ROOT_FLOOR * sum(factor * spread for factor, spread in pairs)
        return ScoreMaps(root, spreading)


def kept_stores(
    settings: BankSettings, stores: Sequence[Store | None]
) -> tuple[Store | None, ...]:
    """Those of another detector's banks that count here.

    Raises:
        Infeasible: One that does was not filled there.
    """
    weights = settings.weights or (1.0,)
    if any(weight and store is None for weight, store in zip(weights, stores, strict=True)):
        raise Infeasible("weight above 0 of a level that has no bank")
    return tuple(store if weight else None for weight, store in zip(weights, stores, strict=True))


def as_one(answers: Sequence[Tensor | None]) -> Tensor:
    """``(N, P)`` answers of all banks as ``(N, B, P)`` on the CPU; 0 where there is none."""
    there = next(answer for answer in answers if answer is not None)
    every = [torch.zeros_like(there) if answer is None else answer for answer in answers]
    return torch.stack(every, dim=1).cpu()
