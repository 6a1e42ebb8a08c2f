"""Derivatives of an outer loss through the solution of an inner problem, one method per file.

All methods have one signature, `Method`, and are chosen by name from `METHODS`.
"""

from .conjugate_gradient import conjugate_gradient
from .eigenvalue import largest_eigenvalue
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

__all__ = [
    "METHODS",
    "Hypergradient",
    "HypergradientSettings",
    "Loss",
    "Method",
    "Weights",
    "conjugate_gradient",
    "largest_eigenvalue",
    "neumann",
    "one_step",
    "unroll",
]
