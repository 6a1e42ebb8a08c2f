"""How images come onto the input: boxes, shapes, padding, and the way back."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from dataset_parts import SHAPE, loaded, mask, photo, sound_dataset
from PIL import Image

from autosearch.data import Box, Framing, View, resize, resize_mask, resize_regions, size_text
from autosearch.data.boxes import cut
from autosearch.data.framing import canvas_size, fitted, source_size
from autosearch.data.framings import framings_of
from autosearch.data.index import Sample
from autosearch.spec.sections import DatasetSpec
from autosearch.spec.sizes import OwnShape

RNG = np.random.default_rng(0)


def picture(height: int, width: int) -> np.ndarray:
    return RNG.random((3, height, width), dtype=np.float32)


def blob(height: int, width: int, box: Box) -> np.ndarray:
    found = np.zeros((height, width), dtype=bool)
    found[box.slices] = True
    return found


@pytest.mark.parametrize(
    ("part", "canvas", "box"),
    [
        ((100, 100), (64, 64), (0, 0, 64, 64)),
        ((100, 200), (64, 64), (16, 0, 48, 64)),
        ((200, 100), (64, 64), (0, 16, 64, 48)),
        ((50, 100), (64, 96), (8, 0, 56, 96)),
        ((10, 1000), (64, 64), (31, 0, 32, 64)),  # never less than one pixel
        ((97, 100), (64, 64), (0, 0, 64, 64)),  # 62 of 64: a sliver of two pixels
        ((100, 108), (64, 64), (2, 0, 61, 64)),  # 59 of 64: five pixels are more than four
        ((240, 250), (256, 256), (0, 0, 256, 256)),  # 246 of 256: 10 pixels, 4 % are 10.24
        ((239, 250), (256, 256), (5, 0, 250, 256)),  # 245 of 256
    ],
)
def test_a_part_lies_in_the_middle_as_large_as_its_aspect_allows(
    part: tuple[int, int], canvas: tuple[int, int], box: tuple[int, ...]
) -> None:
    assert fitted(part, canvas, "letterbox") == box
    assert fitted(part, canvas, "stretch") == Box.whole(canvas)


@pytest.mark.parametrize("seed", range(20))
def test_boxes_keep_aspect_touch_two_borders_and_are_centred(seed: int) -> None:
    rng = np.random.default_rng(seed)
    part = tuple(int(v) for v in rng.integers(8, 2000, 2))
    canvas = tuple(int(v) for v in rng.integers(32, 600, 2))
    box = fitted(part, canvas, "letterbox")
    (height, width), (own_height, own_width) = canvas, part
    scale = min(height / own_height, width / own_width)
    missing = [height - round(own_height * scale), width - round(own_width * scale)]
    if all(gap <= max(4, 0.04 * side) for gap, side in zip(missing, canvas, strict=True)):
        assert box == Box.whole(canvas)
        return
    assert box.size[0] == height or box.size[1] == width
    assert abs(box.size[0] - own_height * scale) <= 1 and abs(box.size[1] - own_width * scale) <= 1
    assert abs((box.top + box.bottom) - height) <= 1 and abs((box.left + box.right) - width) <= 1


@pytest.mark.parametrize(
    ("wanted", "shapes", "size"),
    [
        (224, [(10, 20)], (224, 224)),
        ((96, 160), [(10, 20)], (96, 160)),
        (OwnShape(short=96), [(100, 200)], (96, 192)),
        (OwnShape(short=96), [(200, 100)], (192, 96)),
        (OwnShape(short=100), [(100, 203)], (100, 200)),  # the other side is a multiple of 8
        (OwnShape(side=64), [(100, 400)], (32, 128)),
        (OwnShape(side=96), [(300, 310)], (94, 94)),  # so little that it is a square
        (OwnShape(short=64), [(300, 310)], (64, 64)),
        (OwnShape(short=64), [(100, 200), (100, 100), (200, 100)], (64, 64)),
        (OwnShape(short=64), [(100, 200), (100, 200), (200, 100)], (64, 128)),
        (OwnShape(short=64), [(100, 400), (100, 100)], (64, 128)),  # between them, as ratios go
        (OwnShape(side=64), [], (64, 64)),
    ],
)
def test_the_canvas_has_the_median_aspect_of_the_images(
    wanted: object, shapes: list[tuple[int, int]], size: tuple[int, int]
) -> None:
    assert canvas_size(wanted, shapes) == size  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(10))
def test_an_own_shape_costs_what_its_square_does(seed: int) -> None:
    height, width = (int(v) for v in np.random.default_rng(seed).integers(200, 900, 2))
    tall, wide = canvas_size(OwnShape(side=224), [(height, width)])
    assert tall * wide == pytest.approx(224 * 224, rel=0.06)
    assert math.log(wide / tall) == pytest.approx(math.log(width / height), abs=0.06)


def test_sizes_are_said_in_words() -> None:
    assert size_text(224) == size_text((224, 224)) == "224 px"
    assert size_text((96, 160)) == "96 x 160 px (height x width)"
    assert source_size([(100, 300), (250, 200)]) == 200 and source_size([]) == 1


def test_stretching_is_the_resize_to_a_square_bit_by_bit() -> None:
    image, marked = picture(40, 50), blob(40, 50, Box(3, 5, 9, 15))
    framing = Framing((32, 32), "stretch")
    view = framing.view(image)
    np.testing.assert_array_equal(framing.pixels(image, view), resize(image, (32, 32)))
    np.testing.assert_array_equal(
        framing.mask(marked, view, "any"), resize_mask(marked, (32, 32), "any")
    )
    labels, lost = framing.regions(marked, view, "nearest")
    expected = resize_regions(marked, (32, 32))
    np.testing.assert_array_equal(labels, expected.labels)
    assert lost == expected.lost == 0 and framing.valid(view) is None


def test_padding_repeats_edges_and_counts_nowhere() -> None:
    image, marked = picture(20, 40), np.ones((20, 40), dtype=bool)
    framing = Framing((64, 64))
    view = framing.view(image)
    pixels = framing.pixels(image, view)
    inner = resize(image, (32, 64))
    for row in range(64):
        np.testing.assert_array_equal(pixels[:, row], inner[:, min(max(row - 16, 0), 31)])
    expected = blob(64, 64, Box(16, 0, 48, 64))
    np.testing.assert_array_equal(framing.valid(view), expected)
    np.testing.assert_array_equal(framing.mask(marked, view, "any"), expected)
    np.testing.assert_array_equal(framing.regions(marked, view, "any").labels, expected)


@pytest.mark.parametrize("shape", [(20, 40), (64, 30), (200, 100), (33, 33)])
@pytest.mark.parametrize("region", [None, Box(4, 2, 18, 29)])
@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_every_cell_shows_the_place_that_a_slow_oracle_says(
    shape: tuple[int, int], region: Box | None, fit: str
) -> None:
    image = picture(*shape)
    marked = RNG.random(shape) < 0.3
    framing = Framing((48, 64), fit, region)  # type: ignore[arg-type]
    view = framing.view(image)
    valid, found = framing.valid(view), framing.mask(marked, view, "nearest")
    area, target = region or Box.whole(shape), view.target
    for y in range(48):
        for x in range(64):
            inside = target.top <= y < target.bottom and target.left <= x < target.right
            assert (valid is None or bool(valid[y, x])) == inside
            if not inside:
                assert not found[y, x]
                continue
            down = (2 * (y - target.top) + 1) * area.size[0] // (2 * target.size[0])
            across = (2 * (x - target.left) + 1) * area.size[1] // (2 * target.size[1])
            assert found[y, x] == marked[area.top + down, area.left + across]


@pytest.mark.parametrize("shape", [(60, 100), (100, 60), (64, 64), (300, 200)])
@pytest.mark.parametrize("region", [None, Box(10, 5, 50, 60)])
def test_maps_come_back_to_where_they_were_seen(
    shape: tuple[int, int], region: Box | None
) -> None:
    area = region or Box.whole(shape)
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    ramp = (rows / shape[0] + 2 * columns / shape[1]) / 3
    framing = Framing((96, 128), region=region)
    view = framing.view(np.stack([ramp] * 3))
    back = framing.restored(framing.pixels(np.stack([ramp] * 3), view)[0], view)
    assert back.shape == shape and back.dtype == np.float32
    inner = Box(area.top + 5, area.left + 5, area.bottom - 5, area.right - 5)
    np.testing.assert_allclose(back[inner.slices], ramp[inner.slices], atol=0.02)
    outside = ~blob(*shape, area)
    assert (back[outside] == back[area.slices].min()).all()


def test_a_hot_spot_comes_back_to_its_pixel() -> None:
    image = np.zeros((3, 90, 240), dtype=np.float32)
    image[:, 60:66, 200:206] = 1
    framing = Framing((64, 64))
    view = framing.view(image)
    back = framing.restored(framing.pixels(image, view)[0], view)
    spot = np.unravel_index(back.argmax(), back.shape)
    assert abs(spot[0] - 62.5) <= 4 and abs(spot[1] - 202.5) <= 4


def test_what_counts_follows_the_image() -> None:
    counted = blob(40, 80, Box(0, 0, 40, 20))
    framing = Framing((64, 64), looked_at=counted)
    image = picture(40, 80)
    view = framing.view(image)
    np.testing.assert_array_equal(framing.valid(view), blob(64, 64, Box(16, 0, 48, 16)))
    marked = np.ones((40, 80), dtype=bool)
    assert (framing.mask(marked, view, "nearest") <= framing.valid(view)).all()
    values = np.linspace(1, 0, 64, dtype=np.float32)[None].repeat(64, 0)
    back = framing.restored(values, view)
    assert (back[~counted] == back[counted].min()).all() and back[counted].max() > 0.95


def test_so_little_counts_that_no_centre_hits_it_and_still_counts() -> None:
    counted = blob(200, 200, Box(0, 0, 1, 1))
    framing = Framing((32, 32), looked_at=counted)
    valid = framing.valid(framing.view(picture(200, 200)))
    assert valid is not None and valid.sum() == 1 and valid[0, 0]


@pytest.mark.parametrize("short", [32, 100, 517])
def test_measuring_happens_on_a_canvas_of_the_same_aspect(short: int) -> None:
    framing = Framing((96, 144))
    larger = framing.scaled(short)
    assert min(larger.size) == short and larger.size[1] == round(short * 1.5)
    image = picture(50, 120)
    view = framing.view(image)
    again = larger.placed(view)
    assert again.source == view.source and again.target == larger.view(image).target


@pytest.mark.parametrize(
    "framing",
    [
        Framing((32, 48)),
        Framing((64, 64), "stretch", Box(1, 2, 30, 40)),
        Framing((64, 64), preprocess="mask", background=0.5),
        Framing((64, 32), preprocess="centre", object_size=(120, 61)),
        Framing((64, 32), looked_at=blob(7, 9, Box(1, 1, 3, 3))),
    ],
)
def test_framings_travel_as_json(framing: Framing) -> None:
    plain = json.loads(json.dumps(framing.to_plain()))
    again = Framing.from_plain(plain, framing.looked_at)
    assert again == framing and again.to_plain() == framing.to_plain()


def test_framings_of_older_models_are_read() -> None:
    plain = {"size": [32, 48], "fit": "stretch", "region": None}
    assert Framing.from_plain(plain) == Framing((32, 48), "stretch")


@pytest.mark.parametrize(
    "change",
    [
        {"size": [0, 4]},
        {"size": [4]},
        {"size": None},
        {"fit": "other"},
        {"region": [1, 2]},
        {"preprocess": "other"},
        {"preprocess": "centre"},
        {"object_size": [3, 4]},
        {"background": 2},
        {"looked_at": {"size": [3, 4], "sha256": "0"}},
    ],
    ids=str,
)
def test_what_is_no_framing_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Framing.from_plain(Framing((32, 48)).to_plain() | change)
    with pytest.raises(ValueError):
        Framing.from_plain(Framing((32, 48)).to_plain(), np.ones((3, 4), dtype=bool))
    missing = Framing((32, 48)).to_plain()
    del missing["fit"]
    with pytest.raises(ValueError, match="fit"):
        Framing.from_plain(missing)


def test_boxes_meet_move_grow_and_are_cut_out() -> None:
    box, other = Box(2, 3, 6, 9), Box(4, 0, 10, 5)
    assert box.meet(other) == (4, 3, 6, 5) and box.meet(Box(7, 0, 9, 2)).size == (0, 0)
    assert box.within(Box(1, 1, 9, 9)) == (1, 2, 5, 8)
    assert box.grown(3, Box.whole((8, 20))) == (0, 0, 8, 12)
    assert Box.around(blob(12, 12, box)) == box
    for size in [(4, 6), (5, 7), (9, 3), (2, 2)]:
        centred = box.centred(size)
        assert centred.size == size
        assert abs(sum(centred[::2]) - sum(box[::2])) <= 1
        assert abs(sum(centred[1::2]) - sum(box[1::2])) <= 1
    image = picture(8, 8)
    part = cut(image, Box(-1, 6, 3, 10), 0.5)
    assert part.shape == (3, 4, 4)
    np.testing.assert_array_equal(part[:, 1:, :2], image[:, :3, 6:])
    assert (part[:, 0] == 0.5).all() and (part[:, :, 2:] == 0.5).all()


def samples(folder: Path, shapes: list[tuple[int, int]]) -> list[Sample]:
    for i, shape in enumerate(shapes):
        photo(folder / f"{i}.png", i, shape)
    return [Sample(folder / f"{i}.png", (), "good", None, str(i)) for i in range(len(shapes))]


def decided(folder: Path, shapes: list[tuple[int, int]], **keys: object) -> object:
    return framings_of(DatasetSpec.model_validate(keys), samples(folder, shapes))


def test_framings_are_decided_by_the_normal_training_images(tmp_path: Path) -> None:
    shapes = [(40, 80), (40, 80), (60, 60)]
    found = decided(tmp_path, shapes, image_size={"short": 32}, evaluation_size="source")
    assert found.input.size == (32, 64) and found.measured.size == (60, 120)  # type: ignore[attr-defined]
    found = decided(tmp_path, shapes, image_size={"short": 32}, region_of_interest=[0, 0, 40, 20])
    assert found.input.size == (64, 32) and found.measured is found.input  # type: ignore[attr-defined]
    found = decided(tmp_path, shapes, image_size=64, evaluation_size=96)
    assert found.input.size == (64, 64) and found.measured.size == (96, 96)  # type: ignore[attr-defined]


def test_people_are_told_what_a_canvas_of_another_aspect_costs(tmp_path: Path) -> None:
    shapes = [(50, 127), (50, 127), (50, 130)]
    for keys, remark in [
        ({"image_size": 64}, "images are 50 x 127 px (height x width), and 61% of a canvas of "
         "64 px is padding"),
        ({"image_size": 64, "fit": "stretch"}, "images are 50 x 127 px (height x width), narrowed "
         "2.5 times on a canvas of 64 px"),
        ({"image_size": [128, 32]}, "images are 50 x 127 px (height x width), and 90% of a canvas "
         "of 128 x 32 px (height x width) is padding"),
        ({"image_size": 64, "region_of_interest": [0, 0, 50, 20]}, "the region of interest is "
         "50 x 20 px (height x width), and 59% of a canvas of 64 px is padding"),
        ({"image_size": {"side": 64}}, None),
        ({"image_size": [40, 96]}, None),
    ]:  # fmt: skip
        found = decided(tmp_path, shapes, **keys).remark  # type: ignore[attr-defined]
        assert (found and found[0]) == remark
        if found:
            assert found[1] == "dataset.image_size={side: 64} keeps their shape at the same cost"


def test_a_search_sees_rectangles_and_measures_at_its_own_size(tmp_path: Path) -> None:
    base = sound_dataset(tmp_path / "made" / "part")
    data = loaded(base, image_size={"short": 32}, evaluation_size="source")
    assert data.train.pixels.shape == (11, 3, 32, 40) and data.train.masks.shape[1:] == (32, 40)
    assert data.val.pixels.shape[2:] == (32, 40) and data.val.masks.shape[1:] == SHAPE
    expected = np.asarray(Image.open(base / "ground_truth/hole/000_mask.png")) > 0
    np.testing.assert_array_equal(data.val.masks[list(data.val.labels).index(True)], expected)
    assert data.val.valid is None
    assert Framing.from_plain(data.info["framing"]) == Framing((32, 40))  # type: ignore[arg-type]


def test_a_cell_that_a_region_is_given_counts(tmp_path: Path) -> None:
    base = sound_dataset(tmp_path / "made" / "part")
    speck = np.zeros(SHAPE, dtype=np.uint8)
    speck[12, 20] = 255
    mask(base / "ground_truth/hole/000_mask.png", speck)
    half = np.zeros(SHAPE, dtype=np.uint8)
    half[12:] = 255
    mask(tmp_path / "half.png", half)
    data = loaded(base, image_size=[32, 40], region_of_interest=str(tmp_path / "half.png"))
    first = list(data.val.labels).index(True)
    assert data.val.masks[first].sum() == 1 and data.val.valid is not None
    assert (data.val.masks <= data.val.valid).all()


def test_views_say_what_is_seen() -> None:
    view = View((10, 10), Box(0, 0, 5, 10), Box(0, 0, 5, 10), object=Box(2, 2, 7, 5))
    assert view.seen(blob(10, 10, Box(4, 4, 6, 6))) and not view.seen(
        blob(10, 10, Box(6, 0, 9, 9))
    )
    assert not view.whole_object
