"""KolektorSDD (Tabernik et al., 2019) and KolektorSDD2 (Božič et al., 2021).

Every image has a label beside it, all zero where the image is normal: labels are opened to tell.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from autosearch.data.index import Index
from autosearch.data.layouts.contract import Layout, part_of, stated
from autosearch.data.layouts.gathering import Gathering
from autosearch.data.masks import read_mask
from autosearch.data.members import folders, members, nfc
from autosearch.data.notes import Note
from autosearch.data.records import NORMAL
from autosearch.errors import DataError

_ITEM = re.compile(r"kos\d+", re.IGNORECASE)
_DEFECT = "defect"
_SOUND_ITEMS = 3
"""Commutators without defect that a split into three parts needs."""


def _items(place: Path) -> list[Path]:
    return [folder for folder in folders(place) if _ITEM.fullmatch(folder.name)]


def _index_first(place: Path, name: str) -> Index:
    """Index KolektorSDD; images of one commutator, a folder, are one group.

    Where hardly any commutator is free of defects, as in the published set, no split with normal
    images for training would keep these groups together; then every image is one of its own.
    """
    found = Gathering(place, lambda path: path.parent.relative_to(place.parent).as_posix())
    items = _items(place)
    for folder in items:
        _pairs(found, folder, "_label")
    spoilt = {sample.group for sample in found.samples if not sample.normal}
    if len({sample.group for sample in found.samples} - spoilt) < _SOUND_ITEMS:
        found.samples = [
            replace(sample, group=sample.path.relative_to(place.parent).as_posix())
            for sample in found.samples
        ]
        kind = "has a defect on nearly every commutator, so that images of one may be split"
        found.notes.append(Note(place, kind, "list the images in a CSV file to group them"))
    found.loose(place, {nfc(folder.name) for folder in items})
    return found.index(name)


def _index_second(place: Path, name: str) -> Index:
    """Index KolektorSDD2. Normal test images stay test ones; the rule splits all others."""
    found = Gathering(place)
    for part in ("train", "test"):
        _pairs(found, place / part, "_GT")
    found.loose(place, {"train", "test"})
    return found.index(name)


def _pairs(found: Gathering, folder: Path, ending: str) -> None:
    """Gather the images of a folder with the labels beside them."""
    inside = members(folder)
    found.ignored += inside.ignored
    labels = {
        (path.parent, nfc(path.stem).removesuffix(ending)): path
        for path in inside.images
        if nfc(path.stem).endswith(ending)
    }
    images = [path for path in inside.images if not nfc(path.stem).endswith(ending)]
    paired = {path: labels.pop((path.parent, nfc(path.stem)), None) for path in images}
    found.orphans += labels.values()
    present = [label for label in paired.values() if label is not None]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        marked = pool.map(lambda label: bool(read_mask(label).mask.any()), present)
        anomalous = dict(zip(present, marked, strict=True))
    part = part_of(folder.name)
    for image, label in paired.items():
        if label is None:
            problem = f"has no label {image.stem}{ending} beside it"
            remedy = "add it, all zero where the image is normal, or remove the image"
            found.faults.append(DataError(image, problem, remedy))
            continue
        normal = not anomalous[label]
        kind = NORMAL if normal else _DEFECT
        found.add(image, kind, [label], stated(part, normal, validated=False))


KOLEKTOR = Layout(
    "kolektor",
    "folders kos01, kos02, … with Part0.jpg and Part0_label.bmp",
    lambda place: any(next(f.glob("*_label.*"), None) for f in _items(place)[:3]),
    _index_first,
    single=True,
)

KOLEKTOR2 = Layout(
    "kolektor2",
    "folders train and test with 10000.png and 10000_GT.png",
    lambda place: any(next((place / part).glob("*_GT.*"), None) for part in ("train", "test")),
    _index_second,
    single=True,
)
