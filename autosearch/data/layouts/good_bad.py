"""Folders of normal and anomalous images side by side, and one flat folder of normal images."""

from __future__ import annotations

from pathlib import Path

from autosearch.data.index import Index, means_normal
from autosearch.data.layouts.contract import Layout
from autosearch.data.layouts.gathering import Gathering, Matching, by_name, key
from autosearch.data.members import folders, listed, members, nfc
from autosearch.errors import DataError

_MEANS_ANOMALOUS = {
    "bad", "nok", "not-ok", "notok", "ko", "ng", "anomaly", "anomalies", "anomalous", "abnormal",
    "defect", "defects", "defective", "faulty", "fault", "faults",
}  # fmt: skip
_MASKS = {"masks", "mask", "ground-truth", "gt", "labels"}
_TABLES = {".csv", ".json", ".xml"}
"""Endings of files that may say more of images than their folder does."""


def _means(names: set[str], folder: Path) -> bool:
    return nfc(folder.name).lower().replace("_", "-").replace(" ", "-") in names


def _normals(place: Path) -> list[Path]:
    return [folder for folder in folders(place) if means_normal(nfc(folder.name))]


def _holds(place: Path) -> bool:
    inside = folders(place)
    known = [f for f in inside if means_normal(f.name) or _means(_MEANS_ANOMALOUS, f)]
    others = [f for f in inside if f not in known and not _means(_MASKS, f)]
    normals = _normals(place)
    alone = len(known) > len(normals) or not others
    return alone and any(members(folder).images for folder in normals)


def _index(place: Path, name: str) -> Index:
    """Index ``good`` and ``bad``, by whatever names.

    Folders below the anomalous one are types. The mask of ``bad/<type>/<name>.png`` is
    ``masks/bad/<type>/<name>.png``, or lies in ``masks/<type>``, ``masks/bad`` or ``masks``, with
    ``_mask`` behind its name or without. Where there are no masks, images have none.

    Raises:
        DataError: There is no normal image.
    """
    found = Gathering(place)
    matching = Matching(folder for folder in folders(place) if _means(_MASKS, folder))
    normals = _normals(place)
    for folder in normals:
        inside = members(folder)
        found.ignored += inside.ignored
        for path in inside.images:
            sub, _ = key(path, folder)
            found.add(path, masks=[matching.mask(path, [_joined(folder.name, sub)])])
    if not found.samples:
        raise DataError(place, "holds no normal image in a folder good", "add normal images")
    anomalous = [folder for folder in folders(place) if _means(_MEANS_ANOMALOUS, folder)]
    for folder in anomalous:
        kinds = by_name(folder)
        for kind, places in kinds.items():
            for below in places:
                _add(found, matching, below, kind, [_joined(folder.name, kind), kind, folder.name])
        direct = members(folder, deep=False)
        for path in direct.images:
            mask = matching.mask(path, [nfc(folder.name), "."])
            found.add(path, nfc(folder.name), [mask])
        found.ignored += direct.ignored
        if not kinds and not direct.images:
            found.empty.append(folder)
    found.take(matching)
    read = [*normals, *anomalous, *(f for f in folders(place) if _means(_MASKS, f))]
    found.loose(place, {nfc(folder.name) for folder in read})
    return found.index(name)


def _add(found: Gathering, matching: Matching, folder: Path, kind: str, subs: list[str]) -> None:
    """The images of one type, with masks from the places where they may lie."""
    inside = members(folder)
    found.ignored += inside.ignored
    if not inside.images:
        found.empty.append(folder)
    for path in inside.images:
        sub, _ = key(path, folder)
        places = [_joined(place, sub) for place in subs]
        found.add(path, kind, [matching.mask(path, [*places, *subs, "."])])


def _joined(folder: str, sub: str) -> str:
    return nfc((Path(folder) / sub).as_posix())


def _holds_flat(place: Path) -> bool:
    return bool(members(place, deep=False).images)


def _tells_nothing_else(place: Path) -> bool:
    return not any(path.suffix.lower() in _TABLES for path in listed(place))


def _index_flat(place: Path, name: str) -> Index:
    found = Gathering(place)
    found.normals(place)
    if not found.samples:
        raise DataError(place, "holds no image", "add normal images")
    return found.index(name)


GOOD_BAD = Layout(
    "good_bad",
    "folders good and bad (ok and nok, normal and anomalous, …), perhaps masks beside them",
    _holds,
    _index,
    single=True,
)

FLAT = Layout(
    "flat",
    "one folder of normal images",
    _holds_flat,
    _index_flat,
    single=True,
    below=False,
    sure=_tells_nothing_else,
)
