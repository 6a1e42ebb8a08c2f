"""What lies in a folder of images: the images, and what is not read."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from autosearch.data.decoding import holds_image, is_image

_LEFT_BY_SYSTEMS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "__macosx"}
"""Names, in lower case, of what systems leave beside images; hidden files are left alone too."""


@dataclass(frozen=True)
class Members:
    """Of a folder and all folders below it, sorted.

    Attributes:
        images: Files with the name of an image, and files that begin as images do.
        ignored: All others; of a link to a folder, or a folder without images, itself.
    """

    images: tuple[Path, ...]
    ignored: tuple[Path, ...]


def members(folder: Path, deep: bool = True) -> Members:
    """Find the images in a folder; nothing where there is no such folder.

    Args:
        folder: The folder.
        deep: Whether to look into the folders below, too; else these are left out altogether.

    Raises:
        DataError: Something has the name of an image and is no file, or its name is no text.
    """
    images: list[Path] = []
    ignored: list[Path] = []
    for path in listed(folder):
        if is_image(path):
            images.append(path)
        elif not deep and path.is_dir():
            continue
        elif path.is_dir() and not path.is_symlink():
            inside = members(path)
            images += inside.images
            ignored += inside.ignored
        elif holds_image(path):
            images.append(path)
        else:
            ignored.append(path)
    return Members(tuple(sorted(images)), tuple(sorted(ignored)))


def folders(folder: Path) -> list[Path]:
    """Folders in a folder, sorted, links to folders among them."""
    return [path for path in listed(folder) if path.is_dir()]


def listed(folder: Path) -> list[Path]:
    """What a folder holds, sorted, without what is hidden or left by systems."""
    found: Iterable[Path] = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if not is_left_alone(path.name))


def is_left_alone(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or left by systems."""
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS


def nfc(text: str) -> str:
    """Text in the one Unicode form in which names are compared: archives of macOS hold another."""
    return unicodedata.normalize("NFC", text)


def spelled(path: Path) -> Path | None:
    """A path, or the one that differs in the Unicode form of its names alone; None if absent."""
    try:
        if path.exists():
            return path
        if path.parent == path or (parent := spelled(path.parent)) is None:
            return None
        wanted = nfc(path.name)
        return next((p for p in parent.iterdir() if nfc(p.name) == wanted), None)
    except OSError:
        return None
