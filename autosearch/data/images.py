"""Reads image files, and holds the project's only resize and its only mask rule.

Free of torch on purpose: prediction with an exported model uses the same functions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autosearch.data.decoding import Decoded, Orientation, decode
from autosearch.errors import DataError

MaskRule = Literal["nearest", "any"]

RESIZE_RULE = "bilinear, antialiased, in float32"
MASK_RULES: dict[MaskRule, str] = {
    "nearest": "nearest source pixel of the binary mask, pixel centres aligned",
    "any": "anomalous if any anomalous source pixel overlaps the cell",
}


def read_image(
    path: Path, content: bytes | None = None, orientation: Orientation = "upright"
) -> NDArray[np.float32]:
    """Read an image of any common kind.

    Grey is repeated to three channels, alpha is ignored. 8-bit values are divided by 255 and
    16-bit values by 65535; float values are taken as they are. Three-channel 16-bit files keep
    their upper 8 bits only (a limit of Pillow).

    Args:
        path: The file.
        content: Its bytes, where they have been read already.
        orientation: See `autosearch.data.decoding.decode`.

    Returns:
        ``(3, H, W)`` float32 RGB in [0, 1].

    Raises:
        DataError: The file cannot be read, is too large to be trusted, or holds values outside
            the range of its kind, NaN included.
    """
    return rgb_of(decode(path, content, orientation))


def rgb_of(decoded: Decoded) -> NDArray[np.float32]:
    """The image in a decoded file; see `read_image`."""
    path, picture = decoded.path, decoded.picture
    if picture.mode == "F" or picture.mode.startswith("I"):
        grey = np.asarray(picture, dtype=np.float32)
        if picture.mode != "F":
            grey = grey / np.float32(65535)
        if not (np.isfinite(grey).all() and grey.min() >= 0 and grey.max() <= 1):
            raise DataError(
                path,
                f"pixel values leave the range of mode {picture.mode}",
                "save float images within [0, 1] or integer images with 8 or 16 bits",
            )
        return np.stack([grey] * 3)
    try:
        rgb = np.asarray(picture.convert("RGB"), dtype=np.float32)
    except ValueError as error:
        raise DataError(path, f"cannot be read as RGB ({error})", "save it as RGB") from error
    return np.ascontiguousarray(rgb.transpose(2, 0, 1) / np.float32(255))


def resize(image: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize with the antialiased bilinear filter, without rounding to 8 bits.

    The triangle filter is widened by the reduction factor and renormalised at the border; each
    axis has its own factor.

    Args:
        image: ``(C, h, w)`` float32.
        size: Height and width of the result in pixels.

    Returns:
        ``(C, H, W)`` float32, within the range of the input.
    """
    # Pillow's mode "F" takes one channel at a time and keeps float32 throughout.
    return np.stack(
        [
            np.asarray(Image.fromarray(channel).resize(size[::-1], Image.Resampling.BILINEAR))
            for channel in np.ascontiguousarray(image, dtype=np.float32)
        ]
    )


def resize_mask(
    mask: NDArray[np.bool_], size: tuple[int, int], rule: MaskRule = "nearest"
) -> NDArray[np.bool_]:
    """Resize a binary mask.

    Args:
        mask: ``(h, w)`` bool.
        size: Height and width of the result in pixels.
        rule: ``nearest`` takes the source pixel nearest to each cell's centre, so a region
            smaller than a cell may vanish; ``any`` marks every cell that an anomalous pixel
            overlaps, so that none vanishes but all grow by up to a cell.

    Returns:
        ``(H, W)`` bool.
    """
    (height, width), (rows, columns) = mask.shape, size
    if rule == "nearest":
        return mask[np.ix_(nearest(height, rows), nearest(width, columns))]
    # A summed-area table answers "any" for all cells at once, whatever their extent.
    table = np.zeros((height + 1, width + 1), dtype=np.int64)
    table[1:, 1:] = mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    (top, bottom), (left, right) = extent(height, rows), extent(width, columns)
    inside = (
        table[np.ix_(bottom, right)]
        - table[np.ix_(top, right)]
        - table[np.ix_(bottom, left)]
        + table[np.ix_(top, left)]
    )
    return inside > 0


def nearest(length: int, size: int) -> NDArray[np.int64]:
    """Source index under each cell's centre: floor((i + 1/2) * length / size), in integers."""
    return (2 * np.arange(size) + 1) * length // (2 * size)


def extent(length: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First source index of each cell, and the one past its last."""
    cell = np.arange(size)
    return cell * length // size, -((cell + 1) * -length // size)
