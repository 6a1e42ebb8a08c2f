"""Hypergradients against dense solves, finite differences, and figures worked out by hand."""

import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from autosearch_runners.synth4seg.hypergradients import (
    METHODS,
    HypergradientSettings,
    Loss,
    Weights,
    largest_eigenvalue,
)
from torch import Tensor

SERIES = ("neumann", "unroll")
"""Methods that are the same at an inner optimum."""


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def derive(method: str, inner: Loss, outer: Loss, w: Weights, p: Weights, **settings: float):
    return METHODS[method](inner, outer, w, p, HypergradientSettings(**settings))


def scalar_inner(w: Weights, p: Weights) -> Tensor:
    return (w[0] - p[0]).square().sum()


def scalar_outer(w: Weights, p: Weights) -> Tensor:
    return (w[0] - 1).square().sum() / 2


def with_direct_term(w: Weights, p: Weights) -> Tensor:
    return scalar_outer(w, p) + 0.1 * p[0].abs().sum()


THREE = (tensor(3.0),)


@pytest.mark.parametrize("method", SERIES)
@pytest.mark.parametrize(("terms", "expected"), [(0, 1), (1, 1.5), (2, 1.75), (3, 1.875)])
def test_series_of_a_scalar_problem(method, terms, expected) -> None:
    found = derive(method, scalar_inner, scalar_outer, THREE, THREE, terms=terms, scale=0.25)
    assert found.gradients[0].item() == pytest.approx(expected)
    assert found.norms == pytest.approx([2 * 0.5**k for k in range(terms + 1)])
    assert not found.diverged


@pytest.mark.parametrize("method", SERIES)
def test_the_direct_term_has_its_own_sign(method) -> None:
    found = derive(method, scalar_inner, with_direct_term, THREE, THREE, terms=3, scale=0.25)
    assert found.gradients[0].item() == pytest.approx(1.975)


@pytest.mark.parametrize(
    ("method", "expected"), [("conjugate_gradient", 2.1), ("one_step", 1.1), ("neumann", 2.1)]
)
def test_direct_term_of_the_other_methods(method, expected) -> None:
    found = derive(method, scalar_inner, with_direct_term, THREE, THREE, terms=50, scale=0.25)
    assert found.gradients[0].item() == pytest.approx(expected)


def test_damping_joins_every_eigenvalue() -> None:
    found = derive(
        "conjugate_gradient", scalar_inner, scalar_outer, THREE, THREE, terms=3, damping=2.0
    )
    assert found.gradients[0].item() == pytest.approx(1.0)


def source_inner(w: Weights, p: Weights) -> Tensor:
    return (p[0] * (w[0] - tensor(0, 4)).square()).sum() / 2


SOURCES = ((tensor(2.0),), (tensor(1.0, 1.0),))


@pytest.mark.parametrize(
    ("method", "terms", "expected"),
    [
        *(
            (method, k, size)
            for method in SERIES
            for k, size in [(0, 0.5), (1, 0.75), (3, 0.9375)]
        ),
        ("one_step", 3, 0.5),
        ("conjugate_gradient", 0, 1.0),
        ("neumann", 60, 1.0),
    ],
)
def test_weight_of_a_source_that_pulls_the_wrong_way_falls(method, terms, expected) -> None:
    # The outer optimum is below the inner one, so the source above is to lose weight.
    found = derive(method, source_inner, scalar_outer, *SOURCES, terms=terms, scale=0.25)
    assert found.gradients[0].tolist() == pytest.approx([-expected, expected])


def test_a_source_without_gradient_gets_none() -> None:
    def inner(w: Weights, p: Weights) -> Tensor:
        losses = [(w[0] - 4).square().sum(), (w[0] * 0).sum(), w[1].square().sum()]
        return (p[0] * torch.stack(losses)).sum()

    w = tensor(2.0), tensor(0.0)
    for method in METHODS:
        found = derive(method, inner, scalar_outer, w, (tensor(1, 1, 1),), terms=0, scale=0.1)
        assert found.gradients[0][0] != 0
        assert found.gradients[0][1:].tolist() == [0, 0]


