"""Videos by their own clock, cameras by their newest picture."""

import sys
import time
from datetime import datetime
from json import loads
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from model_parts import SIDE, write_model
from watch_parts import rows

from autosearch.cli import predict as predict_cli
from autosearch.errors import ConfigError, DataError
from autosearch.export import camera, journal
from autosearch.export.camera import Video, look_at_frames, open_source, without_password
from autosearch.export.folder import ExportedModel, load_model
from autosearch.export.journal import RESULTS, Journal
from autosearch.export.predict import Prediction

RATE = 10
"""Frames per second of the videos here."""


def grey(level: float, side: int = 64) -> np.ndarray:
    return np.full((side, side, 3), round(255 * level), dtype=np.uint8)


def write_video(path: Path, frames: list[np.ndarray]) -> Path:
    """Pictures ``(H, W, 3)``, blue first, as motion JPEG."""
    size = frames[0].shape[1::-1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), RATE, size)
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an exported model."""
    return write_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def model(place: Path) -> ExportedModel:
    return load_model(place)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds, each frame a hundredth brighter than the one before."""
    frames = [grey(0.305 + 0.01 * number) for number in range(3 * RATE)]
    return write_video(tmp_path_factory.mktemp("videos") / "line.avi", frames)


class TestVideo:
    @pytest.mark.parametrize(
        ("fps", "expected"),
        [
            (2, [0, 5, 10, 15, 20, 25]),
            (0.5, [0, 20]),
            (4, [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28]),
            (RATE, list(range(30))),
            (100, list(range(30))),
        ],
    )
    def test_frames_are_those_of_its_own_clock(
        self, video: Path, fps: float, expected: list[int]
    ) -> None:
        frames = list(Video(video, fps).frames(lambda key: False, lambda: False))
        found = [frame.more["frame"] for frame in frames]
        # In the middle between two frames, either is as near.
        assert np.abs(np.subtract(found, expected)).max() <= (fps == 4)
        for frame in frames:
            level = 255 * (0.305 + 0.01 * frame.more["frame"])
            assert abs(frame.picture.mean() - level) < 2
            assert frame.more["at"] == frame.more["frame"] / RATE

    def test_red_comes_first(self, tmp_path: Path) -> None:
        red = np.zeros((64, 64, 3), dtype=np.uint8)
        red[..., 2] = 200
        path = write_video(tmp_path / "red.avi", [red] * 2)
        frame = next(Video(path, 1).frames(lambda key: False, lambda: False))
        assert frame.picture[..., 0].mean() > 150 and frame.picture[..., 1:].mean() < 60

    def test_command_and_restart(
        self, place: Path, video: Path, tmp_path: Path, capsys: Any
    ) -> None:
        out = tmp_path / "out"
        predict_cli.predict(place, out, camera=str(video), fps=2.0)
        found = rows(out)
        assert [row["at"] for row in found] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
        for row, level in zip(found, np.arange(0.305, 0.6, 0.05), strict=True):
            assert abs(row["score"] - level) < 0.02 and row["anomalous"] == (row["score"] >= 0.5)
            assert row["path"] == f"{video}#{row['frame']}"
            assert (out / row["heatmap"]).name == f"line-{row['frame']:06d}.jpg"
            assert (out / row["mask"]).is_file()
        assert "6 images, 2 anomalous" in capsys.readouterr().out
        predict_cli.predict(place, out, camera=str(video), fps=4.0)
        assert len(rows(out)) == 12 and rows(out)[:6] == found

    def test_of_another_shape_than_the_model_looks_at(self, video: Path, tmp_path: Path) -> None:
        framing = {"size": [SIDE, SIDE], "fit": "stretch", "region": [0, 0, 70, 70]}
        described = {"shape": ["batch", 3, SIDE, SIDE], "framing": framing}
        narrow = write_model(tmp_path / "model", input=described)
        with pytest.raises(typer.Exit) as end:
            predict_cli.predict(narrow, tmp_path / "out", camera=str(video), fps=1.0)
        assert end.value.exit_code == 1
        assert [row["frame"] for row in rows(tmp_path / "out")] == [0, 10, 20]
        assert all("region" in row["problem"] for row in rows(tmp_path / "out"))


class OpenCvError(Exception):
    """In the place of OpenCV's own."""


class Fake:
    """What OpenCV would give of a camera that goes away after two pictures and comes back."""

    def __init__(self, source: object) -> None:
        self.source, self.number, self.opened = source, 0, 1

    def isOpened(self) -> bool:
        return self.source in (0, "rtsp://me:secret@line/1")

    def read(self) -> tuple[bool, np.ndarray | None]:
        time.sleep(0.01)
        self.number += 1
        away = self.opened == 1 and self.number > 2
        return (False, None) if away else (True, grey(0.2 * self.opened)[..., 0])

    def open(self, source: object) -> None:
        assert source == self.source
        self.opened += 1

    def release(self) -> None:
        pass


