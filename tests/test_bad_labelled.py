"""Labelled datasets that nothing can be learnt from, each refused with one line before a trial."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from damage import Refused
from PIL import Image

from autosearch.backbones import weights

SIDE = 40
QUICK = [
    "--executor", "local", "--trials", "1", "--set", "backbone.weights=random",
    "--set", "dataset.image_size=32", "--set", "dataset.category=part",
]  # fmt: skip
GOOD = [f"train/good/{i}.png,,0,{'val' if i < 2 else 'train'},{i}" for i in range(6)]


def hole(number: int, split: str, mask: str = "spot", group: str = "") -> str:
    """A row of the table: an anomalous image."""
    return f"test/hole/{number}.png,masks/{mask}.png,1,{split},{group}"


TABLES: dict[str, tuple[list[str], str]] = {
    "no defect to learn from": (
        [*GOOD, hole(0, "val"), hole(1, "test")], "dataset.labelled.train: '0 anomalous training"
    ),
    "none to validate on": (
        [*GOOD, hole(0, "train"), hole(1, "test")], "validation holds no anomalous image"
    ),
    "one without a pixel": (
        [*GOOD, hole(0, "train", "nothing"), hole(1, "val")], "marks no pixel"
    ),
    "one larger than its image": (
        [*GOOD, hole(0, "train", "large"), hole(1, "val")], "80x80 pixels"
    ),
    "one in both splits": (
        [*GOOD, hole(0, "train", group="a"), hole(1, "val", group="a")], "splits train and val"
    ),
    "one whose mask is missing": (
        [*GOOD, hole(0, "train", "missing"), hole(1, "val")], "missing.png"
    ),
    "no normal image to learn from": (
        [*(row.replace(",train,", ",val,") for row in GOOD), hole(0, "train"), hole(1, "val")],
        "none is left to train on",
    ),
    "no normal image to validate on": (
        [*(row.replace(",val,", ",train,") for row in GOOD), hole(0, "train"), hole(1, "val")],
        "validation holds no normal image",
    ),
}  # fmt: skip


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Category ``part``: 6 normal images, 2 anomalous ones in MVTec AD's layout, and masks."""
    monkeypatch.setattr(weights, "_random", cache(weights._random))
    base, rng = tmp_path / "data" / "part", np.random.default_rng(0)
    spot = np.zeros((SIDE, SIDE), dtype=np.uint8)
    spot[5:20, 5:20] = 255
    dot = np.zeros_like(spot)
    # Of 40 rows and columns, 32 have no place for these.
    dot[2, 2] = 255
    masks = {"spot": spot, "dot": dot, "nothing": np.zeros_like(spot), "large": spot.repeat(2, 0)}
    masks["large"] = masks["large"].repeat(2, 1)
    pictures = {f"masks/{name}": mask for name, mask in masks.items()}
    pictures |= {f"ground_truth/hole/{i}": spot for i in range(2)}
    for name, number in {"train/good": 6, "test/hole": 2}.items():
        for i in range(number):
            pictures[f"{name}/{i}"] = rng.integers(0, 256, spot.shape, dtype=np.uint8)
    for name, values in pictures.items():
        path = (base / name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    return base


@pytest.fixture
def refusal(refused: Refused, tmp_path: Path) -> Refused:
    """The line with which a search on a dataset is refused; nothing is written anywhere."""

    def run(root: Path, *changes: str) -> str:
        given = [part for change in changes for part in ("--set", change)]
        command = ["run", "bilevel_weights", *QUICK, "--set", f"dataset.root={root}", *given]
        line = refused(tmp_path, *command, "--results", tmp_path / "results")
        assert not (tmp_path / "results").exists()
        return line

    return run


@pytest.mark.parametrize("case", TABLES)
def test_tables(refusal: Refused, base: Path, case: str) -> None:
    rows, part = TABLES[case]
    table = "\n".join(["path,mask,label,split,group", *rows]) + "\n"
    (base / "rows.csv").write_text(table)
    assert part in refusal(base / "rows.csv")


def test_one_that_is_lost_when_the_image_becomes_smaller(refusal: Refused, base: Path) -> None:
    rows = ["path,mask,label,split,group", *GOOD, hole(0, "train", "dot"), hole(1, "val")]
    (base / "rows.csv").write_text("\n".join(rows) + "\n")
    # As every region keeps a cell by now, only the former rule can lose one.
    line = refusal(base / "rows.csv", "dataset.regions=resized")
    assert "dataset.labelled.train: '1 anomalous training" in line


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ("dataset.labelled={train: 0.001, val: 0.9}", "dataset.labelled.train"),
        ("dataset.labelled={train: 0.9, val: 0.001}", "validation holds no anomalous image"),
        ("dataset.labelled=null", "dataset.labelled: None"),
        ("space.sources=none", "space.sources: 'none'"),
    ],
)
def test_shares(refusal: Refused, base: Path, change: str, part: str) -> None:
    assert part in refusal(base.parent, change)


def test_one_labelled_defect_is_not_enough_for_two_splits(refusal: Refused, base: Path) -> None:
    (base / "test/hole/1.png").unlink()
    assert "validation holds no anomalous image" in refusal(base.parent)
