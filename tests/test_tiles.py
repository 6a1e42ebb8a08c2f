"""Tiles: they cover a canvas, and what is cut is put together again without a seam."""

import json
from typing import Any

import numpy as np
import pytest
from tiled_parts import slow_weights

from autosearch.data.records import NORMAL, ImageSet
from autosearch.data.tiles import TileGrid, described, grid_of, numbered, tiles_of, without_effect
from autosearch.spec.sections import TilingSpec

CASES = [
    ((96, 160), 64, 0.25),
    ((96, 160), 64, 0.0),
    ((100, 131), 32, 0.5),
    ((64, 64), 32, 0.0),
    ((300, 40), 64, 0.3),  # lower than a tile is wide
    ((65, 64), 64, 0.25),  # one pixel too many
]


@pytest.mark.parametrize(("canvas", "side", "overlap"), CASES)
class TestGrid:
    def test_covers_the_canvas_with_the_overlap_asked_for(
        self, canvas: tuple[int, int], side: int, overlap: float
    ) -> None:
        grid = TileGrid.over(canvas, side, overlap)
        assert grid.tile == (min(side, canvas[0]), min(side, canvas[1]))
        seen = np.zeros(canvas, dtype=int)
        for box in grid.boxes:
            assert box.size == grid.tile
            seen[box.slices] += 1
        assert seen.min() == 1 and len(grid) == len(grid.boxes)
        for starts, own, whole in zip((grid.tops, grid.lefts), grid.tile, canvas, strict=True):
            steps = np.diff(starts)
            assert starts[0] == 0 and starts[-1] + own == whole
            assert all(own - steps >= overlap * own), "they share at least so much"
            assert len(steps) == 0 or steps.max() - steps.min() <= 1, "evenly spread"
            # With one less, some would share too little.
            if len(steps):
                assert (len(steps) - 1) * np.floor(own * (1 - overlap)) < whole - own

    def test_what_is_cut_is_put_together_again(
        self, canvas: tuple[int, int], side: int, overlap: float
    ) -> None:
        grid = TileGrid.over(canvas, side, overlap)
        y, x = np.mgrid[: canvas[0], : canvas[1]]
        smooth = (np.sin(y / 17) + np.cos(x / 23) + x * y / 9000).astype(np.float32)
        for whole in (smooth, np.full(canvas, 0.7, dtype=np.float32)):
            found = grid.blended(grid.cut(whole))
            assert found.shape == canvas and found.dtype == np.float32
            np.testing.assert_allclose(found, whole, rtol=1e-6, atol=1e-6)

    def test_blends_as_a_slow_oracle_does(
        self, canvas: tuple[int, int], side: int, overlap: float
    ) -> None:
        grid = TileGrid.over(canvas, side, overlap)
        rng = np.random.default_rng(0)
        maps = rng.random((len(grid), *grid.tile), dtype=np.float32)
        weights, expected = slow_weights(grid), np.zeros(canvas)
        for weight, box, values in zip(weights, grid.boxes, maps, strict=True):
            expected[box.slices] += weight[box.slices] * values
        np.testing.assert_allclose(grid.blended(maps), expected, rtol=1e-5, atol=1e-6)
        assert grid.blended(maps).min() >= maps.min() - 1e-6
        assert grid.blended(maps).max() <= maps.max() + 1e-6

    def test_goes_to_json_and_back(
        self, canvas: tuple[int, int], side: int, overlap: float
    ) -> None:
        grid = TileGrid.over(canvas, side, overlap)
        assert TileGrid.from_plain(json.loads(json.dumps(grid.to_plain()))) == grid


