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


def members(folder: Path) -> Members:
    """Find the images in a folder; nothing where there is no such folder.

    Raises:
        DataError: Something has the name of an image and is no file, or its name is no text.
    """
    images: list[Path] = []
    ignored: list[Path] = []
    for path in listed(folder):
        if is_image(path):
            images.append(path)
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
    return sorted(
        path
        for path in found
        if not path.name.startswith(".") and path.name.lower() not in _LEFT_BY_SYSTEMS
    )


def nfc(text: str) -> str:
    """Text in the one Unicode form in which names are compared: archives of macOS hold another."""
    return unicodedata.normalize("NFC", text)
