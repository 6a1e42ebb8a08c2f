"""Derivatives of an outer loss through the solution of an inner problem, one method per file.

All methods have one signature, `Method`, and are chosen by name from `METHODS`.
"""

from .conjugate_gradient import conjugate_gradient
from .eigenvalue import largest_eigenvalue, largest_scale
from .neumann import neumann
from .one_step import one_step
from .problem import Hypergradient, HypergradientSettings, Loss, Method, Weights
from .unroll import unroll

METHODS: dict[str, Method] = {
    "neumann": neumann,
    "conjugate_gradient": conjugate_gradient,
    "one_step": one_step,
    "unroll": unroll,
}
SERIES = frozenset({"neumann", "unroll"})
"""Those whose terms grow where the scale is too large."""

__all__ = [
    "METHODS",
    "SERIES",
    "Hypergradient",
    "HypergradientSettings",
    "Loss",
    "Method",
    "Weights",
    "conjugate_gradient",
    "largest_eigenvalue",
    "largest_scale",
    "neumann",
    "one_step",
    "unroll",
]
