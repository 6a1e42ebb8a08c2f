"""What all hypergradients share: types, products with second derivatives, sums of vectors.

With inner loss ``L_T(w, p)`` and outer loss ``L_V(w, p)``, the hypergradient at an inner optimum
is

    ``dL_V/dp = d_p L_V - (d_w L_V) H^-1 B``,  ``H = d²L_T/dw²``,  ``B = d²L_T/dw dp``

(implicit function theorem). Methods differ in what they put for ``(d_w L_V) H^-1``. Vectors over
all weights are tuples of tensors, one per weight.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.autograd import forward_ad

Weights = tuple[Tensor, ...]

Loss = Callable[[Weights, Weights], Tensor]
"""From inner weights and outer parameters to a scalar: a pure function of both."""

_ROUNDING = 1e-6
"""Relative growth of a norm that may come from rounding."""


@dataclass(frozen=True)
class HypergradientSettings:
    """How far and how fast a hypergradient looks ahead.

    Attributes:
        terms: K, the terms of the series after the first, at least 0; the others spend alike.
        scale: s, the learning rate of the steps that the series stands for. It converges where
            ``0 < s < 2 / (largest eigenvalue of H)`` and H has no negative eigenvalue.
        damping: Is added to every eigenvalue of H, by `conjugate_gradient` alone.
    """

    terms: int = 3
    scale: float = 2.5e-4
    damping: float = 0.0


@dataclass(frozen=True)
class Hypergradient:
    """Derivative of the outer loss.

    Attributes:
        gradients: One per outer parameter, of its shape.
        norms: Euclidean norms over all inner weights: of the terms of the series or of the
            unrolled steps, of the residuals for `conjugate_gradient`. The first is that of the
            outer loss's gradient.
        diverged: Whether the method stopped at a sign that going on would have been wrong: a norm
            that rose, negative curvature, or a number that is not finite. `gradients` are those of
            the terms before, and not finite only if the losses' own gradients are not.
    """

    gradients: Weights
    norms: tuple[float, ...]
    diverged: bool


Method = Callable[[Loss, Loss, Weights, Weights, HypergradientSettings], Hypergradient]
"""From inner loss, outer loss, inner weights, outer parameters and settings."""


class InnerGradient:
    """Gradient of the inner loss at a point, as far as products with its derivatives need it.

    The Hessian takes a graph of the gradient. That is built with the first product that needs it,
    once, and lives as long as this object.

    Args:
        inner: The inner loss.
        w: Inner weights.
        p: Outer parameters.
    """

    def __init__(self, inner: Loss, w: Weights, p: Weights) -> None:
        self._inner, self._w, self._p = inner, leaves(w), leaves(p)

    def hessian_product(self, vector: Weights) -> Weights:
        """``vector H``, one tensor per inner weight."""
        return self._product(vector, self._w)

    def products(self, vector: Weights) -> tuple[Weights, Weights]:
        """``vector H`` and ``vector B`` for the price of the first."""
        both = self._product(vector, self._w + self._p)
        return both[: len(self._w)], both[len(self._w) :]

    def mixed_product(self, vector: Weights) -> Weights:
        """``vector B``, one tensor per outer parameter."""
        try:
            return self._change(vector)
        except NotImplementedError:
            # The way back to p crosses an operation that lacks a forward derivative of its own.
            return self._product(vector, self._p)

    def _change(self, vector: Weights) -> Weights:
        """How the gradient by ``p`` changes as ``w`` moves along a vector, without the graph.

        Forward mode takes that for little more than the loss, as the way back ends at ``p``.
        """
        p = leaves(self._p)
        with forward_ad.dual_level():
            value = self._inner(_moving(self._w, vector), p)
            if not value.requires_grad or not p:
                return tuple(map(torch.zeros_like, p))
            slopes = torch.autograd.grad(value, p, materialize_grads=True)
            unpack: Callable[[Tensor], tuple[Tensor, Tensor | None]] = forward_ad.unpack_dual
            changes = [unpack(slope)[1] for slope in slopes]
        return tuple(
            torch.zeros_like(tensor) if change is None else change
            for tensor, change in zip(p, changes, strict=True)
        )

    @cached_property
    def _slopes(self) -> Weights:
        value = self._inner(self._w, self._p)
        return torch.autograd.grad(value, self._w, create_graph=True, materialize_grads=True)

    def _product(self, vector: Weights, targets: Weights) -> Weights:
        # A weight that enters linearly, or not at all, has a gradient without a graph.
        curved = [pair for pair in zip(self._slopes, vector, strict=True) if pair[0].requires_grad]
        if not curved:
            return tuple(map(torch.zeros_like, targets))
        slopes, factors = zip(*curved, strict=True)
        return torch.autograd.grad(
            slopes, targets, factors, retain_graph=True, materialize_grads=True
        )


def _moving(w: Weights, vector: Weights) -> Weights:
    """The same numbers, each with the way it goes; for forward mode."""
    dual: Callable[[Tensor, Tensor], Tensor] = forward_ad.make_dual
    with warnings.catch_warnings():
        # Once, torch's own derivatives of normalisations are compiled, in a way it warns of.
        warnings.simplefilter("ignore", FutureWarning)
        return tuple(dual(a.detach(), b) for a, b in zip(w, vector, strict=True))


def gradients(loss: Loss, w: Weights, p: Weights) -> tuple[Weights, Weights]:
    """Partial derivatives of a loss by inner weights and by outer parameters."""
    w, p = leaves(w), leaves(p)
    value = loss(w, p)
    if not value.requires_grad:
        return tuple(map(torch.zeros_like, w)), tuple(map(torch.zeros_like, p))
    both = torch.autograd.grad(value, w + p, materialize_grads=True)
    return both[: len(w)], both[len(w) :]


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
