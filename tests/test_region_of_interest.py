"""Where images are looked at: a rectangle of them, or what a mask leaves."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_parts import SHAPE, checked, loaded, mask, photo, refusal, sound_dataset, spec
from model_parts import SIDE, described, graph
from PIL import Image

from autosearch.data import Box, Framing, load_test_set, read_image, read_interest, resize
from autosearch.errors import ConfigError, DataError
from autosearch.export import Predictor
from autosearch.export.folder import ModelError, load_model, seal
from autosearch.export.looked_at import REGION, mask_file, mask_in
from autosearch.spec.sections import StudySpec
from autosearch.study.inputs import _absolute

LEFT = np.zeros(SHAPE, dtype=np.uint8)
LEFT[:, :20] = 255


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return sound_dataset(tmp_path / "made" / "part")


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A mask that looks at the left of images alone."""
    mask(tmp_path / "left.png", LEFT)
    return tmp_path / "left.png"


def test_a_rectangle_is_cut_out_of_images_and_masks(base: Path) -> None:
    region = Box(2, 4, 34, 44)
    data = loaded(base, region_of_interest=list(region), image_size=[32, 40])
    for name, pixels in zip(data.train.paths, data.train.pixels, strict=True):
        whole = read_image(base.parent / name)
        np.testing.assert_array_equal(pixels, whole[:, *region.slices])
    first = list(data.val.labels).index(True)
    expected = np.asarray(Image.open(base / "ground_truth/hole/000_mask.png")) > 0
    np.testing.assert_array_equal(data.val.masks[first], expected[region.slices])
    assert data.val.valid is None


def test_an_image_that_does_not_hold_the_rectangle_is_refused(base: Path) -> None:
    photo(base / "train/good/003.png", 3, (30, 50))
    found = refusal(base, region_of_interest=[2, 4, 34, 44])
    assert found.path == base.resolve() / "train/good/003.png"
    assert found.problem == (
        "the image is 30 x 50 pixels, dataset.region_of_interest [2, 4, 34, 44] needs 34 x 44 "
        "pixels or more (height x width)"
    )
    assert loaded(base, region_of_interest=[2, 4, 30, 50])


def test_pixels_outside_a_mask_count_nowhere(base: Path, left: Path) -> None:
    data = loaded(base, region_of_interest=str(left), image_size=[32, 40])
    expected = np.zeros((32, 40), dtype=bool)
    expected[:, :16] = True
    for images in (data.train, data.val):
        assert images.valid is not None
        assert all((valid == expected).all() for valid in images.valid)
    # Images themselves stay what they are.
    whole = resize(read_image(base / "train/good/005.png"), (32, 40))
    place = data.train.paths.index("part/train/good/005.png")
    np.testing.assert_array_equal(data.train.pixels[place], whole)
    test, _ = load_test_set(spec(base.parent, region_of_interest=str(left), image_size=[32, 40]))
    assert test.valid is not None and (test.valid == expected).all()
    assert test.masks.any() and (test.masks <= test.valid).all()


@pytest.mark.parametrize("kind", ["grey", "alpha", "palette", "ramp", "rgb"])
def test_a_mask_is_read_in_any_way_in_which_masks_are(
    base: Path, left: Path, tmp_path: Path, kind: str
) -> None:
    picture = Image.fromarray(LEFT)
    if kind == "alpha":
        picture = Image.merge("LA", (Image.new("L", picture.size, 9), picture))
    elif kind == "palette":
        picture = Image.fromarray((LEFT > 0).astype(np.uint8), "P")
        picture.putpalette([0, 0, 0, 255, 255, 255])
    elif kind == "ramp":
        values = np.where(LEFT > 0, np.linspace(200, 255, 50).astype(np.uint8), 0)
        values[:, 30:] = np.arange(20, dtype=np.uint8) * 5
        picture = Image.fromarray(values.astype(np.uint8))
    elif kind == "rgb":
        picture = picture.convert("RGB")
    picture.save(tmp_path / "other.png")
    keys = {"region_of_interest": str(tmp_path / "other.png")}
    found = read_interest(spec(base.parent, **keys))
    assert found is not None
    np.testing.assert_array_equal(found.mask, LEFT > 0)


