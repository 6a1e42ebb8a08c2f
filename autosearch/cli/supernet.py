"""Arguments of ``autosearch supernet``: make a supernet from a teacher, and look at one."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:  # Imported where they are used, so that --help answers at once.
    from autosearch.backbones import Distillation, DistillationProgress, Teacher

supernet_app = typer.Typer(help="Make supernets without a network.", no_args_is_help=True)
console = Console()

INTERRUPTED = 130
"""Exit code of a training that was stopped before its budget was met."""

_LINE_SECONDS = 30.0
_STAGES = ("block 0", *(f"stage {stage}" for stage in range(5)))

TeacherName = Annotated[
    str, typer.Option("--teacher", help="A model of timm whose features are learnt.")
]
TeacherWeights = Annotated[
    str,
    typer.Option("--teacher-weights", help="auto, official, bundled, random or a file."),
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
    from autosearch.backbones import Distillation, DistillationSettings, save_supernet

    _use_threads(threads)
    settings = DistillationSettings(width, seed, batch, crop, steps, minutes)
    model, identity = _teacher(teacher, teacher_weights, seed)
    with _reading() as progress:
        from autosearch.backbones import pack_images

        pack = pack_images(images, progress)
    skipped = ", ".join(f"{number} {reason}" for reason, number in pack.skipped.items())
    console.print(
        f"{len(pack.crops)} crops of {pack.images} images, {len(pack.held_out)} held out"
        + (f"; skipped: {skipped}" if skipped else "")
    )
    run = Distillation(model, identity, pack, settings, out, resume)
    if run.step:
        console.print(f"continuing at step {run.step}")
    else:
        console.print(f"{run.copied_blocks} blocks start as the teacher's")
    if not _train(run):
        console.print("stopped before the budget was met; go on with --resume")
        raise typer.Exit(INTERRUPTED)
    path = out / "supernet.safetensors"
    card = save_supernet(path, run.finished().released_state(), _card(run), half)
    console.print(f"{path}: {card['bytes'] / 1e6:.1f} MB, sha256 {card['sha256']}")


@supernet_app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Weights of a supernet.")],
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of images to compare features on.")
    ] = None,
    teacher: TeacherName = "tf_efficientnet_lite0",
    teacher_weights: TeacherWeights = "auto",
    crop: Annotated[int, typer.Option("--crop", min=32, help="Side of these images.")] = 224,
    as_json: Annotated[bool, typer.Option("--json", help="One object.")] = False,
    threads: Threads = None,
) -> None:
    """Check a supernet: tensors, hash, subnets, and with --images agreement with the teacher.

    Agreement is the correlation with the teacher's channels at the end of each stage: 1 is
    perfect. It is shown with the stored batch-norm statistics and with recalibrated ones.
    """
    import json
    from dataclasses import asdict

    from autosearch.backbones import read_tensors, verify_state
    from autosearch.errors import WeightsError
    from autosearch.files import sha256

    _use_threads(threads)
    state = read_tensors(file)
    crops, model = None, None
    if images is not None:
        from autosearch.backbones import pack_images

        with _reading() as progress:
            pack = pack_images(images, progress)
        crops, (model, _) = pack.crops[pack.held_out], _teacher(teacher, teacher_weights, 0)
    try:
        found = asdict(verify_state(state, model, crops, crop))
    except WeightsError as error:
        raise WeightsError(f"{file}: {error}") from error
    record: dict[str, Any] = {"file": str(file), "sha256": sha256(file), **found}
    if as_json:
        print(json.dumps(record, indent=2))
        return
    for name, value in record.items():
        if name != "agreement":
            console.print(f"{name:18} {value}", highlight=False)
    for kind, values in record["agreement"].items():
        console.print(f"{kind:30} {_numbers(values)}", highlight=False)


def _teacher(name: str, request: str, seed: int) -> tuple[Teacher, dict[str, str]]:
    from autosearch.backbones import Teacher, resolve

    weights = resolve(name, request, seed)
    identity = {"teacher": name, "teacher_sha256": weights.sha256}
    return Teacher(name, weights.state), identity


def _train(run: Distillation) -> bool:
    """Train with progress shown; signals end it after the step at hand."""
    asked: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: asked.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        return run.run(_Lines(), lambda: bool(asked))
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


def _numbers(values: list[float | None]) -> str:
    names = _STAGES[-len(values) :]
    pairs = zip(names, values, strict=True)
    return "  ".join(f"{name} {value:.3f}" for name, value in pairs if value is not None)


def _card(run: Distillation) -> dict[str, Any]:
    from autosearch import __version__

    return {
        **run.identity,
        "autosearch": __version__,
        "images": run.pack.images,
        "crops": len(run.pack.crops),
        "sources": run.pack.sources,
        "skipped": run.pack.skipped,
        "steps": run.step,
        "minutes": round(run.elapsed / 60, 1),
        "pieces": run.pieces,
        "held_out": {kind: _rounded(v) for kind, v in run.history[-1]["held_out"].items()},
    }


def _rounded(values: list[float | None]) -> list[float | None]:
    return [None if value is None else round(value, 4) for value in values]


@contextmanager
def _reading() -> Iterator[Callable[[int, int], None]]:
    from rich.progress import Progress as Bar

    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading images", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
