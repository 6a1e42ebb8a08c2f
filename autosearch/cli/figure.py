"""``autosearch figure``: one figure of studies as a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from autosearch.cli.options import Directories
from autosearch.errors import ConfigError

_KINDS = "pareto, progress, importance, parallel, thresholds, curves"


def _kinds(incomplete: str) -> Iterator[str]:
    yield from (kind for kind in _KINDS.split(", ") if kind.startswith(incomplete))


def figure(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"{_KINDS}.", autocompletion=_kinds)],
    directories: Directories,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The file, .png, .svg, .pdf or .html; by default DIR/KIND.png, or KIND.png here "
            "for several.",
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="TEXT",
            help="What to call a study in the legend; once for each, in their order.",
            show_default="the names of their folders",
        ),
    ] = None,
    trial: Annotated[
        int | None,
        typer.Option(
            "--trial",
            min=0,
            help="Of curves, and of thresholds, where it is the recommended one by default.",
        ),
    ] = None,
    x: Annotated[
        str | None, typer.Option("--x", metavar="FIGURE", help="Horizontal axis of pareto.")
    ] = None,
    y: Annotated[
        str | None, typer.Option("--y", metavar="FIGURE", help="Vertical axis of pareto.")
    ] = None,
    log_x: Annotated[
        bool | None,
        typer.Option(
            "--log-x/--linear-x",
            help="Of pareto.",
            show_default="logarithmic where it spans more than 30 times",
        ),
    ] = None,
    log_y: Annotated[
        bool | None, typer.Option("--log-y/--linear-y", help="Of pareto.", show_default="linear")
    ] = None,
    width: Annotated[
        str | None,
        typer.Option(
            "--width",
            metavar="MM",
            help="Printed width: single (88 mm), double (180 mm), or mm.",
            show_default="single; double for parallel",
        ),
    ] = None,
    font_size: Annotated[
        float | None,
        typer.Option("--font-size", metavar="PT", help="Printed, points.", show_default="8"),
    ] = None,
    font: Annotated[
        str | None, typer.Option("--font", help="sans or serif.", show_default="sans")
    ] = None,
    dpi: Annotated[int | None, typer.Option("--dpi", help="Of PNG.", show_default="300")] = None,
) -> None:
    """Draw a figure for a paper or a slide, in the size at which it is printed.

    pareto: trials and front. progress: hypervolume after each trial. importance: of parameters.
    parallel: coordinates. thresholds: scores of validation images of a trial. curves: a training.
    """
    from autosearch.api import figure_kinds, write_figure

    if kind not in figure_kinds() and Path(kind).is_dir():
        expected = f"the kind of figure first, and then folders: {_KINDS}"
        raise ConfigError("KIND", kind, expected)
    written = write_figure(
        directories, kind, out, width=_millimetres(width), font_size=font_size, font=font,
        dpi=dpi, labels=labels or None, trial=trial, x=x, y=y, log_x=log_x, log_y=log_y,
    )  # fmt: skip
    print(f"{written}  ({written.stat().st_size / 1e3:.0f} kB)")


def _millimetres(text: str | None) -> float | str | None:
    """What ``--width`` says: a number where it is one."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text
