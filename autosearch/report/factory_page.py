"""The page of an estimate: one HTML file that opens without network."""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.offline
from PIL import Image

from autosearch.data import read_image
from autosearch.errors import DataError, StudyError
from autosearch.files import write_atomic
from autosearch.report import factory_charts as charts
from autosearch.report.factory_figures import invariance_bars
from autosearch.report.html import page
from autosearch.report.view import ASSETS
from autosearch.storage import FACTORY, EstimateFiles, Repeat
from autosearch.study import DECIDED, FIGURES, Estimate, labels_of

_SHOWN, _SIDE = 12, 132
"""Images of each kind, and the longer side of a thumbnail in pixels."""

_START = """\
const figures = JSON.parse(document.getElementById("figures").textContent);
for (const [name, figure] of Object.entries(figures)) {
  const place = document.getElementById("figure-" + name);
  Plotly.newPlot(place, figure.data, figure.layout, { responsive: true, displayModeBar: false });
}
"""


@dataclass(frozen=True)
class _Wrong:
    """An image of inference sets that was called wrongly, over all repeats that measured it."""

    path: str
    kind: str
    times: int
    wrong: int
    margin: float


def write_factory_page(
    folder: Path, name: str, estimate: Estimate, costs: tuple[float, float], out: Path
) -> Path:
    """Write the page of an estimate.

    It shows figures with intervals beside those of an in-sample threshold, the repeats, their
    thresholds, the ROC, the curve of costs, what an invariance report of the same trial found if
    there is one, and the images that were called wrongly most clearly, where their files are.

    Args:
        folder: A study's, or what else holds the estimate.
        name: Of the estimate.
        estimate: What it says.
        costs: Of one missed, and of one false alarm.
        out: The file, replaced if it is there.

    Raises:
        StudyError: The estimate cannot be read, or the file cannot be written.
    """
    files = EstimateFiles(folder, name)
    about, repeats = files.load() or {}, files.repeats()
    shown = {
        "points": charts.points(estimate),
        "thresholds": charts.thresholds(estimate, repeats),
        "roc": charts.roc(repeats, estimate.terms, estimate),
        "costs": charts.costs(repeats, estimate, *costs),
    }
    if (bars := _invariance(folder, name)) is not None:
        shown["invariance"] = bars
    root = Path(str(about.get("dataset", {}).get("root", "")))
    body = _body(about, estimate, shown, _wrong(estimate, repeats), root)
    scripts = [plotly.offline.get_plotlyjs(), _START]
    style = (ASSETS / "factory.css").read_text("utf-8")
    blocks = {"figures": {key: json.loads(one.to_json()) for key, one in shown.items()}}
    title = f"autosearch factory: {about.get('title', name)}"
    text = page(title, style, body, blocks, scripts, "light")
    try:
        write_atomic(out, text)
    except OSError as error:
        raise StudyError(f"{out}: cannot be written ({error.strerror})") from None
    return out


_TITLES = {
    "points": ("Repeats", "Each point is one split, trained from scratch. The interval is that of "
               "the mean, widened since repeats share images. A cross is what the same detectors "
               "reach if the threshold is chosen on the images that it is measured on."),
    "thresholds": ("Thresholds", "Scores of the inference set and the threshold that came from "
                   "the threshold set. Each repeat on its own scale: less the median of normal "
                   "scores, over their quartile distance."),
    "roc": ("ROC over images", "Mean over repeats, and the band from the lowest to the highest. "
            "Dots are where the chosen thresholds came to lie."),
    "costs": ("Cost over thresholds", "What 1,000 parts cost at the stated prevalence, by the "
              "share of the threshold set's normal images that lie above the threshold. A flat "
              "valley forgives a threshold that is a little off."),
    "invariance": ("Changed images", "Scores of normal images and false alarms when images are "
                   "turned, moved, lit otherwise; the threshold stays."),
}  # fmt: skip


def _body(
    about: Mapping[str, Any],
    estimate: Estimate,
    shown: Mapping[str, go.Figure],
    wrong: tuple[Sequence[_Wrong], Sequence[_Wrong]],
    root: Path,
) -> str:
    alarms, missed = wrong
    data = about.get("dataset", {})
    orientation = str(data.get("orientation", "upright"))
    title = html.escape(str(about.get("title", "")))
    study = html.escape(str(about.get("study", "")))
    parts = [
        f"<main><h1>Factory estimate: {title}</h1>",
        f"<p class='lead'>{study}; {_images(about)}</p>",
        _headline(estimate),
        _table(estimate),
        f"<p class='note'>{_sizes(estimate)} {_pooled(about)}</p>",
        "<div class='figures'>",
        *(
            f"<section><h2>{_TITLES[key][0]}</h2><p>{_TITLES[key][1]}</p>"
            f"<div class='figure' id='figure-{key}'></div></section>"
            for key in shown
        ),
        "</div>",
        _gallery("Normal images that raise alarms", alarms, root, orientation),
        _gallery("Defects that are missed", missed, root, orientation),
        "</main>",
    ]
    return "\n".join(parts)


