"""A dataset of every layout written anew, and read back as what it was."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from damage import Refused
from dataset_parts import command, mark, mask, photo, sound_dataset
from layout_samples import SAMPLES, cvat_image, cvat_text

import autosearch
from autosearch.api import Update
from autosearch.data.index import Sample
from autosearch.data.layouts.choose import open_index
from autosearch.data.originals import read_sample
from autosearch.data.splits import split_index
from autosearch.errors import ConfigError, DataError
from autosearch.spec.sections import DatasetSpec


def indexed(root: Path, category: str = "part") -> tuple[Sample, ...]:
    return open_index(DatasetSpec(name="x", root=str(root), category=category)).samples


def told(samples: tuple[Sample, ...]) -> list[tuple[bytes, str, bytes]]:
    """Bytes of the image, type and mask of each, in an order that names do not change."""
    found = []
    for sample in samples:
        marked = sample.marked and not sample.normal
        pixels = read_sample(sample, DatasetSpec()).mask.tobytes() if marked else b""
        found.append((sample.path.read_bytes(), sample.type, pixels))
    return sorted(found)


@pytest.mark.parametrize("to", ["mvtec", "csv"])
@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_converted_reads_back_the_same(name: str, to: str, tmp_path: Path) -> None:
    root = SAMPLES[name].build(tmp_path / "made")
    done = autosearch.convert_data(root, to=to, out=tmp_path / "out")  # type: ignore[arg-type]
    before, after = indexed(root), indexed(done.root)
    assert told(after) == told(before) and done.category == "part"
    assert done.images == len(before)
    assert done.masks == sum(sample.marked and not sample.normal for sample in before)
    assert not [p for p in autosearch.check_data(done.root).problems if "not read" in p.problem]
    if to == "csv":
        shared = [[s.group for s in samples].count(s.group) for samples in (before, after)
                  for s in samples]  # fmt: skip
        assert shared[: len(before)] == shared[len(before) :]
        assert [s.split for s in before] == [s.split for s in after], "the order is kept, too"
        assert not done.lost or name == "mvtec_loco"


@pytest.mark.parametrize("to", ["mvtec", "csv"])
def test_the_split_is_the_same(to: str, tmp_path: Path) -> None:
    root = SAMPLES["mvtec"].build(tmp_path / "made")
    done = autosearch.convert_data(root, to=to, out=tmp_path / "out")  # type: ignore[arg-type]

    def parts(place: Path) -> list[list[bytes]]:
        dataset = DatasetSpec(name="x", root=str(place), category="part")
        split = split_index(open_index(dataset), dataset)
        return [[s.path.read_bytes() for s in part] for part in (split.train, split.val)]

    assert [sorted(part) for part in parts(root)] == [sorted(part) for part in parts(done.root)]


def test_folders_say_less_than_a_table(tmp_path: Path) -> None:
    root = SAMPLES["mvtec_ad_2"].build(tmp_path / "made")
    done = autosearch.convert_data(root, to="mvtec", out=tmp_path / "out")
    groups, splits = done.lost
    assert groups.startswith("groups are not kept") and "convert to csv" in groups
    assert splits.startswith("stated splits are not kept (6 in train, 2 in val)")
    root = SAMPLES["mvtec_loco"].build(tmp_path / "loco")
    assert "saturation" in autosearch.convert_data(root, to="csv", out=tmp_path / "two").lost[0]


def test_names_that_meet_stay_apart(tmp_path: Path) -> None:
    base = sound_dataset(tmp_path / "data/part")
    for ending in ("png", "bmp", "jpg"):
        photo(base / f"train/good/day/000.{ending}", 40)
    photo(base / "test/hole/x_mask/000.png", 41)
    mask(base / "ground_truth/hole/x_mask/000.png")
    (base / "train/good/000.png").rename(base / 'train/good/a b,"ü;.png')
    done = autosearch.convert_data(base.parent, to="csv", out=tmp_path / "out")
    assert told(indexed(done.root)) == told(indexed(base.parent))
    written = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.*")]
    assert len({path.with_suffix("").as_posix().lower() for path in written}) == len(written)


def test_links_share_their_bytes(tmp_path: Path) -> None:
    base = sound_dataset(tmp_path / "data/part")
    kept = (base / "train/good/000.png").rename(tmp_path / "elsewhere.png")
    (base / "train/good/000.png").symlink_to(kept)
    done = autosearch.convert_data(base.parent, to="mvtec", out=tmp_path / "out", link=True)
    images = {path.stat().st_ino for path in (tmp_path / "out/part/train/good").iterdir()}
    assert kept.stat().st_ino in images and done.masks == 3
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))
    masks = list((tmp_path / "out").rglob("*_mask.png"))
    assert len(masks) == 3 and all(path.stat().st_nlink == 1 for path in masks)


def test_what_is_in_the_way_stays(tmp_path: Path) -> None:
    base = sound_dataset(tmp_path / "data/part")
    out = tmp_path / "out"
    out.mkdir()
    assert autosearch.convert_data(base.parent, to="csv", out=out).root == out / "dataset.csv"
    with pytest.raises(ConfigError, match="not there yet, or is empty"):
        autosearch.convert_data(base.parent, to="csv", out=out)
    with pytest.raises(ConfigError, match="not there yet, or is empty"):
        autosearch.convert_data(base.parent, to="csv", out=base / "train/good/000.png")


def stopped(update: Update) -> None:
    if update.done == 5:
        raise KeyboardInterrupt


def damaged(base: Path) -> None:
    (base / "ground_truth/hole/001_mask.png").write_bytes(b"x")


@pytest.mark.parametrize("end", [KeyboardInterrupt, DataError])
def test_nothing_is_left_half_written(end: type[BaseException], tmp_path: Path) -> None:
    base = sound_dataset(tmp_path / "data/part")
    if end is DataError:
        damaged(base)
    progress: Callable[[Update], None] = stopped if end is KeyboardInterrupt else (lambda u: None)
    with pytest.raises(end):
        autosearch.convert_data(base.parent, to="mvtec", out=tmp_path / "out", progress=progress)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_faults_are_not_converted(tmp_path: Path) -> None:
    base = sound_dataset(tmp_path / "data/part")
    photo(base / "test/hole/000.bmp")
    with pytest.raises(DataError, match="would be the mask of both"):
        autosearch.convert_data(base.parent, to="csv", out=tmp_path / "out")


@pytest.mark.parametrize("kind", ["../x", "a/b", ".hidden", "Thumbs.db"])
def test_types_that_are_no_folders(kind: str, tmp_path: Path) -> None:
    for i in range(3):
        photo(tmp_path / f"data/images/{i:03}.png", i)
    shape = f'<box label="{kind}" xtl="5" ytl="3" xbr="15" ybr="9"></box>'
    body = "".join(cvat_image(i, shape if i == 2 else "") for i in range(3))
    (tmp_path / "data/annotations.xml").write_text(cvat_text(body))
    with pytest.raises(DataError, match="can be no name of a folder; convert to csv"):
        autosearch.convert_data(tmp_path / "data", to="mvtec", out=tmp_path / "out")
    done = autosearch.convert_data(tmp_path / "data", to="csv", out=tmp_path / "out")
    assert [s.type for s in indexed(done.root, "data") if not s.normal] == [kind]
    assert {path.name for path in tmp_path.iterdir()} == {"data", "out"}


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Refused) -> None:
    root = SAMPLES["coco"].build(tmp_path / "made")
    line = ("data", "convert", root, "--to", "csv", "--out", tmp_path / "out", "--link")
    code, out = command(capsys, *line)
    assert code == 0 and out == (
        "12 images linked and 4 masks written for part "
        f"autosearch data check {tmp_path / 'out/dataset.csv'}"
    )
    first = next(s for s in indexed(tmp_path / "out/dataset.csv") if not s.normal)
    np.testing.assert_array_equal(read_sample(first, DatasetSpec()).mask, mark() > 0)
    assert "not there yet" in refused(tmp_path / "out", *line)
    code, out = command(capsys, "data", "check", tmp_path / "out/dataset.csv")
    assert code == 0 and "layout csv: a CSV file" in out
    code, out = command(capsys, "data", "check", root)
    assert "layout coco: a JSON file" in out and "--set dataset.layout=NAME" in out


def test_an_interrupt_ends_the_command(tmp_path: Path) -> None:
    base = sound_dataset(tmp_path / "data/part")
    for i in range(2000):
        (base / f"train/good/more{i}.png").hardlink_to(base / "train/good/000.png")
    main = "from autosearch.cli import main; main()"
    line = ["-c", main, "data", "convert", base.parent, "--out", tmp_path / "out"]
    with subprocess.Popen([sys.executable, *map(str, line)], stdout=subprocess.PIPE) as running:
        while not list(tmp_path.glob(".out.*")) and running.poll() is None:
            time.sleep(0.005)
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=60)
    assert running.returncode == 130 and b"nothing was written" in out
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("place", ["data/part/train/good/new", "data/part/test/hole/a/b"])
def test_nothing_is_written_among_the_images(place: str, tmp_path: Path) -> None:
    base = sound_dataset(tmp_path / "data/part")
    with pytest.raises(ConfigError, match="outside the folders of the images"):
        autosearch.convert_data(base.parent, to="csv", out=tmp_path / place)
    assert (
        not (tmp_path / place).parent.joinpath("b").exists()
        and autosearch.check_data(base.parent).usable
    )
