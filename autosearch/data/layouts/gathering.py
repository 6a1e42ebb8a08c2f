"""Images from folders by type, and the masks that belong to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from autosearch.data.index import Index, Sample, SplitName
from autosearch.data.members import folders, listed, members, nfc
from autosearch.data.notes import Note
from autosearch.data.records import NORMAL
from autosearch.errors import DataError


class Gathering:
    """Collects the images of one category.

    Args:
        place: Folder of the category; names in records begin with it.
        group: ``group_id`` of an image; None makes each a group of its own.
    """

    def __init__(self, place: Path, group: Callable[[Path], str] | None = None) -> None:
        self.root = place.parent
        self._group = group or (lambda path: path.relative_to(self.root).as_posix())
        self.samples: list[Sample] = []
        self.orphans: list[Path] = []
        self.empty: list[Path] = []
        self.ignored: list[Path] = []
        self.faults: list[DataError] = []
        self.notes: list[Note] = []

    def add(
        self,
        path: Path,
        kind: str = NORMAL,
        masks: Iterable[Path | None] = (),
        split: SplitName | None = None,
    ) -> None:
        """An image; masks that are None are none."""
        there = tuple(mask for mask in masks if mask is not None)
        self.samples.append(Sample(path, there, kind, split, self._group(path)))

    def normals(self, folder: Path, split: SplitName | None = None) -> None:
        """All images in a folder, as defect-free ones."""
        inside = members(folder)
        self.ignored += inside.ignored
        for path in inside.images:
            self.add(path, split=split)

    def anomalous(self, kind: str, places: Iterable[Path], masks: Iterable[Path]) -> None:
        """The images of one type in some folders, with masks from others."""
        matching = Matching(masks)
        for folder in places:
            inside = members(folder)
            if not inside.images:
                self.empty.append(folder)
            self.ignored += inside.ignored
            for path in inside.images:
                sub, _ = key(path, folder)
                self.add(path, kind, [matching.mask(path, (sub, "."))])
        self.take(matching)

    def take(self, matching: Matching) -> None:
        """What a matching has to say."""
        self.orphans += matching.orphans()
        self.ignored += matching.ignored
        self.faults += matching.faults
        self.notes += matching.notes

    def loose(self, folder: Path, known: Iterable[str] | None = None) -> None:
        """What lies in a folder and is not read: files, or all but folders of known names."""
        for path in listed(folder):
            if not path.is_dir() if known is None else nfc(path.name) not in known:
                self.ignored.append(path)

    def index(self, name: str) -> Index:
        """All that was gathered, sorted."""
        return Index(
            self.root,
            nfc(name),
            tuple(sorted(self.samples, key=lambda sample: sample.path)),
            tuple(sorted(self.orphans)),
            tuple(sorted(self.empty)),
            tuple(sorted(self.ignored)),
            tuple(self.faults),
            tuple(self.notes),
        )


class Matching:
    """Finds the masks of images by their places and names.

    Args:
        places: Folders of masks.

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
                self._masks[key(path, folder)].append(path)

    def mask(self, image: Path, subs: Iterable[str]) -> Path | None:
        """The mask of an image, to be asked once for each.

        Args:
            image: The image.
            subs: Folders below those of the masks where it may lie, the likeliest first.
        """
        stem = nfc(image.stem)
        found = [
            mask
            for place in dict.fromkeys(subs)
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


def key(path: Path, folder: Path) -> tuple[str, str]:
    """Place of a file below a folder, and its name without ending, in one Unicode form."""
    return nfc(path.relative_to(folder).parent.as_posix()), nfc(path.stem)


def by_name(folder: Path) -> dict[str, list[Path]]:
    """Folders in a folder by their names in one Unicode form."""
    named: dict[str, list[Path]] = {}
    for path in folders(folder):
        named.setdefault(nfc(path.name), []).append(path)
    return named


def _both(first: Path, second: Path) -> str:
    """Two images as they are told apart best."""
    if first.parent == second.parent:
        return f"{first.name} and {second.name}"
    return f"{first.parent.name}/{first.name} and {second.parent.name}/{second.name}"
