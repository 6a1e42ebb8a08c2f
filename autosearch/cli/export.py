"""``autosearch export``: a trial as a folder that can be carried away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from autosearch.cli.options import (
    CategoryOption,
    DataOption,
    EnsembleOption,
    TrialOption,
    ensemble_of,
)
from autosearch.cli.screen import console, reading_bar
from autosearch.cli.threshold_options import (
    CostFnOption,
    CostFpOption,
    FactorOption,
    MaxFprOption,
    MinSensitivityOption,
    PercentileOption,
    PrevalenceOption,
    RuleOption,
    ThresholdRule,
    criterion_of,
)

if TYPE_CHECKING:  # Imported where they are used, so that --help answers at once.
    from autosearch.api import Update

_TOLERABLE = 1e-4


class Format(StrEnum):
    """What an export holds."""

    ONNX = "onnx"
    OPENVINO = "openvino"
    TORCH = "torch"
    ONNX_STATIC = "onnx-static"
    OPENVINO_INT8 = "openvino-int8"


def export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a study.")],
    trial: TrialOption = None,
    ensemble: EnsembleOption = None,
    formats: Annotated[
        list[Format] | None,
        typer.Option(
            "--format",
            help="onnx, openvino, torch (tensors), onnx-static (fixed shapes, for TensorRT), "
            "openvino-int8; repeatable. Default: onnx and torch.",
        ),
    ] = None,
    coreset: Annotated[
        float | None,
        typer.Option("--coreset", help="Share of the patches to keep, chosen by k-centre."),
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Store large tensors in half precision.")
    ] = False,
    threshold: RuleOption = ThresholdRule.F1,
    max_fpr: MaxFprOption = None,
    min_sensitivity: MinSensitivityOption = None,
    prevalence: PrevalenceOption = None,
    cost_fn: CostFnOption = None,
    cost_fp: CostFpOption = None,
    percentile: PercentileOption = None,
    factor: FactorOption = None,
    opset: Annotated[
        int, typer.Option("--opset", help="Of the ONNX graph, 15 to 18; older runtimes want less.")
    ] = 18,
    batch: Annotated[
        int | None,
        typer.Option("--batch", min=1, help="Images a pass of onnx-static.", show_default="1"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder; by default in DIR/exports.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    data: DataOption = None,
    category: CategoryOption = None,
) -> None:
    """Make a model folder of a trial: one graph, thresholds, a model card.

    Thresholds are chosen on validation with the detector of the search; the exported one is
    fitted on all normal images but test ones. Runs with `autosearch predict`. With --ensemble
    several trials become one graph: the mean of their standardised maps. Without it and --trial
    the trial that `autosearch recommend` names is exported, and its reasons are said.
    """
    from autosearch.api import open_study
    from autosearch.export import read_manifest

    criterion = criterion_of(
        threshold, max_fpr, min_sensitivity, prevalence, cost_fn, cost_fp, percentile, factor
    )
    chosen = tuple(dict.fromkeys(name.value for name in formats or (Format.ONNX, Format.TORCH)))
    study = open_study(directory)
    with reading_bar() as bar:

        def show(update: Update) -> None:
            bar(update)
            if update.stage == "exporting":
                console.print(f"{escape(update.text)} …", highlight=False)

        path = study.export(
            trial,
            formats=chosen,
            coreset=coreset,
            half=half,
            threshold=criterion,
            opset=opset,
            out=out,
            force=force,
            data=data,
            category=category,
            progress=show,
            ensemble=ensemble_of(ensemble),
            batch=batch,
        )
    found = read_manifest(path)
    console.print(_export_table(path, found))
    if "int8" in found:
        console.print(_int8_table(found["int8"]))
    for line in _export_notes(path, found):
        console.print(line, highlight=False, soft_wrap=True)


def _export_table(path: Path, found: Mapping[str, Any]) -> Table:
    table = Table(box=None, title=str(path), title_justify="left")
    for title in ("runtime", "latency ms", "difference, batch 1", "batch 3"):
        table.add_column(title, justify="left" if title == "runtime" else "right")
    for name, value in found["latency_ms"].items():
        if name not in ("threads", "batch"):
            parity = found["parity"].get(name, {})
            shown = [f"{parity[key]:.1e}" if key in parity else ""
                     for key in ("batch_1", "batch_3")]  # fmt: skip
            table.add_row(name, f"{value:.1f}", *shown)
    threads = found["latency_ms"]["threads"]
    on = f"{threads} thread{'' if threads == 1 else 's'}"
    taken = f"median of one image, {on}"
    if tiling := found["input"].get("tiling"):
        count = len(tiling["tops"]) * len(tiling["lefts"])
        taken = f"one image: {count} times the median of a tile, {on}"
    table.caption = f"{taken}; difference to torch as a share of the highest score"
    table.caption_justify = "left"
    return table


def _int8_table(int8: Mapping[str, Any]) -> Table:
    """Float and integers side by side."""
    table = Table(box=None, title="OpenVINO", title_justify="left")
    names = {"rwap": "rwAP", "ap": "AP", "image_ap": "AP, images"}
    shown = {name: title for name, title in names.items() if name in int8["validation"]["float"]}
    table.add_column("")
    for title in (*shown.values(), "size", "latency ms"):
        table.add_column(title, justify="right")
    for title, kind in (("float32", "float"), ("8 bits", "int8")):
        figures = [f"{int8['validation'][kind][name]:.4f}" for name in shown]
        size, time = _size(int8["bytes"][kind]), f"{int8['latency_ms'][kind]:.1f}"
        table.add_row(title, *figures, size, time)
    table.caption = (
        f"validation, with the detector of the thresholds; calibrated on "
        f"{int8['calibration']['images']} {int8['calibration']['of']}; "
        f"{int8['in_float']} left in float"
    )
    table.caption_justify = "left"
    return table


_RUN_BY = {
    "onnx": "",
    "openvino": " --provider openvino",
    "openvino-int8": " --provider openvino-int8",
}
"""Formats that `predict` runs, and how it is told to."""


def _export_notes(path: Path, found: Mapping[str, Any]) -> Iterator[str]:
    sizes = ", ".join(f"{name} {_size(entry['bytes'])}"
                      for name, entry in found["files"].items())  # fmt: skip
    yield f"files      {sizes}"
    for name in ("image", "pixel"):
        chosen = found["thresholds"][name]
        if name == "pixel" and (same := found["thresholds"].get("pixel_is")):
            yield f"threshold  pixel {chosen['value']:.6g}: {same}"
            continue
        rates = ", ".join(f"{rate.upper()} {chosen['reached'][rate]:.3f}"
                          for rate in ("tpr", "fpr", "f1"))  # fmt: skip
        yield f"threshold  {name} {chosen['value']:.6g} ({chosen['rule']}; validation {rates})"
    if static := found.get("static"):
        yield (
            f"static     batches of {static['batch']}, opset {static['opset']}, network in "
            f"{static['network']}; maps differ by {static['difference']:.1e} "
            f"(allowed: {static['tolerance']:g})"
        )
        operators = ", ".join(f"{name} {count}" for name, count in static["operators"].items())
        yield f"operators  {operators}"
    if found["half_error"] is not None:
        yield f"half       maps differ by {found['half_error']:.1e} of the highest score at most"
    before = found["validation"]["search"].get("rwap")
    now = found["validation"]["exported_configuration"].get("rwap")
    if before is not None and now is not None:
        yield f"rwAP       {now:.4f} on validation with this bank, {before:.4f} in the search"
        one = found["configuration"]  # Of an ensemble the search has no figures.
        same = one["search"] == one["exported"]
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
    runs = [told for name, told in _RUN_BY.items() if name in found["formats"]]
    if runs:
        call = f"autosearch predict {escape(str(path))} IMAGES --out predictions{runs[0]}"
        yield f"next       {call}"


def _size(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 1e6 else f"{number / 1e3:.0f} kB"
