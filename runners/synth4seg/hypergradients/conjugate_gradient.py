"""Implicit differentiation with conjugate gradients for the inverse Hessian.

Pedregosa, "Hyperparameter optimization with approximate gradient" (ICML 2016); damping as in
Rajeswaran et al., "Meta-Learning with Implicit Gradients" (NeurIPS 2019).
"""

from __future__ import annotations

import math

import torch

from .derivatives import InnerGradient, gradients
from .problem import Hypergradient, HypergradientSettings, Loss, Weights
from .vectors import add, dot, norm

_SOLVED = 1e-10
"""Residual, as a share of the first, at which the system counts as solved."""


def conjugate_gradient(
    inner: Loss, outer: Loss, w: Weights, p: Weights, settings: HypergradientSettings
) -> Hypergradient:
    """``d_p L_V - x B``, where ``x (H + damping I) = d_w L_V`` is solved in up to K + 1 steps.

    So many steps look as far as the series' K terms do. The scale is not used. The damped Hessian
    must be positive definite: a direction of no or negative curvature ends the solution, and if it
    is the first one, only the direct term remains.
    """
    residual, direct = gradients(outer, w, p)
    gradient = InnerGradient(inner, w, p)
    solution, steps = tuple(map(torch.zeros_like, w)), 0
    direction, norms, diverged = residual, [norm(residual)], False
    while len(norms) <= settings.terms + 1 and not norms[-1] <= _SOLVED * norms[0]:
        image = add(gradient.hessian_product(direction), direction, settings.damping)
        curvature = dot(direction, image)
        if not curvature > 0:
            diverged = True
            break
        step = norms[-1] ** 2 / curvature
        residual = add(residual, image, -step)
        norms.append(norm(residual))
        if not math.isfinite(norms[-1]):
            diverged = True
            break
        solution, steps = add(solution, direction, step), steps + 1
        direction = add(residual, direction, (norms[-1] / norms[-2]) ** 2)
    indirect = gradient.mixed_product(solution)
    result = add(direct, indirect, -1.0)
    return Hypergradient(result, tuple(norms), diverged, max(0, steps - 1))
