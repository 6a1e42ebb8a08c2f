"""Which images a person asks about, and what their results are called. Free of torch."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from autosearch.data import EXTENSIONS, MaskFolder, no_masks
from autosearch.errors import ConfigError
from autosearch.export.folder import ExportedModel
from autosearch.files import user_path

FOREGROUND = "--foreground"
"""What hands in masks of objects, as errors call it."""


@dataclass(frozen=True)
class Found:
    """An image to be looked at.

    Attributes:
        path: The file.
        name: What its outputs are called, different from all others.
        content: Its bytes, where they have been read already.
        foreground: The mask of its object; None where that is looked for.
    """

    path: Path
    name: str
    content: bytes | None = field(default=None, repr=False)
    foreground: Path | None = None


class _Member(NamedTuple):
    """An image, what it is called, and its place in the folder that was named."""

    path: Path
    name: str
    inside: Path


def masks_of(model: ExportedModel, folder: str | Path | None) -> MaskFolder | None:
    """The folder with masks of objects that a person hands in with images.

    Args:
        model: What is asked.
        folder: As it was named; None where objects are looked for.

    Raises:
        ConfigError: There is no such folder, or the model wants no object.
    """
    if folder is None:
        return None
    if model.framing.preprocess == "none":
        allowed = "a model that was made with dataset.preprocess: this one wants no object"
        raise ConfigError(FOREGROUND, str(folder), allowed)
    return MaskFolder(str(folder), FOREGROUND)


def find_images(
    arguments: Sequence[str], out: Path, masks: MaskFolder | None = None
) -> list[Found]:
    """Collect images from files, folders (with all folders below them) and patterns.

    Folders are searched for the endings that images have; files named outright are taken as they
    are. What lies in ``out`` or among the masks, hidden files, and links that lead out of their
    folder are left alone.

    Args:
        arguments: As the user gave them.
        out: Where predictions go.
        masks: Of their objects, laid out as the images in their folder, or named as the files.

    Returns:
        Each file once, in the order of the arguments, those of a folder sorted. Outputs are named
        after the file, with the folders between the argument and the file before it, and numbered
        where that is not unique.

    Raises:
        ConfigError: An argument names nothing, or no image; or no image has a mask.
    """
    found: dict[Path, _Member] = {}
    for argument in arguments:
        path = user_path(argument, "IMAGES")
        if path.is_dir():
            members = _members(path, out, masks)
        elif path.exists():
            members = [_single(path)]
        else:
            # Path.glob takes no absolute patterns.
            matches = sorted(map(Path, glob.glob(argument, recursive=True)))  # noqa: PTH207
            members = [_single(match) for match in matches if _is_image(match)]
        if not members:
            raise ConfigError("IMAGES", argument, "a file, a folder with images, or a pattern")
        for member in members:
            found.setdefault(member.path, member)
    taken: set[str] = set()
    images = []
    for path, name, inside in found.values():
        mask = None if masks is None else masks.mask_of(path, inside)
        images.append(Found(path, unique_name(name, taken), foreground=mask))
    if masks is not None and all(image.foreground is None for image in images):
        first = next(iter(found))
        place, which = "the folder of IMAGES", f"{len(images)} images"
        raise no_masks(FOREGROUND, str(masks.path), place, which, first)
    return images


def unique_name(name: str, taken: set[str]) -> str:
    """The name, or the name with the lowest free number; case does not tell files apart."""
    wanted, number = name, 1
    while wanted.lower() in taken:
        number += 1
        wanted = f"{name}-{number}"
    taken.add(wanted.lower())
    return wanted


def _single(path: Path) -> _Member:
    return _Member(path, path.stem, Path(path.name))


def _members(folder: Path, out: Path, masks: MaskFolder | None) -> list[_Member]:
    """Images below a folder, each with the name that its place in the folder gives it."""
    inside, apart = folder.resolve(), [out.resolve()]
    if masks is not None and inside in masks.path.parents:
        apart.append(masks.path)
    members = []
    for path in sorted(folder.rglob("*")):
        own = path.relative_to(folder)
        if any(part.startswith(".") for part in own.parts) or not _is_image(path):
            continue
        place = path.resolve()
        if place.is_relative_to(inside) and not any(map(place.is_relative_to, apart)):
            members.append(_Member(path, "_".join((*own.parts[:-1], path.stem)), own))
    return members


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and path.is_file()
