"""Looking one inner step ahead: the Hessian is taken for the identity.

T1-T2 of Luketina et al., "Scalable Gradient-Based Tuning of Continuous Regularization
Hyperparameters" (ICML 2016), with the outer gradient at the weights where it is asked for.
"""

from __future__ import annotations

from dataclasses import replace

from .neumann import neumann
from .problem import Hypergradient, HypergradientSettings, Loss, Weights


def one_step(
    inner: Loss, outer: Loss, w: Weights, p: Weights, settings: HypergradientSettings
) -> Hypergradient:
    """``d_p L_V - s (d_w L_V) B``, the series' first term."""
    return neumann(inner, outer, w, p, replace(settings, terms=0))
