"""Charts as files for papers and slides: PNG, SVG and PDF by matplotlib, HTML by plotly.

Plotly itself makes pictures through kaleido, which starts a Chrome that must be installed beside
it; matplotlib needs no browser, no display and no network, and embeds its fonts. So pictures are
drawn by it from the same `Chart`, in the size at which they will be printed: a font of 8 points
is one of 8 points on paper. Files of equal charts are equal, for they hold no date.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autosearch.errors import ConfigError
from autosearch.report.chart import (
    BETTER_ON_TOP,
    Bars,
    Counts,
    Dimension,
    Drawing,
    Panel,
    Parallel,
    Series,
)

WIDTHS = {"single": 88.0, "double": 180.0}
"""Widths of one and of two columns of a journal, mm."""

FONTS = {
    "sans": {"font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"]},
    "serif": {"font.family": "serif", "font.serif": ["STIXGeneral", "DejaVu Serif"]},
}
"""Fonts that matplotlib brings along, so that a figure looks alike everywhere."""

PICTURES = ("png", "svg", "pdf")
SUFFIXES = (*PICTURES, "html")

_MM = 1 / 25.4
_RANGES = {"width": (30.0, 500.0), "font_size": (4.0, 30.0), "dpi": (30, 1200)}
_DASHES: dict[str, Any] = {
    "solid": "-", "dash": "--", "dot": ":", "dashdot": "-.", "longdash": (0, (8, 3)),
}  # fmt: skip
_SYMBOLS = {
    "circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "star": "*", "": "",
}  # fmt: skip
_STEPS = {"": "default", "straight": "default", "steps": "steps-post", "steps-back": "steps-pre"}
_PALE, _OVERLAID = 0.5, 0.6
_MANY_LINES, _MOST_TICKS, _AXES = 500, 8, 12
_ROW = 0.353
"""Height of a point, mm."""
_STYLE = {
    "text.parse_math": False,  # Names are no formulas.
    "svg.fonttype": "none",
    "svg.hashsalt": "autosearch",
    "pdf.fonttype": 42,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.0,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True)
class Print:
    """How a picture is printed.

    Attributes:
        width: mm, or a name of `WIDTHS`; by default one column, and two for parallel coordinates.
        font_size: Points.
        font: A name of `FONTS`.
        dpi: Of PNG.

    Raises:
        ConfigError: One is out of range.
    """

    width: float | str | None = None
    font_size: float = 8.0
    font: str = "sans"
    dpi: int = 300

    def __post_init__(self) -> None:
        if self.font not in FONTS:
            raise ConfigError("--font", self.font, f"one of {', '.join(FONTS)}")
        names = " or ".join(WIDTHS)
        for name, unit in (("width", f" mm, {names}"), ("font_size", " points"), ("dpi", "")):
            low, high = _RANGES[name]
            value = getattr(self, name)
            if name == "width" and (value is None or value in WIDTHS):
                continue
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not low <= value <= high:
                option = f"--{name.replace('_', '-')}"
                raise ConfigError(option, value, f"{low:g} to {high:g}{unit}")

    def millimetres(self, drawing: Drawing) -> float:
        """Width of a picture."""
        if self.width is None:
            return WIDTHS["double" if isinstance(drawing, Parallel) else "single"]
        return WIDTHS[self.width] if isinstance(self.width, str) else float(self.width)


def suffix_of(path: Path) -> str:
    """What kind of file a name asks for.

    Raises:
        ConfigError: None that can be written, or matplotlib is needed and not installed.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in SUFFIXES:
        raise ConfigError("--out", str(path), f"a file ending in .{', .'.join(SUFFIXES)}")
    if kind in PICTURES:
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            expected = "one ending in .html, or pip install 'autosearch[figures]' (matplotlib)"
            raise ConfigError("--out", str(path), expected) from None
    return kind


def picture(drawing: Drawing, kind: str, how: Print) -> bytes:
    """Draw a chart as one of `PICTURES`."""
    import matplotlib

    style = {**_STYLE, **FONTS[how.font], "font.size": how.font_size}
    sizes = ("axes.titlesize", "axes.labelsize", "legend.fontsize", "xtick.labelsize",
             "ytick.labelsize")  # fmt: skip
    out = io.BytesIO()
    with matplotlib.rc_context({**style, **dict.fromkeys(sizes, how.font_size)}):
        figure = to_matplotlib(drawing, how)
        undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
        figure.savefig(out, format=kind, dpi=how.dpi, metadata=undated[kind])
    return out.getvalue()


