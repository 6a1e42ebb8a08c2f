"""Label Studio's JSON export: outlines in per cent of the image, and brushes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from autosearch.data.index import Index
from autosearch.data.layouts.annotated import (
    Entry,
    box,
    class_name,
    ellipse,
    index_entries,
    polygon,
)
from autosearch.data.layouts.contract import Layout
from autosearch.data.layouts.reading import number, read_json, size_of
from autosearch.data.layouts.runs import brush_mask, runs_of
from autosearch.data.members import members, nfc
from autosearch.data.notes import Note
from autosearch.data.outlines import Outline, Pixels
from autosearch.errors import DataError

_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")
"""Names of uploaded files begin with some letters of their own."""

_KINDS = ("polygon", "rectangle", "ellipse", "brush")


def _files(place: Path) -> list[Path]:
    there = [place] if place.is_file() else sorted(place.glob("*.json"))[:10]
    return [file for file in there if file.suffix.lower() == ".json" and _is_export(file)]


def _is_export(file: Path) -> bool:
    content = read_json(file)
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(task, dict) and isinstance(task.get("data"), dict) for task in content)
    )


def _index(place: Path, name: str) -> Index:
    """Index the tasks that somebody finished; those without annotation are not labelled."""
    files = _files(place)
    if len(files) != 1:
        problem = f"holds {len(files) or 'no'} JSON exports of Label Studio, and not one"
        raise DataError(place, problem, "set dataset.root to the file")
    (file,) = files
    images = _Images(file)
    entries: list[Entry] = []
    notes: list[Note] = []
    for task in read_json(file):
        where = f"task {task.get('id', len(entries) + 1)}"
        done = [a for a in _list(task, "annotations") if not a.get("was_cancelled")]
        image = images.find(task["data"], where)
        if not done:
            kind = "is a task that nobody finished, and is not read"
            notes.append(Note(image, kind, "submit it, without outlines if it is normal"))
            continue
        if len(done) > 1:
            kind = "was labelled several times, of which the last counts"
            notes.append(Note(image, kind, "remove the others", f"{len(done)} times"))
        entries.append(_entry(file, image, _list(done[-1], "result"), where, notes))
    return index_entries(place.parent, name, entries, notes)


class _Images:
    """Finds images by what tasks call them: an address, an upload, or a path."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._named: dict[str, list[Path]] = {}
        for path in members(file.parent).images:
            self._named.setdefault(nfc(path.name), []).append(path)

    def find(self, data: dict[str, Any], where: str) -> Path:
        texts = [text for text in data.values() if isinstance(text, str)]
        address = data.get("image", texts[0] if len(texts) == 1 else None)
        if not isinstance(address, str) or not address:
            raise DataError(self.file, f"{where} names no image in data.image", "export it anew")
        parts = urlsplit(address)
        path = (parse_qs(parts.query).get("d") or [unquote(parts.path)])[0].replace("\\", "/")
        name = nfc(path.rpartition("/")[2])
        uploaded = _UPLOADED.fullmatch(name)
        found = self._named.get(name) or (self._named.get(uploaded[1]) if uploaded else None) or []
        exact = [image for image in found if nfc(image.as_posix()).endswith(f"/{nfc(path)}")]
        if len(found) > 1 and len(exact) == 1:
            found = exact
        if len(found) != 1:
            problem = "is not there" if not found else "lies there several times"
            raise DataError(
                self.file,
                f"{where}: the image {name!r} {problem}",
                "put it below the file's folder",
            )
        return found[0]


def _list(entry: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = entry.get(key) or []
    return [part for part in found if isinstance(part, dict)] if isinstance(found, list) else []


def _entry(
    file: Path, image: Path, results: list[dict[str, Any]], where: str, notes: list[Note]
) -> Entry:
    shapes: list[Outline] = []
    size: tuple[int, int] | None = None
    for result in results:
        kind = str(result.get("type", "")).removesuffix("labels")
        value = result.get("value")
        if kind not in _KINDS or not isinstance(value, dict):
            if kind in ("keypoint", "vector", "bitmask"):
                note = "has a mark of a kind that is not read"
                notes.append(Note(image, note, "draw an outline or use a brush", kind))
            continue
        size = size_of(file, result.get("original_width"), result.get("original_height"), where)
        if size is None:
            raise DataError(file, f"{where} states no original_width", "export it anew")
        labels = value.get(f"{kind}labels")
        label = class_name(labels[0] if isinstance(labels, list) and labels else None)
        shapes.append(_shape(file, kind, value, label, size, where))
    return Entry(file, image, tuple(shapes), size)


def _shape(
    file: Path, kind: str, value: dict[str, Any], label: str, size: tuple[int, int], where: str
) -> Outline:
    width, height = size
    if kind == "brush":
        packed = value.get("rle")
        try:
            mask = brush_mask(packed if isinstance(packed, list) else [], width, height)
        except ValueError as error:
            raise DataError(file, f"{where} has {error}", "export it anew") from error
        return Pixels(label, 0, 0, width, height, runs_of(mask))
    if kind == "polygon":
        points = value.get("points")
        drawn = polygon(file, label, points, where)
        corners = tuple((x * width / 100, y * height / 100) for x, y in drawn.corners)
        return type(drawn)(label, corners)
    names = (
        ("x", "y", "radiusX", "radiusY") if kind == "ellipse" else ("x", "y", "width", "height")
    )
    sides = [number(file, value.get(name), f"{name} of {where}") / 100 for name in names]
    x, y, across, down = (side * (height if n % 2 else width) for n, side in enumerate(sides))
    degrees = number(file, value.get("rotation", 0), f"rotation of {where}")
    return (ellipse if kind == "ellipse" else box)(label, x, y, across, down, degrees)


LABEL_STUDIO = Layout(
    "label_studio",
    "a JSON export of Label Studio, and images below its folder",
    lambda place: bool(_files(place)),
    _index,
    single=True,
)
