"""CVAT for images 1.1: ``annotations.xml`` with polygons, boxes, ellipses and masks."""

from __future__ import annotations

from pathlib import Path

from autosearch.data.index import Index
from autosearch.data.layouts.annotated import (
    Entry,
    box,
    class_name,
    ellipse,
    index_entries,
    polygon,
)
from autosearch.data.layouts.contract import Layout, part_of
from autosearch.data.layouts.reading import Element, number, picture, read_xml, size_of
from autosearch.data.layouts.runs import checked_runs
from autosearch.data.notes import Note
from autosearch.data.outlines import Outline, Pixels
from autosearch.errors import DataError

_WITHOUT_AREA = ("polyline", "points", "cuboid", "skeleton")


def _file(place: Path) -> Path:
    return place if place.is_file() else place / "annotations.xml"


def _holds(place: Path) -> bool:
    file = _file(place)
    if file.suffix.lower() != ".xml" or not file.is_file():
        return False
    with file.open("rb") as stream:
        return b"<annotations" in stream.read(4096)


def _index(place: Path, name: str) -> Index:
    file = _file(place)
    images: list[tuple[Element, list[Outline]]] = []
    lines: list[tuple[Element, Element]] = []
    for element in read_xml(file):
        if element.tag == "track":
            raise DataError(
                file, "is an export for video, with tracks", "export as CVAT for images 1.1"
            )
        if element.tag == "image":
            images.append((element, []))
        elif element.tag in _WITHOUT_AREA and images:
            lines.append((images[-1][0], element))
        elif element.tag in _SHAPES and images:
            images[-1][1].append(_SHAPES[element.tag](_Given(file, element)))
    entries = [_entry(file, element, shapes) for element, shapes in images]
    kind = "has a line or points, which cover no area and are not read"
    remedy = "draw an outline, if a defect is meant"
    notes = [
        Note(file, kind, remedy, f"line {line.line}, {image.given.get('name')}")
        for image, line in lines
    ]
    return index_entries(place.parent, name, entries, notes)


def _entry(file: Path, element: Element, shapes: list[Outline]) -> Entry:
    given, where = element.given, f"line {element.line}"
    name, subset = given.get("name", ""), given.get("subset", "")
    plain = subset if subset.isidentifier() else "images"
    image = picture(file, name, where, (f"images/{plain}", plain))
    size = size_of(file, given.get("width"), given.get("height"), name)
    return Entry(file, image, tuple(shapes), size, part_of(subset))


class _Given:
    """Attributes of an element, as numbers and points."""

    def __init__(self, file: Path, element: Element) -> None:
        self.file, self.where = file, f"line {element.line}"
        self.texts = element.given
        self.label = class_name(element.given.get("label"))

    def number(self, name: str, default: str | None = None) -> float:
        value = self.texts.get(name, default)
        return number(self.file, value, f"{self.where}: {name}")


def _polygon(given: _Given) -> Outline:
    pairs = [pair.split(",") for pair in given.texts.get("points", "").split(";") if pair]
    return polygon(given.file, given.label, pairs, given.where)


def _box(given: _Given) -> Outline:
    left, top, right, bottom = map(given.number, ("xtl", "ytl", "xbr", "ybr"))
    # It is turned about its centre; ours about its first corner, so that this one moves.
    turn = given.number("rotation", "0")
    shape = box(given.label, 0, 0, right - left, bottom - top, turn)
    x, y = (sum(axis) / 4 for axis in zip(*shape.corners, strict=True))
    return box(given.label, (left + right) / 2 - x, (top + bottom) / 2 - y,
               right - left, bottom - top, turn)  # fmt: skip


def _ellipse(given: _Given) -> Outline:
    x, y, across, down = map(given.number, ("cx", "cy", "rx", "ry"))
    return ellipse(given.label, x, y, across, down, given.number("rotation", "0"))


def _mask(given: _Given) -> Outline:
    left, top, width, height = (int(given.number(n)) for n in ("left", "top", "width", "height"))
    try:
        runs = [int(text) for text in given.texts.get("rle", "").split(",")]
        return Pixels(given.label, left, top, width, height, checked_runs(runs, width * height))
    except ValueError as error:
        raise DataError(
            given.file, f"{given.where}: a mask with {error}", "export it anew"
        ) from error


_SHAPES = {"polygon": _polygon, "box": _box, "ellipse": _ellipse, "mask": _mask}

CVAT = Layout(
    "cvat",
    "annotations.xml of CVAT for images 1.1, and images beside it or in images",
    _holds,
    _index,
    single=True,
)
