"""Detectors whose banks have windows: canonical forms, the oracle, places that do not count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import autosearch_runners.bank.stores as bank_stores
import numpy as np
import pytest
import torch
from autosearch_runners.memory_bank import MemoryBankDetector, cells_within
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
    TRAIN,
    Cells,
    built,
    expected_maps,
    fitted,
    maps_of,
    upsampled,
    valid_but,
)
from test_bank_rows import runner
from test_windows import assert_close
from torch import Tensor

from autosearch.contracts import TiledDetector, TrialContext, shared_tensor
from autosearch.data import TileGrid
from autosearch.errors import Infeasible
from autosearch.memory import coreset
from autosearch.memory.windows import WindowedBank
from autosearch.spec import Params
from autosearch.testing.images import image_set


class TestCanonical:
    @pytest.mark.parametrize(
        "params",
        [
            {"window": None, "rows_per_place": 7, "level2.weight": 0.5},
            {"metric": "euclidean", "fusion": "concat", "neighbour_images": None},
            {"metric": None, "fusion": None, "rows_per_place": None, "level3.weight": None},
        ],
    )
    def test_without_them_it_is_what_it_was(self, params: Params) -> None:
        form = runner().canonical(params)
        assert form == runner().canonical({})
        assert not form.keys() & {"window", "rows_per_place", "metric", "fusion", "level2.weight"}

    def test_a_window_replaces_the_share_of_all(self) -> None:
        thin: Params = {"coreset_ratio": 0.3, "coreset_method": "kcenter"}
        form = runner().canonical({"window": 2} | thin)
        assert form == runner().canonical({"window": 2})
        assert form["window"] == 2 and not {n for n in form if n.startswith("coreset")}
        some = runner().canonical({"window": 0, "rows_per_place": 3} | thin)
        assert some["rows_per_place"] == 3 and some["coreset_method"] == "kcenter"
        assert some["coreset_pool"] == 50_000 and "coreset_ratio" not in some
        drawn: Params = {"window": 0, "rows_per_place": 3, "coreset_method": "random"}
        random = runner().canonical(drawn)
        assert random["coreset_method"] == "random" and "coreset_pool" not in random

    def test_images_that_are_compared_are_kept_whole(self) -> None:
        params: Params = {"window": 1, "neighbour_images": 5}
        form = runner().canonical(params | {"rows_per_place": 3})
        assert form == runner().canonical(params)

    def test_weights_are_those_of_what_is_extracted(self) -> None:
        levels: Params = {"fusion": "levels", "level1.weight": 0.2, "level2.weight": 0.5}
        form = runner().canonical(levels)
        weights = {name: value for name, value in form.items() if name.endswith("weight")}
        assert weights == {"level2.weight": 0.5, "level3.weight": 1.0}
        alone: Params = {"level2.extract": False}
        assert runner().canonical(alone | levels) == runner().canonical(alone)

    def test_nothing_that_counts_is_infeasible(self) -> None:
        with pytest.raises(Infeasible, match="weight is 0 for all that is extracted"):
            runner().canonical({"fusion": "levels", "level2.weight": 0, "level3.weight": 0.0})


class TestWindow:
    @pytest.mark.parametrize("neighbours", [1, 4])
    @pytest.mark.parametrize("radius", [0, 1, 3, 6])
    def test_is_the_oracle(self, radius: int, neighbours: int) -> None:
        maps = maps_of({"window": radius, "num_neighbors": neighbours})
        expected = expected_maps(KNOWN, QUERIES, EVERYWHERE, radius, neighbours)
        assert_close(maps, upsampled(expected).double())

    def test_one_as_large_as_the_grid_is_the_whole_bank(self) -> None:
        train = image_set((32, 48), 5, 0, 4)
        context = TrialContext(SEED, "cpu", (32, 48))
        maps, forms = [], ({"window": 6}, {})
        for params in forms:
            detector = runner().build(runner().canonical({**params}), context)
            detector.fit(train)
            maps.append(detector.anomaly_maps(ASKED[..., :32, :48]))
        torch.testing.assert_close(*maps, rtol=1e-4, atol=1e-4 * float(maps[1].max()))

    def test_knows_its_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is normal on the left need not be on the right."""
        pixels = TRAIN.pixels.copy()
        pixels[..., 32:] *= 0.3
        train, swapped = replace(TRAIN, pixels=pixels), torch.from_numpy(pixels).roll(32, 3)
        forms: tuple[Params, ...] = ({"window": 0}, {"window": 1}, {})
        monkeypatch.setattr(MemoryBankDetector, "_prepare", lambda *given: Cells())
        own, near, everywhere = (fitted(form, train).anomaly_maps(swapped) for form in forms)
        far = slice(12, 20)
        assert own[..., far].mean() > 10 * everywhere[..., far].mean()
        assert (own >= near - 1e-3).all() and (near >= everywhere - 1e-3).all()

    def test_cost_is_what_is_compared(self) -> None:
        cost = fitted({"window": 1, "rows_per_place": 4}).cost()
        assert cost.bank_bytes == 4 * 4 * PLACES * (SHALLOW + DEEP)
        rows = 4 * (3 * 6 - 2) * (3 * 8 - 2)
        assert cost.search_flops == 2 * rows * (SHALLOW + DEEP)

    def test_rows_of_a_query_are_told(self) -> None:
        assert fitted({"window": 1, "rows_per_place": 4}).figures() == {"rows_a_query": 4 * 9}
        images: Params = {"window": 1, "neighbour_images": 2}
        assert fitted(images).figures() == {"rows_a_query": 2 * 9}
        assert fitted({"neighbour_images": 2}).figures() == {"rows_a_query": 2 * PLACES}
        assert fitted({}).figures() == {}

    def test_memory_grows_with_the_places_alone(self) -> None:
        few = built({"window": 1, "rows_per_place": 2, "coreset_method": "random"})
        assert few.memory(10_000) < built({"window": 1}).memory(10_000) / 10
        kcenter = built({"window": 1, "rows_per_place": 2, "coreset_method": "kcenter"})
        assert kcenter.memory(10_000) > few.memory(10_000)


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """What banks with windows are given."""
    given: list[tuple[Tensor, Tensor]] = []

    class Watched(WindowedBank):
        def fill(self, patches: Tensor, places: Tensor) -> None:
            given.append((patches, places))
            super().fill(patches, places)

    monkeypatch.setattr(bank_stores, "WindowedBank", Watched)
    return given


