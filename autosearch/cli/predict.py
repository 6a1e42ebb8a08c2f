"""``autosearch predict``: an exported model looks at images. Needs no torch."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from autosearch.cli.screen import INTERRUPTED, console
from autosearch.cli.watch import DRIFTED, look_at_camera, watch_folders
from autosearch.errors import ConfigError, one_line

if TYPE_CHECKING:  # Imported where they are used, so that --help answers at once.
    from autosearch.export import Prediction, Skipped


class Provider(StrEnum):
    """What runs a model."""

    CPU = "cpu"
    CUDA = "cuda"
    OPENVINO = "openvino"
    OPENVINO_INT8 = "openvino-int8"


def predict(
    model: Annotated[Path, typer.Argument(metavar="EXPORT", help="Folder of an exported model.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the results.")],
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGES",
            help="Files, folders or patterns; none with --camera.",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images, or tiles, per pass.")] = 8,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="CPU threads; all cores by default.")
    ] = None,
    provider: Annotated[
        Provider, typer.Option("--provider", help="What runs the model.")
    ] = Provider.CPU,
    baseline: Annotated[
        bool,
        typer.Option("--baseline", help="Compare scores with those of normal validation images."),
    ] = False,
    fail_on_drift: Annotated[
        bool,
        typer.Option("--fail-on-drift", help="The same, and exit with 3 if they have drifted."),
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on with what comes into the folders.")
    ] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, help="Seconds between two looks at them.")
    ] = 1.0,
    camera: Annotated[
        str | None,
        typer.Option("--camera", metavar="N|URL|FILE", help="Look at a camera, stream or video."),
    ] = None,
    fps: Annotated[
        float, typer.Option("--fps", min=0.001, help="Its images per second, at most.")
    ] = 1.0,
    window: Annotated[
        int, typer.Option("--window", min=10, help="Last images whose scores are compared then.")
    ] = 200,
    foreground: Annotated[
        str | None,
        typer.Option(
            "--foreground",
            metavar="DIR",
            help="Masks of the objects, laid out as the images, instead of looking for these.",
        ),
    ] = None,
) -> None:
    """Look at images with an exported model: heatmaps, masks, scores.csv and scores.json.

    Images that cannot be read are reported and skipped; the exit code is then 1. Ctrl-C keeps
    what is written. With --baseline, drift.json says whether scores are what they were.

    With --watch or --camera it goes on until Ctrl-C or SIGTERM; results.jsonl has a line an image
    at once, and what it has is not looked at again by a later call.
    """
    from autosearch.export import Prediction, Predictor

    images = images or []
    _check_source(images, watch, camera, foreground)
    answers: list[Prediction | Skipped] = []
    start, stopped, wanted = time.perf_counter(), False, 0
    ready = Predictor(model, provider, threads)
    if baseline or fail_on_drift:
        ready.check_baseline()
    if ready.model.framing.marked and foreground is None:
        console.print(_LOOKED_FOR, highlight=False, soft_wrap=True)
    asked = (window, baseline or fail_on_drift, fail_on_drift)
    if camera is not None:
        look_at_camera(ready, camera, out, batch, fps, *asked)
        return
    if watch:
        watch_folders(ready, images, out, batch, interval, *asked, foreground)
        return
    with _progress() as bar:
        task = bar.add_task("images", total=None)

        def told(answer: Prediction | Skipped, done: int, total: int) -> None:
            nonlocal wanted
            answers.append(answer)
            wanted = total
            bar.update(task, completed=done, total=total)
            if not isinstance(answer, Prediction):
                line = escape(one_line(f"{answer.path}: {answer.problem}"))
                line = f"[yellow]skipped[/] {line}"
                bar.console.print(line, highlight=False, soft_wrap=True)

        try:
            ready.write(images, out, batch, told, foreground)
        except KeyboardInterrupt:
            stopped = True
    done = [answer for answer in answers if isinstance(answer, Prediction)]
    console.print(_summary(done, wanted, time.perf_counter() - start), highlight=False)
    if foreground is not None and (without := sum(answer.foreground is None for answer in done)):
        line = f"{without} of {len(done)} images have no mask in {foreground}: object looked for"
        console.print(escape(one_line(line)), highlight=False, soft_wrap=True)
    console.print(f"results in [bold]{escape(str(out))}[/]", highlight=False)
    if stopped:
        console.print("Stopped; what was written so far is complete.")
        raise typer.Exit(INTERRUPTED)
    drifted = False
    if baseline or fail_on_drift:
        found = ready.drift([answer.score for answer in done], out)
        drifted = bool(found.found)
        shown = "[green]" if found.found is False else "[yellow]"
        console.print(f"{shown}baseline[/] {escape(found.text)}", highlight=False, soft_wrap=True)
        if drifted:
            anomalous = sum(answer.anomalous for answer in done)
            line = _DRIFTED.format(anomalous=anomalous, images=len(done))
            console.print(line, highlight=False, soft_wrap=True)
    if len(done) < len(answers):
        raise typer.Exit(1)
    if drifted and fail_on_drift:
        raise typer.Exit(DRIFTED)


_LOOKED_FOR = (
    "[yellow]note[/] this model was made with masks of objects from files (dataset.foreground); "
    "without --foreground, objects are looked for in the images"
)
_DRIFTED = (
    "{anomalous} of {images} images are called anomalous. Look whether light, camera, material or "
    "placing has changed, or whether there are more defects than usual: the threshold was chosen "
    "for other scores."
)


def _check_source(
    images: list[str], watch: bool, camera: str | None, foreground: str | None
) -> None:
    """Refuse to look at nothing, or at two things at once."""
    if camera is not None and (watch or images):
        raise ConfigError("--camera", camera, "alone, without IMAGES and --watch")
    if camera is not None and foreground is not None:
        raise ConfigError("--foreground", foreground, "no --camera, whose pictures are no files")
    if camera is None and not images:
        raise ConfigError("IMAGES", "nothing", "files, folders or patterns, or --camera")


_SLOW_MS = 1000
"""From which on times are told in seconds."""


def _summary(done: list[Prediction], total: int, seconds: float) -> str:
    anomalous = sum(answer.anomalous for answer in done)
    model = sum(answer.seconds for answer in done)
    line = f"{len(done)} of {total} images, {anomalous} anomalous"
    if done:
        each = 1e3 * model / len(done)
        spent = f"{each:.1f} ms" if each < _SLOW_MS else f"{each / 1e3:.1f} s"
        rate = len(done) / seconds
        pace = f"{rate:.1f} images/s" if rate >= 1 else f"{1 / rate:.1f} s an image"
        line += f"; {spent} per image in the model, {pace} with reading and writing"
    return line


def _progress() -> Progress:
    columns = (TextColumn("images"), BarColumn(30), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
