"""Vectors over all weights, as tuples of tensors, one per weight."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .problem import Weights

_ROUNDING = 1e-6
"""Relative growth of a norm that may come from rounding."""


def leaves(tensors: Sequence[Tensor]) -> Weights:
    """The same numbers, as leaves of a new graph; memory is shared."""
    return tuple(tensor.detach().requires_grad_() for tensor in tensors)


def add(one: Weights, other: Weights, factor: float = 1.0) -> Weights:
    """``one + factor * other``."""
    return tuple(a + factor * b for a, b in zip(one, other, strict=True))


def dot(one: Weights, other: Weights) -> float:
    """Inner product, in float64."""
    parts = [(a.double() * b.double()).sum() for a, b in zip(one, other, strict=True)]
    return float(torch.stack(parts).sum())


def norm(vector: Weights) -> float:
    """Euclidean norm, in float64."""
    return math.sqrt(dot(vector, vector))


def rises(norms: Sequence[float]) -> bool:
    """Whether the last norm exceeds the one before by more than rounding, or is not finite."""
    before = norms[-2] if len(norms) > 1 else math.inf
    return not (math.isfinite(norms[-1]) and norms[-1] <= before * (1 + _ROUNDING))
