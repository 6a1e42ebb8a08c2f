"""DRAEM: its networks, losses, schedule and maps; what it finds; the runner's forms."""

import json

import numpy as np
import pytest
import torch
from autosearch_runners.draem.anomalies import Batch
from autosearch_runners.draem.detector import losses, training_of
from autosearch_runners.draem.networks import DraemMaps, DraemNetwork, make_network
from autosearch_runners.draem.runner import ORIGINAL, PRESETS, DraemRunner
from autosearch_runners.training import Schedule
from canonical import check_without_effect
from numpy.typing import NDArray
from torch import Tensor, nn
from unet_parts import unet_by_hand

from autosearch.contracts.detector import TrialContext
from autosearch.errors import ConfigError, Infeasible
from autosearch.spec.reading import parse_spec
from autosearch.spec.sections import StudySpec
from autosearch.spec.space import Params
from autosearch.testing.images import image_set

TINY: Params = {"base_width": 4, "disc_width": 4, "epochs": 1, "batch": 4, "smoothing": 3}


def spec_of(space: dict[str, object] | None = None, **synthesis: str) -> StudySpec:
    return parse_spec(
        {
            "study": {"name": "test", "runner": "draem"},
            "space": space or {"lr": [1e-4, 1e-3]},
            "objectives": ["gflops", "rwap"],
            "synthesis": synthesis,
        }
    )


@pytest.fixture(scope="module")
def runner() -> DraemRunner:
    return DraemRunner(spec_of())


class Fixed(nn.Module):
    """Stands for the network with answers that are given."""

    def __init__(self, repaired: Tensor, logits: Tensor) -> None:
        super().__init__()
        self.answers = repaired, logits

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.answers


def losses_of(repaired: Tensor, logits: Tensor, batch: Batch) -> dict[str, float]:
    found = losses(Fixed(repaired, logits), batch, "cpu")  # type: ignore[arg-type]
    return {name: loss.item() for name, loss in found.items()}


def plain(value: float) -> Tensor:
    return torch.full((1, 3, 16, 16), value)


def logits_of(probability: float) -> Tensor:
    """Two channels whose softmax gives anomalies this probability."""
    odds = float(np.log(probability / (1 - probability)))
    return torch.tensor([0.0, odds]).view(1, 2, 1, 1).expand(1, 2, 16, 16)


def test_losses_of_plain_images() -> None:
    """Squared error 0.25, SSIM of luminance alone, focal loss -(1 - p)^2 ln p of the right one."""
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[:, :4] = True
    found = losses_of(plain(0.7), logits_of(0.8), Batch(plain(0.2), plain(0.5), mask, None))
    similar = (2 * 0.2 * 0.7 + 1e-4) / (0.2**2 + 0.7**2 + 1e-4)
    right, wrong = -(0.2**2) * np.log(0.8), -(0.8**2) * np.log(0.2)
    assert found == {
        "squared": pytest.approx(0.25, rel=1e-5),
        "structure": pytest.approx(1 - similar, rel=1e-4),
        "focal": pytest.approx(right / 4 + wrong * 3 / 4, rel=1e-3),
    }


def test_nothing_is_lost_where_all_is_right() -> None:
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    found = losses_of(plain(0.4), logits_of(1e-6), Batch(plain(0.4), plain(0.4), mask, None))
    assert all(loss == pytest.approx(0, abs=1e-5) for loss in found.values())


def test_losses_look_at_pixels_that_count() -> None:
    """What is wrong elsewhere costs nothing, and nothing is learnt where no pixel counts."""
    mask, counted = (torch.zeros(1, 16, 16, dtype=torch.bool) for _ in range(2))
    mask[:, 8:], counted[:, :2] = True, True
    repaired = plain(0.4)
    repaired[:, :, 8:] = 0.9
    of_all = losses_of(repaired, logits_of(1e-6), Batch(plain(0.4), plain(0.4), mask, None))
    found = losses_of(repaired, logits_of(1e-6), Batch(plain(0.4), plain(0.4), mask, counted))
    assert all(loss > 0.05 for loss in of_all.values())
    assert all(loss == pytest.approx(0, abs=1e-5) for loss in found.values())
    nowhere = Batch(plain(0.4), plain(0.4), mask, torch.zeros_like(counted))
    assert set(losses_of(repaired, logits_of(0.5), nowhere).values()) == {0.0}


