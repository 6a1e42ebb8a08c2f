"""Exact nearest neighbours from products in bfloat16, where the processor has those.

Let ``x'`` be ``x`` rounded to bfloat16. By the triangle inequality

    |a' - b'| <= |a - b| + |a - a'| + |b - b'|,

so a row whose rounded distance lies above that of some known row by more than both roundings
cannot be nearest. Products of rounded numbers are summed in single precision; squares of lengths
are sums of three numbers of bfloat16, which go through the same product. What is left, a few rows
a query, is compared in single precision: answers differ from an exhaustive search by rounding
only.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from autosearch.memory.pruning import ROUNDING, BoundedRows

_FEW_ROWS, _FEW_DIMENSIONS, _FEW_QUERIES = 4096, 64, 512
"""Below which products are too small a part of the work for their speed to be felt."""
_MOST = 512
_AT_ONCE = 8192
_PARTS = 3
"""Numbers of bfloat16 whose sum holds all digits of one in single precision."""
_RESULT = 2**-6
"""What rounding results and limits to 8 bits, and comparing them, can change of either."""


@cache
def has_fast_half() -> bool:
    """Whether this processor multiplies numbers in bfloat16 faster than in single precision."""
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def pays(rows: int, dimension: int, queries: int) -> bool:
    """Whether there is enough to compare."""
    return rows >= _FEW_ROWS and dimension >= _FEW_DIMENSIONS and queries >= _FEW_QUERIES


class HalfRows(BoundedRows):
    """Bounds are squared distances of what was rounded to bfloat16.

    Args:
        rows: See `BoundedRows`.
    """

    def __init__(self, rows: Tensor) -> None:
        width = rows.shape[1] - 1
        bounds = rows.new_ones(len(rows), width + 2 * _PARTS, dtype=torch.bfloat16)
        self._farthest = rows.new_zeros(())
        # In parts, or copies in single precision would take more than the rows themselves.
        for start in range(0, len(rows), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            points = rows[part, :-1] / -2
            rounded = points.bfloat16()
            bounds[part, :width], bounds[part, -_PARTS:] = rounded * -2, _parts(rounded)
            moved = points.sub_(rounded).norm(dim=1).max()
            self._farthest = torch.maximum(self._farthest, moved)
        super().__init__(rows, bounds, _MOST)

    def _asked(self, queries: Tensor, squares: Tensor) -> Tensor:
        rounded = queries.bfloat16()
        own = _parts(rounded)
        return torch.cat([rounded, own, torch.ones_like(own)], dim=1)

    def _limit(self, queries: Tensor, squares: Tensor, upper: Tensor) -> Tensor:
        moved = (queries - queries.bfloat16().float()).norm(dim=1, keepdim=True)
        farthest = (upper.sqrt() + moved + self._farthest).square()
        limit: Tensor = (farthest + ROUNDING * (farthest + squares)) * (1 + _RESULT)
        return limit.bfloat16().view(torch.int16)


def _parts(rounded: Tensor) -> Tensor:
    """Squared lengths as sums of three numbers in bfloat16, the largest last, ``(M, 3)``."""
    left, parts = rounded.float().square().sum(1), list[Tensor]()
    for _ in range(_PARTS):
        parts.append(left.bfloat16())
        left = left - parts[-1].float()
    return torch.stack(parts[::-1], dim=1)
