"""The training that several runners share, and the maps they train on."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from autosearch_runners.frozen_maps import FrozenMaps, KeptMaps, mean_where
from autosearch_runners.presets import preset, with_preset
from autosearch_runners.training import Schedule, Training, schedule_parameters
from numpy.typing import NDArray
from torch import Tensor, nn

from autosearch.backbones import FeatureExtractor, FeatureInfo
from autosearch.spec import Params


class Mean(nn.Module):
    """One number, which learns the mean of what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(()))


def learnt(
    targets: list[float],
    schedule: Schedule,
    optimiser: Callable[..., torch.optim.Optimizer],
    **more: Any,
) -> tuple[Mean, Training]:
    network = Mean()
    made = optimiser(network.parameters(), lr=schedule.lr)
    training = Training(network, made, schedule, 0, **more)
    values = torch.tensor(targets)

    def step(batch: NDArray[np.intp], rng: np.random.Generator) -> dict[str, Tensor]:
        return {"half": (network.value - values[torch.from_numpy(batch)]).square().mean() / 2}

    for _ in training.run(len(targets), step):
        pass
    return network, training


def test_a_step_is_that_of_the_optimiser() -> None:
    """Gradient descent on half the squared distance halves it with a rate of a half."""
    network, training = learnt([8.0], Schedule(epochs=3, lr=0.5), torch.optim.SGD)
    assert network.value.item() == pytest.approx(7.0)
    assert [one["half"] for one in training.curve] == pytest.approx([32, 8, 2])
    drawn = json.loads(training.curves()["curves.json"])
    assert drawn["panels"][0]["series"] == {"half": pytest.approx([32, 8, 2])}


def test_the_rate_falls_at_milestones() -> None:
    """A step with a tenth of the rate goes a tenth of the way."""
    schedule = Schedule(epochs=2, lr=0.5)
    network, _ = learnt([8.0], schedule, torch.optim.SGD, milestones=(1,), factor=0.1)
    assert network.value.item() == pytest.approx(4 + 0.05 * 4)


def test_gradients_are_clipped() -> None:
    """However far it is, a step is no longer than the rate times the bound."""
    network, _ = learnt([80.0], Schedule(epochs=1, lr=0.5), torch.optim.SGD, clip=1.0)
    assert network.value.item() == pytest.approx(0.5)


def test_patience_takes_the_best_epoch() -> None:
    """A rate that overshoots ever more is stopped, and what it had at first is kept."""
    schedule = Schedule(epochs=50, lr=2.5, patience=3)
    network, training = learnt([1.0] * 8, schedule, torch.optim.SGD)
    held_out = [one["held_out"] for one in training.curve]
    assert len(held_out) == 1 + 3 and held_out == sorted(held_out)
    assert network.value.item() == pytest.approx(2.5)


def test_a_training_pauses_twenty_times_at_most() -> None:
    """Shares of epochs that rise and stay below 1."""
    network = Mean()
    training = Training(network, torch.optim.Adam(network.parameters()), Schedule(epochs=41), 0)

    def step(batch: NDArray[np.intp], rng: np.random.Generator) -> dict[str, Tensor]:
        return {"loss": network.value.square()}

    shares = list(training.run(2, step))
    assert shares == sorted(shares) and len(shares) <= 20 and shares[-1] < 1


def test_draws_of_a_step_are_seeded_and_leave_others_alone() -> None:
    """Torch's global numbers are the step's own for its duration."""

    def seen() -> list[float]:
        network, numbers = Mean(), []
        optimiser = torch.optim.SGD(network.parameters(), lr=0.1)

        def step(batch: NDArray[np.intp], rng: np.random.Generator) -> dict[str, Tensor]:
            numbers.extend([torch.rand(()).item(), float(rng.random())])
            return {"loss": network.value.square()}

        for _ in Training(network, optimiser, Schedule(epochs=2, batch=2), 3).run(4, step):
            pass
        return numbers

    torch.manual_seed(5)
    first, outside = seen(), torch.rand(()).item()
    torch.manual_seed(5)
    assert torch.rand(()).item() == outside
    assert seen() == first and len(set(first)) == len(first)


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    """It says in which epoch."""
    network = Mean()
    training = Training(network, torch.optim.SGD(network.parameters()), Schedule(), 0)

    def step(batch: NDArray[np.intp], rng: np.random.Generator) -> dict[str, Tensor]:
        return {"loss": network.value * float("nan")}

    with pytest.raises(ArithmeticError, match="epoch 1"):
        list(training.run(2, step))


class Halves(FeatureExtractor):
    """Two maps: means of 2 x 2 and of 4 x 4 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_info = (FeatureInfo(0, 3, 2, "first"), FeatureInfo(1, 3, 4, "second"))
        self.mean, self.std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
        self.first, self.second, self.calls = nn.AvgPool2d(2), nn.AvgPool2d(4), 0

    def forward(self, images: Tensor) -> list[Tensor]:
        self.calls += len(images)
        return [self.first(images), self.second(images)]


@pytest.mark.parametrize("most", [1 << 20, 5 * 3 * 5 * 2 + 450, 0])
def test_kept_maps_are_those_of_the_backbone(most: int) -> None:
    """In single precision, in half where they would not fit, and computed anew where none fit."""
    images = torch.rand(5, 3, 8, 8)
    maps = FrozenMaps(Halves())
    kept = KeptMaps(maps, images, "cpu", most_bytes=most)
    chosen = np.array([3, 1])
    for _ in range(3):
        found = kept[chosen]
    for one, expected in zip(found, Halves()(images[[3, 1]] * 2 - 1), strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-3, atol=1e-3)
    halves = maps.extractor
    assert isinstance(halves, Halves)
    # One image to look at, and then all once or the two of them three times.
    assert halves.calls == 1 + (5 if most else 3 * 2)
    assert kept.grids == [(4, 4), (2, 2)] and kept.counted(chosen) is None


def test_cells_count_where_most_of_their_pixels_do() -> None:
    """At every level."""
    valid = np.ones((1, 8, 8), dtype=bool)
    valid[0, :4] = False
    kept = KeptMaps(FrozenMaps(Halves()), torch.rand(1, 3, 8, 8), "cpu", valid)
    cells = kept.counted(np.array([0]))
    assert cells is not None
    assert cells[0][0, :, 0].tolist() == [False, False, True, True]
    assert cells[1][0, :, 0].tolist() == [False, True]
    values = torch.arange(4.0).view(1, 2, 2)
    assert mean_where(values, cells[1]).item() == 2.5
    assert mean_where(values, None).item() == 1.5


def test_presets_give_way_to_what_is_named() -> None:
    """What a space names, then the preset, then the defaults."""
    presets: dict[str, Params] = {"miad": {"epochs": 100}}
    known = {"preset": preset(presets), **schedule_parameters(Schedule(epochs=5))}
    assert with_preset({}, known, presets)["epochs"] == 5
    asked: Params = {"preset": "miad"}
    assert with_preset(asked, known, presets)["epochs"] == 100
    full = with_preset(asked | {"epochs": 7}, known, presets)
    assert full["epochs"] == 7 and "preset" not in full and full["patience"] is None
