"""Masks in all their forms against a slow oracle that follows the rules pixel by pixel."""

import io
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from mask_parts import READINGS, Grid, Painting, expected, flat, kinds, upright
from PIL import Image

from autosearch.data.images import read_image
from autosearch.data.masks import MaskReading, read_mask
from autosearch.errors import DataError


def check(painting: Painting, reading: str, orientation: str = "upright") -> None:
    content, path = painting.file(), Path("mask")
    wanted = expected(painting, reading)
    if wanted is None:
        with pytest.raises(DataError) as caught:
            read_mask(path, content, reading, orientation)
        assert caught.value.path == path and "dataset.mask_reading" in str(caught.value)
        return
    found = read_mask(path, content, reading, orientation)
    mask = upright(wanted[0], painting.turn) if orientation == "upright" else wanted[0]
    assert found.mask.dtype == bool and found.mask.tolist() == mask
    assert kinds(found) == wanted[1]
    assert found.certain == (reading == "auto" and wanted[1] <= {"odd"})
    assert found.turn == (painting.turn or 1)


GREYS = st.sampled_from([0, 0, 0, 1, 3, 80, 127, 128, 200, 254, 255, 255])
RGB = st.one_of(
    st.sampled_from([(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 80, 0), (0, 0, 1)]),
    GREYS.map(lambda value: (value,) * 3),
)
VALUES = {
    "1": st.sampled_from([0, 1]).map(lambda value: (value,)),
    "L": GREYS.map(lambda value: (value,)),
    "LA": GREYS.map(lambda value: (value,)),
    "I;16": st.sampled_from([0, 0, 1, 255, 256, 32767, 65535]).map(lambda value: (value,)),
    "I": st.sampled_from([0, 0, 1, 255, 70_000]).map(lambda value: (value,)),
    "F": st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0, 255.0]).map(lambda value: (value,)),
    "RGB": RGB,
    "RGBA": RGB,
    "P": RGB,
    "P+": RGB,
}
FORMATS = {"F": ["TIFF"], "I": ["TIFF"], "P+": ["PNG"], "LA": ["PNG", "TIFF"],
           "RGB": ["PNG", "TIFF", "WEBP"], "RGBA": ["PNG", "TIFF", "WEBP"]}  # fmt: skip


@st.composite
def paintings(draw: st.DrawFn) -> Painting:
    mode = draw(st.sampled_from(sorted(VALUES)))
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    many = draw(st.booleans()) and mode in ("L", "LA", "I;16", "RGB", "P")
    count = draw(st.integers(30, 36)) if many else draw(st.integers(1, 4))
    values = [draw(VALUES[mode]) for _ in range(min(count, 4))]
    three = len(values[0]) == 3
    values += [(n,) * 3 if three else (n,) for n in range(2, 2 + count - len(values))]

    def grid(numbers: st.SearchStrategy[int]) -> Grid:
        row = st.lists(numbers, min_size=width, max_size=width)
        return draw(st.lists(row, min_size=height, max_size=height))

    numbers = grid(st.integers(0, len(values) - 1))
    alpha: Grid | None = None
    opacity = st.sampled_from([0, 0, 1, 255])
    if mode == "P+":
        alpha = [[draw(opacity) for _ in values]]
    elif mode in ("LA", "RGBA"):
        how = draw(st.sampled_from(["constant", "same", "other"]))
        if how == "constant":
            alpha = [[draw(opacity)] * width] * height
        elif how == "same":
            alpha = [[255 * any(values[n]) for n in row] for row in numbers]
        else:
            alpha = grid(opacity)
    turn = draw(st.sampled_from([None, None, *range(1, 9)]))
    kind = draw(st.sampled_from(FORMATS.get(mode, ["PNG", "TIFF"])))
    if kind == "WEBP" and alpha is not None and {v for row in alpha for v in row} == {255}:
        kind = "PNG"  # Such files keep no alpha channel of which nothing is transparent.
    return Painting(mode, numbers, values, alpha, turn, kind)


@settings(max_examples=700, deadline=None)
@given(paintings(), st.sampled_from(READINGS), st.sampled_from(["upright", "stored"]))
def test_any_file_is_read_by_the_rules(painting: Painting, reading: str, orientation: str) -> None:
    check(painting, reading, orientation)


