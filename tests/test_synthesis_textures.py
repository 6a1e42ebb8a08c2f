"""Texture sources and the nine operations on textures."""

import colorsys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autosearch.errors import ConfigError, DataError
from autosearch.synthesis import (
    FolderTextures,
    ProceduralTextures,
    SelfTextures,
    draw_texture,
    open_textures,
    operations,
)
from autosearch.synthesis.operations import OPERATIONS, vary
from autosearch.synthesis.procedural import FAMILIES


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def plain(colour: tuple[int, int, int], size: int = 32) -> Image.Image:
    return Image.new("RGB", (size, size), colour)


def draws(name: str, picture: Image.Image, count: int = 60) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [np.asarray(OPERATIONS[name](picture, rng)) for _ in range(count)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/two.JPG", "a/deep/one.png", ".hidden/no.png", "a/.no.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        noise(40, 30).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_a_folder_is_searched_to_any_depth_in_order(folder: Path) -> None:
    found = [path.relative_to(folder).as_posix() for path in FolderTextures(folder).paths]
    assert found == ["a/deep/one.png", "b/two.JPG"]


def test_the_shorter_side_is_resized_and_files_are_read_once(folder: Path) -> None:
    source = FolderTextures(folder)
    rng = np.random.default_rng(0)
    sizes = {source.picture((60, 60), rng).size for _ in range(20)}
    assert sizes == {(80, 60)}
    for path in source.paths:
        path.unlink()
    assert source.picture((60, 60), rng).size == (80, 60)


def test_a_folder_missing_empty_or_with_a_broken_file_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder of textures"):
        open_textures(str(tmp_path / "absent"), np.empty((0, 3, 8, 8), np.float32))
    with pytest.raises(DataError, match="holds no image"):
        FolderTextures(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"broken\.png"):
        FolderTextures(tmp_path).picture((8, 8), np.random.default_rng(0))


def test_real_textures_have_the_size_and_range_asked_for(shared_data: Path) -> None:
    source = FolderTextures(shared_data / "dtd_subset")
    assert len(source.paths) == 200
    texture = draw_texture(source, (200, 200), 3, np.random.default_rng(0))
    assert texture.shape == (3, 200, 200)
    assert 0 <= texture.min() < texture.max() <= 1


def test_the_crop_takes_the_middle() -> None:
    class Ramp:
        def picture(self, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
            columns = np.arange(2 * size[1], dtype=np.uint8)
            whole = (size[0], 2 * size[1], 3)
            return Image.fromarray(np.broadcast_to(columns[:, None], whole).copy())

    texture = draw_texture(Ramp(), (20, 20), 0, np.random.default_rng(0))
    np.testing.assert_allclose(texture[0, 0] * 255, np.arange(10, 30), atol=1e-4)


def test_mosaics_hold_turned_pieces_of_one_image_around_its_foreground() -> None:
    # Red and green name the pixel, blue the image.
    rows, columns = np.mgrid[:64, :64] / 255
    normals = np.stack([np.stack([rows, columns, np.full((64, 64), k / 255)]) for k in range(2)])
    foreground = np.zeros((2, 64, 64), bool)
    foreground[:, 30:34, 40:44] = True
    source = SelfTextures(normals.astype(np.float32), foreground)
    rng = np.random.default_rng(0)
    for _ in range(10):
        mosaic = np.asarray(source.picture((64, 64), rng)).astype(int)
        assert len(np.unique(mosaic[..., 2])) == 1
        # In a piece of side 32 or less, neighbours are neighbours in the image too.
        block = mosaic[:8, :8, :2]
        assert np.abs(np.diff(block, axis=0)).sum(axis=-1).max() == 1
        assert np.abs(np.diff(block, axis=1)).sum(axis=-1).max() == 1
        assert not np.array_equal(mosaic[..., :2], np.stack(np.mgrid[:64, :64], axis=-1))
        assert (np.abs(mosaic[..., :2] - (32, 42)) <= 18).all()


def test_mosaics_of_images_smaller_than_a_piece_are_whole() -> None:
    source = SelfTextures(np.full((1, 3, 4, 4), 0.5, np.float32))
    for seed in range(5):
        picture = np.asarray(source.picture((50, 50), np.random.default_rng(seed)))
        assert picture.shape == (50, 50, 3)
        assert (picture == 128).all()


def test_self_without_images_is_an_error() -> None:
    with pytest.raises(ConfigError, match="texture_source"):
        open_textures("self", np.empty((0, 3, 8, 8), np.float32))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [33, 64])
def test_fields_fill_their_range_and_differ(family: str, size: int) -> None:
    rng = np.random.default_rng(0)
    fields = [FAMILIES[family](size, rng) for _ in range(8)]
    assert all(field.shape == (size, size) and field.dtype == np.float32 for field in fields)
    assert all(field.min() >= 0 and field.max() <= 1 for field in fields)
    assert min(np.ptp(field) for field in fields) > 0.5
    assert all(np.abs(fields[0] - other).mean() > 0.05 for other in fields[1:])


@pytest.mark.parametrize("source", ["procedural", "self"])
def test_equal_generators_give_equal_textures(source: str) -> None:
    normals = np.random.default_rng(0).random((3, 3, 40, 40), dtype=np.float32)
    made = [
        draw_texture(open_textures(source, normals), (48, 48), 4, np.random.default_rng(seed))
        for seed in (5, 5, 6)
    ]
    np.testing.assert_array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


@pytest.mark.parametrize("count", range(5))
def test_exactly_n_different_operations_of_nine(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    calls: list[str] = []
    recorders = {name: lambda p, _, name=name: calls.append(name) or p for name in OPERATIONS}
    monkeypatch.setattr(operations, "OPERATIONS", recorders)
    rng = np.random.default_rng(0)
    used = set()
    for _ in range(100):
        calls.clear()
        vary(noise(8, 8), count, rng)
        assert len(calls) == len(set(calls)) == count
        used |= set(calls)
    assert len(used) == (9 if count else 0)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_keep_the_kind_and_size_of_the_picture(name: str) -> None:
    picture = OPERATIONS[name](noise(50, 30), np.random.default_rng(0))
    assert picture.size == (50, 30)
    assert picture.mode == "RGB"


def test_flips_and_grey_are_exact() -> None:
    picture = noise(9, 7)
    values = np.asarray(picture)
    np.testing.assert_array_equal(draws("mirror", picture, 1)[0], values[:, ::-1])
    np.testing.assert_array_equal(draws("flip", picture, 1)[0], values[::-1])
    grey = draws("grey", picture, 1)[0]
    np.testing.assert_allclose(grey[..., 0], values @ (0.299, 0.587, 0.114), atol=1)
    assert (np.ptp(grey, axis=-1) == 0).all()


def test_autocontrast_and_equalise_spread_the_values() -> None:
    narrow = Image.fromarray(np.asarray(noise(32, 32)) // 4 + 90)
    for name in ("autocontrast", "equalise"):
        values = draws(name, narrow, 1)[0]
        assert values.min() == 0
        assert values.max() >= 250


def test_brightness_and_contrast_change_by_a_fifth_at_most() -> None:
    bright = np.array([values[0, 0, 0] for values in draws("brightness", plain((100,) * 3))])
    assert 79 <= bright.min() < 85
    assert 115 < bright.max() <= 121
    stripes = Image.fromarray(
        np.tile(np.repeat(np.uint8([50, 150]), 3).reshape(1, 2, 3), (8, 4, 1))
    )
    spread = np.array([np.ptp(values) for values in draws("contrast", stripes)])
    assert 79 <= spread.min() < 85
    assert 115 < spread.max() <= 121


def test_hue_turns_by_a_fifth_at_most_and_keeps_the_value() -> None:
    turned = [values[0, 0] / 255 for values in draws("colour", plain((200, 60, 60)))]
    hues, _, values = np.array([colorsys.rgb_to_hsv(*colour) for colour in turned]).T
    hues = (hues + 0.5) % 1 - 0.5
    assert -0.21 < hues.min() < -0.15
    assert 0.15 < hues.max() < 0.21
    # Saturation moves all channels towards or away from grey, and so the largest one as well.
    assert np.abs(values - 200 / 255).max() < 0.12


def test_rotation_keeps_distances_and_mirrors_instead_of_filling() -> None:
    assert all((values == 255).all() for values in draws("rotate", plain((255,) * 3), 5))
    dot = np.zeros((81, 81, 3), np.uint8)
    dot[39:42, 59:62] = 255
    angles = []
    for values in draws("rotate", Image.fromarray(dot)):
        inner = values[..., 0].astype(float)
        y, x = np.mgrid[:81, :81] - 40
        y, x = (inner * y).sum() / inner.sum(), (inner * x).sum() / inner.sum()
        assert np.hypot(y, x) == pytest.approx(20, abs=0.2)
        angles.append(np.rad2deg(np.arctan2(y, x)))
    assert -46 < min(angles) < -35
    assert 35 < max(angles) < 46


def test_procedural_pictures_come_from_every_family(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    for name in FAMILIES:
        field = np.zeros((8, 8), np.float32)
        monkeypatch.setitem(FAMILIES, name, lambda *_, n=name, f=field: seen.add(n) or f)
    rng = np.random.default_rng(0)
    for _ in range(60):
        assert ProceduralTextures().picture((8, 8), rng).size == (8, 8)
    assert seen == set(FAMILIES)
