"""Networks, losses, projection, ascent and the judge of GLASS, one at a time."""

import math

import numpy as np
import pytest
import torch
from autosearch_runners.glass.feature_synthesis import (
    AscentGradient,
    AscentSettings,
    ascend,
    coverage_radius,
    noise_like,
    project,
)
from autosearch_runners.glass.hypothesis import average_image, bright_spot, judge
from autosearch_runners.glass.losses import binary_loss, focal_loss, hardest, quantile
from autosearch_runners.glass.networks import Discriminator, make_adaptor
from hypothesis import given, strategies as st
from torch import Tensor, nn


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scalars(*values: float) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(value) for value in values)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_networks_have_the_published_sizes() -> None:
    assert count(make_adaptor(1536, 1, seeded())) == 2_360_832
    assert count(Discriminator(1536, 1024, seeded())) == 1_576_960


def test_networks_are_drawn_from_their_generator_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, same, other = (Discriminator(64, 32, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.first.weight, same.first.weight)
    assert not torch.equal(first.first.weight, other.first.weight)
    assert first.first.weight.std().item() == pytest.approx(math.sqrt(2 / 96), rel=0.1)


def test_adaptor_is_affine_and_may_have_no_layers() -> None:
    vectors = torch.rand(9, 5, generator=seeded())
    for layers in (0, 1, 2):
        adaptor = make_adaptor(5, layers, seeded())
        torch.testing.assert_close(adaptor(vectors.mean(dim=0)), adaptor(vectors).mean(dim=0))
    assert torch.equal(make_adaptor(5, 0, seeded())(vectors), vectors)


@pytest.mark.parametrize(
    ("score", "target", "expected"),
    [(0.5, 1, 0.1732748), (0.9, 1, 0.00105354), (0.9, 0, 1.8648733), (0.2, 0, 0.00892518)],
)
def test_focal_loss_of_one_score(score, target, expected) -> None:
    loss = focal_loss(torch.tensor([score]), torch.tensor([target]))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_focal_loss_is_a_mean() -> None:
    loss = focal_loss(torch.tensor([0.5, 0.9, 0.1]), torch.tensor([1.0, 0, 0]))
    assert loss.item() == pytest.approx(0.67973393, abs=1e-6)


def test_quantile_is_linear_between_values_and_has_no_gradient() -> None:
    values = torch.tensor([1.0, 2, 3, 4], requires_grad=True)
    assert quantile(values, 0.75).item() == 3.25
    assert not quantile(values, 0.75).requires_grad


def test_quantile_of_more_values_than_older_torch_accepts() -> None:
    values = torch.arange(2**24 + 10, dtype=torch.float32)
    assert quantile(values, 0.5).item() == pytest.approx(2**23, rel=1e-5)


def test_hardest_patches_are_those_above_the_quantile() -> None:
    errors = torch.tensor([0, 0.1, 0.2, 0.9])
    scores, targets = errors.sqrt(), torch.zeros(4)
    assert hardest(scores, targets, 0.5).tolist() == [False, False, True, True]
    assert hardest(1 - scores, 1 - targets, 0.5).tolist() == [False, False, True, True]
    assert hardest(scores, targets, 0).all()
    assert hardest(torch.full((5,), 0.3), torch.zeros(5), 0.5).all()


@pytest.mark.parametrize("anomalous", [True, False])
def test_binary_loss_is_cross_entropy_of_the_sigmoid(anomalous) -> None:
    logits = torch.tensor([-3.0, 0.2, 4])
    scores = torch.sigmoid(logits) if anomalous else 1 - torch.sigmoid(logits)
    torch.testing.assert_close(binary_loss(logits, anomalous), -scores.log().mean())


@pytest.mark.parametrize(
    ("offset", "expected"),
    [((0.3, 0.4), (0.6, 0.8)), ((3, 4), (1.2, 1.6)), ((0.6, 0.8), (0.6, 0.8)), ((0, 0), (0, 0))],
)
def test_projection_of_known_vectors(offset, expected) -> None:
    # The last but one lies on the inner edge, the last has no direction.
    offsets = torch.tensor([offset], dtype=torch.float32, requires_grad=True)
    projected = project(offsets, *scalars(1, 2))
    torch.testing.assert_close(projected, torch.tensor([expected], dtype=torch.float32))
    projected.sum().backward()
    assert offsets.grad is not None and offsets.grad.abs().max() < 10


@given(
    st.lists(st.tuples(*[st.floats(-50, 50, width=32)] * 3), min_size=1, max_size=20),
    st.floats(0.01, 10),
    st.floats(1, 4),
)
def test_projection_keeps_directions_and_ends_in_the_shell(rows, low, ratio) -> None:
    offsets = torch.tensor(rows, dtype=torch.float64)
    projected = project(offsets, *scalars(low, low * ratio))
    norms, before = projected.norm(dim=1), offsets.norm(dim=1)
    present = before > 1e-6
    assert (norms[present] >= low * (1 - 1e-3)).all() and (norms <= low * ratio * (1 + 1e-6)).all()
    along = (projected * offsets).sum(dim=1)
    torch.testing.assert_close(along, norms * before)


def test_coverage_radius_holds_its_share_of_vectors() -> None:
    vectors, centres = (torch.randn(4000, 8, generator=seeded(seed)) for seed in (0, 1))
    radius = coverage_radius(vectors.requires_grad_(), centres, 0.75)
    inside = (vectors - centres).norm(dim=1) <= radius
    assert inside.float().mean().item() == pytest.approx(0.75, abs=1e-3)
    assert not radius.requires_grad


@pytest.mark.parametrize("channels", [64, 1536])
def test_noise_has_the_published_norm_at_any_length(channels) -> None:
    noise = noise_like(torch.zeros(500, channels), 0.015, seeded())
    assert noise.norm(dim=1).mean().item() == pytest.approx(0.588, abs=0.005)


def random_case(rows: int = 300) -> tuple[Discriminator, Tensor, Tensor]:
    """A discriminator in double precision with a norm of its own, normal and moving vectors."""
    discriminator = Discriminator(12, 7, seeded()).double()
    with torch.no_grad():
        discriminator.norm.weight.uniform_(0.5, 2, generator=seeded(3))
        discriminator.norm.bias.uniform_(-1, 1, generator=seeded(4))
    normal = torch.randn(rows, 12, generator=seeded(1), dtype=torch.float64)
    return discriminator, normal, normal + 0.3 * torch.randn(rows, 12, generator=seeded(2))


def loss_of(discriminator: Discriminator, normal: Tensor, moving: Tensor) -> Tensor:
    """The ascent's objective as the paper states it: one call on both, mean over the moving."""
    scores = torch.sigmoid(discriminator(torch.cat([normal, moving])))[len(normal) :]
    return -scores.log().mean()


def test_ascent_gradient_is_that_of_automatic_differentiation(monkeypatch) -> None:
    monkeypatch.setattr("autosearch_runners.glass.feature_synthesis._CACHED", 7 * 41)
    discriminator, normal, moving = random_case()
    running = [buffer.clone() for buffer in discriminator.buffers()]
    found = AscentGradient(discriminator, normal).gradient(moving)
    tracked = [buffer.clone() for buffer in discriminator.buffers()]
    for buffer, before in zip(discriminator.buffers(), running, strict=True):
        buffer.copy_(before)
    moving = moving.detach().requires_grad_()
    (expected,) = torch.autograd.grad(loss_of(discriminator, normal, moving), moving)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-14)
    for buffer, after in zip(discriminator.buffers(), tracked, strict=True):
        torch.testing.assert_close(buffer, after)
    assert discriminator.norm.num_batches_tracked == 1


