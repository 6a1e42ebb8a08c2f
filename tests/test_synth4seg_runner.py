"""Synth4Seg as a detector and as a runner: what it learns, leaves out, exports and refuses."""

import io
import json
import pickle
from dataclasses import replace

import numpy as np
import optuna
import pytest
import torch
from autosearch_runners.synth4seg.detector import Synth4SegDetector
from autosearch_runners.synth4seg.runner import Synth4SegRunner, parse_sources, settings_of
from canonical import check_canonical_forms
from PIL import Image
from torch import Tensor

from autosearch.contracts.detector import TrialContext, check_space, with_defaults
from autosearch.contracts.registry import find_space
from autosearch.data.records import NORMAL, ImageSet
from autosearch.errors import ConfigError, Infeasible
from autosearch.export.onnx_graph import onnx_bytes
from autosearch.spec.reading import load_spec, parse_spec
from autosearch.spec.sections import StudySpec
from autosearch.spec.space import Params

SIDE = 32
QUICK: Params = {"decoder_width": 32, "epochs": 2, "images_per_epoch": 4, "outer_interval": 2}
QUICK |= {"warmup_fraction": 0.25, "neumann_terms": 1, "outer_batch": 2, "lr": 1e-3}
EQUAL: Params = {"outer_task": "none", "sources": "trivial_augment+photometric+scale"}
LEARNT: Params = {"outer_task": "source_weights", "sources": "trivial_augment+scale"}
PLACES: Params = {"outer_task": "location", "sources": "combined"}


def spec_of(
    space: dict[str, object] | None = None, weights: str = "random", labelled: bool = True
) -> StudySpec:
    return parse_spec(
        {
            "study": {"name": "test", "runner": "synth4seg"},
            "space": space or {"lr": [1e-4, 1e-3]},
            "objectives": ["training_seconds", "iou_half"],
            "dataset": {"labelled": {} if labelled else None},
            "backbone": {"weights": weights},
        }
    )


@pytest.fixture(scope="module")
def runner() -> Synth4SegRunner:
    return Synth4SegRunner(spec_of())


def image_set(anomalous: int, normal: int, seed: int, side: int = SIDE) -> ImageSet:
    """Grey noise; anomalous images, which come first, have a dark square."""
    rng, count = np.random.default_rng(seed), anomalous + normal
    pixels = (0.6 + 0.03 * rng.standard_normal((count, 3, side, side))).astype(np.float32)
    masks = np.zeros((count, side, side), dtype=bool)
    for index in range(anomalous):
        top, left = rng.integers(0, side - 9, 2)
        masks[index, top : top + 9, left : left + 9] = True
        pixels[index, :, masks[index]] = 0.2
    names = tuple(f"{index}.png" for index in range(count))
    types = ("stain",) * anomalous + (NORMAL,) * normal
    return ImageSet(pixels.clip(0, 1), masks, types, names, names)


TRAIN, VAL = image_set(3, 4, seed=0), image_set(3, 2, seed=1)
ASKED = torch.from_numpy(image_set(2, 1, seed=2).pixels)


def build(runner: Synth4SegRunner, params: Params, seed: int = 0) -> Synth4SegDetector:
    canonical = runner.canonical(QUICK | params)
    return runner.build(canonical, TrialContext(seed, "cpu", SIDE, VAL))


def fitted(runner: Synth4SegRunner, params: Params, seed: int = 0) -> Synth4SegDetector:
    detector = build(runner, params, seed)
    detector.fit(TRAIN)
    return detector


def maps_of(runner: Synth4SegRunner, params: Params, seed: int = 0) -> Tensor:
    return fitted(runner, params, seed).anomaly_maps(ASKED)


_KNOWN: dict[str, Synth4SegDetector] = {}


def known(runner: Synth4SegRunner, params: Params) -> Synth4SegDetector:
    """`fitted` for tests that only look at the detector."""
    key = repr(sorted(params.items()))
    if key not in _KNOWN:
        _KNOWN[key] = fitted(runner, params)
    return _KNOWN[key]


def known_maps(runner: Synth4SegRunner, params: Params) -> Tensor:
    """Maps of a `known` detector."""
    return known(runner, params).anomaly_maps(ASKED)


