"""From what a tool for labelling exported to an index: one entry an image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import cos, radians, sin
from pathlib import Path
from typing import Any

from autosearch.data.index import Index, Sample, SplitName
from autosearch.data.layouts.contract import stated
from autosearch.data.layouts.reading import number
from autosearch.data.members import members, nfc
from autosearch.data.notes import Note
from autosearch.data.outlines import Outline, Outlines, Polygon
from autosearch.data.records import NORMAL
from autosearch.errors import DataError

UNNAMED = "anomaly"
"""Type of what was drawn without a class."""

_CORNERS = 72
"""Of the polygon that stands for an ellipse."""


@dataclass(frozen=True)
class Entry:
    """One image as an annotation file has it.

    Attributes:
        file: The annotation file.
        image: The image.
        shapes: What was drawn on it; none where it is normal.
        size: Its width and height, as the file states them.
        part: The split that the file states.
    """

    file: Path
    image: Path
    shapes: tuple[Outline, ...]
    size: tuple[int, int] | None = None
    part: SplitName | None = None


def index_entries(
    root: Path, name: str, entries: Sequence[Entry], notes: Iterable[Note] = ()
) -> Index:
    """Index annotated images. The type of an image is the class with the largest area on it.

    Args:
        root: Folder to which names are relative; one above it where images lie beside it.
        name: Of the category.
        entries: The images.
        notes: What was assumed before.

    Raises:
        DataError: There are no images, one stands there twice, or a class is called as normal
            images are.
    """
    told, samples = list(notes), {}
    validated = any(entry.part == "val" and not entry.shapes for entry in entries)
    while not all(entry.image.is_relative_to(root) for entry in entries):
        root = root.parent
    for entry in entries:
        if entry.image in samples:
            problem = f"names {entry.image.name} twice"
            raise DataError(entry.file, problem, "remove one of the two")
        kind, note = _type(entry)
        told += [note] if note else []
        outlines = Outlines(entry.file, entry.shapes, entry.size) if entry.shapes else None
        group = entry.image.relative_to(root).as_posix()
        split = stated(entry.part, not entry.shapes, validated)
        samples[entry.image] = Sample(entry.image, (), kind, split, group, outlines)
    if not samples:
        raise DataError(entries[0].file if entries else root, "names no image", "export it anew")
    ordered = tuple(samples[path] for path in sorted(samples))
    return Index(root, nfc(name), ordered, ignored=_unnamed(samples), notes=tuple(told))


def _type(entry: Entry) -> tuple[str, Note | None]:
    """Anomaly type of an image, and a note where it could be another."""
    areas: dict[str, float] = defaultdict(float)
    for shape in entry.shapes:
        areas[shape.label] += shape.area
    if not areas:
        return NORMAL, None
    if NORMAL in areas:
        problem = f"has a class called {NORMAL}, as normal images are, on {entry.image.name}"
        raise DataError(entry.file, problem, "rename the class, or remove what was drawn with it")
    kind = max(sorted(areas), key=areas.__getitem__)
    if len(areas) == 1:
        return kind, None
    note = "has several classes and counts as the one with the largest area"
    remedy = "list the images in a CSV file to have it otherwise"
    return kind, Note(entry.image, note, remedy, ", ".join(sorted(areas)))


def _unnamed(samples: dict[Path, Sample]) -> tuple[Path, ...]:
    """Images that lie beside those that are named, and are not."""
    beside = {path for folder in {path.parent for path in samples} for path in folder.iterdir()}
    known = {path for path in members_of(beside) if path not in samples}
    return tuple(sorted(known))


def members_of(paths: Iterable[Path]) -> set[Path]:
    """Those of some paths that have the names of images."""
    folders = {path.parent for path in paths}
    return {path for folder in folders for path in members(folder, deep=False).images}


def class_name(label: object) -> str:
    """The class of a shape as a type."""
    text = nfc(label.strip()) if isinstance(label, str) else ""
    return "".join(sign for sign in text if sign.isprintable()) or UNNAMED


def polygon(file: Path, label: str, points: Any, where: str) -> Polygon:
    """An outline from pairs of coordinates.

    Raises:
        DataError: They are no pairs of numbers, or fewer than three.
    """
    pairs = points if isinstance(points, list) else []
    corners = []
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise DataError(file, f"{where} has a point that is no pair", "export it anew")
        corners.append((number(file, pair[0], where), number(file, pair[1], where)))
    if len(corners) < 3:
        problem = f"{where} has {len(corners)} points, and three enclose something"
        raise DataError(file, problem, "remove or redraw it")
    return Polygon(label, tuple(corners))


def box(
    label: str, left: float, top: float, width: float, height: float, degrees: float = 0
) -> Polygon:
    """A box turned clockwise about its first corner."""
    at = [(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)]
    return Polygon(label, tuple(_turned(left, top, x, y, degrees) for x, y in at))


def ellipse(
    label: str, x: float, y: float, across: float, down: float, degrees: float = 0
) -> Polygon:
    """An ellipse of two radii about its centre, turned clockwise."""
    angles = [radians(360 * n / _CORNERS) for n in range(_CORNERS)]
    corners = (_turned(x, y, across * cos(a), down * sin(a), degrees) for a in angles)
    return Polygon(label, tuple(corners))


def _turned(left: float, top: float, x: float, y: float, degrees: float) -> tuple[float, float]:
    c, s = cos(radians(degrees)), sin(radians(degrees))
    return left + c * x - s * y, top + s * x + c * y