@pytest.mark.parametrize(("canvas", "side", "overlap"), CASES)
class TestMiddles:
    def test_each_pixel_is_that_of_the_tile_in_whose_middle_it_lies(
        self, canvas: tuple[int, int], side: int, overlap: float
    ) -> None:
        grid = TileGrid.over(canvas, side, overlap, "middle")
        rng = np.random.default_rng(0)
        maps = rng.random((len(grid), *grid.tile), dtype=np.float32)
        found = grid.blended(maps)

        def nearest(starts: tuple[int, ...], own: int, at: int) -> int:
            # Farthest from its borders, the later one of two alike; ends of the canvas are none.
            depth = [
                min(
                    at - start + 1 if i else 10**6,
                    start + own - at if i + 1 < len(starts) else 10**6,
                )
                if start <= at < start + own
                else -1
                for i, start in enumerate(starts)
            ]
            return max(range(len(starts)), key=lambda i: (depth[i], i))

        for y in range(0, canvas[0], 3):
            for x in range(0, canvas[1], 3):
                row, column = (
                    nearest(grid.tops, grid.tile[0], y),
                    nearest(grid.lefts, grid.tile[1], x),
                )
                own = maps[row * len(grid.lefts) + column]
                assert found[y, x] == own[y - grid.tops[row], x - grid.lefts[column]], (y, x)

    def test_what_does_not_depend_on_the_place_is_the_same_in_one_piece(
        self, canvas: tuple[int, int], side: int, overlap: float
    ) -> None:
        grid = TileGrid.over(canvas, side, overlap, "middle")
        whole = np.random.default_rng(1).random((3, *canvas), dtype=np.float32)
        values = np.square(whole).sum(0)
        np.testing.assert_array_equal(grid.blended(np.square(grid.cut(whole)).sum(1)), values)
        plain = json.loads(json.dumps(grid.to_plain()))
        assert plain["seams"] == "middle" and TileGrid.from_plain(plain) == grid
        with pytest.raises(ValueError, match="seams that are 'sewn'"):
            TileGrid.from_plain({**plain, "seams": "sewn"})
        tiling = TilingSpec(size=side, overlap=overlap, seams="middle")
        assert grid_of(tiling, canvas) == grid


class TestBlending:
    @pytest.mark.parametrize("overlap", [0.25, 0.5])
    def test_where_tiles_disagree_one_goes_over_into_the_other(self, overlap: float) -> None:
        grid = TileGrid.over((32, 160), 32, overlap)
        maps = np.zeros((len(grid), 32, 32), dtype=np.float32)
        maps[::2] = 1
        steps = np.abs(np.diff(grid.blended(maps)[0]))
        assert steps.max() <= 1.01 / (32 * overlap) + 1e-6
        assert np.abs(np.diff(grid.blended(maps), axis=0)).max() < 1e-6

    def test_one_tile_is_the_map(self) -> None:
        values = np.random.default_rng(0).random((1, 40, 50), dtype=np.float32)
        np.testing.assert_array_equal(TileGrid.over((40, 50), 64, 0.25).blended(values), values[0])


@pytest.mark.parametrize(
    "change",
    [
        {"tops": [0, 40]},  # leaves rows out, and does not end at the border
        {"tops": []},
        {"lefts": [0, 96]},
        {"lefts": [0, 48, 48, 96]},
        {"tile": [0, 64]},
        {"tile": [128, 64]},
        {"canvas": [96]},
        {"canvas": None},
        {"tile": ["wide", 64]},
    ],
)
def test_tiles_that_miss_the_canvas_are_refused(change: dict[str, Any]) -> None:
    plain = TileGrid.over((96, 160), 64, 0.25).to_plain()
    assert plain["tops"] == [0, 32] and plain["lefts"] == [0, 48, 96]
    with pytest.raises(ValueError):
        TileGrid.from_plain({**plain, **change})
    with pytest.raises(ValueError):
        TileGrid.from_plain({name: plain[name] for name in plain if name not in change})


class TestAskedFor:
    def test_in_words(self) -> None:
        grid = TileGrid.over((1500, 2000), 512, 0.25)
        assert grid.text == "1500 x 2000 px (height x width) in 20 tiles of 512 px"

    def test_as_json(self) -> None:
        tiling = TilingSpec(size=64, overlap=0.5, banks="position")
        grid = TileGrid.over((96, 160), 64, 0.5)
        assert described(tiling, (96, 160)) == {**grid.to_plain(), "banks": "position"}
        assert described(None, (96, 160)) is None and grid_of(None, (96, 160)) is None

    def test_where_one_tile_is_all_of_the_image(self) -> None:
        tiling = TilingSpec(size=224)
        assert grid_of(tiling, (224, 200)) is None and described(tiling, (224, 200)) is None
        text, remedy = without_effect(tiling, (224, 200)) or ("", "")
        assert text.startswith("images of 224 x 200 px (height x width) are no larger than a tile")
        assert "dataset.tiling.size (224)" in remedy
        assert without_effect(tiling, (225, 200)) is without_effect(None, (224, 200)) is None

    def test_numbered_files(self) -> None:
        assert numbered("model.onnx", 0, 1) == "model.onnx"
        assert numbered("model.onnx", 7, 12) == "model-07.onnx"
        assert numbered("weights.safetensors", 7, 101) == "weights-007.safetensors"


