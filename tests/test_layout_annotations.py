"""What tools for labelling export: shapes, classes, and how images are found."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_parts import SHAPE, mark, photo, spec
from hypothesis import given, settings, strategies as st
from layout_samples import (
    CORNERS,
    OTHER,
    WIDTH,
    coco,
    coco_content,
    coco_text,
    cvat_image,
    cvat_text,
    labelme,
    labelme_content,
    packed_brush,
    percent,
    photo_all,
    runs,
    task,
)
from PIL import Image

from autosearch.data.index import Index, Sample
from autosearch.data.layouts.choose import open_index
from autosearch.data.layouts.runs import brush_mask, coco_runs, runs_of
from autosearch.data.load import load_search_data
from autosearch.data.originals import read_sample
from autosearch.data.outlines import Outlines, Pixels, Polygon
from autosearch.errors import DataError


def drawn(sample: Sample, **keys: object) -> np.ndarray:
    return read_sample(sample, spec(Path("/"), **keys)).mask


def only(index: Index) -> Sample:
    (found,) = [sample for sample in index.samples if not sample.normal]
    return found


# Drawing, and packings of runs.


def enclosed(corners: list[list[float]], shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centres a ray crosses the outline from an odd number of times."""
    found = np.zeros(shape, dtype=bool)
    for row in range(shape[0]):
        for column in range(shape[1]):
            x, y, odd = column + 0.5, row + 0.5, False
            for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
                if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
                    odd = not odd
            found[row, column] = odd
    return found


@pytest.mark.parametrize("seed", range(8))
def test_a_polygon_marks_the_centres_that_it_encloses(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = (rng.random((5, 2)) * [60, 46] - 4).tolist()
    shape = Polygon("x", tuple(map(tuple, corners)))
    canvas = np.zeros(SHAPE, dtype=bool)
    assert shape.draw(canvas)
    np.testing.assert_array_equal(canvas, enclosed(corners, SHAPE))


def test_a_sliver_marks_what_it_passes() -> None:
    canvas = np.zeros(SHAPE, dtype=bool)
    assert Polygon("x", ((5.1, 3.1), (15.2, 3.1), (15.2, 3.2))).draw(canvas)
    assert canvas[3, 5:16].all() and canvas.sum() == 11
    assert not Polygon("x", ((60, 3), (70, 3), (70, 9))).draw(canvas)


def test_areas() -> None:
    box = tuple((float(x), float(y)) for x, y in CORNERS)
    assert Polygon("x", box).area == Polygon("x", box[::-1]).area == 60
    assert Pixels("x", 0, 0, 4, 2, (1, 3, 4)).area == 3


masks = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**20)).map(
    lambda given: np.random.default_rng(given[2]).random(given[:2]) < 0.4
)


@settings(deadline=None, max_examples=60)
@given(masks)
def test_packed_runs_come_back(truth: np.ndarray) -> None:
    height, width = truth.shape
    down = runs(truth.T.ravel())
    assert coco_runs(coco_text(down)) == tuple(down)
    assert list(runs_of(truth)) == runs(truth.ravel())
    for columns, lengths in ((True, down), (False, runs(truth.ravel()))):
        canvas = np.zeros((height + 4, width + 4), dtype=bool)
        Pixels("x", 1, 2, width, height, tuple(lengths), columns).draw(canvas)
        np.testing.assert_array_equal(canvas[2 : 2 + height, 1 : 1 + width], truth)
        assert canvas.sum() == truth.sum()
    packed = packed_brush(truth.astype(np.uint8) * 255)
    np.testing.assert_array_equal(brush_mask(packed, width, height), truth)


def test_runs_as_cocoapi_writes_them() -> None:
    assert coco_runs("61X13mN000`0") == (6, 1, 40, 4, 5, 4, 5, 4, 21)


@pytest.mark.parametrize("text", ["6Ä", "6 ", "X", "61X"])
def test_runs_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="run lengths"):
        coco_runs(text)


def test_pixels_beyond_the_image_are_cut_off(tmp_path: Path) -> None:
    shapes = (Pixels("x", -2, -1, 4, 3, (0, 12)), Polygon("x", ((-9, 5), (5, 5), (5, 9), (-9, 9))))
    found, (note,) = Outlines(tmp_path / "a.json", shapes).mask(tmp_path / "a.png", 50, 40)
    assert found.sum() == 4 + 20 and "beyond it" in note.kind and "outline 1" in note.detail


def test_the_digest_of_outlines_lasts() -> None:
    """Studies keep it, so that no later version may work it out in another way."""
    shapes = (Polygon("x", ((1.0, 2.5), (3.0, 4.0), (5.0, 6.0))), Pixels("y", 0, 1, 2, 2, (1, 3)))
    text = '[["polygon", "x", [[1.0, 2.5], [3.0, 4.0], [5.0, 6.0]]], '
    text += '["pixels", "y", [0, 1, 2, 2], [1, 3], false]]'
    assert Outlines(Path("a.json"), shapes).digest == hashlib.sha256(text.encode()).hexdigest()


