"""Where an image is looked at: a rectangle, or a mask that a person painted."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autosearch.data.boxes import Box, Size
from autosearch.data.images import resize_mask
from autosearch.data.masks import read_mask
from autosearch.errors import ConfigError, DataError
from autosearch.files import user_path
from autosearch.spec import DatasetSpec

KEY = "dataset.region_of_interest"

_ASPECT = 0.01
"""Difference of aspects up to which a mask is taken to be of an image of another size."""


class MaskFile(NamedTuple):
    """A mask of what is looked at.

    Attributes:
        mask: ``(h, w)`` bool, true where pixels count.
        sha256: Of the file.
    """

    mask: NDArray[np.bool_]
    sha256: str


def read_interest(dataset: DatasetSpec) -> MaskFile | None:
    """Read the file that ``dataset.region_of_interest`` names; None where it names none.

    Raises:
        ConfigError: It cannot be read as a mask, or marks nothing.
    """
    given = dataset.region_of_interest
    if not isinstance(given, str):
        return None
    path = user_path(given, KEY)
    try:
        content = path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise ConfigError(KEY, given, f"a mask file ({error.strerror})") from None
    if content is None:
        allowed = "[top, left, bottom, right], or a mask file, and there is no such file"
        raise ConfigError(KEY, given, allowed)
    try:
        mask = read_mask(path, content, orientation=dataset.orientation).mask
    except DataError as error:
        raise ConfigError(KEY, given, f"a mask file, but it {error.problem}") from None
    if not mask.any():
        raise ConfigError(KEY, given, "a mask that is white where images are looked at")
    return MaskFile(mask, hashlib.sha256(content).hexdigest())


def area_of(shape: Size, region: Box | None, path: Path | str) -> Box:
    """The rectangle of an image that is looked at.

    Args:
        shape: Of the image.
        region: What a person named; None for all of it.
        path: The image, for the error.

    Raises:
        DataError: The image does not hold it.
    """
    whole = Box.whole(shape)
    if region is None or region.meet(whole) == region:
        return whole if region is None else region
    needed = f"{region.bottom} x {region.right} pixels or more (height x width)"
    problem = f"the image is {shape[0]} x {shape[1]} pixels, {KEY} {list(region)} needs {needed}"
    raise DataError(path, problem, f"remove it, or set {KEY} to what every image holds")


def same_aspect(one: tuple[int, ...], other: Size) -> bool:
    """Whether two sizes are taken to be of one picture; not so if either has no pixel."""
    sides = (*one, *other)
    if min(sides) < 1:
        return False
    return abs(math.log(one[1] * other[0] / (one[0] * other[1]))) <= _ASPECT


def resized(mask: NDArray[np.bool_], shape: Size) -> NDArray[np.bool_] | None:
    """A mask at the size of its image; None where that has another aspect."""
    if mask.shape == shape:
        return mask
    return resize_mask(mask, shape) if same_aspect(mask.shape, shape) else None


def scaled_to(shape: Size, mask: NDArray[np.bool_], path: Path | str) -> NDArray[np.bool_]:
    """A mask of what is looked at, at the size of an image.

    Raises:
        DataError: The image has another aspect.
    """
    found = resized(mask, shape)
    if found is None:
        (height, width), (own_height, own_width) = shape, mask.shape
        sizes = f"{height} x {width} pixels, the mask {own_height} x {own_width} (height x width)"
        problem = f"the image is {sizes}, so {KEY} does not fit it"
        raise DataError(path, problem, "give the mask the shape of the images")
    return found