class TestCamera:
    @pytest.fixture(autouse=True)
    def fake(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module = SimpleNamespace(VideoCapture=Fake, error=OpenCvError)
        monkeypatch.setattr(camera, "_cv2", lambda: module)

    @pytest.mark.parametrize("source", ["0", "rtsp://me:secret@line/1"])
    def test_that_goes_away_is_reached_again(
        self, model: ExportedModel, source: str, tmp_path: Path
    ) -> None:
        said: list[str] = []
        out, answers = tmp_path / "out", []
        opened = open_source(source, 20, said.append)
        end = time.monotonic() + 10

        def enough() -> bool:
            assert time.monotonic() < end
            return len(rows(out)) >= 4

        with Journal(out, model) as journal:
            assert look_at_frames(model, opened, journal, answers.append, enough) == 4
            assert not journal.seen
        shown = without_password(source)
        assert said == [
            f"{shown}: gives no picture; tried again until it does", f"{shown}: is there again",
        ]  # fmt: skip
        scores = [row["score"] for row in rows(out)]
        assert min(scores) == pytest.approx(0.2, abs=0.01)
        assert max(scores) == pytest.approx(0.4, abs=0.01)
        for row in rows(out):
            name, _, when = row["path"].partition("#")
            assert name == shown and row["at"] == when and datetime.fromisoformat(when).tzinfo
            assert "modified_ns" not in row
        assert "secret" not in (out / "results.jsonl").read_text()

    @pytest.mark.parametrize(
        ("problem", "expected"),
        [
            (OpenCvError("(-215)\n  of a frame"), (DataError, r"^0: OpenCV failed \(.-215. of a")),
            (MemoryError("no room"), (MemoryError, "no room")),
        ],
    )
    def test_what_goes_wrong_while_it_is_read_ends_the_command(
        self,
        place: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        problem: Exception,
        expected: tuple[type[Exception], str],
    ) -> None:
        def read(self: Fake) -> tuple[bool, np.ndarray | None]:
            self.number += 1
            if self.number > 1:
                time.sleep(0.1)
                raise problem
            return True, grey(0.2)

        def hang(seconds: float) -> None:
            assert time.monotonic() < end, "it goes on without its reader"
            sleep(seconds)

        sleep, end = time.sleep, time.monotonic() + 10
        monkeypatch.setattr(Fake, "read", read)
        monkeypatch.setattr(camera.time, "sleep", hang)
        # Nor does the command read all that a camera has ever left.
        monkeypatch.setattr(Journal, "_read", lambda self: pytest.fail("of a camera"))
        kind, text = expected
        with pytest.raises(kind, match=text):
            predict_cli.predict(place, tmp_path / "out", camera="0", fps=20.0)
        assert len(rows(tmp_path / "out")) <= 1

    def test_nothing_is_kept_of_what_never_comes_again(
        self, model: ExportedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out, taken = tmp_path / "out", []
        monkeypatch.setattr(journal, "_BLOCK", 100)  # Less than a line.

        def look(count: int) -> list[float]:
            with Journal(out, model, window=10, live=True) as its:
                begun = list(its.scores)
                for _ in range(count):
                    # The clock may have been put back, so that a name comes again.
                    name = its.name("camera-1")
                    (out / "masks" / f"{name}.png").touch()
                    taken.append(name)
                    said = Prediction(f"0#{len(taken)}", len(taken) / 100, False, 0.5, 0, 0.0,
                                      f"heatmaps/{name}.jpg", f"masks/{name}.png")  # fmt: skip
                    its.add(said, None)
                assert not its.seen and not its._names and len(its.scores) <= 10
            return begun

        assert look(0) == []
        assert look(4) == []
        whole = (out / RESULTS).read_bytes()
        assert look(20) == pytest.approx([0.01, 0.02, 0.03, 0.04])
        assert len({name.lower() for name in taken}) == 24
        with (out / RESULTS).open("ab") as file:
            file.write(whole[:150])  # As a power cut leaves it.
        parsed: list[bytes] = []
        monkeypatch.setattr(journal.json, "loads", lambda line: parsed.append(line) or loads(line))
        assert look(0) == pytest.approx([number / 100 for number in range(15, 25)])
        assert len(parsed) == 10 and len(rows(out)) == 24
        with Journal(out, model) as later:  # Of folders, whose files may have such names.
            assert later.name("camera-1") not in taken

    def test_that_is_not_there(self) -> None:
        with pytest.raises(ConfigError, match=r"--camera.*'7'"):
            open_source("7", 1)
        with pytest.raises(ConfigError) as error:
            open_source("rtsp://me:secret@other/1", 1)
        assert "secret" not in str(error.value) and "rtsp://other/1" in str(error.value)


class TestSources:
    def test_that_are_none(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="the number of a camera"):
            open_source(str(tmp_path / "none.avi"), 1)
        with pytest.raises(ConfigError, match="the number of a camera"):
            open_source("²", 1)
        (tmp_path / "empty.avi").touch()
        with pytest.raises(ConfigError, match="OpenCV can read"):
            open_source(str(tmp_path / "empty.avi"), 1)

    def test_without_opencv(self, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cv2", None)
        with pytest.raises(ConfigError, match=r"autosearch\[camera\]"):
            open_source(str(video), 1)

    def test_passwords(self) -> None:
        assert without_password("rtsp://a:b@c:554/d?e=f@g") == "rtsp://c:554/d?e=f@g"
        assert without_password("http://c/d") == "http://c/d" and without_password("0") == "0"
        assert without_password("http://c/d?password=b@&n=1") == "http://c/d?password=…&n=1"
        assert without_password("rtsp://c/u=a_Password=b_n=1") == "rtsp://c/u=a_Password=…"
        assert without_password("rtsp://a:b@[::1/d") == "rtsp://[::1/d"