class TestRowsPerPlace:
    def test_random_ones_are_drawn_for_each_place(
        self, stored: list[tuple[Tensor, Tensor]]
    ) -> None:
        params: Params = {"window": 0, "rows_per_place": 3}
        for seed in (SEED, SEED, 1):
            fitted(params, seed=seed)
        patches, places = stored[0]
        assert torch.equal(torch.bincount(places), torch.full((PLACES,), 3))
        assert torch.equal(patches, stored[1][0]) and not torch.equal(patches, stored[2][0])
        images = []
        for patch, place in zip(patches, places, strict=True):
            apart = (KNOWN[:, place] - patch).abs().amax(1)
            assert apart.min() < 1e-4 < apart.sort().values[1]
            images.append((int(place), int(apart.argmin())))
        assert len(set(images)) == 3 * PLACES
        assert len({image for place, image in images if place < 4}) > 3

    def test_kcenter_is_that_of_each_place(self, stored: list[tuple[Tensor, Tensor]]) -> None:
        # Short vectors, which are not projected at random.
        params: Params = {"window": 0, "rows_per_place": 3, "coreset_method": "kcenter"}
        fitted({"level2.extract": False, **params})
        patches, places = stored[0]
        deep = torch.cat([patches, places[:, None]], dim=1)
        known = patches_of_deep()
        for place in range(known.shape[1]):
            own = known[:, place]
            chosen = own[coreset(own, count=3).sort().values]
            assert torch.equal(deep[places == place][:, :-1], chosen)

    def test_a_pool_bounds_what_kcenter_looks_at(
        self, stored: list[tuple[Tensor, Tensor]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        params: Params = {"window": 0, "rows_per_place": 3, "coreset_method": "kcenter"}
        detector: Any = built({**params, "coreset_pool": 5 * PLACES})
        drawn, original = [], detector._drawn

        def watched(*given: Any) -> Any:
            drawn.append(given[2])
            return original(*given)

        monkeypatch.setattr(detector, "_drawn", watched)
        detector.fit(TRAIN)
        assert torch.equal(torch.bincount(drawn[0] % PLACES), torch.full((PLACES,), 5))
        assert len(stored[0][0]) == 3 * PLACES


def patches_of_deep() -> Tensor:
    detector: Any = built({"level2.extract": False})
    images = shared_tensor(TRAIN.pixels)
    found: Tensor = detector._patches(detector._prepare(images), images)
    return found.view(len(images), -1, DEEP)


class TestPlacesThatDoNotCount:
    @pytest.mark.parametrize("radius", [0, 1])
    def test_have_no_rows(self, radius: int) -> None:
        train = valid_but((ALL, CORNER, CORNER), (slice(4), ALL, slice(32, 64)))
        assert train.valid is not None
        there = cells_within(train.valid, GRID).flatten(1)
        maps = maps_of({"window": radius}, train)
        expected = expected_maps(KNOWN, QUERIES, there, radius)
        lost = expected.isinf()
        assert lost.any() == (radius == 0 or bool(lost.any()))
        # The corner is answered for by its neighbours; away from it maps are the oracle's.
        known = upsampled(expected.masked_fill(lost, 0))
        assert_close(maps[:, 24:, 24:], known[:, 24:, 24:].double())
        assert maps[:, :16, :16].isfinite().all()

    def test_where_no_image_counts_is_like_its_neighbours(self) -> None:
        scores = maps_of({"window": 0}, valid_but((ALL, CORNER, CORNER)))
        corner = scores[:, 4:12, 4:12]
        assert (corner > 0).all() and (corner <= scores.amax((1, 2))[:, None, None]).all()

    def test_where_some_images_count_a_row_must_be(self) -> None:
        # Of the first cell 12 of 64 pixels count, in one image only: too few for a row.
        train = valid_but((slice(10), CORNER, CORNER), (slice(10, 11), slice(0, 8), slice(2, 8)))
        assert train.valid is not None
        train.valid[10, 2:8, 0:2] = False
        with pytest.raises(Infeasible, match="window 0: 1 places have no row"):
            fitted({"window": 0}, train)
        fitted({"window": 1}, train)

    def test_a_place_that_counts_as_a_whole_in_few_images_has_few_rows(self) -> None:
        # Some pixels of the first cell count in all images, most of them in one only.
        train = valid_but((slice(10), slice(0, 8), slice(0, 6)))
        with pytest.raises(Infeasible, match="window 0: 1 places have fewer than 2 rows"):
            fitted({"window": 0, "num_neighbors": 2}, train)

    def test_neighbours_must_lie_within_the_window(self) -> None:
        with pytest.raises(Infeasible, match="window 0: 48 places have fewer than 12 rows"):
            fitted({"window": 0, "num_neighbors": 12})
        fitted({"window": 1, "num_neighbors": 12})
        with pytest.raises(Infeasible, match="num_neighbors 50 of a bank of 48 patches"):
            fitted(
                {"window": 6, "rows_per_place": 1, "num_neighbors": 50, "coreset_method": "random"}
            )


def test_tiles_have_places_of_their_own() -> None:
    """A shared bank has windows within a tile."""
    size = (48, 96)
    images = image_set(size, 5, 0, 4)
    grid = TileGrid.over(size, 48, 0.25)
    context = TrialContext(SEED, "cpu", size)
    canonical = runner().canonical({"window": 1})
    tiled = TiledDetector.built(grid, False, lambda c: runner().build(canonical, c), context)
    tiled.fit(images)
    (part,) = tiled.parts
    tiles = grid.cut(images.pixels[0])
    maps = part.anomaly_maps(torch.from_numpy(np.ascontiguousarray(tiles)))
    # Every tile is among what the bank holds, at its own places.
    assert maps.shape == (len(grid), 48, 48)
    assert maps.max() < 1e-4 * KNOWN.square().sum(-1).mean()
    assert tiled.cost().search_flops == len(grid) * part.cost().search_flops
