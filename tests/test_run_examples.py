"""The examples in a model's folder say what predict says, without anything of autosearch."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from model_parts import LIMIT, SIDE, described, graph, save
from PIL import Image

from autosearch.data.framing import Framing
from autosearch.export.examples import CPP, PYTHON, beyond, examples, examples_text
from autosearch.export.folder import seal
from autosearch.export.predictor import Predictor

SIZES = ((40, 24), (9, 30), (16, 16), (21, 20), (13, 11))
"""Widths and heights of pictures: shrunk, enlarged, of one side each, nearly square."""

STUB = Path(__file__).parent / "onnxruntime_stub"
COMPILER = shutil.which("g++") or shutil.which("clang++")

KINDS: dict[str, tuple[dict[str, Any], float | None]] = {
    "letterbox": ({}, None),
    "region": ({"region": (1, 2, 11, 9)}, 0.1),
    "stretch": ({"fit": "stretch"}, None),
}


def folder_of(
    place: Path, kind: dict[str, Any], share: float | None, more: dict[str, Any] | None = None
) -> Path:
    """A model's folder with its examples, as an export writes it."""
    framing = Framing((SIDE, SIDE), **kind).to_plain()
    shape = {"shape": ["batch", 3, SIDE, SIDE], "orientation": "upright"}
    description = described(
        input={**shape, "framing": {**framing, **(more or {})}},
        image_score={"top_share": share},
    )
    files = {"model.onnx": graph(), **examples(description)}
    place.mkdir()
    for name, content in files.items():
        (place / name).write_bytes(content)
    (place / "model.json").write_text(seal(description, files))
    return place


def compared(place: Path, pictures: list[Path], text: str) -> None:
    """Hold what an example has printed and written against what predict says."""
    lines = text.splitlines()
    for path, line, answer in zip(pictures, lines, Predictor(place)(pictures), strict=True):
        found = re.fullmatch(r"(.*): ([\d.]+) (normal|anomalous) \(limit 0.5\)", line)
        assert found and found[1] == str(path)
        assert float(found[2]) == pytest.approx(answer.score, abs=1e-4)
        assert found[3] == ("anomalous" if answer.score >= LIMIT else "normal")
        with Image.open(f"{path}.pfm") as written:
            values = np.array(written)
        np.testing.assert_allclose(values, answer.map, atol=1e-5)


def pictures_in(place: Path, ending: str) -> list[Path]:
    # One of a region's pictures must hold it.
    return [save(place / f"{i}.{ending}", size, i) for i, size in enumerate(SIZES)]