def to_matplotlib(drawing: Drawing, how: Print) -> Any:
    """The chart as a figure of matplotlib, of the size at which it is printed."""
    from matplotlib.figure import Figure

    width = how.millimetres(drawing)
    row = _ROW * how.font_size
    if isinstance(drawing, Parallel):
        figure = Figure(figsize=(width * _MM, min(0.5 * width, 100) * _MM))
        _parallel(figure, drawing)
        return figure
    number = len(drawing.panels)
    heights = [_height(panel, width, row, number) for panel in drawing.panels]
    # One legend for all panels where their series have the same names.
    own = any(panel.legend for panel in drawing.panels)
    names = [one.name for one in drawing.panels[0].shown if one.name]
    columns = _columns(names, width, row)
    above = 0 if own or len(names) < 2 else math.ceil(len(names) / columns) * 1.6 * row
    figure = Figure(figsize=(width * _MM, (sum(heights) + above) * _MM))
    axes = figure.subplots(number, 1, squeeze=False, sharex=drawing.shared, height_ratios=heights)[
        :, 0
    ]
    for panel, ax in zip(drawing.panels, axes, strict=True):
        _panel(ax, panel, number > 1)
        if _covered(panel):
            _legend_above(ax, panel, number > 1, width, row)
        elif panel.legend:
            ax.legend(loc="best", handlelength=2.2)
    if above:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=columns, handlelength=2.2)
    return figure


def _height(panel: Panel, width: float, row: float, several: int) -> float:
    """Height of a panel, mm: bars get a line each; else it is flatter where there are several."""
    bars = [one for one in panel.shown if isinstance(one, Bars)]
    if bars:
        return 5 * row + len(bars[0].names) * row * max(1.5, 0.9 * len(bars))
    above = 0.0
    if _covered(panel):
        names = [one.name for one in panel.shown]
        lines = math.ceil(len(names) / _columns(names, width, row)) + (several > 1)
        above = 1.6 * row * lines
    return max(32.0, min(width, 140.0) * (0.72 if several == 1 else 0.5)) + above


def _covered(panel: Panel) -> bool:
    """Whether bars leave a legend no room among them."""
    return panel.legend and any(isinstance(one, Counts) for one in panel.shown)


def _legend_above(ax: Any, panel: Panel, several: bool, width: float, row: float) -> None:
    columns = _columns([one.name for one in panel.shown], width, row)
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=columns,
        handlelength=2.2, alignment="left", title=panel.title if several else None,
    )  # fmt: skip