def test_masks_of_another_size_are_scaled_if_their_aspect_agrees(
    base: Path, tmp_path: Path
) -> None:
    mask(tmp_path / "large.png", LEFT.repeat(3, 0).repeat(3, 1))
    mask(tmp_path / "nearly.png", LEFT.repeat(5, 0).repeat(5, 1)[:199])
    mask(tmp_path / "other.png", LEFT.repeat(5, 0).repeat(5, 1)[:190])
    for name in ("large.png", "nearly.png"):
        data = loaded(base, region_of_interest=str(tmp_path / name), image_size=[40, 50])
        assert data.val.valid is not None and (data.val.valid[0] == (LEFT > 0)).all()
    found = refusal(base, region_of_interest=str(tmp_path / "other.png"))
    assert found.problem == (
        "the image is 40 x 50 pixels, the mask 190 x 250 (height x width), so "
        "dataset.region_of_interest does not fit it"
    )
    assert found.remedy == "give the mask the shape of the images"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("absent.png", "and there is no such file"),
        ("black.png", "a mask that is white where images are looked at"),
        ("words.png", "a mask file, but it is not of any known image format"),
        (".", "and there is no such file"),
    ],
)
def test_a_mask_that_cannot_be_used_is_refused(
    base: Path, tmp_path: Path, name: str, expected: str
) -> None:
    mask(tmp_path / "black.png", np.zeros(SHAPE, dtype=np.uint8))
    (tmp_path / "words.png").write_text("none")
    with pytest.raises(ConfigError) as caught:
        loaded(base, region_of_interest=str(tmp_path / name))
    assert str(caught.value).startswith("dataset.region_of_interest: '/")
    assert str(caught.value).endswith(expected)
    report = checked(base, region_of_interest=str(tmp_path / name))
    assert not report.usable
    assert any(expected in problem.remedy for problem in report.problems)


def test_what_is_anomalous_outside_counts_as_an_image_alone(base: Path) -> None:
    data = loaded(base, region_of_interest=[20, 0, 40, 50])
    first = list(data.val.labels).index(True)
    assert data.val.unmarked[first] and not data.val.masks.any()
    notes: Any = data.info["notes"]
    (line,) = (note for note in notes if "anomalous" in note)
    assert line == (
        "1 file is anomalous only where nothing is looked at, so it counts as an image alone "
        "(part/test/hole/000.png); mend its mask, or change dataset.region_of_interest"
    )
    # Of one that lies in both, the part inside counts.
    data = loaded(base, region_of_interest=[6, 0, 40, 50], image_size=[34, 50])
    assert not any(data.val.unmarked) and data.val.masks[first].sum() == 3 * 10


def test_the_hash_follows_a_mask_and_nothing_else_that_is_new(
    base: Path, left: Path, tmp_path: Path
) -> None:
    def digest(**keys: object) -> object:
        return loaded(base, **keys).info["sha256"]

    before = digest()
    assert digest(region_of_interest=[0, 0, 20, 20]) == before
    first = digest(region_of_interest=str(left))
    assert first != before
    moved = left.rename(tmp_path / "moved.png")
    assert digest(region_of_interest=str(moved)) == first
    mask(moved, 255 - LEFT)
    assert digest(region_of_interest=str(moved)) not in (first, before)
    lines = loaded(base, region_of_interest=str(moved)).files
    assert [line.split("\0")[:2] for line in lines if line.startswith("region")] == [
        ["region", "dataset.region_of_interest"]
    ]
    tests = [load_test_set(spec(base.parent, **keys))[1]["sha256"] for keys in (
        {}, {"region_of_interest": str(moved)},
    )]  # fmt: skip
    assert tests[0] != tests[1]


