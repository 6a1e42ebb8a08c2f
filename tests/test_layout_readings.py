"""Files and folders that can be understood in two ways: what is read, what is said about it."""

import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from dataset_parts import (
    checked,
    command,
    found_in_files,
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

import autosearch
from autosearch.data import load_search_data, load_test_set
from autosearch.errors import ConfigError, DataError


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A sound category ``part``, which a test may change."""
    return sound_dataset(tmp_path / "data" / "part")


# Files and folders, items 6 to 10.


def test_files_are_known_by_what_they_hold(base: Path) -> None:
    good = base / "train/good"
    photo(base / "spare.jpg", 90)
    for name in ("020.jfif", "021.JPE", "022.photo", "023"):
        (good / name).write_bytes((base / "spare.jpg").read_bytes())
    photo(base / "spare.gif", 91)
    (good / "024").write_bytes((base / "spare.gif").read_bytes())
    assert notes(base) == [] and checked(base).counts["train"] == {"good": 16}


def test_what_is_not_read_is_counted_and_named(base: Path) -> None:
    (base / "train/good/a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (base / "test/hole/b.txt").write_text("P1 is how a bitmap begins")
    (base / "ground_truth/hole/labels.json").write_text("{}")
    photo(base / "train/bad/0.png")
    photo(base / "test/loose.png")
    (base / "train/good/other").symlink_to(base / "test/good")
    for name in (".hidden.png", "Thumbs.db", "desktop.ini", "__MACOSX/._0.png", ".cache/0.png"):
        (base / "train/good" / name).parent.mkdir(exist_ok=True)
        (base / "train/good" / name).write_bytes(b"x")
    (note,) = notes(base)
    assert note.startswith("6 files: each lies in a folder of images and is not read (first ")
    found = [p.path for p in found_in_files(base)]
    assert [path.relative_to(base).as_posix() for path in found] == [
        "ground_truth/hole/labels.json", "test/hole/b.txt", "test/loose.png", "train/bad",
        "train/good/a.heic", "train/good/other",
    ]  # fmt: skip


def test_folders_in_folders_are_read(base: Path) -> None:
    for day in ("day1", "day2"):
        photo(base / f"train/good/{day}/000.png", 50)
        photo(base / f"test/hole/{day}/000.png", 51)
        mask(base / f"ground_truth/hole/{day}/000_mask.png")
    photo(base / "test/hole/day3/deep/777.png", 52)
    mask(base / "ground_truth/hole/777_mask.png")
    counts = checked(base).counts
    assert (counts["train"]["good"], counts["test"]["hole"]) == (13, 5)
    assert found_in_files(base) == []
    assert "part/test/hole/day2/000.png" in load_test_set(spec(base.parent))[0].paths


def test_two_images_with_one_mask(base: Path) -> None:
    photo(base / "test/hole/000.bmp", 60)
    error = refusal(base)
    assert error.path.name == "000_mask.png"
    assert error.problem == "would be the mask of both 000.bmp and 000.png"
    (base / "test/hole/000.bmp").unlink()
    photo(base / "test/hole/day/000.png", 61)
    assert "both hole/000.png and day/000.png" in refusal(base).problem.replace(
        "day/000.png and hole/000.png", "hole/000.png and day/000.png"
    )


def test_one_image_with_two_masks(base: Path) -> None:
    mask(base / "ground_truth/hole/000.png")
    (note,) = notes(base)
    assert "preferred for its ending in _mask" in note and "hole/000.png: 000_mask.png" in note
    mask(base / "ground_truth/hole/000_mask.bmp")
    assert refusal(base).problem == "has two masks, 000_mask.bmp and 000_mask.png"


@pytest.mark.parametrize("ending", ["_GT", "_gt", "_mask", "_label", "_seg"])
@pytest.mark.parametrize("folder", ["train/good", "test/good", "test/hole"])
def test_masks_beside_images(base: Path, ending: str, folder: str) -> None:
    mask(base / folder / f"001{ending}.png")
    error = refusal(base)
    assert error.path.name == f"001{ending}.png"
    assert error.problem.endswith("lies among the images, beside 001.png")
    (base / folder / "001.png").rename(base / folder / "other.png")
    if folder == "train/good":
        assert "two grey levels at most" in notes(base)[0], "no name beside it, only its look"


def test_images_of_two_levels_are_no_matter_where_all_are(base: Path) -> None:
    for path in [*base.glob("train/good/*"), *base.glob("test/*/*")]:
        Image.fromarray(np.asarray(Image.open(path).convert("L")) > 99).save(path)
    assert notes(base) == found_in_files(base) == []


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
def test_pages_after_the_first(base: Path, kind: str) -> None:
    pages = [Image.fromarray(np.roll(mark(), n, 1)).convert("RGB") for n in range(3)]
    ending = {"TIFF": "tif"}.get(kind, kind.lower())
    path = base / f"ground_truth/hole/000_mask.{ending}"
    (base / "ground_truth/hole/000_mask.png").unlink()
    options = {"lossless": True} if kind == "WEBP" else {}
    pages[0].save(path, kind, save_all=True, append_images=pages[1:], **options)
    assert [note for note in notes(base) if "3 pages" in note and "first alone" in note]
    assert checked(base).regions["hole"].maximum == 60


def test_the_second_picture_of_a_phone_is_no_page(base: Path) -> None:
    first, second = (Image.open(base / f"test/good/00{n}.png") for n in (0, 1))
    first.save(base / "train/good/000.jpg", "MPO", save_all=True, append_images=[second])
    assert notes(base) == []


@pytest.mark.parametrize(("file", "truth"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_that_differ_in_unicode_form_alone(base: Path, file: str, truth: str) -> None:
    name, kind = "größe", "löcher"
    photo(base / "test" / unicodedata.normalize(file, f"{kind}/{name}.png"), 70)
    mask(base / "ground_truth" / unicodedata.normalize(truth, f"{kind}/{name}_mask.png"))
    assert notes(base) == []
    found = loaded(base)
    assert unicodedata.normalize("NFC", kind) in found.val.types
    moved = base.rename(base.parent / unicodedata.normalize(file, "prüfling"))
    category = unicodedata.normalize(truth, "prüfling")
    assert len(loaded(moved, category=category).val) == len(found.val)
    rows = unicodedata.normalize(truth, f"{moved.name}/test/{kind}/{name}.png")
    table = base.parent / "rows.csv"
    table.write_text(
        f"path,mask,type,split\n{rows},"
        + unicodedata.normalize(file, f"{moved.name}/ground_truth/{kind}/{name}_mask.png")
        + f",{kind},val\n{moved.name}/test/good/000.png,,good,val\n"
        f"{moved.name}/test/good/001.png,,good,train\n"
    )
    assert load_search_data(spec(table)).val.types == ("good", kind)


# CSV files, roots and categories, item 12.

ROWS = """\
path,mask,label,split
train\\good\\000.png,,0,train
train/good/001.png,,0,val
test\\hole\\000.png,ground_truth\\hole\\000_mask.png,1,val
test/hole/001.png,ground_truth/hole/001_mask.png,1,test
"""


def test_backslashes_are_accepted_where_they_lead_somewhere(base: Path) -> None:
    table = base / "rows.csv"
    table.write_text(ROWS)
    data = load_search_data(spec(table))
    assert data.val.paths == ("train/good/001.png", "test/hole/000.png")
    (note,) = data.info["notes"]  # type: ignore[misc]
    assert note.startswith("1 file has paths with backslashes, which are read as slashes (rows")
    assert "3 paths, the first on line 2: train\\good" in note
    table.write_text(ROWS.replace("good\\000", "good\\999"))
    with pytest.raises(DataError, match=r"line 2: .* has backslashes, and there is no file"):
        load_search_data(spec(table))


def test_check_needs_no_category_where_there_is_one(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = base / "rows.csv"
    table.write_text(ROWS)
    code, out = command(capsys, "data", "check", table)
    assert code == 0 and out.startswith("rows in ") and "backslashes" in out
    assert "part in " in command(capsys, "data", "check", base.parent)[1]
    assert autosearch.check_data(base.parent).category == "part"
    table.write_text("path,label,category\na.png,0,one\nb.png,0,two\n")
    with pytest.raises(ConfigError, match=r"dataset\.category: None .* one of one, two"):
        autosearch.check_data(table)
    shutil.copytree(base, base.parent / "other")
    code, out = command(capsys, "data", "check", base.parent)
    assert code == 2 and "one of other, part" in out


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        (["part/train/ok", "part/test/bad"], ["part/train: holds ok, and no good", "rename ok"]),
        (["train/Good", "test/bad"], ["train: holds Good, and no good", "rename Good to good"]),
        (["part/good", "part/bad"], ["part: holds bad, good, and no train/good", "arrange them"]),
        (["good", "bad"], ["holds bad, good, and no train/good", "CSV file"]),
        (["ok", "nok"], ["holds nok, ok", "<category>/ground_truth/<type>"]),
        (["part/train", "part/test/x"], ["train: has no folder good", "move normal images"]),
        (["train/good", "test/x"], ["is a category itself", "dataset.category to data"]),
        (["images"], ["no category folder with train/good inside"]),
    ],
)
def test_a_root_that_is_laid_out_otherwise(
    tmp_path: Path, folders: list[str], parts: list[str]
) -> None:
    for folder in folders:
        (tmp_path / "data" / folder).mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        load_search_data(spec(tmp_path / "data"))
    assert all(part in str(caught.value) for part in parts)
    with pytest.raises(DataError):
        autosearch.check_data(tmp_path / "data")


def test_a_category_that_is_nearly_one_beside_one_that_is(base: Path) -> None:
    photo(base.parent / "second/train/ok/0.png")
    with pytest.raises(DataError, match="second/train: holds ok, and no good"):
        load_search_data(spec(base.parent, category="second"))


def test_normal_images_under_another_name_have_no_masks(base: Path) -> None:
    photo(base / "test/ok/0.png")
    assert refusal(base).remedy.startswith("name the type good if ok images are normal")
