"""Watched folders: each file once, when it is whole, whatever ends the watch."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from model_parts import SIDE, save, write_model
from PIL import Image
from watch_parts import names, rows, steps

from autosearch.cli import predict as predict_cli
from autosearch.errors import ConfigError, DataError
from autosearch.export.folder import ExportedModel, load_model
from autosearch.export.journal import RESULTS, Journal
from autosearch.export.predictor import Predictor
from autosearch.export.watch import TRIES, FolderWatch


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an exported model."""
    return write_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def model(place: Path) -> ExportedModel:
    return load_model(place)


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


class TestOnce:
    def test_results_are_those_of_predict(
        self, model: ExportedModel, place: Path, inside: Path, out: Path
    ) -> None:
        paths = [save(inside / f"{i}.png", (20 + i, 12), i) for i in range(3)]
        paths.append(save(inside / "deep" / "x.jpg", seed=9))
        for number, path in enumerate(paths):
            os.utime(path, (number, number))
        assert steps(model, inside, out, 3, batch=2) == [0, 4, 0]
        expected = Predictor(place)(paths)
        for row, path, answer in zip(rows(out), paths, expected, strict=True):
            assert row["path"] == str(path) and row["model"] == model.sha256
            assert row["score"] == pytest.approx(answer.score, abs=1e-6)
            assert row["anomalous"] == answer.anomalous and row["size"] == path.stat().st_size
            mask = np.asarray(Image.open(out / row["mask"])) > 0
            assert np.array_equal(mask, answer.mask) and (out / row["heatmap"]).is_file()
        assert Path(rows(out)[3]["mask"]).name == "deep_x.png"

    def test_after_a_restart(self, model: ExportedModel, inside: Path, out: Path) -> None:
        save(inside / "a.png")
        assert steps(model, inside, out) == [0, 1]
        save(inside / "sub" / "a.png", seed=1)
        save(inside / "a.jpg", seed=2)
        assert steps(model, inside, out) == [0, 2]
        assert steps(model, inside, out) == [0, 0]
        masks = {row["mask"] for row in rows(out)}
        assert masks == {"masks/a.png", "masks/a-2.png", "masks/sub_a.png"}

    def test_a_line_that_a_crash_cut_off(
        self, model: ExportedModel, inside: Path, out: Path
    ) -> None:
        for name in ("a", "b"):
            os.utime(save(inside / f"{name}.png"), (ord(name), ord(name)))
        steps(model, inside, out)
        whole = (out / RESULTS).read_bytes()
        for cut in (len(whole) - 1, whole.index(b"\n") + 5):
            (out / RESULTS).write_bytes(whole[:cut])
            assert steps(model, inside, out) == [0, 1]
            assert names(out) == ["a.png", "b.png"] and rows(out)[1]["mask"] == "masks/b.png"

    def test_what_has_changed_is_taken_anew(
        self, model: ExportedModel, inside: Path, out: Path
    ) -> None:
        path = save(inside / "a.png", (SIDE, SIDE))
        steps(model, inside, out)
        first = (out / "masks" / "a.png").read_bytes()
        os.utime(path, (5, 5))
        # The time alone: neither in the same process nor in the next.
        assert steps(model, inside, out, 4) == [0, 0, 0, 0]
        save(path, (SIDE, SIDE), seed=1)
        assert steps(model, inside, out, 3) == [0, 1, 0]
        assert [row["mask"] for row in rows(out)] == ["masks/a.png", "masks/a-2.png"]
        assert (out / "masks" / "a.png").read_bytes() == first

    def test_one_process_at_a_time(self, model: ExportedModel, out: Path) -> None:
        with Journal(out, model), pytest.raises(ConfigError, match=r"--out.*no other process"):
            Journal(out, model)
        with Journal(out, model):
            pass

    def test_pictures_of_a_call_without_it_are_not_replaced(
        self, model: ExportedModel, place: Path, inside: Path, out: Path
    ) -> None:
        one, other = save(inside / "1" / "a.png"), save(inside / "2" / "a.png", seed=1)
        for plain_first in (True, False):
            its = out / str(plain_first)
            calls = [
                lambda its=its: Predictor(place).write([str(one)], its),
                lambda its=its: steps(model, other.parent, its),
            ]
            calls[not plain_first]()
            before = (its / "masks" / "a.png").read_bytes()
            named = "scores.json" if plain_first else RESULTS
            with pytest.raises(ConfigError, match=rf"--out.*another folder.*{named}"):
                calls[plain_first]()
            assert (its / "masks" / "a.png").read_bytes() == before
            calls[not plain_first]()  # Each itself may go on where it was.

    def test_a_journal_that_is_none(self, model: ExportedModel, out: Path) -> None:
        out.mkdir()
        for line in ("{", "[]", '{"path": "a"}'):
            (out / RESULTS).write_text(line + "\n")
            with pytest.raises(DataError, match="line 1 is none"):
                Journal(out, model)
            with pytest.raises(DataError, match="line 1 from its end is none"):
                Journal(out, model, live=True)

    def test_scores_of_another_model_are_not_held(
        self, model: ExportedModel, inside: Path, out: Path, tmp_path: Path
    ) -> None:
        save(inside / "a.png")
        steps(model, inside, out)
        other = load_model(write_model(tmp_path / "other", display={"low": 0.1, "high": 1.0}))
        with Journal(out, model) as mine:
            assert list(mine.scores) == [rows(out)[0]["score"]]
        with Journal(out, other) as its:
            assert not its.scores and len(its.seen) == 1

    def test_a_full_disk_is_told_with_the_name(
        self, model: ExportedModel, inside: Path, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(number: int) -> None:
            raise OSError(28, "No space left on device")

        save(inside / "a.png")
        with monkeypatch.context() as patch:
            patch.setattr("autosearch.export.journal.os.fsync", full)
            with pytest.raises(OSError, match=RESULTS):
                steps(model, inside, out)
            assert rows(out) == []
        steps(model, inside, out)
        assert names(out) == ["a.png"]


class TestWhole:
    def test_a_file_that_grows(self, model: ExportedModel, inside: Path, out: Path) -> None:
        content = save(inside.parent / "a.png", (60, 60)).read_bytes()
        path = inside / "a.png"
        with Journal(out, model) as journal:
            watch = FolderWatch(model, [str(inside)], journal)
            with path.open("wb", buffering=0) as file:
                for start in range(0, len(content), len(content) // 5 + 1):
                    file.write(content[start : start + len(content) // 5 + 1])
                    assert watch.step(lambda answer: None) == 0
            assert watch.step(lambda answer: None) == 1
        assert "score" in rows(out)[0]

    def test_one_that_changes_while_it_is_read(
        self, model: ExportedModel, inside: Path, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = save(inside / "a.png")
        reads = Path.read_bytes

        def written_to(self: Path) -> bytes:
            content = reads(self)
            os.utime(self, (7, 7))
            return content

        monkeypatch.setattr(Path, "read_bytes", written_to)
        with Journal(out, model) as journal:
            watch = FolderWatch(model, [str(inside)], journal)
            assert [watch.step(lambda answer: None) for _ in range(2)] == [0, 0]
            path.unlink()
            assert watch.step(lambda answer: None) == 0

    def test_a_broken_one_is_reported_once(
        self, model: ExportedModel, inside: Path, out: Path
    ) -> None:
        whole = save(inside.parent / "a.png").read_bytes()
        path = inside / "a.png"
        path.write_bytes(whole[: len(whole) // 2])
        with Journal(out, model) as journal:
            watch = FolderWatch(model, [str(inside)], journal)
            done = [watch.step(lambda answer: None) for _ in range(TRIES + 4)]
            assert done == [0] * TRIES + [1, 0, 0, 0]
            assert "cannot be read" in rows(out)[0]["problem"]
            assert steps_again(journal, model, inside) == 0
            path.write_bytes(whole)
            assert [watch.step(lambda answer: None) for _ in range(3)] == [0, 1, 0]
        assert [row.get("mask") for row in rows(out)] == [None, "masks/a.png"]

    def test_one_that_stands_still_again_and_again_while_it_is_copied(
        self, model: ExportedModel, inside: Path, out: Path
    ) -> None:
        content = save(inside.parent / "a.png", (60, 60)).read_bytes()
        path, parts = inside / "a.png", TRIES + 2
        with Journal(out, model) as journal:
            watch = FolderWatch(model, [str(inside)], journal)
            for part in range(1, parts):
                path.write_bytes(content[: len(content) * part // parts])
                assert [watch.step(lambda answer: None) for _ in range(TRIES)] == [0] * TRIES
            path.write_bytes(content)
            assert [watch.step(lambda answer: None) for _ in range(2)] == [0, 1]
        assert [row.get("mask") for row in rows(out)] == ["masks/a.png"]

    def test_long_names(self, model: ExportedModel, inside: Path, out: Path) -> None:
        save(inside / f"{'é' * 120}.png")
        save(inside / ("d" * 200) / f"{'a' * 250}.png")
        assert steps(model, inside, out) == [0, 2]
        assert all((out / row["mask"]).is_file() for row in rows(out))

    def test_names_that_are_no_text(self, model: ExportedModel, inside: Path, out: Path) -> None:
        shutil.copy(save(inside.parent / "a.png"), os.fsencode(inside) + b"/\xff.png")
        assert steps(model, inside, out, TRIES + 2) == [0] * TRIES + [1, 0]
        assert "UTF-8" in rows(out)[0]["problem"]
        assert steps(model, inside, out, TRIES + 2) == [0] * (TRIES + 2)


def steps_again(journal: Journal, model: ExportedModel, inside: Path) -> int:
    """What a watch that begins anew beside the same journal finds."""
    again = FolderWatch(model, [str(inside)], journal)
    return sum(again.step(lambda answer: None) for _ in range(TRIES + 2))


class TestFolders:
    def test_what_is_left_alone(self, model: ExportedModel, inside: Path) -> None:
        out = inside / "results"
        save(inside / ".hidden.png")
        save(inside / ".part" / "b.png")
        (inside / "notes.txt").write_text("x")
        (inside / "png").write_text("x")
        (inside / "link.png").symlink_to(save(inside.parent / "s.png"))
        (inside / "folder.png").mkdir()
        os.mkfifo(inside / "pipe.png")
        save(inside / "a.png")
        assert steps(model, inside, out, 4) == [0, 1, 0, 0]
        assert names(out) == ["a.png"]

    def test_one_that_goes_away_and_comes_back(
        self, model: ExportedModel, inside: Path, out: Path
    ) -> None:
        save(inside / "a.png")
        with Journal(out, model) as journal:
            watch = FolderWatch(model, [str(inside)], journal)
            assert [watch.step(lambda answer: None) for _ in range(2)] == [0, 1]
            inside.rename(inside.with_name("away"))
            assert watch.step(lambda answer: None) == 0
            assert watch.problems == {inside: "No such file or directory"}
            inside.with_name("away").rename(inside)
            save(inside / "b.png")
            assert [watch.step(lambda answer: None) for _ in range(2)] == [0, 1]
            assert not watch.problems
        assert names(out) == ["a.png", "b.png"]

    def test_refusals(self, model: ExportedModel, inside: Path, out: Path) -> None:
        with Journal(out, model) as journal:
            with pytest.raises(ConfigError, match=r"IMAGES.*folder that is there"):
                FolderWatch(model, [str(inside / "none")], journal)
            with pytest.raises(ConfigError, match=r"--out.*another folder"):
                FolderWatch(model, [str(out)], journal)


class TestCommand:
    def test_ends_in_good_order(self, place: Path, inside: Path, out: Path) -> None:
        command = [sys.executable, "-c", "from autosearch.cli import main; main()", "predict",
                   str(place), str(inside), "--out", str(out), "--watch",
                   "--interval", "0.1"]  # fmt: skip
        save(inside / "a.png")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                wait_for(lambda: (out / RESULTS).is_file() and len(rows(out)) == 1)
                save(inside / "b.png", seed=1)
                wait_for(lambda: len(rows(out)) == 2)
                process.send_signal(signal.SIGTERM)
                said = process.communicate(timeout=20)[0]
            finally:
                process.kill()
        assert process.returncode == 0
        assert "watching" in said and f"{inside / 'b.png'}" in said and "2 images" in said
        assert not [path for path in out.rglob(".*")]

    def test_drift_of_the_last_images_ends_it(
        self, tmp_path: Path, inside: Path, out: Path, capsys: Any
    ) -> None:
        draw = np.random.default_rng(0)
        scores = sorted((0.3 + 0.02 * draw.normal(size=30)).tolist())
        model = write_model(tmp_path / "model", baseline={"of": "x", "scores": scores})
        bright = iter((0.4 + 0.02 * draw.normal(size=40)).tolist())

        def more(count: int) -> None:
            for i in range(count):
                grey = np.full((SIDE, SIDE, 3), round(255 * next(bright)), dtype=np.uint8)
                Image.fromarray(grey).save(inside / f"{time.time_ns()}-{i}.png")

        options = {"watch": True, "interval": 0.1, "fail_on_drift": True, "window": 10}
        more(9)
        steps(load_model(model), inside, out)
        more(1)
        # What was seen before a restart is in the window, but is not asked about again.
        more(10)
        with pytest.raises(typer.Exit) as end:
            predict_cli.predict(model, out, [str(inside)], 4, **options)
        assert end.value.exit_code == 3
        said = capsys.readouterr().out
        assert "9 images seen before" in said and "scores have drifted" in said
        found = json.loads((out / "drift.json").read_text())
        assert found["images"] == 10 and len(rows(out)) in range(19, 21)

    def test_refusals(self, place: Path, inside: Path, out: Path) -> None:
        for options in ({"camera": "0", "watch": True}, {"camera": "none.avi"}):
            images = [str(inside)] if "watch" in options else []
            with pytest.raises(ConfigError, match="--camera"):
                predict_cli.predict(place, out, images, **options)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="IMAGES"):
            predict_cli.predict(place, out)


def wait_for(there: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.05)