SPOT = [[0] * 6, [0, 0, 1, 1, 0, 0], [0, 0, 1, 0, 0, 0], [0] * 6]
SOLID, HOLE = [[255] * 6] * 4, [[255 * n for n in row] for row in SPOT]
SETS = {
    "certain": [0, 255], "inverted": [255, 0], "classes": [0, 80, 200], "small": [0, 1],
    "grey ground": [10, 255], "all equal": [255, 255], "nothing": [0, 0],
}  # fmt: skip


@pytest.mark.parametrize("mode", sorted(VALUES))
@pytest.mark.parametrize("values", SETS)
def test_every_mode_with_every_set_of_values(mode: str, values: str) -> None:
    """And every reading, alpha and orientation."""
    wide = mode in ("RGB", "RGBA", "P", "P+")
    deep = {"I;16": 257, "I": 1000, "1": 1 / 255}.get(mode, 1)
    colours = [(int(v * deep),) * (3 if wide else 1) for v in SETS[values]]
    grid = SPOT if len(colours) < 3 else [[2, *row[1:]] for row in SPOT]
    alphas: list[Grid | None] = [None]
    if mode in ("LA", "RGBA"):
        alphas = [SOLID, HOLE, [[255 - v for v in row] for row in HOLE]]
    if mode == "P+":
        alphas = [[[255] * 3], [[0, 255, 255]], [[255, 0, 0]]]
    kind = FORMATS.get(mode, ["PNG"])[0]
    for alpha, turn in product(alphas, (None, 3, 6)):
        painting = Painting(mode, grid, colours, alpha, turn, kind)
        for reading, orientation in product(READINGS, ("upright", "stored")):
            check(painting, reading, orientation)


