"""Image and mask files that can be understood in two ways: what is read, what is said about it."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dataset_parts import (
    SHAPE,
    checked,
    found_in_files,
    inverted,
    loaded,
    mark,
    mask,
    notes,
    photo,
    refusal,
    sound_dataset,
    spec,
)
from PIL import Image

from autosearch.data import load_test_set


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A sound category ``part``, which a test may change."""
    return sound_dataset(tmp_path / "data" / "part")


def test_a_sound_dataset_is_certain(base: Path) -> None:
    assert notes(base) == found_in_files(base) == []
    assert load_test_set(spec(base.parent))[1]["notes"] == []


def test_the_hash_is_that_of_earlier_versions(base: Path) -> None:
    """Worked out as they did: of split, name, and bytes of image and mask."""

    def line(split: str, name: str, truth: str = "") -> str:
        files = [(base / part).read_bytes() if part else None for part in (name, truth)]
        hashes = ["" if data is None else hashlib.sha256(data).hexdigest() for data in files]
        return "\0".join((split, f"part/{name}", *hashes))

    lines = [line("train", f"train/good/{i:03}.png") for i in range(2, 13)]
    lines.append(line("val", "test/hole/000.png", "ground_truth/hole/000_mask.png"))
    lines += [line("val", f"train/good/{i:03}.png") for i in range(2)]
    found = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert loaded(base).info["sha256"] == found


def test_another_reading_of_the_same_files_has_another_hash(base: Path) -> None:
    values = mark()
    values[20:30, 20:30] = 80
    mask(base / "ground_truth/hole/000_mask.png", values)
    digests = {loaded(base, mask_reading=r).info["sha256"] for r in ("auto", "value", "inverted")}
    assert len(digests) == 2, "auto and value read the same pixels"
    exif = Image.Exif()
    exif[0x0112] = 3
    photo(base / "train/good/005.png", 5, exif=exif)
    digests = {loaded(base, orientation=o).info["sha256"] for o in ("upright", "stored")}
    assert len(digests) == 2


# Masks, items 1 to 4; the rules themselves are in test_readings.py.


def palette(values: np.ndarray) -> Image.Image:
    """With white as entry 0, as Pillow's own quantize writes it."""
    picture = Image.fromarray((values == 0).astype(np.uint8), "P")
    picture.putpalette([255, 255, 255, 0, 0, 0])
    return picture


def in_alpha(values: np.ndarray) -> Image.Image:
    picture = Image.new("RGBA", values.shape[::-1], "white")
    picture.putalpha(Image.fromarray(values))
    return picture


def classes(values: np.ndarray) -> Image.Image:
    changed = values // 255 * np.uint8(200)
    changed[5:7, 5:15] = 80
    return Image.fromarray(changed)


@pytest.mark.parametrize(
    ("make", "pixels", "words"),
    [
        (palette, 60, "marks other pixels by palette colour than by palette index"),
        (in_alpha, 60, "single colour, so its alpha channel is taken"),
        (inverted, 1940, "as an inverted mask does (part/ground_truth/hole/000_mask.png: 1,940"),
        (classes, 60, "several values beside 0, read as classes"),
    ],
)
def test_a_mask_that_may_mean_two_things(
    base: Path, make: Callable[[np.ndarray], Image.Image], pixels: int, words: str
) -> None:
    make(mark()).save(base / "ground_truth/hole/000_mask.png")
    (note,) = notes(base)
    assert words in note and note.startswith("1 file ")
    assert "dataset.mask_reading" in note or "0 and 255" in note
    assert checked(base).regions["hole"].maximum == max(pixels, 60)


def test_a_mask_whose_channels_contradict_each_other_is_refused(base: Path) -> None:
    picture = Image.fromarray(mark()).convert("RGBA")
    picture.putalpha(Image.fromarray(255 - mark()))
    picture.save(base / "ground_truth/hole/000_mask.png")
    assert "the alpha channel 1,940" in refusal(base).problem


def test_notes_on_test_images_come_with_the_test_set(base: Path) -> None:
    inverted(mark()).save(base / "ground_truth/hole/002_mask.png")
    assert loaded(base).info["notes"] == []
    (note,) = load_test_set(spec(base.parent))[1]["notes"]  # type: ignore[misc]
    assert "002_mask.png" in note


# EXIF orientation, item 5.


def turned(path: Path, turn: int, shape: tuple[int, int] = SHAPE) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    photo(path, 30, shape, exif=exif)


@pytest.mark.parametrize("turn", range(2, 9))
@pytest.mark.parametrize("shape", [SHAPE, (40, 40)])
def test_an_orientation_that_the_mask_does_not_share(
    base: Path, turn: int, shape: tuple[int, int]
) -> None:
    image, truth = base / "test/hole/000.png", base / "ground_truth/hole/000_mask.png"
    turned(image, turn, shape)
    mask(truth, mark(shape))
    if turn > 4 and shape == SHAPE:
        error = refusal(base)
        assert "50x40 pixels, its image 40x50" in error.problem and "EXIF" in error.problem
        assert "set dataset.orientation to stored" in error.remedy
    else:
        (note,) = notes(base)
        assert f"orientation 1, its image {turn})" in note
        assert "set dataset.orientation to stored" in note
    assert notes(base, orientation="stored") == []
    stored = loaded(base, orientation="stored").val
    photo(image, 30, shape)
    plain = loaded(base).val
    np.testing.assert_array_equal(stored.pixels, plain.pixels)
    np.testing.assert_array_equal(stored.masks, plain.masks)


@pytest.mark.parametrize("turn", range(2, 9))
def test_an_orientation_that_both_state_is_certain(base: Path, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    turned(base / "test/hole/000.png", turn)
    mask(base / "ground_truth/hole/000_mask.png", exif=exif)
    assert notes(base) == []


def test_another_size_is_no_matter_of_orientation(base: Path) -> None:
    turned(base / "test/hole/000.png", 6)
    mask(base / "ground_truth/hole/000_mask.png", mark((20, 25)))
    assert refusal(base).remedy == "save the mask at the size of its image"
