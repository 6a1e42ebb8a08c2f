"""Arguments of ``autosearch supernet``: make a supernet from a teacher, and look at one."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autosearch.cli.screen import INTERRUPTED, console, reading_bar
from autosearch.errors import ConfigError

if TYPE_CHECKING:  # Imported where they are used, so that --help answers at once.
    from autosearch.api import Update
    from autosearch.backbones import DistillationProgress

supernet_app = typer.Typer(help="Make supernets without a network.", no_args_is_help=True)
_LINE_SECONDS = 30.0
_STAGES = ("block 0", *(f"stage {stage}" for stage in range(5)))

TeacherName = Annotated[
    str, typer.Option("--teacher", help="A model of timm whose features are learnt.")
]
TeacherWeights = Annotated[
    str,
    typer.Option("--teacher-weights", help="auto, official, bundled, random or a file."),
]
Blocks = Annotated[
    str | None,
    typer.Option(
        "--blocks",
        metavar="SHARES",
        help="Of a vision transformer, blocks that are learnt, as up to four shares of its depth; "
        "0.25,0.5,0.75,1 by default.",
    ),
]
AcceptLicence = Annotated[
    str | None,
    typer.Option(
        "--accept-licence", metavar="KEY", help="Of the teacher's weights, if asked for."
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads; all cores by default.")
]


@supernet_app.command()
def distill(
    images: Annotated[
        Path,
        typer.Option(
            "--images", help="Folder of unlabelled images; .zip and .pk3 files are read in place."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the checkpoint and the result.")],
    teacher: TeacherName = "tf_efficientnet_lite0",
    teacher_weights: TeacherWeights = "auto",
    blocks: Blocks = None,
    accept_licence: AcceptLicence = None,
    width: Annotated[float, typer.Option("--width", help="1.0 or 1.2.")] = 1.0,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0, help="Time in all, earlier pieces too.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=0, help="Steps in all, instead of --minutes.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=2, help="Images per step.")] = 48,
    crop: Annotated[
        int, typer.Option("--crop", min=32, help="Side of training images, a multiple of 32.")
    ] = 96,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of everything drawn.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")
    ] = False,
    half: Annotated[
        bool, typer.Option("--half", help="Store the result in half precision.")
    ] = False,
    threads: Threads = None,
) -> None:
    """Train a supernet that answers with a teacher's features, at every size.

    Needs no labels and no network: any folder of photographs will do, your own parts included.
    The result is OUT/supernet.safetensors, with supernet.json saying how it was made; use it as
    backbone.weights of a study. Ctrl-C stops after the step at hand; --resume goes on exactly
    there. A larger budget continues a finished run; --batch and --crop may change between pieces.
    """
    from autosearch.api import distill_supernet
    from autosearch.files import sha256

    _use_threads(threads)
    with reading_bar() as bar, _asked_to_stop() as stop:

        def show(update: Update) -> None:
            bar(update)
            if update.stage == "distilling":
                console.print(update.text)

        path = distill_supernet(
            images,
            out,
            minutes=minutes,
            steps=steps,
            teacher=teacher,
            teacher_weights=teacher_weights,
            blocks=_shares(blocks),
            accept_licence=accept_licence,
            width=width,
            batch=batch,
            crop=crop,
            seed=seed,
            resume=resume,
            half=half,
            progress=show,
            told=_Lines(),
            stop=stop,
        )
    if path is None:
        console.print("stopped before the budget was met; go on with --resume")
        raise typer.Exit(INTERRUPTED)
    console.print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, sha256 {sha256(path)}")


@supernet_app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Weights of a supernet.")],
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of images to compare features on.")
    ] = None,
    teacher: TeacherName = "tf_efficientnet_lite0",
    teacher_weights: TeacherWeights = "auto",
    blocks: Blocks = None,
    accept_licence: AcceptLicence = None,
    crop: Annotated[int, typer.Option("--crop", min=32, help="Side of these images.")] = 224,
    as_json: Annotated[bool, typer.Option("--json", help="One object.")] = False,
    threads: Threads = None,
) -> None:
    """Check a supernet: tensors, hash, subnets, and with --images agreement with the teacher.

    Agreement is the correlation with the teacher's channels at the end of each stage: 1 is
    perfect. It is shown with the stored batch-norm statistics and with recalibrated ones.
    """
    import json

    from autosearch.api import verify_supernet

    _use_threads(threads)
    with reading_bar() as bar:
        record = verify_supernet(
            file,
            images,
            teacher=teacher,
            teacher_weights=teacher_weights,
            blocks=_shares(blocks),
            accept_licence=accept_licence,
            crop=crop,
            progress=bar,
        )
    if as_json:
        print(json.dumps(record, indent=2))
        return
    for name, value in record.items():
        if name != "agreement":
            console.print(f"{name:18} {value}", highlight=False)
    for kind, values in record["agreement"].items():
        console.print(f"{kind:30} {_numbers(values)}", highlight=False)


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM came; training ends after the step at hand."""
    asked: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: asked.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Lines:
    """Prints where the training stands, now and then, and held-out losses at checkpoints."""

    def __init__(self) -> None:
        self._last = -_LINE_SECONDS

    def __call__(self, progress: DistillationProgress) -> None:
        now = time.monotonic()
        if progress.held_out is None and now - self._last < _LINE_SECONDS:
            return
        self._last = now
        left = "" if progress.left != progress.left else f", {_clock(progress.left)} left"
        console.print(
            f"step {progress.step} ({progress.fraction:.0%}) | {_clock(progress.elapsed)} "
            f"elapsed{left} | loss {progress.loss:.3f}",
            highlight=False,
        )
        for kind, losses in (progress.held_out or {}).items():
            console.print(f"  held out, {kind:9} {_numbers(losses)}", highlight=False)


def _shares(text: str | None) -> list[float] | None:
    """Read ``--blocks``."""
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        allowed = "shares of the depth such as 0.25,0.5,0.75,1"
        raise ConfigError("blocks", text, allowed) from None


def _numbers(values: list[float | None]) -> str:
    names = _STAGES[-len(values) :]
    pairs = zip(names, values, strict=True)
    return "  ".join(f"{name} {value:.3f}" for name, value in pairs if value is not None)


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
