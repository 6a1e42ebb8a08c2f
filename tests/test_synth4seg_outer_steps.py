"""Outer steps of bi-level training: when they come, what they move, and what they leave alone."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from autosearch_runners.synth4seg import training
from autosearch_runners.synth4seg.curve import outer_figures
from autosearch_runners.synth4seg.hypergradients import METHODS, Hypergradient
from autosearch_runners.synth4seg.outer import OuterParameters
from autosearch_runners.synth4seg.training import BilevelTrainer
from bilevel_parts import (
    LOCATION,
    QUICK,
    SIDE,
    TRAIN,
    VAL,
    Net,
    Squares,
    location_net,
    loss,
    train,
)
from torch import Tensor


@pytest.fixture
def asked(monkeypatch):
    """What the method was asked for and found at every outer step."""
    calls: list[tuple[tuple, Hypergradient]] = []

    def spy(*problem):
        problem = *problem[:2], *(tuple(t.clone() for t in ts) for ts in problem[2:4]), problem[4]
        calls.append((problem, METHODS["neumann"](*problem)))
        return calls[-1][1]

    monkeypatch.setattr(training, "METHODS", METHODS | {"spied": spy})
    return calls


@pytest.mark.parametrize(
    ("warmup", "interval", "epochs"), [(0.0, 1, 2), (0.25, 1, 4), (0.3, 5, 4), (0.5, 2, 3)]
)
def test_number_of_outer_steps(asked, warmup, interval, epochs) -> None:
    settings = replace(
        QUICK, method="spied", warmup_fraction=warmup, outer_interval=interval, epochs=epochs
    )
    train(settings)
    last, first = 3 * epochs, max(1, round(warmup * 3 * epochs))
    assert len(asked) == last // interval - (first - 1) // interval


def test_no_outer_task_has_no_outer_steps(asked) -> None:
    settings = replace(QUICK, method="spied", outer_task="none", initial_weights=(0.5, 2.0))
    trainer, _ = train(settings)
    assert not asked
    assert [epoch.source_weights for epoch in trainer.curve] == [{"right": 0.5, "wrong": 2.0}] * 4
    assert {epoch.hypergradient for epoch in trainer.curve} == {0.0}


def test_inner_gradient_is_taken_after_the_inner_step_on_the_same_images(asked) -> None:
    settings = replace(QUICK, method="spied", epochs=1, images_per_epoch=2, warmup_fraction=0.0)
    sources = Squares()
    _, network = train(settings, sources)
    ((inner, outer, w, p, wanted), found) = asked[0]
    batch = sources.drawn[0]
    # One step of Adam, by hand; equal weights at first.
    by_hand = Net().train()
    optimiser = torch.optim.Adam(by_hand.parameters(), lr=settings.lr)

    def losses() -> Tensor:
        logits = by_hand(batch.images.flatten(0, 1)).view(2, 2, SIDE, SIDE)
        return torch.stack([loss(logits[j], batch.targets[j]) for j in range(2)])

    losses().sum().backward()
    optimiser.step()
    for ours, (name, expected) in zip(w, by_hand.named_parameters(), strict=True):
        # The norm takes this bias away: its gradient is rounding, which Adam blows up.
        if name != "first.bias":
            torch.testing.assert_close(ours, expected.detach(), rtol=0, atol=1e-6)
    assert inner(w, p).item() == pytest.approx(losses().sum().item(), rel=1e-5)
    changed = inner(w, (torch.tensor([3.0]),)).item()
    assert changed == pytest.approx((losses() @ torch.tensor([1.0, 3.0])).item(), rel=1e-5)
    rows = np.random.default_rng((0, 1, 1)).choice(len(VAL[0]), 3, replace=False)
    by_hand = network.eval()
    expected = loss(by_hand(VAL[0][rows]), VAL[1][rows])
    assert outer(w, p).item() == pytest.approx(expected.item(), rel=1e-5)
    assert (wanted.terms, wanted.scale) == (3, 0.1)
    assert len(found.gradients) == 1


@pytest.mark.parametrize("method", METHODS)
def test_outer_steps_leave_the_network_and_its_statistics_alone(monkeypatch, method) -> None:
    seen = []
    around = BilevelTrainer._outer_step

    def watched(self, *args):
        before = [tensor.clone() for tensor in self._network.state_dict().values()]
        result = around(self, *args)
        after = self._network.state_dict().values()
        seen.append(all(torch.equal(*pair) for pair in zip(before, after, strict=True)))
        return result

    monkeypatch.setattr(BilevelTrainer, "_outer_step", watched)
    settings = replace(QUICK, method=method, scale="auto", damping=10.0, outer_task="both")
    _, network = train(settings, location_net=location_net())
    assert len(seen) == 10 and all(seen)
    # One batch of statistics for every inner step up to the checkpoint, and no others.
    assert network.norm.num_batches_tracked in (3, 6, 9, 12)
    assert network.norm.running_mean.abs().sum() > 0


def test_statistics_of_the_location_net_stay() -> None:
    net = location_net()
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    weights = [parameter.clone() for parameter in net.parameters()]
    train(LOCATION, location_net=net)
    assert all(torch.equal(before[name], buffer) for name, buffer in net.named_buffers())
    assert not any(torch.equal(*pair) for pair in zip(weights, net.parameters(), strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_the_weight_of_a_source_with_wrong_labels_falls(method) -> None:
    settings = replace(
        QUICK,
        method=method,
        epochs=6,
        images_per_epoch=20,
        outer_lr_weights=0.05,
        warmup_fraction=0.2,
        damping=1.0,
    )
    trainer, _ = train(settings, Squares(("right", "wrong", "right too")))
    weights = trainer.curve[-1].source_weights
    assert weights["right"] == 1.0
    assert weights["wrong"] < 0.5 and weights["right too"] > 1.0
    free = replace(settings, outer_task="none")
    equal, _ = train(free, Squares(("right", "wrong", "right too")))
    assert trainer.curve[-1].outer < equal.curve[-1].outer


@pytest.mark.parametrize("constraint", ["projection", "softplus"])
@pytest.mark.parametrize("fixed", [0, 1])
def test_weights_are_never_negative_and_one_is_fixed(constraint, fixed) -> None:
    settings = replace(QUICK, constraint=constraint, fixed_source=fixed, outer_lr_weights=1.0)
    names = ("wrong a", "wrong b", "wrong c")
    trainer, _ = train(settings, Squares(names))
    for epoch in trainer.curve:
        assert epoch.source_weights[names[fixed]] == 1.0
        assert min(epoch.source_weights.values()) >= 0
    others = [
        weight for name, weight in trainer.curve[-1].source_weights.items() if name != names[fixed]
    ]
    assert all(weight != 1 for weight in others)


def test_projection_and_softplus_by_hand() -> None:
    initial = torch.tensor([0.5, 1.0, 0.0])
    for constraint, start in (("projection", [0.5, 1, 0]), ("softplus", [0.5, 1, 0.001])):
        outer = OuterParameters(initial.clone(), 1, constraint, None, (0.4, 0.0), None)
        assert outer.source_weights(outer.tensors).tolist() == pytest.approx(start, abs=1e-6)
        for _ in range(3):
            outer.step((torch.tensor([2.0, -1.0]),))
        # Adam's first steps under a constant gradient are as long as its rate.
        expected = [0.0, 1.0, 1.2]
        if constraint == "softplus":
            raw = [math.log(math.expm1(0.5)) - 1.2, math.log(math.expm1(0.001)) + 1.2]
            expected = [math.log1p(math.exp(raw[0])), 1.0, math.log1p(math.exp(raw[1]))]
        assert outer.source_weights(outer.tensors).tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("clip", "length"), [(None, 5.0), (10.0, 5.0), (1.0, 1.0)])
def test_long_hypergradients_are_clipped(monkeypatch, clip, length) -> None:
    outer = OuterParameters(torch.ones(3), 0, "projection", None, (0.1, 0.0), clip)
    seen = []
    monkeypatch.setattr(
        torch.optim.Adam, "step", lambda self: seen.append(self.param_groups[0]["params"][0].grad)
    )
    outer.step((torch.tensor([3.0, -4.0]),))
    torch.testing.assert_close(seen[0], torch.tensor([0.6, -0.8]) * length)


def test_weights_task_never_asks_for_locations() -> None:
    sources = Squares()
    trainer, _ = train(QUICK, sources)
    assert sources.allowed == [] == trainer.locations
    assert len(sources.drawn) == 12


def test_places_follow_the_location_net() -> None:
    net, sources = location_net(), Squares(("one",))
    with torch.no_grad():
        net.last.weight.mul_(20)
    train(replace(LOCATION, location_threshold=0.95), sources, location_net=net)
    share = np.mean(sources.allowed)
    assert 0 < share < 1
    sources = Squares(("one",))
    train(replace(LOCATION, location_threshold=0.999999), sources, location_net=location_net())
    assert np.all(sources.allowed)


def test_factors_weigh_the_samples(asked) -> None:
    settings = replace(LOCATION, method="spied", epochs=1, images_per_epoch=2, warmup_fraction=0.0)
    values = {}
    for normalise in (False, True):
        sources = Squares(("one",))
        chosen = replace(settings, normalise_factors=normalise)
        train(chosen, sources, location_net=location_net())
        (inner, _, w, p, _), _ = asked[-1]
        batch, net = sources.drawn[0], location_net().eval()
        maps = net(batch.originals).sigmoid()
        factors = torch.stack(
            [m[a == 1].mean() for m, a in zip(maps, batch.areas[0], strict=True)]
        )
        by_hand = Net().train()
        by_hand.load_state_dict(dict(zip(dict(by_hand.named_parameters()), w, strict=True)), False)
        logits = by_hand(batch.images[0])
        each = [loss(logits[i : i + 1], batch.targets[0, i : i + 1]) for i in range(2)]
        values[normalise] = inner(w, p).item()
        total = (torch.stack(each) * factors).sum()
        expected = total / (factors.sum() if normalise else 2)
        assert values[normalise] == pytest.approx(expected.item(), rel=1e-4)
    assert values[True] > values[False]


def test_a_map_that_forbids_every_place_is_no_division_by_zero() -> None:
    net = location_net()
    with torch.no_grad():
        net.last.bias.fill_(-200.0)
    settings = replace(LOCATION, normalise_factors=True, epochs=1, images_per_epoch=2)
    trainer, _ = train(settings, Squares(("one",)), location_net=net)
    assert trainer.curve[-1].inner == 0.0 and math.isfinite(trainer.curve[-1].outer)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_price_of_locations_is_a_direct_term(asked, reduction) -> None:
    settings = replace(
        LOCATION, method="spied", epochs=1, images_per_epoch=1, gamma=1.0, l1_reduction=reduction
    )
    train(settings, Squares(("one",)), location_net=location_net())
    (_, outer, w, p, _), found = asked[0]
    free = replace(settings, gamma=0.0)
    train(free, Squares(("one",)), location_net=location_net())
    (_, without, _, _, _), less = asked[1]
    rows = np.random.default_rng((0, 1, 1))
    rows.choice(len(VAL[0]), 3, replace=False)
    maps = location_net().eval()(TRAIN[rows.choice(len(TRAIN), 3, replace=False)]).sigmoid()
    price = maps.mean() * 256**2 if reduction == "mean" else maps.sum() / 3
    difference = outer(w, p) - without(w, p)
    assert difference.item() == pytest.approx(price.item(), rel=1e-4)
    # Paying for every pixel, the last bias must fall: its slope is positive.
    assert found.gradients[-1].item() > max(0.0, less.gradients[-1].item())


def test_a_price_closes_places() -> None:
    settings = replace(LOCATION, gamma=1.0, epochs=8, outer_lr_location=0.1)
    trainer, _ = train(settings, Squares(("one",)), location_net=location_net())
    looks = trainer.locations
    assert [look.epoch for look in looks] == [0, 2, 4, 6, 8]
    assert looks[0].images == (0, 1, 3, 4)
    assert looks[0].maps.shape == (4, SIDE, SIDE) and looks[0].maps.dtype == np.float32
    np.testing.assert_allclose(
        looks[0].maps, location_net().eval()(TRAIN[[0, 1, 3, 4]]).sigmoid().detach(), rtol=1e-5
    )
    means = [look.maps.mean() for look in looks]
    assert means[0] > 0.9 and means[-1] < 0.5
    assert all(a >= b for a, b in itertools.pairwise(means))


@pytest.mark.parametrize("method", ["neumann", "unroll"])
def test_a_scale_that_is_too_large_is_capped(method) -> None:
    # Outer steps begin with the first epoch's last step.
    settings = replace(QUICK, method=method, scale=1e4)
    curves = {k: train(replace(settings, terms=k))[0].curve for k in (1, 3)}
    for terms, curve in curves.items():
        assert [epoch.capped for epoch in curve] == [1.0] * 4
        assert all(0 < epoch.scale < 100 for epoch in curve)
        assert sum(epoch.terms for epoch in curve) > 2 * terms
        assert all(math.isfinite(w) for epoch in curve for w in epoch.source_weights.values())
    assert curves[1][-1].source_weights != curves[3][-1].source_weights
    calm = train(replace(QUICK, scale="auto"))[0].curve
    assert all(0 < epoch.scale <= 1 for epoch in calm)
    assert sum(epoch.diverged for epoch in calm) < 4
    assert {epoch.capped for epoch in calm} == {0.0}


def test_a_single_step_has_no_series_to_bound() -> None:
    for settings in (replace(QUICK, terms=0), replace(QUICK, method="one_step")):
        curve = train(replace(settings, scale=1e4))[0].curve
        assert {epoch.scale for epoch in curve} == {1e4}
        assert {epoch.capped + epoch.terms for epoch in curve} == {0.0}


def test_the_bound_is_estimated_anew_after_a_cut(monkeypatch) -> None:
    asked = []

    def bound(inner, w, p, generator, iterations):
        asked.append(iterations)
        # The first is far too large.
        return 1e4 if len(asked) == 1 else 1e-3

    monkeypatch.setattr(training, "largest_scale", bound)
    curve = train(replace(QUICK, scale=1e3))[0].curve
    assert len(asked) == 2
    assert [epoch.diverged for epoch in curve] == [1, 0, 0, 0]
    assert [epoch.terms for epoch in curve] == [0, 3, 3, 3]
    assert [epoch.capped for epoch in curve] == [0, 1, 1, 1]


def test_the_inner_rate_is_a_scale_as_it_is_by_then(asked) -> None:
    settings = replace(QUICK, method="spied", scale="inner_lr", lr=1e-2, halve_every_fraction=0.5)
    train(settings)
    first, *_, last = (problem[4].scale for problem, _ in asked)
    assert (first, last) == (1e-2, 5e-3)


def test_figures_tell_how_hypergradients_came_about() -> None:
    curve = train(replace(QUICK, scale=1e4))[0].curve
    figures = outer_figures(curve)
    steps = [step for epoch in curve for step in epoch.outer_steps]
    assert len(steps) == 10 and set(figures) == {"outer_terms", "outer_cut", "scale_capped"}
    assert figures["outer_terms"] == sum(step.terms for step in steps) / 10
    assert figures["scale_capped"] == 1.0 and 0 <= figures["outer_cut"] < 1
    assert outer_figures(train(replace(QUICK, outer_task="none"))[0].curve) == {}


def test_hypergradients_that_are_not_finite_move_nothing(monkeypatch) -> None:
    def broken(inner, outer, w, p, settings):
        nowhere = tuple(torch.full_like(tensor, float("nan")) for tensor in p)
        return Hypergradient(nowhere, (float("nan"),), True)

    monkeypatch.setattr(training, "METHODS", {"broken": broken})
    curve = train(replace(QUICK, method="broken"))[0].curve
    assert curve[-1].source_weights == {"right": 1.0, "wrong": 1.0}
    assert curve[-1].diverged == 1.0 and curve[-1].hypergradient == 0.0
