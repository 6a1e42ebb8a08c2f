"""``autosearch predict --watch`` and ``--camera``: images as a line makes them. Needs no torch."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from autosearch.cli.screen import console
from autosearch.errors import one_line

if TYPE_CHECKING:  # Imported where they are used, so that --help answers at once.
    from autosearch.export import Journal, Prediction, Predictor, Skipped

DRIFTED = 3
"""Exit code where scores have drifted, and that was to be an error."""

_EVERY = 10
"""New images after which drift is asked for again."""
_TURN = 0.1
"""Seconds after which a wait looks whether it is to end."""


class Stop:
    """Ctrl-C or SIGTERM asks for an end in good order; a second Ctrl-C does not wait for it."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Stop:
        kinds = (signal.SIGINT, signal.SIGTERM)
        self._before = {kind: signal.signal(kind, self._ask) for kind in kinds}
        return self

    def __exit__(self, *error: object) -> None:
        for kind, handler in self._before.items():
            signal.signal(kind, handler)

    def wait(self, seconds: float) -> None:
        """Sleep, or less if the end is asked for meanwhile."""
        end = time.monotonic() + seconds
        while not self.asked and (left := end - time.monotonic()) > 0:
            time.sleep(min(_TURN, left))

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass
class Tally:
    """What is told of images as they come, and counted.

    Attributes:
        ready: What answers.
        journal: Where results are.
        stop: Set where drift is to end it.
        drift: Whether to ask for drift of the last scores.
        fail: Whether drift ends it.
    """

    ready: Predictor
    journal: Journal
    stop: Stop
    drift: bool
    fail: bool
    done: int = 0
    anomalous: int = 0
    skipped: int = 0
    drifted: bool = False
    _last: str = field(default="", repr=False)

    def __call__(self, answer: Prediction | Skipped) -> None:
        """A line of its own for each image."""
        from autosearch.export import Prediction

        where = escape(one_line(answer.path))
        if not isinstance(answer, Prediction):
            self.skipped += 1
            _say(f"[yellow]skipped  [/]           {where}: {escape(one_line(answer.problem))}")
            return
        self.done += 1
        self.anomalous += answer.anomalous
        verdict = "[red]anomalous[/]" if answer.anomalous else "[green]normal   [/]"
        _say(f"{verdict} {answer.score:10.4g} {where}")
        if self.drift and self.done % _EVERY == 0:
            self._ask_for_drift()

    def problems(self, problems: dict[Path, str]) -> None:
        """Folders that cannot be read; told once, not with every look."""
        text = "; ".join(f"{path}: cannot be read ({why})" for path, why in problems.items())
        if text != self._last:
            _say(f"[yellow]{escape(one_line(text))}[/]" if text else "folders can be read again")
        self._last = text

    def end(self) -> None:
        """The sum of it."""
        line = f"{self.done} image{'' if self.done == 1 else 's'}, {self.anomalous} anomalous"
        line += f", {self.skipped} skipped" if self.skipped else ""
        console.print(line, highlight=False)
        console.print(f"results in [bold]{escape(str(self.journal.out))}[/]", highlight=False)
        if self.drifted and self.fail:
            raise typer.Exit(DRIFTED)

    def _ask_for_drift(self) -> None:
        found = self.ready.drift(self.journal.scores, self.journal.out)
        if bool(found.found) != self.drifted:
            self.drifted = bool(found.found)
            _say(f"[{'yellow' if self.drifted else 'green'}]baseline[/] {escape(found.text)}")
        if self.drifted and self.fail:
            self.stop.asked = True


def watch_folders(
    ready: Predictor,
    folders: Sequence[str],
    out: Path,
    batch: int,
    interval: float,
    window: int,
    drift: bool,
    fail: bool,
    foreground: str | None = None,
) -> None:
    """Look at what comes into folders, until Ctrl-C or SIGTERM."""
    from autosearch.export import FolderWatch, Journal

    with Journal(out, ready.model, window) as journal, Stop() as stop:
        tally = Tally(ready, journal, stop, drift, fail)
        watch = FolderWatch(ready.model, folders, journal, batch, foreground)
        names = ", ".join(folders)
        _begin(f"watching {names} every {interval:g} s", journal)
        while not stop.asked:
            watch.step(tally, lambda: stop.asked)
            tally.problems(watch.problems)
            stop.wait(interval)
        tally.end()


def look_at_camera(
    ready: Predictor,
    source: str,
    out: Path,
    batch: int,
    fps: float,
    window: int,
    drift: bool,
    fail: bool,
) -> None:
    """Look at a camera, a stream or a video, until it ends, or Ctrl-C or SIGTERM."""
    from autosearch.export import (
        Camera,
        Journal,
        Video,
        look_at_frames,
        open_source,
        without_password,
    )

    def said(text: str) -> None:
        _say(f"[yellow]{escape(text)}[/]")

    opened = open_source(source, fps, said)
    live = isinstance(opened, Camera)
    with Journal(out, ready.model, window, live) as journal, Stop() as stop:
        tally = Tally(ready, journal, stop, drift, fail)
        _begin(f"looking at {without_password(source)} {fps:g} times a second at most", journal)
        look_at_frames(ready.model, opened, journal, tally, lambda: stop.asked, batch)
        tally.end()
    if isinstance(opened, Video) and tally.skipped:
        raise typer.Exit(1)


def _begin(text: str, journal: Journal) -> None:
    known = f"; {len(journal.seen)} images seen before" if journal.seen else ""
    line = escape(one_line(f"{text}{known}; Ctrl-C ends it"))
    console.print(line, highlight=False, soft_wrap=True)


def _say(text: str) -> None:
    now = datetime.now().strftime("%H:%M:%S")
    console.print(f"[dim]{now}[/] {text}", highlight=False, soft_wrap=True)
