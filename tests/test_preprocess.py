"""Objects found in photographs, and what is made of them before anything is resized."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_parts import command
from object_parts import SHAPE, box_of, drawn, exported, mark, objects_dataset, plain, save
from PIL import Image
from scipy import ndimage

from autosearch.data import (
    Box,
    Framing,
    check_dataset,
    load_search_data,
    load_test_set,
    read_image,
)
from autosearch.data.objects import find_object
from autosearch.errors import ConfigError
from autosearch.export import Predictor
from autosearch.spec.sections import DatasetSpec


def image(values: np.ndarray) -> np.ndarray:
    return values.transpose(2, 0, 1).astype(np.float32) / np.float32(255)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return objects_dataset(tmp_path / "made" / "part")


def spec(base: Path, stage: str, **keys: object) -> DatasetSpec:
    given = {"name": "x", "root": str(base.parent), "category": "part", "preprocess": stage}
    return DatasetSpec.model_validate(given | {"image_size": [48, 80]} | keys)


@pytest.mark.parametrize("i", range(6))
@pytest.mark.parametrize("canvas", [(40, 60), (41, 61), (60, 90)])
def test_centring_moves_an_object_and_changes_none_of_its_pixels(
    i: int, canvas: tuple[int, int]
) -> None:
    box = box_of(i)
    photo = image(drawn(box, i))
    # At the size of the file, so that nothing is resized.
    framing = Framing(canvas, preprocess="centre", object_size=canvas)
    view = framing.view(photo)
    assert view.object is not None and view.object.meet(box) == box and view.whole_object
    assert all(abs(a - b) <= 2 for a, b in zip(view.object, box, strict=True))
    seen = framing.pixels(photo, view)
    inside = box.within(view.source)
    np.testing.assert_array_equal(seen[:, *inside.slices], photo[:, *box.slices])
    placed = view.object.within(view.source)
    for first, last, length in [(0, 2, canvas[0]), (1, 3, canvas[1])]:
        assert abs((placed[first] + placed[last]) / 2 - length / 2) <= 0.5
    around = np.ones(canvas, dtype=bool)
    around[placed.slices] = False
    assert (seen[:, around] == 0).all()
    valid = framing.valid(view)
    np.testing.assert_array_equal(valid, ~around)


def test_the_canvas_holds_every_box_of_the_normal_training_images(base: Path) -> None:
    save(base / "train/good/100.png", drawn(Box(10, 20, 70, 40), 100))
    save(base / "train/good/101.png", drawn(Box(30, 10, 50, 140), 101))
    data = load_search_data(spec(base, "centre", image_size={"short": 48}))
    framing = Framing.from_plain(data.info["framing"])  # type: ignore[arg-type]
    assert framing.object_size == (64, 134)  # the greatest height and width, of two objects
    assert framing.size == (48, 104) and framing.preprocess == "centre"
    notes = " ".join(data.info["notes"])  # type: ignore[arg-type]
    assert "object found in 12 of 12 normal training images; canvas 64 x 134 px" in notes


def test_test_images_are_no_part_of_what_is_decided(base: Path) -> None:
    before = load_search_data(spec(base, "centre")).info["framing"]
    save(base / "test/good/000.png", drawn(Box(5, 5, 90, 150)))
    assert load_search_data(spec(base, "centre")).info["framing"] == before
    _, info = load_test_set(spec(base, "centre"))
    (note,) = info["notes"]  # type: ignore[misc]
    assert "larger than any normal training image, cut at the canvas" in note
    assert "part/test/good/000.png: 89 x 149 on 34 x 54 px" in note


def test_masking_leaves_the_object_alone(base: Path) -> None:
    box = box_of(2)
    photo = image(drawn(box, 2))
    framing = Framing(SHAPE, preprocess="mask")
    view = framing.view(photo)
    seen, valid = framing.pixels(photo, view), framing.valid(view)
    assert valid is not None and view.source == Box.whole(SHAPE)
    np.testing.assert_array_equal(seen[:, valid], photo[:, valid])
    assert (seen[:, ~valid] == 0).all() and valid[box.slices].all()
    assert valid.sum() < 1.15 * box.size[0] * box.size[1]
    grey = Framing(SHAPE, preprocess="mask", background=0.5)
    assert (grey.pixels(photo, grey.view(photo))[:, ~valid] == 0.5).all()


@pytest.mark.parametrize("stage", ["mask", "centre"])
def test_padding_around_objects_is_background_too(stage: str) -> None:
    # The object reaches the border of the photograph, so that its edge would be drawn out.
    photo = image(drawn(Box(0, 30, 50, 130)))
    around = (52, 104) if stage == "centre" else None
    framing = Framing((64, 64), preprocess=stage, object_size=around)  # type: ignore[arg-type]
    view = framing.view(photo)
    assert view.target.top > 0
    seen = framing.pixels(photo, view)
    assert (seen[:, : view.target.top] == 0).all() and (seen[:, view.target.bottom :] == 0).all()


@pytest.mark.parametrize("stage", ["mask", "centre"])
def test_the_background_has_the_value_that_was_asked_for(base: Path, stage: str) -> None:
    data = load_search_data(spec(base, stage, background=0.75, image_size=[48, 160]))
    framing = Framing.from_plain(data.info["framing"])  # type: ignore[arg-type]
    assert framing.background == 0.75
    assert data.val.valid is not None
    around = ndimage.binary_erosion(~data.val.valid[-1], iterations=2)
    assert around.any() and (data.val.pixels[-1][:, around] == 0.75).all()


def test_a_hole_belongs_to_its_object() -> None:
    box, hole = Box(20, 40, 70, 110), Box(35, 60, 55, 90)
    values = drawn(box)
    values[hole.slices] = drawn(Box(0, 0, 1, 1))[hole.slices]
    framing = Framing(SHAPE, preprocess="mask")
    valid = framing.valid(framing.view(image(values)))
    assert valid is not None and valid[box.slices].all()


def test_cropping_leaves_a_margin_and_pads_as_usual() -> None:
    photo = image(drawn(Box(30, 50, 60, 130)))
    framing = Framing((64, 64), preprocess="crop")
    view = framing.view(photo)
    assert view.object is not None and view.source == view.object.grown(4, Box.whole(SHAPE))
    assert view.shown is None and view.counted is None
    seen = framing.pixels(photo, view)
    assert view.target.size[1] == 64 and view.target.top > 0
    np.testing.assert_array_equal(seen[:, 0], seen[:, view.target.top])  # edges, as ever
    near = Framing((64, 64), preprocess="crop").view(image(drawn(Box(0, 0, 40, 60))))
    assert near.source[:2] == (0, 0)


def test_own_shapes_are_those_of_what_is_cut_out(base: Path) -> None:
    # Boxes of 34 x 54 px with 3 px around.
    data = load_search_data(spec(base, "crop", image_size={"short": 48}))
    assert data.train.pixels.shape[2:] == (48, 72)
    assert data.train.valid is None


@pytest.mark.parametrize("stage", ["mask", "crop", "centre"])
def test_masks_and_maps_follow_the_same_geometry(base: Path, stage: str) -> None:
    region = Box(10, 20, 96, 160)
    for keys in ({}, {"region_of_interest": list(region)}):
        dataset = spec(base, stage, evaluation_size=96, **keys)
        images, _ = load_test_set(dataset)
        assert images.masks.shape[1:] == (96, 160)
        for i in np.flatnonzero(images.labels):
            mask = images.masks[i]
            assert images.valid is None or (mask <= images.valid[i]).all()
            # Defects are drawn in red: what is anomalous and what is red are the same pixels.
            red = images.pixels[i][0] - images.pixels[i][1] > 0.2
            large = np.kron(red, np.ones((2, 2), dtype=bool))
            both = (large & mask).sum() / (large | mask).sum()
            assert both > 0.7 and mask.sum() > 40
            assert images.regions is not None
            np.testing.assert_array_equal(images.regions[i] > 0, mask)


@pytest.mark.parametrize("stage", ["mask", "crop", "centre"])
@pytest.mark.parametrize("region", [None, Box(5, 8, 90, 155)])
def test_maps_come_back_to_the_photograph(stage: str, region: Box | None) -> None:
    box = box_of(4)
    defect = Box(box.top + 10, box.left + 30, box.top + 18, box.left + 40)
    values = image(drawn(box, 4, defect=defect))
    around = (40, 66) if stage == "centre" else None
    framing = Framing((96, 96), "letterbox", region, stage, around)  # type: ignore[arg-type]
    view = framing.view(values)
    seen = framing.pixels(values, view)
    back = framing.restored(seen[0] - seen[1], view)
    assert back.shape == SHAPE
    found = Box.around(back > 0.2)
    assert all(abs(a - b) <= 1 for a, b in zip(found, defect, strict=True))
    if stage != "crop":
        assert view.counted is not None and (back[~view.counted] == back[view.counted].min()).all()


def test_large_photographs_are_searched_on_a_small_copy() -> None:
    box = Box(400, 900, 1500, 2300)
    small = drawn(Box(40, 90, 150, 230), shape=(200, 300))
    large = image(np.kron(small, np.ones((10, 10, 1), dtype=np.uint8)))
    found = find_object(large)
    assert found is not None and found.mask.shape == (2000, 3000)
    assert found.box.meet(box) == box
    assert all(abs(a - b) <= 20 for a, b in zip(found.box, box, strict=True))


def test_images_without_an_object_are_whole_and_named(base: Path) -> None:
    save(base / "train/good/004.png", plain(4))
    save(base / "train/good/005.png", plain(5))
    for stage in ("mask", "crop", "centre"):
        dataset = spec(base, stage)
        data = load_search_data(dataset)
        notes: Any = data.info["notes"]
        (note,) = (line for line in notes if "no object" in line)
        assert note == (
            "2 files: each has no object that stands out, so the whole image is used (first "
            f"part/train/good/004.png); set dataset.preprocess to none instead of {stage}"
        )
        assert any(line.startswith("object found in 8 of 10 normal") for line in notes)
        names = [f"part/train/good/{name}.png" for name in ("004", "005")]
        assert data.info["no_object"] == names
        whole = data.train.pixels[data.train.paths.index("part/train/good/004.png")]
        expected = Framing((48, 80))
        np.testing.assert_array_equal(
            whole, expected.pixels(image(plain(4)), expected.view(image(plain(4))))
        )


def test_most_images_without_an_object_are_refused(base: Path) -> None:
    for i in range(12):
        save(base / f"train/good/{i:03}.png", plain(i))
    with pytest.raises(ConfigError, match=r"dataset.preprocess: 'mask' .* expected none, since no "
                       r"object stands out from the border of 10 of 10 .*002.png"):  # fmt: skip
        load_search_data(spec(base, "mask"))
    report = check_dataset(spec(base, "mask"))
    assert not report.usable and report.objects == ""
    (error,) = (found for found in report.problems if found.severity == "error")
    assert error.problem == "dataset.preprocess is mask"
    assert check_dataset(spec(base, "none")).usable


def test_an_anomaly_that_is_not_shown_counts_as_an_image_alone(base: Path) -> None:
    mark(base / "ground_truth/spot/000_mask.png", Box(90, 150, 95, 158))
    data = load_search_data(spec(base, "mask"))
    first = list(data.val.labels).index(True)
    assert data.val.labels.sum() == 1 and not data.val.masks.any()
    assert data.val.counted is not None and not data.val.counted[first].any()
    notes: Any = data.info["notes"]
    assert any(
        "is anomalous only where nothing is looked at, so it counts as an image alone "
        "(part/test/spot/000.png); mend its mask, or change dataset.preprocess" in line
        for line in notes
    )


def test_a_check_says_what_was_found(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = command(
        capsys, "data", "check", base.parent, "part", "--set", "dataset.preprocess=centre"
    )
    assert code == 0
    assert (
        "object found in 10 of 10 normal training images; canvas 34 x 54 px (height x width) of "
        "the files, 224 px on the input"
    ) in text
    assert (
        "the canvas of objects is 34 x 54 px (height x width), and 37% of a canvas of 224 px is "
        "padding; dataset.image_size={side: 224} keeps their shape at the same cost"
    ) in text


def test_a_model_finds_objects_as_the_search_did(base: Path, tmp_path: Path) -> None:
    # Nobody looks at the lowest rows, and the mask does not stay where it was.
    mark(tmp_path / "upper.png", Box(0, 0, 72, 160))
    folder, images = exported(
        tmp_path,
        base,
        "dataset.preprocess=centre",
        "dataset.image_size=[64, 96]",
        f"dataset.region_of_interest={tmp_path / 'upper.png'}",
    )
    (tmp_path / "upper.png").unlink()
    with Image.open(folder / "region.png") as picture:
        assert picture.mode == "1" and picture.size == (160, 96)
    assert "region.png" in json.loads((folder / "model.json").read_text())["files"]
    nothing = tmp_path / "noise.png"
    save(nothing, plain(9))
    card = (folder / "README.md").read_text()
    assert "an object is looked for (`centre`: " in card
    assert "what is black in `region.png` counts nowhere" in card
    found = Predictor(folder)
    framing = found.model.framing
    assert framing.preprocess == "centre" and framing.object_size == (34, 54)
    files = [base.parent / name for name in images.paths]
    answers = found([*files, nothing])
    assert [answer.object_found for answer in answers] == [True] * len(files) + [False]
    maps, _ = found.model.run(images.pixels)
    assert images.valid is not None
    for i, answer in enumerate(answers[:-1]):
        view = framing.view(read_image(files[i]))
        np.testing.assert_array_equal(framing.pixels(read_image(files[i]), view), images.pixels[i])
        assert answer.score == pytest.approx(float(maps[i][images.valid[i]].max()), rel=1e-4)
        assert answer.map.shape == SHAPE and view.counted is not None
        assert not view.counted[72:].any()
        assert (answer.map[~view.counted] == answer.map[view.counted].min()).all()
    out = tmp_path / "answers"
    found.write([str(files[0]), str(nothing)], out)
    rows = list(csv.DictReader((out / "scores.csv").open()))
    assert [row["object_found"] for row in rows] == ["True", "False"]
    listed = json.loads((out / "scores.json").read_text())["images"]
    assert [entry["object_found"] for entry in listed] == [True, False]