HESSIAN, MIXED, SLOPE = torch.tensor([[2.0, 1], [1, 3]]).double(), tensor(1, -1), tensor(1, 2)


def oriented_inner(w: Weights, p: Weights) -> Tensor:
    return w[0] @ HESSIAN @ w[0] / 2 + p[0].sum() * (MIXED @ w[0])


def oriented_outer(w: Weights, p: Weights) -> Tensor:
    return SLOPE @ w[0]


@pytest.mark.parametrize("method", SERIES)
@pytest.mark.parametrize(("terms", "expected"), [(0, 0.10), (1, 0.17), (2, 0.22), (200, 0.40)])
def test_scale_is_applied_once(method, terms, expected) -> None:
    found = derive(
        method,
        oriented_inner,
        oriented_outer,
        (tensor(0, 0),),
        (tensor(0),),
        terms=terms,
        scale=0.1,
    )
    assert found.gradients[0].item() == pytest.approx(expected)


def test_conjugate_gradients_are_exact_after_as_many_steps_as_weights() -> None:
    one, two, more = (
        derive(
            "conjugate_gradient",
            oriented_inner,
            oriented_outer,
            (tensor(0, 0),),
            (tensor(0),),
            terms=terms,
        )
        for terms in (0, 1, 9)
    )
    # One step along g: (g g / g H g) g B.
    assert one.gradients[0].item() == pytest.approx(5 / 18)
    assert two.gradients[0].item() == more.gradients[0].item() == pytest.approx(0.4)
    assert len(more.norms) == 3


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
MANY = {"neumann": 3000, "unroll": 3000, "conjugate_gradient": 5}


@pytest.mark.parametrize("method", MANY)
def test_far_enough_ahead_it_is_the_dense_solution(method) -> None:
    found = derive(
        method,
        LOGISTIC.inner,
        LOGISTIC.outer,
        LOGISTIC.w,
        LOGISTIC.p,
        terms=MANY[method],
        scale=0.5,
    )
    for ours, wanted in zip(found.gradients, LOGISTIC.dense(), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-6, atol=1e-9)
    assert not found.diverged


def test_far_enough_ahead_it_is_the_slope_of_the_solved_problem() -> None:
    found = derive(
        "neumann", LOGISTIC.inner, LOGISTIC.outer, LOGISTIC.w, LOGISTIC.p, terms=3000, scale=0.5
    )
    for which, index in [(0, 0), (0, 4), (1, 0)]:
        values = []
        for change in (1e-5, -1e-5):
            p = tuple(parameter.clone() for parameter in LOGISTIC.p)
            p[which][index] += change
            values.append(LOGISTIC.outer(LOGISTIC.solve(p), p).item())
        slope = (values[0] - values[1]) / 2e-5
        assert found.gradients[which][index].item() == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("terms", [0, 1, 4])
@pytest.mark.parametrize("method", SERIES)
def test_series_is_the_derivative_of_gradient_descent_from_the_optimum(method, terms) -> None:
    p = tuple(parameter.clone().requires_grad_() for parameter in LOGISTIC.p)
    w = tuple(weight.clone().requires_grad_() for weight in LOGISTIC.w)
    for _ in range(terms + 1):
        slopes = torch.autograd.grad(LOGISTIC.inner(w, p), w, create_graph=True)
        w = tuple(weight - 0.3 * slope for weight, slope in zip(w, slopes, strict=True))
    expected = torch.autograd.grad(LOGISTIC.outer(w, p), p)
    found = derive(
        method, LOGISTIC.inner, LOGISTIC.outer, LOGISTIC.w, LOGISTIC.p, terms=terms, scale=0.3
    )
    torch.testing.assert_close(found.gradients, expected, rtol=1e-8, atol=1e-10)


