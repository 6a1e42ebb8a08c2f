"""GLASS as a detector and as a runner: what it finds, costs, exports, and leaves out."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from autosearch_runners.glass.detector import GlassDetector
from autosearch_runners.glass.runner import GlassRunner
from autosearch_runners.spreading import spreading
from canonical import check_without_effect
from scipy import ndimage
from torch import Tensor

from autosearch.contracts.detector import TrialContext, check_space, with_defaults
from autosearch.data.records import NORMAL, ImageSet
from autosearch.errors import ConfigError, Infeasible
from autosearch.spec.reading import parse_spec
from autosearch.spec.sections import StudySpec
from autosearch.spec.space import Params

SIDE = 32
QUICK: Params = {
    "embed_dim": 32,
    "disc_hidden": 16,
    "epochs": 1,
    "ascent_steps": 3,
    "batch": 3,
    "lr": 1e-3,
}


def spec_of(space: dict[str, object] | None = None, weights: str = "random") -> StudySpec:
    return parse_spec(
        {
            "study": {"name": "test", "runner": "glass"},
            "space": space or {"lr": [1e-4, 1e-3]},
            "objectives": ["gflops", "rwap"],
            "backbone": {"weights": weights},
        }
    )


@pytest.fixture(scope="module")
def runner() -> GlassRunner:
    return GlassRunner(spec_of())


def stripes(count: int, seed: int) -> np.ndarray:
    """``(count, 3, 32, 32)`` diagonal stripes with a little shift and noise of their own."""
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


def build(runner: GlassRunner, params: Params, seed: int = 0) -> GlassDetector:
    canonical = runner.canonical(QUICK | params)
    return runner.build(canonical, TrialContext(seed, "cpu", (SIDE, SIDE)))


def fitted(runner: GlassRunner, params: Params, seed: int = 0) -> GlassDetector:
    detector = build(runner, params, seed)
    detector.fit(TRAIN)
    return detector


_MAPS: dict[str, Tensor] = {}


def known_maps(runner: GlassRunner, params: Params) -> Tensor:
    """`maps_of` for configurations that many tests compare with."""
    key = repr(sorted(params.items()))
    if key not in _MAPS:
        _MAPS[key] = maps_of(runner, params)
    return _MAPS[key]


def maps_of(runner: GlassRunner, params: Params, seed: int = 0) -> Tensor:
    return fitted(runner, params, seed).anomaly_maps(ASKED)


def test_a_defect_stands_out_after_a_short_training() -> None:
    runner = GlassRunner(spec_of(weights="bundled"))
    learnt: Params = {"hypothesis": "hypersphere", "feature_scale": "unit", "smoothing_sigma": 1.0}
    size: Params = {"epochs": 12, "embed_dim": 64, "disc_hidden": 64, "batch": 4, "lr": 3e-3}
    detector = build(runner, learnt | size)
    detector.fit(image_set(stripes(8, seed=0)))
    assert detector.losses[-1].total < 0.85 * detector.losses[0].total
    asked, mask = stripes(4, seed=1), np.zeros((SIDE, SIDE), dtype=bool)
    mask[8:20, 12:24] = True
    asked[:2, :, mask] = np.float32([0.9, 0.1, 0.1])[:, None]
    maps = detector.anomaly_maps(torch.from_numpy(asked)).numpy()
    assert maps[:2, mask].min() > maps[2:].max()


def test_half_precision_of_the_backbone_trains_nearly_the_same(runner) -> None:
    params: Params = {"hypothesis": "manifold", "feature_scale": "unit"}
    detectors = [fitted(runner, params | {"mixed_precision": half}) for half in (False, True)]
    whole, half = ([loss.total for loss in detector.losses] for detector in detectors)
    assert half != whole, "the backbone rounds"
    np.testing.assert_allclose(half, whole, rtol=0.02)
    assert detectors[1].anomaly_maps(ASKED).dtype == torch.float32


@pytest.mark.parametrize("sigma", [0, 0.7, 4, 30])
def test_maps_are_resized_and_smoothed(sigma) -> None:
    scores = torch.rand(5, 5, generator=torch.Generator().manual_seed(0))
    matrix = spreading(5, 33, sigma)
    large = F.interpolate(scores[None, None], (33, 33), mode="bilinear", align_corners=False)
    expected = large[0, 0].double().numpy()
    if sigma:
        expected = ndimage.gaussian_filter(expected, sigma, mode="reflect")
    np.testing.assert_allclose(matrix @ scores @ matrix.T, expected, atol=1e-5)
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(33))


def test_maps_in_a_pause_are_those_of_the_training_so_far(runner) -> None:
    detector, seen = build(runner, {"epochs": 3}), []
    for fraction in detector.fit_in_steps(TRAIN):
        seen.append((fraction, detector.anomaly_maps(ASKED)))
    assert [fraction for fraction, _ in seen] == pytest.approx([1 / 3, 2 / 3])
    assert not torch.equal(seen[0][1], seen[1][1])


def test_a_training_that_is_left_early_keeps_what_it_learnt(runner) -> None:
    detector = build(runner, {"epochs": 3})
    training = detector.fit_in_steps(TRAIN)
    next(training)
    maps = detector.anomaly_maps(ASKED)
    training.close()
    assert torch.equal(detector.anomaly_maps(ASKED), maps) and len(detector.losses) == 1
    assert torch.equal(maps, maps_of(runner, {"epochs": 1}))
    assert all(p.grad is None and not p.requires_grad for p in detector.module().parameters())
    torch.testing.assert_close(detector.module()(ASKED), maps, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("params", "used"),
    [
        ({}, ["normal", "feature", "image"]),
        ({"use_gas": False}, ["normal", "image"]),
        ({"use_las": False}, ["normal", "feature"]),
    ],
)
def test_the_losses_of_the_last_fit_are_left_to_be_drawn(runner, params, used) -> None:
    detector = build(runner, {"epochs": 3} | params)
    for _ in range(2):
        detector.fit(TRAIN)
    (content,) = detector.artifacts().values()
    curves = json.loads(content)
    (panel,) = curves["panels"]
    assert (curves["x"], panel["title"], list(panel["series"])) == ("epoch", "loss", used)
    assert {len(numbers) for numbers in panel["series"].values()} == {3}
    totals = [sum(losses) for losses in zip(*panel["series"].values(), strict=True)]
    assert totals == pytest.approx([losses.total for losses in detector.losses])
    assert min(map(min, panel["series"].values())) > 0


def test_leaving_one_training_does_not_end_another(runner) -> None:
    detector = build(runner, {"epochs": 2})
    left, kept = detector.fit_in_steps(TRAIN), detector.fit_in_steps(TRAIN)
    next(left)
    next(kept)
    left.close()
    assert list(kept) == [] and len(detector.losses) == 2
    assert torch.equal(detector.anomaly_maps(ASKED), maps_of(runner, {"epochs": 2}))


def test_seed_decides(runner) -> None:
    assert not torch.equal(maps_of(runner, {}), maps_of(runner, {}, seed=1))


def test_nothing_is_left_of_the_training(runner) -> None:
    module = fitted(runner, {}).module()
    assert all(p.grad is None and not p.requires_grad for p in module.parameters())


def test_pretrained_weights_are_told(runner) -> None:
    assert runner.weights()


def test_hypothesis_is_judged_unless_told(runner) -> None:
    assert fitted(runner, {}).hypothesis == "manifold"
    assert fitted(runner, {"hypothesis": "hypersphere"}).hypothesis == "hypersphere"
    y, x = np.mgrid[:SIDE, :SIDE] - 15.5
    disc = np.where(np.hypot(x, y) < 10, 0.8, 0.1).astype(np.float32)
    detector = build(runner, {})
    detector.fit(image_set(np.broadcast_to(disc, (3, 3, SIDE, SIDE)).copy()))
    assert detector.hypothesis == "hypersphere"


def test_black_images_train(runner) -> None:
    detector = build(runner, {})
    detector.fit(image_set(np.zeros((2, 3, SIDE, SIDE), dtype=np.float32)))
    assert detector.hypothesis == "manifold"
    assert detector.anomaly_maps(ASKED).isfinite().all()


def test_cost_counts_backbone_mixing_adaptor_and_discriminator(runner) -> None:
    def macs(**params: int) -> int:
        return build(runner, {"embed_dim": 40, "disc_hidden": 16, **params}).cost().macs

    cells = (SIDE // 8) ** 2
    assert macs() - macs(adaptor_layers=0) == cells * 40 * 40
    assert macs(disc_hidden=24) - macs() == cells * 8 * (40 + 1)
    cost = build(runner, {"embed_dim": 40, "disc_hidden": 16}).cost()
    assert cost.flops > 2 * cost.macs and cost.search_flops == cost.bank_bytes == 0
    extra = (
        cost.parameters - build(runner, {"embed_dim": 40, "adaptor_layers": 0}).cost().parameters
    )
    assert extra == 40 * 40 + 40


WITHOUT_EFFECT = [
    ({"use_gas": False}, {"noise_std": 0.1, "ascent_steps": 3, "manifold_radius": 1.0}),
    ({"ascent_steps": 0}, {"ascent_lr": 0.1, "project_every": 2, "manifold_radius": 1.0}),
    ({"ascent_steps": 0, "use_las": False}, {"hypothesis": "hypersphere", "center": "global"}),
    ({"hypothesis": "manifold"}, {"coverage_quantile": 0.5, "center": "global"}),
    ({"hypothesis": "hypersphere"}, {"manifold_radius": 1.0}),
    ({"use_gas": False, "hypothesis": "manifold"}, {"radius_ratio": 3.0}),
    ({"use_las": False}, {"blend_mean": 0.2, "use_foreground": False, "ohem_quantile": 0.0}),
    ({"embedding": "mean"}, {"embed_dim": 64}),
    ({"project_every": 4}, {"project_every": 40}),
    ({"texture_source": "procedural"}, {"texture_source": "auto"}),
]


@pytest.mark.parametrize(("base", "without_effect"), WITHOUT_EFFECT)
def test_what_has_no_effect_does_not_remain(runner, base, without_effect) -> None:
    check_without_effect(runner, QUICK | base, without_effect)


@pytest.mark.slow
@pytest.mark.parametrize(("base", "without_effect"), WITHOUT_EFFECT)
def test_what_does_not_remain_has_no_effect(runner, base, without_effect) -> None:
    # Built from all that was asked for, not from its canonical form.
    source = {"texture_source": "procedural"}
    asked = with_defaults(QUICK | base | without_effect | source, runner.parameters)
    detector = runner.build(asked, TrialContext(0, "cpu", (SIDE, SIDE)))
    detector.fit(TRAIN)
    assert torch.equal(detector.anomaly_maps(ASKED), maps_of(runner, base))


EFFECTS = {
    "hypothesis": "hypersphere",
    "manifold_radius": 1.0,
    "radius_ratio": 1.2,
    "noise_std": 0.05,
    "ascent_steps": 2,
    "ascent_lr": 0.3,
    "project_every": 2,
    "use_gas": False,
    "use_las": False,
    "blend_mean": 0.2,
    "blend_std": 0.3,
    "perlin_max_exp": 2,
    "perlin_threshold": 0.3,
    "n_texture_ops": 0,
    "texture_source": "self",
    "ohem_quantile": 0.0,
    "layers": "2",
    "embedding": "mean",
    "feature_scale": "raw",
    "embed_dim": 48,
    "patch_size": 1,
    "adaptor_layers": 2,
    "disc_hidden": 24,
    "lr": 5e-4,
    "batch": 2,
    "epochs": 2,
    "images_per_epoch": 2,
    "smoothing_sigma": 1.0,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EFFECTS)
def test_what_has_an_effect_remains(runner, name) -> None:
    base: Params = {"noise_std": 0.02, "ascent_lr": 0.1}
    changed = base | {name: EFFECTS[name]}
    assert runner.canonical(QUICK | changed) != runner.canonical(QUICK | base)
    assert not torch.equal(maps_of(runner, changed), known_maps(runner, base))


@pytest.mark.parametrize(
    ("name", "value"), [("coverage_quantile", 0.5), ("center", "global"), ("radius_ratio", 1.2)]
)
def test_what_has_an_effect_on_hyperspheres_remains(runner, name, value) -> None:
    base: Params = {"hypothesis": "hypersphere", "ascent_lr": 0.1}
    assert name in runner.canonical(base)
    assert not torch.equal(maps_of(runner, base | {name: value}), known_maps(runner, base))


def test_foreground_holds_anomalies_where_there_is_an_object(runner) -> None:
    pixels = stripes(3, seed=0)
    for edge in (slice(0, 10), slice(22, SIDE)):
        pixels[:, :, edge] = pixels[:, :, :, edge] = 0.05
    maps = []
    for use in (True, False):
        detector = build(runner, {"use_foreground": use})
        detector.fit(image_set(pixels))
        maps.append(detector.anomaly_maps(ASKED))
    assert not torch.equal(*maps)


def test_configurations_that_cannot_be_built(runner) -> None:
    with pytest.raises(Infeasible, match="no anomalies to learn from"):
        runner.canonical({"use_gas": False, "use_las": False})
    with pytest.raises(
        ConfigError, match=r"texture_source.*'folder'.*synthesis.textures names no folder"
    ):
        GlassRunner(spec_of({"texture_source": ["folder", "self"]}))


def test_vectors_are_scaled_unless_the_backbone_is_the_published_one(runner) -> None:
    names = ["wide_resnet50_2", "wide_resnet50_2.tv_in1k", "tf_efficientnet_lite0", "resnet10t"]
    other = GlassRunner(spec_of({"backbone": ["resnet10t"]}))
    other._levels |= dict.fromkeys(names, 5)
    found = [other.canonical({"backbone": name})["feature_scale"] for name in names]
    assert found == ["raw", "raw", "unit", "unit"]
    for scale in ("raw", "unit"):
        asked: Params = {"backbone": "resnet10t", "feature_scale": scale}
        assert other.canonical(asked)["feature_scale"] == scale
    detectors = [fitted(runner, {"feature_scale": scale}) for scale in ("auto", "unit", "raw")]
    scales = [detector.module().scores.scale.factor.item() for detector in detectors]
    assert scales[0] == scales[1] != scales[2] == 1.0


def test_a_level_that_the_backbone_lacks_is_infeasible() -> None:
    runner = GlassRunner(spec_of({"backbone": ["resnet10t"]}))
    runner._levels["resnet10t"] = 3
    with pytest.raises(Infeasible, match="no level 3, only 0 to 2"):
        runner.canonical({"backbone": "resnet10t"})


def test_spaces_are_checked_against_the_table() -> None:
    def check(space: dict[str, object]) -> None:
        check_space(spec_of(space).parsed_space, GlassRunner.parameters, "glass")

    check({"manifold_radius": {"float": [0.25, 1.5], "log": True}, "layers": ["2", "2+3"]})
    with pytest.raises(ConfigError, match="manifold_radius"):
        check({"manifold_radius": {"float": [-1.0, 1.5]}})
    with pytest.raises(ConfigError, match="layers"):
        check({"layers": [2]})
