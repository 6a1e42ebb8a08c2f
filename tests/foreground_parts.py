"""Photographs of objects that no colour tells from their ground, and a mask of each."""

from pathlib import Path

from object_parts import box_of, mark, objects_dataset, plain, save

from autosearch.data import Box

SIZE = (32, 56)
"""Of every object, which is noise on noise."""


def place(folder: str, i: int) -> Box:
    """Where the object of an image is."""
    return box_of({"train/good": 0, "test/good": 3, "test/spot": 5}[folder] + i, SIZE)


def images_and_masks(folder: Path) -> tuple[Path, Path]:
    """Category ``part`` as `objects_dataset` has it, but of noise alone, and a mask of each."""
    base, masks = objects_dataset(folder / "made" / "part"), folder / "masks"
    for i, path in enumerate(sorted(base.glob("t*/*/*.png"))):
        save(path, plain(i))
        inside = path.relative_to(base)
        mark(masks / "part" / inside, place(inside.parent.as_posix(), int(path.stem)))
    return base, masks
