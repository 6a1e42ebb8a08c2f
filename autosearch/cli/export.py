"""Arguments of ``autosearch export`` and ``autosearch predict``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from autosearch.errors import one_line

if TYPE_CHECKING:  # Imported where they are used: --help answers at once, predict needs no torch.
    from autosearch.export import Exported, Prediction, Skipped

console = Console()

INTERRUPTED = 130
"""Exit code where not all images were looked at."""
_TOLERABLE = 1e-4


class Format(StrEnum):
    """What an export holds."""

    ONNX = "onnx"
    OPENVINO = "openvino"
    TORCH = "torch"


class ThresholdRule(StrEnum):
    """How thresholds are chosen on validation."""

    F1 = "f1"
    YOUDEN = "youden"
    FPR = "fpr"


class Provider(StrEnum):
    """What runs a model."""

    CPU = "cpu"
    CUDA = "cuda"
    OPENVINO = "openvino"


def export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a study.")],
    trial: Annotated[int, typer.Option("--trial", min=0, help="Number of the trial.")],
    formats: Annotated[
        list[Format] | None,
        typer.Option(
            "--format",
            help="onnx, openvino or torch (tensors); repeatable. Default: onnx and torch.",
        ),
    ] = None,
    coreset: Annotated[
        float | None,
        typer.Option("--coreset", help="Share of the patches to keep, chosen by k-centre."),
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Store large tensors in half precision.")
    ] = False,
    threshold: Annotated[
        ThresholdRule, typer.Option("--threshold", help="Best F1, Youden, or bounded FPR.")
    ] = ThresholdRule.F1,
    max_fpr: Annotated[
        float | None, typer.Option("--max-fpr", help="False-positive rate for --threshold fpr.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder; by default DIR/exports/trial-N.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
) -> None:
    """Make a model folder of a trial: one graph, thresholds, a model card.

    Thresholds are chosen on validation with the detector of the search; the exported one is
    fitted on all normal images but test ones. Runs with `autosearch predict`.
    """
    from autosearch.export import ExportOptions, export_trial
    from autosearch.storage import StudyFolder

    chosen = tuple(dict.fromkeys(name.value for name in formats or (Format.ONNX, Format.TORCH)))
    options = ExportOptions(trial, chosen, coreset, half, threshold.value, max_fpr)
    folder = StudyFolder.open(directory)
    with _reading() as progress:
        exported = export_trial(folder, options, out, force, _say, progress)
    console.print(_export_table(exported))
    for line in _export_notes(exported):
        console.print(line, highlight=False, soft_wrap=True)


def predict(
    model: Annotated[Path, typer.Argument(metavar="EXPORT", help="Folder of an exported model.")],
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGES", help="Files, folders or patterns.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the results.")],
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images per pass.")] = 8,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="CPU threads; all cores by default.")
    ] = None,
    provider: Annotated[
        Provider, typer.Option("--provider", help="What runs the model.")
    ] = Provider.CPU,
) -> None:
    """Look at images with an exported model: heatmaps, masks, scores.csv and scores.json.

    Images that cannot be read are reported and skipped; the exit code is then 1. Ctrl-C keeps
    what is written.
    """
    from autosearch.export import Prediction, find_images, load_model, predict_images, write_report

    found = find_images(images, out)
    ready = load_model(model, provider.value, threads)
    answers: list[Prediction | Skipped] = []
    start, stopped = time.perf_counter(), False
    with _progress() as bar:
        task = bar.add_task("images", total=len(found))
        try:
            for answer in predict_images(ready, found, out, batch):
                answers.append(answer)
                bar.advance(task)
                if not isinstance(answer, Prediction):
                    line = escape(one_line(f"{answer.path}: {answer.problem}"))
                    line = f"[yellow]skipped[/] {line}"
                    bar.console.print(line, highlight=False, soft_wrap=True)
        except KeyboardInterrupt:
            stopped = True
    write_report(out, ready, answers)
    done = [answer for answer in answers if isinstance(answer, Prediction)]
    console.print(_summary(done, len(found), time.perf_counter() - start), highlight=False)
    console.print(f"results in [bold]{escape(str(out))}[/]", highlight=False)
    if stopped:
        console.print("Stopped; what was written so far is complete.")
        raise typer.Exit(INTERRUPTED)
    if len(done) < len(answers):
        raise typer.Exit(1)


def _summary(done: list[Prediction], total: int, seconds: float) -> str:
    anomalous = sum(answer.anomalous for answer in done)
    model = sum(answer.seconds for answer in done)
    line = f"{len(done)} of {total} images, {anomalous} anomalous"
    if done:
        pace = f"{len(done) / seconds:.1f} images/s with reading and writing"
        line += f"; {1e3 * model / len(done):.1f} ms per image in the model, {pace}"
    return line


def _export_table(exported: Exported) -> Table:
    found = exported.manifest
    table = Table(box=None, title=str(exported.path), title_justify="left")
    for title in ("runtime", "latency ms", "difference, batch 1", "batch 3"):
        table.add_column(title, justify="left" if title == "runtime" else "right")
    for name, value in found["latency_ms"].items():
        if name not in ("threads", "batch"):
            parity = found["parity"].get(name, {})
            shown = [f"{parity[key]:.1e}" if key in parity else ""
                     for key in ("batch_1", "batch_3")]  # fmt: skip
            table.add_row(name, f"{value:.1f}", *shown)
    threads = found["latency_ms"]["threads"]
    table.caption = f"median of one image, {threads} threads; difference to torch as a share of "
    table.caption += "the highest score"
    table.caption_justify = "left"
    return table


def _export_notes(exported: Exported) -> Iterator[str]:
    found = exported.manifest
    sizes = ", ".join(f"{name} {_size(entry['bytes'])}"
                      for name, entry in found["files"].items())  # fmt: skip
    yield f"files      {sizes}"
    for name in ("image", "pixel"):
        chosen = found["thresholds"][name]
        rates = ", ".join(f"{rate.upper()} {chosen['reached'][rate]:.3f}"
                          for rate in ("tpr", "fpr", "f1"))  # fmt: skip
        yield f"threshold  {name} {chosen['value']:.6g} ({chosen['rule']}; validation {rates})"
    if found["half_error"] is not None:
        yield f"half       maps differ by {found['half_error']:.1e} of the highest score at most"
    before = found["validation"]["search"].get("rwap")
    now = found["validation"]["exported_configuration"].get("rwap")
    if before is not None and now is not None:
        yield f"rwAP       {now:.4f} on validation with this bank, {before:.4f} in the search"
        same = found["configuration"]["search"] == found["configuration"]["exported"]
        if same and abs(before - now) > _TOLERABLE:
            yield "[yellow]The search's figure was not met again: another machine or library?[/]"
    fit = found["fit"]
    if fit["anomalous"]:
        yield f"fitted on  {fit['images']} train images, {fit['anomalous']} of them anomalous"
    else:
        yield (
            f"fitted on  {fit['images']} normal images: {fit['train']} train, "
            f"{fit['validation_normal']} validation"
        )
    yield f"next       autosearch predict {escape(str(exported.path))} IMAGES --out predictions"


def _size(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 1e6 else f"{number / 1e3:.0f} kB"


def _say(text: str) -> None:
    console.print(f"{text} …", highlight=False)


def _progress() -> Progress:
    columns = (TextColumn("images"), BarColumn(30), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def _reading() -> Iterator[Callable[[int, int], None]]:
    with _progress() as bar:
        task = bar.add_task("reading", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
