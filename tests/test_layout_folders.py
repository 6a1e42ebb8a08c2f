"""Layouts of folders: what each of them has of its own, and which one is taken where two fit."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from dataset_parts import SHAPE, mark, mask, photo, sound_dataset, spec
from layout_samples import (
    CONFIG,
    SAMPLES,
    btad,
    good_bad,
    kolektor,
    labelme_content,
    mvtec,
    mvtec_ad_2,
    mvtec_loco,
    photo_all,
    visa,
)

import autosearch
from autosearch.data.index import Index
from autosearch.data.layouts.choose import open_index
from autosearch.data.layouts.contract import part_of
from autosearch.data.originals import read_sample
from autosearch.data.regions import label_regions
from autosearch.errors import ConfigError, DataError


def types(index: Index) -> Counter[str]:
    return Counter(sample.type for sample in index.samples)


# MVTec AD 2 and LOCO.


def test_objects_under_several_lightings_stay_together(tmp_path: Path) -> None:
    index = open_index(spec(mvtec_ad_2(tmp_path)))
    groups = Counter(sample.group for sample in index.samples)
    assert groups["part/test_public/bad/000"] == groups["part/test_public/good/001"] == 2
    assert groups["part/train/good/000"] == 1
    (note,) = index.notes
    assert note.path.name == "test_private" and "without labels" in note.kind
    assert not index.ignored, "what is not read is said once"


def loco(tmp_path: Path, *defects: dict[str, object]) -> tuple[np.ndarray, tuple[float, ...]]:
    """Mask and saturation of the first anomalous image."""
    root = mvtec_loco(tmp_path)
    if defects:
        (root / "part/defects_config.json").write_text(json.dumps(defects))
    index = open_index(spec(root))
    first = next(sample for sample in index.samples if not sample.normal)
    assert [path.name for path in first.masks] == ["000.png", "001.png"]
    original = read_sample(first, spec(root))
    return original.mask, original.saturation


def test_saturation_of_each_region(tmp_path: Path) -> None:
    truth, shares = loco(tmp_path)
    assert label_regions(truth).max() == len(shares) == 2
    assert shares == (30 / 60, 1.0), "30 pixels of 60, and all"


def test_saturation_beyond_the_area_and_relative(tmp_path: Path) -> None:
    relative = {**CONFIG[0], "saturation_threshold": 0.25, "relative_saturation": True}
    large = {**CONFIG[1], "saturation_threshold": 5000, "relative_saturation": False}
    assert loco(tmp_path, relative, large)[1] == (0.25, 1.0)


def test_without_saturations_regions_are_whole(tmp_path: Path) -> None:
    root = mvtec_loco(tmp_path)
    (root / "part/defects_config.json").unlink()
    index = open_index(spec(root))
    assert index.layout == "mvtec_loco" and "covered whole" in index.notes[0].kind
    first = next(sample for sample in index.samples if not sample.normal)
    assert read_sample(first, spec(root)).saturation == ()


def test_masks_of_one_image_count_in_its_hash(tmp_path: Path) -> None:
    root = mvtec_loco(tmp_path)
    index = open_index(spec(root))
    first = next(sample for sample in index.samples if not sample.normal)
    before = read_sample(first, spec(root)).digests
    assert len(before) == 4, "the image, two masks, and what saturates"
    second = np.zeros(SHAPE, np.uint8)
    second[20:31, 20:30] = 250
    mask(first.masks[1], second)
    after = read_sample(first, spec(root)).digests
    assert (before[0], before[1]) == (after[0], after[1]) and before[2] != after[2]


# VisA, BTAD, KolektorSDD.


def test_visa_without_its_tables(tmp_path: Path) -> None:
    root = visa(tmp_path)
    (note,) = open_index(spec(root)).notes
    assert note.detail == "chip, bent" and "several types" in note.kind
    shutil.rmtree(root / "split_csv")
    (root / "part/image_anno.csv").unlink()
    index = open_index(spec(root))
    assert types(index) == {"good": 10, "anomaly": 4} and not index.notes
    assert {sample.split for sample in index.samples} == {None}


def test_btad_with_a_mask_too_many(tmp_path: Path) -> None:
    root = btad(tmp_path)
    mask(root / "part/ground_truth/ko/099.png")
    (root / "part/notes.txt").write_text("x")
    assert [path.name for path in open_index(spec(root)).orphan_masks] == ["099.png"]


def test_commutators_stay_together_where_that_leaves_normal_ones(tmp_path: Path) -> None:
    root = kolektor(tmp_path)
    groups = {sample.group for sample in open_index(spec(root)).samples}
    assert groups == {f"part/kos0{n}" for n in range(1, 6)}
    mask(root / "kos01/Part1_label.bmp")
    index = open_index(spec(root))
    assert len({sample.group for sample in index.samples}) == 20
    assert "defect on nearly every commutator" in index.notes[0].kind


# Good and bad, and flat.


@pytest.mark.parametrize(
    ("normal", "anomalous"),
    [("good", "bad"), ("OK", "NOK"), ("normal", "anomalous"), ("ok", "defect"),
     ("Normal", "not ok"), ("good", "ng"), ("healthy", "Defects")],
)  # fmt: skip
@pytest.mark.parametrize("masks", ["masks", "ground_truth", "Mask", "gt"])
def test_good_and_bad_in_other_words(
    normal: str, anomalous: str, masks: str, tmp_path: Path
) -> None:
    photo_all(tmp_path / "x/part" / normal, 3)
    for path in photo_all(tmp_path / "x/part" / anomalous, 2):
        mask(tmp_path / "x/part" / masks / f"{path.stem}_mask.png")
    index = open_index(spec(tmp_path / "x"))
    assert types(index) == {"good": 3, anomalous: 2} and not index.ignored
    assert all(sample.normal or len(sample.masks) == 1 for sample in index.samples)


@pytest.mark.parametrize("place", ["bad/hole", "hole", "bad", "."])
@pytest.mark.parametrize("ending", ["", "_mask"])
def test_places_of_masks(place: str, ending: str, tmp_path: Path) -> None:
    base = tmp_path / "part"
    photo_all(base / "good", 3)
    photo(base / "bad/hole/day/7.png", 5)
    mask(base / "masks" / place / f"7{ending}.png")
    (sample,) = [s for s in open_index(spec(base)).samples if not s.normal]
    assert [path.stem for path in sample.masks] == [f"7{ending}"] and sample.type == "hole"


def test_masks_of_good_images_are_theirs_if_they_lie_so(tmp_path: Path) -> None:
    root = good_bad(tmp_path)
    mask(root / "masks/good/000.png", 0 * mark())
    mask(root / "masks/bad/hole/077.png")
    index = open_index(spec(root))
    assert [path.name for path in index.orphan_masks] == ["077.png"]
    first = next(sample for sample in index.samples if sample.path.parent.name == "good")
    assert [path.parent.name for path in first.masks] == ["good"]
    (root / "bad/empty").mkdir()
    (root / "note.txt").write_text("x")
    index = open_index(spec(root))
    assert [path.name for path in index.empty_folders] == ["empty"]
    assert [path.name for path in index.ignored] == ["note.txt"]


@pytest.mark.parametrize("extra", ["a.csv", "a.json", "a.xml"])
def test_flat_only_where_nothing_else_may_tell(extra: str, tmp_path: Path) -> None:
    photo_all(tmp_path / "part", 3)
    (tmp_path / "part" / extra).write_text("{}")
    with pytest.raises(DataError, match="no other layout: it holds"):
        open_index(spec(tmp_path / "part"))
    index = open_index(spec(tmp_path, layout="flat"))
    assert types(index) == {"good": 3} and [path.name for path in index.ignored] == [extra]


# Which one it is.


def test_the_most_certain_wins(tmp_path: Path) -> None:
    root = mvtec(tmp_path)
    photo_all(root / "part", 2)
    (root / "part/000.json").write_text(labelme_content(root / "part/000.png"))
    photo_all(root / "other/good", 3)
    photo_all(root / "other/bad", 3)
    assert open_index(spec(root)).layout == "mvtec"
    assert open_index(spec(root, category="other")).layout == "good_bad"
    assert open_index(spec(root / "part")).layout == "mvtec"
    assert autosearch.check_data(root).category == "part", "as before there were other layouts"
    assert open_index(spec(root / "part", layout="labelme")).layout == "labelme"


def test_categories_of_two_layouts(tmp_path: Path) -> None:
    root = mvtec(tmp_path)
    shutil.move(mvtec_ad_2(tmp_path / "more") / "part", root / "second")
    assert open_index(spec(root)).layout == "mvtec"
    assert open_index(spec(root, category="second")).layout == "mvtec_ad_2"
    with pytest.raises(ConfigError, match="one of part, second"):
        autosearch.check_data(root)
    with pytest.raises(ConfigError, match="one of part, second"):
        open_index(spec(root, category="third"))


def test_a_category_that_is_the_root(tmp_path: Path) -> None:
    root = mvtec(tmp_path) / "part"
    assert open_index(spec(root)).category == "part"
    assert open_index(spec(root, category="brick")).category == "part", "the spec's default"
    with pytest.raises(DataError, match=r"is a category itself; .* or dataset\.category to part"):
        open_index(spec(root, category="other"))
    assert autosearch.check_data(root).category == "part"


@pytest.mark.parametrize("layout", ["coco", "visa", "flat", "csv"])
def test_another_layout_than_it_is(layout: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"is not of the layout {layout}: .*; it holds part; set"):
        open_index(spec(mvtec(tmp_path), layout=layout))


def test_nothing_fits(tmp_path: Path) -> None:
    for name in ("one.txt", "two.txt"):
        (tmp_path / name).write_text("x")
    with pytest.raises(DataError) as caught:
        open_index(spec(tmp_path))
    assert "it holds one.txt, two.txt" in caught.value.problem
    assert all(name in caught.value.remedy for name in ("kolektor2", "label_studio", "good_bad"))
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(DataError, match="neither a CSV file, nor one of COCO"):
        open_index(spec(tmp_path / "x.json"))


def test_studies_from_before_go_by_the_ending(tmp_path: Path) -> None:
    file = SAMPLES["csv"].build(tmp_path)
    assert open_index(spec(file, layout="mvtec")).layout == "csv"
    base = sound_dataset(tmp_path / "data/part")
    (base / "test_public").mkdir()
    assert open_index(spec(base.parent, layout="mvtec")).layout == "mvtec"
    assert open_index(spec(base.parent)).layout == "mvtec_ad_2"


@pytest.mark.parametrize(
    ("name", "part"),
    [("instances_val2017", "val"), ("Train", "train"), ("valid", "val"), ("testing", "test"),
     ("train_test", None), ("default", None), ("contest", None)],
)  # fmt: skip
def test_names_that_state_a_split(name: str, part: str | None) -> None:
    assert part_of(name) == part
