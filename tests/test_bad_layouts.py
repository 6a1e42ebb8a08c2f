"""Files that tell of images, damaged in all ways: one line that names the file and what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import Change, overwritten
from dataset_parts import mark, mask, spec
from layout_samples import CONFIG, CORNERS, SAMPLES, cvat_image, cvat_text, labelme_content

from autosearch.data.check import check_dataset
from autosearch.data.load import load_search_data, load_test_set
from autosearch.errors import DataError

COCO, STUDIO, XML = "annotations/instances_default.json", "part.json", "annotations.xml"
FILES = {"label_studio": STUDIO}
"""Datasets of which the root is a file."""
LAUGHS = """<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;">]>\n"""
OUTSIDE = """<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>\n"""


def edited(name: str, change: Callable[[Any], object]) -> Change:
    def apply(root: Path) -> None:
        content = json.loads((root / name).read_text())
        change(content)
        (root / name).write_text(json.dumps(content))

    return apply


def lacks(key: str, place: str = "", name: str = COCO) -> Change:
    """A key is missing, in the whole or in the first of a list."""
    return edited(name, lambda content: (content[place][0] if place else content).pop(key))


def given(place: str, key: str, value: object) -> Change:
    return edited(COCO, lambda content: content[place][0].update({key: value}))


def runs(counts: object, size: object = (40, 50)) -> Change:
    value = {"size": size, "counts": counts}
    return given("annotations", "segmentation", value)


def result(key: str, value: object) -> Change:
    """Of the first task with an outline in the sample."""
    return edited(
        STUDIO, lambda c: c[8]["annotations"][0]["result"][0]["value"].update({key: value})
    )


def brush(packed: object) -> Change:
    value = {"rle": packed, "brushlabels": ["x"]}
    return edited(
        STUDIO,
        lambda c: c[10]["annotations"][0]["result"][0].update({"value": value}),
    )


def cvat(shape: str) -> Change:
    images = [cvat_image(0, shape), *(cvat_image(n) for n in range(1, 6))]
    return overwritten(XML, cvat_text("".join(images)))


def labelled(**keys: object) -> Change:
    shape = {"label": "hole", "points": CORNERS, "shape_type": "polygon", **keys}
    return lambda root: (root / "009.json").write_text(labelme_content(Path("009.jpg"), shape))


def far(x: float) -> list[float]:
    return [x, 1, x + 9, 1, x + 9, 9]


