"""Pictures of a camera, a stream or a video file, through OpenCV. Free of torch.

Of a video file every frame counts, so that pictures are taken by its own clock; of what is live
the newest counts, so that a model slower than the camera falls behind by nothing but itself.
"""

from __future__ import annotations

import importlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autosearch.errors import ConfigError, DataError, one_line
from autosearch.export.folder import ExportedModel
from autosearch.export.journal import Journal, Seen
from autosearch.export.listing import Found
from autosearch.export.predict import Prediction, Skipped, predict_loaded, prepared, workers
from autosearch.files import user_path

LONGEST_PAUSE = 30.0
"""Seconds between two tries to reach a camera that is away, once it is away for long."""

_TURN = 0.05
"""Seconds after which a wait looks again whether there is something to do."""
_SECRET = re.compile(r"((?:pass|pwd|token|secret)\w*=)[^&#]*", re.IGNORECASE)
"""What some cameras are told in an address instead of a user before the host."""


@dataclass(frozen=True)
class Frame:
    """A picture of a source.

    Attributes:
        picture: ``(H, W, 3)`` uint8 RGB.
        key: Source and place in it, different from all others.
        name: What its outputs are to be called.
        more: What results say of it besides.
    """

    picture: NDArray[np.uint8]
    key: str
    name: str
    more: dict[str, Any]