class TestPython:
    @pytest.fixture(scope="class")
    @staticmethod
    def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
        """An environment in which numpy, onnxruntime and Pillow can be imported and no more."""
        place = tmp_path_factory.mktemp("only")
        for package in ("numpy", "onnxruntime", "PIL"):
            spec = importlib.util.find_spec(package)
            assert spec and spec.origin
            folder = Path(spec.origin).parent
            # Wheels keep shared libraries beside the package.
            beside = folder.parent.glob("*.libs")
            for part in (folder, *beside):
                if not (place / part.name).exists():
                    (place / part.name).symlink_to(part)
        return {**os.environ, "PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}

    @pytest.mark.parametrize("kind", KINDS)
    def test_says_what_predict_says(
        self, kind: str, alone: dict[str, str], tmp_path: Path
    ) -> None:
        place = folder_of(tmp_path / "model", *KINDS[kind])
        pictures = pictures_in(tmp_path / "in", "png")
        exif = Image.Exif()
        exif[0x0112] = 6
        pictures.append(save(tmp_path / "in" / "turned.jpg", (30, 20), exif=exif))
        done = self.run(place, pictures, alone)
        assert done.returncode == 0, done.stderr
        compared(place, pictures, done.stdout)

    @pytest.mark.parametrize(
        ("more", "picture", "refused"),
        [
            ({"preprocess": "crop"}, None, "more than a resize"),
            ({"looked_at": {"size": [1, 1], "sha256": "0"}}, None, "more than a resize"),
            ({"region": [0, 0, 50, 50]}, "a.png", "does not hold the region"),
            ({}, "deep.png", "more than 8 bits"),
        ],
    )
    def test_refuses_what_it_cannot_do(
        self,
        more: dict[str, Any],
        picture: str | None,
        refused: str,
        alone: dict[str, str],
        tmp_path: Path,
    ) -> None:
        place = folder_of(tmp_path / "model", {}, None, more)
        save(tmp_path / "a.png")
        Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "deep.png")
        done = self.run(place, [tmp_path / (picture or "a.png")], alone)
        assert done.returncode == 1 and refused in done.stderr and done.stderr.count("\n") == 1

    def test_nothing_else_can_be_imported(self, alone: dict[str, str]) -> None:
        script = "import numpy, onnxruntime, PIL\nimport autosearch"
        done = subprocess.run(
            [sys.executable, "-S", "-c", script],
            env=alone,
            cwd="/",
            capture_output=True,
            text=True,
        )
        assert "No module named 'autosearch'" in done.stderr

    def test_is_short(self, tmp_path: Path) -> None:
        place = folder_of(tmp_path / "model", {}, None)
        assert (place / PYTHON).read_text().count("\n") < 60

    @staticmethod
    def run(
        place: Path, pictures: list[Path], alone: dict[str, str]
    ) -> "subprocess.CompletedProcess[str]":
        # Without the site's packages, and away from the folder of the sources.
        command = [sys.executable, "-S", str(place / PYTHON), *map(str, pictures)]
        return subprocess.run(command, env=alone, cwd=place.parent, capture_output=True, text=True)


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")
class TestCpp:
    def test_arithmetic(self, tmp_path: Path) -> None:
        # Cut out, brought onto the canvas with edges beside it, and a share of it scored.
        self.check(tmp_path, "region", [f"-I{STUB}"])

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", KINDS)
    def test_with_onnxruntime(self, kind: str, tmp_path: Path) -> None:
        self.check(tmp_path, kind, runtime(tmp_path))

    @pytest.mark.slow
    def test_refuses_what_it_cannot_do(self, tmp_path: Path) -> None:
        place = folder_of(tmp_path / "model", {}, None, {"preprocess": "crop"})
        program = self.compiled(place, [f"-I{STUB}"])
        done = subprocess.run([program, "model.onnx"], capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr == (
            "an object is looked for in its images: this example does not do that, autosearch "
            "predict does\n"
        )

    def check(self, tmp_path: Path, kind: str, options: list[str]) -> None:
        place = folder_of(tmp_path / "model", *KINDS[kind])
        program = self.compiled(place, options)
        pictures = pictures_in(tmp_path / "in", "ppm")
        done = self.run(program, place, *pictures)
        assert done.returncode == 0, done.stderr
        compared(place, pictures, done.stdout)
        head, _, rest = pictures[0].read_bytes().partition(b"\n")
        (tmp_path / "note.ppm").write_bytes(head + b"\n# made by hand\n" + rest)
        again = self.run(program, place, tmp_path / "note.ppm")
        assert again.stdout.split()[1:] == done.stdout.splitlines()[0].split()[1:]
        for name, content, problem in (
            ("cut.ppm", pictures[0].read_bytes()[:-1], "ends early"),
            ("a.png", b"\x89PNG", "no binary PPM"),
        ):
            (tmp_path / name).write_bytes(content)
            done = self.run(program, place, tmp_path / name)
            assert done.returncode == 1 and problem in done.stderr

    @staticmethod
    def run(program: Path, place: Path, *pictures: Path) -> "subprocess.CompletedProcess[str]":
        command = [program, place / "model.onnx", *pictures]
        return subprocess.run(command, capture_output=True, text=True)

    @staticmethod
    def compiled(place: Path, options: list[str]) -> Path:
        assert COMPILER
        program = place.parent / "run_onnx"
        strict = ["-std=c++17", "-Wall", "-Wextra", "-Werror"]
        command = [COMPILER, *strict, str(place / CPP), *options, "-o", str(program)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return program


def runtime(tmp_path: Path) -> list[str]:
    """What compiles and links against the onnxruntime of Python, if its headers are here."""
    places = [Path("/usr/include"), Path("/usr/include/onnxruntime"), Path("/usr/local/include")]
    if given := os.environ.get("AUTOSEARCH_TEST_ONNXRUNTIME_INCLUDE"):
        places.insert(0, Path(given))
    headers = [place for place in places if (place / "onnxruntime_cxx_api.h").is_file()]
    if not headers:
        pytest.skip("no headers of onnxruntime: set AUTOSEARCH_TEST_ONNXRUNTIME_INCLUDE")
    capi = Path(onnxruntime.__file__).parent / "capi"
    found = next(capi.glob("libonnxruntime.so.*"), None)
    if found is None:
        pytest.skip("this onnxruntime has no shared library for C++")
    libraries = tmp_path / "lib"
    libraries.mkdir()
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (libraries / name).symlink_to(found)
    options = ["-isystem", str(headers[0]), f"-L{libraries}", "-lonnxruntime"]
    return [*options, f"-Wl,-rpath,{libraries}"]


class TestText:
    def test_numbers_are_filled_in(self) -> None:
        framing = Framing((30, 20), region=(1, 2, 3, 4)).to_plain()  # type: ignore[arg-type]
        description = described(
            input={"shape": ["batch", 3, 30, 20], "framing": framing},
            image_score={"top_share": 0.25},
        )
        text = examples(description)[CPP].decode()
        assert not re.findall(r"@\w+@", text)
        for line in (
            "kHeight = 30, kWidth = 20;", "kStretch = false;", "kRegion[4] = {1, 2, 3, 4};",
            "kTopShare = 0.25;", "kLimit = 0.5;", 'kRefused = "";',
        ):  # fmt: skip
            assert line in text

    @pytest.mark.parametrize(
        ("input", "why"),
        [
            ({}, None),
            ({"tiling": {"tile": [8, 8]}}, "tiles"),
            ({"framing": {"preprocess": "align"}}, "object"),
            ({"framing": {"looked_at": {"size": [1, 1]}}}, "mask"),
        ],
    )
    def test_what_is_beyond_them(self, input: dict[str, Any], why: str | None) -> None:
        description = {"input": {"framing": {}, **input}}
        found = beyond(description)
        assert (found is None) if why is None else (found is not None and why in found)
        assert ("but not this one" in examples_text(description)) == (why is not None)
