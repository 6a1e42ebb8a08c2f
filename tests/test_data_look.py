"""The picture of what a detector will see: what is outlined, dimmed and hatched, and its file."""

import io
from pathlib import Path

import numpy as np
import pytest
from dataset_parts import command
from object_parts import Box, mark, objects_dataset, plain, save
from PIL import Image

import autosearch
from autosearch.data.looks import look
from autosearch.errors import ConfigError
from autosearch.spec.sections import DatasetSpec

YELLOW, GREEN = (255, 190, 0), (0, 230, 90)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return objects_dataset(tmp_path / "made" / "part")


def drawn(base: Path, **keys: object) -> np.ndarray:
    given = {"root": str(base.parent), "category": "part", "image_size": 64, **keys}
    with Image.open(io.BytesIO(look(DatasetSpec.model_validate(given)))) as picture:
        assert picture.format == "JPEG" and picture.width < 2000 and picture.height < 2000
        return np.asarray(picture).astype(int)


def near(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Pixels of about a colour, which JPEG changes a little."""
    return int((np.abs(picture - np.array(colour)).max(axis=2) < 60).sum())


def test_what_is_seen_and_what_is_anomalous_are_outlined(base: Path) -> None:
    whole = drawn(base, image_size=[96, 160])
    assert near(whole, YELLOW) < 20 and near(whole, GREEN) > 100
    for keys in (
        {"preprocess": "centre"},
        {"preprocess": "mask"},
        {"preprocess": "crop"},
        {"region_of_interest": [10, 20, 90, 150]},
    ):
        assert near(drawn(base, **keys), YELLOW) > 300


def test_padding_is_hatched_and_the_rest_is_not(base: Path) -> None:
    grey = (110, 110, 110)
    assert near(drawn(base, image_size=[96, 160]), grey) < near(drawn(base), grey)


def test_every_type_is_shown_and_images_without_an_object_too(base: Path) -> None:
    before = drawn(base, preprocess="mask").shape
    save(base / "test/dent/000.png", plain(3))
    mark(base / "ground_truth/dent/000_mask.png", Box(4, 4, 30, 30))
    after = drawn(base, preprocess="mask").shape
    assert after[0] > before[0]


def test_the_command_writes_one_file(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "sheet.jpg"
    code, text = command(
        capsys, "data", "look", base.parent, "--out", out, "--set", "dataset.preprocess=centre"
    )
    assert (code, text) == (0, str(out))
    assert [path.name for path in out.parent.iterdir()] == ["sheet.jpg"]
    again = autosearch.look_at_data(
        base.parent, "part", tmp_path / "other.jpg", {"preprocess": "centre"}
    )
    assert again.read_bytes() == out.read_bytes()
    code, text = command(capsys, "data", "look", base.parent, "--out", tmp_path / "sheet.png")
    assert code == 2 and "a name that ends in .jpg" in text
    with pytest.raises(ConfigError, match="a file to write"):
        autosearch.look_at_data(base.parent, out=base / "train/good/000.png/x.jpg")


def test_what_a_search_refuses_is_refused(base: Path) -> None:
    for i in range(12):
        save(base / f"train/good/{i:03}.png", plain(i))
    with pytest.raises(ConfigError, match=r"dataset\.preprocess"):
        drawn(base, preprocess="crop")
