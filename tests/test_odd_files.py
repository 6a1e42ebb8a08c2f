"""Images and masks as cameras and programs write them: each is read, or said in words."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dataset_parts import SHAPE, checked, mark, photo, sound_dataset
from PIL import Image, features

from autosearch.data.images import read_image

Make = Callable[[Path, Image.Image], None]


def saved(mode: str, **options: object) -> Make:
    return lambda path, picture: picture.convert(mode).save(path, **options)  # type: ignore[arg-type]


def sixteen(path: Path, picture: Image.Image) -> None:
    values = np.asarray(picture.convert("L"), dtype=np.uint16) * 257
    Image.fromarray(values).save(path)


def paged(path: Path, picture: Image.Image) -> None:
    picture.save(
        path, save_all=True, append_images=[picture.transpose(Image.Transpose.ROTATE_180)]
    )


IMAGES: dict[str, tuple[Make, str]] = {
    "a.JPG": (saved("RGB", quality=95), ""),
    "a.jfif": (saved("RGB", format="JPEG", quality=95), ""),
    "cmyk.jpg": (saved("CMYK", quality=95), ""),
    "cmyk.tif": (saved("CMYK"), ""),
    "a.TIFF": (saved("RGB"), ""),
    "a.bmp": (saved("RGB"), ""),
    "a.webp": (saved("RGB", lossless=True), ""),
    "a.ppm": (saved("RGB"), ""),
    "a.pgm": (saved("L"), ""),
    "a.jp2": (saved("RGB"), ""),
    "alpha.png": (saved("RGBA"), ""),
    "palette.png": (lambda path, picture: picture.quantize(256).save(path), ""),
    "deep.png": (sixteen, ""),
    "deep.tif": (sixteen, ""),
    "pages.tif": (paged, "has several pages, of which the first alone is read (2 pages)"),
    "000.jpg": (saved("RGB", quality=95), ""),
    "wrong-ending.png": (saved("RGB", format="JPEG", quality=95), ""),
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A sound category ``part``, which a test may change."""
    return sound_dataset(tmp_path / "data" / "part")


def smooth() -> Image.Image:
    """Colours that hardly change from pixel to pixel, so that lossy kinds lose little."""
    rows, columns = np.indices(SHAPE) / np.array(SHAPE)[:, None, None]
    values = np.stack([rows, columns, 1 - rows], axis=2)
    return Image.fromarray((255 * values).astype(np.uint8))


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_of_any_kind(name: str, base: Path) -> None:
    if name.endswith("jp2") and not features.check("jpg_2000"):
        pytest.skip("Pillow was built without JPEG 2000")
    make, words = IMAGES[name]
    path = base / "train/good" / name
    make(path, smooth())
    report = checked(base)
    assert report.counts["train"]["good"] == 12, "one more than before, equal stems or not"
    assert [problem.problem for problem in report.problems if problem.path == path] == (
        [words] if words else []
    )
    found, expected = read_image(path), np.asarray(smooth(), dtype=np.float32) / 255
    if "deep" in name or name.endswith("pgm"):
        expected = np.asarray(smooth().convert("L"), np.float32)[..., None] / 255
    assert np.abs(found.transpose(1, 2, 0) - expected).mean() < 0.03


def ones(path: Path) -> None:
    Image.fromarray(mark() // 255).save(path)


def multi(path: Path) -> None:
    """Two classes, 1 and 2."""
    values = mark() // 255
    values[3:9, 10:15] *= 2
    Image.fromarray(values).save(path)


def palette(path: Path) -> None:
    picture = Image.fromarray(mark() // 255, "P")
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.save(path)


def deep(path: Path) -> None:
    Image.fromarray(mark().astype(np.uint16) * 257).save(path)


def bits(path: Path) -> None:
    Image.fromarray(mark() > 0).save(path)


def colours(path: Path) -> None:
    Image.fromarray(mark()).convert("CMYK").save(path.with_suffix(".tif"))
    path.unlink()


MASKS: dict[str, tuple[Callable[[Path], None], str]] = {
    "1 instead of 255": (ones, ""),
    "two classes": (multi, "holds several values beside 0, read as classes"),
    "a palette": (palette, ""),
    "16 bits": (deep, ""),
    "one bit": (bits, ""),
    "CMYK": (colours, ""),
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_of_any_kind(kind: str, base: Path) -> None:
    make, words = MASKS[kind]
    make(base / "ground_truth/hole/000_mask.png")
    report = checked(base)
    assert report.regions["hole"].maximum == report.regions["hole"].minimum == 60
    told = [p for p in report.problems if p.path.stem == "000_mask"]
    assert len(told) == bool(words) and all(words in p.problem and p.remedy for p in told)


@pytest.mark.parametrize(
    "name", [".hidden.png", "._000.png", "Thumbs.db", "ehthumbs.db", ".DS_Store", "desktop.ini"]
)
@pytest.mark.parametrize("folder", ["train/good", "test/hole", "ground_truth/hole"])
def test_what_systems_leave_is_left_alone(name: str, folder: str, base: Path) -> None:
    before = checked(base)
    (base / folder / name).write_bytes(b"\x00\x05\x16\x07")
    assert checked(base) == before


def test_images_of_one_stem_need_masks_of_their_own(base: Path) -> None:
    photo(base / "test/hole/000.jpg", 60)
    (error,) = [p for p in checked(base).problems if p.severity == "error"]
    assert error.problem == "would be the mask of both 000.jpg and 000.png" and error.remedy
