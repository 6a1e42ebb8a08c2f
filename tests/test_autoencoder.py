"""Auto-encoders: their networks, losses and maps; what they find; the runner's forms."""

import json

import numpy as np
import pytest
import torch
from autosearch_runners.autoencoder.detector import AutoEncoderMaps, unlike
from autosearch_runners.autoencoder.networks import CodeAutoEncoder, make_autoencoder
from autosearch_runners.autoencoder.runner import PRESETS, AutoEncoderRunner
from autosearch_runners.ssim import dissimilarity
from canonical import check_without_effect
from scipy import ndimage
from torch import Tensor, nn
from unet_parts import noise, unet_by_hand

from autosearch.backbones import profile
from autosearch.contracts.detector import TrialContext
from autosearch.errors import Infeasible
from autosearch.spec.reading import parse_spec
from autosearch.spec.space import Params
from autosearch.testing.images import image_set

TINY: Params = {"base_width": 8, "code_size": 16, "epochs": 1, "batch": 4}


@pytest.fixture(scope="module")
def runner() -> AutoEncoderRunner:
    content = {
        "study": {"name": "test", "runner": "autoencoder"},
        "space": {"lr": [1e-4, 1e-3]},
        "objectives": ["gflops", "rwap"],
    }
    return AutoEncoderRunner(parse_spec(content))


def built(runner: AutoEncoderRunner, params: Params, size: tuple[int, int] = (32, 32)):
    return runner.build(runner.canonical(TINY | params), TrialContext(0, "cpu", size))


def test_squared_differences_are_of_normalised_pixels() -> None:
    """Pixels are divided by 0.5, so that their differences count fourfold."""
    first = torch.zeros(1, 3, 8, 8)
    second = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    expected = 4 * (0.01 + 0.04 + 0.09) / 3
    torch.testing.assert_close(unlike(first, second, "l2"), torch.full((1, 8, 8), expected))
    assert unlike(first, first, "l2").max() == 0


def test_the_structural_loss_is_0_for_equal_images() -> None:
    images = noise(1, 3, 16, 16)
    assert unlike(images, images, "ssim").abs().max() < 1e-5
    other = noise(1, 3, 16, 16, seed=1)
    assert torch.equal(unlike(images, other, "ssim"), dissimilarity(images, other))


class Darker(nn.Module):
    """Rebuilds images less bright."""

    def forward(self, images: Tensor) -> Tensor:
        return images * 0.8


@pytest.mark.parametrize("loss", ["l2", "ssim"])
@pytest.mark.parametrize("sigma", [0.0, 1.5])
def test_maps_are_losses_of_pixels_smoothed(loss: str, sigma: float) -> None:
    images = noise(1, 3, 20, 24)
    module = AutoEncoderMaps(Darker(), (20, 24), loss, sigma)  # type: ignore[arg-type]
    plain = unlike(images, images * 0.8, loss)[0].numpy()  # type: ignore[arg-type]
    expected = ndimage.gaussian_filter(plain, sigma, mode="reflect") if sigma else plain
    np.testing.assert_allclose(module(images)[0].numpy(), expected, rtol=1e-4, atol=1e-5)


def code_network_by_hand(width: int, depth: int, code: int, size: tuple[int, int]) -> int:
    """FLOPs of the papers' table, and of its mirror image with 3 x 3 throughout."""
    table = [(1, True)] * (depth - 4) + [
        (1, True), (1, True), (1, False), (2, True), (2, False), (4, True), (2, False), (1, False),
    ]  # fmt: skip
    pixels, before, flops = size[0] * size[1], 3, 0
    for times, halves in table:
        finer, after = pixels, width * times
        pixels = pixels // 4 if halves else pixels
        taps = 16 if halves else 9
        flops += (2 * taps * before + 1) * after * pixels + after * pixels
        # Its mirror image makes the finer map; the last of all is not activated.
        flops += (2 * 9 * after + 1) * before * finer + (before * finer if before != 3 else 0)
        before = after
    flops += (2 * width * pixels + 1) * code
    return flops + (2 * code + 1) * width * pixels + width * pixels


@pytest.mark.parametrize(("depth", "size"), [(4, (32, 48)), (5, (64, 32))])
def test_the_code_network_costs_what_its_table_says(depth: int, size: tuple[int, int]) -> None:
    grid = size[0] // 2**depth, size[1] // 2**depth
    found = profile(CodeAutoEncoder(grid, 8, depth, 20), (1, 3, *size))
    assert found.flops == code_network_by_hand(8, depth, 20, size)
    assert not found.uncounted


