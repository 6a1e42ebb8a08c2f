"""Bi-level training as a whole: seeds, pauses, rates, the epoch that is kept, and refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from autosearch_runners.synth4seg.training import BilevelTrainer
from autosearch_runners.synth4seg.validation import validate
from bilevel_parts import QUICK, TRAIN, VAL, Net, Squares, location_net, loss, train
from torch import Tensor, nn

from autosearch.errors import ConfigError


def test_equal_seeds_give_equal_trainings() -> None:
    settings = replace(QUICK, outer_task="both", scale="auto")
    (one, first), (two, second), (other, _) = (
        train(settings, seed=seed, location_net=location_net()) for seed in (0, 0, 1)
    )
    assert one.curve == two.curve != other.curve
    alone = [train(replace(QUICK, outer_task="none"), seed=seed)[0].curve for seed in (0, 0, 1)]
    assert alone[0] == alone[1] != alone[2]
    for pair in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(*pair)
    for pair in zip(one.locations, two.locations, strict=True):
        np.testing.assert_array_equal(*(maps.maps for maps in pair))


def test_pauses_neither_see_nor_leave_anything() -> None:
    quiet, network = train(replace(QUICK, epochs=8))
    other = Net()
    trainer, shares = BilevelTrainer(other, None, replace(QUICK, epochs=8), 0, "cpu"), []
    for share in trainer.run(Squares(), TRAIN, *VAL):
        shares.append(share)
        other.train(len(shares) % 2 == 0)
    assert shares == pytest.approx([n / 8 for n in range(1, 8)])
    assert trainer.curve == quiet.curve
    for pair in zip(network.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(*pair)


@pytest.mark.parametrize(("epochs", "pauses"), [(1, 0), (20, 19), (50, 16)])
def test_there_are_about_twenty_pauses(epochs, pauses) -> None:
    settings = replace(QUICK, epochs=epochs, images_per_epoch=1, outer_task="none")
    trainer = BilevelTrainer(Net(), None, settings, 0, "cpu")
    assert len(list(trainer.run(Squares(), TRAIN, *VAL))) == pauses


def test_best_epoch_on_validation_remains() -> None:
    class Turncoat(Squares):
        """Right labels for the first half of the training."""

        def draw(self, rng, location=None):
            made = super().draw(rng, location)
            return made if len(self.drawn) <= 40 else replace(made, targets=1 - made.targets)

    settings = replace(
        QUICK, epochs=8, images_per_epoch=20, outer_task="none", halve_every_fraction=1.0
    )
    ious, left = {}, {}
    for checkpoint in ("best", "last"):
        chosen = replace(settings, checkpoint=checkpoint)
        trainer, network = train(chosen, Turncoat(("right",)))
        ious[checkpoint] = [epoch.iou for epoch in trainer.curve]
        left[checkpoint] = validate(network, *VAL, "cpu")[1]
    assert ious["best"] == ious["last"]
    assert left["best"] == max(ious["best"]) > 0.5
    assert left["last"] == ious["last"][-1] < left["best"]


def test_validation_pools_all_images() -> None:
    images = torch.zeros(11, 3, 4, 4)
    masks = torch.zeros(11, 4, 4)
    masks[0, 0] = 1
    masks[10, :2] = 1
    logits = torch.full((11, 4, 4), -20.0)
    logits[0, 0] = logits[5, 0, 0] = 20
    logits[10, 0] = 0  # One half is enough.
    parts = iter(torch.split(logits, 8))

    class Told(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return next(parts)

    found, iou = validate(Told(), images, masks, "cpu")
    assert iou == pytest.approx(8 / 13)
    assert found == pytest.approx(loss(logits, masks).item(), rel=1e-5)
    nothing = torch.full((1, 4, 4), -20.0)
    parts = iter([nothing])
    assert validate(Told(), images[:1], torch.zeros(1, 4, 4), "cpu")[1] == 1.0


def test_inner_rate_is_halved_again_and_again(monkeypatch) -> None:
    rates = []
    around = BilevelTrainer._inner_step

    def watched(self, *args):
        rates.append(self._optimiser.param_groups[0]["lr"])
        return around(self, *args)

    monkeypatch.setattr(BilevelTrainer, "_inner_step", watched)
    train(replace(QUICK, epochs=5, halve_every_fraction=0.4, images_per_epoch=2))
    assert rates == pytest.approx([1e-2, 1e-2, 5e-3, 5e-3, 2.5e-3])


def test_losses_that_are_not_finite_end_the_training() -> None:
    class Broken(Squares):
        def draw(self, rng, location=None):
            made = super().draw(rng, location)
            return replace(made, images=made.images * float("nan"))

    with pytest.raises(ArithmeticError, match="no finite loss in epoch 1"):
        train(QUICK, Broken())


@pytest.mark.parametrize(
    ("changes", "names", "message"),
    [
        ({"method": "magic"}, ("a", "b"), "method: 'magic'.*neumann"),
        ({"outer_task": "location"}, ("a", "b"), "outer_task: 'location'.*location net"),
        ({}, ("a",), "sources.*two or more"),
        ({"fixed_source": 2}, ("a", "b"), "fixed_source: 2.*0 to 1"),
        ({"initial_weights": (1.0,)}, ("a", "b"), "initial_weights.*2 numbers"),
        ({"initial_weights": (1.0, -1.0)}, ("a", "b"), "initial_weights.*none negative"),
    ],
)
def test_what_does_not_fit_is_refused(changes, names, message) -> None:
    with pytest.raises(ConfigError, match=message):
        train(replace(QUICK, **changes), Squares(names))
