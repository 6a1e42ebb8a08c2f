"""Hypergradients against dense solves, finite differences, and figures worked out by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from autosearch_runners.synth4seg.hypergradients import METHODS, Loss, Weights
from hypergradient_problems import (
    LOGISTIC,
    SERIES,
    THREE,
    derive,
    scalar_inner,
    scalar_outer,
    tensor,
)
from torch import Tensor


def with_direct_term(w: Weights, p: Weights) -> Tensor:
    return scalar_outer(w, p) + 0.1 * p[0].abs().sum()


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
