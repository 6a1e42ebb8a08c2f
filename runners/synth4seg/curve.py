"""What is kept of a training: every epoch, and in it every outer step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Of a series.

    Attributes:
        value: As it was used.
        capped: Whether it was asked to be larger than the curvature allows.
    """

    value: float
    capped: bool


@dataclass(frozen=True)
class OuterStep:
    """What an outer step came to.

    Attributes:
        diverged: Whether its hypergradient was cut short.
        length: Of the hypergradient before clipping; 0 if it is not finite.
        scale: Of the series.
        terms: How many terms after the first the hypergradient holds.
    """

    diverged: bool
    length: float
    scale: Scale
    terms: int


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to. Means and shares are over its outer steps, 0 without any.

    Attributes:
        inner: Mean inner loss over its steps.
        outer: Mean loss of all validation images at its end, without the price of locations.
        iou: Of all validation images together at its end, of probabilities from one half upwards;
            1 if nothing is anomalous and nothing found.
        source_weights: By name, at its end.
        outer_steps: In their order.
    """

    inner: float
    outer: float
    iou: float
    source_weights: dict[str, float]
    outer_steps: tuple[OuterStep, ...] = ()

    @property
    def diverged(self) -> float:
        """Share of the hypergradients that were cut short."""
        return _mean(self.outer_steps, lambda step: step.diverged)

    @property
    def hypergradient(self) -> float:
        """Mean length of the hypergradient before clipping."""
        return _mean(self.outer_steps, lambda step: step.length)

    @property
    def scale(self) -> float:
        """Of the series, as it was used, mean."""
        return _mean(self.outer_steps, lambda step: step.scale.value)

    @property
    def terms(self) -> float:
        """Mean number of terms after the first that hypergradients hold."""
        return _mean(self.outer_steps, lambda step: step.terms)

    @property
    def capped(self) -> float:
        """Share of the series whose scale was asked to be larger than the curvature allows."""
        return _mean(self.outer_steps, lambda step: step.scale.capped)


def outer_figures(curve: Sequence[Epoch]) -> dict[str, float]:
    """How hypergradients came about over a whole training; empty without any outer step.

    Returns:
        ``outer_terms``: mean number of terms after the first, which tells a ``neumann_terms`` that
        has an effect from one that has none; ``outer_cut``: share of the steps whose hypergradient
        was cut short; ``scale_capped``: share of those whose scale was.
    """
    steps = [step for epoch in curve for step in epoch.outer_steps]
    if not steps:
        return {}
    return {
        "outer_terms": _mean(steps, lambda step: step.terms),
        "outer_cut": _mean(steps, lambda step: step.diverged),
        "scale_capped": _mean(steps, lambda step: step.scale.capped),
    }


def _mean(steps: Sequence[OuterStep], read: Callable[[OuterStep], float]) -> float:
    """Of nothing it is 0."""
    return sum(map(read, steps)) / max(len(steps), 1)