def _headline(estimate: Estimate) -> str:
    """The answer in a few tiles."""
    tiles = []
    for name in ("sensitivity", "specificity", "false_alarms", "missed"):
        interval = estimate.over[name]
        if interval is not None:
            low, high = estimate.ends(name)
            tiles.append(
                f"<div class='tile'><b>{_number(interval.mean)}</b>"
                f"<span>{_number(low)} to {_number(high)}</span>{html.escape(FIGURES[name])}</div>"
            )
    tiles.append(
        f"<div class='tile'><b>{_number(estimate.precision)}</b><span>at the means of both</span>"
        "precision at the prevalence</div>"
    )
    terms = estimate.terms
    said = (
        f"Threshold chosen for {terms.criterion.text}; {terms.prevalence:g} of all parts are "
        f"anomalous, a shift inspects {terms.parts_per_shift:g}. Means and 95 % intervals over "
        f"{len(estimate.repeats)} repeats."
    )
    return f"<div class='tiles'>{''.join(tiles)}</div><p class='note'>{html.escape(said)}</p>"


def _table(estimate: Estimate) -> str:
    rows = []
    for name, title in FIGURES.items():
        interval = estimate.over[name]
        if interval is None:
            continue
        naive = estimate.in_sample[name] if name in DECIDED else math.nan
        values = [one.values[name] for one in estimate.repeats]
        known = [value for value in values if not math.isnan(value)]
        low, high = estimate.ends(name)
        cells = (
            _number(interval.mean),
            f"{_number(low)} to {_number(high)}",
            _number(naive),
            f"{_number(min(known))} to {_number(max(known))}",
        )
        shown = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f"<tr><th>{html.escape(title)}</th>{shown}</tr>")
    heads = "".join(
        f"<th>{head}</th>"
        for head in ("figure", "mean", "95 % interval", "in-sample", "lowest to highest")
    )
    return f"<div class='wide'><table><tr>{heads}</tr>{''.join(rows)}</table></div>"


def _images(about: Mapping[str, Any]) -> str:
    counts = about.get("dataset", {}).get("images", {})
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    left = about.get("dataset", {}).get("left_out", 0)
    driven = f"; {left} that the search was driven by are left out" if left else ""
    return html.escape(f"images: {told}{driven}")


def _sizes(estimate: Estimate) -> str:
    spans = []
    for part in estimate.sizes[0]:
        found = sorted({size[part] for size in estimate.sizes})
        text = f"{found[0]}" if len(found) == 1 else f"{found[0]} to {found[-1]}"
        spans.append(f"{part.replace('_', ' set, ')}: {text}")
    unequal = "" if estimate.equal else " Groups, or too few images, make the sets unequal."
    return html.escape(f"Images in each repeat: {'; '.join(spans)}.{unequal}")


def _pooled(about: Mapping[str, Any]) -> str:
    if about.get("made_from", {}).get("merge_test_normals"):
        return "Normal images of the test split are merged with the others."
    return "Only normal images that are stated to be test ones are measured on."


def _wrong(estimate: Estimate, repeats: Mapping[int, Repeat]) -> tuple[list[_Wrong], list[_Wrong]]:
    """Normal images above thresholds and anomalous ones below, the clearest first."""
    margins: dict[tuple[str, str, bool], list[float]] = defaultdict(list)
    for one in estimate.repeats:
        images = repeats[one.number].inference_set
        labels = labels_of(images)
        scores = np.array(images.scores)
        spread = float(np.ptp(np.quantile(scores[~labels], [0.25, 0.75]))) or 1.0
        off = (scores - one.threshold.value) / spread
        for path, kind, odd, by in zip(images.paths, images.types, labels, off, strict=True):
            margins[path, kind, bool(odd)].append(float(by))
    alarms: list[_Wrong] = []
    missed: list[_Wrong] = []
    for (path, kind, odd), found in margins.items():
        times = sum(by < 0 if odd else by >= 0 for by in found)
        if times:
            entry = _Wrong(path, kind, len(found), times, float(np.mean(found)))
            (missed if odd else alarms).append(entry)
    alarms.sort(key=lambda entry: (-entry.margin, entry.path))
    missed.sort(key=lambda entry: (entry.margin, entry.path))
    return alarms, missed


def _gallery(title: str, found: Sequence[_Wrong], root: Path, orientation: str) -> str:
    shown = "".join(_cards(found[:_SHOWN], root, orientation))
    count = f"{len(found)} images" + (f", the clearest {_SHOWN}" if len(found) > _SHOWN else "")
    inside = f"<div class='gallery'>{shown}</div>" if found else "<p>None.</p>"
    return f"<h2>{title}</h2><p>{count}.</p>{inside}" if found else f"<h2>{title}</h2>{inside}"


def _cards(found: Sequence[_Wrong], root: Path, orientation: str) -> Iterator[str]:
    for entry in found:
        picture = _thumbnail(root / entry.path, orientation)
        image = f"<img alt='' src='{picture}'>" if picture else "<div class='none'>no file</div>"
        yield (
            f"<figure>{image}<figcaption>{html.escape(entry.path)}<br>{html.escape(entry.kind)}, "
            f"wrong in {entry.wrong} of {entry.times}</figcaption></figure>"
        )


def _thumbnail(path: Path, orientation: str) -> str | None:
    """A data URI; None where the file is not there any more."""
    try:
        pixels = read_image(path, orientation=orientation)  # type: ignore[arg-type]
    except (DataError, OSError):
        return None
    picture = Image.fromarray((pixels.transpose(1, 2, 0) * 255).round().astype(np.uint8))
    picture.thumbnail((_SIDE, _SIDE))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def _invariance(folder: Path, name: str) -> go.Figure | None:
    """What an invariance report of the same trial found."""
    path = folder / FACTORY / "invariance" / f"{name}.json"
    try:
        return invariance_bars(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _number(value: float) -> str:
    if math.isnan(value):
        return ""
    return (
        f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if value >= 10 else f"{value:.3f}"
    )
