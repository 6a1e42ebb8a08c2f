"""A study that trackers are told of, trackers that misbehave, and what reads W&B's files."""

import io
import json
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from driving import DIRECTIONS, make_spec
from PIL import Image

from autosearch.contracts.trials import Assignment, Outcome, Progress, Status, TrialRecord
from autosearch.spec.sections import StudySpec
from autosearch.storage.folder import StudyFolder
from autosearch.study.driver import StudyDriver
from autosearch.tracking.content import StudyContent, TrialContent

LOSS = [0.5, 0.25, None, 0.125]
META = {
    "autosearch": "0.1.0",
    "data": {
        "name": "tiles", "category": "grey", "sha256": "d" * 64, "image_size": 32, "rule": "",
        "counts": {}, "resize_rule": "", "mask_rule": "",
    },
    "weights": [{"name": "net+1", "source": "", "sha256": "e" * 64, "note": ""}],
    "objectives": {
        name: {"direction": way, "unit": "", "help": "", "pixels": False}
        for name, way in DIRECTIONS.items()
    },
}  # fmt: skip


def picture() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((4, 6, 3), (255, 0, 0), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


def outcome(assignment: Assignment) -> Outcome:
    """Trial 1 fails; all others are complete, with a picture and a curve."""
    if assignment.number == 1:
        return Outcome(Status.FAILED, reason="no luck\nat all", traceback="Traceback")
    x = float(assignment.canonical["x"])
    panel = {"title": "loss", "series": {"l2": LOSS}}
    files = {
        "maps.png": picture(),
        "curves.json": json.dumps({"x": "epoch", "panels": [panel]}).encode(),
        "choice.npz": b"of no use elsewhere",
    }
    measured = {"extra": x / 2, "odd": float("inf")}
    return Outcome(
        Status.COMPLETE, {"cost": x, "score": -x}, measured, seconds={"fit": 0.5}, artifacts=files
    )


def open_driver(path: Path, told: Any = lambda record: None, trials: int = 3) -> StudyDriver:
    """A driver of a study with all files that a search writes."""
    spec: StudySpec = make_spec(trials=trials)
    folder = StudyFolder(path)
    driver = StudyDriver(folder, spec, DIRECTIONS, dict, {"data": "d1"}, told=told)
    folder.write_spec(spec)
    folder.write_meta(META)
    (path / "pareto.csv").write_text("trial\n")
    return driver


def work(driver: StudyDriver, limit: int = 10**9) -> None:
    """Evaluate so many trials, or all; trial 0 says half-way how it stands."""
    for _ in range(limit):
        if (assignment := driver.ask()) is None:
            return
        if assignment.number == 0:
            driver.report(0, Progress(0.5, {"cost": 1.0, "score": 2.0}))
        driver.tell(assignment.number, outcome(assignment))


def finished(path: Path, trials: int = 3) -> StudyFolder:
    """A study whose search is over."""
    driver = open_driver(path, trials=trials)
    work(driver)
    driver.close()
    return StudyFolder.open(path)


def records(path: Path) -> list[TrialRecord]:
    return StudyFolder(path).trials.records()


class Told:
    """A tracker that keeps what it is told, and fails or hangs where it is told to."""

    name, to = "told", "here"

    def __init__(self) -> None:
        self.trials: list[TrialContent] = []
        self.calls: list[str] = []
        self.failing = 0
        self.answering = threading.Event()
        self.answering.set()

    def open(self, study: StudyContent) -> None:
        self.study = study
        self._call("open")

    def send(self, trial: TrialContent) -> str:
        self._call("send")
        self.trials.append(trial)
        return f"run-{trial.number}"

    def close(self, study: StudyContent, status: str) -> None:
        self._call(f"close {status}")
        self.study = study

    @property
    def numbers(self) -> list[int]:
        return [trial.number for trial in self.trials]

    def _call(self, what: str) -> None:
        self.calls.append(what)
        self.answering.wait(20)
        if self.failing:
            self.failing -= 1
            raise ConnectionError("nobody is\nthere")


def wandb_records(path: Path) -> Iterator[Any]:
    """Records of a ``.wandb`` file: seven bytes, then blocks as LevelDB's log has them."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # The whole of a record, or the last part of one.
            yield Record.FromString(parts)
            parts = b""
