"""Folders laid out like MVTec AD: ``train/good``, ``test/<type>``, ``ground_truth/<type>``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from autosearch.data.index import Index, Sample, SplitName, means_normal
from autosearch.data.members import folders, listed, members, nfc
from autosearch.data.notes import Note
from autosearch.data.records import NORMAL
from autosearch.errors import ConfigError, DataError

_LAYOUT = f"<category>/train/{NORMAL}, <category>/test/<type> and <category>/ground_truth/<type>"


def categories(root: Path) -> list[str]:
    """Names of the folders under ``root`` that hold ``train/good``, sorted."""
    return sorted(folder.parent.parent.name for folder in root.glob(f"*/train/{NORMAL}"))


def index_folders(root: Path, category: str) -> Index:
    """Index ``<root>/<category>`` with ``train/good``, ``test/<type>``, ``ground_truth/<type>``.

    Folders below these are read as well; the mask of ``test/<type>/<sub>/<name>.png`` is
    ``ground_truth/<type>/<sub>/<name>_mask.png``, or lies in ``ground_truth/<type>`` itself. Names
    are compared in one Unicode form. Only ``test/good`` has a stated split. The other normal
    images and all anomalous ones are left to the split rule, which draws validation images from
    both.

    Raises:
        ConfigError: The category is not there.
        DataError: No category is there, or it holds no normal image.
    """
    found = {nfc(name): name for name in categories(root)}
    if nfc(category) not in found:
        raise _unreadable(root, category, list(found))
    base = root / found[nfc(category)]
    train, tested = base / "train" / NORMAL, _by_name(base / "test")
    normals = [members(train), *map(members, tested.pop(NORMAL, ()))]
    if not normals[0].images:
        raise DataError(train, "holds no image", "add normal images")
    samples = [_alone(root, path) for path in normals[0].images]
    for part in normals[1:]:
        samples += [_alone(root, path, split="test") for path in part.images]
    ignored = [path for part in normals for path in part.ignored]
    ignored += [path for path in listed(base / "train") if nfc(path.name) != NORMAL]
    ignored += [path for path in listed(base / "test") if not path.is_dir()]
    ignored += [path for path in listed(base / "ground_truth") if not path.is_dir()]
    masks = _by_name(base / "ground_truth")
    empty: list[Path] = []
    orphans: list[Path] = []
    faults: list[DataError] = []
    notes: list[Note] = []
    for kind in sorted(tested | masks):
        matching = _Matching(masks.get(kind, []))
        images = [(folder, members(folder)) for folder in tested.get(kind, ())]
        empty += [folder for folder, part in images if not part.images]
        for folder, part in images:
            ignored += part.ignored
            for path in part.images:
                samples.append(_alone(root, path, matching.mask(path, folder), kind))
        ignored += matching.ignored
        orphans += matching.orphans()
        faults += matching.faults
        notes += matching.notes
    samples.sort(key=lambda sample: sample.path)
    return Index(
        root,
        nfc(category),
        tuple(samples),
        tuple(sorted(orphans)),
        tuple(sorted(empty)),
        tuple(sorted(ignored)),
        tuple(faults),
        tuple(notes),
    )


class _Matching:
    """Finds the masks of one type's images.

    Args:
        places: Folders of its masks.

    Attributes:
        ignored: What is not read in them.
        faults: Masks that fit two images, images that two masks fit equally well.
        notes: Masks that were preferred to others.
    """

    def __init__(self, places: Iterable[Path]) -> None:
        self._masks: dict[tuple[str, str], list[Path]] = defaultdict(list)
        self._images: dict[Path, Path] = {}
        self.ignored: list[Path] = []
        self.faults: list[DataError] = []
        self.notes: list[Note] = []
        for folder in places:
            inside = members(folder)
            self.ignored += inside.ignored
            for path in inside.images:
                self._masks[_key(path, folder)].append(path)

    def mask(self, image: Path, folder: Path) -> Path | None:
        """The mask of an image, to be asked once for each."""
        sub, stem = _key(image, folder)
        found = [
            mask
            for place in dict.fromkeys((sub, "."))
            for name in (f"{stem}_mask", stem)
            for mask in self._masks.get((place, name), ())
        ]
        if not found:
            return None
        first, *others = found
        beside = [other for other in others if other.parent == first.parent]
        if any(nfc(other.stem) == nfc(first.stem) for other in beside):
            problem = f"has two masks, {first.name} and {beside[0].name}"
            self.faults.append(DataError(image, problem, "remove one of them"))
        elif beside:
            kind = "fits an image beside another mask, which is preferred for its ending in _mask"
            self.notes.append(Note(beside[0], kind, "remove the one that is wrong", first.name))
        if (other := self._images.setdefault(first, image)) != image:
            problem = f"would be the mask of both {_both(other, image)}"
            remedy = "give the images different names, and each a mask of its own"
            self.faults.append(DataError(first, problem, remedy))
        return first

    def orphans(self) -> list[Path]:
        """Masks that no image had."""
        return [
            path for paths in self._masks.values() for path in paths if path not in self._images
        ]


def _key(path: Path, folder: Path) -> tuple[str, str]:
    """Place of a file below a folder, and its name without ending, in one Unicode form."""
    return nfc(path.relative_to(folder).parent.as_posix()), nfc(path.stem)


def _both(first: Path, second: Path) -> str:
    """Two images as they are told apart best."""
    if first.parent == second.parent:
        return f"{first.name} and {second.name}"
    return f"{first.parent.name}/{first.name} and {second.parent.name}/{second.name}"


def _by_name(folder: Path) -> dict[str, list[Path]]:
    """Folders in a folder by their names in one Unicode form."""
    named: dict[str, list[Path]] = {}
    for path in folders(folder):
        named.setdefault(nfc(path.name), []).append(path)
    return named


def _alone(
    root: Path,
    path: Path,
    mask: Path | None = None,
    kind: str = NORMAL,
    split: SplitName | None = None,
) -> Sample:
    """An image that is a group of its own."""
    return Sample(path, mask, kind, split, path.relative_to(root).as_posix())


def _unreadable(root: Path, category: str, found: list[str]) -> ConfigError | DataError:
    """Why there is no such category, and what would make one of what is there."""
    if (root / "train" / NORMAL).is_dir():
        remedy = f"set dataset.root to the folder above the categories, {root.parent}, and"
        return DataError(root, "is a category itself", f"{remedy} dataset.category to {root.name}")
    inside = folders(root)
    named = [path for path in inside if nfc(path.name) == nfc(category)]
    for place in named if found else [*named, root, *inside]:
        if problem := _near_miss(place):
            return problem
    if found:
        return ConfigError("dataset.category", category, f"one of {', '.join(found)}")
    return DataError(
        root,
        f"no category folder with train/{NORMAL} inside",
        f"set dataset.root to the folder above the categories, which holds {_LAYOUT}",
    )


def _near_miss(place: Path) -> DataError | None:
    """What is wrong with a folder that somebody may take for a category."""
    train = [path.name for path in folders(place / "train")]
    if train:
        normal = next(filter(means_normal, train), train[0] if len(train) == 1 else "<folder>")
        remedy = f"rename {normal} to {NORMAL} if its images are normal; {_LAYOUT} would be read"
        return DataError(place / "train", f"holds {_few(train)}, and no {NORMAL}", remedy)
    if (place / "train").is_dir():
        remedy = f"move normal images to {place.name}/train/{NORMAL}; {_LAYOUT} would be read"
        return DataError(place / "train", f"has no folder {NORMAL}", remedy)
    names = [path.name for path in folders(place)]
    if any(map(means_normal, names)):
        remedy = f"arrange them as {_LAYOUT}, or list the images in a CSV file"
        return DataError(place, f"holds {_few(names)}, and no train/{NORMAL}", remedy)
    return None


def _few(names: list[str]) -> str:
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
