"""Hypergradients at their limits: series that grow, numbers that are not finite, and memory."""

import gc
import weakref

import numpy as np
import pytest
import torch
from autosearch_runners.synth4seg.hypergradients import (
    METHODS,
    Weights,
    largest_eigenvalue,
    largest_scale,
)
from hypergradient_problems import (
    LOGISTIC,
    SERIES,
    THREE,
    curved,
    derive,
    scalar_inner,
    scalar_outer,
)
from torch import Tensor


@pytest.mark.parametrize("method", SERIES)
@pytest.mark.parametrize(
    ("eigenvalues", "scale", "rises"),
    [((4.0, 0.5), 0.55, 6), ((1.0, -0.5), 0.1, 22), ((-1.0,), 0.6, 2), ((1.0, 2.0), 3.0, 1)],
)
def test_a_series_that_grows_is_cut_before_it_doubles(method, eigenvalues, scale, rises) -> None:
    problem = curved(*eigenvalues)
    found = derive(method, *problem, terms=30, scale=scale)
    growth = [abs(1 - scale * h) for h in eigenvalues]
    norms = [np.sqrt(sum(g ** (2 * k) for g in growth)) for k in range(31)]
    rising = next(k for k in range(1, 31) if norms[k] > 2 * norms[0])
    assert found.diverged and found.norms == pytest.approx(norms[: rising + 1])
    fewer = derive(method, *problem, terms=rising - 1, scale=scale)
    assert not fewer.diverged and found.terms == fewer.terms == rising - 1
    torch.testing.assert_close(found.gradients, fewer.gradients)
    assert rising == rises


@pytest.mark.parametrize("method", SERIES)
def test_mild_negative_curvature_does_not_end_a_series(method) -> None:
    # It still is the derivative of as many steps.
    for terms in (1, 3, 30):
        found = derive(method, *curved(-1e-2), terms=terms, scale=0.1)
        assert found.terms == terms and not found.diverged
        assert found.gradients[0].item() == pytest.approx(1 - 1.001 ** (terms + 1))


@pytest.mark.parametrize("method", SERIES)
def test_a_scale_that_the_curvature_bears_makes_terms_count(method) -> None:
    problem, dense = curved(40.0, 8.0, 1.0), torch.ones(3, dtype=torch.float64)
    too_large = [derive(method, *problem, terms=k, scale=1.0) for k in (1, 5, 80)]
    assert all(found.diverged and found.terms == 0 for found in too_large)
    inner, _, w, p = problem
    bearable = largest_scale(inner, w, p, torch.Generator().manual_seed(0), iterations=5)
    assert bearable == pytest.approx(1 / 40, rel=0.1)
    far = []
    for terms in (1, 5, 80, 500):
        found = derive(method, *problem, terms=terms, scale=min(1.0, bearable))
        assert found.terms == terms and not found.diverged
        far.append((found.gradients[0] - dense).abs().max().item())
    assert far == sorted(far, reverse=True) and far[0] > 0.9 and far[-1] < 1e-4


def test_steps_of_conjugate_gradients_are_counted() -> None:
    assert derive("conjugate_gradient", *curved(1.0, 3.0), terms=9).terms == 1
    assert derive("conjugate_gradient", *curved(5.0, -1.0), terms=5).terms == 0
    assert derive("one_step", *curved(1.0, 3.0), terms=9).terms == 0


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