@pytest.mark.slow
def test_defects_are_found_after_a_short_training() -> None:
    runner = Synth4SegRunner(spec_of(weights="bundled"))
    size: Params = {"epochs": 8, "images_per_epoch": 32, "lr": 3e-3, "halve_every_fraction": 0.5}
    detector = build(runner, EQUAL | size | {"decoder_width": 64})
    detector.fit(TRAIN)
    assert detector.curve[-1].inner < 0.8 * detector.curve[0].inner
    asked = image_set(4, 4, seed=3)
    found = detector.anomaly_maps(torch.from_numpy(asked.pixels)).numpy() >= 0.5
    assert (found & asked.masks).sum() > 0.6 * (found | asked.masks).sum()


@pytest.mark.parametrize("params", [EQUAL, LEARNT, PLACES])
def test_module_computes_the_same_maps(runner, params) -> None:
    detector = known(runner, params)
    maps = detector.anomaly_maps(ASKED)
    assert maps.shape == (3, SIDE, SIDE) and maps.dtype == torch.float32
    assert maps.min() >= 0 and maps.max() <= 1 and maps.std() > 0
    torch.testing.assert_close(detector.module()(ASKED), maps, rtol=1e-5, atol=1e-6)
    assert all(p.grad is None and not p.requires_grad for p in detector.module().parameters())
    torch.testing.assert_close(detector.anomaly_maps(ASKED[:1])[0], maps[0], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_exported_graph_computes_the_same_maps(runner) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    detector = known(runner, EQUAL)
    session = runtime.InferenceSession(onnx_bytes(detector.module(), SIDE))
    for count in (1, 3):
        maps, scores = session.run(None, {"images": ASKED[:count].numpy()})
        expected = detector.anomaly_maps(ASKED[:count]).numpy()
        np.testing.assert_allclose(maps, expected, atol=1e-4)
        np.testing.assert_allclose(scores, expected.max(axis=(1, 2)), atol=1e-4)


def test_graph_takes_any_number_of_images(runner) -> None:
    module = known(runner, EQUAL).module()
    batch = torch.export.Dim("batch", min=1, max=64)
    graph = torch.export.export(module, (ASKED[:2],), dynamic_shapes=({0: batch},)).module()
    for count in (1, 3):
        with torch.no_grad():
            torch.testing.assert_close(graph(ASKED[:count]), module(ASKED[:count]))


def test_images_need_no_side_of_whole_cells(runner) -> None:
    side = 50
    context = TrialContext(0, "cpu", side, image_set(1, 0, 1, side))
    detector = runner.build(runner.canonical(QUICK | EQUAL | {"epochs": 1}), context)
    detector.fit(image_set(2, 2, 0, side))
    asked = torch.from_numpy(image_set(1, 1, 2, side).pixels)
    assert detector.anomaly_maps(asked).shape == (2, side, side)


def test_equal_seeds_give_equal_maps(runner) -> None:
    assert torch.equal(maps_of(runner, LEARNT), known_maps(runner, LEARNT))
    assert not torch.equal(maps_of(runner, EQUAL, seed=1), known_maps(runner, EQUAL))


def test_fitting_again_forgets(runner) -> None:
    detector = build(runner, EQUAL)
    detector.fit(image_set(2, 2, seed=5))
    detector.fit(TRAIN)
    assert torch.equal(detector.anomaly_maps(ASKED), known_maps(runner, EQUAL))
    assert len(detector.curve) == 2


def test_looking_at_maps_in_a_pause_changes_nothing(runner) -> None:
    params = EQUAL | {"epochs": 3, "checkpoint": "last"}
    detector, seen = build(runner, params), []
    for fraction in detector.fit_in_steps(TRAIN):
        seen.append((fraction, detector.anomaly_maps(ASKED)))
    assert [fraction for fraction, _ in seen] == pytest.approx([1 / 3, 2 / 3])
    assert not torch.equal(seen[0][1], seen[1][1])
    assert torch.equal(detector.anomaly_maps(ASKED), known_maps(runner, params))


def test_a_training_that_is_left_early_keeps_what_it_learnt(runner) -> None:
    detector = build(runner, EQUAL)
    training = detector.fit_in_steps(TRAIN)
    assert next(training) == 0.5
    maps = detector.anomaly_maps(ASKED)
    training.close()
    assert torch.equal(detector.anomaly_maps(ASKED), maps) and len(detector.curve) == 1
    assert all(p.grad is None and not p.requires_grad for p in detector.module().parameters())
    assert "curves.json" in detector.artifacts()


def test_scoring_needs_a_fit(runner) -> None:
    with pytest.raises(RuntimeError, match="fitted"):
        build(runner, EQUAL).anomaly_maps(ASKED)
    assert build(runner, EQUAL).artifacts() == {}


def test_artifacts_show_what_was_learnt(runner) -> None:
    detector = fitted(runner, PLACES | {"outer_task": "both", "sources": "combined+scale"})
    files = detector.artifacts()
    assert set(files) == {"curves.json", "locations.jpg"}
    curves = json.loads(files["curves.json"])
    assert curves["x"] == "epoch"
    panels = {panel["title"]: panel["series"] for panel in curves["panels"]}
    assert list(panels) == [
        "loss", "validation IoU", "source weights", "hypergradient", "outer steps cut short",
    ]  # fmt: skip
    assert all(len(series) == 2 for panel in panels.values() for series in panel.values())
    assert panels["loss"]["inner"] == pytest.approx([epoch.inner for epoch in detector.curve])
    assert set(panels["source weights"]) == {"scale", "combined"}
    picture = Image.open(io.BytesIO(files["locations.jpg"]))
    looks = detector.locations
    assert picture.size == ((1 + len(looks)) * 124, len(looks[0].images) * 124)
    # A fresh location net says 0.95 everywhere: nearly the palest colour there is.
    first = np.asarray(picture)[40:110, 134:230]
    assert np.abs(first.reshape(-1, 3).mean(axis=0) - (245, 229, 156)).max() < 8


def test_curves_show_only_what_there_is(runner) -> None:
    (name, content), *rest = known(runner, EQUAL).artifacts().items()
    titles = [panel["title"] for panel in json.loads(content)["panels"]]
    assert name == "curves.json" and not rest
    assert titles == ["loss", "validation IoU"]


def test_cost_counts_the_network_that_finds_defects_alone(runner) -> None:
    plain, located = build(runner, EQUAL), build(runner, PLACES)
    cost = plain.cost()
    assert cost == located.cost()
    assert cost.flops > 2 * cost.macs > 0 and cost.search_flops == cost.bank_bytes == 0
    assert build(runner, EQUAL | {"decoder_width": 64}).cost().macs > cost.macs
    after = known(runner, EQUAL)
    assert after.cost() == cost
    assert cost.parameters == sum(p.numel() for p in after.module().parameters())


def test_pickled_runner_builds_the_same(runner) -> None:
    copy = pickle.loads(pickle.dumps(runner))
    assert copy.weights() == runner.weights() != []
    assert torch.equal(maps_of(copy, EQUAL), known_maps(runner, EQUAL))


def test_detectors_share_no_weights_with_the_runner(runner) -> None:
    before = known_maps(runner, EQUAL)
    module = fitted(runner, EQUAL).module()
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.zero_()
    assert torch.equal(maps_of(runner, EQUAL), before)


def test_normal_validation_images_count_if_asked_for(runner) -> None:
    without = known(runner, EQUAL).curve
    within = fitted(runner, EQUAL | {"outer_normals": True}).curve
    assert [e.inner for e in without] == [e.inner for e in within]
    assert all(a.outer != b.outer for a, b in zip(without, within, strict=True))


def test_training_selects_on_validation_or_says_what_is_missing(runner) -> None:
    detector = build(runner, EQUAL)
    for validation, message in (
        (None, r"context\.validation"),
        (image_set(0, 2, 1), r"dataset\.labelled\.val: '0 anomalous"),
        (replace(VAL, masks=np.zeros_like(VAL.masks)), r"dataset\.labelled\.val: '3 anomalous"),
    ):
        context = TrialContext(0, "cpu", SIDE, validation)
        detector = runner.build(runner.canonical(QUICK | EQUAL), context)
        with pytest.raises(ConfigError, match=message):
            detector.fit(TRAIN)
    with pytest.raises(ConfigError, match=r"dataset\.labelled\.train.*larger share"):
        build(runner, EQUAL).fit(image_set(0, 3, 0))


def test_a_spec_must_say_how_many_anomalies_are_learnt_from() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.labelled: None.*train: 0\.48, val: 0\.28"):
        Synth4SegRunner(spec_of(labelled=False))


def test_unknown_sources_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"space\.sources.*did you mean 'rotation'"):
        Synth4SegRunner(spec_of({"sources": ["all", "scale+rotatoin"]}))
    with pytest.raises(ConfigError, match="every name once"):
        parse_sources("scale+scale")
    assert parse_sources("combined+scale+trivial_augment") == (
        "trivial_augment", "scale", "combined",
    )  # fmt: skip
    assert len(parse_sources("all")) == 6