def saved(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def spot(low: int = 0, high: int = 255) -> np.ndarray:
    """96 x 96 with 240 pixels of another value, as in the issue."""
    values = np.full((96, 96), low, dtype=np.uint8)
    values[20:32, 30:50] = high
    return values


def read(picture: Image.Image, reading: str = "auto", kind: str = "PNG", **options) -> MaskReading:
    return read_mask(Path("mask"), saved(picture, kind, **options), reading)


def test_a_palette_is_read_by_colour() -> None:
    found = read(Image.fromarray(spot()).quantize(2))
    assert found.mask.sum() == 240 and kinds(found) == {"palette"}
    assert found.notes[0].detail == "8,976 pixels by index, 240 by colour"


def test_a_palette_of_greys_without_black_is_a_grey_image() -> None:
    picture = Image.fromarray((spot() > 0).astype(np.uint8) ^ 1, "P")
    picture.putpalette([252, 252, 252, 3, 3, 3])
    found = read(picture)
    assert found.mask.sum() == 240 and kinds(found) == {"ramp"}


def test_colours_without_black_are_refused_unless_a_palette_numbers_them() -> None:
    picture = Image.new("RGB", (9, 9), "white")
    picture.putpixel((4, 4), (255, 0, 0))
    with pytest.raises(DataError, match="#ff0000, #ffffff and no black"):
        read(picture)
    palette = Image.new("P", (9, 9))
    palette.putpalette([255, 255, 255, 255, 0, 0])
    palette.putpixel((4, 4), 1)
    found = read(palette)
    assert found.mask.sum() == 1 and kinds(found) == {"index"}


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_mask_in_alpha(mode: str) -> None:
    picture = Image.new(mode, (96, 96), "white")
    picture.putalpha(Image.fromarray(spot()))
    found = read(picture)
    assert found.mask.sum() == 240 and kinds(found) == {"alpha"}
    assert read(picture, "value").mask.all()


def test_colours_and_alpha_that_disagree_are_refused() -> None:
    picture = Image.fromarray(spot()).convert("RGBA")
    picture.putalpha(Image.fromarray(255 - spot()))
    with pytest.raises(DataError, match=r"mark 240 pixels, the alpha channel 8,976.*mask_reading"):
        read(picture)
    assert read(picture, "value").mask.sum() == 240
    assert read(picture, "alpha").mask.sum() == read(picture, "inverted").mask.sum() == 8976


def test_an_inverted_mask_is_told_and_can_be_read() -> None:
    picture = Image.fromarray(spot(255, 0))
    assert kinds(read(picture)) == {"odd"}
    assert "dataset.mask_reading to inverted" in read(picture).notes[0].remedy
    found = read(picture, "inverted")
    assert found.mask.sum() == 240 and found.notes == ()


def test_all_corners_are_told_even_where_little_is_marked() -> None:
    frame = np.zeros((40, 40), dtype=np.uint8)
    frame[[0, -1]] = frame[:, [0, -1]] = 255
    found = read(Image.fromarray(frame))
    assert found.certain and found.notes[0].detail == "156 pixels, 10%, all corners"


def test_classes_are_all_anomalous() -> None:
    values = spot(0, 200)
    values[40:50, 60:70] = 80
    found = read(Image.fromarray(values))
    assert found.mask.sum() == 340 and found.notes[0].detail == "80, 200"
    assert found.notes[0].remedy.startswith("save it as PNG with 0 and 255")


@pytest.mark.parametrize(("count", "kind"), [(1, set()), (2, {"classes"}), (32, {"classes"}),
                                             (33, {"ramp"})])  # fmt: skip
@pytest.mark.parametrize("deep", [1, 257])
def test_how_many_values_are_classes(count: int, kind: set[str], deep: int) -> None:
    row = np.arange(count + 1, dtype=np.uint16 if deep > 1 else np.uint8) * deep
    values = np.concatenate([row * 0, row, row * 0])[None]
    found = read(Image.fromarray(values))
    assert kinds(found) == kind and found.levels == count + 1
    assert found.mask.sum() == (count if kind != {"ramp"} else count // 2 + 1)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {"quality": 60}), ("WEBP", {"quality": 30}), ("TIFF", {"compression": "jpeg"}),
     ("JPEG2000", {"irreversible": True, "quality_mode": "rates", "quality_layers": [40]})],
)  # fmt: skip
def test_a_lossy_file_is_a_ramp(kind: str, options: dict[str, object]) -> None:
    """Else the noise around the defect would be anomalous."""
    found = read(Image.fromarray(spot()), kind=kind, **options)
    assert kinds(found) == {"ramp"} and abs(int(found.mask.sum()) - 240) < 60
    values = np.asarray(Image.open(io.BytesIO(saved(Image.fromarray(spot()), kind, **options))))
    values = values.max(axis=2) if values.ndim == 3 else values
    half = max(flat(values.tolist())) / 2
    assert found.mask.tolist() == [[value > half for value in row] for row in values.tolist()]


def test_a_lossless_webp_holds_classes() -> None:
    values = spot(0, 200)
    values[40:50, 60:70] = 80
    picture = Image.fromarray(values).convert("RGB")
    assert kinds(read(picture, kind="WEBP", lossless=True)) == {"classes"}


def test_cmyk_is_read_by_what_it_looks_like() -> None:
    picture = Image.fromarray(spot()).convert("RGB").convert("CMYK")
    assert read(picture, kind="TIFF").mask.sum() == 240


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_images_are_turned_or_left_as_stored(turn: int, kind: str) -> None:
    rows = [[(90 * x + 20 * y) % 256 for x in range(3)] for y in range(2)]
    exif = Image.Exif()
    exif[0x0112] = turn
    big = np.kron(np.array(rows, dtype=np.uint8), np.ones((16, 16), dtype=np.uint8))
    content = saved(Image.fromarray(big).convert("RGB"), kind, exif=exif)
    for orientation, wanted in (("upright", upright(rows, turn)), ("stored", rows)):
        image = read_image(Path("image"), content, orientation)
        np.testing.assert_allclose(image[1, 8::16, 8::16] * 255, wanted, atol=6)


@pytest.mark.parametrize("kind", ["GIF", "PPM", "DIB", "BMP", "JPEG2000", "TIFF"])
def test_all_formats_of_masks(kind: str) -> None:
    assert read(Image.fromarray(spot()), kind=kind).mask.sum() == 240