def test_unrolling_away_from_the_optimum_follows_the_path() -> None:
    start = torch.ones(4, dtype=torch.float64), tensor(-1)
    p = tuple(parameter.clone().requires_grad_() for parameter in LOGISTIC.p)
    w = tuple(weight.clone().requires_grad_() for weight in start)
    for _ in range(4):
        slopes = torch.autograd.grad(LOGISTIC.inner(w, p), w, create_graph=True)
        w = tuple(weight - 0.3 * slope for weight, slope in zip(w, slopes, strict=True))
    expected = torch.autograd.grad(LOGISTIC.outer(w, p), p)
    found = derive("unroll", LOGISTIC.inner, LOGISTIC.outer, start, LOGISTIC.p, terms=3, scale=0.3)
    torch.testing.assert_close(found.gradients, expected, rtol=1e-8, atol=1e-10)
    other = derive(
        "neumann", LOGISTIC.inner, LOGISTIC.outer, start, LOGISTIC.p, terms=3, scale=0.3
    )
    assert not torch.allclose(other.gradients[0], expected[0], rtol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_it_is_linear_in_the_outer_loss(method) -> None:
    def other(w: Weights, p: Weights) -> Tensor:
        return w[0].sum() + (p[0] ** 3).sum() + w[1].square().sum() / 2

    def both(w: Weights, p: Weights) -> Tensor:
        return 2 * LOGISTIC.outer(w, p) - 3 * other(w, p)

    # Conjugate gradients are linear once they have solved the system.
    one, two, sum_ = (
        derive(method, LOGISTIC.inner, loss, LOGISTIC.w, LOGISTIC.p, terms=4, scale=0.3).gradients
        for loss in (LOGISTIC.outer, other, both)
    )
    for a, b, c in zip(one, two, sum_, strict=True):
        torch.testing.assert_close(2 * a - 3 * b, c, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("where", ["images", "losses"])
@pytest.mark.parametrize("terms", [0, 2])
def test_it_goes_through_convolutions_and_batch_norms(where, terms) -> None:
    draw = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(0)}
    images, masks = torch.rand(5, 2, 6, 6, **draw), torch.rand(5, 6, 6, **draw)
    w = tuple(torch.randn(*shape, **draw) / 3 for shape in [(4, 2, 3, 3), (4,), (1, 4, 1, 1)])
    p = (torch.rand(5, **draw) + 0.5,)

    def logits(w: Weights, images: Tensor) -> Tensor:
        maps = F.batch_norm(F.conv2d(images, w[0], padding=1), None, None, w[1], training=True)
        return F.conv2d(F.silu(maps), w[2])[:, 0]

    def inner(w: Weights, p: Weights) -> Tensor:
        seen = images * p[0][:, None, None, None] ** 2 if where == "images" else images
        losses = F.mse_loss(logits(w, seen), masks, reduction="none").mean(dim=(1, 2))
        return losses.sum() if where == "images" else p[0] @ losses

    def outer(w: Weights, p: Weights) -> Tensor:
        return F.mse_loss(logits(w, images.flip(0)), masks.flip(0))

    # All second derivatives written out.
    rows = torch.autograd.functional.hessian(lambda *both: inner(both[:3], both[3:]), (*w, *p))
    hessian, mixed = (
        torch.cat(
            [
                torch.cat([part.reshape(a.numel(), -1) for part in row[columns]], dim=1)
                for a, row in zip(w, rows, strict=False)
            ]
        )
        for columns in (slice(3), slice(3, 4))
    )
    slope = torch.autograd.functional.jacobian(lambda *w: outer(w, p), w)
    vector = torch.cat([part.flatten() for part in slope])
    series = sum(
        vector @ (torch.eye(80) - 0.05 * hessian).matrix_power(k) for k in range(terms + 1)
    )
    found = derive("neumann", inner, outer, w, p, terms=terms, scale=0.05)
    assert not found.diverged
    torch.testing.assert_close(found.gradients[0], -0.05 * series @ mixed, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_losses_that_do_not_meet_leave_the_direct_term(method) -> None:
    w, p = (tensor(1.0, 2.0),), (tensor(3.0), tensor(5.0))
    cases: list[tuple[Loss, Loss, list[float]]] = [
        (lambda w, p: w[0].square().sum(), lambda w, p: p[0].sum() + w[0].sum(), [1, 0]),
        (lambda w, p: w[0].square().sum(), lambda w, p: tensor(7).sum(), [0, 0]),
        (lambda w, p: (w[0] * p[0]).square().sum(), lambda w, p: p[1].square().sum(), [0, 10]),
    ]
    for inner, outer, expected in cases:
        found = derive(method, inner, outer, w, p, terms=2, scale=0.1)
        assert [gradient.item() for gradient in found.gradients] == expected
        assert not found.diverged


@pytest.mark.parametrize("method", METHODS)
def test_what_is_given_stays_as_it_is(method) -> None:
    w = tuple(weight.clone().requires_grad_() for weight in LOGISTIC.w)
    p = tuple(parameter.clone() for parameter in LOGISTIC.p)
    found = derive(method, LOGISTIC.inner, LOGISTIC.outer, w, p, terms=2, scale=0.3)
    assert all(torch.equal(*pair) for pair in zip(w + p, LOGISTIC.w + LOGISTIC.p, strict=True))
    assert all(tensor.grad is None for tensor in w + p)
    assert [tensor.requires_grad for tensor in w + p] == [True, True, False, False]
    assert not any(gradient.requires_grad for gradient in found.gradients)


def curved(*eigenvalues: float) -> tuple[Loss, Loss, Weights, Weights]:
    """A quadratic at its stationary point; every parameter shifts one weight's."""
    values = tensor(*eigenvalues)

    def inner(w: Weights, p: Weights) -> Tensor:
        return (values * (w[0] - p[0]).square()).sum() / 2

    def outer(w: Weights, p: Weights) -> Tensor:
        return w[0].sum()

    return inner, outer, (torch.zeros_like(values),), (torch.zeros_like(values),)


@pytest.mark.parametrize("method", SERIES)
@pytest.mark.parametrize(
    ("eigenvalues", "scale", "rises"),
    [((4.0, 0.5), 0.55, 2), ((1.0, -0.5), 0.1, 4), ((-1e-3,), 0.1, 1), ((1.0, 2.0), 3.0, 1)],
)
def test_a_series_that_grows_is_cut_before_it_does(method, eigenvalues, scale, rises) -> None:
    problem = curved(*eigenvalues)
    found = derive(method, *problem, terms=30, scale=scale)
    growth = [abs(1 - scale * h) for h in eigenvalues]
    norms = [np.sqrt(sum(g ** (2 * k) for g in growth)) for k in range(31)]
    rising = next(k for k in range(1, 31) if norms[k] > norms[k - 1])
    assert found.diverged and found.norms == pytest.approx(norms[: rising + 1])
    fewer = derive(method, *problem, terms=rising - 1, scale=scale)
    assert not fewer.diverged
    torch.testing.assert_close(found.gradients, fewer.gradients)
    assert rising == rises


@pytest.mark.parametrize("method", SERIES)
def test_a_series_within_its_bounds_is_not_called_divergent(method) -> None:
    # No curvature at all, and a scale right below the limit.
    for eigenvalues, scale in (((0.0, 0.0), 1.0), ((4.0, 0.1, 0.0), 0.4999)):
        assert not derive(method, *curved(*eigenvalues), terms=20, scale=scale).diverged


def test_rounding_is_not_called_divergence() -> None:
    # What is left of the direction after taking away the only curved one is noise.
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        flat, bent = torch.randn(2, 50, generator=generator)
        flat = flat - bent * (bent @ flat) / (bent @ bent)
        found = derive(
            "neumann",
            lambda w, p, bent=bent: (bent @ (w[0] - p[0])).square() / 200,
            lambda w, p, flat=flat: flat @ w[0],
            (torch.zeros(50),),
            (torch.zeros(50),),
            terms=10,
            scale=3.0,
        )
        assert not found.diverged


def test_conjugate_gradients_stop_at_negative_curvature() -> None:
    at_once = derive("conjugate_gradient", *curved(1.0, -3.0), terms=5)
    assert at_once.diverged and at_once.gradients[0].tolist() == [0, 0]
    later = derive("conjugate_gradient", *curved(5.0, -1.0), terms=5)
    assert later.diverged and len(later.norms) == 2
    # The first step alone: x = (g g / g H g) g = 0.5 g.
    assert later.gradients[0].tolist() == pytest.approx([2.5, -0.5])
    damped = derive("conjugate_gradient", *curved(5.0, -1.0), terms=5, damping=2.0)
    assert not damped.diverged
    assert damped.gradients[0].tolist() == pytest.approx([5 / 7, -1.0])


@pytest.mark.parametrize("method", METHODS)
def test_numbers_that_are_not_finite_are_reported(method) -> None:
    def nowhere(w: Weights, p: Weights) -> Tensor:
        return (w[0] * float("nan")).sum()

    found = derive(method, scalar_inner, nowhere, THREE, THREE, terms=2, scale=0.1)
    assert found.diverged
    if method != "one_step":

        def bent(w: Weights, p: Weights) -> Tensor:
            return (w[0].square() * float("nan")).sum()

        assert derive(method, bent, scalar_outer, THREE, THREE, terms=2, scale=0.1).diverged


@pytest.mark.parametrize(
    ("eigenvalues", "largest"), [((0.5, 3.0, 1.0), 3), ((-4.0, 1.0), 4), ((0.0, 0.0), 0)]
)
def test_largest_eigenvalue(eigenvalues, largest) -> None:
    inner, _, w, p = curved(*eigenvalues)
    found = [
        largest_eigenvalue(inner, w, p, torch.Generator().manual_seed(seed), iterations=40)
        for seed in (0, 1)
    ]
    assert found == pytest.approx([largest, largest], rel=1e-6)
    short = largest_eigenvalue(inner, w, p, torch.Generator().manual_seed(0), iterations=2)
    assert short <= largest * (1 + 1e-12)


def test_its_inverse_is_a_scale_that_converges() -> None:
    w, p = LOGISTIC.w, LOGISTIC.p
    found = largest_eigenvalue(LOGISTIC.inner, w, p, torch.Generator().manual_seed(0), 30)
    hessian = LOGISTIC.hessian(torch.cat(w), p)
    assert found == pytest.approx(torch.linalg.eigvalsh(hessian).max().item(), rel=1e-3)
    assert not derive(
        "neumann", LOGISTIC.inner, LOGISTIC.outer, w, p, terms=50, scale=1 / found
    ).diverged


def quartic(w: Weights, p: Weights) -> Tensor:
    """A loss none of whose operations keeps its own result for the way back.

    With the hooks below, one that does would hold itself.
    """
    return (p[0][:4] * (w[0].pow(3) * w[1] + 1).pow(2)).sum()


@pytest.mark.parametrize(
    ("method", "calls"),
    [("neumann", 2), ("conjugate_gradient", 2), ("one_step", 1), ("unroll", 8)],
)
def test_graphs_are_made_once_and_freed(method, calls) -> None:
    called, kept = [], []

    class Saved:
        def __init__(self, value: Tensor) -> None:
            self.value = value

    def pack(value: Tensor) -> Saved:
        saved = Saved(value)
        kept.append(weakref.ref(saved))
        return saved

    def inner(w: Weights, p: Weights) -> Tensor:
        called.append(1)
        return quartic(w, p)

    gc.disable()
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.value):
            derive(method, inner, scalar_outer, LOGISTIC.w, LOGISTIC.p, terms=3, scale=1e-3)
        alive = [reference for reference in kept if reference() is not None]
    finally:
        gc.enable()
    assert len(called) == calls and kept
    assert not alive


@pytest.mark.parametrize("method", SERIES)
def test_it_takes_as_much_memory_for_many_terms_as_for_few(method) -> None:
    """The most tensors that graphs hold at one time, over the looked-at settings."""

    def most(terms: int) -> int:
        held, peak = 0, 0

        class Saved:
            def __init__(self, value: Tensor) -> None:
                nonlocal held, peak
                self.value, held = value, held + 1
                peak = max(peak, held)

            def __del__(self) -> None:
                nonlocal held
                held -= 1

        with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.value):
            derive(method, quartic, scalar_outer, LOGISTIC.w, LOGISTIC.p, terms=terms, scale=1e-3)
        return peak

    assert most(8) == most(2)
