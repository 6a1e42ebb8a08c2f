"""Detectors with a bank for each level, with another metric, or that choose images; graphs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from autosearch_runners.memory_bank import cells_within
from bank_parts import (
    ALL,
    ASKED,
    CORNER,
    DEEP,
    EVERYWHERE,
    GRID,
    KNOWN,
    PLACES,
    QUERIES,
    SEED,
    SHALLOW,
    SIZE,
    TRAIN,
    Cells,
    built,
    expected_maps,
    fitted,
    maps_of,
    upsampled,
    valid_but,
)
from test_windows import assert_close

from autosearch.errors import Infeasible
from autosearch.graphs import (
    largest_difference,
    onnx_bytes,
    openvino_files,
    openvino_run,
    round_to_half,
)
from autosearch.memory import coreset
from autosearch.spec import Params


class TestMetric:
    @pytest.mark.parametrize("params", [{}, {"window": 1}])
    def test_cosine_is_that_of_unit_vectors(self, params: Params) -> None:
        known, queries = F.normalize(KNOWN, dim=-1), F.normalize(QUERIES, dim=-1)
        radius = float(params.get("window", math.inf) or 0)
        expected = upsampled(expected_maps(known, queries, EVERYWHERE, radius))
        maps = maps_of({"metric": "cosine", **params})
        torch.testing.assert_close(maps, expected, rtol=1e-3, atol=1e-5)
        assert (maps <= 4).all()

    def test_length_makes_no_difference(self) -> None:
        vectors = fitted({"metric": "cosine"})._mixture.vectors
        torch.testing.assert_close(vectors(3 * KNOWN)[0], vectors(KNOWN)[0])


class TestFusion:
    @pytest.mark.parametrize("metric", ["euclidean", "cosine"])
    @pytest.mark.parametrize("window", [None, 1])
    def test_is_the_weighted_mean_of_scaled_levels(self, window: int | None, metric: str) -> None:
        weights: Params = {"level2.weight": 3.0, "level3.weight": 1.0}
        maps = maps_of({"fusion": "levels", "window": window, "metric": metric, **weights})
        held = torch.arange(len(TRAIN)) % 10 == 0
        radius, expected = math.inf if window is None else window, torch.zeros(3, PLACES)
        levels = [torch.split(part, [SHALLOW, DEEP], -1) for part in (KNOWN, QUERIES)]
        for known, queries, weight in zip(*levels, (0.75, 0.25), strict=True):
            if metric == "cosine":
                known, queries = F.normalize(known, dim=-1), F.normalize(queries, dim=-1)
            others = expected_maps(known[~held], known[held], EVERYWHERE[~held], radius)
            own = expected_maps(known, queries, EVERYWHERE, radius)
            expected = expected + weight * own / others.median()
        wanted = upsampled(expected)
        torch.testing.assert_close(maps, wanted, rtol=1e-3, atol=1e-3)

    def test_scales_make_no_difference(self) -> None:
        """A level that is a hundred times as large counts no more than before."""
        detector = fitted({"fusion": "levels", "window": 1})
        assert detector._mixture.factors.min() > 0
        usual = [
            store.distances(part, None).median()
            for store, part in zip(
                detector._stores, detector._mixture.vectors(QUERIES), strict=True
            )
            if store
        ]
        scaled = detector._mixture.factors * torch.stack(usual)
        assert scaled.max() < 3 * scaled.min()

    def test_a_level_of_no_weight_is_not_stored(self) -> None:
        cost = fitted({"fusion": "levels", "level2.weight": 0.0}).cost()
        assert cost.bank_bytes == 4 * DEEP * PLACES * len(TRAIN)
        assert fitted({"fusion": "levels"}).cost().bank_bytes > cost.bank_bytes

    def test_what_does_not_count_is_not_usual(self) -> None:
        """Places that do not count have no say in what distances are usual."""
        train = valid_but((ALL, slice(0, 32), ALL))
        assert train.valid is not None
        there = cells_within(train.valid, GRID).flatten(1)
        factors = fitted({"fusion": "levels", "window": 1}, train)._mixture.factors
        held = torch.arange(len(TRAIN)) % 10 == 0
        for known, factor in zip(torch.split(KNOWN, [SHALLOW, DEEP], -1), factors, strict=True):
            others = expected_maps(known[~held], known[held], there[~held], 1)
            median = others[there[held]].median()
            assert not torch.isclose(median, others[others.isfinite()].median(), rtol=1e-3)
            torch.testing.assert_close(0.5 / factor.double(), median, rtol=1e-3, atol=0.0)

    def test_a_coreset_stands_for_all_levels_alike(self) -> None:
        scaled = []
        for part in torch.split(KNOWN.flatten(0, 1), [SHALLOW, DEEP], -1):
            centred = part - part.mean(0)
            scaled.append(centred / centred.square().sum(1).mean().sqrt())
        chosen = coreset(torch.cat(scaled, 1), count=20, seed=SEED).sort().values
        thin: Params = {"coreset_ratio": 20 / (11 * PLACES), "coreset_method": "kcenter"}
        detector: Any = fitted({"fusion": "levels", "coreset_pool": 528, **thin})
        stored = detector._stores[1].patches()
        deep = KNOWN.flatten(0, 1)[:, SHALLOW:]
        found = torch.cdist(stored, deep).argmin(1).sort().values
        assert torch.equal(found, chosen)

    def test_needs_an_image_to_hold_out(self) -> None:
        with pytest.raises(Infeasible, match="fusion levels: 1 training images are too few"):
            fitted({"fusion": "levels"}, TRAIN.part(0, 1))

    def test_images_all_alike_are_no_reason_to_fail(self) -> None:
        same = replace(TRAIN, pixels=TRAIN.pixels[:1].repeat(len(TRAIN), 0))
        assert maps_of({"fusion": "levels"}, same).isfinite().all()


class TestNeighbourImages:
    @pytest.mark.parametrize("params", [{}, {"window": 1}, {"num_neighbors": 3}])
    def test_all_images_are_the_plain_bank(self, params: Params) -> None:
        plain, chosen = fitted(params), fitted({"neighbour_images": 20, **params})
        expected, found = plain.anomaly_maps(ASKED), chosen.anomaly_maps(ASKED)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.max()))
        choice = 2 * len(TRAIN) * DEEP
        assert chosen.cost().search_flops == plain.cost().search_flops + choice

    @pytest.mark.parametrize("window", [None, 0, 2])
    def test_only_the_most_alike_are_compared(self, window: int | None) -> None:
        known, asked = (part[..., SHALLOW:].mean(1) for part in (KNOWN, QUERIES))
        scale = known.std(0, correction=0)
        alike = (((asked[:, None] - known) / scale).square().sum(-1)).argsort(1)[:, :2]
        radius = math.inf if window is None else window
        expected = [
            expected_maps(KNOWN[chosen], query[None], EVERYWHERE[:2], radius)
            for query, chosen in zip(QUERIES, alike, strict=True)
        ]
        maps = maps_of({"neighbour_images": 2, "window": window})
        assert_close(maps, upsampled(torch.cat(expected)).double())

    def test_images_are_alike_where_they_count(self) -> None:
        train = valid_but((ALL, slice(0, 32), ALL))
        detector: Any = fitted({"neighbour_images": 2}, train)
        below = KNOWN.view(len(KNOWN), 6, 8, -1)[:, 4:, :, SHALLOW:].mean((1, 2))
        standard = (below - below.mean(0)) / below.std(0, correction=0)
        torch.testing.assert_close(detector._mixture.alike.known, standard, rtol=1e-2, atol=1e-2)

    def test_cost_is_that_of_the_chosen(self) -> None:
        channels = SHALLOW + DEEP
        choice = 2 * len(TRAIN) * DEEP
        whole = fitted({"neighbour_images": 2}).cost()
        assert whole.search_flops == 2 * PLACES * 2 * PLACES * channels + choice
        assert whole.bank_bytes == 4 * len(TRAIN) * (PLACES * channels + DEEP)
        own = fitted({"neighbour_images": 2, "window": 0}).cost()
        assert own.search_flops == 2 * PLACES * 2 * channels + choice

    def test_a_chosen_image_must_have_a_row(self) -> None:
        train = valid_but((slice(1), CORNER, CORNER))
        with pytest.raises(Infeasible, match="window 0, neighbour_images 1: 4 places have no row"):
            fitted({"window": 0, "neighbour_images": 1}, train)
        fitted({"window": 0, "neighbour_images": 2}, train)

    def test_a_coreset_goes_with_it(self) -> None:
        params: Params = {"neighbour_images": 2, "coreset_ratio": 0.5}
        cost = fitted(params).cost()
        assert cost.bank_bytes == 4 * (len(TRAIN) * PLACES // 2 * 152 + len(TRAIN) * DEEP)


@pytest.mark.parametrize(
    "params",
    [
        {"window": 3, "rows_per_place": 4},
        {"window": 0, "metric": "cosine", "num_neighbors": 2},
        {"window": 1, "fusion": "levels", "level3.weight": 0.5},
        {"fusion": "levels", "num_neighbors": 2},
        {"neighbour_images": 2, "window": 1, "num_neighbors": 2},
        {"neighbour_images": 2, "fusion": "levels"},
    ],
    ids=str,
)
def test_graphs_give_the_same_maps(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a place has no row, in half precision, and with the oldest opset."""
    detector: Any = built(params)
    monkeypatch.setattr(detector, "_prepare", lambda images: Cells())
    detector.fit(valid_but((ALL, CORNER, CORNER)))
    exact = detector.anomaly_maps(ASKED).numpy()
    module = detector.module().eval()
    first = onnx_bytes(module, SIZE, opset=15)
    round_to_half(module)
    with torch.no_grad():
        rounded = module(ASKED).numpy()
    assert 0 < largest_difference(exact, rounded) < 0.01
    short = onnx_bytes(module, SIZE, half=True)
    assert len(short) < 0.75 * len(first)
    for graph, expected in ((first, exact), (short, rounded)):
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        openvino = openvino_run(*openvino_files(graph), 1)
        for batch in (1, 3):
            images = ASKED[:batch].numpy()
            for maps in (session.run(None, {"images": images})[0], openvino(images)[0]):
                assert largest_difference(expected[:batch], maps) <= 1e-4