def _columns(names: Sequence[str], width: float, row: float) -> int:
    """Columns of a legend that fit beside each other."""
    widest = max(map(len, names), default=0) * 0.58 * row + 4 * row
    return max(1, min(len(names), int(width // widest)))


def _panel(ax: Any, panel: Panel, several: bool) -> None:
    bars = [one for one in panel.shown if isinstance(one, Bars)]
    for one in panel.shown:
        if isinstance(one, Series):
            _series(ax, one)
        elif isinstance(one, Counts):
            ax.stairs(one.counts, one.edges, fill=True, alpha=_OVERLAID, color=one.colour,
                      label=one.name)  # fmt: skip
            ax.stairs(one.counts, one.edges, color=one.colour, label="_")
    for place, one in enumerate(bars):
        high = 0.8 / len(bars)
        # The first of a group is its topmost, as in the legend.
        at = np.arange(len(one.names)) + 0.4 - high * (place + 0.5)
        ax.barh(at, one.lengths, high, color=one.colour, label=one.name)
    if bars:
        ax.set_yticks(range(len(bars[0].names)), bars[0].names)
        ax.tick_params(axis="y", length=0)
        ax.grid(False, axis="y")
        ax.set_ylim(-0.6, len(bars[0].names) - 0.4)
    if panel.log_x:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
    if panel.log_y:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
    if panel.from_zero:
        ax.set_ylim(bottom=0)
    ax.set_xlabel(panel.x)
    ax.set_ylabel(panel.y)
    if several and panel.title and not _covered(panel):
        ax.set_title(panel.title, loc="left")


def _series(ax: Any, one: Series) -> None:
    known = [(x, y) for x, y in zip(one.x, one.y, strict=True) if x is not None and y is not None]
    hollow = one.symbol.endswith("-open")
    symbol = one.symbol.removesuffix("-open")
    (line,) = ax.plot(
        [x for x, _ in known],
        [y for _, y in known],
        linestyle=_DASHES[one.dash] if one.join else "",
        drawstyle=_STEPS[one.join],
        marker=_SYMBOLS.get(symbol, "o"),
        color=one.colour,
        markerfacecolor="none" if hollow else one.colour,
        # Hollow squares and triangles lie around points that they mark.
        markersize=6 if hollow and symbol != "circle" else None,
        clip_on=not symbol,
        alpha=_PALE if one.pale else 1.0,
        label=one.name or "_",
        zorder=1.5 if one.pale else 2,
    )
    line.set_in_layout(False)  # Markers that reach over an edge make no room around it.
    for (x, y), text in zip(known, one.texts, strict=False):
        ax.annotate(text, (x, y), (0, 4), textcoords="offset points", ha="center")


def _parallel(figure: Any, drawing: Parallel) -> None:
    """A line for each trial, the best in front, through axes that each have their own scale."""
    from matplotlib.collections import LineCollection

    ax = figure.subplots()
    dimensions, falling = _most_important(drawing.dimensions), drawing.dimensions[-1].upside_down
    left = len(drawing.dimensions) - len(dimensions)
    without = f"; without the {left} parameters that matter least" if left else ""
    ax.set_xlabel(BETTER_ON_TOP + without)
    heights = np.array([_heights(one) for one in dimensions])
    values = np.array(drawing.values, dtype=float)
    order = np.argsort(-values if falling else values, kind="stable")
    at = np.arange(len(heights))
    lines = LineCollection(
        [np.column_stack([at, heights[:, trial]]) for trial in order],
        array=values[order], cmap="viridis_r" if falling else "viridis", linewidths=0.7, alpha=0.7,
        rasterized=len(order) > _MANY_LINES,
    )  # fmt: skip
    ax.add_collection(lines)
    ax.vlines(at, 0, 1, color="#333333", linewidth=0.6)
    look = {
        "fontsize": 0.8 * float(ax.xaxis.label.get_size()),
        "va": "center",
        "bbox": {"fc": "white", "ec": "none", "alpha": 0.7, "pad": 0.3},
    }
    for place, one in enumerate(dimensions):
        for height, text in _ticks(one):
            ax.annotate(text, (place, height), (2, 0), textcoords="offset points", **look)
    ax.set_xticks(at, [one.name for one in dimensions], rotation=40, ha="right",
                  rotation_mode="anchor")  # fmt: skip
    ax.set_xlim(-0.2, len(at) - 0.5)
    ax.set_ylim(-0.05, 1.05)
    ax.grid(False)
    ax.yaxis.set_visible(False)
    ax.tick_params(axis="x", length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    bar = figure.colorbar(lines, ax=ax, label=drawing.name, pad=0.02, aspect=30)
    if falling:
        bar.ax.invert_yaxis()


def _most_important(dimensions: Sequence[Dimension]) -> list[Dimension]:
    """As many parameters as can be read on paper, in their order, and all objectives."""
    shares = [-one.importance for one in dimensions if one.importance is not None]
    order = sorted(range(len(shares)), key=lambda i: shares[i])[:_AXES]
    return [one for i, one in enumerate(dimensions) if one.importance is None or i in order]


def _heights(one: Dimension, at: Sequence[float] | None = None) -> np.ndarray[Any, Any]:
    """Of its values, or of others along it: from 0 to 1, in the middle where all are alike."""
    values = np.array(one.places if at is None else at, dtype=float)
    low, high = min(one.places), max(one.places)
    heights = (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
    return 1 - heights if one.upside_down else heights


def _ticks(one: Dimension) -> list[tuple[float, str]]:
    """Heights and texts along one axis: of few values all, else the ends."""
    texts = one.texts
    if one.ticks is None:
        values = sorted(set(one.places))
        texts = [f"{value:.4g}" for value in values]
        if len(values) > _MOST_TICKS or not all(float(value).is_integer() for value in values):
            values, texts = [values[0], values[-1]], [texts[0], texts[-1]]
    else:
        values = list(one.ticks)
        if len(values) > _MOST_TICKS:
            values, texts = [values[0], values[-1]], [texts[0], texts[-1]]
    return list(zip(_heights(one, values).tolist(), texts, strict=True))
