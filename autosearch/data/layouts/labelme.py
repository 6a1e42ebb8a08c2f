"""LabelMe: a JSON file of the same name beside each image on which something was drawn."""

from __future__ import annotations

import base64
import binascii
import io
from math import hypot
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

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
from autosearch.data.layouts.runs import runs_of
from autosearch.data.members import members, nfc
from autosearch.data.notes import Note
from autosearch.data.outlines import Outline, Pixels
from autosearch.errors import DataError

_WITHOUT_AREA = ("point", "points", "line", "linestrip")


def _holds(place: Path) -> bool:
    if not place.is_dir():
        return False
    stems = {nfc(path.stem) for path in place.glob("*.json")}
    return bool(stems) and any(nfc(path.stem) in stems for path in members(place, False).images)


def _index(place: Path, name: str) -> Index:
    """Index a folder and those below it; images without JSON file are normal."""
    inside = members(place)
    images = {(path.parent, nfc(path.stem)): path for path in inside.images}
    files = [path for path in inside.ignored if path.suffix.lower() == ".json"]
    entries: list[Entry] = []
    notes: list[Note] = []
    for file in files:
        image = images.pop((file.parent, nfc(file.stem)), None)
        if image is None:
            named = _content(file).get("imagePath")
            remedy = "put the image beside it, under the same name"
            raise DataError(file, f"is of the image {named!r}, which is not beside it", remedy)
        entries.append(_entry(file, image, notes))
    entries += [Entry(place, image, ()) for image in images.values()]
    return index_entries(place.parent, name, entries, notes)


def _content(file: Path) -> dict[str, Any]:
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        remedy = "save it anew with LabelMe, or move it elsewhere"
        raise DataError(file, "is no LabelMe file: it has no list of shapes", remedy)
    return content


def _entry(file: Path, image: Path, notes: list[Note]) -> Entry:
    content = _content(file)
    size = size_of(file, content.get("imageWidth"), content.get("imageHeight"), image.name)
    shapes: list[Outline] = []
    for n, shape in enumerate(content["shapes"], start=1):
        where = f"shape {n}"
        if not isinstance(shape, dict) or not isinstance(shape.get("points"), list):
            raise DataError(file, f"{where} has no points", "save it anew with LabelMe")
        if shape.get("shape_type", "polygon") in _WITHOUT_AREA:
            kind = "has a point or a line, which covers no area and is not read"
            notes.append(Note(file, kind, "draw an outline, if a defect is meant", where))
            continue
        shapes.append(_shape(file, shape, where))
    return Entry(file, image, tuple(shapes), size)


def _shape(file: Path, shape: dict[str, Any], where: str) -> Outline:
    label, points = class_name(shape.get("label")), shape["points"]
    kind = shape.get("shape_type") or "polygon"
    if kind in ("polygon", "oriented_rectangle"):
        return polygon(file, label, points, where)
    if kind not in ("rectangle", "circle", "mask"):
        remedy = "redraw it as a polygon"
        raise DataError(file, f"{where} is of the kind {kind!r}, which is not known", remedy)
    if len(points) != 2 or any(not isinstance(p, list) or len(p) != 2 for p in points):
        raise DataError(file, f"{where} has not two points", "save it anew with LabelMe")
    (x0, y0), (x1, y1) = ([number(file, value, where) for value in point] for point in points)
    if kind == "circle":
        radius = hypot(x1 - x0, y1 - y0)
        return ellipse(label, x0, y0, radius, radius)
    if kind == "rectangle":
        return box(label, min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0))
    return _bitmap(file, shape.get("mask"), label, (int(x0), int(y0)), where)


def _bitmap(file: Path, packed: Any, label: str, at: tuple[int, int], where: str) -> Pixels:
    """A small picture, from its first corner on."""
    try:
        content = base64.b64decode(packed, validate=True)
        with Image.open(io.BytesIO(content), formats=("PNG",)) as opened:
            mask = np.asarray(opened.convert("L")) > 0
    except (TypeError, binascii.Error, ValueError, OSError, SyntaxError) as error:
        raise DataError(
            file, f"{where} has no mask as PNG", "save it anew with LabelMe"
        ) from error
    height, width = mask.shape
    return Pixels(label, *at, width, height, runs_of(mask))


LABELME = Layout(
    "labelme",
    "images, and beside each that is anomalous a JSON file of LabelMe with its name",
    _holds,
    _index,
    single=True,
)
