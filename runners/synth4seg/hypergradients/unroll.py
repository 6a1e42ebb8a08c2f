"""Truncated unrolling: differentiate some steps of gradient descent.

Shaban et al., "Truncated Back-propagation for Bilevel Optimization" (AISTATS 2019). Unlike the
other methods it needs no inner optimum, because it moves along the inner problem's own path.
"""

from __future__ import annotations

import torch

from .derivatives import InnerGradient, gradients
from .problem import Hypergradient, HypergradientSettings, Loss, Weights
from .vectors import add, leaves, norm, outgrows


def unroll(
    inner: Loss, outer: Loss, w: Weights, p: Weights, settings: HypergradientSettings
) -> Hypergradient:
    """``d_p L_V - s (sum over k = K..0 of v_k B_k)`` after K + 1 steps of size s from ``w``.

    ``v_K = d_w L_V`` and ``v_(k-1) = v_k (I - s H_k)``, with ``H_k`` and ``B_k`` of where step k
    starts. Of the steps only their weights are kept; their graphs are made anew, one at a time, on
    the way back. At an inner optimum the result is that of `neumann`.
    """
    path = [w]
    for _ in range(settings.terms + 1):
        path.append(_step(inner, path[-1], p, settings.scale))
    vector, result = gradients(outer, path.pop(), p)
    norms = [norm(vector)]
    diverged = outgrows(norms)
    while len(path) > 1 and not diverged:
        along, indirect = InnerGradient(inner, path.pop(), p).products(vector)
        result = add(result, indirect, -settings.scale)
        vector = add(vector, along, -settings.scale)
        norms.append(norm(vector))
        diverged = outgrows(norms)
    if not diverged:
        indirect = InnerGradient(inner, w, p).mixed_product(vector)
        result = add(result, indirect, -settings.scale)
    return Hypergradient(result, tuple(norms), diverged, max(0, len(norms) - 1 - diverged))


def _step(inner: Loss, w: Weights, p: Weights, scale: float) -> Weights:
    w = leaves(w)
    slopes = torch.autograd.grad(inner(w, p), w, materialize_grads=True)
    return add(tuple(tensor.detach() for tensor in w), slopes, -scale)
