"""Inner and outer losses whose hypergradients are known, and a call of every method."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from autosearch_runners.synth4seg.hypergradients import (
    METHODS,
    Hypergradient,
    HypergradientSettings,
    Loss,
    Weights,
)
from torch import Tensor

SERIES = ("neumann", "unroll")
"""Methods that are the same at an inner optimum."""


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def derive(
    method: str, inner: Loss, outer: Loss, w: Weights, p: Weights, **settings: float
) -> Hypergradient:
    return METHODS[method](inner, outer, w, p, HypergradientSettings(**settings))


def scalar_inner(w: Weights, p: Weights) -> Tensor:
    return (w[0] - p[0]).square().sum()


def scalar_outer(w: Weights, p: Weights) -> Tensor:
    return (w[0] - 1).square().sum() / 2


THREE = (tensor(3.0),)


class Logistic:
    """A convex problem with several weights and parameters, of the kind that networks are made of.

    Logistic regression whose examples are weighted and whose weights decay, both learnt.
    """

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        draw = dict(dtype=torch.float64, generator=generator)
        self._inputs, self._asked = torch.randn(9, 4, **draw), torch.randn(6, 4, **draw)
        self._targets = (torch.rand(9, **draw) > 0.5).double()
        self._wanted = (torch.rand(6, **draw) > 0.5).double()
        self.p = (torch.rand(9, **draw) + 0.5, tensor(0.3))
        self.w = self.solve(self.p)

    def inner(self, w: Weights, p: Weights) -> Tensor:
        losses = self._losses(w, self._inputs, self._targets)
        return (p[0] * losses).mean() + p[1].sum() * (w[0].square().sum() + w[1].square().sum())

    def outer(self, w: Weights, p: Weights) -> Tensor:
        return self._losses(w, self._asked, self._wanted).mean() + 0.05 * p[0].square().sum()

    def solve(self, p: Weights) -> Weights:
        """Newton's method on weights and bias in one vector."""
        x = torch.zeros(5, dtype=torch.float64)
        for _ in range(30):
            slope, hessian = self.slope(x, p), self.hessian(x, p)
            x = x - torch.linalg.solve(hessian, slope)
        return x[:4], x[4:]

    def slope(self, x: Tensor, p: Weights) -> Tensor:
        return torch.autograd.functional.jacobian(lambda x: self.inner((x[:4], x[4:]), p), x)

    def hessian(self, x: Tensor, p: Weights) -> Tensor:
        return torch.autograd.functional.hessian(lambda x: self.inner((x[:4], x[4:]), p), x)

    def dense(self) -> list[np.ndarray]:
        """The implicit function theorem with all matrices written out."""
        x = torch.cat(self.w)
        inner: Callable[..., Tensor] = lambda x, *p: self.inner((x[:4], x[4:]), p)  # noqa: E731
        outer: Callable[..., Tensor] = lambda x, *p: self.outer((x[:4], x[4:]), p)  # noqa: E731
        second = torch.autograd.functional.hessian(inner, (x, *self.p))
        first = torch.autograd.functional.jacobian(outer, (x, *self.p))
        solution = np.linalg.solve(second[0][0].numpy(), first[0].numpy())
        return [
            direct.numpy() - solution @ mixed.numpy()
            for direct, mixed in zip(first[1:], second[0][1:], strict=True)
        ]

    @staticmethod
    def _losses(w: Weights, inputs: Tensor, targets: Tensor) -> Tensor:
        logits = inputs @ w[0] + w[1]
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


LOGISTIC = Logistic()


def curved(*eigenvalues: float) -> tuple[Loss, Loss, Weights, Weights]:
    """A quadratic at its stationary point; every parameter shifts one weight's."""
    values = tensor(*eigenvalues)

    def inner(w: Weights, p: Weights) -> Tensor:
        return (values * (w[0] - p[0]).square()).sum() / 2

    def outer(w: Weights, p: Weights) -> Tensor:
        return w[0].sum()

    return inner, outer, (torch.zeros_like(values),), (torch.zeros_like(values),)
