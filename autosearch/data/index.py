"""An index of a dataset: paths of images and masks, nothing opened yet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autosearch.data.members import nfc
from autosearch.data.notes import Note
from autosearch.data.outlines import Outlines
from autosearch.data.records import NORMAL
from autosearch.errors import DataError

SplitName = Literal["train", "val", "test"]

_MASK_NAME = re.compile(r"(.+)[_-](?:gt|mask|label|labels|seg)", re.IGNORECASE | re.DOTALL)
_MEANS_NORMAL = {"good", "normal", "normals", "ok", "okay", "healthy", "defect-free", "nodefect"}


@dataclass(frozen=True)
class Saturation:
    """How much of a region has to be found, where more is not asked for.

    Attributes:
        value: Of the mask's pixels, by which it is told what they stand for.
        threshold: The area in pixels, or the share of the mask's area, from which on nothing is
            gained.
        relative: Whether it is a share.
    """

    value: int
    threshold: float
    relative: bool


@dataclass(frozen=True)
class Sample:
    """One image of a dataset, not yet opened.

    Attributes:
        path: The image file.
        masks: Its mask files; what any of them marks is anomalous.
        type: ``anomaly_type``, `NORMAL` where defect-free.
        split: Where the dataset itself puts the image; None leaves it to the split rule.
        group: ``group_id``: images of one physical object share it and stay together.
        outlines: What was drawn on it, where a tool for labelling wrote that down.
        saturation: What the values of its masks stand for, where regions need not be found whole.
        foreground: The mask of its object, where ``dataset.foreground`` has one.
    """

    path: Path
    masks: tuple[Path, ...]
    type: str
    split: SplitName | None
    group: str
    outlines: Outlines | None = None
    saturation: tuple[Saturation, ...] = ()
    foreground: Path | None = None

    @property
    def marked(self) -> bool:
        """Whether anything says which of its pixels are anomalous."""
        return bool(self.masks) or self.outlines is not None

    @property
    def normal(self) -> bool:
        """Whether the image is defect-free."""
        return self.type == NORMAL


@dataclass(frozen=True)
class Index:
    """All images of a category, or of several, sorted by path.

    Attributes:
        root: Folder to which names in records are relative.
        category: Name of the category.
        samples: The images.
        orphan_masks: Mask files that belong to no image.
        empty_folders: Folders of an anomaly type without images.
        ignored: What lies in folders of images and is not read.
        faults: Why nobody should search on it, as far as names tell.
        notes: What was assumed of names.
        layout: Name of the layout that it was read by.
        parts: The categories, where there are several: types and groups of their samples begin
            with the category and ``/``.
    """

    root: Path
    category: str
    samples: tuple[Sample, ...]
    orphan_masks: tuple[Path, ...] = ()
    empty_folders: tuple[Path, ...] = ()
    ignored: tuple[Path, ...] = ()
    faults: tuple[DataError, ...] = ()
    notes: tuple[Note, ...] = ()
    layout: str = ""
    parts: tuple[Index, ...] = ()

    @property
    def each(self) -> tuple[Index, ...]:
        """Every category on its own."""
        return self.parts or (self,)

    @property
    def place(self) -> Path:
        """The folder of the category, or that of all of them."""
        return self.root if self.parts else self.root / self.category

    def relative(self, path: Path) -> str:
        """The path as records name it: relative to the root, with forward slashes."""
        inside = path.is_relative_to(self.root)
        return (path.relative_to(self.root) if inside else path).as_posix()

    def doubts(self) -> tuple[Note, ...]:
        """What is not read, and what was assumed of names."""
        kind = "lies in a folder of images and is not read"
        remedy = "save images as PNG or JPEG, move the rest elsewhere"
        return (*(Note(path, kind, remedy) for path in self.ignored), *self.notes)


def masks_among_images(samples: tuple[Sample, ...]) -> Iterator[DataError]:
    """Images that are named like the mask of another image beside them, or are one's mask."""
    stems = {(sample.path.parent, nfc(sample.path.stem)): sample.path for sample in samples}
    masks = {mask: sample.path for sample in samples for mask in sample.masks}
    for sample in samples:
        path, named = sample.path, _MASK_NAME.fullmatch(nfc(sample.path.stem))
        other = stems.get((path.parent, named[1])) if named else None
        if path in masks:
            problem = f"is an image, and the mask of {masks[path].name} as well"
            yield DataError(path, problem, "list it as one of them")
        elif other is not None:
            yield DataError(
                path,
                f"is named like a mask and lies among the images, beside {other.name}",
                "move masks to ground_truth/<type>, or name them in the mask column of a CSV file",
            )


def means_normal(name: str) -> bool:
    """Whether a folder's name says that its images are defect-free, in whatever words."""
    return name.lower().replace("_", "-") in _MEANS_NORMAL
