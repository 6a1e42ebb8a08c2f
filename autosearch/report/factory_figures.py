"""Figures of checks that a trial went through, as plotly draws them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

_PANELS = (
    ("shift_in_spreads", "score of normal images, in spreads"),
    ("false_alarms", "false alarms at the threshold"),
    ("rwap", "rwAP"),
)
_COLOURS = {
    "turn": "#4477AA", "mirror": "#66CCEE", "shift": "#228833", "brightness": "#CCBB44",
    "contrast": "#EE6677", "blur": "#AA3377", "jpeg": "#777777", "noise": "#BBBBBB",
}  # fmt: skip
_OTHER, _ROW, _AROUND = "#000000", 22, 120


def invariance_bars(result: Mapping[str, Any]) -> go.Figure:
    """One bar a change: shift of normal scores, false alarms, and rwAP beside the unchanged.

    Args:
        result: An invariance report; see `autosearch.study.invariance`.

    Returns:
        A figure with three panels that share the names of the changes. The dotted line is what is
        reached without a change; a figure that is not defined has no bar.
    """
    changes, unchanged = result["changes"], result["unchanged"]
    figure = make_subplots(
        rows=1,
        cols=len(_PANELS),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=[title for _, title in _PANELS],
    )
    names = [change["name"] for change in changes]
    colours = [_COLOURS.get(change["family"], _OTHER) for change in changes]
    texts = [change["severity"] for change in changes]
    for column, (key, title) in enumerate(_PANELS, 1):
        figure.add_bar(
            x=[change[key] for change in changes],
            y=names,
            orientation="h",
            marker_color=colours,
            text=texts,
            textposition="none",
            hovertemplate=f"%{{y}} (%{{text}})<br>{title} %{{x:.3g}}<extra></extra>",
            showlegend=False,
            row=1,
            col=column,
        )
        if unchanged[key] is not None:
            figure.add_vline(
                x=unchanged[key], line_dash="dot", line_color="#333333", row=1, col=column
            )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(range=[0, 1], row=1, col=2)
    figure.update_xaxes(rangemode="tozero", row=1, col=3)
    figure.update_layout(
        template="plotly_white",
        height=_AROUND + _ROW * len(names),
        margin={"l": 140, "r": 20, "t": 50, "b": 40},
    )
    return figure
