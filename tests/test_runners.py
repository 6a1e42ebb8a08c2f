"""What every runner with a memory bank must keep to, asked through the public contracts alone."""

import pickle

import numpy as np
import pytest
import torch
from canonical import check_canonical_forms
from torch import Tensor

from autosearch.contracts.detector import Detector, Runner, TrialContext
from autosearch.contracts.registry import load_runner
from autosearch.data.records import NORMAL, ImageSet
from autosearch.errors import Infeasible
from autosearch.spec.reading import parse_spec
from autosearch.spec.space import Params

SIDE = 64
SPACES = {
    "autopatch": {"stage1.extraction_block": [5, 6]},
    "patchcore": {"level2.patch_size": [1, 2]},
}
NOTHING_EXTRACTED = {f"stage{s}.extraction_block": None for s in range(5)} | {
    f"level{level}.extract": False for level in range(6)
}
EVEN_SIZES = {"stage1.patch_size": 2, "stage3.patch_size": 16} | {
    "level2.patch_size": 4,
    "level3.patch_size": 16,
}
RECALIBRATED = {"bn_recalibration": True}
BANK = {"coreset_ratio": 0.5, "coreset_method": "random", "num_neighbors": 3}
CASES = [{}, EVEN_SIZES, BANK, RECALIBRATED]


@pytest.fixture(scope="module", params=SPACES)
def runner(request) -> Runner:
    content = {
        "study": {"name": "test", "runner": request.param},
        "space": SPACES[request.param],
        "objectives": ["gflops", "rwap"],
        "backbone": {"weights": "random"},
    }
    return load_runner(request.param)(parse_spec(content))


def image_set(count: int, seed: int) -> ImageSet:
    pixels = np.random.default_rng(seed).random((count, 3, SIDE, SIDE), dtype=np.float32)
    names = tuple(f"{i}.png" for i in range(count))
    masks = np.zeros((count, SIDE, SIDE), dtype=bool)
    return ImageSet(pixels, masks, (NORMAL,) * count, names, names)


TRAIN = image_set(3, seed=0)
ASKED = torch.from_numpy(image_set(2, seed=1).pixels)


def own(runner: Runner, params: Params) -> Params:
    """Those parameters that the runner knows."""
    return {name: value for name, value in params.items() if name in runner.parameters}


def build(runner: Runner, params: Params, seed: int = 0) -> Detector:
    canonical = runner.canonical(own(runner, params))
    return runner.build(canonical, TrialContext(seed, "cpu", SIDE))


def fitted(runner: Runner, params: Params, train: ImageSet = TRAIN) -> Detector:
    detector = build(runner, params)
    detector.fit(train)
    return detector


def maps_of(runner: Runner, params: Params) -> Tensor:
    return fitted(runner, params).anomaly_maps(ASKED)


def test_canonical_form_is_a_fixed_point_of_json_scalars(runner):
    check_canonical_forms(runner, 300)


def test_nothing_extracted_is_infeasible(runner):
    with pytest.raises(Infeasible, match="there are no features"):
        runner.canonical(own(runner, NOTHING_EXTRACTED))


def test_a_level_that_the_backbone_lacks_is_infeasible():
    spec = {"study": {"name": "test", "runner": "patchcore"}, "space": SPACES["patchcore"]}
    spec |= {"objectives": ["rwap"], "backbone": {"weights": "random"}}
    patchcore = load_runner("patchcore")(parse_spec(spec))
    with pytest.raises(Infeasible, match="no level 5, only 0 to 4"):
        patchcore.canonical({"level5.extract": True})


