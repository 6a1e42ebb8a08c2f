"""UniAD as a detector and as a runner: what it finds, costs, and refuses."""

import copy
import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from autosearch_runners.training import Training
from autosearch_runners.uniad import detector as uniad_detector
from autosearch_runners.uniad.detector import UniADDetector
from autosearch_runners.uniad.runner import PRESETS, UniADRunner
from canonical import check_without_effect

from autosearch.backbones import profile
from autosearch.contracts import TrialContext, check_space
from autosearch.data import NORMAL, ImageSet
from autosearch.errors import ConfigError, Infeasible
from autosearch.spec import Params, Space, parse_spec

SIDE = 64
TINY: Params = {
    "layers": "1+2",
    "stride": 8,
    "hidden": 16,
    "heads": 2,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "feedforward": 16,
    "neighbour_mask": 3,
    "mean_pool": 8,
    "epochs": 2,
    "batch": 4,
    "lr": 1e-3,
}


@cache
def made(weights: str = "random", *presets: str) -> UniADRunner:
    space = {"preset": list(presets)} if presets else {"lr": [1e-4, 1e-3]}
    return UniADRunner(
        parse_spec(
            {
                "study": {"name": "test", "runner": "uniad"},
                "space": space,
                "objectives": ["gflops", "rwap"],
                "backbone": {"weights": weights},
            }
        )
    )


