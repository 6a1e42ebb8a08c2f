"""Reading of image kinds; resize and mask rules against torch and brute force."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from autosearch.data.images import read_image, resize, resize_mask
from autosearch.data.masks import read_mask
from autosearch.errors import DataError

RAMP = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def save(folder: Path, name: str, picture: Image.Image, **options: object) -> Path:
    path = folder / name
    picture.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("shape", "size"),
    [((41, 67), 16), ((64, 64), 64), ((20, 90), 37), ((13, 11), 40), ((3, 200), 32), ((1, 1), 8)],
)
def test_resize_equals_torch_antialiased_bilinear(shape: tuple[int, int], size: int) -> None:
    image = np.random.default_rng(0).random((3, *shape), dtype=np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None], (size, size), mode="bilinear", antialias=True
    )[0]
    result = resize(image, (size, size))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected.numpy(), atol=1e-4)


def test_resize_keeps_differences_finer_than_8_bits() -> None:
    image = np.full((1, 8, 8), 0.5001, dtype=np.float32)
    np.testing.assert_allclose(resize(image, (4, 4)), 0.5001, atol=1e-6)


@given(
    arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))),
    st.integers(1, 16),
)
def test_any_marks_exactly_the_cells_that_overlap_an_anomalous_pixel(
    mask: np.ndarray, size: int
) -> None:
    height, width = mask.shape
    expected = np.zeros((size, size), dtype=bool)
    for y, x in np.argwhere(mask):
        for i in range(size):
            for j in range(size):
                # Cell i and pixel y as intervals on an axis of height * size units.
                rows = max(i * height, y * size) < min((i + 1) * height, (y + 1) * size)
                columns = max(j * width, x * size) < min((j + 1) * width, (x + 1) * size)
                expected[i, j] |= rows and columns
    np.testing.assert_array_equal(resize_mask(mask, (size, size), "any"), expected)


@given(
    arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))),
    st.integers(1, 40),
)
def test_nearest_equals_torch_nearest_exact(mask: np.ndarray, size: int) -> None:
    # Centres on a border between pixels are left out: torch's rounding decides them.
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(mask.astype(np.float64))[None, None], (size, size), mode="nearest-exact"
    )[0, 0]
    nearest = resize_mask(mask, (size, size))
    tie_rows, tie_columns = ((2 * np.arange(size) + 1) * n % (2 * size) == 0 for n in mask.shape)
    sure = ~(tie_rows[:, None] | tie_columns[None, :])
    np.testing.assert_array_equal(nearest[sure], expected.numpy()[sure] > 0)
    assert (resize_mask(mask, (size, size), "any") | ~nearest).all()


def test_nearest_takes_the_later_pixel_where_a_centre_lies_on_a_border() -> None:
    assert resize_mask(np.eye(2, dtype=bool)[::-1], (1, 1)).item() is False
    assert resize_mask(np.eye(2, dtype=bool), (1, 1)).item() is True


def test_8_bit_kinds_agree(tmp_path: Path) -> None:
    grey = Image.fromarray(RAMP)
    palette = grey.quantize(16)
    rgba = grey.convert("RGBA")
    rgba.putalpha(0)
    expected = np.stack([RAMP / 255] * 3)
    for name, picture in {
        "l": grey,
        "rgb": grey.convert("RGB"),
        "rgba": rgba,
        "p": palette,
    }.items():
        image = read_image(save(tmp_path, f"{name}.png", picture))
        assert image.shape == (3, 3, 4) and image.dtype == np.float32
        np.testing.assert_allclose(image, expected, atol=1e-7, err_msg=name)


def test_channels_are_in_rgb_order(tmp_path: Path) -> None:
    image = read_image(save(tmp_path, "a.png", Image.new("RGB", (2, 2), (255, 51, 0))))
    np.testing.assert_allclose(image[:, 0, 0], [1, 0.2, 0], atol=1e-7)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bits_keep_their_precision(tmp_path: Path, ending: str) -> None:
    values = np.array([[0, 1], [257, 65535]], dtype=np.uint16)
    image = read_image(save(tmp_path, f"a.{ending}", Image.fromarray(values)))
    np.testing.assert_allclose(image[1], values / 65535, atol=1e-7)


def test_float_tiff_is_taken_as_it_is_or_refused(tmp_path: Path) -> None:
    values = np.array([[0, 0.25], [0.5, 1]], dtype=np.float32)
    image = read_image(save(tmp_path, "a.tif", Image.fromarray(values)))
    np.testing.assert_array_equal(image[2], values)
    for bad in (values * 255, values * np.nan, values - 1):
        with pytest.raises(DataError, match=r"within \[0, 1\]"):
            read_image(save(tmp_path, "bad.tif", Image.fromarray(bad)))


def test_exif_orientation_turns_the_image_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the image has to be turned clockwise
    path = save(tmp_path, "a.png", Image.fromarray(RAMP), exif=exif)
    expected = np.rot90(RAMP, -1) / 255
    np.testing.assert_allclose(read_image(path)[0], expected, atol=1e-7)


def test_files_that_cannot_be_opened_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = save(tmp_path, "whole.png", Image.fromarray(np.zeros((64, 64), np.uint8)))
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:-40])
    text = tmp_path / "text.png"
    text.write_text("no image")
    for path in (cut, text, tmp_path / "absent.png"):
        with pytest.raises(DataError, match=path.name) as caught:
            read_image(path)
        assert caught.value.remedy
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="too many pixels"):
        read_image(whole)


@pytest.mark.parametrize(
    ("values", "expected", "levels"),
    [
        ([0, 255, 0], [0, 1, 0], 2),
        ([0, 1, 1], [0, 1, 1], 2),
        ([0, 1, 7], [0, 1, 1], 3),
        ([100, 200, 255], [0, 1, 1], 3),
        ([0, 0, 0], [0, 0, 0], 1),
        ([255, 255, 255], [1, 1, 1], 1),
    ],
)
def test_mask_values(tmp_path: Path, values: list[int], expected: list[int], levels: int) -> None:
    row = np.array([values], dtype=np.uint8)
    for mode in ("L", "RGB", "RGBA", "LA"):
        path = save(tmp_path, f"{mode}.png", Image.fromarray(row).convert(mode))
        found = read_mask(path)
        assert found.mask.dtype == bool and found.levels == levels
        np.testing.assert_array_equal(found.mask, np.array([expected], dtype=bool), err_msg=mode)


def test_mask_kinds_beside_8_bit_grey(tmp_path: Path) -> None:
    bits = np.array([[False, True]])
    palette = Image.fromarray(bits.astype(np.uint8), mode="P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    kinds = {
        "bit.png": Image.fromarray(bits),
        "deep.png": Image.fromarray(bits.astype(np.uint16) * 65535),
        "float.tif": Image.fromarray(bits.astype(np.float32)),
        "palette.png": palette,
    }
    for name, picture in kinds.items():
        np.testing.assert_array_equal(read_mask(save(tmp_path, name, picture)).mask, bits, name)