def test_all_that_passes_is_the_code() -> None:
    """Where codes are equal so is what is rebuilt, and it is an image of the same size."""
    network = make_autoencoder("mvtec", (40, 50), 4, 5, 6, True, seed=0)
    inner = network.network
    assert isinstance(inner, CodeAutoEncoder)
    codes: list[Tensor] = []
    inner.encode.register_forward_hook(lambda *call: codes.append(call[2]))
    first, second = network(noise(1, 3, 40, 50)), network(noise(1, 3, 40, 50, seed=1))
    assert first.shape == (1, 3, 40, 50) and codes[0].shape == (1, 6, 1, 1)
    assert not torch.equal(first, second)
    with torch.no_grad():
        inner.encode.weight.zero_()
    assert torch.equal(network(noise(1, 3, 40, 50)), network(noise(1, 3, 40, 50, seed=1)))


def test_networks_work_around_the_middle_of_the_range() -> None:
    """Nothing made of an image is middle grey, and white arrives as 1."""
    network = make_autoencoder("unet", (32, 32), 4, 4, 6, True, seed=0).eval()
    shown: list[Tensor] = []
    network.network.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    for parameter in network.parameters():
        parameter.data.zero_()
    torch.testing.assert_close(network(torch.ones(1, 3, 32, 32)), torch.full((1, 3, 32, 32), 0.5))
    assert shown[0].min() == 1


@pytest.mark.parametrize("skips", [True, False])
def test_a_unet_has_levels_of_twice_the_width(runner: AutoEncoderRunner, skips: bool) -> None:
    params: Params = {"architecture": "unet", "depth": 5, "skips": skips}
    cost = built(runner, params, (64, 64)).cost()
    widths = [8 * n for n in (1, 2, 4, 8, 8, 8)]
    parameters, flops = unet_by_hand(3, 3, widths, skips, 64 * 64)
    # Maps are smoothed by two products of matrices.
    assert (cost.parameters, cost.flops) == (parameters, flops + 2 * 2 * 64**3)


@pytest.mark.parametrize("loss", ["l2", "ssim"])
def test_a_defect_stands_out_after_a_short_training(runner: AutoEncoderRunner, loss: str) -> None:
    params: Params = {"epochs": 15, "lr": 1e-2, "loss": loss, "depth": 4, "smoothing_sigma": 1.0}
    detector = built(runner, params)
    detector.fit(image_set(32, 16, 0, seed=0))
    asked = image_set(32, 4, 4, seed=1)
    maps = detector.anomaly_maps(torch.from_numpy(asked.pixels.copy())).numpy()
    assert maps[asked.masks].mean() > 1.5 * maps[~asked.masks].mean()
    (panel,) = json.loads(detector.artifacts()["curves.json"])["panels"]
    (curve,) = panel["series"].values()
    assert list(panel["series"]) == [loss] and len(curve) == 15 and curve[-1] < 0.8 * curve[0]


def test_weights_decay(runner: AutoEncoderRunner) -> None:
    """A large decay leaves smaller weights."""

    def size(decay: float) -> float:
        detector = built(runner, {"weight_decay": decay, "epochs": 5, "lr": 1e-2})
        detector.fit(image_set(32, 4, 0, seed=0))
        return sum(float(one.square().sum()) for one in detector.module().parameters())

    assert size(0.1) < 0.5 * size(0.0)


def test_memory_grows_with_batch_and_width(runner: AutoEncoderRunner) -> None:
    one, two = (built(runner, {"batch": batch}).memory(100) for batch in (4, 8))
    assert 1.5 * one < two < 2 * one < built(runner, {"base_width": 64}).memory(100)


@pytest.mark.parametrize(
    ("params", "size", "reason"),
    [
        ({}, (16, 64), "too small for a network"),
        ({"architecture": "unet"}, (32, 32), "training needs 2"),
    ],
)
def test_images_may_be_too_small(runner: AutoEncoderRunner, params, size, reason) -> None:
    with pytest.raises(Infeasible, match=reason):
        built(runner, params, size)


def test_presets_are_those_of_the_tables(runner: AutoEncoderRunner) -> None:
    for name, table in PRESETS.items():
        canonical = runner.canonical({"preset": name})
        assert {key: canonical[key] for key in table} == table and "preset" not in canonical
        assert runner.canonical(json.loads(json.dumps(canonical))) == canonical
    miad = PRESETS["miad"]
    assert (miad["lr"], miad["weight_decay"]) == (1e-4, 5e-4)
    assert (miad["epochs"], miad["batch"], miad["architecture"]) == (100, 16, "unet")


def test_what_another_architecture_has_is_without_effect(runner: AutoEncoderRunner) -> None:
    check_without_effect(runner, TINY, {"skips": False})
    check_without_effect(runner, TINY | {"architecture": "unet"}, {"code_size": 7})
    assert runner.canonical(TINY) != runner.canonical(TINY | {"code_size": 7})