# COCO.


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return coco(tmp_path)


def write(root: Path, content: dict[str, Any]) -> None:
    (root / "annotations/instances_default.json").write_text(json.dumps(content))


def test_of_several_classes_the_largest_counts(root: Path) -> None:
    content = coco_content()
    second = {"id": 7, "image_id": 8, "category_id": 2, "bbox": [0, 0, 1, 1],
              "segmentation": [[float(n) for corner in OTHER for n in corner]]}  # fmt: skip
    write(root, {**content, "annotations": [content["annotations"][0], second]})
    index = open_index(spec(root))
    (note,) = index.notes
    assert note.path.name == "008.png" and note.detail == "dent, hole"
    assert only(index).type == "dent" and drawn(only(index)).sum() == 60 + 14 * 12
    second["category_id"] = 1
    write(root, {**content, "annotations": [content["annotations"][0], second]})
    assert only(open_index(spec(root))).type == "hole" and not open_index(spec(root)).notes


def test_boxes_alone_are_outlines_and_said(root: Path) -> None:
    content = coco_content()
    content["annotations"] = [{**content["annotations"][0], "segmentation": []}]
    write(root, content)
    index = open_index(spec(root))
    np.testing.assert_array_equal(drawn(only(index)), mark() > 0)
    assert "boxes alone" in index.notes[0].kind


def test_files_of_parts_state_their_splits(root: Path) -> None:
    content = coco_content()
    (root / "annotations/instances_default.json").unlink()
    numbers = {"train": [0, 1, 2, 3, 8], "val": [4, 5, 9], "test": [6, 7, 10]}
    for part, chosen in numbers.items():
        images = [entry for entry in content["images"] if entry["id"] in chosen]
        marks = [entry for entry in content["annotations"] if entry["image_id"] in chosen]
        file = root / f"annotations/instances_{part}2017.json"
        file.write_text(json.dumps({**content, "images": images, "annotations": marks}))
    index = open_index(spec(root))
    stated = {sample.path.stem: sample.split for sample in index.samples}
    assert [stated[f"{n:03}"] for n in (0, 4, 6)] == ["train", "val", "test"]
    assert [stated[f"{n:03}"] for n in (8, 9, 10)] == [None] * 3, "the rule draws from them"
    assert [path.name for path in index.ignored] == ["011.png"]
    (root / "annotations/instances_val2017.json").unlink()
    stated = {sample.path.stem: sample.split for sample in open_index(spec(root)).samples}
    assert (stated["000"], stated["006"]) == (None, "test")


def test_the_file_itself_may_be_the_root(root: Path) -> None:
    index = open_index(spec(root / "annotations/instances_default.json"))
    assert index.root == root and index.category == "instances_default"
    assert index.relative(index.samples[0].path) == "images/000.png"
    assert open_index(spec(root)).root == root.parent


def test_what_is_drawn_is_part_of_the_hash(root: Path) -> None:
    content = coco_content()
    before = load_search_data(spec(root)).info["sha256"]
    write(root, {**content, "info": {"year": 2026}})
    assert load_search_data(spec(root)).info["sha256"] == before
    content["annotations"][0]["segmentation"][0][0] += 1
    write(root, content)
    assert load_search_data(spec(root)).info["sha256"] != before


# LabelMe.


def test_labelme_shapes(tmp_path: Path) -> None:
    (image, *_) = photo_all(tmp_path / "part", 3)

    def sample(*shapes: dict[str, Any]) -> Sample:
        image.with_suffix(".json").write_text(labelme_content(image, *shapes))
        return only(open_index(spec(tmp_path / "part")))

    circle = {"label": "round", "points": [[20, 20], [20, 28]], "shape_type": "circle"}
    found = drawn(sample(circle))
    rows, columns = np.indices(SHAPE) + 0.5
    inside = (rows - 20) ** 2 + (columns - 20) ** 2 < 64
    np.testing.assert_array_equal(found, inside)
    line = {"label": "x", "points": [[1, 1], [9, 9]], "shape_type": "line"}
    index = open_index(spec(tmp_path / "part"))
    assert sample(circle, line).type == "round" and not index.notes
    assert "covers no area" in open_index(spec(tmp_path / "part")).notes[0].kind
    assert sample({"label": "  ", "points": CORNERS}).type == "anomaly"


def test_labelme_in_folders_and_unicode(tmp_path: Path) -> None:
    root = labelme(tmp_path)
    photo(root / "tag/gro\u0308\u00dfe.png", 50)
    shape = {"label": "hole", "points": CORNERS, "shape_type": "polygon"}
    (root / "tag/gr\u00f6\u00dfe.json").write_text(labelme_content(Path("x.png"), shape))
    index = open_index(spec(root))
    assert sum(sample.type == "hole" for sample in index.samples) == 3


