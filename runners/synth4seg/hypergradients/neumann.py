"""Implicit differentiation with a Neumann series for the inverse Hessian.

Lorraine et al., "Optimizing Millions of Hyperparameters by Implicit Differentiation" (AISTATS
2020), as used by Synth4Seg (Algorithm 2, equations 9 and 10). As printed, the algorithm multiplies
by the scale twice, and the series of equation 8 has none; the derivation has it once.
"""

from __future__ import annotations

from .derivatives import InnerGradient, gradients
from .problem import Hypergradient, HypergradientSettings, Loss, Weights
from .vectors import add, norm, outgrows


def neumann(
    inner: Loss, outer: Loss, w: Weights, p: Weights, settings: HypergradientSettings
) -> Hypergradient:
    """``d_p L_V - s (sum over k = 0..K of g (I - sH)^k) B`` with ``g = d_w L_V``.

    ``s`` times the sum tends to ``g H^-1``. Its terms can only grow where ``s`` is too large or
    the curvature negative, so the sum ends before the first that is twice as long as ``g``.
    """
    term, direct = gradients(outer, w, p)
    gradient = InnerGradient(inner, w, p)
    total, norms = term, [norm(term)]
    diverged = outgrows(norms)
    while len(norms) <= settings.terms and not diverged:
        term = add(term, gradient.hessian_product(term), -settings.scale)
        norms.append(norm(term))
        diverged = outgrows(norms)
        if not diverged:
            total = add(total, term)
    indirect = gradient.mixed_product(total)
    result = add(direct, indirect, -settings.scale)
    return Hypergradient(result, tuple(norms), diverged, max(0, len(norms) - 1 - diverged))
