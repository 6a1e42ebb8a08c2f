"""First derivatives of a loss, and products with the second ones of the inner loss.

The latter are ``H = d²L_T/dw²`` and ``B = d²L_T/dw dp`` of `problem`, never held as matrices.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .problem import Loss, Weights
from .vectors import leaves


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
