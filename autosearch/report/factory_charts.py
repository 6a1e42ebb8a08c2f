"""Figures of an estimate, as plotly draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from autosearch.metrics import Criterion, cost_of
from autosearch.storage import Repeat, ScoredImages
from autosearch.study import DECIDED, PER, Estimate, Terms, labels_of

_LAYOUT = {
    "template": "plotly_white",
    "margin": {"l": 55, "r": 15, "t": 30, "b": 45},
    "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
}
_HONEST, _NAIVE, _GREY = "#4477AA", "#EE6677", "#999999"
_RATES = ("image_auroc", "rwap", "sensitivity", "specificity", "balanced_accuracy", "precision")
_GRID = np.linspace(0, 1, 201)
_BAND = "rgba(68, 119, 170, 0.2)"

Curve = NDArray[np.float64]


def points(estimate: Estimate) -> go.Figure:
    """Repeats as points, with mean and interval, beside the in-sample means."""
    shown = [name for name in _RATES if estimate.over[name] is not None]
    figure = go.Figure()
    spread = np.linspace(-0.18, 0.18, len(estimate.repeats))
    figure.add_scatter(
        x=[place + by for place, _ in enumerate(shown) for by in spread],
        y=[_plain(one.values[name]) for name in shown for one in estimate.repeats],
        text=[f"repeat {one.number}" for _ in shown for one in estimate.repeats],
        mode="markers",
        marker={"color": _GREY, "size": 6},
        name="repeats",
        hovertemplate="%{text}: %{y:.4g}<extra></extra>",
    )
    means = {name: one.mean for name in shown if (one := estimate.over[name])}
    ends = {name: estimate.ends(name) for name in shown}
    figure.add_scatter(
        x=list(range(len(shown))),
        y=list(means.values()),
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [ends[name][1] - mean for name, mean in means.items()],
            "arrayminus": [mean - ends[name][0] for name, mean in means.items()],
        },
        mode="markers",
        marker={"color": _HONEST, "size": 10, "symbol": "diamond"},
        name="mean, 95 % interval",
        hovertemplate="%{y:.4g}<extra>mean</extra>",
    )
    decided = [name for name in shown if name in DECIDED]
    figure.add_scatter(
        x=[shown.index(name) + 0.28 for name in decided],
        y=[_plain(estimate.in_sample[name]) for name in decided],
        mode="markers",
        marker={"color": _NAIVE, "size": 9, "symbol": "x"},
        name="threshold chosen in-sample",
        hovertemplate="%{y:.4g}<extra>in-sample</extra>",
    )
    titles = [name.replace("_", " ") for name in shown]
    figure.update_xaxes(tickvals=list(range(len(shown))), ticktext=titles, automargin=True)
    figure.update_yaxes(title="value", range=[-0.03, 1.05])
    return _laid_out(figure)


def thresholds(estimate: Estimate, repeats: Mapping[int, Repeat]) -> go.Figure:
    """Thresholds by repeat among the scores of the inference set.

    Scores of two trainings have scales of their own, so each repeat's are shown less the median
    and over the spread (quartile to quartile) of the threshold set's normal ones.
    """
    figure = go.Figure()
    numbers = [one.number for one in estimate.repeats]
    scales = {number: _scale(repeats[number].threshold_set) for number in numbers}
    for name, anomalous, colour in (("normal", False, _HONEST), ("anomalous", True, _NAIVE)):
        found = {n: _scores(repeats[n].inference_set, anomalous, *scales[n]) for n in numbers}
        figure.add_box(
            x=[number for number, scores in found.items() for _ in scores],
            y=[score for scores in found.values() for score in scores],
            name=name,
            marker_color=colour,
            boxpoints=False,
            offsetgroup=name,
        )
    cuts = [
        (one.threshold.value - scales[one.number][0]) / scales[one.number][1]
        for one in estimate.repeats
    ]
    figure.add_scatter(
        x=numbers, y=cuts, mode="markers", name="threshold",
        marker={"symbol": "line-ew-open", "size": 34, "color": "#222222", "line": {"width": 3}},
        hovertemplate="repeat %{x}: threshold %{y:.3g}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(boxmode="group")
    figure.update_xaxes(title="repeat", dtick=1)
    figure.update_yaxes(title="score, in spreads of normal ones")
    return _laid_out(figure)


def roc(repeats: Mapping[int, Repeat], terms: Terms, estimate: Estimate) -> go.Figure:
    """Mean ROC over images, with the band between the lowest and the highest repeat."""
    curves = np.stack([_roc(found.inference_set) for found in repeats.values()])
    figure = go.Figure()
    x = [*_GRID, *_GRID[::-1]]
    y = [*curves.max(axis=0), *curves.min(axis=0)[::-1]]
    figure.add_scatter(
        x=x, y=_rounded(y), fill="toself", fillcolor=_BAND, line_width=0, name="all repeats",
        hoverinfo="skip",
    )  # fmt: skip
    figure.add_scatter(
        x=_rounded(_GRID), y=_rounded(curves.mean(axis=0)), mode="lines", line_color=_HONEST,
        name="mean",
    )  # fmt: skip
    figure.add_scatter(
        x=[one.reached.fpr for one in estimate.repeats],
        y=[one.reached.tpr for one in estimate.repeats],
        text=[f"repeat {one.number}" for one in estimate.repeats],
        mode="markers",
        marker={"color": "#222222", "size": 7},
        name=f"at the threshold ({terms.criterion.rule})",
        hovertemplate="%{text}: FPR %{x:.3f}, TPR %{y:.3f}<extra></extra>",
    )
    figure.update_xaxes(title="false-positive rate", range=[-0.01, 1.01])
    figure.update_yaxes(title="true-positive rate", range=[-0.01, 1.01])
    return _laid_out(figure)


def costs(
    repeats: Mapping[int, Repeat], estimate: Estimate, missed: float, alarm: float
) -> go.Figure:
    """Expected cost of 1,000 parts on the inference set, over thresholds.

    Thresholds are named by the share of the threshold set's normal images that lie above them,
    which is comparable between repeats.
    """
    terms = estimate.terms
    criterion = Criterion("cost", prevalence=terms.prevalence, cost_fn=missed, cost_fp=alarm)
    curves = np.stack([_costs(found, criterion) for found in repeats.values()])
    figure = go.Figure()
    for curve in curves:
        figure.add_scatter(
            x=_rounded(_GRID), y=_rounded(curve), mode="lines", line={"color": _GREY, "width": 1},
            opacity=0.6, showlegend=False, hoverinfo="skip",
        )  # fmt: skip
    figure.add_scatter(
        x=_rounded(_GRID), y=_rounded(curves.mean(axis=0)), mode="lines",
        line={"color": _HONEST, "width": 3}, name="mean over repeats",
    )  # fmt: skip
    found = [
        (_share_above(repeats[one.number].threshold_set, one.threshold.value), one)
        for one in estimate.repeats
    ]
    figure.add_scatter(
        x=[share for share, _ in found],
        y=[
            PER
            * float(cost_of(np.array(1 - one.reached.tpr), np.array(one.reached.fpr), criterion))
            for _, one in found
        ],
        mode="markers",
        marker={"color": "#222222", "size": 7},
        name=f"chosen ({terms.criterion.rule})",
    )
    figure.update_xaxes(title="normal images above the threshold")
    figure.update_yaxes(
        title=f"cost of 1,000 parts ({missed:g} a miss, {alarm:g} an alarm)", rangemode="tozero"
    )
    return _laid_out(figure)


def _laid_out(figure: go.Figure) -> go.Figure:
    figure.update_layout(**_LAYOUT)
    return figure


def _scores(images: ScoredImages, anomalous: bool, middle: float, spread: float) -> list[float]:
    """Scores of one kind on a scale of their own."""
    chosen = np.array(images.scores)[labels_of(images) == anomalous]
    return _rounded((chosen - middle) / spread)


def _scale(images: ScoredImages) -> tuple[float, float]:
    """Median and quartile distance of normal scores; 1 where these do not vary."""
    normal = np.array(images.scores)[~labels_of(images)]
    low, middle, high = np.quantile(normal, [0.25, 0.5, 0.75])
    return float(middle), float(high - low) or 1.0


def _rates(images: ScoredImages, cuts: Curve) -> tuple[Curve, Curve]:
    """True- and false-positive rates at thresholds."""
    scores, labels = np.array(images.scores), labels_of(images)
    called = scores[:, None] >= cuts[None]
    return called[labels].mean(axis=0), called[~labels].mean(axis=0)


def _roc(images: ScoredImages) -> Curve:
    """True-positive rates at the false-positive rates of the grid, linear in between."""
    cuts = np.append(np.inf, np.unique(images.scores)[::-1])
    tpr, fpr = _rates(images, cuts)
    # Of several heights at one place the highest; only at 0 the lowest counts as well.
    curve: Curve = np.interp(_GRID, *_highest(fpr, tpr))
    return curve


def _highest(x: Curve, y: Curve) -> tuple[Curve, Curve]:
    places = np.unique(x)
    return places, np.array([y[x == place].max() for place in places])


def _costs(found: Repeat, criterion: Criterion) -> Curve:
    scores = np.array(found.threshold_set.scores)[~labels_of(found.threshold_set)]
    cuts = np.quantile(scores, 1 - _GRID)
    cuts[0] = np.nextafter(cuts[0], math.inf)
    tpr, fpr = _rates(found.inference_set, cuts)
    curve: Curve = PER * cost_of(1 - tpr, fpr, criterion)
    return curve


def _share_above(images: ScoredImages, cut: float) -> float:
    return float(np.mean(np.array(images.scores)[~labels_of(images)] >= cut))


def _rounded(values: Curve | Sequence[float]) -> list[float]:
    return [round(float(value), 5) for value in values]


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