def test_a_study_remembers_where_the_mask_is(
    left: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {
        "study": {"name": "x", "runner": "backbones"},
        "space": {"a": 1},
        "objectives": ["ap"],
    }
    for root in (None, str(tmp_path)):
        dataset = {"region_of_interest": "left.png", "root": root}
        found = _absolute(StudySpec.model_validate(given | {"dataset": dataset}))
        assert found.dataset.region_of_interest == str(left.resolve())


def test_a_mask_may_move_as_its_content_is_compared(left: Path) -> None:
    given = {
        "study": {"name": "x", "runner": "backbones"},
        "space": {"a": 1},
        "objectives": ["ap"],
    }

    def identity(region: object) -> object:
        dataset = {"region_of_interest": region}
        return StudySpec.model_validate(given | {"dataset": dataset}).identity()

    assert identity(str(left)) == identity("elsewhere.png")
    assert identity(str(left)) != identity(None) != identity([0, 0, 9, 9])
    assert identity([0, 0, 9, 9]) != identity([0, 0, 9, 8])


def test_masks_go_into_files_and_come_back() -> None:
    marked = LEFT > 0
    content = mask_file(marked)
    assert len(content) < 200
    np.testing.assert_array_equal(mask_in(content), marked)
    for wrong in (b"", content[:40], b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(ValueError, match=REGION):
            mask_in(wrong)


def model(folder: Path, framing: Framing) -> Path:
    """A model whose maps are the brightness of what it sees, framed in some way."""
    folder.mkdir()
    files = {"model.onnx": graph()}
    if framing.looked_at is not None:
        files[REGION] = mask_file(framing.looked_at)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    given = {"shape": ["batch", 3, SIDE, SIDE], "framing": framing.to_plain()}
    (folder / "model.json").write_text(seal(described(input=given), files))
    return folder


def test_a_model_scores_what_its_mask_leaves(base: Path, tmp_path: Path) -> None:
    values = np.full((*SHAPE, 3), 40, dtype=np.uint8)
    values[30:, 45:] = 240
    bright = tmp_path / "bright.png"
    Image.fromarray(values).save(bright)
    plain = Framing((SIDE, SIDE))
    assert Predictor(model(tmp_path / "plain", plain))([bright])[0].score > 0.9
    folder = model(tmp_path / "masked", Framing((SIDE, SIDE), looked_at=LEFT > 0))
    found = Predictor(folder)
    (answer,) = found([bright])
    assert answer.score == pytest.approx(40 / 255) and not answer.mask.any()
    assert answer.object_found is None
    out = tmp_path / "answers"
    Image.new("RGB", (100, 100)).save(tmp_path / "square.png")
    skipped, done = found.write([str(tmp_path / "square.png"), str(bright)], out)
    assert "the mask 40 x 50" in skipped.problem  # type: ignore[union-attr]
    assert done.path == str(bright) and "object_found" not in (out / "scores.csv").read_text()
    with pytest.raises(DataError, match="the mask 40 x 50"):
        found([np.zeros((90, 90), dtype=np.uint8)])
    (folder / REGION).unlink()
    with pytest.raises(ModelError, match=REGION):
        load_model(folder)


def test_a_model_without_the_mask_that_it_names_is_refused(tmp_path: Path) -> None:
    folder = model(tmp_path / "masked", Framing((SIDE, SIDE), looked_at=LEFT > 0))
    manifest = json.loads((folder / "model.json").read_text())
    del manifest["sha256"]
    files = {"model.onnx": (folder / "model.onnx").read_bytes()}
    for others in (files, files | {REGION: mask_file(LEFT == 0)}, files | {REGION: b"none"}):
        for name, content in others.items():
            (folder / name).write_bytes(content)
        (folder / "model.json").write_text(seal(manifest, others))
        with pytest.raises(ModelError, match="lacks what prediction needs"):
            load_model(folder)


def test_a_model_cuts_its_rectangle_out(tmp_path: Path) -> None:
    region = Box(4, 30, 34, 50)
    found = Predictor(model(tmp_path / "model", Framing((SIDE, SIDE), "stretch", region)))
    values = np.full((*SHAPE, 3), 250, dtype=np.uint8)
    values[region.slices] = 60
    values[20:24, 40:44] = 140
    (answer,) = found([values])
    inside = np.zeros(SHAPE, dtype=bool)
    inside[region.slices] = True
    assert 80 / 255 < answer.score < 0.56
    assert (answer.map[~inside] == answer.map[inside].min()).all()
    spot = np.unravel_index(answer.map.argmax(), SHAPE)
    assert 18 <= spot[0] <= 25 and 38 <= spot[1] <= 45
    with pytest.raises(DataError, match=r"needs 34 x 50 pixels or more"):
        found([values[:30]])