def images(**changes: Any) -> ImageSet:
    """Two images of 4 tiles: one with a defect in its first tile, one without."""
    masks = np.zeros((2, 64, 64), dtype=bool)
    masks[0, 3:6, 3:6] = True
    pixels = np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32)
    given = {
        "pixels": pixels, "masks": masks, "types": ("dent", NORMAL), "paths": ("a", "b"),
        "groups": ("A", "B"), **changes,
    }  # fmt: skip
    return ImageSet(**given)


GRID = TileGrid.over((64, 64), 32, 0)


class TestImageSets:
    def test_are_cut_image_by_image(self) -> None:
        whole = images()
        tiles = tiles_of(whole, GRID)
        assert tiles.paths == ("a",) * 4 + ("b",) * 4 and tiles.groups[3:5] == ("A", "B")
        for number, box in enumerate(GRID.boxes):
            np.testing.assert_array_equal(tiles.pixels[number], whole.pixels[0][:, *box.slices])
            np.testing.assert_array_equal(tiles.masks[number], whole.masks[0][box.slices])
        assert tiles.regions is None and tiles.valid is None and tiles.made == ()
        assert not tiles.pixels.flags.writeable

    def test_a_tile_without_defect_is_normal(self) -> None:
        assert tiles_of(images(), GRID).types == ("dent", *(NORMAL,) * 7)

    def test_without_a_mask_nobody_knows(self) -> None:
        masks = np.zeros((2, 64, 64), dtype=bool)
        tiles = tiles_of(images(masks=masks, unmarked=(True, False)), GRID)
        assert tiles.types == ("dent",) * 4 + (NORMAL,) * 4
        assert tiles.unmarked == (True,) * 4 + (False,) * 4

    def test_what_was_made_stays_so(self) -> None:
        assert tiles_of(images(made=(True, False)), GRID).made == (True,) * 4 + (False,) * 4

    def test_tiles_on_which_nothing_counts_are_left_out(self) -> None:
        valid = np.ones((2, 64, 64), dtype=bool)
        valid[0, :, 32:] = False
        valid[1, 0, 0] = False
        tiles = tiles_of(images(valid=valid), GRID)
        assert tiles.paths == ("a",) * 2 + ("b",) * 4
        assert tiles.valid is not None and tiles.valid.shape == (6, 32, 32)
        assert tiles.valid.sum() == 6 * 32 * 32 - 1
        second = tiles_of(images(valid=valid), GRID, (1,))
        assert second.paths == ("b",)

    def test_a_place_where_nothing_ever_counts_is_taken_as_it_is(self) -> None:
        valid = np.ones((2, 64, 64), dtype=bool)
        valid[:, :, 32:] = False
        tiles = tiles_of(images(valid=valid), GRID, (1,))
        assert tiles.paths == ("a", "b") and tiles.valid is None

    def test_masks_of_another_size_come_to_the_canvas(self) -> None:
        whole = images()
        large = np.repeat(np.repeat(whole.masks, 2, 1), 2, 2)
        tiles = tiles_of(images(masks=large, valid=~large), GRID)
        np.testing.assert_array_equal(tiles.masks, tiles_of(whole, GRID).masks)
        assert tiles.valid is not None
        np.testing.assert_array_equal(tiles.valid, ~tiles.masks)

    def test_some_positions(self) -> None:
        whole = images()
        last = tiles_of(whole, GRID, (3,))
        np.testing.assert_array_equal(last.pixels, whole.pixels[:, :, 32:, 32:])
        assert last.paths == ("a", "b") and last.types == (NORMAL, NORMAL)
