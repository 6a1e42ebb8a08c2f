"""What patches become before they are compared, and scores afterwards; costs and graphs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from autosearch_runners.bank.transform import (
    leading_components,
    shrunk_covariance,
    total_variance,
    whitener,
)
from autosearch_runners.memory_bank import MemoryBankDetector, smaller_size
from bank_parts import (
    ASKED,
    DEEP,
    EVERYWHERE,
    GRID,
    KNOWN,
    PLACES,
    QUERIES,
    SHALLOW,
    SIZE,
    TRAIN,
    built,
    expected_maps,
    fitted,
    maps_of,
    upsampled,
)
from scipy.ndimage import gaussian_filter
from test_bank_rows import runner
from torch import Tensor

from autosearch.backbones import resize
from autosearch.contracts import shared_tensor
from autosearch.errors import Infeasible
from autosearch.graphs import (
    largest_difference,
    onnx_bytes,
    onnx_run,
    openvino_files,
    openvino_run,
)
from autosearch.spec import Params

LEVELS = slice(0, SHALLOW), slice(SHALLOW, SHALLOW + DEEP)
CLOUD = torch.tensor([[3.0, 0], [-3, 0], [0, 1], [0, -1]])
"""Variances 4.5 and 0.5."""


def of(known: Tensor, queries: Tensor) -> Tensor:
    """Maps by a slow search of all that is known."""
    return upsampled(expected_maps(known, queries, EVERYWHERE, math.inf))


def changed(matrix: Tensor) -> Tensor:
    return of(KNOWN @ matrix, QUERIES @ matrix)


class TestWhitening:
    def test_covariance_is_drawn_towards_that_of_equal_channels(self) -> None:
        share = 2 / (2 + 4)
        expected = torch.tensor([4.5, 0.5]).double() * (1 - share) + share * 2.5
        torch.testing.assert_close(shrunk_covariance(CLOUD), expected.diag())

    @pytest.mark.parametrize("power", [0.0, 0.3, 1.0])
    def test_axes_are_divided_by_a_power_of_their_variance(self, power: float) -> None:
        variances = shrunk_covariance(CLOUD).diag().float()
        factors = variances ** (-power / 2)
        kept = math.sqrt(5 / float((factors**2 * torch.tensor([4.5, 0.5])).sum()))
        torch.testing.assert_close(whitener(CLOUD, power), (factors * kept).diag())
        assert total_variance(CLOUD @ whitener(CLOUD, power)) == pytest.approx(5)

    def test_whole_whitening_leaves_no_axis_ahead(self) -> None:
        patches = torch.randn(60_000, 3, generator=torch.Generator().manual_seed(0))
        mixed = patches @ torch.tensor([[5.0, 1, 0], [0, 1, 0], [0, 0, 0.1]])
        spread = torch.cov((mixed @ whitener(mixed, 1)).T)
        expected = spread.trace() / 3 * torch.eye(3)
        torch.testing.assert_close(spread, expected, rtol=0.05, atol=0.05)

    def test_each_level_has_its_own(self) -> None:
        parts = [whitener(KNOWN.flatten(0, 1)[:, level], 0.5) for level in LEVELS]
        maps = maps_of({"whitening": 0.5})
        torch.testing.assert_close(maps, changed(torch.block_diag(*parts)), rtol=1e-3, atol=1e-3)

    def test_fewer_patches_than_channels_will_do(self) -> None:
        patches = torch.randn(3, 40)
        assert torch.isfinite(patches @ whitener(patches, 1)).all()

    def test_what_never_varies_stays_as_it_is(self) -> None:
        torch.testing.assert_close(whitener(torch.ones(9, 2), 1), torch.eye(2))


class TestComponents:
    def test_those_with_most_variance_come_first(self) -> None:
        axes = leading_components(CLOUD, 2)
        torch.testing.assert_close(axes.abs(), torch.eye(2))

    @pytest.mark.parametrize(("wanted", "count"), [(1, 1), (2, 2), (9, 2), (0.85, 1), (0.95, 2)])
    def test_a_number_or_a_share_of_the_variance(self, wanted: float, count: int) -> None:
        assert leading_components(CLOUD, wanted).shape == (2, count)

    def test_patches_are_compared_along_them(self) -> None:
        detector = fitted({"components": 16})
        axes = leading_components(KNOWN.flatten(0, 1), 16)
        maps = detector.anomaly_maps(ASKED)
        torch.testing.assert_close(maps, changed(axes), rtol=1e-3, atol=1e-3)
        projection = 2 * (SHALLOW + DEEP) * 16
        compared = 2 * 16 * len(TRAIN) * PLACES
        assert detector.cost().search_flops == PLACES * (projection + compared)
        assert detector.cost().bank_bytes == 4 * 16 * len(TRAIN) * PLACES
        assert detector.figures() == {"components": 16}

    def test_of_each_level_where_each_has_a_bank(self) -> None:
        detector = fitted({"components": 0.9, "fusion": "levels"})
        counts = [
            leading_components(KNOWN.flatten(0, 1)[:, level], 0.9).shape[1] for level in LEVELS
        ]
        assert [store.dimension for store in detector._stores if store] == counts


class TestLevelScale:
    def test_levels_count_alike_or_as_weighed(self) -> None:
        parts = [KNOWN.flatten(0, 1)[:, level] for level in LEVELS]
        factors = [
            torch.full((part.shape[1],), math.sqrt(weight / total_variance(part)))
            for part, weight in zip(parts, (2.0, 0.5), strict=True)
        ]
        weights: Params = {"level2.weight": 2.0, "level3.weight": 0.5}
        maps = maps_of({"level_scale": "unit", **weights})
        torch.testing.assert_close(maps, changed(torch.cat(factors).diag()), rtol=1e-3, atol=1e-4)

    def test_a_level_that_never_varies_is_no_reason_to_fail(self) -> None:
        flat = replace(TRAIN, pixels=np.full_like(TRAIN.pixels, 0.5))
        params: Params = {"level_scale": "unit", "whitening": 1.0, "components": 4}
        maps = fitted({**params, "position_weight": 1.0}, flat).anomaly_maps(ASKED)
        assert torch.isfinite(maps).all()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_places_are_compared_beside_patches(metric: str) -> None:
    vectors = [F.normalize(part, dim=-1) if metric == "cosine" else part
               for part in (KNOWN, QUERIES)]  # fmt: skip
    rows, columns = np.divmod(np.arange(PLACES), GRID[1])
    places = torch.from_numpy(np.stack([rows, columns], 1) / (max(GRID) - 1)).float()
    places = places * 3 * math.sqrt(total_variance(vectors[0].flatten(0, 1)))
    placed = [torch.cat([part, places.expand(len(part), -1, -1)], -1) for part in vectors]
    maps = maps_of({"position_weight": 3.0, "metric": metric})
    torch.testing.assert_close(maps, of(placed[0], placed[1]), rtol=1e-3, atol=1e-3)


class TestScores:
    def test_roots_are_taken_before_maps_are_made(self) -> None:
        plain = expected_maps(KNOWN, QUERIES, EVERYWHERE, math.inf)
        floor = 1e-3 * total_variance(KNOWN.flatten(0, 1))
        expected = upsampled((plain.clamp(min=0) + floor).sqrt())
        torch.testing.assert_close(maps_of({"distance": "root"}), expected, rtol=1e-3, atol=1e-2)

    def test_smoothing_is_that_of_the_map(self) -> None:
        plain = maps_of({}).numpy()
        expected = np.stack([gaussian_filter(map_, 2.5, mode="reflect") for map_ in plain])
        torch.testing.assert_close(
            maps_of({"smoothing": 2.5}).numpy(), expected, rtol=1e-4, atol=1e-4
        )

    def test_the_share_of_the_highest_pixels_is_the_detectors(self) -> None:
        assert built({"top_share": 0.01}).top_share == 0.01
        assert built({}).top_share is None


class TestRows:
    @pytest.mark.parametrize("method", ["random", "kcenter"])
    def test_a_bank_has_as_many_as_asked_for(self, method: str) -> None:
        detector = fitted({"bank_rows": 7, "coreset_method": method})
        assert detector.cost().bank_bytes == 4 * 7 * (SHALLOW + DEEP)

    def test_it_has_all_where_there_are_fewer(self) -> None:
        torch.testing.assert_close(maps_of({"bank_rows": 1_000_000}), maps_of({}))

    def test_fewer_than_neighbours_are_refused(self) -> None:
        with pytest.raises(Infeasible, match="num_neighbors 3 of a bank of 2 patches"):
            fitted({"bank_rows": 2, "num_neighbors": 3})


class TestGrid:
    @pytest.mark.parametrize(
        ("grid", "size"), [("finest", (12, 16)), ("middle", (6, 8)), ("coarsest", (2, 2))]
    )
    def test_is_that_of_one_of_the_extracted_maps(self, grid: str, size: tuple[int, int]) -> None:
        levels: Params = {"level1.extract": True, "level3.extract": False, "level4.extract": True}
        detector = fitted({"grid": grid, **levels})
        assert detector._grid == size
        assert detector.anomaly_maps(ASKED).shape == (len(ASKED), *SIZE)

    def test_finer_maps_are_averaged_over_its_cells(self) -> None:
        maps = torch.rand(2, 3, 12, 16)
        expected = maps.view(2, 3, 3, 4, 4, 4).mean((3, 5))
        torch.testing.assert_close(resize(maps, (3, 4)), expected)


class TestImageSize:
    def test_the_network_sees_smaller_images(self) -> None:
        small = resize(ASKED, (24, 32))
        detector = fitted({"image_size": 28})
        assert smaller_size(SIZE, 28) == (24, 32) and detector._grid == (3, 4)
        train = replace(
            TRAIN,
            pixels=resize(shared_tensor(TRAIN.pixels), (24, 32)).numpy(),
            masks=TRAIN.masks[:, ::2, ::2],
        )
        context = replace(detector._context, image_size=(24, 32))
        plain = replace(detector._settings, image_size=None)
        other = MemoryBankDetector(detector._extractor, (3, 3), plain, context)
        other.fit(train)
        expected = F.interpolate(
            _scores(other, small), SIZE, mode="bilinear", align_corners=False
        )[:, 0]
        torch.testing.assert_close(detector.anomaly_maps(ASKED), expected, rtol=1e-4, atol=1e-4)
        assert detector.cost().macs == other.cost().macs < built({}).cost().macs

    def test_that_of_the_images_leaves_them(self) -> None:
        assert smaller_size((344, 296), 320) is None and smaller_size((320, 320), 320) is None
        assert smaller_size((320, 320), 100) == (100, 100)

    def test_they_are_made_no_larger(self) -> None:
        assert smaller_size(SIZE, 64) is None
        torch.testing.assert_close(maps_of({"image_size": 64}), maps_of({}))


def _scores(detector: MemoryBankDetector, images: Tensor) -> Tensor:
    features, _ = detector._fitted()
    queries = detector._patches(features, images).view(len(images), -1, features.channels)
    answers = [None if store is None else store.answers for store in detector._stores]
    return detector._mixture.scores(queries, answers).view(len(images), 1, *detector._grid)


def test_what_has_no_effect_does_not_stand_in_a_configuration() -> None:
    def canonical(**params: object) -> Params:
        given = {"backbone": "tf_efficientnet_lite0", **params}
        return runner().canonical(given)  # type: ignore[arg-type]

    alone = {"level2.extract": False}
    assert canonical(window=0, position_weight=2.0) == canonical(window=0)
    assert canonical(grid="coarsest", **alone) == canonical(**alone)
    assert canonical(level_scale="unit", **alone) == canonical(**alone)
    assert canonical(fusion="levels", level_scale="unit") == canonical(fusion="levels")
    assert canonical(bank_rows=100, coreset_ratio=0.5) == canonical(bank_rows=100)
    assert canonical(window=1, bank_rows=100) == canonical(window=1)
    assert "level2.weight" not in canonical() and "level2.weight" in canonical(level_scale="unit")
    for name in ("whitening", "components", "smoothing", "top_share", "image_size", "distance"):
        assert name not in canonical()


@pytest.mark.parametrize(
    "more", [{}, {"fusion": "levels"}, {"window": 1}, {"neighbour_images": 5}]
)
def test_graphs_give_the_same_maps(more: Params) -> None:
    detector = fitted({
        "level_scale": "unit", "whitening": 0.4, "components": 20, "position_weight": 0.5,
        "distance": "root", "smoothing": 1.5, "image_size": 48, "grid": "coarsest",
        "bank_rows": 60, **more,
    })  # fmt: skip
    # Of training images most distances are 0 but for rounding.
    asked = torch.cat([ASKED[:1], shared_tensor(TRAIN.pixels)[:1]])
    expected, images = detector.anomaly_maps(asked).numpy(), asked.numpy()
    graph = onnx_bytes(detector.module(), SIZE)
    for run in (onnx_run(graph, threads=1), openvino_run(*openvino_files(graph), 1)):
        for count in (1, 2):
            maps, _ = run(images[:count])
            assert largest_difference(expected[:count], maps) < 1e-4
