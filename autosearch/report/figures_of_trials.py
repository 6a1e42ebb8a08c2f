"""Figures of single trials: scores with thresholds, curves of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autosearch.errors import ConfigError
from autosearch.metrics import choose_threshold
from autosearch.report.chart import COLOURS, DARK, DASHES, Chart, Counts, Panel, Series
from autosearch.report.curves import read_curves
from autosearch.report.info import CURVES, artifact_path
from autosearch.report.shown import Shown, only
from autosearch.study import MOST_SCORES, scores_of

_FEWEST_BINS, _MOST_BINS = 8, 30
_DECADES = 2
_MARKED = 20
"""Points of a series that are marked, beside the line through them, if there are no more."""

_KINDS = {"normal": COLOURS[0], "real": COLOURS[1], "made": COLOURS[3]}
_NAMES = {"normal": "normal", "real": "anomalous", "made": "made anomalies"}


def thresholds(shown: Sequence[Shown], options: Mapping[str, Any]) -> Chart:
    """Scores of validation images of a trial of each study, and where thresholds lie.

    Drawn are the threshold of the greatest F1, as `autosearch.export` chooses it by default, and
    those of exports of the trial.
    """
    panels = []
    for place, study in enumerate(shown):
        number = _number(study, options.get("trial"))
        scores = _scores(study, number)
        every = np.concatenate(list(scores.values()))
        bins = int(np.clip(np.ceil(1.5 * np.sqrt(every.size)), _FEWEST_BINS, _MOST_BINS))
        edges = np.histogram_bin_edges(every, bins)
        drawn: list[Series | Counts] = []
        for kind, found in scores.items():
            counts = np.histogram(found, edges)[0].tolist()
            drawn.append(Counts(_NAMES[kind], edges.tolist(), counts, _KINDS[kind]))
        top = max(max(one.counts) for one in drawn if isinstance(one, Counts))
        for i, (name, value) in enumerate(_cuts(study, number, scores).items()):
            dash = DASHES[i % len(DASHES)]
            hover = f"{name}: {value:.4g}<extra></extra>"
            line = Series(f"{name}: {value:.4g}", [value, value], [0, top], "straight",
                          colour=DARK, dash=dash, hover=hover)  # fmt: skip
            drawn.append(line)
        title = f"trial {number}" if len(shown) == 1 else f"{study.name}, trial {number}"
        last = place == len(shown) - 1
        panels.append(
            Panel(drawn, "score of an image" if last else "", "validation images", title,
                  from_zero=True, legend=True)
        )  # fmt: skip
    what = shown[0].info["title"] if len(shown) == 1 else f"{len(shown)} studies"
    return Chart(f"{what}: thresholds", panels)


def _number(study: Shown, number: Any) -> int:
    """The trial that is asked for, or the recommended one."""
    known = study.info["trials"]["number"]
    if number is None:
        found = study.info["recommended"]
        if found is None:
            expected = f"the number of a trial of {study.name}: none can be recommended"
            raise ConfigError("figure.trial", number, expected)
        return int(found["number"])
    if not isinstance(number, int) or isinstance(number, bool) or number not in known:
        raise ConfigError("figure.trial", number, f"the number of a trial of {study.name}")
    return number


def _scores(study: Shown, number: int) -> dict[str, NDArray[np.float32]]:
    """Image scores of validation that a trial, or the one it was taken from, has kept."""
    origin = study.info["cached_from"].get(str(number), number)
    kept = study.folder.files.load_choice(origin)
    found = scores_of(kept) if kept else {}
    if not found:
        expected = (
            f"a trial of {study.name} with scores of validation, which earlier versions did not "
            "keep; autosearch recommend --threshold-rule f1 fits one again"
        )
        raise ConfigError("figure.trial", number, expected)
    return found


def _cuts(
    study: Shown, number: int, scores: Mapping[str, NDArray[np.float32]]
) -> dict[str, float]:
    """Thresholds by name; that of F1 only where all scores were kept."""
    cuts = {}
    whole = all(found.size < MOST_SCORES for found in scores.values())
    if whole and "normal" in scores and len(scores) > 1:
        every = np.concatenate(list(scores.values()))
        labels = np.concatenate([np.full(s.size, kind != "normal") for kind, s in scores.items()])
        cuts["largest F1, the default"] = choose_threshold(every, labels).value
    return cuts | dict(study.exported.get(number, {}))


def curves(shown: Sequence[Shown], options: Mapping[str, Any]) -> Chart:
    """The curves of one training; logarithmic where a panel spans more than two decades."""
    study, number = only(shown, "curves"), options.get("trial")
    if not isinstance(number, int) or isinstance(number, bool):
        raise ConfigError("figure.trial", number, "the number of a trial that trained")
    path = artifact_path(study.folder, number, CURVES)
    found = read_curves(path) if path else None
    if found is None:
        raise ConfigError("figure.trial", number, "a trial that left curves of its training")
    panels = []
    several = len(found["panels"]) > 1
    for place, panel in enumerate(found["panels"]):
        symbol = "circle" if found["steps"] <= _MARKED else ""
        series = [
            Series(name, found["at"], values, "straight", symbol, COLOURS[i % len(COLOURS)],
                   DASHES[i // len(COLOURS) % len(DASHES)])
            for i, (name, values) in enumerate(panel["series"].items())
        ]  # fmt: skip
        last = place == len(found["panels"]) - 1
        panels.append(
            Panel(
                series,
                found["x"] if last else "",
                "" if several else panel["title"],
                panel["title"],
                log_y=_spans_decades(series),
                legend=len(series) > 1,
            )
        )
    title = f"{study.info['title']}: curves of trial {number}"
    return Chart(title, panels, shared=True)


def _spans_decades(series: Sequence[Series]) -> bool:
    known = [value for one in series for value in one.y if value is not None]
    return bool(known) and min(known) > 0 and math.log10(max(known) / min(known)) > _DECADES
