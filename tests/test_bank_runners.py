"""What is particular to the runners with a memory bank."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from autosearch.contracts import Detector, Runner, Status, TrialContext, TrialRecord, registry
from autosearch.data import ImageSet
from autosearch.errors import Infeasible
from autosearch.export.chosen import exported_configuration
from autosearch.spec import Params, parse_spec
from autosearch.testing import image_set

SIDE = 64
SPACES = {
    "autopatch": {"stage1.extraction_block": [5, 6]},
    "patchcore": {"level2.patch_size": [1, 2]},
}
NOTHING_EXTRACTED = {f"stage{s}.extraction_block": None for s in range(5)} | {
    f"level{level}.extract": False for level in range(6)
}
EVEN_SIZES = {
    "autopatch": {"stage1.patch_size": 2, "stage3.patch_size": 16},
    "patchcore": {"level2.patch_size": 4, "level3.patch_size": 16},
}
BANK = {"coreset_ratio": 0.5, "coreset_method": "random", "num_neighbors": 3}


def made(name: str) -> Runner:
    content = {
        "study": {"name": "test", "runner": name},
        "space": SPACES[name],
        "objectives": ["gflops", "rwap"],
        "backbone": {"weights": "random"},
    }
    return registry.load_runner(name)(parse_spec(content))


@pytest.fixture(scope="module", params=SPACES)
def runner(request) -> Runner:
    return made(request.param)


def noise(count: int, seed: int) -> ImageSet:
    """Images that have nothing in common."""
    pixels = np.random.default_rng(seed).random((count, 3, SIDE, SIDE), dtype=np.float32)
    return replace(image_set(SIDE, count, 0, seed), pixels=pixels)


TRAIN = noise(3, seed=0)
ASKED = torch.from_numpy(noise(2, seed=1).pixels)


def own(runner: Runner, params: Params) -> Params:
    """Those parameters that the runner knows."""
    return {name: value for name, value in params.items() if name in runner.parameters}


def build(runner: Runner, params: Params, seed: int = 0) -> Detector:
    return runner.build(runner.canonical(params), TrialContext(seed, "cpu", (SIDE, SIDE)))


def fitted(runner: Runner, params: Params, train: ImageSet = TRAIN, seed: int = 0) -> Detector:
    detector = build(runner, params, seed)
    detector.fit(train)
    return detector


def maps_of(runner: Runner, params: Params) -> Tensor:
    return fitted(runner, params).anomaly_maps(ASKED)


def test_nothing_extracted_is_infeasible(runner):
    with pytest.raises(Infeasible, match="there are no features"):
        runner.canonical(own(runner, NOTHING_EXTRACTED))


def test_a_level_that_the_backbone_lacks_is_infeasible():
    with pytest.raises(Infeasible, match="no level 5, only 0 to 4"):
        made("patchcore").canonical({"level5.extract": True})


WITHOUT_EFFECT = {
    "stage0.patch_size": 9,
    "stage2.patch_size": 2,
    "stage4.kernel_size": 7,
    "stage4.expand_ratio": 6,
    "stage4.patch_size": 5,
    "level0.patch_size": 9,
    "level4.patch_size": 2,
    "coreset_method": "kcenter",
    "stage1.weight": 2.0,
    "level2.weight": 2.0,
    "rows_per_place": 3,
}
WITH_EFFECT = {
    "autopatch": {
        "stage0.kernel_size": 7,
        "stage2.expand_ratio": 6,
        "stage1.extraction_block": 5,
        "stage3.extraction_block": None,
        "stage3.patch_size": 2,
        "bn_recalibration": True,
    },
    "patchcore": {"level1.extract": True, "level3.extract": False, "level2.patch_size": 2},
}


def test_what_has_no_effect_does_not_remain(runner):
    assert runner.canonical(own(runner, WITHOUT_EFFECT)) == runner.canonical({})


def test_what_has_an_effect_remains(runner):
    before = maps_of(runner, {})
    name = runner.spec.study.runner
    bank = {"num_neighbors": 2, "coreset_ratio": 0.3, "window": 0}
    bank |= {"metric": "cosine", "fusion": "levels"}
    for key, value in {**WITH_EFFECT[name], **bank}.items():
        assert runner.canonical({key: value}) != runner.canonical({})
        assert not torch.allclose(maps_of(runner, {key: value}), before), key


def test_a_shorter_type_is_the_network_s_alone_and_none_of_an_export(runner):
    exact, short = maps_of(runner, {}), maps_of(runner, {"precision": "bfloat16"})
    assert short.dtype == exact.dtype and not torch.equal(short, exact)
    assert (short - exact).abs().max() < 0.1 * exact.max()
    assert runner.canonical({"precision": "float32"}) == runner.canonical({})
    with pytest.raises(Infeasible, match="float16"):
        fitted(runner, {"precision": "float16"})
    canonical = runner.canonical({"precision": "bfloat16"})
    record = TrialRecord(0, Status.COMPLETE, {}, canonical, {})
    assert exported_configuration(None, record, None) == runner.canonical({})


def test_scores_are_distances(runner):
    detector = fitted(runner, EVEN_SIZES[runner.spec.study.runner])
    maps = detector.anomaly_maps(ASKED)
    for params in ({}, BANK, own(runner, {"bn_recalibration": True})):
        assert min(maps.min(), maps_of(runner, params).min()) >= 0
    own_maps = detector.anomaly_maps(torch.from_numpy(TRAIN.pixels))
    assert own_maps.max() < 1e-4 * maps.mean(), "training images are at no distance"


def test_cost_is_that_of_network_and_bank(runner):
    # Levels of 40 and 112 channels; the finer one has 8 x 8 patches of an image of 64 x 64.
    detector = fitted(runner, {})
    cost = detector.cost()
    assert cost.macs > 1e6 and cost.flops > 2 * cost.macs and cost.parameters > 1e4
    assert cost.bank_bytes == 4 * (3 * 64) * 152
    assert cost.search_flops == 2 * 64 * (3 * 64) * 152


def test_seed_decides_a_random_coreset(runner):
    first, other = (fitted(runner, BANK, seed=seed).anomaly_maps(ASKED) for seed in (0, 1))
    assert not torch.equal(first, other)


def test_coreset_must_hold_the_neighbours(runner):
    detector = build(runner, {"coreset_ratio": 0.01, "num_neighbors": 9})
    with pytest.raises(Infeasible, match="num_neighbors 9 of a bank of 2 patches"):
        detector.fit(TRAIN)


def test_pretrained_weights_are_told(runner):
    assert runner.weights()