WITHOUT_EFFECT = {
    "stage0.patch_size": 9,
    "stage2.patch_size": 2,
    "stage4.kernel_size": 7,
    "stage4.expand_ratio": 6,
    "stage4.patch_size": 5,
    "level0.patch_size": 9,
    "level4.patch_size": 2,
    "coreset_method": "kcenter",
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


def test_equal_canonical_forms_give_equal_maps(runner):
    assert runner.canonical(own(runner, WITHOUT_EFFECT)) == runner.canonical({})
    assert torch.equal(maps_of(runner, WITHOUT_EFFECT), maps_of(runner, {}))


def test_what_has_an_effect_remains(runner):
    before = maps_of(runner, {})
    name = runner.spec.study.runner
    for key, value in {**WITH_EFFECT[name], "num_neighbors": 2, "coreset_ratio": 0.3}.items():
        assert runner.canonical({key: value}) != runner.canonical({})
        assert not torch.allclose(maps_of(runner, {key: value}), before), key


@pytest.mark.parametrize("params", CASES)
def test_module_computes_the_same_maps(runner, params):
    detector = fitted(runner, params)
    maps = detector.anomaly_maps(ASKED)
    assert maps.shape == (2, SIDE, SIDE) and maps.dtype == torch.float32
    assert maps.min() >= 0 and maps.std() > 0
    with torch.no_grad():
        again = detector.module()(ASKED)
    assert (again - maps).abs().max() <= 1e-4 * maps.max()


@pytest.mark.parametrize("params", CASES)
def test_one_image_is_scored_as_in_a_batch(runner, params):
    detector = fitted(runner, params)
    together = detector.anomaly_maps(ASKED)
    alone = detector.anomaly_maps(ASKED[:1])
    assert alone.shape == (1, SIDE, SIDE)
    torch.testing.assert_close(alone[0], together[0], rtol=1e-3, atol=1e-5 * together.max().item())


def test_training_images_are_at_no_distance(runner):
    detector = fitted(runner, EVEN_SIZES)
    own_maps = detector.anomaly_maps(torch.from_numpy(TRAIN.pixels))
    assert own_maps.max() < 1e-4 * detector.anomaly_maps(ASKED).mean()


def test_cost_is_known_in_two_steps(runner):
    # Levels of 40 and 112 channels; the finer one has 8 x 8 patches of an image of 64 x 64.
    detector = build(runner, {})
    before = detector.cost()
    assert before.macs > 1e6 and before.flops > 2 * before.macs and before.parameters > 1e4
    assert before.search_flops == before.bank_bytes == 0
    detector.fit(TRAIN)
    after = detector.cost()
    assert (after.macs, after.flops, after.parameters) == (
        before.macs,
        before.flops,
        before.parameters,
    )
    assert after.bank_bytes == 4 * (3 * 64) * 152
    assert after.search_flops == 2 * 64 * (3 * 64) * 152


def test_fitting_again_forgets(runner):
    other = image_set(2, seed=5)
    detector = fitted(runner, {})
    detector.fit(other)
    assert torch.equal(detector.anomaly_maps(ASKED), fitted(runner, {}, other).anomaly_maps(ASKED))


def test_scoring_needs_a_fit(runner):
    with pytest.raises(RuntimeError, match="fitted"):
        build(runner, {}).anomaly_maps(ASKED)


def test_seed_decides_a_random_coreset(runner):
    detectors = [build(runner, BANK, seed) for seed in (0, 0, 1)]
    for detector in detectors:
        detector.fit(TRAIN)
    first, same, other = (detector.anomaly_maps(ASKED) for detector in detectors)
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_coreset_must_hold_the_neighbours(runner):
    detector = build(runner, {"coreset_ratio": 0.01, "num_neighbors": 9})
    with pytest.raises(Infeasible, match="num_neighbors 9 of a bank of 2 patches"):
        detector.fit(TRAIN)


def test_pickled_runner_builds_the_same(runner):
    copy = pickle.loads(pickle.dumps(runner))
    assert copy.weights() == runner.weights() != []
    assert torch.equal(maps_of(copy, {}), maps_of(runner, {}))


def test_detectors_share_no_weights_with_the_runner(runner):
    before = maps_of(runner, {})
    module = fitted(runner, {}).module()
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.zero_()
    assert torch.equal(maps_of(runner, {}), before)