def stripes(count: int, seed: int) -> np.ndarray:
    """``(count, 3, 64, 64)`` diagonal stripes with a little shift and noise of their own."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    waves = np.sin((x + y)[None] / 3 + rng.uniform(0, 0.5, (count, 1, 1)))
    images = 0.5 + 0.2 * waves[:, None] + 0.02 * rng.standard_normal((count, 3, SIDE, SIDE))
    return images.clip(0, 1).astype(np.float32)


def image_set(pixels: np.ndarray) -> ImageSet:
    names = tuple(f"{i}.png" for i in range(len(pixels)))
    masks = np.zeros((len(pixels), SIDE, SIDE), dtype=bool)
    return ImageSet(pixels, masks, (NORMAL,) * len(pixels), names, names)


TRAIN = image_set(stripes(5, seed=0))
ASKED = torch.from_numpy(stripes(3, seed=1))


def build(params: Params, size: tuple[int, int] = (SIDE, SIDE), **made_by: str) -> UniADDetector:
    runner = made(**made_by)
    return runner.build(runner.canonical(TINY | params), TrialContext(0, "cpu", size))


def test_a_defect_stands_out_after_a_short_training() -> None:
    learnt: Params = {"epochs": 60, "hidden": 32, "lr": 3e-3, "feedforward": 32}
    detector = build(learnt, weights="bundled")
    detector.fit(image_set(stripes(8, seed=0)))
    (panel,) = json.loads(detector.artifacts()["curves.json"])["panels"]
    losses = panel["series"]["features"]
    assert len(losses) == 60 and losses[-1] < 0.5 * losses[0]
    asked, mask = stripes(4, seed=1), np.zeros((SIDE, SIDE), dtype=bool)
    mask[16:40, 24:48] = True
    asked[:2, :, mask] = np.float32([0.9, 0.1, 0.1])[:, None]
    maps = detector.anomaly_maps(torch.from_numpy(asked)).numpy()
    assert maps[:2].max(axis=(1, 2)).min() > maps[2:].max()
    assert maps[:2, mask].mean() > 1.2 * maps[:2, ~mask].mean()


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets_are_what_was_published(preset: str) -> None:
    """A preset written out is the preset, and within what a space may name."""
    runner = made("random", *sorted(PRESETS))
    asked: Params = {"preset": preset}
    full = runner.canonical(asked)
    assert {name: full[name] for name in PRESETS[preset]} == PRESETS[preset]
    assert full.keys() | {"preset"} == runner.parameters.keys() and "preset" not in full
    assert runner.canonical(full) == full
    assert runner.canonical(asked | {"epochs": 7}) == full | {"epochs": 7}
    space = Space.parse({name: [value] for name, value in full.items()})
    check_space(space, runner.parameters, "uniad")
    assert [entry["name"] for entry in runner.weights()] == ["tf_efficientnet_b4.aa_in1k"]


def test_presets_differ_in_their_epochs_alone() -> None:
    assert PRESETS["original"] == PRESETS["miad"] | {"epochs": 1000}
    assert PRESETS["miad"]["epochs"] == 500


@pytest.mark.parametrize(("epochs", "falls"), [(1000, 800), (500, 400), (1, 1)])
def test_the_rate_falls_after_four_fifths(monkeypatch, epochs: int, falls: int) -> None:
    """To a tenth, and gradients are bounded."""
    given: dict[str, object] = {}

    class Recorded(Training):
        def __init__(self, network, optimiser, schedule, seed, **more) -> None:
            super().__init__(network, optimiser, replace(schedule, epochs=1), seed, **more)
            given.update(more, optimiser=optimiser)

    monkeypatch.setattr(uniad_detector, "Training", Recorded)
    build({"epochs": epochs, "lr": 1e-4, "weight_decay": 1e-4}).fit(TRAIN)
    assert (given["milestones"], given["factor"], given["clip"]) == ((falls,), 0.1, 0.1)
    optimiser = given["optimiser"]
    assert type(optimiser) is torch.optim.AdamW
    expected = {"initial_lr": 1e-4, "weight_decay": 1e-4, "betas": (0.9, 0.999)}
    assert {name: optimiser.param_groups[0][name] for name in expected} == expected


def test_cost_is_that_of_backbone_and_transformer() -> None:
    """As by hand for the published grid; see `test_what_the_transformer_costs`, too."""
    detector, side = build({}), 8 * 8
    module = detector._untrained(detector._extractor)
    backbone = profile(detector._extractor, (1, 3, SIDE, SIDE))
    channels, hidden = 24 + 40, 16
    # Three attentions of four layers and two products, two hidden layers, first and last.
    macs = 3 * (4 * side * hidden**2 + 2 * side**2 * hidden) + 2 * 2 * side * hidden * 16
    macs += 2 * side * channels * hidden
    macs += SIDE * 8 * (8 + SIDE)  # The map is resized by two products of matrices.
    assert detector.cost().macs == backbone.macs + macs
    weights = sum(one.numel() for one in module.reconstruction.parameters())
    assert detector.cost().parameters == backbone.parameters + weights


def test_held_out_images_end_a_training() -> None:
    """Their loss is told, and comes without noise."""
    detector = build({"epochs": 3, "patience": 1})
    detector.fit(TRAIN)
    (panel,) = json.loads(detector.artifacts()["curves.json"])["panels"]
    assert panel["series"].keys() == {"features", "held_out"}


def test_half_precision_trains_nearly_the_same() -> None:
    maps = []
    for half in (False, True):
        detector = build({"mixed_precision": half})
        detector.fit(TRAIN)
        maps.append(detector.anomaly_maps(ASKED))
    assert not torch.equal(*maps)
    torch.testing.assert_close(maps[1], maps[0], rtol=0.02, atol=0.02 * maps[0].max().item())


def test_global_draws_are_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first = torch.rand(1)
    build({"epochs": 1}).fit(TRAIN)
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)


def test_images_of_which_nothing_counts_are_refused() -> None:
    nothing = replace(TRAIN, valid=np.zeros_like(TRAIN.masks))
    with pytest.raises(Infeasible, match="no training image has a cell that counts, of 8 x 8"):
        build({}).fit(nothing)


@pytest.mark.parametrize(
    ("params", "size", "reason"),
    [
        ({"stride": 16}, (8, 64), "images of 8 x 64 pixels are too small"),
        ({"stride": 16, "neighbour_mask": 5}, (64, 64), "covers the grid of 4 x 4"),
    ],
)
def test_images_that_do_not_fit_are_refused_at_once(params, size, reason) -> None:
    with pytest.raises(Infeasible, match=reason):
        build(params, size)


def test_a_level_that_the_backbone_lacks_is_infeasible() -> None:
    runner = copy.copy(made())
    runner._levels = dict.fromkeys(runner._levels, 2)
    with pytest.raises(Infeasible, match="no level 3, only 0 to 1"):
        runner.canonical({"layers": "0+1+2+3"})


@pytest.mark.parametrize(
    ("name", "value"), [("hidden", 20), ("neighbour_mask", 4), ("stride", 4), ("preset", "mine")]
)
def test_values_that_make_no_sense_are_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"space.{name}"):
        check_space(Space.parse({name: [value]}), UniADRunner.parameters, "uniad")


@pytest.mark.parametrize(
    ("base", "without_effect"),
    [
        ({"jitter_scale": 0.0}, {"jitter_probability": 0.5}),
        ({"jitter_probability": 0.0}, {"jitter_scale": 3.0}),
        ({"jitter_probability": 0.0}, {"jitter_scale": 0.0, "jitter_probability": 1.0}),
    ],
)
def test_what_has_no_effect_does_not_remain(base: Params, without_effect: Params) -> None:
    check_without_effect(made(), base, without_effect)


def test_memory_grows_with_images_up_to_a_bound() -> None:
    detector = build({})
    few, many = detector.memory(10), detector.memory(1000)
    assert many - few == 990 * 4 * (24 + 40) * 64
    assert detector.memory(10_000_000) < 3 << 30
