"""Predictions of an exported model: figures, pictures, files that are found, broken or skipped."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_parts import LIMIT, SIDE, run, save, write_model
from PIL import Image

from autosearch.data.images import read_image, resize
from autosearch.errors import AutosearchError, ConfigError
from autosearch.export import predict
from autosearch.export.folder import load_model
from autosearch.export.listing import find_images
from autosearch.export.predict import (
    Prediction,
    Skipped,
    blend,
    make_folders,
    predict_images,
    shade,
)
from autosearch.export.predictor import Predictor


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of an exported model."""
    return write_model(tmp_path / "model")


class TestPredictions:
    def test_are_those_of_the_formula(self, model: Path, tmp_path: Path) -> None:
        sizes = [(20, 12), (SIDE, SIDE), (5, 40), (1, 1)]
        paths = [save(tmp_path / "in" / f"{i}.png", s, i) for i, s in enumerate(sizes)]
        assert run(model, *paths, out=tmp_path / "out", batch=3) == 0
        report = json.loads((tmp_path / "out" / "scores.json").read_text())
        assert report["skipped"] == [] and report["thresholds"] == {"image": 0.5, "pixel": 0.5}
        assert [entry["path"] for entry in report["images"]] == [str(path) for path in paths]
        for entry, path, size in zip(report["images"], paths, sizes, strict=True):
            values = resize(read_image(path), (SIDE, SIDE)).mean(0)
            assert entry["score"] == pytest.approx(values.max(), abs=1e-6)
            assert entry["anomalous"] == (values.max() >= LIMIT)
            mask = np.asarray(Image.open(tmp_path / "out" / entry["mask"]))
            assert mask.shape == size[::-1] and set(np.unique(mask)) <= {0, 255}
            assert entry["anomalous_pixels"] == (mask > 0).sum()
            heatmap = Image.open(tmp_path / "out" / entry["heatmap"])
            assert heatmap.size == size and heatmap.mode == "RGB"

    def test_masks_mark_what_reaches_the_threshold(self, model: Path, tmp_path: Path) -> None:
        # Of the model's own size, so that no resize comes between picture and mask.
        path = save(tmp_path / "a.png", (SIDE, SIDE))
        run(model, path, out=tmp_path / "out")
        bright = np.asarray(Image.open(path)).astype(float).mean(2) / 255 >= LIMIT
        mask = np.asarray(Image.open(tmp_path / "out" / "masks" / "a.png")) > 0
        assert np.array_equal(mask, bright)
        assert 0 < bright.sum() < bright.size

    def test_do_not_depend_on_the_batch(self, model: Path, tmp_path: Path) -> None:
        for i in range(5):
            save(tmp_path / "in" / f"{i}.png", (20 + i, 12), i)
        scores = []
        for batch in (1, 2, 8):
            run(model, tmp_path / "in", out=tmp_path / str(batch), batch=batch)
            with (tmp_path / str(batch) / "scores.csv").open() as file:
                scores.append([row["score"] for row in csv.DictReader(file)])
        assert scores[0] == scores[1] == scores[2] and len(scores[0]) == 5

    def test_of_pictures_of_every_kind(self, model: Path, tmp_path: Path) -> None:
        folder = tmp_path / "in"
        save(folder / "plain.jpg")
        save(folder / "turned.jpg", (30, 10), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03"
             b"\0\0\0\x01\0\x06\0\0\0\0\0\0")  # fmt: skip
        deep = (np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8)
        Image.fromarray(deep).save(folder / "deep.png")
        Image.new("RGBA", (9, 7), (10, 20, 30, 0)).save(folder / "clear.png")
        Image.new("P", (9, 7)).save(folder / "palette.bmp")
        assert run(model, folder, out=tmp_path / "out") == 0
        sizes = {
            path.stem: Image.open(path).size for path in (tmp_path / "out" / "heatmaps").iterdir()
        }
        assert sizes == {
            "plain": (20, 12), "turned": (10, 30), "deep": (8, 8), "clear": (9, 7),
            "palette": (9, 7),
        }  # fmt: skip

    @pytest.mark.parametrize(("stated", "size"), [("stored", (30, 10)), ("upright", (10, 30))])
    def test_turn_pictures_as_the_search_did(
        self, tmp_path: Path, stated: str, size: tuple[int, int]
    ) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        path = save(tmp_path / "in" / "turned.jpg", (30, 10), exif=exif)
        described = {"shape": ["batch", 3, SIDE, SIDE], "orientation": stated}
        model = write_model(tmp_path / "model", input=described)
        assert run(model, path, out=tmp_path / "out") == 0
        assert Image.open(tmp_path / "out" / "masks" / "turned.png").size == size
        assert Predictor(model)([path])[0].map.shape == size[::-1]

    def test_table_and_report_agree(self, model: Path, tmp_path: Path) -> None:
        for i in range(3):
            save(tmp_path / "in" / f"{i}.png", seed=i)
        run(model, tmp_path / "in", out=tmp_path / "out")
        images = json.loads((tmp_path / "out" / "scores.json").read_text())["images"]
        with (tmp_path / "out" / "scores.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [{k: str(v) for k, v in entry.items()} for entry in images] == rows

    def test_colours_tell_on_which_side_of_the_threshold_a_pixel_is(self, model: Path) -> None:
        loaded = replace(load_model(model), low=0.2, high=0.6)
        values = np.array([[0.0, 0.2, 0.35, LIMIT, 0.55, 0.6, 9.0]], dtype=np.float32)
        expected = [0, 0, 0.25, 0.5, 0.75, 1, 1]
        np.testing.assert_allclose(shade(values, loaded)[0], expected, atol=1e-6)
        outside = replace(loaded, high=0.4)
        np.testing.assert_allclose(shade(values, outside)[0, :4], [0, 0, 0.75, 1], atol=1e-6)

    def test_blend_keeps_the_photograph_where_nothing_is_found(self) -> None:
        photo = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
        assert np.array_equal(blend(photo, np.zeros((6, 5), np.float32)), photo)
        hot = blend(photo, np.ones((6, 5), np.float32)).astype(float)
        assert np.abs(hot - (0.3 * photo + 0.7 * np.array([252, 255, 164]))).max() <= 1


class TestBrokenImages:
    def test_are_reported_and_skipped(
        self, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "in"
        for name in ("a", "c", "e"):
            save(folder / f"{name}.png")
        whole = (folder / "a.png").read_bytes()
        (folder / "b.png").write_bytes(whole[: len(whole) // 2])
        (folder / "d.png").write_text("no picture")
        (folder / "f.png").touch()
        assert run(model, folder, out=tmp_path / "out", batch=2) == 1
        report = json.loads((tmp_path / "out" / "scores.json").read_text())
        assert [Path(entry["path"]).stem for entry in report["images"]] == ["a", "c", "e"]
        assert [Path(entry["path"]).stem for entry in report["skipped"]] == ["b", "d", "f"]
        assert all(entry["problem"] for entry in report["skipped"])
        assert "3 of 6 images" in capsys.readouterr().out
        assert {p.stem for p in (tmp_path / "out" / "masks").iterdir()} == {"a", "c", "e"}

    def test_only_broken_ones(self, model: Path, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_text("no picture")
        assert run(model, tmp_path / "a.png", out=tmp_path / "out") == 1
        assert (tmp_path / "out" / "scores.csv").read_text().count("\n") == 1


class TestFinding:
    def test_equal_stems_get_names_of_their_own(self, model: Path, tmp_path: Path) -> None:
        folder = tmp_path / "in"
        for name in ("x.png", "x.jpg", "crack/x.png", "hole/X.png", "crack_x.png"):
            save(folder / name)
        other = save(tmp_path / "other" / "x.png")
        found = find_images([str(folder), str(other), str(other)], tmp_path / "out")
        names = [entry.name.lower() for entry in found]
        assert len(found) == 6 and len(set(names)) == 6
        assert {"hole_x", "crack_x", "crack_x-2", "x", "x-2", "x-3"} == set(names)
        run(model, folder, other, out=tmp_path / "out")
        assert len(list((tmp_path / "out" / "heatmaps").iterdir())) == 6

    def test_leaves_alone_what_is_not_asked_for(self, tmp_path: Path) -> None:
        folder = tmp_path / "in"
        save(folder / "deep" / "er" / "a.PNG")
        save(folder / ".hidden.png")
        save(folder / ".cache" / "b.png")
        save(folder / "out" / "heatmaps" / "a.png")
        (folder / "notes.txt").write_text("x")
        secret = save(tmp_path / "secret" / "s.png")
        (folder / "link.png").symlink_to(secret)
        (folder / "links").symlink_to(secret.parent)
        found = find_images([str(folder)], folder / "out")
        assert [entry.path.relative_to(folder).as_posix() for entry in found] == ["deep/er/a.PNG"]

    def test_patterns(self, tmp_path: Path) -> None:
        save(tmp_path / "1" / "a.png")
        save(tmp_path / "2" / "a.png")
        (tmp_path / "2" / "a.txt").touch()
        found = find_images([str(tmp_path / "*" / "a.*")], tmp_path / "out")
        assert [entry.name for entry in found] == ["a", "a-2"]

    @pytest.mark.parametrize("argument", ["missing.png", "empty", "*.jpg"])
    def test_of_nothing_is_an_error(self, tmp_path: Path, argument: str) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(ConfigError, match="IMAGES"):
            find_images([str(tmp_path / argument)], tmp_path / "out")

    def test_results_that_cannot_be_written(self, model: Path, tmp_path: Path) -> None:
        (tmp_path / "out").touch()
        with pytest.raises(ConfigError, match="--out"):
            run(model, save(tmp_path / "a.png"), out=tmp_path / "out")


class TestCommand:
    def test_interrupted_it_keeps_what_is_done(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for i in range(6):
            save(tmp_path / "in" / f"{i}.png", seed=i)
        loads = predict._load

        def pressed(found: predict.Found, size: int) -> Any:
            if found.name == "4":
                raise KeyboardInterrupt
            return loads(found, size)

        monkeypatch.setattr(predict, "_load", pressed)
        assert run(model, tmp_path / "in", out=tmp_path / "out", batch=2) == 130
        images = json.loads((tmp_path / "out" / "scores.json").read_text())["images"]
        assert [Path(entry["path"]).stem for entry in images] == ["0", "1", "2", "3"]
        assert all((tmp_path / "out" / entry["heatmap"]).is_file() for entry in images)
        assert not [p for p in (tmp_path / "out").rglob("*") if p.name.startswith(".")]

    def test_answers_come_as_they_are_ready(self, model: Path, tmp_path: Path) -> None:
        save(tmp_path / "in" / "a.png")
        (tmp_path / "in" / "b.png").touch()
        found = find_images([str(tmp_path / "in")], tmp_path / "out")
        make_folders(tmp_path / "out")
        answers = predict_images(load_model(model), found, tmp_path / "out", 1)
        first = next(answers)
        assert isinstance(first, Prediction) and (tmp_path / "out" / first.mask).is_file()
        assert isinstance(next(answers), Skipped)

    def test_needs_no_torch(self, model: Path, tmp_path: Path) -> None:
        save(tmp_path / "a.png")
        script = (
            "import sys, pathlib; from autosearch.cli.predict import predict\n"
            f"predict(pathlib.Path({str(model)!r}), pathlib.Path({str(tmp_path / 'out')!r}),"
            f" [{str(tmp_path / 'a.png')!r}], 8)\n"
            "print(*sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        loaded = {name.partition(".")[0] for name in done.stdout.split()}
        assert {"onnxruntime", "numpy", "PIL"} <= loaded
        assert not loaded & {"torch", "torchvision", "timm", "optuna", "ray", "faiss", "onnx"}
        assert (tmp_path / "out" / "scores.csv").is_file()

    def test_errors_are_those_that_the_command_line_prints(self, tmp_path: Path) -> None:
        with pytest.raises(AutosearchError, match="no export here"):
            run(tmp_path, save(tmp_path / "a.png"), out=tmp_path / "out")