class Video:
    """A file, of which frames are taken by its own clock, from the beginning to the end.

    Args:
        path: The file.
        fps: Frames per second of the video that are looked at, at most all.

    Raises:
        ConfigError: OpenCV is missing, or cannot read it.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path.resolve(), fps
        self._capture = _opened(str(self._path), str(path))
        stat = self._path.stat()
        self.seen = Seen(stat.st_size, stat.st_mtime_ns)

    def frames(self, known: Callable[[str], bool], stopped: Callable[[], bool]) -> Iterator[Frame]:
        """Its frames, but for those that are known."""
        own = float(self._capture.get(_cv2().CAP_PROP_FPS)) or self._fps
        number, taken = 0, 0
        while not stopped() and self._capture.grab():
            at, number = number / own, number + 1
            # Half a frame early is nearer than half a frame late.
            if at + 0.5 / own < taken / self._fps:
                continue
            taken = int((at + 0.5 / own) * self._fps) + 1
            key = f"{self._path}#{number - 1}"
            if known(key):
                continue
            whole, bgr = self._capture.retrieve()
            if whole:
                name = f"{self._path.stem}-{number - 1:06d}"
                yield Frame(_rgb(bgr), key, name, {"frame": number - 1, "at": round(at, 3)})
        self._capture.release()


class Camera:
    """A device or a stream, whose newest picture is looked at; reached again when it was away.

    Args:
        source: Number of a device, or address of a stream.
        fps: Pictures per second, at most; fewer where the model or the camera takes longer.
        said: Told in a line when it is away, and when it is there again.

    Raises:
        ConfigError: OpenCV is missing, or there is nothing there now.
    """

    seen: Seen | None = None

    def __init__(
        self, source: str, fps: float, said: Callable[[str], None] = lambda text: None
    ) -> None:
        self._source: str | int = int(source) if source.isdecimal() else source
        self._shown, self._fps, self._said = without_password(source), fps, said
        self._capture = _opened(self._source, self._shown)
        self._newest: tuple[Any, datetime] | None = None
        self._problem: Exception | None = None
        self._ended = threading.Event()

    def frames(self, known: Callable[[str], bool], stopped: Callable[[], bool]) -> Iterator[Frame]:
        """The newest picture, again and again, until it is to stop.

        Raises:
            DataError: OpenCV failed while it read; other errors of reading are raised as they are.
        """
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        due = time.monotonic()
        try:
            while not stopped():
                if self._problem is not None:
                    raise self._problem
                newest, self._newest = self._newest, None
                if newest is None:
                    time.sleep(_TURN)
                    continue
                bgr, when = newest
                stamp = when.isoformat(timespec="milliseconds")
                name = f"{'camera' if self._shown.isdecimal() else 'stream'}-"
                name += when.strftime("%Y%m%d-%H%M%S-") + f"{when.microsecond // 1000:03d}"
                yield Frame(_rgb(bgr), f"{self._shown}#{stamp}", name, {"at": stamp})
                due = max(due + 1 / self._fps, time.monotonic())
                while (left := due - time.monotonic()) > 0 and not stopped():
                    time.sleep(min(_TURN, left))
        finally:
            self._ended.set()
            reader.join(2)

    def _read(self) -> None:
        """Keep the newest picture until the end; what goes wrong is raised by `frames`."""
        try:
            self._keep_newest()
        except _cv2().error as error:
            found = " ".join(str(error).split())
            remedy = "look whether OpenCV can read the camera at all, and start again"
            self._problem = DataError(self._shown, f"OpenCV failed ({found})", remedy)
        except Exception as error:
            self._problem = error
        finally:
            self._capture.release()

    def _keep_newest(self) -> None:
        """What a camera has stored up meanwhile is passed over."""
        pause = 0.0
        while not self._ended.is_set():
            there, bgr = self._capture.read()
            if there:
                if pause:
                    self._said(f"{self._shown}: is there again")
                pause, self._newest = 0.0, (bgr, datetime.now(UTC))
                continue
            if not pause:
                self._said(f"{self._shown}: gives no picture; tried again until it does")
            pause = min(2 * pause or 1.0, LONGEST_PAUSE)
            self._capture.release()
            self._ended.wait(pause)
            self._capture.open(self._source)


def open_source(
    text: str, fps: float, said: Callable[[str], None] = lambda text: None
) -> Video | Camera:
    """What ``--camera`` names: the number of a device, the address of a stream, or a video file.

    Raises:
        ConfigError: It is none of them, cannot be read, or OpenCV is missing.
    """
    if text.isdecimal() or "://" in text:
        return Camera(text, fps, said)
    path = user_path(text, "--camera")
    if not path.is_file():
        allowed = "the number of a camera, the address of a stream, or a video file"
        raise ConfigError("--camera", text, allowed)
    return Video(path, fps)


def look_at_frames(
    model: ExportedModel,
    source: Video | Camera,
    journal: Journal,
    told: Callable[[Prediction | Skipped], None],
    stopped: Callable[[], bool] = lambda: False,
    batch: int = 8,
) -> int:
    """Look at the pictures of a source, one by one, until it ends or is to stop.

    Args:
        model: What answers.
        source: What `open_source` gave.
        journal: Where results go; frames of a video that it has are passed over.
        told: Told of each picture whose line has been written.
        stopped: Asked again and again.
        batch: Tiles per pass.

    Returns:
        How many were written down.
    """

    def known(key: str) -> bool:
        return source.seen is not None and source.seen.same_file(journal.seen.get(key))

    done = 0
    with workers() as pool:
        for frame in source.frames(known, stopped):
            answer = _answer(model, frame, journal, batch, pool)
            journal.add(answer, source.seen, frame.more)
            told(answer)
            done += 1
    return done


def without_password(address: str) -> str:
    """The address of a stream as results may have it: without user and secrets."""
    scheme, mark, rest = address.partition("://")
    if mark:
        end = next((i for i, letter in enumerate(rest) if letter in "/?#"), len(rest))
        rest = _SECRET.sub(r"\1…", rest[rest.rfind("@", 0, end) + 1 :])
    return one_line(f"{scheme}{mark}{rest}")


def _answer(
    model: ExportedModel, frame: Frame, journal: Journal, batch: int, pool: Executor
) -> Prediction | Skipped:
    image = frame.picture.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    try:
        loaded = prepared(image, model.framing, frame.key)
    except DataError as error:
        return Skipped(frame.key, str(error).removeprefix(f"{frame.key}: "))
    found = Found(Path(frame.name), journal.name(re.sub(r"[^\w.-]", "_", frame.name)))
    (answer,) = predict_loaded(model, [(found, loaded)], journal.out, batch, pool)
    return replace(answer, path=frame.key)


def _rgb(bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """OpenCV has blue first, and some cameras give grey alone."""
    if bgr.ndim == 2:
        return np.repeat(bgr[..., None], 3, -1)
    return np.ascontiguousarray(bgr[..., ::-1])


def _opened(source: str | int, shown: str) -> Any:
    capture = _cv2().VideoCapture(source)
    if not capture.isOpened():
        capture.release()
        allowed = "a camera, a stream or a video file that OpenCV can read"
        raise ConfigError("--camera", shown, allowed)
    return capture


def _cv2() -> Any:
    try:
        return importlib.import_module("cv2")
    except ImportError:
        allowed = "a source, with the package opencv-python-headless: pip install "
        raise ConfigError("--camera", "OpenCV", f"{allowed}'autosearch[camera]'") from None
