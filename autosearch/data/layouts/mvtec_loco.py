"""MVTec LOCO AD (Bergmann et al., 2022): several masks an image, defects with a saturation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from autosearch.data.index import Index, Saturation
from autosearch.data.layouts.contract import Layout
from autosearch.data.layouts.gathering import Gathering, by_name
from autosearch.data.layouts.mvtec import train_normals
from autosearch.data.layouts.reading import number, read_json
from autosearch.data.members import folders, members, nfc
from autosearch.data.notes import Note
from autosearch.data.records import NORMAL
from autosearch.errors import DataError

_CONFIG = "defects_config.json"
_TYPES = ("logical_anomalies", "structural_anomalies")


def _holds(place: Path) -> bool:
    truth = place / "ground_truth"
    told = (place / _CONFIG).is_file() or any((truth / kind).is_dir() for kind in _TYPES)
    return told and (place / "train" / NORMAL).is_dir()


def _index(place: Path, name: str) -> Index:
    """Index a category: the masks of ``test/<type>/<name>.png`` are ``<type>/<name>/*.png``."""
    found = Gathering(place)
    validation = place / "validation" / NORMAL
    train_normals(found, place / "train" / NORMAL, validation.is_dir())
    found.normals(validation, "val")
    tested, truth = by_name(place / "test"), by_name(place / "ground_truth")
    for folder in tested.pop(NORMAL, ()):
        found.normals(folder, "test")
    for kind in sorted(tested | truth):
        masks = _masks(found, truth.get(kind, []))
        for folder in tested.get(kind, ()):
            inside = members(folder)
            found.ignored += inside.ignored
            found.empty += [folder] if not inside.images else []
            for path in inside.images:
                found.add(path, kind, masks.pop(nfc(path.stem), ()))
        found.orphans += [path for left in masks.values() for path in left]
    for part in ("train", "validation"):
        found.loose(place / part, {NORMAL})
    found.loose(place / "test")
    found.loose(place / "ground_truth")
    defects = _saturations(place / _CONFIG)
    if not defects:
        kind = f"has no {_CONFIG}, so that every region has to be covered whole"
        found.notes.append(Note(place, kind, "add the file that the dataset has in this folder"))
    found.samples = [
        replace(sample, saturation=defects) if sample.masks else sample for sample in found.samples
    ]
    return found.index(name)


def _masks(found: Gathering, places: list[Path]) -> dict[str, list[Path]]:
    """The masks of a type by the image's name; a mask that is no folder's is an image's alone."""
    masks: dict[str, list[Path]] = {}
    for place in places:
        for folder in folders(place):
            inside = members(folder)
            found.ignored += inside.ignored
            masks.setdefault(nfc(folder.name), []).extend(inside.images)
        for path in members(place).images:
            if path.parent == place:
                masks.setdefault(nfc(path.stem).removesuffix("_mask"), []).append(path)
    return masks


def _saturations(file: Path) -> tuple[Saturation, ...]:
    """What the masks' values stand for; empty where there is no such file."""
    if not file.is_file():
        return ()
    content = read_json(file)
    if not isinstance(content, list):
        raise DataError(file, "is no list of defects", "restore the file of the dataset")
    return tuple(_saturation(file, entry) for entry in content)


def _saturation(file: Path, entry: Any) -> Saturation:
    wanted = ("pixel_value", "saturation_threshold", "relative_saturation")
    if not isinstance(entry, dict) or any(key not in entry for key in wanted):
        problem = f"has a defect without {', '.join(wanted)}"
        raise DataError(file, problem, "restore the file of the dataset")
    value, threshold = (number(file, entry[key], key) for key in wanted[:2])
    relative = bool(entry[wanted[2]])
    if threshold <= 0 or (relative and threshold > 1):
        allowed = "above 0 and, where relative, at most 1"
        raise DataError(file, f"has a saturation_threshold of {threshold:g}", f"it is {allowed}")
    return Saturation(int(value), threshold, relative)


MVTEC_LOCO = Layout(
    "mvtec_loco",
    f"folders train/{NORMAL}, test/<type> and ground_truth/<type>/<image>, {_CONFIG}",
    _holds,
    _index,
)
