"""Single figures of a study as plotly draws them, from the records that pages show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from autosearch.contracts import SCORED
from autosearch.errors import ConfigError, did_you_mean
from autosearch.report.curves import read_curves
from autosearch.report.info import CURVES, Info, artifact_path
from autosearch.storage import StudyFolder

_LAYOUT = {"template": "plotly_white", "margin": {"l": 60, "r": 20, "t": 50, "b": 50}}


def draw(info: Info, kind: str, folder: StudyFolder, **options: Any) -> go.Figure:
    """Draw a study.

    Args:
        info: What `autosearch.report.study_info` says of it.
        kind: A name of `KINDS`.
        folder: The study's, for the curves of a training.
        options: ``x`` and ``y`` of ``pareto``, ``trial`` of ``curves``.

    Raises:
        ConfigError: There is no such kind, option or figure, or a trial has no curves.
    """
    if kind not in KINDS:
        raise ConfigError("figure", kind, f"a kind of figure; {did_you_mean(kind, KINDS)}")
    maker, allowed = KINDS[kind]
    for name in options:
        if name not in allowed:
            expected = f"an option of {kind}: {', '.join(allowed) or 'it has none'}"
            raise ConfigError(f"figure.{name}", options[name], expected)
    figure = maker(info, folder, options)
    figure.update_layout(title=f"{info['title']}: {kind}", **_LAYOUT)
    return figure


def _pareto(info: Info, folder: StudyFolder, options: Mapping[str, Any]) -> go.Figure:
    """All trials with values in two figures, the front, and ensembles that were evaluated."""
    names = [objective["name"] for objective in info["objectives"]]
    usual = {"x": names[0], "y": names[1] if len(names) > 1 else "number"}
    x, y = (str(options.get(axis, usual[axis])) for axis in "xy")
    columns = {"number": info["trials"]["number"], **info["trials"]["figures"]}
    for axis, name in (("x", x), ("y", y)):
        if name not in columns:
            raise ConfigError(f"figure.{axis}", name, f"a figure; {did_you_mean(name, columns)}")
    numbers = info["trials"]["number"]
    front = set(info["front"])
    rows = _scored(info)
    figure = go.Figure()
    for label, chosen in (
        ("trials", [i for i in rows if numbers[i] not in front]),
        ("front", [i for number in info["front"] for i in rows if numbers[i] == number]),
    ):
        figure.add_scatter(
            x=[columns[x][i] for i in chosen],
            y=[columns[y][i] for i in chosen],
            customdata=[numbers[i] for i in chosen],
            mode="lines+markers" if label == "front" else "markers",
            line_shape="hv",
            marker_opacity=1.0 if label == "front" else 0.5,
            name=label,
            hovertemplate=f"trial %{{customdata}}<br>{x} %{{x}}<br>{y} %{{y}}<extra></extra>",
        )
    several = [e for e in info["ensembles"] if {x, y} <= e["figures"].keys()]
    if several:
        figure.add_scatter(
            x=[ensemble["figures"][x] for ensemble in several],
            y=[ensemble["figures"][y] for ensemble in several],
            text=[ensemble["name"] for ensemble in several],
            mode="markers+text",
            textposition="top center",
            marker_symbol="diamond",
            name="ensembles",
            hovertemplate=f"ensemble %{{text}}<br>{x} %{{x}}<br>{y} %{{y}}<extra></extra>",
        )
    figure.update_xaxes(title=_axis(info, x))
    figure.update_yaxes(title=_axis(info, y))
    return figure


def _progress(info: Info, folder: StudyFolder, options: Mapping[str, Any]) -> go.Figure:
    """Hypervolume after each trial."""
    if info["hypervolume"] is None:
        raise ConfigError("figure", "progress", "a study of at most three objectives")
    figure = go.Figure()
    volume = info["hypervolume"]
    figure.add_scatter(x=list(range(1, len(volume) + 1)), y=volume, line_shape="hv", mode="lines")
    figure.update_xaxes(title="trials")
    figure.update_yaxes(title="hypervolume, share of the final box", rangemode="tozero")
    return figure


def _importance(info: Info, folder: StudyFolder, options: Mapping[str, Any]) -> go.Figure:
    """Which parameters tell the best trials from the rest, by objective."""
    if not info["importance"]:
        raise ConfigError("figure", "importance", "ten or more complete trials that differ")
    figure = go.Figure()
    for objective, shares in info["importance"].items():
        names = list(shares)[::-1]
        figure.add_bar(x=[shares[n] for n in names], y=names, orientation="h", name=objective)
    figure.update_layout(barmode="group")
    figure.update_xaxes(title="share of the importance (PED-ANOVA)")
    return figure


def _parallel(info: Info, folder: StudyFolder, options: Mapping[str, Any]) -> go.Figure:
    """Parameters and objectives as parallel coordinates, coloured by the last objective."""
    names = [objective["name"] for objective in info["objectives"]]
    columns = info["trials"]["figures"]
    rows = _scored(info)
    dimensions = [
        _dimension(name, [values[i] for i in rows])
        for name, values in info["trials"]["params"].items()
        if len({str(values[i]) for i in rows}) > 1
    ]
    dimensions += [_dimension(name, [columns[name][i] for i in rows]) for name in names]
    colours = [columns[names[-1]][i] for i in rows]
    line = {"color": colours, "colorscale": "Viridis", "showscale": True}
    return go.Figure(go.Parcoords(line=line, dimensions=dimensions))


def _curves(info: Info, folder: StudyFolder, options: Mapping[str, Any]) -> go.Figure:
    """The curves of one training."""
    number = options.get("trial")
    if not isinstance(number, int):
        raise ConfigError("figure.trial", number, "the number of a trial that trained")
    path = artifact_path(folder, number, CURVES)
    found = read_curves(path) if path else None
    if found is None:
        raise ConfigError("figure.trial", number, "a trial that left curves of its training")
    titles = [panel["title"] for panel in found["panels"]]
    figure = make_subplots(rows=len(titles), cols=1, shared_xaxes=True, subplot_titles=titles)
    for row, panel in enumerate(found["panels"], 1):
        for name, values in panel["series"].items():
            figure.add_scatter(
                x=found["at"], y=values, name=name, mode="lines", connectgaps=True, row=row, col=1
            )
    figure.update_xaxes(title=found["x"], row=len(titles), col=1)
    return figure


def _scored(info: Info) -> list[int]:
    """Places of the trials with values."""
    scored = {info["statuses"].index(str(status)) for status in SCORED}
    return [i for i, status in enumerate(info["trials"]["status"]) if status in scored]


def _axis(info: Info, name: str) -> str:
    unit = info["figures"].get(name, {}).get("unit")
    return f"{name} ({unit})" if unit else name


def _dimension(name: str, values: list[Any]) -> dict[str, Any]:
    """One axis of parallel coordinates; what is no number gets places of its own."""
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return {"label": name, "values": values}
    texts = sorted({str(value) for value in values})
    places = [texts.index(str(value)) for value in values]
    return {
        "label": name, "values": places, "tickvals": list(range(len(texts))), "ticktext": texts,
    }  # fmt: skip


_Maker = Callable[[Info, StudyFolder, Mapping[str, Any]], go.Figure]

KINDS: dict[str, tuple[_Maker, tuple[str, ...]]] = {
    "pareto": (_pareto, ("x", "y")),
    "progress": (_progress, ()),
    "importance": (_importance, ()),
    "parallel": (_parallel, ()),
    "curves": (_curves, ("trial",)),
}
"""Kinds of figures, and the options that each has."""
