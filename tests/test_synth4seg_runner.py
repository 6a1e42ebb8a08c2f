"""Synth4Seg as a runner: what configurations may say, what has an effect, and its spaces."""

import optuna
import pytest
import torch
from autosearch_runners.synth4seg.runner import Synth4SegRunner, parse_sources, settings_of
from canonical import check_without_effect
from synth4seg_parts import EQUAL, LEARNT, PLACES, QUICK, asked_maps, known_maps, maps_of, spec_of

from autosearch.contracts.detector import check_space, with_defaults
from autosearch.contracts.registry import find_space
from autosearch.errors import ConfigError, Infeasible
from autosearch.spec.reading import load_spec
from autosearch.spec.space import Params


@pytest.fixture(scope="module")
def runner() -> Synth4SegRunner:
    return Synth4SegRunner(spec_of())


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
    check_without_effect(runner, QUICK | base, without_effect)


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
@pytest.mark.parametrize(("base", "without_effect"), WITHOUT_EFFECT)
def test_what_does_not_remain_has_no_effect(runner, base, without_effect) -> None:
    assert torch.equal(asked_maps(runner, base | without_effect), known_maps(runner, base))


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
    canonical, places = runner.canonical({}), runner.canonical(PLACES)
    schedule = "epochs", "halve_every_fraction", "warmup_fraction"
    assert [canonical[name] for name in schedule] == [150, 0.2, 0.2]
    # Warm-up and the first rate last 30 epochs in both.
    assert [places[name] for name in schedule] == [60, 0.5, 0.5]
    asked: Params = {"epochs": 150, "halve_every_fraction": 0.2, "warmup_fraction": 0.2}
    assert asked.items() <= runner.canonical(PLACES | asked).items()
    settings = settings_of(with_defaults(canonical, runner.parameters))
    training, sources = settings.training, settings.sources
    assert (training.epochs, training.lr, training.halve_every_fraction) == (150, 2.5e-4, 0.2)
    assert (sources.batch, sources.variation.photometric) == (2, pytest.approx((0.1, 1.9)))
    assert training.scale == "inner_lr" and training.terms == 3
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