def test_configurations_that_cannot_be_built(runner) -> None:
    for params, message in (
        ({"sources": "scale"}, "scale alone, so there is no weight to learn"),
        ({"outer_task": "both", "sources": "combined"}, "no weight to learn"),
        (PLACES | {"sources": "trivial_augment+defect_free"}, "paste nothing"),
        ({"fixed_source": "combined"}, "fixed_source combined is not among"),
        ({"scale_min": 1.5, "scale_max": 1.0}, "scale_min is above scale_max"),
    ):
        with pytest.raises(Infeasible, match=message):
            runner.canonical(params)


def test_canonical_form_is_a_fixed_point_of_json_scalars(runner) -> None:
    texts = ("all", "combined", "scale+rotation+defect_free", "trivial_augment+combined")
    check_canonical_forms(runner, 600, texts)


OUTER = {"method": "unroll", "neumann_terms": 9, "outer_interval": 3, "outer_lr_weights": 0.1}
OUTER |= {"constraint": "softplus", "gamma": 0.1, "warmup_fraction": 0.6, "outer_batch": 1}
TWO: Params = {"outer_task": "none", "sources": "rotation+scale"}
WITHOUT_EFFECT = [
    (EQUAL, OUTER),
    (EQUAL, {"fixed_source": "scale"}),
    (EQUAL, {"weight.combined": 2.0, "weight.shear": 0.0, "weight.trivial_augment": 3.0}),
    (EQUAL, {"rotation_range": 5.0, "shear_range": 0.1}),
    (EQUAL, {"outer_lr_location": 1e-3, "location_threshold": 0.7, "normalise_factors": True}),
    (EQUAL | {"checkpoint": "last"}, {"outer_normals": True}),
    (TWO, {"fixed_source": "scale", "weight.scale": 3.0}),
    ({**TWO, "weight.scale": 2.0}, {"weight.rotation": 0.5}),
    ({**TWO, "weight.scale": 2.0}, {"fixed_source": "rotation"}),
    (TWO, {"sources": "scale+rotation"}),
    (LEARNT, {"weight.scale": 2.0, "weight.trivial_augment": 0.0}),
    (LEARNT, {"fixed_source": "trivial_augment"}),
    (LEARNT, {"gamma": 0.1, "l1_reduction": "sum", "outer_lr_location": 0.01}),
    (LEARNT, {"neumann_scale": 0.5, "damping": 0.5}),
    (LEARNT | {"method": "one_step"}, {"neumann_terms": 7}),
    (LEARNT | {"method": "one_step"}, {"method": "neumann", "neumann_terms": 0}),
    (LEARNT | {"method": "conjugate_gradient"}, {"scale_rule": "value", "neumann_scale": 0.3}),
    (PLACES, {"outer_lr_weights": 0.5, "constraint": "softplus", "fixed_source": "combined"}),
    (PLACES | {"gamma": 0.0}, {"l1_reduction": "sum"}),
    (
        {"outer_task": "none", "sources": "trivial_augment+defect_free"},
        {"targets": "normal", "paste_per_image": 3, "blend": "poisson", "scale_max": 1.0},
    ),
]


