"""The largest eigenvalue of a Hessian, and the scale that lets the Neumann series converge."""

from __future__ import annotations

import math

import torch

from .derivatives import InnerGradient
from .problem import Loss, Weights
from .vectors import norm


def largest_eigenvalue(
    inner: Loss, w: Weights, p: Weights, generator: torch.Generator, iterations: int = 10
) -> float:
    """Largest magnitude of an eigenvalue of ``d²L_T/dw²``, by power iteration.

    Args:
        inner: The inner loss.
        w: Inner weights.
        p: Outer parameters.
        generator: Source of the first vector, on the CPU.
        iterations: Products with the Hessian. The estimate rises with them, and is never above
            the true value.

    Returns:
        At least 0; 0 for a loss without curvature.
    """
    gradient = InnerGradient(inner, w, p)
    vector = tuple(
        torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype).to(tensor.device)
        for tensor in w
    )
    length, size = norm(vector), 0.0
    for _ in range(iterations):
        if not length > 0:
            break
        vector = gradient.hessian_product(tuple(tensor / length for tensor in vector))
        size = length = norm(vector)
    return size


def largest_scale(
    inner: Loss, w: Weights, p: Weights, generator: torch.Generator, iterations: int = 10
) -> float:
    """The inverse of `largest_eigenvalue`, infinite without curvature.

    A series of this scale converges without negative curvature, even if the estimate is only half
    the true eigenvalue. With it, a term is at most twice as long as the one before.
    """
    largest = largest_eigenvalue(inner, w, p, generator, iterations)
    return 1 / largest if largest > 0 else math.inf
