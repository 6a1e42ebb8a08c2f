"""Folders laid out like MVTec AD: ``train/good``, ``test/<type>``, ``ground_truth/<type>``.

MPDD, and much else, is laid out so.
"""

from __future__ import annotations

from pathlib import Path

from autosearch.data.index import Index, means_normal
from autosearch.data.layouts.contract import Layout
from autosearch.data.layouts.gathering import Gathering, by_name
from autosearch.data.members import folders, nfc
from autosearch.data.records import NORMAL
from autosearch.errors import DataError

ARRANGED = f"<category>/train/{NORMAL}, <category>/test/<type> and <category>/ground_truth/<type>"
"""What is read, for errors."""


def index_folders(place: Path, name: str) -> Index:
    """Index a category with ``train/good``, ``test/<type>`` and ``ground_truth/<type>``.

    Folders below these are read as well; the mask of ``test/<type>/<sub>/<name>.png`` is
    ``ground_truth/<type>/<sub>/<name>_mask.png``, or lies in ``ground_truth/<type>`` itself. Names
    are compared in one Unicode form. Only ``test/good`` has a stated split. The other normal
    images and all anomalous ones are left to the split rule, which draws validation images from
    both.

    Raises:
        DataError: It holds no normal image.
    """
    found = Gathering(place)
    train_normals(found, place / "train" / NORMAL)
    tested = by_name(place / "test")
    for folder in tested.pop(NORMAL, ()):
        found.normals(folder, "test")
    found.loose(place / "train", {NORMAL})
    found.loose(place / "test")
    found.loose(place / "ground_truth")
    masks = by_name(place / "ground_truth")
    for kind in sorted(tested | masks):
        found.anomalous(kind, tested.get(kind, ()), masks.get(kind, ()))
    return found.index(name)


def train_normals(found: Gathering, folder: Path, validated: bool = False) -> None:
    """Gather the normal training images, stated as such if there are others for validation.

    Raises:
        DataError: There is none.
    """
    found.normals(folder, "train" if validated else None)
    if not found.samples:
        raise DataError(folder, "holds no image", "add normal images")


def near_miss(root: Path, category: str) -> DataError | None:
    """What is wrong with a folder that somebody may take for the category."""
    inside = folders(root)
    named = [path for path in inside if nfc(path.name) == nfc(category)]
    for place in [*named, root, *inside]:
        if problem := nearly(place):
            return problem
    return None


def nearly(place: Path) -> DataError | None:
    """What is wrong with a folder that somebody may take for a category."""
    train = [path.name for path in folders(place / "train")]
    if NORMAL in map(nfc, train):
        return None
    if train:
        normal = next(filter(means_normal, train), train[0] if len(train) == 1 else "<folder>")
        remedy = f"rename {normal} to {NORMAL} if its images are normal; {ARRANGED} would be read"
        return DataError(place / "train", f"holds {few(train)}, and no {NORMAL}", remedy)
    if (place / "train").is_dir():
        remedy = f"move normal images to {place.name}/train/{NORMAL}; {ARRANGED} would be read"
        return DataError(place / "train", f"has no folder {NORMAL}", remedy)
    names = [path.name for path in folders(place)]
    if any(map(means_normal, names)):
        remedy = f"arrange them as {ARRANGED}, or list the images in a CSV file"
        return DataError(place, f"holds {few(names)}, and no train/{NORMAL}", remedy)
    return None


def few(names: list[str]) -> str:
    """The first of some names."""
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")


MVTEC = Layout(
    "mvtec",
    f"folders train/{NORMAL}, test/<type> and ground_truth/<type>",
    lambda place: (place / "train" / NORMAL).exists(),
    index_folders,
)
