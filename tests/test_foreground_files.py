"""Masks of objects that come from files, instead of objects that are looked for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dataset_parts import command
from foreground_parts import SIZE, images_and_masks, place
from object_parts import SHAPE, drawn, mark, save
from PIL import Image

from autosearch.data import (
    Box,
    Framing,
    check_dataset,
    load_search_data,
    load_test_set,
    look,
    read_image,
)
from autosearch.data.objects import find_object
from autosearch.errors import ConfigError, DataError
from autosearch.spec.sections import DatasetSpec, StudySpec
from autosearch.study.inputs import _absolute


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path]:
    return images_and_masks(tmp_path)


@pytest.fixture
def base(both: tuple[Path, Path]) -> Path:
    return both[0]


@pytest.fixture
def masks(both: tuple[Path, Path]) -> Path:
    return both[1]


Made = Callable[..., DatasetSpec]


@pytest.fixture
def spec(base: Path, masks: Path) -> Made:
    def made(**keys: object) -> DatasetSpec:
        given: dict[str, object] = {"name": "x", "root": str(base.parent), "category": "part"}
        given |= {"image_size": list(SIZE), "preprocess": "centre", "foreground": str(masks)}
        return DatasetSpec.model_validate(given | keys)

    return made


def test_an_object_that_no_colour_tells_is_where_its_mask_says(base: Path, spec: Made) -> None:
    with pytest.raises(ConfigError, match="no object stands out"):
        load_search_data(spec(foreground=None))
    data = load_search_data(spec())
    # The canvas is as large as every object, so that nothing is resized.
    for i, name in enumerate(data.train.paths):
        photo = read_image(base.parent / name)
        assert find_object(photo) is None
        box = place("train/good", int(Path(name).stem))
        np.testing.assert_array_equal(data.train.pixels[i], photo[:, *box.slices])
    assert data.info["no_object"] == []
    assert data.info["preprocess"].endswith("; objects as files mark them")  # type: ignore[attr-defined]
    (told,) = (line for line in data.info["notes"] if "object found" in line)  # type: ignore[attr-defined]
    assert told.startswith(
        "object found in 10 of 10 normal training images, 10 of which have a mask in "
        "dataset.foreground; canvas 32 x 56 px"
    )
    test, _ = load_test_set(spec())
    for i, name in enumerate(test.paths):
        box = place(f"test/{test.types[i]}", int(Path(name).stem))
        photo = read_image(base.parent / name)
        np.testing.assert_array_equal(test.pixels[i], photo[:, *box.slices])
    assert test.masks[test.labels].sum(axis=(1, 2)).tolist() == [8 * 10] * 2


@pytest.mark.parametrize("stage", ["mask", "crop"])
def test_every_stage_takes_the_mask(base: Path, spec: Made, stage: str) -> None:
    data = load_search_data(spec(preprocess=stage, image_size=list(SHAPE)))
    name = data.train.paths[0]
    photo, box = read_image(base.parent / name), place("train/good", int(Path(name).stem))
    inside = np.zeros(SHAPE, dtype=bool)
    inside[box.slices] = True
    if stage == "mask":
        np.testing.assert_array_equal(data.train.pixels[0], photo * inside)
        assert data.train.valid is not None
        np.testing.assert_array_equal(data.train.valid[0], inside)
    else:
        framing = Framing(SHAPE, preprocess="crop")
        view = framing.view(photo, foreground=inside)
        assert view.object == box and view.source == box.grown(3, Box.whole(SHAPE))
        np.testing.assert_array_equal(data.train.pixels[0], framing.pixels(photo, view))


def test_an_aligned_object_is_measured_by_its_mask(base: Path, masks: Path, spec: Made) -> None:
    # As bright as its ground but for a dark half, which alone would be found.
    for path in base.glob("t*/*/*.png"):
        inside = path.relative_to(base)
        box = place(inside.parent.as_posix(), int(path.stem))
        half = Box(box.top, box.left, box.bottom, box.left + SIZE[1] // 2)
        save(path, drawn(half, 0))
    seen = {
        given: Framing.from_plain(
            load_search_data(spec(preprocess="align", foreground=given)).info["framing"]
        )  # type: ignore[arg-type]
        for given in (None, str(masks))
    }
    (_, half), (_, whole) = (found.object_size for found in seen.values() if found.object_size)
    assert 28 <= half <= 36 and 56 <= whole <= 64
    assert seen[str(masks)].marked and not seen[None].marked


def test_a_region_of_interest_is_cut_out_of_the_mask_too(masks: Path, spec: Made) -> None:
    region = Box(5, 10, 70, 140)
    plainly, cut = (
        load_search_data(spec(region_of_interest=keys)) for keys in (None, list(region))
    )
    np.testing.assert_array_equal(plainly.train.pixels, cut.train.pixels)
    # Of what lies in it alone.
    data = load_search_data(spec(region_of_interest=[0, 0, 40, 160]))
    boxes = [place("train/good", int(Path(name).stem)) for name in data.train.paths]
    tallest = max(min(box.bottom, 40) - box.top for box in boxes)
    framing = Framing.from_plain(data.info["framing"])  # type: ignore[arg-type]
    assert framing.object_size == (tallest, SIZE[1]) and tallest < SIZE[0]


def test_nothing_is_lost_of_a_thin_object() -> None:
    marked = np.zeros((900, 1300), dtype=bool)
    marked[401, 600:700] = True
    found = find_object(np.zeros((3, 900, 1300), np.float32), marked)
    assert found is not None and found.box == Box(401, 600, 402, 700)
    assert found.small.shape == (354, 512) and found.small.sum() == 2 * 40


def test_masks_of_other_sizes_and_names_are_taken(base: Path, masks: Path, spec: Made) -> None:
    before = load_search_data(spec())
    for path in sorted((masks / "part/train/good").iterdir()):
        with Image.open(path) as picture:
            larger = picture.resize((480, 288), Image.Resampling.NEAREST)
        path.unlink()
        larger.convert("1").save(path.with_name(f"{path.stem}_mask.TIF"))
    after = load_search_data(spec())
    np.testing.assert_array_equal(before.train.pixels, after.train.pixels)
    assert before.info["sha256"] != after.info["sha256"]


def test_a_mask_of_another_aspect_is_refused(masks: Path, spec: Made) -> None:
    wrong = masks / "part/train/good/003.png"
    mark(wrong, Box(0, 0, 20, 20), (96, 100))
    text = (
        f"{wrong}: the mask of the object is 96 x 100 pixels, its image 96 x 160 (height x width);"
        " give the mask the shape of its image"
    )
    with pytest.raises(DataError) as caught:
        load_search_data(spec())
    assert str(caught.value) == text
    report = check_dataset(spec())
    assert [p.path for p in report.problems if p.severity == "error"] == [wrong]
    wrong.write_bytes(b"nothing")
    with pytest.raises(DataError, match="save it as PNG with 0 and 255"):
        load_search_data(spec())


def test_what_marks_nothing_or_everything_is_no_object(masks: Path, spec: Made) -> None:
    mark(masks / "part/train/good/005.png", Box(0, 0, 0, 0))
    mark(masks / "part/train/good/006.png", Box.whole(SHAPE))
    data = load_search_data(spec())
    assert data.info["no_object"] == ["part/train/good/005.png", "part/train/good/006.png"]
    assert any(
        line.startswith("2 files: each has no object")
        for line in data.info["notes"]  # type: ignore[attr-defined]
    )
    for i in range(12):
        mark(masks / f"part/train/good/{i:03}.png", Box(0, 0, 0, 0))
    with pytest.raises(ConfigError, match=r"dataset.foreground: .* expected masks of objects: 10 "
                       r"of 10 normal training images have none \(first "):  # fmt: skip
        load_search_data(spec())


def test_without_a_mask_the_object_is_looked_for(base: Path, masks: Path, spec: Made) -> None:
    box = Box(20, 20, 48, 66)
    save(base / "train/good/004.png", drawn(box))
    (masks / "part/train/good/004.png").unlink()
    (masks / "part/test/good/001.png").unlink()
    data = load_search_data(spec())
    i = data.train.paths.index("part/train/good/004.png")
    assert data.train.valid is not None and not data.train.valid[i].all()
    assert data.info["no_object"] == []
    note = (
        "1 file has no mask in dataset.foreground, so its object is looked for in it "
        "(part/train/good/004.png); add it, or set dataset.foreground to null"
    )
    assert note in data.info["notes"]  # type: ignore[operator]
    kinds = [group[0].kind for group in check_dataset(spec()).groups]
    assert "has no mask in dataset.foreground, so its object is looked for in it" in kinds


def test_where_no_image_has_a_mask_it_is_refused(base: Path, masks: Path, spec: Made) -> None:
    deeper = masks / "part"
    with pytest.raises(ConfigError) as caught:
        load_search_data(spec(foreground=str(deeper)))
    assert str(caught.value) == (
        f"dataset.foreground: '{deeper}' is not allowed; expected masks that lie in it as the "
        "images do in dataset.root, with their names or _mask behind these and any ending of an "
        "image; none of 10 normal training images has one (first "
        f"{base / 'train/good/002.png'})"
    )
    report = check_dataset(spec(foreground=str(deeper)))
    assert [p.problem for p in report.problems if p.severity == "error"] == [
        f"dataset.foreground is {deeper}"
    ]
    # The folder of a category is laid out as it is.
    found = spec(root=str(base), foreground=str(deeper))
    np.testing.assert_array_equal(
        load_search_data(found).train.pixels, load_search_data(spec()).train.pixels
    )


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"preprocess": "none"}, "expected null, since it has no effect with dataset.preprocess"),
        ({"foreground": "/nowhere"}, "expected a folder of masks, and there is no such folder"),
        (
            {"foreground": "ROOT"},
            "expected a folder of masks, another one than that of the images",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(
    base: Path, spec: Made, keys: dict[str, str], text: str
) -> None:
    keys = {key: value.replace("ROOT", str(base.parent)) for key, value in keys.items()}
    with pytest.raises(ConfigError, match=f"^dataset.foreground: .* {text}"):
        load_search_data(spec(**keys))


def test_masks_are_part_of_the_data(masks: Path, spec: Made, tmp_path: Path) -> None:
    def digests() -> tuple[object, object]:
        return load_search_data(spec()).info["sha256"], load_test_set(spec())[1]["sha256"]

    before = digests()
    moved = tmp_path / "elsewhere"
    masks.rename(moved)
    masks.symlink_to(moved)
    assert digests() == before
    mark(masks / "part/train/good/003.png", Box(40, 40, 70, 90))
    search, test = digests()
    assert search != before[0] and test == before[1]
    mark(masks / "part/test/good/001.png", Box(40, 40, 70, 90))
    assert digests()[1] != test
    line = next(line for line in load_search_data(spec()).files if "train/good/003" in line)
    assert "\0foreground " in line
    (masks / "part/train/good/003.png").unlink()
    line = next(line for line in load_search_data(spec()).files if "train/good/003" in line)
    assert "foreground" not in line


def test_what_lies_on_the_disk_is_made_anew_for_other_masks(
    masks: Path, spec: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autosearch.data.store.LARGE", 1)
    before = load_search_data(spec()).train.pixels.copy()
    mark(masks / "part/train/good/003.png", Box(40, 40, 70, 90))
    after = load_search_data(spec())
    changed = [
        name
        for name, one, other in zip(after.train.paths, before, after.train.pixels, strict=True)
        if not np.array_equal(one, other)
    ]
    assert changed == ["part/train/good/003.png"]
    for path in (masks / "part/test").rglob("*.png"):
        path.unlink()
    _, info = load_test_set(spec())
    assert any("have no mask" in line or "has no mask" in line for line in info["notes"])  # type: ignore[attr-defined]


def test_a_study_is_what_it_is_wherever_its_masks_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def identity(**keys: object) -> dict[str, object]:
        given = {"study": {"name": "x", "runner": "y"}, "space": {"a": 1}, "objectives": ["rwap"]}
        return StudySpec.model_validate({**given, "dataset": keys}).identity()

    assert identity()["dataset.foreground"] is None
    one, other = (identity(foreground=name, preprocess="mask") for name in ("a", "b"))
    assert one == other and one["dataset.foreground"] == "a folder of masks"
    monkeypatch.chdir(tmp_path)
    given = {"study": {"name": "x", "runner": "y"}, "space": {"a": 1}, "objectives": ["rwap"]}
    found = _absolute(StudySpec.model_validate({**given, "dataset": {"foreground": "m"}}))
    assert found.dataset.foreground == str(tmp_path / "m")


def test_a_look_and_a_check_show_what_is_marked(
    base: Path, masks: Path, spec: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    assert look(spec()) != look(spec(preprocess="none", foreground=None))
    code, text = command(
        capsys, "data", "check", base.parent, "part", "--set", "dataset.preprocess=mask",
        "--set", f"dataset.foreground={masks}",
    )  # fmt: skip
    assert code == 0 and "10 of which have a mask in dataset.foreground" in text