@pytest.mark.parametrize(("base", "without_effect"), WITHOUT_EFFECT)
def test_what_has_no_effect_does_not_remain(runner, base, without_effect) -> None:
    canonical = runner.canonical(QUICK | base)
    assert runner.canonical(QUICK | base | without_effect) == canonical
    assert runner.canonical(canonical) == canonical


@pytest.mark.slow
@pytest.mark.parametrize(("base", "without_effect"), WITHOUT_EFFECT)
def test_what_does_not_remain_has_no_effect(runner, base, without_effect) -> None:
    # Built from all that was asked for, not from its canonical form.
    asked = with_defaults(QUICK | base | without_effect, runner.parameters)
    detector = runner.build(asked, TrialContext(0, "cpu", SIDE, VAL))
    detector.fit(TRAIN)
    assert torch.equal(detector.anomaly_maps(ASKED), known_maps(runner, base))


BOTH: Params = {"outer_task": "both", "sources": "photometric+combined", "outer_interval": 1}
BOTH |= {"scale_rule": "value", "neumann_scale": 1e-4, "outer_lr_location": 5e-3}
EFFECTS: list[tuple[Params, Params]] = [
    *((EQUAL, {name: value}) for name, value in (
        ("outer_task", "source_weights"), ("sources", "all"), ("decoder_width", 64), ("lr", 1e-4),
        ("encoder", "resnet18"), ("halve_every_fraction", 1.0), ("batch", 4), ("epochs", 3),
        ("images_per_epoch", 6), ("weight.scale", 2.0), ("weight.scale", 0.0),
        ("paste_per_image", 2), ("targets", "normal"), ("photometric_range", 0.2),
        ("scale_min", 0.9), ("scale_max", 1.0),
    )),
    *((BOTH, {name: value}) for name, value in (
        ("method", "unroll"), ("method", "conjugate_gradient"), ("neumann_terms", 3),
        ("scale_rule", "auto"), ("outer_interval", 2), ("outer_batch", 1),
        ("outer_grad_clip", 1e-3), ("warmup_fraction", 0.75), ("outer_lr_weights", 0.5),
        ("constraint", "softplus"), ("outer_lr_location", 0.05), ("gamma", 0.5),
        ("l1_reduction", "sum"), ("normalise_factors", True), ("fixed_source", "combined"),
        ("rotation_range", 5.0), ("shear_range", 0.1), ("location_threshold", 0.9),
    )),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("base", "change"), EFFECTS)
