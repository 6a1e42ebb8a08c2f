"""Synth4Seg as a detector: what it learns, exports, keeps and shows."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from autosearch_runners.synth4seg.runner import Synth4SegRunner
from PIL import Image
from synth4seg_parts import (
    ASKED,
    EQUAL,
    LEARNT,
    PLACES,
    QUICK,
    SIDE,
    TRAIN,
    VAL,
    build,
    fitted,
    image_set,
    known,
    known_maps,
    maps_of,
    spec_of,
)

from autosearch.contracts.detector import TrialContext
from autosearch.errors import ConfigError
from autosearch.graphs import onnx_bytes
from autosearch.spec.space import Params


@pytest.fixture(scope="module")
def runner() -> Synth4SegRunner:
    return Synth4SegRunner(spec_of())


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
def test_nothing_is_left_of_the_training(runner, params) -> None:
    module = known(runner, params).module()
    assert all(p.grad is None and not p.requires_grad for p in module.parameters())


@pytest.mark.slow
def test_exported_graph_computes_the_same_maps(runner) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    detector = known(runner, EQUAL)
    session = runtime.InferenceSession(onnx_bytes(detector.module(), (SIDE, SIDE)))
    for count in (1, 3):
        maps, scores = session.run(None, {"images": ASKED[:count].numpy()})
        expected = detector.anomaly_maps(ASKED[:count]).numpy()
        np.testing.assert_allclose(maps, expected, atol=1e-4)
        np.testing.assert_allclose(scores, expected.max(axis=(1, 2)), atol=1e-4)


def test_images_need_no_side_of_whole_cells(runner) -> None:
    side = 50
    context = TrialContext(0, "cpu", (side, side), image_set(1, 0, 1, side))
    detector = runner.build(runner.canonical(QUICK | EQUAL | {"epochs": 1}), context)
    detector.fit(image_set(2, 2, 0, side))
    asked = torch.from_numpy(image_set(1, 1, 2, side).pixels)
    assert detector.anomaly_maps(asked).shape == (2, side, side)


def test_seed_decides(runner) -> None:
    assert not torch.equal(maps_of(runner, EQUAL, seed=1), known_maps(runner, EQUAL))


def test_curve_is_that_of_the_last_fit(runner) -> None:
    detector = fitted(runner, EQUAL)
    detector.fit(TRAIN)
    assert len(detector.curve) == 2


def test_maps_in_a_pause_are_those_of_the_training_so_far(runner) -> None:
    params = EQUAL | {"epochs": 3, "checkpoint": "last"}
    detector, seen = build(runner, params), []
    for fraction in detector.fit_in_steps(TRAIN):
        seen.append((fraction, detector.anomaly_maps(ASKED)))
    assert [fraction for fraction, _ in seen] == pytest.approx([1 / 3, 2 / 3])
    assert not torch.equal(seen[0][1], seen[1][1])


def test_a_training_that_is_left_early_keeps_what_it_learnt(runner) -> None:
    detector = build(runner, EQUAL)
    training = detector.fit_in_steps(TRAIN)
    assert next(training) == 0.5
    maps = detector.anomaly_maps(ASKED)
    training.close()
    assert torch.equal(detector.anomaly_maps(ASKED), maps) and len(detector.curve) == 1
    assert all(p.grad is None and not p.requires_grad for p in detector.module().parameters())
    assert "curves.json" in detector.artifacts()


def test_there_are_no_artifacts_before_a_fit(runner) -> None:
    assert build(runner, EQUAL).artifacts() == {}


def test_pretrained_weights_are_told(runner) -> None:
    assert runner.weights()


def test_artifacts_show_what_was_learnt(runner) -> None:
    detector = fitted(runner, PLACES | {"outer_task": "both", "sources": "combined+scale"})
    files = detector.artifacts()
    assert set(files) == {"curves.json", "locations.jpg"}
    curves = json.loads(files["curves.json"])
    assert curves["x"] == "epoch"
    panels = {panel["title"]: panel["series"] for panel in curves["panels"]}
    assert list(panels) == [
        "loss", "validation IoU", "source weights", "hypergradient",
        "terms after the first", "share of the outer steps",
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
    trained = known(runner, EQUAL).module()
    assert cost.parameters == sum(p.numel() for p in trained.parameters())


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
        context = TrialContext(0, "cpu", (SIDE, SIDE), validation)
        detector = runner.build(runner.canonical(QUICK | EQUAL), context)
        with pytest.raises(ConfigError, match=message):
            detector.fit(TRAIN)
    with pytest.raises(ConfigError, match=r"dataset\.labelled\.train.*larger share"):
        build(runner, EQUAL).fit(image_set(0, 3, 0))
