"""Datasets that nobody should search on, each refused with one line that names the file."""

import io
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import Change, Refused, cut, linked, replaced
from hypothesis import given, settings, strategies as st
from PIL import Image

from autosearch.backbones import weights
from autosearch.data.images import read_image
from autosearch.data.masks import read_mask
from autosearch.errors import DataError

QUICK = [
    "--executor", "local", "--set", "backbone.weights=random", "--set", "dataset.image_size=32",
    "--set", "space={width: 1.0, stage0.extraction_block: 1}",
]  # fmt: skip
SHAPE = (40, 40)
IMAGE = "train/good/4.png"


def noise(seed: int, *shape: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Category ``part``, which a search accepts: 5 train and 2 test normals, 2 ``hole`` images."""
    base = tmp_path_factory.mktemp("sound") / "part"
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[5:20, 5:20] = 255
    folders = {"train/good": 5, "test/good": 2, "test/hole": 2, "ground_truth/hole": 2}
    for place, (folder, number) in enumerate(folders.items()):
        (base / folder).mkdir(parents=True)
        for i in range(number):
            picture = Image.fromarray(mask) if "truth" in folder else noise(9 * place + i, *SHAPE)
            picture.save(base / folder / f"{i}.png")
    (base / "rows.csv").write_text(ROWS)
    return base


@pytest.fixture
def base(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may change."""
    monkeypatch.setattr(weights, "_random", cache(weights._random))
    return Path(shutil.copytree(sound, tmp_path / "data" / "part"))


@pytest.fixture
def refusal(refused: Refused, base: Path, tmp_path: Path) -> Refused:
    """The line with which a search on a dataset is refused; nothing is written anywhere."""

    def run(root: Path = base.parent) -> str:
        data = ["--set", f"dataset.root={root}", "--set", "dataset.category=part"]
        command = ["run", "autopatch", *QUICK, *data, "--results", tmp_path / "results"]
        line = refused(tmp_path, *command)
        assert not (tmp_path / "results").exists()
        return line

    return run


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    """A grey PNG that claims a size, whatever it holds."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def jpeg() -> bytes:
    out = io.BytesIO()
    noise(0, 64, 64, 3).save(out, "JPEG")
    return out.getvalue()


def written(content: bytes | Callable[[], bytes], name: str = IMAGE) -> Change:
    """Replace a file by one of some content."""
    return lambda base: (base / name).write_bytes(content() if callable(content) else content)


def saved(values: Any, name: str = "train/good/4.tif", mode: str | None = None) -> Change:
    """Replace an image, or a mask, by one of some values."""

    def change(base: Path) -> None:
        (base / name).with_suffix(".png").unlink()
        picture = Image.fromarray(np.asarray(values))
        (picture.convert(mode) if mode else picture).save(base / name)

    return change


def spotted(value: float) -> np.ndarray:
    """A float image with one odd pixel."""
    values = np.full(SHAPE, 0.5, dtype=np.float32)
    values[3, 3] = value
    return values


MASK = "ground_truth/hole/0.png"
FLOATS = "ground_truth/hole/0.tif"
PICTURE = "4.png"
IMAGES: dict[str, tuple[Change, str]] = {
    "nothing in it": (written(b""), PICTURE),
    "1 x 1": (saved(np.zeros((1, 1), np.uint8), IMAGE), "1x1 pixels"),
    "1 x 400": (saved(np.zeros((1, 400), np.uint8), IMAGE), "400x1 pixels"),
    "7 x 7": (saved(np.zeros((7, 7), np.uint8), IMAGE), "7x7 pixels"),
    "0 x 0": (written(png(0, 0)), PICTURE),
    "20,000 x 20,000": (written(lambda: png(20_000, 20_000, bytes(20_001) * 200)), "too many"),
    "two thousand million squared": (written(png(2**31 - 1, 2**31 - 1)), "too many pixels"),
    "10,000 x 10,000, cut off": (written(png(10_000, 10_000, bytes(999))), PICTURE),
    "half a PNG": (cut(IMAGE, 0.5), PICTURE),
    "a PNG without its end": (cut(IMAGE, 0.97), PICTURE),
    "the signature of a PNG": (written(b"\x89PNG\r\n\x1a\n"), PICTURE),
    "half a JPEG": (written(lambda: jpeg()[:1500], "train/good/z.jpg"), "z.jpg"),
    "the head of a JPEG": (written(lambda: jpeg()[:30], "train/good/z.jpg"), "z.jpg"),
    "text": (written(b"no image"), PICTURE),
    "a web page": (written(b"<!doctype html><title>404</title>"), PICTURE),
    "a drawing": (written(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), PICTURE),
    # Pillow would hand it to Ghostscript, which runs what it says.
    "PostScript": (
        written(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nquit\n"),
        "is not of any known image format",
    ),
    "a PCX": (written(lambda: _other("PCX")), "is not of any known image format"),
    "a pickle": (written(b"\x80\x04cos\nabort\n)R."), PICTURE),
    "NaN everywhere": (saved(np.full(SHAPE, np.nan, np.float32)), "4.tif"),
    "one NaN": (saved(spotted(np.nan)), "4.tif"),
    "infinity": (saved(spotted(np.inf)), "4.tif"),
    "below zero": (saved(spotted(-0.1)), "4.tif"),
    "floats up to 255": (saved(spotted(255)), "4.tif"),
    "32 bits": (saved(np.full(SHAPE, 2**30, np.int32)), "4.tif"),
    "a folder": (replaced(IMAGE, Path.mkdir), "is no file"),
    "one more folder": (lambda base: (base / "train/good/x.png").mkdir(), "x.png"),
    "a link to itself": (replaced(IMAGE, lambda path: path.symlink_to(path)), "is no file"),
    "a link to nothing": (linked(IMAGE, "nowhere"), "is no file"),
    "a link to a device": (linked(IMAGE, "/dev/zero"), "is no file"),
    "a pipe": (replaced(IMAGE, os.mkfifo), "is no file"),
    # It is there and may be opened, and reading fails all the same, for root too.
    "what cannot be read": (linked(IMAGE, "/proc/self/mem"), PICTURE),
    "a name with a line break": (written(b"x", "train/good/a\nb.png"), "a\\nb.png"),
    "a name that obeys": (written(b"x", "train/good/\x1b[2J.png"), "\\x1b[2J.png"),
    "a name that is no text": (
        replaced(IMAGE, lambda path: path.with_name("a\udcff.png").write_bytes(b"")),
        "a\\udcff.png",
    ),
    "a type that is no text": (
        lambda base: (base / "test/hole").rename(base / "test/h\udcff"), "h\\udcff"
    ),
    "no normal image": (lambda base: shutil.rmtree(base / "train"), "train/good"),
    "a link to itself as folder": (
        lambda base: (shutil.rmtree(base / "train/good"),
                      (base / "train/good").symlink_to("good")), "train/good",
    ),
    "a file as folder": (
        lambda base: (shutil.rmtree(base / "train/good"),
                      (base / "train/good").write_text("x")), "holds no image",
    ),
    "no test images": (lambda base: shutil.rmtree(base / "test"), "no anomalous image"),
    "one normal image": (
        lambda base: [p.unlink() for p in (base / "train/good").glob("[1-4].png")], "none is left"
    ),
}  # fmt: skip
MASKS: dict[str, tuple[Change, str]] = {
    "of another size": (saved(np.full((20, 20), 255, np.uint8), MASK), "20x20 pixels"),
    "1 x 1": (saved(np.full((1, 1), 255, np.uint8), MASK), "1x1 pixels"),
    "turned": (saved(np.full((40, 30), 255, np.uint8), MASK), "30x40 pixels"),
    "all zero": (saved(np.zeros(SHAPE, np.uint8), MASK), "marks no pixel"),
    "all zero in colour": (saved(np.zeros((*SHAPE, 3), np.uint8), MASK), "marks no pixel"),
    "NaN everywhere": (saved(np.full(SHAPE, np.nan, np.float32), FLOATS), "not finite"),
    "one NaN": (saved(spotted(np.nan), FLOATS), "not finite"),
    "infinity": (saved(spotted(np.inf), FLOATS), "not finite"),
    "below zero": (saved(spotted(-1), FLOATS), "below zero"),
    "whole numbers below zero": (saved(np.full(SHAPE, -5, np.int32), FLOATS), "below zero"),
    "text": (written(b"x", MASK), "hole/0.png"),
    "half of one": (cut(MASK, 0.5), "hole/0.png"),
    "a folder": (replaced(MASK, Path.mkdir), "is no file"),
    "one of another category": (
        lambda base: (base / "ground_truth/hole").rename(base / "ground_truth/dent"),
        "no anomalous validation image of data/part has a mask",
    ),
}  # fmt: skip


def _other(kind: str) -> bytes:
    out = io.BytesIO()
    noise(0, *SHAPE).save(out, kind)
    return out.getvalue()


ROWS = """\
path,mask,label,split
train/good/0.png,,0,train
train/good/1.png,,0,val
test/hole/0.png,ground_truth/hole/0.png,1,val
test/hole/1.png,ground_truth/hole/1.png,1,test
"""


def rows(old: str, new: str) -> bytes:
    assert old in ROWS
    return ROWS.replace(old, new).encode("utf-8", "surrogateescape")


TABLES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "has the columns (none)"),
    "a header alone": (ROWS.splitlines()[0].encode(), "has no rows"),
    "no header": (ROWS.partition("\n")[2].encode(), "has the columns"),
    "semicolons": (ROWS.replace(",", ";").encode(), "has the columns path;mask"),
    "tabs": (ROWS.replace(",", "\t").encode(), "has the columns path\\tmask"),
    "an unknown column": (rows("split", "spilt"), "spilt"),
    "a column twice": (rows("path,mask", "path,path"), "line 2: path is empty"),
    "no path": (rows("path", "file"), "file, mask"),
    "no label": (rows("label", "group"), "one of label and type"),
    "UTF-16": (ROWS.encode("utf-16"), "save it as UTF-8 CSV"),
    "Latin-1": (rows("train/good/0", "größe").decode().encode("latin-1"), "save it as UTF-8"),
    "bytes that are no text": (rows("train/good/0", "a\udcff"), "save it as UTF-8 CSV"),
    "a PNG": (png(9, 9, bytes(90)), "save it as UTF-8 CSV"),
    "a null byte": (rows("train/good/0", "train/\0/0"), "line 2: path 'train/\\x00/0.png'"),
    "an open quote": (rows("train/good/0", '"train/good/0'), "line 5"),
    "a cell without end": (rows("train/good/0", "a" * 200_000), "field larger than"),
    "a long path": (rows("train/good/0", "a" * 5000), "File name too long"),
    "one cell too many": (rows(",0,train", ",0,train,x"), "line 2: more cells"),
    "one cell alone": (ROWS.encode() + b"test/good/0.png\n", "line 6: label is ''"),
    "another label": (rows(",0,train", ",2,train"), "line 2: label is '2'"),
    "another split": (rows(",0,train", ",0,dev"), "line 2: split is 'dev'"),
    "an absolute path": (rows("train/good/0.png", "/etc/passwd"), "line 2: path '/etc/passwd'"),
    "a path out of it": (rows("train/good/0.png", "../part/train/good/0.png"), "leads elsewhere"),
    "a path out and in": (rows("train/good/0", "a/../../part/train/good/0"), "leads elsewhere"),
    "an absolute mask": (rows("ground_truth/hole/0.png", "/etc/passwd"), "line 4: path"),
    "a mask out of it": (rows("ground_truth/hole/0.png", "../x.png"), "line 4: path '../x.png'"),
    "no such image": (rows("train/good/0", "train/good/77"), "77.png: cannot be opened"),
    "a folder": (rows("train/good/0.png", "train/good"), "good: is no file"),
    "a line break in a name": (rows("train/good/0.png", '"train/\n0.png"'), "train/\\n0.png"),
    "an image twice": (ROWS.encode() + b"train/good/0.png,,0,test\n", "stands there twice"),
    "one image in two spellings": (ROWS.encode() + b"./train/good/0.png,,0,test\n", "twice"),
}  # fmt: skip


@pytest.mark.parametrize("case", IMAGES)
def test_images(refusal: Refused, base: Path, case: str) -> None:
    change, part = IMAGES[case]
    change(base)
    assert part in refusal()


@pytest.mark.parametrize("case", MASKS)
def test_masks(refusal: Refused, base: Path, case: str) -> None:
    change, part = MASKS[case]
    change(base)
    assert part in refusal()


@pytest.mark.parametrize("case", TABLES)
def test_tables(refusal: Refused, base: Path, case: str) -> None:
    content, part = TABLES[case]
    (base / "rows.csv").write_bytes(content)
    line = refusal(base / "rows.csv")
    assert part in line and str(base) in line


def test_a_folder_that_may_not_be_listed(
    refusal: Refused, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may list every folder, so the system's answer is made up.
    listed = os.listdir

    def listdir(path: Any = ".") -> list[str]:
        if str(path).endswith("train/good"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "listdir", listdir)
    assert refusal().endswith("part/train/good: Permission denied\n")


def test_the_dataset_and_its_table_are_sound(sound: Path) -> None:
    """Else the tests above might find another mistake than theirs."""
    from autosearch.data import load_search_data
    from autosearch.spec.sections import DatasetSpec

    for root in (sound.parent, sound / "rows.csv"):
        given = {"name": "x", "root": str(root), "category": "part", "image_size": 32}
        assert len(load_search_data(DatasetSpec.model_validate(given)).val) >= 2


def test_check_shows_names_and_does_not_obey_them(
    base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from autosearch import cli

    (base / "train/good/\x1b[2J\n.png").write_bytes(b"x")
    monkeypatch.setattr(sys, "argv", ["autosearch", "data", "check", str(base.parent), "part"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    out = capsys.readouterr().out
    assert caught.value.code == 1 and "\x1b[2J" not in out and "\\x1b[2J" in out


@st.composite
def pictures(draw: st.DrawFn) -> bytes:
    """A picture with some of its bytes changed, left out or added."""
    kind = draw(st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "DIB"]))
    mode = draw(st.sampled_from(["L", "RGB", "P", "1"]))
    out = io.BytesIO()
    picture = noise(0, 12, 9, 3).convert(mode)
    (picture.convert("RGB") if kind in ("JPEG", "WEBP", "PPM") else picture).save(out, kind)
    content = bytearray(out.getvalue())
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(content)))
        end = place + draw(st.integers(0, 6))
        content[place:end] = draw(st.binary(max_size=6))
    return bytes(content)


@settings(max_examples=300, deadline=None)
@given(pictures())
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_picture_with_bytes_changed_is_read_or_refused(content: bytes) -> None:
    for read in (read_image, read_mask):
        try:
            found: Any = read(Path("picture"), content)
        except DataError as error:
            assert error.path == Path("picture") and error.remedy
        else:
            values = found if read is read_image else found.mask
            assert np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1


def test_in_a_process_of_its_own(base: Path, tmp_path: Path) -> None:
    (base / "train/good/a\udcff\n.png").write_bytes(b"x")
    command = ["run", "autopatch", *QUICK, "--set", f"dataset.root={base.parent}",
               "--set", "dataset.category=part", "--results", str(tmp_path / "out")]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", "from autosearch.cli import main; main()", *command],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "a\\udcff\\n.png: has a name or a folder that is not in UTF-8" in done.stderr
    assert not (tmp_path / "out").exists()