# Label Studio.


def studio(root: Path, *tasks: dict[str, Any]) -> Index:
    (root / "part.json").write_text(json.dumps(tasks))
    return open_index(spec(root / "part.json"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    photo_all(tmp_path / "part/images", 4)
    return tmp_path / "part"


def test_a_turned_box(pictures: Path) -> None:
    """A quarter turn clockwise about its first corner: it then lies to the left of that."""
    left, top = 100 * 15 / WIDTH, 100 * 3 / SHAPE[0]
    box = {"x": left, "y": top, "width": 100 * 6 / WIDTH, "height": 100 * 10 / SHAPE[0],
           "rotation": 90, "rectanglelabels": ["hole"]}  # fmt: skip
    sample = only(studio(pictures, task(1, "images/000.png", ("rectanglelabels", box))))
    np.testing.assert_array_equal(drawn(sample), mark() > 0)


def test_an_ellipse(pictures: Path) -> None:
    round_ = {"x": 50, "y": 50, "radiusX": 20, "radiusY": 10, "rotation": 0}
    sample = only(studio(pictures, task(1, "000.png", ("ellipselabels", round_))))
    assert sample.type == "anomaly"
    assert drawn(sample).sum() == pytest.approx(np.pi * 10 * 4, rel=0.05)


def test_tasks_that_are_not_finished_or_were_done_twice(pictures: Path) -> None:
    shape = ("polygonlabels", {"points": percent(CORNERS), "polygonlabels": ["hole"]})
    twice = task(1, "000.png")
    twice["annotations"] += task(1, "", shape)["annotations"]
    left = {**task(2, "001.png", shape), "annotations": []}
    skipped = task(3, "002.png", shape)
    skipped["annotations"][0]["was_cancelled"] = True
    index = studio(pictures, twice, left, skipped, task(4, "003.png"))
    assert [sample.type for sample in index.samples] == ["hole", "good"]
    kinds = [note.kind for note in index.notes]
    assert sum("nobody finished" in kind for kind in kinds) == 2
    assert sum("labelled several times" in kind for kind in kinds) == 1


def test_images_of_one_name(pictures: Path) -> None:
    photo(pictures / "more/000.png", 9)
    index = studio(pictures, task(1, "/data/local-files/?d=more/000.png"))
    assert [sample.path.parent.name for sample in index.samples] == ["more"]
    with pytest.raises(DataError, match=r"task 1: the image '000\.png' lies there several times"):
        studio(pictures, task(1, "/data/upload/3/000.png"))


# CVAT.


def test_cvat_turns_boxes_about_their_centres(pictures: Path) -> None:
    shape = '<box label="hole" xtl="7" ytl="1" xbr="13" ybr="11" rotation="90"></box>'
    (pictures / "annotations.xml").write_text(cvat_text(cvat_image(0, shape)))
    sample = only(open_index(spec(pictures)))
    np.testing.assert_array_equal(drawn(sample), mark() > 0)


def test_cvat_ellipses_subsets_and_lines(pictures: Path) -> None:
    for part in ("Train", "Test"):
        photo_all(pictures / f"images/{part}", 2, first=10)
    round_ = '<ellipse label="hole" cx="25" cy="20" rx="10" ry="4" rotation="0"></ellipse>'
    line = '<polyline label="hole" points="1,1;9,9"></polyline>'
    body = (
        cvat_image(10, line, "Train") + cvat_image(10, "", "Test") + cvat_image(11, round_, "Test")
    )
    (pictures / "annotations.xml").write_text(cvat_text(body))
    index = open_index(spec(pictures))
    assert [(sample.path.parent.name, sample.split) for sample in index.samples] == [
        ("Test", "test"), ("Test", None), ("Train", None),
    ]  # fmt: skip
    assert drawn(only(index)).sum() == pytest.approx(np.pi * 40, rel=0.05)
    assert "cover no area" in index.notes[0].kind


# Orientation.


def test_outlines_on_an_image_that_is_turned(pictures: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    photo(pictures / "images/000.png", 1, exif=exif)
    shape = '<box label="hole" xtl="5" ytl="3" xbr="15" ybr="9"></box>'
    (pictures / "annotations.xml").write_text(cvat_text(cvat_image(0, shape)))
    sample = only(open_index(spec(pictures)))
    (note,) = read_sample(sample, spec(Path("/"))).notes
    assert "taken to be drawn on it upright" in note.kind
    np.testing.assert_array_equal(drawn(sample), mark() > 0)
    assert read_sample(sample, spec(Path("/"), orientation="stored")).notes == ()
    exif[0x0112] = 6
    photo(pictures / "images/000.png", 1, exif=exif)
    with pytest.raises(DataError, match=r"are of 50x40 pixels, it has 40x50.*orientation to sto"):
        drawn(sample)
    np.testing.assert_array_equal(drawn(sample, orientation="stored"), mark() > 0)