def test_what_has_an_effect_remains(base, change) -> None:
    if base == BOTH:
        # With random weights, negative curvature ends every series at its first term.
        runner = Synth4SegRunner(spec_of(weights="bundled"))
    else:
        runner = Synth4SegRunner(spec_of({"encoder": ["tf_efficientnet_lite0", "resnet18"]}))
    base = base | {"checkpoint": "last"}
    assert runner.canonical(QUICK | base | change) != runner.canonical(QUICK | base)
    assert not torch.equal(maps_of(runner, base | change), known_maps(runner, base))


def test_given_weights_are_relative_to_the_fixed_one(runner) -> None:
    params: Params = {"outer_task": "none", "weight.scale": 0.0, "weight.shear": 2.0}
    params |= {"fixed_source": "rotation", "weight.rotation": 0.25}
    canonical = runner.canonical(params)
    assert canonical["sources"] == "trivial_augment+photometric+rotation+shear+defect_free"
    assert {k for k in canonical if k.startswith("weight.")} == {
        "weight.trivial_augment", "weight.photometric", "weight.shear", "weight.defect_free",
    }  # fmt: skip
    training = settings_of(with_defaults(canonical, runner.parameters)).training
    assert training.initial_weights == (1, 1, 1, 2, 1) and training.fixed_source == 2
    learnt = settings_of(with_defaults(runner.canonical({}), runner.parameters)).training
    assert learnt.initial_weights is None and learnt.fixed_source == 0


def test_published_settings_are_the_defaults(runner) -> None:
    canonical = runner.canonical({})
    assert canonical["warmup_fraction"] == 0.2
    assert runner.canonical(PLACES)["warmup_fraction"] == 0.5
    settings = settings_of(with_defaults(canonical, runner.parameters))
    training, sources = settings.training, settings.sources
    assert (training.epochs, training.lr, training.halve_every_fraction) == (150, 2.5e-4, 0.2)
    assert (sources.batch, sources.variation.photometric) == (2, pytest.approx((0.1, 1.9)))
    assert training.scale == training.lr and training.terms == 3
    assert settings.decoder_width == 256 and not settings.outer_normals


SPACES = ("bilevel_weights", "bilevel_location", "bilevel_blackbox")


@pytest.mark.parametrize("name", SPACES)
def test_shipped_spaces_draw_nothing_without_effect(name) -> None:
    spec = load_spec(find_space(name), ["backbone.weights=random"])
    check_space(spec.parsed_space, Synth4SegRunner.parameters, "synth4seg")
    runner, space = Synth4SegRunner(spec), spec.parsed_space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(40):
        params = space.suggest(study.ask())
        canonical = runner.canonical(params)
        # A source of weight 0 is left out, and then there is no weight to tell.
        left_out = {key for key, value in params.items() if "weight." in key and value == 0}
        assert set(params) - set(canonical) == left_out, params


def test_learnt_and_searched_weights_train_alike() -> None:
    learnt, searched = (load_spec(find_space(f"bilevel_{k}")) for k in ("weights", "blackbox"))
    assert learnt.dataset == searched.dataset and learnt.objectives == searched.objectives
    shared = set(searched.space) & set(learnt.space) - {"outer_task"}
    assert shared == {k for k in searched.space if "weight." not in k} - {"outer_task"}
    assert all(learnt.space[name] == searched.space[name] for name in shared)
