"""Charts as plotly draws them: for notebooks, and as pages that open without network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from autosearch.report.chart import (
    BETTER_ON_TOP,
    Bars,
    Chart,
    Counts,
    Dimension,
    Drawing,
    Panel,
    Series,
)

_LAYOUT = {"template": "plotly_white", "margin": {"l": 60, "r": 20, "t": 50, "b": 50}}
_SHAPES = {"": "linear", "straight": "linear", "steps": "hv", "steps-back": "vh"}
_PALE, _OVERLAID = 0.5, 0.6
_FITTING, _DIMENSION = 14, 70
"""Axes that fit side by side, and the width of each where there are more, pixels."""

_PANEL = 240
"""Height of one of several panels, pixels."""


def to_plotly(drawing: Drawing) -> go.Figure:
    """Draw a chart.

    Returns:
        A figure with a trace for each series, in its order.
    """
    if not isinstance(drawing, Chart):
        line = {"color": drawing.values, "colorscale": "Viridis", "showscale": True}
        line["colorbar"] = {"title": {"text": drawing.name}}
        line["reversescale"] = drawing.dimensions[-1].upside_down
        dimensions = [_axis(dimension) for dimension in drawing.dimensions]
        tilted = {"labelangle": -30, "labelside": "bottom"}
        figure = go.Figure(go.Parcoords(line=line, dimensions=dimensions, **tilted))
        figure.update_layout(title=f"{drawing.title} ({BETTER_ON_TOP})", **_LAYOUT)
        figure.update_layout(margin_b=140)
        if len(dimensions) > _FITTING:  # A page is scrolled rather than its names overlaid.
            figure.update_layout(width=_DIMENSION * len(dimensions))
        return figure
    panels = drawing.panels
    several = len(panels) > 1
    figure = make_subplots(
        rows=len(panels),
        cols=1,
        shared_xaxes=drawing.shared,
        subplot_titles=[panel.title for panel in panels] if several else None,
    )
    for row, panel in enumerate(panels, 1):
        _draw(figure, panel, row, several)
    overlaid = any(isinstance(one, Counts) for panel in panels for one in panel.shown)
    figure.update_layout(
        title=drawing.title, barmode="overlay" if overlaid else "group", **_LAYOUT
    )
    if any(isinstance(one, Bars) for panel in panels for one in panel.shown):
        figure.update_layout(legend_traceorder="reversed")  # As bars of a group are stacked.
    if several:
        figure.update_layout(height=_PANEL * len(panels) + 100)
    return figure


def _draw(figure: go.Figure, panel: Panel, row: int, several: bool) -> None:
    for one in panel.shown:
        legend: dict[str, Any] = {"name": one.name, "showlegend": bool(one.name)}
        if several and panel.legend:
            group = {"legendgroup": str(row), "legendgrouptitle": {"text": panel.title}}
            legend |= group
        elif several:
            legend |= {"legendgroup": one.name, "showlegend": row == 1}
        figure.add_trace(_trace(one, legend), row=row, col=1)
    figure.update_xaxes(title=panel.x, type=_type(panel.log_x, panel.shown), row=row, col=1)
    figure.update_yaxes(title=panel.y, type=_type(panel.log_y, panel.shown), row=row, col=1)
    if any(isinstance(one, Bars) for one in panel.shown):
        figure.update_xaxes(type="linear", row=row, col=1)
    if panel.from_zero:
        figure.update_yaxes(rangemode="tozero", row=row, col=1)


def _type(log: bool, shown: Sequence[Series | Bars | Counts]) -> str:
    return "log" if log else "-" if any(isinstance(one, Bars) for one in shown) else "linear"


def _trace(one: Series | Bars | Counts, legend: Mapping[str, Any]) -> Any:
    if isinstance(one, Bars):
        return go.Bar(
            x=list(one.lengths), y=list(one.names), orientation="h", marker_color=one.colour,
            **legend,
        )  # fmt: skip
    if isinstance(one, Counts):
        bins = list(pairwise(one.edges))
        return go.Bar(
            x=[(low + high) / 2 for low, high in bins],
            y=list(one.counts),
            width=[high - low for low, high in bins],
            marker_color=one.colour,
            opacity=_OVERLAID,
            hovertemplate="%{x:.4g}: %{y}<extra>" + one.name + "</extra>",
            **legend,
        )
    parts = (("lines", one.join), ("markers", one.symbol), ("text", one.texts))
    return go.Scatter(
        x=list(one.x),
        y=list(one.y),
        customdata=list(one.numbers) or None,
        text=list(one.texts) or None,
        textposition="top center" if one.texts else None,
        mode="+".join(name for name, wanted in parts if wanted),
        line={"shape": _SHAPES[one.join], "color": one.colour, "dash": one.dash},
        marker={"symbol": one.symbol, "color": one.colour, "size": 8} if one.symbol else None,
        opacity=_PALE if one.pale else 1.0,
        connectgaps=True,
        hovertemplate=one.hover,
        **legend,
    )


def _axis(dimension: Dimension) -> dict[str, Any]:
    axis: dict[str, Any] = {"label": dimension.name, "values": list(dimension.places)}
    if dimension.ticks is not None:
        axis |= {"tickvals": list(dimension.ticks), "ticktext": list(dimension.texts)}
    if dimension.upside_down:
        axis["range"] = [max(dimension.places), min(dimension.places)]
    return axis
