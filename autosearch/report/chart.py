"""What a figure shows, before anything draws it: numbers, names, colours.

Plotly draws it for notebooks and pages (`figure_plotly` beside this), matplotlib for files
(`figure_files`), so that both show the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#A87300", "#2C8FC9")
"""Okabe and Ito's (2008), told apart with every kind of colour vision. Two are darker than theirs,
so that each has 3:1 against white (WCAG 1.4.11)."""

GREY, DARK = "#767676", "#333333"

DASHES = ("solid", "dash", "dot", "dashdot", "longdash")

BETTER_ON_TOP = "objectives: better is on top"
"""What parallel coordinates say of their axes."""

Join = Literal["", "straight", "steps", "steps-back"]
"""How points are joined: not at all, straight, or by a level that holds until the next point, or
since the one before."""


@dataclass(frozen=True)
class Series:
    """Points that look alike.

    Attributes:
        name: In the legend; empty keeps it out.
        x: Numbers, None where there is none.
        y: As many.
        join: How they are joined.
        symbol: Plotly's name of a marker, such as ``circle-open``; empty draws none.
        colour: As ``#rrggbb``.
        dash: One of `DASHES`.
        numbers: Trial of each point, if it has one.
        texts: Beside each point, if anything.
        pale: Whether it stands behind others.
        hover: Plotly's template of what is shown of a point.
    """

    name: str
    x: Sequence[float | None]
    y: Sequence[float | None]
    join: Join = ""
    symbol: str = ""
    colour: str = COLOURS[0]
    dash: str = "solid"
    numbers: Sequence[int] = ()
    texts: Sequence[str] = ()
    pale: bool = False
    hover: str | None = None


@dataclass(frozen=True)
class Bars:
    """Lengths of horizontal bars, one for each name, the topmost last."""

    name: str
    lengths: Sequence[float]
    names: Sequence[str]
    colour: str = COLOURS[0]


@dataclass(frozen=True)
class Counts:
    """A histogram: ``(n + 1,)`` edges that rise, and ``(n,)`` counts."""

    name: str
    edges: Sequence[float]
    counts: Sequence[int]
    colour: str = COLOURS[0]


@dataclass(frozen=True)
class Panel:
    """Series that share two axes.

    Attributes:
        shown: From back to front.
        x: Title of the horizontal axis.
        y: Title of the vertical one.
        title: Above the panel, where there are several.
        log_x: Whether the horizontal axis is logarithmic.
        log_y: Whether the vertical one is.
        from_zero: Whether the vertical axis begins at 0.
        legend: Whether each of several panels has series of its own to name.
    """

    shown: Sequence[Series | Bars | Counts]
    x: str = ""
    y: str = ""
    title: str = ""
    log_x: bool = False
    log_y: bool = False
    from_zero: bool = False
    legend: bool = False


@dataclass(frozen=True)
class Chart:
    """Panels one below the other.

    Attributes:
        title: Of a page; files leave it to the caption.
        panels: At least one.
        shared: Whether their horizontal axes are one.
    """

    title: str
    panels: Sequence[Panel]
    shared: bool = False


@dataclass(frozen=True)
class Dimension:
    """One axis of parallel coordinates.

    Attributes:
        name: Of a parameter or figure.
        places: Height of each trial.
        ticks: Heights that have a text; None where heights are the values themselves.
        texts: Those texts.
        importance: Of a parameter, the largest share for any objective; None of an objective.
        upside_down: Whether it falls, as that of an objective to be minimised does, so that better
            is on top of all objectives.
    """

    name: str
    places: Sequence[float]
    ticks: Sequence[float] | None = None
    texts: Sequence[str] = ()
    importance: float | None = None
    upside_down: bool = False


@dataclass(frozen=True)
class Parallel:
    """Parallel coordinates: a line for each trial, coloured by a figure.

    Attributes:
        title: Of a page.
        dimensions: The axes.
        values: By which trials are coloured, those of the last axis; better is brighter.
        name: Of that figure.
    """

    title: str
    dimensions: Sequence[Dimension]
    values: Sequence[float]
    name: str


Drawing = Chart | Parallel


def titled(figures: Any, name: str) -> str:
    """Title of an axis: a figure with its unit.

    Args:
        figures: What `autosearch.report.study_info` knows of figures.
        name: Of one.
    """
    unit = figures.get(name, {}).get("unit")
    return f"{name} ({unit})" if unit else name
