"""What is asked of a hypergradient, and what comes of it.

With inner loss ``L_T(w, p)`` and outer loss ``L_V(w, p)``, the hypergradient at an inner optimum
is

    ``dL_V/dp = d_p L_V - (d_w L_V) H^-1 B``,  ``H = d²L_T/dw²``,  ``B = d²L_T/dw dp``

(implicit function theorem). Methods differ in what they put for ``(d_w L_V) H^-1``. Vectors over
all weights are tuples of tensors, one per weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Weights = tuple[Tensor, ...]

Loss = Callable[[Weights, Weights], Tensor]
"""From inner weights and outer parameters to a scalar: a pure function of both."""


@dataclass(frozen=True)
class HypergradientSettings:
    """How far and how fast a hypergradient looks ahead.

    Attributes:
        terms: K, the terms of the series after the first, at least 0; the others spend alike.
        scale: s, the learning rate of the steps that the series stands for. It converges where
            ``0 < s < 2 / (largest eigenvalue of H)`` and H has no negative eigenvalue. See
            `largest_scale`.
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
            that outgrew the first, negative curvature for `conjugate_gradient`, or a number that
            is not finite. `gradients` are those of the terms before, and not finite only if the
            losses' own gradients are not.
        terms: How many terms after the first `gradients` hold, at most those asked for. A larger
            number would have changed nothing if it is smaller than that.
    """

    gradients: Weights
    norms: tuple[float, ...]
    diverged: bool
    terms: int = 0


Method = Callable[[Loss, Loss, Weights, Weights, HypergradientSettings], Hypergradient]
"""From inner loss, outer loss, inner weights, outer parameters and settings."""
