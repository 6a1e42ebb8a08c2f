"""COCO's JSON of instances, as CVAT, Roboflow, Label Studio and others export it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autosearch.data.index import Index
from autosearch.data.layouts.annotated import Entry, box, class_name, index_entries, polygon
from autosearch.data.layouts.contract import Layout, part_of
from autosearch.data.layouts.reading import number, picture, read_json, size_of
from autosearch.data.layouts.runs import checked_runs, coco_runs
from autosearch.data.notes import Note
from autosearch.data.outlines import Outline, Pixels
from autosearch.errors import DataError

_FOLDERS = (".", "annotations", "train", "valid", "val", "test")
_MOST_FILES = 10
"""JSON files in a folder, beyond which each is of one image."""


def _files(place: Path) -> list[Path]:
    """COCO files of a dataset: itself, or those in its folders."""
    if place.is_file():
        return [place] if _is_coco(place) else []
    found = []
    for folder in _FOLDERS:
        there = sorted((place / folder).glob("*.json"))
        if len(there) <= _MOST_FILES:
            found += [file for file in there if file.is_file() and _is_coco(file)]
    return found


def _is_coco(file: Path) -> bool:
    content = read_json(file) if file.suffix.lower() == ".json" else None
    return isinstance(content, dict) and {"images", "annotations"} <= content.keys()


def _index(place: Path, name: str) -> Index:
    """Index one or several files; of several, the names state splits."""
    files = _files(place)
    if not files:
        raise DataError(
            place, "is no COCO file with images and annotations", "export it as COCO instances"
        )
    entries: list[Entry] = []
    notes: list[Note] = []
    for file in files:
        entries += _File(file, notes).entries(several=len(files) > 1)
    return index_entries(place.parent, name, entries, notes)


class _File:
    """One COCO file.

    Args:
        file: It.
        notes: Get what is assumed.
    """

    def __init__(self, file: Path, notes: list[Note]) -> None:
        self.file, self.notes = file, notes
        self.content = read_json(file)

    def entries(self, several: bool) -> list[Entry]:
        """Its images with all that was drawn on them."""
        part = part_of(self.file.stem) or part_of(self.file.parent.name) if several else None
        classes = {
            self._key(entry, "id", f"category {n}"): class_name(entry.get("name"))
            for n, entry in enumerate(self._list("categories"))
        }
        sizes: dict[Any, tuple[int, int] | None] = {}
        images: dict[Any, Path] = {}
        for n, entry in enumerate(self._list("images")):
            key = self._key(entry, "id", f"image {n}")
            name = str(self._key(entry, "file_name", f"image {key}"))
            if key in images:
                raise self.error(f"has two images with the id {key}")
            extra = [self.file.stem, f"../{self.file.stem.rpartition('_')[2]}"]
            images[key] = picture(self.file, name, f"image {key}", extra)
            sizes[key] = size_of(self.file, entry.get("width"), entry.get("height"), name)
        shapes: dict[Any, list[Outline]] = {key: [] for key in images}
        for n, entry in enumerate(self._list("annotations")):
            where = f"annotation {self._key(entry, 'id', f'annotation {n}')}"
            image = self._key(entry, "image_id", where)
            label = self._key(entry, "category_id", where)
            if image not in shapes:
                raise self.error(f"{where} is of the image {image}, which is not listed")
            if label not in classes:
                raise self.error(f"{where} is of the category {label}, which is not listed")
            size = sizes[image]
            shapes[image] += self._shapes(entry, classes[label], where, images[image], size)
        return [
            Entry(self.file, images[key], tuple(drawn), sizes[key], part)
            for key, drawn in shapes.items()
        ]

    def error(self, problem: str) -> DataError:
        """What forbids to use the file."""
        return DataError(self.file, problem, "export it anew")

    def _list(self, key: str) -> list[dict[str, Any]]:
        found = self.content.get(key)
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise self.error(f"has no list of {key}")
        return found

    def _key(self, entry: dict[str, Any], key: str, where: str) -> Any:
        value = entry.get(key)
        if not isinstance(value, (str, int)):
            raise self.error(f"{where} has no {key}")
        return value

    def _shapes(
        self,
        entry: dict[str, Any],
        label: str,
        where: str,
        image: Path,
        size: tuple[int, int] | None,
    ) -> list[Outline]:
        drawn = entry.get("segmentation")
        if isinstance(drawn, dict):
            return [self._runs(drawn, label, where, size)]
        if isinstance(drawn, list) and drawn:
            return [self._polygon(flat, label, where) for flat in drawn]
        around = entry.get("bbox")
        if not isinstance(around, list) or len(around) != 4:
            raise self.error(f"{where} has neither a segmentation nor a bbox")
        kind = "has boxes alone, each of which is taken for an outline"
        self.notes.append(Note(image, kind, "draw outlines to have figures of pixels"))
        left, top, width, height = (number(self.file, side, where) for side in around)
        return [box(label, left, top, width, height)]

    def _polygon(self, flat: Any, label: str, where: str) -> Outline:
        if not isinstance(flat, list) or len(flat) % 2:
            raise self.error(f"{where} has an outline that is no list of pairs")
        pairs = [list(pair) for pair in zip(flat[::2], flat[1::2], strict=True)]
        return polygon(self.file, label, pairs, where)

    def _runs(
        self, drawn: dict[str, Any], label: str, where: str, size: tuple[int, int] | None
    ) -> Pixels:
        sides = drawn.get("size")
        sides = sides if isinstance(sides, list) and len(sides) == 2 else [None, 0]
        height, width = size_of(self.file, sides[0], sides[1], where) or (0, 0)
        if size is not None and size != (width, height):
            raise self.error(
                f"{where} is of {width}x{height} pixels, its image {size[0]}x{size[1]}"
            )
        counts = drawn.get("counts")
        try:
            runs = coco_runs(counts) if isinstance(counts, str) else counts
            if not isinstance(runs, (list, tuple)):
                raise ValueError("no counts")
            return Pixels(label, 0, 0, width, height, checked_runs(runs, width * height), True)
        except ValueError as error:
            raise self.error(f"{where} has {error}") from error


COCO = Layout(
    "coco",
    "a JSON file of COCO with images, annotations and categories, and images beside it",
    lambda place: bool(_files(place)),
    _index,
    single=True,
)
