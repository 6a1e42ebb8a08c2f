"""What a layout says of itself, and what several of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autosearch.data.index import Index, SplitName
from autosearch.errors import DataError


@dataclass(frozen=True)
class Layout:
    """One way in which a dataset may lie on a disk.

    Attributes:
        name: As ``dataset.layout`` calls it.
        looks: What makes it out, in one phrase.
        holds: Whether a folder, or a file, is one category of this layout. Opens as little as it
            can, and may raise a `DataError` or an `OSError`, both of which mean no.
        index: The index of such a place. Names in it begin with the folder of the category.
        categories: Names of the categories within one file; None where a file holds one alone.
        single: Whether a dataset has one category only, so that its name tells nothing.
        below: Whether it is certain enough to be looked for in the folders of the root, too.
        sure: What else a place must be like to be recognised where nobody named the layout.
    """

    name: str
    looks: str
    holds: Callable[[Path], bool]
    index: Callable[[Path, str], Index]
    categories: Callable[[Path], list[str]] | None = None
    single: bool = False
    below: bool = True
    sure: Callable[[Path], bool] = lambda place: True

    def fits(self, place: Path, asked: bool) -> bool:
        """Whether a place is of this layout, which somebody named or not.

        What cannot be read is not.
        """
        try:
            return self.holds(place) and (asked or self.sure(place))
        except (DataError, OSError):
            return False


_PARTS: dict[str, SplitName] = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def part_of(name: str) -> SplitName | None:
    """The split that a name such as ``instances_val2017`` states, if it states one."""
    words = "".join(sign if sign.isalpha() else " " for sign in name.lower()).split()
    found = {_PARTS[word] for word in words if word in _PARTS}
    return found.pop() if len(found) == 1 else None


def stated(part: SplitName | None, normal: bool, validated: bool) -> SplitName | None:
    """The split to state for an image, so that the split rule can draw what it needs.

    The rule draws validation images from the anomalous ones of all parts, and from the normal
    training images, so it is left all of these; of the latter only where the dataset has normal
    images for validation (``validated``) is there nothing to draw.
    """
    if not normal or (part == "train" and not validated):
        return None
    return part
