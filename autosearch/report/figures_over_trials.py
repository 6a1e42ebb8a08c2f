"""Figures over all trials of studies: front, progress, importance, parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from autosearch.errors import ConfigError, StudyError, did_you_mean
from autosearch.report.analysis import MOST_OBJECTIVES, hypervolume_curve, value_box
from autosearch.report.chart import (
    COLOURS,
    DARK,
    DASHES,
    GREY,
    Bars,
    Chart,
    Dimension,
    Join,
    Panel,
    Parallel,
    Series,
    titled,
)
from autosearch.report.shown import Shown, only

_NUMBER = "number"
_WIDE = 30
"""What a horizontal axis spans, largest over smallest, before it is logarithmic; as in pages."""

_BARS = 12
"""Parameters of importance that are drawn, the most important; as in pages."""

Options = Mapping[str, Any]


def pareto(shown: Sequence[Shown], options: Options) -> Chart:
    """Trials with values in two figures, fronts, first trials, and ensembles that were evaluated.

    The front is joined where both figures are all of the study's objectives.
    """
    names = shown[0].objectives
    usual = {"x": names[0], "y": names[1] if len(names) > 1 else _NUMBER}
    x, y = (str(options.get(axis, usual[axis])) for axis in "xy")
    known: list[float] = []
    layers: tuple[list[Series], ...] = ([], [], [])
    for place, study in enumerate(shown):
        columns = {_NUMBER: study.info["trials"]["number"], **study.info["trials"]["figures"]}
        for axis, name in (("x", x), ("y", y)):
            if name not in columns:
                expected = f"a figure of {study.name}; {did_you_mean(name, columns)}"
                raise ConfigError(f"figure.{axis}", name, expected)
        both = [i for i in study.scored if columns[x][i] is not None and columns[y][i] is not None]
        known += [columns[x][i] for i in both]
        several = place if len(shown) > 1 else None
        for layer, found in zip(
            layers, _points(study, (x, y), columns, both, several), strict=True
        ):
            layer += found
    if not known:
        raise StudyError(f"{shown[0].folder.path}: no trial has both {x} and {y}")
    wide = min(known) > 0 and max(known) / min(known) > _WIDE
    figures = shown[0].info["figures"]
    panel = Panel(
        [one for layer in layers for one in layer],
        titled(figures, x),
        titled(figures, y),
        log_x=bool(options.get("log_x", wide)),
        log_y=bool(options.get("log_y", False)),
    )
    return Chart(_title(shown, "pareto"), [panel])


def _points(
    study: Shown,
    axes: tuple[str, str],
    columns: Mapping[str, Sequence[float]],
    rows: Sequence[int],
    place: int | None,
) -> tuple[list[Series], list[Series], list[Series]]:
    """Dominated trials, front, and what is marked or lies beside them, from back to front.

    Args:
        study: Theirs.
        axes: Names of the two figures.
        columns: All figures.
        rows: Places of the trials that have both.
        place: The study's among several.
    """
    x, y = axes
    numbers, info = study.info["trials"]["number"], study.info
    hover = f"trial %{{customdata}}<br>{x} %{{x}}<br>{y} %{{y}}<extra></extra>"
    several = place is not None
    colour = COLOURS[(place or 0) % len(COLOURS)]

    def those(chosen: Iterable[int], **look: Any) -> Series:
        listed = list(chosen)
        return Series(
            x=[columns[x][i] for i in listed],
            y=[columns[y][i] for i in listed],
            numbers=[numbers[i] for i in listed],
            hover=f"{study.name}<br>{hover}" if several else hover,
            **look,
        )

    front = set(info["front"])
    rest = those(
        (i for i in rows if numbers[i] not in front),
        name="" if several else "trials",
        symbol="circle-open",
        colour=colour if several else GREY,
        pale=True,
    )
    ordered = sorted((i for i in rows if numbers[i] in front), key=lambda i: columns[x][i])
    best = [
        those(
            ordered,
            name=study.name if several else "front",
            symbol="circle",
            join=_join(study, axes),
            colour=colour,
            dash=_dash(place or 0),
        )
    ]
    drawn = []
    for label, places, symbol in study.marked:
        name = "" if several and place else label
        if found := [i for i in places if i in rows]:
            drawn.append(those(found, name=name, symbol=symbol, colour=DARK))
    together = [e for e in info["ensembles"] if {x, y} <= e["figures"].keys()]
    if together:
        drawn.append(
            Series(
                f"{study.name}, ensembles" if several else "ensembles",
                [ensemble["figures"][x] for ensemble in together],
                [ensemble["figures"][y] for ensemble in together],
                symbol="diamond",
                colour=colour if several else COLOURS[1],
                texts=[ensemble["name"] for ensemble in together],
                hover=f"ensemble %{{text}}<br>{x} %{{x}}<br>{y} %{{y}}<extra></extra>",
            )
        )
    return [rest], best, drawn


def _join(study: Shown, axes: tuple[str, str]) -> Join:
    """How a front is joined: by what is reached within each budget of the horizontal figure."""
    directions = {one["name"]: one["direction"] for one in study.info["objectives"]}
    if directions.keys() != set(axes):
        return ""
    return "steps" if directions[axes[0]] == "minimize" else "steps-back"


def progress(shown: Sequence[Shown], options: Options) -> Chart:
    """Hypervolume after each trial; of several studies within one box, or none could be compared.

    Trials that ``start`` lists are marked.
    """
    described = shown[0].info["objectives"]
    for study in shown:
        if len(study.objectives) > MOST_OBJECTIVES:
            expected = f"a study of at most {MOST_OBJECTIVES} objectives"
            raise ConfigError("figure", "progress", expected)
        if study.info["objectives"] != described:
            expected = f"studies of the same objectives; those of {study.name} are others"
            raise ConfigError("figure", "progress", expected)
    series = []
    marks = []
    several = len(shown) > 1
    for place, (study, curve) in enumerate(zip(shown, _curves(shown), strict=True)):
        at = [number + 1 for number in range(len(curve))]
        colour, dash = COLOURS[place % len(COLOURS)], _dash(place)
        name = study.name if several else "search"
        series.append(Series(name, at, curve, "steps", colour=colour, dash=dash))
        numbers = study.info["trials"]["number"]
        for label, places, symbol in study.marked:
            marks.append(
                Series(
                    "" if several and place else label,
                    [at[i] for i in places],
                    [curve[i] for i in places],
                    symbol=symbol,
                    colour=DARK,
                    numbers=[numbers[i] for i in places],
                )
            )
    panel = Panel([*series, *marks], "trials", "hypervolume (share of box)",
                  from_zero=True)  # fmt: skip
    return Chart(_title(shown, "progress"), [panel])


def _curves(shown: Sequence[Shown]) -> list[list[float]]:
    """Hypervolume after each trial of each study."""
    if len(shown) == 1:
        _ = shown[0].scored
        return [shown[0].info["hypervolume"]]
    tables = []
    for study in shown:
        columns, scored = study.info["trials"]["figures"], set(study.scored)
        tables.append(
            [
                [columns[name][i] if i in scored else math.nan for name in study.objectives]
                for i in range(len(study.info["trials"]["number"]))
            ]
        )
    directions = [one["direction"] for one in shown[0].info["objectives"]]
    box = value_box([row for table in tables for row in table], directions)
    return [hypervolume_curve(table, box) for table in tables]


def importance(shown: Sequence[Shown], options: Options) -> Chart:
    """Which parameters tell the best trials from the rest, by objective.

    Of several studies there is a panel for each objective, and a colour for each study.
    """
    for study in shown:
        if not study.info["importance"]:
            expected = "ten or more complete trials that differ"
            if len(shown) > 1:
                expected += f"; {study.name} has fewer"
            raise ConfigError("figure", "importance", expected)
    title = "share of the importance (PED-ANOVA)"
    if len(shown) == 1:
        bars = _bars([(name, shares) for name, shares in shown[0].info["importance"].items()])
        return Chart(_title(shown, "importance"), [Panel(bars, title)])
    objectives = dict.fromkeys(name for study in shown for name in study.info["importance"])
    panels: list[Panel] = []
    for name in objectives:
        last = len(panels) == len(objectives) - 1
        bars = _bars([(study.name, study.info["importance"].get(name, {})) for study in shown])
        panels.append(Panel(bars, title if last else "", title=name))
    return Chart(_title(shown, "importance"), panels)


def _bars(groups: Sequence[tuple[str, Mapping[str, float]]]) -> list[Bars]:
    """Shares of the parameters that matter most in any group, the most important on top."""
    highest: dict[str, float] = {}
    for _, shares in groups:
        for name, share in shares.items():
            highest[name] = max(highest.get(name, 0), share)
    names = sorted(highest, key=lambda name: -highest[name])[:_BARS][::-1]
    return [
        Bars(label, [shares.get(name, 0) for name in names], names, COLOURS[i % len(COLOURS)])
        for i, (label, shares) in enumerate(groups)
    ]


def parallel(shown: Sequence[Shown], options: Options) -> Parallel:
    """Parameters and objectives as parallel coordinates, coloured by the last objective.

    Axes of objectives to be minimised are upside down.
    """
    study = only(shown, "parallel")
    names, rows = study.objectives, study.scored
    columns = study.info["trials"]["figures"]
    shares = list(study.info["importance"].values())
    dimensions = [
        replace(
            _dimension(name, [values[i] for i in rows]),
            importance=max((one.get(name, 0.0) for one in shares), default=0.0),
        )
        for name, values in study.info["trials"]["params"].items()
        if len({str(values[i]) for i in rows}) > 1
    ]
    dimensions += [
        replace(
            _dimension(one["name"], [columns[one["name"]][i] for i in rows]),
            upside_down=one["direction"] == "minimize",
        )
        for one in study.info["objectives"]
    ]
    values = [columns[names[-1]][i] for i in rows]
    return Parallel(_title(shown, "parallel"), dimensions, values, names[-1])


def _dimension(name: str, values: list[Any]) -> Dimension:
    """One axis; what is no number gets places of its own, and so has what is absent."""
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return Dimension(name, values)
    texts = sorted({_text(value) for value in values}, key=_order)
    places = [texts.index(_text(value)) for value in values]
    return Dimension(name, places, list(range(len(texts))), texts)


def _text(value: Any) -> str:
    return "absent" if value is None else str(value)


def _order(text: str) -> tuple[bool, float, str]:
    """Numbers by their size, before words."""
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text


def _dash(place: int) -> str:
    """Of a study whose colour another one has, too."""
    return DASHES[place // len(COLOURS) % len(DASHES)]


def _title(shown: Sequence[Shown], kind: str) -> str:
    if len(shown) == 1:
        return f"{shown[0].info['title']}: {kind}"
    return f"{kind} of {len(shown)} studies"
