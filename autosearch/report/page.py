"""One HTML file with everything in it, for a disk, a mail or an archive: no network, no server."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

import plotly.offline

from autosearch.errors import StudyError
from autosearch.files import write_atomic
from autosearch.report.curves import read_curves
from autosearch.report.gallery_page import GALLERIES
from autosearch.report.html import json_text as _json, page
from autosearch.report.info import ARTIFACTS, CURVES, Info, artifact_path, study_info, view_data
from autosearch.report.view import ASSETS, SCRIPTS, STYLE
from autosearch.storage import StudyFolder

_PICTURES = 3_000_000
"""Most characters that pictures may take up in a page, so that it stays below 12 MB."""

_CURVES = 1_000_000
"""Most characters that curves may take up."""

_TRACEBACKS, _TRACEBACK_END = 20, 4000

_Pictured = tuple[str, int, list[Path]]
"""Study, trial, and its pictures."""

_Artifact = tuple[str, int, str, Any]
"""Study, trial, file name, and what the view is given for it."""

_START = """\
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const kept = read("artifacts");
autosearch.mount(document.getElementById("view"), read("data"), {
  artifact: (study, number, file) => kept[study]?.[number]?.[file] ?? null,
  galleries: (study, number) => kept[study]?.[number]?.galleries ?? [],
});
"""


def write_report(folders: Sequence[StudyFolder], out: Path) -> Path:
    """Write the report of one or several studies as one HTML file.

    It holds plotly.js, the view, the data, pictures of recommended trials and of those on the
    front as far as there is room (3 MB), curves of trainings (1 MB), those of the front first, and
    the ends of the first tracebacks. A browser that opens it is told to load nothing from anywhere
    and to run no other script. Where it lies in a study's folder, it links to the galleries there.

    Args:
        folders: Studies to show; several are compared.
        out: The file, replaced if it is there.

    Returns:
        `out`.

    Raises:
        StudyError: A study cannot be read, or the file cannot be written.
        ConfigError: A spec names an objective that is not installed here.
    """
    data = view_data([study_info(folder) for folder in folders])
    artifacts = _artifacts(folders, data["studies"])
    for folder, study in zip(folders, data["studies"], strict=True):
        if out.absolute().parent.resolve() == folder.path.resolve():
            for number, found in _galleries(folder).items():
                artifacts[study["name"]].setdefault(number, {})["galleries"] = found
    text = _page(data, artifacts)
    try:
        write_atomic(out, text)
    except OSError as error:
        raise StudyError(f"{out}: cannot be written ({error.strerror})") from None
    return out


def _page(data: Info, artifacts: dict[str, Any]) -> str:
    scripts = [plotly.offline.get_plotlyjs(), *((ASSETS / n).read_text("utf-8") for n in SCRIPTS)]
    return page(
        "autosearch: " + ", ".join(s["name"] for s in data["studies"]),
        (ASSETS / STYLE).read_text("utf-8"),
        '<main id="view"></main>\n'
        "<noscript>This report is drawn by scripts in this file.</noscript>",
        {"data": data, "artifacts": artifacts},
        [*scripts, _START],
    )


def _artifacts(folders: Sequence[StudyFolder], studies: Sequence[Info]) -> dict[str, Any]:
    """By study, trial and file name what the page can show without its folder."""
    kept: dict[str, Any] = {study["name"]: {} for study in studies}
    parts = (_pictures, _curves, _tracebacks)
    for name, number, file, content in chain(*(part(folders, studies) for part in parts)):
        kept[name].setdefault(number, {})[file] = content
    return kept


def _pictures(folders: Sequence[StudyFolder], studies: Sequence[Info]) -> Iterator[_Artifact]:
    """Data URIs of pictures of trials: recommended ones first, then those on the fronts.

    Where there is not room for all of the fronts they are thinned out evenly.
    """
    first: list[_Pictured] = []
    others: list[_Pictured] = []
    for folder, study in zip(folders, studies, strict=True):
        named = _recommended(study)
        for number in dict.fromkeys([*named, *study["front"]]):
            if paths := _picture_paths(folder, number):
                (first if number in named else others).append((study["name"], number, paths))
    needed = sum(map(_encoded_size, others))
    step = max(1.0, needed / max(1.0, _PICTURES - sum(map(_encoded_size, first))))
    room = _PICTURES
    for name, number, paths in [
        *first,
        *(others[int(place * step)] for place in range(int(len(others) / step))),
    ]:
        for path in paths:
            encoded = base64.b64encode(path.read_bytes()).decode()
            room -= len(encoded)
            if room < 0:
                return
            yield name, number, path.name, f"data:{ARTIFACTS[path.name]};base64,{encoded}"


def _recommended(study: Info) -> list[int]:
    """The trial that a page recommends, and its runners-up."""
    found = study["recommended"]
    return [found["number"], *found["runners_up"]] if found else []


def _encoded_size(found: _Pictured) -> float:
    return sum(path.stat().st_size for path in found[2]) * 4 / 3


def _picture_paths(folder: StudyFolder, number: int) -> list[Path]:
    names = [name for name, kind in ARTIFACTS.items() if kind.startswith("image/")]
    return [path for name in names if (path := artifact_path(folder, number, name))]


def _curves(folders: Sequence[StudyFolder], studies: Sequence[Info]) -> Iterator[_Artifact]:
    """Curves as far as there is room: of the fronts, then of the others in order of number."""
    found = sorted(
        (number not in study["front"], number, place)
        for place, study in enumerate(studies)
        for number in study["files"][CURVES]
    )
    room = _CURVES
    for _, number, place in found:
        path = artifact_path(folders[place], number, CURVES)
        curves = read_curves(path) if path else None
        if curves is None:
            continue
        room -= len(_json(curves))
        if room < 0:
            return
        yield studies[place]["name"], number, CURVES, curves


def _tracebacks(folders: Sequence[StudyFolder], studies: Sequence[Info]) -> Iterator[_Artifact]:
    """Ends of the first tracebacks of every study."""
    for folder, study in zip(folders, studies, strict=True):
        for number in study["files"]["traceback.txt"][:_TRACEBACKS]:
            if path := artifact_path(folder, number, "traceback.txt"):
                text = path.read_text(encoding="utf-8", errors="replace")
                cut = "…" if len(text) > _TRACEBACK_END else ""
                yield study["name"], number, path.name, cut + text[-_TRACEBACK_END:]


def _galleries(folder: StudyFolder) -> dict[int, list[dict[str, str]]]:
    """By trial its galleries: ``name``, and ``address`` as seen from the study's folder."""
    found: dict[int, list[dict[str, str]]] = {}
    for path in sorted((folder.path / GALLERIES).glob("trial-*-*.html")):
        number = re.match(r"trial-([0-9]{1,9})-", path.name)
        if number and path.is_file():
            address = f"{GALLERIES}/{quote(os.fsencode(path.name))}"
            name = os.fsencode(path.name).decode(errors="replace")
            found.setdefault(int(number[1]), []).append({"name": name, "address": address})
    return found
