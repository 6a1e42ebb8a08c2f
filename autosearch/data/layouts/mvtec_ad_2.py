"""MVTec AD 2 (Heckler-Kram et al., 2025): folders for validation, tests public and private."""

from __future__ import annotations

import re
from pathlib import Path

from autosearch.data.index import Index
from autosearch.data.layouts.contract import Layout
from autosearch.data.layouts.gathering import Gathering, by_name
from autosearch.data.layouts.mvtec import train_normals
from autosearch.data.notes import Note
from autosearch.data.records import NORMAL

_PRIVATE = ("test_private", "test_private_mixed")
_LIGHTING = re.compile(r"(\d+)_(?:regular|overexposed|underexposed|shift_\d+)")


def _index(place: Path, name: str) -> Index:
    """Index a category. Images of one object under several lightings are one group."""

    def group(path: Path) -> str:
        lit = _LIGHTING.fullmatch(path.stem)
        return (path.with_name(lit[1]) if lit else path).relative_to(place.parent).as_posix()

    found = Gathering(place, group)
    validation, public = place / "validation", place / "test_public"
    validated = (validation / NORMAL).is_dir()
    train_normals(found, place / "train" / NORMAL, validated)
    found.normals(validation / NORMAL, "val")
    tested = by_name(public)
    tested.pop("ground_truth", None)
    for folder in tested.pop(NORMAL, ()):
        found.normals(folder, "test")
    masks = by_name(public / "ground_truth")
    for kind in sorted(tested | masks):
        found.anomalous(kind, tested.get(kind, ()), masks.get(kind, ()))
    for part in ("train", "validation"):
        found.loose(place / part, {NORMAL})
    found.loose(public)
    found.loose(public / "ground_truth")
    for part in _PRIVATE:
        if (place / part).is_dir():
            kind = "is a test split without labels and is not read"
            remedy = "nothing has to be done: figures are those of test_public"
            found.notes.append(Note(place / part, kind, remedy))
    return found.index(name)


MVTEC_AD_2 = Layout(
    "mvtec_ad_2",
    f"folders train/{NORMAL} and test_public, with its masks inside",
    lambda place: (place / "train" / NORMAL).is_dir() and (place / "test_public").is_dir(),
    _index,
)