BAD: list[tuple[str, Change, str]] = [
    ("coco", overwritten(COCO, "{"), "instances_default.json: is no JSON file"),
    ("coco", overwritten(COCO, b"\xff\xfe{}"), "is no JSON file"),
    ("coco", overwritten(COCO, "[" * 100_000), "is no JSON file"),
    ("coco", overwritten(COCO, "{}"), "is not of the layout coco: a JSON file"),
    ("coco", lacks("categories"), "has no list of categories"),
    ("coco", lacks("images"), "is not of the layout coco: a JSON file"),
    ("coco", edited(COCO, lambda c: c.update(images=[], annotations=[])), "names no image"),
    ("coco", edited(COCO, lambda c: c.update(images=[3])), "has no list of images"),
    ("coco", lacks("file_name", "images"), "image 0 has no file_name"),
    ("coco", lacks("id", "images"), "image 0 has no id"),
    ("coco", lacks("name", "categories"), ""),
    ("coco", given("images", "id", 1), "has two images with the id 1"),
    ("coco", given("images", "file_name", "001.png"), "names 001.png twice"),
    ("coco", given("images", "file_name", "gone.png"), "the image 'gone.png' is not there"),
    ("coco", given("images", "file_name", "/etc/passwd"), "path '/etc/passwd' leads elsewhere"),
    ("coco", given("images", "file_name", "a/../../x.png"), "leads elsewhere"),
    ("coco", given("images", "width", "wide"), "the size of 000.png is 'wide', no number"),
    ("coco", given("images", "width", 0), "the size of 000.png is 0x40 pixels"),
    ("coco", given("annotations", "image_id", 99), "of the image 99, which is not listed"),
    ("coco", given("annotations", "category_id", 9), "of the category 9, which is not listed"),
    ("coco", lacks("image_id", "annotations"), "annotation 100 has no image_id"),
    ("coco", given("annotations", "segmentation", [[1, 2, 3]]), "no list of pairs"),
    ("coco", given("annotations", "segmentation", [[1, 2, 3, 4]]), "has 2 points, and three"),
    ("coco", given("annotations", "segmentation", [[1, 2, 3, "x", 5, 6]]), "'x', no number"),
    ("coco", given("annotations", "segmentation", [far(500)]), "outline 1 (hole) of 008.png lies"),
    ("coco", given("categories", "name", "good"), "has a class called good"),
    ("coco", runs([1, 2]), "run lengths of 3 pixels, for 2000"),
    ("coco", runs([-1, 2001]), "no whole numbers"),
    ("coco", runs("zz"), "run lengths"),
    ("coco", runs(None), "no counts"),
    ("coco", runs([2000], [50, 40]), "is of 40x50 pixels, its image 50x40"),
    ("coco", runs([2000], 7), "no number"),
    ("coco", runs([2000]), "the mask marks no pixel"),
    ("coco", edited(COCO, lambda c: [e.pop("segmentation") and e.pop("bbox")
                                     for e in c["annotations"]]), "neither a segmentation"),
    ("coco", edited(COCO, lambda c: c["images"][8].update(width=51)), "are of 51x40 pixels"),
    ("labelme", overwritten("009.json", "nothing"), "009.json: is no JSON file"),
    ("labelme", overwritten("009.json", "[]"), "is no LabelMe file"),
    ("labelme", overwritten("099.json", '{"shapes": [], "imagePath": "x"}'), "image 'x', which"),
    ("labelme", labelled(points=None), "shape 1 has no points"),
    ("labelme", labelled(points=[[1, 2]]), "shape 1 has 1 points"),
    ("labelme", labelled(points=[1, 2, 3]), "a point that is no pair"),
    ("labelme", labelled(shape_type="star"), "of the kind 'star'"),
    ("labelme", labelled(shape_type="circle"), "has not two points"),
    ("labelme", labelled(shape_type="mask", points=CORNERS[:2], mask="!"), "has no mask as PNG"),
    ("label_studio", overwritten(STUDIO, "[{"), "part.json: is no JSON file"),
    ("label_studio", overwritten(STUDIO, '{"a": 1}'), "is neither a CSV file, nor one of COCO"),
    ("label_studio", edited(STUDIO, lambda c: c[0].update(data={})), "task 0 names no image"),
    ("label_studio", edited(STUDIO, lambda c: c[0].update(data={"image": "x.png"})), "'x.png' is"),
    ("label_studio", result("points", [[1, 2]]), "task 8 has 1 points"),
    ("label_studio", result("points", "x"), "task 8 has 0 points"),
    ("label_studio", brush([1, 2, 3]), "a brush that is cut off"),
    ("label_studio", brush([900]), "no list of bytes"),
    ("label_studio", brush([0] * 30), "a brush of 0 values, for 50x40"),
    ("label_studio", edited(STUDIO, lambda c: c[8]["annotations"][0]["result"][0].pop(
        "original_width")), "no number"),
    ("cvat", overwritten(XML, "<annotations><image"), "annotations.xml: is no XML file"),
    ("cvat", overwritten(XML, cvat_text("", LAUGHS)), "declares a document type"),
    ("cvat", overwritten(XML, cvat_text("", OUTSIDE)), "declares a document type"),
    ("cvat", overwritten(XML, cvat_text('<track id="0"></track>')), "for video"),
    ("cvat", overwritten(XML, cvat_text("")), "names no image"),
    ("cvat", overwritten(XML, cvat_text(cvat_image(77))), "the image '077.png' is not there"),
    ("cvat", cvat('<polygon label="x" points="1,2;3"></polygon>'), "a point that is no pair"),
    ("cvat", cvat('<polygon label="x"></polygon>'), "has 0 points"),
    ("cvat", cvat('<box label="x" xtl="a" ytl="1" xbr="2" ybr="3"></box>'), "xtl is 'a', no"),
    ("cvat", cvat('<box label="x" ytl="1" xbr="2" ybr="3"></box>'), "xtl is 'None'"),
    ("cvat", cvat('<mask label="x" rle="1,x" left="0" top="0" width="1" height="1"></mask>'),
     "a mask with"),
    ("cvat", cvat('<mask label="x" rle="0,4" left="90" top="0" width="2" height="2"></mask>'),
     "lies outside of it"),
    ("visa", overwritten("part/image_anno.csv", "image,kind\n"), "has no column label"),
    ("visa", overwritten("part/image_anno.csv", b"\xff\xfe"), "is not a CSV file"),
    ("visa", overwritten("part/image_anno.csv", "image,label\n../x,bent\n"), "leads elsewhere"),
    ("visa", overwritten("part/image_anno.csv", "image,label\npart/x.JPG,bent\n"),
     "names part/x.JPG, which is not there"),
    ("visa", overwritten("split_csv/1cls.csv", "object,split,image\npart,train,part/y.JPG\n"),
     "1cls.csv: names part/y.JPG"),
    ("mvtec_loco", overwritten("part/defects_config.json", "{}"), "is no list of defects"),
    ("mvtec_loco", overwritten("part/defects_config.json", '[{"pixel_value": 1}]'), "without"),
    ("mvtec_loco", overwritten("part/defects_config.json",
                               json.dumps([{**CONFIG[0], "saturation_threshold": -1}])), "of -1"),
    ("mvtec_loco", overwritten("part/defects_config.json", json.dumps(CONFIG[1:])),
     "marks pixels with 255, which stands for no defect"),
    ("mvtec_loco", lambda root: mask(
        root / "part/ground_truth/logical_anomalies/000/002.png", np.ones((9, 9), np.uint8)),
     "002.png: the mask is 9x9 pixels"),
    ("kolektor", lambda root: (root / "kos01/Part0_label.bmp").unlink(), "has no label Part0"),
    ("kolektor2", lambda root: (root / "train/10000_GT.png").write_bytes(b"x"), "10000_GT.png"),
    ("btad", lambda root: [path.unlink() for path in (root / "part/train/ok").iterdir()],
     "holds no image"),
    ("good_bad", lambda root: mask(root / "masks/bad/hole/000.bmp", mark()), "has two masks"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "words"), BAD)
def test_one_line_says_what_is_wrong(
    name: str, change: Change, words: str, tmp_path: Path
) -> None:
    root = SAMPLES[name].build(tmp_path / "made")
    change(root)
    layout = {} if name in FILES else {"layout": name}
    dataset = spec(root / FILES.get(name, "."), validation={"real_per_type": 2}, **layout)
    if not words:
        load_search_data(dataset)
        return
    with pytest.raises(DataError) as caught:
        load_search_data(dataset)
        load_test_set(dataset)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.remedy and caught.value.path.exists()
    try:
        assert not check_dataset(dataset).usable
    except DataError as error:
        assert str(error) == str(caught.value)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("coco", overwritten(COCO, "{"), "instances_default.json: is no JSON file"),
        ("cvat", overwritten(XML, "<xml></xml>"), "it holds annotations.xml, images"),
        ("labelme", overwritten("009.json", "{"), "009.json: is no JSON file"),
    ],
)
def test_a_damaged_file_makes_no_other_layout(
    name: str, change: Change, words: str, tmp_path: Path
) -> None:
    root = SAMPLES[name].build(tmp_path / "made")
    change(root)
    with pytest.raises(DataError) as caught:
        load_search_data(spec(root))
    assert words in str(caught.value)