def test_ascent_raises_the_loss_to_first_order() -> None:
    discriminator, normal, moving = random_case()
    settings = AscentSettings(steps=1, rate=1e-4)
    slope = AscentGradient(discriminator, normal).gradient(moving)
    higher = ascend(discriminator, normal, normal, moving - normal, scalars(0, 99), settings)
    gained = loss_of(discriminator, normal, higher) - loss_of(discriminator, normal, moving)
    assert gained.item() == pytest.approx(1e-4 * slope.norm(dim=1).sum().item(), rel=1e-2)


def test_ascent_of_a_linear_score_goes_against_its_weights() -> None:
    _, normal, moving = random_case()
    narrow = Discriminator(12, 1, seeded()).double()
    with torch.no_grad():
        narrow.last.weight.fill_(1)
        narrow.norm.bias.fill_(4)  # far from the activation's kink
    settings = AscentSettings(steps=1, rate=0.01)
    moved = ascend(narrow, normal, normal, moving - normal, scalars(0, 99), settings) - moving
    against = -narrow.first.weight / narrow.first.weight.norm()
    torch.testing.assert_close(moved, 0.01 * against.expand_as(moved), rtol=1e-4, atol=1e-7)


def test_updates_have_the_length_of_the_rate_and_the_last_is_projected() -> None:
    discriminator, normal, moving = random_case()
    shell = scalars(0.5, 1)

    def after(steps: int) -> Tensor:
        settings = AscentSettings(steps=steps, rate=1e-3, project_every=3)
        return ascend(discriminator, normal, normal, moving - normal, shell, settings) - normal

    offsets = [moving - normal, *map(after, (4, 5, 6))]
    # A shorter ascent than the interval would be projected at its own end.
    torch.testing.assert_close(
        (offsets[2] - offsets[1]).norm(dim=1), torch.full((300,), 1e-3).double(), rtol=1e-5, atol=0
    )
    norms = offsets[3].norm(dim=1)
    assert norms.min() >= 0.5 - 1e-6 and norms.max() <= 1 + 1e-6
    assert offsets[0].norm(dim=1).max() > 1.01


