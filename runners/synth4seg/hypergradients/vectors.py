"""Vectors over all weights, as tuples of tensors, one per weight."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .problem import Weights

_GROWTH = 2.0
"""How many times the first norm a later one may be."""


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


def outgrows(norms: Sequence[float]) -> bool:
    """Whether the last norm is more than twice the first, or not finite.

    Negative curvature, which young networks have everywhere, makes terms a little longer from one
    to the next. As long as they stay about as long as the outer gradient, they are what they stand
    for: the derivative of steps of gradient descent, which need not converge to have one.
    """
    return not (math.isfinite(norms[-1]) and norms[-1] <= norms[0] * _GROWTH)
