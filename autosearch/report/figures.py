"""Single figures of one study or several, from the records that pages show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from autosearch.errors import ConfigError, StudyError, did_you_mean
from autosearch.files import write_atomic
from autosearch.report import figures_of_trials as trials, figures_over_trials as over
from autosearch.report.chart import Drawing
from autosearch.report.figure_files import PICTURES, Print, picture, suffix_of
from autosearch.report.figure_plotly import to_plotly
from autosearch.report.shown import Shown

Options = Mapping[str, Any]


def chart(shown: Sequence[Shown], kind: str, **options: Any) -> Drawing:
    """What a figure shows.

    Args:
        shown: Studies, at least one.
        kind: A name of `KINDS`.
        options: Those that `KINDS` lists; None stands for one that was not given.

    Raises:
        ConfigError: There is no such kind, option or figure, or it takes one study alone.
        StudyError: A study has nothing of the kind that could be drawn.
    """
    if kind not in KINDS:
        raise ConfigError("figure", kind, f"a kind of figure; {did_you_mean(kind, KINDS)}")
    maker, allowed = KINDS[kind]
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if name not in allowed:
            expected = f"an option of {kind}: {', '.join(allowed) or 'it has none'}"
            raise ConfigError(f"figure.{name}", value, expected)
    return maker(shown, given)


KINDS: dict[str, tuple[Callable[[Sequence[Shown], Options], Drawing], tuple[str, ...]]] = {
    "pareto": (over.pareto, ("x", "y", "log_x", "log_y")),
    "progress": (over.progress, ()),
    "importance": (over.importance, ()),
    "parallel": (over.parallel, ()),
    "thresholds": (trials.thresholds, ("trial",)),
    "curves": (trials.curves, ("trial",)),
}
"""Kinds of figures, and the options that each has."""


def draw(shown: Sequence[Shown], kind: str, **options: Any) -> go.Figure:
    """A figure as plotly draws it; see `chart`."""
    return to_plotly(chart(shown, kind, **options))


def write_figure(
    shown: Sequence[Shown], kind: str, out: Path, how: Print | None = None, **options: Any
) -> Path:
    """Write a figure into a file; see `chart`.

    Args:
        shown: Studies, at least one.
        kind: A name of `KINDS`.
        out: The file, which ends in one of `autosearch.report.figure_files.SUFFIXES`; what is
            there is replaced.
        how: Size and font of a picture.
        options: See `chart`.

    Raises:
        ConfigError: As `chart`; or there is no such kind of file, or it has no print size.
        StudyError: As `chart`; or the file cannot be written.
    """
    suffix = suffix_of(out)
    if suffix not in PICTURES and how is not None:
        expected = "none of --width, --font-size, --font and --dpi beside it: pages fill a window"
        raise ConfigError("--out", str(out), expected)
    drawing = chart(shown, kind, **options)
    if suffix in PICTURES:
        content: bytes | str = picture(drawing, suffix, how or Print())
    else:
        content = to_plotly(drawing).to_html(include_plotlyjs=True)
    try:
        write_atomic(out, content)
    except OSError as error:
        raise StudyError(f"{out}: cannot be written ({error.strerror})") from None
    return out
