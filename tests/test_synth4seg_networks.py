"""Networks, loss and location map of Synth4Seg, one at a time."""

import math

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from autosearch_runners.synth4seg.location import allowed_areas, l1_penalty, sample_factors
from autosearch_runners.synth4seg.losses import segmentation_loss
from autosearch_runners.synth4seg.networks import ENCODERS, UNet, make_location_net, make_unet
from hypothesis import given, strategies as st
from torch import Tensor

from autosearch.backbones.complexity import profile
from autosearch.errors import WeightsError

LITE, RESNET = ENCODERS


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def small() -> UNet:
    return make_unet(LITE, None, 0, width=64).eval()


@pytest.mark.parametrize("side", [32, 50, 96])
def test_images_of_any_size_get_a_logit_a_pixel(small, side) -> None:
    with torch.no_grad():
        logits = small(rand(2, 3, side, side + 7))
    assert logits.shape == (2, side, side + 7) and logits.isfinite().all()
    assert logits.std() > 0


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_encoder_is_the_given_classifier_without_its_head(encoder) -> None:
    torch.manual_seed(3)
    classifier = timm.create_model(encoder, pretrained=False)
    network = make_unet(encoder, classifier.state_dict(), 0, width=64).eval()
    images = rand(1, 3, 64, 64)
    config = classifier.pretrained_cfg
    mean, std = (torch.tensor(config[name]).view(3, 1, 1) for name in ("mean", "std"))
    seen: list[list[Tensor]] = []
    network.network.encoder.register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.no_grad():
        network(images)
        expected = classifier.eval().forward_intermediates(
            (images - mean) / std, intermediates_only=True
        )
    for ours, wanted in zip(seen[0][1:], expected, strict=True):
        torch.testing.assert_close(ours, wanted)
    own = next(network.network.encoder.parameters())
    assert own.data_ptr() not in {p.data_ptr() for p in classifier.parameters()}