def test_an_interval_beyond_the_ascent_projects_at_its_end() -> None:
    discriminator, normal, moving = random_case()
    ends = [
        ascend(
            discriminator,
            normal,
            normal,
            moving - normal,
            scalars(0.5, 1),
            AscentSettings(steps=3, project_every=every),
        )
        for every in (3, 9)
    ]
    assert torch.equal(*ends)
    assert (ends[0] - normal).norm(dim=1).max() <= 1 + 1e-6


def test_gradients_reach_the_adaptor_through_the_moved_vectors() -> None:
    discriminator, normal, moving = random_case(5)
    normal.requires_grad_()
    noise = (moving - normal).detach()
    moved = ascend(discriminator, normal, normal, noise, scalars(0.1, 9), AscentSettings())
    (gradient,) = torch.autograd.grad(moved.sum(), normal)
    torch.testing.assert_close(gradient, torch.ones_like(gradient))


def disc(radius: int) -> np.ndarray:
    y, x = np.mgrid[:289, :289] - 144
    return np.stack([np.where(x**2 + y**2 < radius**2, 200, 20).astype(np.uint8)] * 3)


def test_judge_on_discs() -> None:
    wide, narrow = bright_spot(disc(90)), bright_spot(disc(40))
    assert (wide.count, round(wide.radius, 2), wide.hypothesis) == (309, 12.65, "hypersphere")
    assert (narrow.count, round(narrow.radius, 2), narrow.hypothesis) == (225, 11.05, "manifold")


def test_judge_on_images_without_structure() -> None:
    flat = bright_spot(np.full((3, 64, 64), 90, dtype=np.uint8))
    assert (flat.count, flat.radius, flat.hypothesis) == (1, 0, "manifold")
    noise = np.random.default_rng(0).integers(0, 256, (3, 289, 289)).astype(np.uint8)
    assert bright_spot(noise).hypothesis == "manifold"
    assert bright_spot(np.zeros((3, 32, 32), dtype=np.uint8)).count == 0
    assert judge(np.zeros((2, 3, 32, 32), dtype=np.float32)) == "manifold"


def test_judge_looks_at_the_average_of_all_images() -> None:
    normals = np.stack([disc(90), disc(90) // 2, disc(90)]).astype(np.float32) / 255
    assert judge(normals) == "hypersphere"
    assert np.array_equal(
        average_image(normals), np.rint((disc(90) * 2.0 + disc(90) // 2) / 3).astype(np.uint8)
    )