def test_the_rate_is_that_of_the_code_and_falls_twice() -> None:
    """Adam goes one rate a step while the gradient stays the same: 1e-4, 2e-5, 4e-6."""

    class Slope(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value = nn.Parameter(torch.zeros((), dtype=torch.float64))

    network, places = Slope(), []

    def step(batch: NDArray[np.intp], rng: np.random.Generator) -> dict[str, Tensor]:
        places.append(network.value.item())
        return {"loss": network.value}

    preset = PRESETS["miad"]
    schedule = Schedule(epochs=int(str(preset["epochs"])), lr=float(str(preset["lr"])))
    for _ in training_of(network, schedule, 0).run(1, step):
        pass
    rates = -np.diff([*places, network.value.item()])
    assert len(rates) == 700
    for epoch, rate in (
        (0, 1e-4),
        (559, 1e-4),
        (560, 2e-5),
        (629, 2e-5),
        (630, 4e-6),
        (699, 4e-6),
    ):
        assert rates[epoch] == pytest.approx(rate, rel=1e-3), epoch


@pytest.mark.parametrize("smoothing", [1, 3, 21])
def test_maps_are_means_of_probabilities(smoothing: int) -> None:
    """Over the part of a window that lies inside the image."""
    torch.manual_seed(0)
    logits = torch.randn(1, 2, 12, 15)
    module = DraemMaps(Fixed(torch.zeros(1), logits), smoothing)  # type: ignore[arg-type]
    found = module(torch.zeros(1, 3, 12, 15))[0].numpy()
    likely = (logits[0, 1].exp() / logits[0].exp().sum(0)).numpy()
    reach = smoothing // 2
    for y, x in np.ndindex(12, 15):
        window = likely[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        assert found[y, x] == pytest.approx(window.mean(), rel=1e-4)


def test_the_second_network_sees_what_was_repaired_and_the_image() -> None:
    network = make_network((64, 64), 4, 4, seed=0).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        repaired, logits = network(images)
        expected = network.discriminative(torch.cat([network.reconstructive(images), images], 1))
    assert repaired.shape == images.shape and torch.equal(logits, expected)


def test_fresh_networks_follow_the_seed_alone() -> None:
    torch.manual_seed(5)
    first, drawn = make_network((64, 64), 4, 4, seed=1), torch.rand(())
    torch.manual_seed(5)
    assert torch.rand(()) == drawn
    again, other = (make_network((64, 64), 4, 4, seed=seed) for seed in (1, 2))

    def weight(network: DraemNetwork) -> Tensor:
        return next(network.parameters())

    assert torch.equal(weight(first), weight(again))
    assert not torch.equal(weight(first), weight(other))


@pytest.mark.parametrize(("base_width", "disc_width"), [(32, 16), (8, 4)])
def test_fresh_weights_are_the_codes_and_larger_in_narrow_networks(
    base_width: int, disc_width: int
) -> None:
    """The deviation of a sum over inputs stays the same: four times the weight, a 16th of them."""
    network = make_network((64, 64), base_width, disc_width, seed=1)
    for part in (network.reconstructive, network.discriminative):
        convolutions = [m.weight.flatten() for m in part.modules() if isinstance(m, nn.Conv2d)]
        expected = 0.02 * (128 / base_width) ** 0.5
        assert torch.cat(convolutions).std().item() == pytest.approx(expected, rel=0.03)


def built(runner: DraemRunner, params: Params, size: tuple[int, int] = (64, 64)):
    return runner.build(runner.canonical(TINY | params), TrialContext(0, "cpu", size))


def test_cost_is_that_of_both_networks(runner: DraemRunner) -> None:
    """Without smoothing; with it each of two means costs an operation a pixel."""
    pixels = 64 * 96
    repairing = unet_by_hand(3, 3, [4 * n for n in (1, 2, 4, 8, 8)], False, pixels)
    seeing = unet_by_hand(6, 2, [6 * n for n in (1, 2, 4, 8, 8, 8)], True, pixels)
    for smoothing, more in ((1, 0), (21, 2 * pixels)):
        params: Params = {"disc_width": 6, "smoothing": smoothing}
        cost = built(runner, params, (64, 96)).cost()
        assert cost.parameters == repairing[0] + seeing[0]
        assert cost.flops == repairing[1] + seeing[1] + more


def test_memory_grows_with_batch_and_width(runner: DraemRunner) -> None:
    one, two = (built(runner, {"batch": batch}).memory(100) for batch in (4, 8))
    wide = built(runner, {"base_width": 32}).memory(100)
    assert 1.5 * one < two < 2 * one < wide


@pytest.mark.parametrize("size", [(32, 32), (16, 128)])
def test_images_may_be_too_small(runner: DraemRunner, size: tuple[int, int]) -> None:
    with pytest.raises(Infeasible, match=f"{size[0]} x {size[1]} pixels"):
        built(runner, {}, size)


def test_a_made_up_defect_is_found_after_a_short_training(runner: DraemRunner) -> None:
    training: Params = {"epochs": 12, "lr": 5e-3, "smoothing": 5}
    plain: Params = {"rotation_degrees": 0.0, "blend_max": 0.3, "perlin_max_exp": 4}
    size = (32, 64)
    detector = built(runner, training | plain, size)
    detector.fit(image_set(size, 16, 0, seed=0))
    asked = image_set(size, 4, 4, seed=1)
    maps = detector.anomaly_maps(torch.from_numpy(asked.pixels.copy())).numpy()
    assert maps[asked.masks].mean() > 1.5 * maps[~asked.masks].mean()
    (panel,) = json.loads(detector.artifacts()["curves.json"])["panels"]
    assert set(panel["series"]) == {"squared", "structure", "focal"}
    assert all(len(curve) == 12 and curve[-1] < curve[0] for curve in panel["series"].values())


def test_half_precision_trains_nearly_the_same(runner: DraemRunner) -> None:
    """Losses are computed in single precision, whatever the networks are."""

    def curves(mixed: bool) -> dict[str, list[float]]:
        detector = built(runner, {"mixed_precision": mixed}, (32, 64))
        detector.fit(image_set((32, 64), 4, 0, seed=0))
        (panel,) = json.loads(detector.artifacts()["curves.json"])["panels"]
        series: dict[str, list[float]] = panel["series"]
        return series

    whole, half = curves(False), curves(True)
    assert half != whole, "the networks round"
    for name, losses_of_epochs in whole.items():
        assert half[name] == pytest.approx(losses_of_epochs, rel=0.05), name


def test_presets_are_those_of_the_tables(runner: DraemRunner) -> None:
    """Authors' code and MIAD's appendix; written out they mean the same."""
    for name, table in PRESETS.items():
        canonical = runner.canonical({"preset": name})
        assert {key: canonical[key] for key in table} == table and "preset" not in canonical
        assert runner.canonical(json.loads(json.dumps(canonical))) == canonical
    assert (ORIGINAL["lr"], ORIGINAL["batch"], ORIGINAL["epochs"]) == (1e-4, 8, 700)
    different = {key for key in ORIGINAL if PRESETS["miad"][key] != ORIGINAL[key]}
    assert different == {"texture_ops", "rotation_degrees"}
    assert runner.canonical({"preset": "miad", "epochs": 5})["epochs"] == 5


def test_textures_come_from_the_folder_that_the_spec_names(runner: DraemRunner) -> None:
    check_without_effect(runner, TINY, {"texture_source": "procedural"})
    check_without_effect(runner, TINY, {"preset": "small"})
    named = DraemRunner(spec_of(textures="/somewhere"))
    assert named.canonical({})["texture_source"] == "folder"
    with pytest.raises(ConfigError, match="names no folder"):
        DraemRunner(spec_of({"texture_source": ["folder", "self"]}))