def test_networks_are_drawn_from_their_seed_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, same, other = (make_unet(LITE, None, seed, width=64) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    images = rand(1, 3, 32, 32)
    maps = [network.eval()(images) for network in (first, same, other)]
    assert torch.equal(maps[0], maps[1]) and not torch.equal(maps[0], maps[2])


def test_other_weights_are_refused() -> None:
    state = timm.create_model(RESNET, pretrained=False).state_dict()
    with pytest.raises(WeightsError, match="not the weights of tf_efficientnet_lite0"):
        make_unet(LITE, state, 0)


def test_bias_moves_all_logits(small) -> None:
    images = rand(1, 3, 32, 32)
    raised = make_unet(LITE, None, 0, bias=2.5, width=64).eval()
    with torch.no_grad():
        torch.testing.assert_close(raised(images), small(images) + 2.5)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_weight_is_used(encoder) -> None:
    network = make_unet(encoder, None, 0, width=64)
    network(rand(2, 3, 64, 64)).square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_width_is_what_the_way_up_costs() -> None:
    costs = [profile(make_unet(LITE, None, 0, width=w), (1, 3, 64, 64)) for w in (256, 128, 64)]
    macs = [cost.macs for cost in costs]
    assert macs[0] > 1.5 * macs[1] > 2 * macs[2]
    assert not costs[0].uncounted


def test_a_fresh_location_net_says_the_same_high_number_everywhere() -> None:
    network = make_location_net(LITE, None, 0, width=64)
    for mode in (True, False):
        maps = torch.sigmoid(network.train(mode)(rand(2, 3, 64, 64)))
        torch.testing.assert_close(maps, torch.full((2, 64, 64), 0.95257413))
    maps.mean().backward()
    assert network.last.weight.grad is not None and network.last.weight.grad.any()


def test_loss_in_closed_form() -> None:
    target = torch.zeros(1, 8, 8)
    target[:, :2] = 1  # 16 of 64 pixels
    half = segmentation_loss(torch.zeros(1, 8, 8), target)
    assert half.item() == pytest.approx((math.log(2) + 1 - 17 / 49) / 2, rel=1e-6)
    certain = 40 * (2 * target - 1)
    assert segmentation_loss(certain, target).item() == pytest.approx(0, abs=1e-6)
    wrong = segmentation_loss(-certain, target).item()
    assert wrong == pytest.approx((40 + 1 - 1 / 65) / 2, rel=1e-5)
    empty = torch.zeros(1, 8, 8)
    assert segmentation_loss(torch.full((1, 8, 8), -40.0), empty).item() == pytest.approx(0)


def test_loss_of_each_image_matches_torch() -> None:
    logits, targets = 6 * rand(5, 9, 7) - 3, (rand(5, 9, 7, seed=1) > 0.8).float()
    losses = segmentation_loss(logits, targets)
    assert losses.shape == (5,)
    for loss, logit, target in zip(losses, logits, targets, strict=True):
        p = torch.sigmoid(logit.double()).flatten()
        t = target.double().flatten()
        dice = 1 - (2 * (p @ t) + 1) / (p.sum() + t.sum() + 1)
        expected = F.binary_cross_entropy(p, t) / 2 + dice / 2
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_loss_has_second_derivatives() -> None:
    logits = (4 * rand(2, 3, 3).double() - 2).requires_grad_()
    targets = (rand(2, 3, 3, seed=1) > 0.5).double()
    assert torch.autograd.gradgradcheck(lambda x: segmentation_loss(x, targets), logits)


def test_places_above_the_threshold_are_allowed() -> None:
    maps = torch.tensor([[[0.2, 0.61], [0.6, 0.9]], [[0.1, 0.2], [0.3, 0.0]]])
    allowed = allowed_areas(maps.requires_grad_(), 0.6)
    assert allowed.tolist() == [[[False, True], [False, True]], [[True] * 2] * 2]
    assert allowed.dtype == bool


@pytest.mark.parametrize("value", [0.0, 0.6, float("nan")])
def test_a_map_without_a_place_allows_all(value) -> None:
    assert allowed_areas(torch.full((3, 4, 5), value), 0.6).all()


@given(st.floats(0, 1, width=32), st.integers(0, 100))
def test_factor_of_a_constant_map_is_the_constant(constant: float, seed: int) -> None:
    areas = (torch.from_numpy(np.random.default_rng(seed).random((3, 2, 6, 5))) < 0.4).float()
    factors = sample_factors(torch.full((2, 6, 5), constant), areas)
    assert factors.shape == (3, 2)
    expected = torch.where(areas.any(dim=3).any(dim=2), constant, 1.0)
    torch.testing.assert_close(factors, expected)
    ones = sample_factors(torch.ones(2, 6, 5), areas)
    assert torch.equal(ones, torch.ones(3, 2))


def test_factor_is_a_mean_over_the_pasted_area_with_its_gradient() -> None:
    maps = rand(2, 6, 5).requires_grad_()
    areas = torch.zeros(4, 2, 6, 5)
    areas[0, 0, 1:3, 2] = areas[1, 1, 4] = 1
    factors = sample_factors(maps, areas)
    assert factors[0, 0].item() == pytest.approx(maps[0, 1:3, 2].mean().item())
    assert factors[1, 1].item() == pytest.approx(maps[1, 4].mean().item())
    assert (factors.flatten()[[1, 2, 4, 5, 6, 7]] == 1).all()
    (slope,) = torch.autograd.grad(factors.sum(), maps)
    expected = areas[0] / 2 + areas[1] / 5
    torch.testing.assert_close(slope, expected)


def test_penalty_is_a_norm_over_pixels_and_a_mean_over_images() -> None:
    maps = torch.tensor([[[0.5, 0.1, 0.3]], [[1.0, 0.9, 0.2]]])
    assert l1_penalty(maps, "sum").item() == pytest.approx(1.5)
    assert l1_penalty(maps, "mean").item() == pytest.approx(0.5)
