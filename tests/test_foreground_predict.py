"""Masks of objects that are handed in with the images that a model looks at."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_parts import command
from foreground_parts import images_and_masks
from model_parts import write_model
from object_parts import SHAPE, exported
from PIL import Image

from autosearch.data import ImageSet
from autosearch.errors import ConfigError, DataError
from autosearch.export import FolderWatch, Journal, Prediction, Predictor, Skipped

Model = tuple[Path, Path, Path, ImageSet]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Images, masks, an exported model of them, and its validation images."""
    folder = tmp_path_factory.mktemp("study")
    base, masks = images_and_masks(folder)
    keys = ("preprocess=centre", "image_size=[64, 96]", f"foreground={masks}")
    found, images = exported(folder, base, *(f"dataset.{key}" for key in keys))
    return base, masks, found, images


def test_a_model_takes_masks_with_its_images(model: Model) -> None:
    base, masks, folder, images = model
    described = json.loads((folder / "model.json").read_text())["input"]["framing"]
    assert described["marked"] is True
    ready = Predictor(folder)
    maps, _ = ready.model.run(images.pixels)
    files = [base.parent / name for name in images.paths]
    given = [masks / name for name in images.paths]
    arrays = [np.asarray(Image.open(path)) for path in given]
    assert images.valid is not None
    for foreground in (given, arrays, [np.kron(array, np.ones((2, 2))) > 0 for array in arrays]):
        for i, answer in enumerate(ready(files, foreground=foreground)):
            assert answer.object_found and answer.map.shape == SHAPE
            assert answer.score == pytest.approx(float(maps[i][images.valid[i]].max()), rel=1e-4)
    assert [answer.object_found for answer in ready(files)] == [False] * len(files)
    mixed = ready(files[:2], foreground=[None, arrays[1]])
    assert [answer.object_found for answer in mixed] == [False, True]


def test_masks_that_go_with_no_image_are_refused(model: Model) -> None:
    base, masks, folder, images = model
    ready = Predictor(folder)
    files = [base.parent / name for name in images.paths[:2]]
    one, other = (np.asarray(Image.open(masks / name)) for name in images.paths[:2])
    wrongs: list[tuple[list[Any], str]] = [
        ([one], "fewer masks than images"),
        ([one, other, None], "more masks than images"),
        ([one[None], None], "an array of shape"),
    ]
    for wrong, text in wrongs:
        with pytest.raises(ConfigError, match=text):
            ready(files, foreground=wrong)
    with pytest.raises(
        DataError, match="the mask of the object is 96 x 80 pixels, its image 96 x"
    ):
        ready(files[:1], foreground=[one[:, ::2]])


def test_predict_takes_a_folder_of_masks(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, all_masks, folder, _ = model
    # Masks of all images but one, laid out as the images are.
    masks, out = tmp_path / "masks", tmp_path / "seen"
    shutil.copytree(all_masks / "part/test", masks)
    (masks / "good/000.png").unlink()
    code, text = command(
        capsys, "predict", folder, base / "test", "--foreground", masks, "--out", out
    )
    assert code == 0 and "this model was made with masks" not in text
    assert f"1 of 5 images have no mask in {masks}: object looked for" in text
    rows = {row["path"]: row for row in csv.DictReader((out / "scores.csv").open())}
    spot, bare = rows[f"{base}/test/spot/001.png"], rows[f"{base}/test/good/000.png"]
    assert spot["foreground"] == f"{masks}/spot/001.png" and spot["object_found"] == "True"
    assert bare["foreground"] == "" and bare["object_found"] == "False"
    # Files that are named outright, by their names.
    code, _ = command(
        capsys, "predict", folder, base / "test/spot/001.png", "--out", tmp_path / "one",
        "--foreground", masks / "spot",
    )  # fmt: skip
    (row,) = csv.DictReader((tmp_path / "one/scores.csv").open())
    assert code == 0 and float(row["score"]) == pytest.approx(float(spot["score"]), rel=1e-5)
    code, text = command(capsys, "predict", folder, base / "test", "--out", tmp_path / "bare")
    assert code == 0 and "note this model was made with masks of objects from files" in text
    assert "foreground" not in (tmp_path / "bare/scores.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("BASE/test", "--foreground", "MASKS"), "masks that lie in it as the images"),
        (("BASE/test", "--foreground", "BASE/test"), "another one than that of the images"),
        (("BASE/test", "--foreground", "BASE/nowhere"), "and there is no such folder"),
        (("--camera", "0", "--foreground", "MASKS"), "expected no --camera"),
    ],
)
def test_what_predict_cannot_take_is_refused(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...],
    words: str,
) -> None:  # fmt: skip
    base, masks, folder, _ = model
    given = [a.replace("BASE", str(base)).replace("MASKS", str(masks)) for a in arguments]
    code, text = command(capsys, "predict", folder, *given, "--out", tmp_path / "no")
    assert code == 2 and "--foreground" in text and words in text


def test_masks_below_the_images_are_no_images(model: Model, tmp_path: Path) -> None:
    base, masks, folder, _ = model
    given = tmp_path / "in/masks"
    shutil.copytree(base / "test/spot", tmp_path / "in")
    shutil.copytree(masks / "part/test/spot", given)
    answers = Predictor(folder).write([str(given.parent)], tmp_path / "out", foreground=given)
    assert [Path(answer.path).parent.name for answer in answers] == ["in"] * 3


def test_a_watch_takes_the_masks_that_are_there(model: Model, tmp_path: Path) -> None:
    base, masks, folder, _ = model
    inbox, beside = tmp_path / "inbox", tmp_path / "inbox/masks"
    beside.mkdir(parents=True)
    told: list[Prediction | Skipped] = []
    ready = Predictor(folder)
    with Journal(tmp_path / "watched", ready.model) as journal:
        watch = FolderWatch(ready.model, [str(inbox)], journal, 8, beside)
        for name, marked in (("000.png", True), ("001.png", False)):
            for to, origin in ((inbox, base), (beside, masks / "part")):
                (to / "deep").mkdir(exist_ok=True)
                if to == inbox or marked:
                    shutil.copy(origin / "test/spot" / name, to / "deep" / name)
            watch.step(told.append)
            watch.step(told.append)
    assert [getattr(answer, "object_found", None) for answer in told] == [True, False]
    lines = [json.loads(line) for line in (tmp_path / "watched/results.jsonl").open()]
    assert lines[0]["foreground"] == str(beside / "deep/000.png")
    assert "foreground" not in lines[1]


def test_a_model_that_wants_no_object_takes_no_mask(tmp_path: Path) -> None:
    ready = Predictor(write_model(tmp_path / "model"))
    picture = np.zeros((8, 8), np.uint8)
    with pytest.raises(ConfigError, match=r"foreground: .* made without dataset\.preprocess"):
        ready([picture], foreground=[picture])
    with pytest.raises(ConfigError, match=r"--foreground: .* this one wants no object"):
        ready.write(["x"], tmp_path / "out", foreground=tmp_path)
