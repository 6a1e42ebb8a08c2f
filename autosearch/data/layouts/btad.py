"""BTAD (Mishra et al., 2021): as MVTec AD, with ``ok`` and ``ko``."""

from __future__ import annotations

from pathlib import Path

from autosearch.data.index import Index
from autosearch.data.layouts.contract import Layout
from autosearch.data.layouts.gathering import Gathering, by_name
from autosearch.data.layouts.mvtec import train_normals

_NORMAL, _ANOMALOUS = "ok", "ko"


def _index(place: Path, name: str) -> Index:
    found = Gathering(place)
    train_normals(found, place / "train" / _NORMAL)
    tested, masks = by_name(place / "test"), by_name(place / "ground_truth")
    for folder in tested.pop(_NORMAL, ()):
        found.normals(folder, "test")
    masks.pop(_NORMAL, None)
    for kind in sorted(tested | masks):
        found.anomalous(kind, tested.get(kind, ()), masks.get(kind, ()))
    found.loose(place / "train", {_NORMAL})
    found.loose(place / "test")
    found.loose(place / "ground_truth")
    return found.index(name)


BTAD = Layout(
    "btad",
    f"folders train/{_NORMAL}, test/{_NORMAL}, test/{_ANOMALOUS} and ground_truth/{_ANOMALOUS}",
    lambda place: (place / "train" / _NORMAL).is_dir() and (place / "test" / _ANOMALOUS).is_dir(),
    _index,
)
