"""Masks of objects that somebody hands in as files, in a folder that is laid out as images are."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autosearch.data.boxes import Size
from autosearch.data.decoding import Orientation, content_of, is_image
from autosearch.data.interest import MaskFile, resized
from autosearch.data.masks import read_mask
from autosearch.data.members import listed, nfc
from autosearch.errors import ConfigError, DataError
from autosearch.files import user_path

SUFFIX = "_mask"
"""May stand behind the name of an image in that of its mask."""


class MaskFolder:
    """Masks of objects by the place of their images.

    The mask of ``a/b.png`` is ``a/b`` or ``a/b_mask`` with any ending of an image. A folder below
    is listed once, when its first mask is asked for; a new `MaskFolder` sees what came since.

    Args:
        folder: As a person wrote it.
        key: Where, for errors.

    Attributes:
        path: The folder.

    Raises:
        ConfigError: There is no such folder.
    """

    def __init__(self, folder: str, key: str) -> None:
        self.path, self._key = user_path(folder, key).resolve(), key
        self._listed: dict[Path, dict[str, Path]] = {}
        if not self.path.is_dir():
            raise ConfigError(key, folder, "a folder of masks, and there is no such folder")

    def mask_of(self, image: Path, inside: Path) -> Path | None:
        """The mask of an image; None where there is none.

        Args:
            image: The file.
            inside: Its place in a folder that is laid out as this one.

        Raises:
            ConfigError: The masks are the images themselves.
        """
        masks, name = self._masks(self.path / inside.parent), nfc(inside.stem)
        found = masks.get(name) or masks.get(f"{name}{SUFFIX}")
        if found is not None and found.resolve() == image.resolve():
            allowed = "a folder of masks, another one than that of the images"
            raise ConfigError(self._key, str(self.path), allowed)
        return found

    def _masks(self, folder: Path) -> dict[str, Path]:
        if folder not in self._listed:
            files = reversed(listed(folder))
            self._listed[folder] = {nfc(path.stem): path for path in files if is_image(path)}
        return self._listed[folder]


def no_masks(key: str, folder: str, place: str, images: str, first: Path) -> ConfigError:
    """What is wrong with a folder that has no mask of any image that needs one.

    Args:
        key: Where it was named.
        folder: As a person wrote it.
        place: The folder of the images, for people.
        images: Those that have none, for people.
        first: One of them.
    """
    allowed = f"masks that lie in it as the images do in {place}, with their names or {SUFFIX} "
    allowed += f"behind these and any ending of an image; none of {images} has one (first {first})"
    return ConfigError(key, folder, allowed)


def read_object_mask(path: Path, shape: Size, orientation: Orientation = "upright") -> MaskFile:
    """Read the mask of an object.

    Args:
        path: The file: what is not 0 is the object, or of a ramp, as a JPEG file is, what is above
            half of the highest value; see `autosearch.data.read_mask`.
        shape: Height and width of its image.
        orientation: See `autosearch.data.decoding.decode`.

    Returns:
        The mask at the size of its image.

    Raises:
        DataError: It cannot be read as a mask, or has another aspect than its image.
    """
    content = content_of(path)
    try:
        mask = read_mask(path, content, orientation=orientation).mask
    except DataError as error:
        raise DataError(path, error.problem, "save it as PNG with 0 and 255") from None
    return MaskFile(of_size(mask, shape, path), hashlib.sha256(content).hexdigest())


def of_size(mask: NDArray[np.bool_], shape: Size, path: Path | str) -> NDArray[np.bool_]:
    """The mask of an object at the size of its image.

    Args:
        mask: ``(h, w)`` of any size.
        shape: Height and width of the image.
        path: The mask, for the error.

    Raises:
        DataError: The image has another aspect.
    """
    found = resized(mask, shape)
    if found is None:
        (height, width), (own_height, own_width) = shape, mask.shape
        sizes = f"{own_height} x {own_width} pixels, its image {height} x {width}"
        problem = f"the mask of the object is {sizes} (height x width)"
        raise DataError(path, problem, "give the mask the shape of its image")
    return found
