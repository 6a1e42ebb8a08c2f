"""Reads image and mask files, and holds the project's only resize and its only mask rule.

Free of torch on purpose: prediction with an exported model uses the same functions.
"""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from autosearch.errors import DataError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
"""File name endings (lower case) that count as images."""

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
"""Formats by content, whatever a file is called: Pillow would run another program for some."""

MaskRule = Literal["nearest", "any"]

RESIZE_RULE = "bilinear, antialiased, to an exact square, in float32"
MASK_RULES: dict[MaskRule, str] = {
    "nearest": "nearest source pixel of the binary mask, pixel centres aligned",
    "any": "anomalous if any anomalous source pixel overlaps the cell",
}


def is_image(path: Path) -> bool:
    """Whether a member of a folder has the name of an image, and so has to be one.

    Names that begin with a dot are what file managers leave beside images.

    Raises:
        DataError: It is no file that could be opened, or its name cannot be written down.
    """
    if path.suffix.lower() not in EXTENSIONS or path.name.startswith("."):
        return False
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise DataError(path, "has a name or a folder that is not in UTF-8", "rename it") from None
    if not path.is_file():
        raise DataError(path, "is no file, though its name says so", "mend or remove it")
    return True


def read_image(path: Path, content: bytes | None = None) -> NDArray[np.float32]:
    """Read an image of any common kind.

    Grey is repeated to three channels, alpha is ignored, the EXIF orientation is applied. 8-bit
    values are divided by 255 and 16-bit values by 65535; float values are taken as they are.
    Three-channel 16-bit files keep their upper 8 bits only (a limit of Pillow).

    Args:
        path: The file.
        content: Its bytes, where they have been read already.

    Returns:
        ``(3, H, W)`` float32 RGB in [0, 1].

    Raises:
        DataError: The file cannot be read, is too large to be trusted, or holds values outside
            the range of its kind, NaN included.
    """
    picture = _open(path, content)
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


def read_mask(path: Path, content: bytes | None = None) -> tuple[NDArray[np.bool_], int]:
    """Read a ground-truth mask.

    Where any value exceeds half of full scale (255, 65535, or 1 in float files), a pixel is
    anomalous above that half, which undoes anti-aliasing. Otherwise the file holds small class
    numbers, as 0/1 masks and palette images do, and a pixel is anomalous above 0.

    Args:
        path: The file.
        content: Its bytes, where they have been read already.

    Returns:
        The ``(H, W)`` bool mask, true where anomalous, and the number of distinct values in the
        file: more than two means that the file was not binary.

    Raises:
        DataError: The file cannot be read, or holds values that are negative or not finite.
    """
    picture = _open(path, content)
    # An alpha channel is opaque everywhere and would turn the whole mask anomalous.
    plain = {"LA": "L", "PA": "P", "RGBA": "RGB"}
    values = np.asarray(picture.convert(plain.get(picture.mode, picture.mode)))
    if values.ndim == 3:
        values = values.max(axis=2)
    if not (np.isfinite(values).all() and values.min() >= 0):
        raise DataError(
            path, "the mask has pixels below zero or not finite", "save it with 0 and 255"
        )
    levels = len(np.unique(values))
    if values.dtype == np.bool_:
        return values, levels
    if picture.mode in ("P", "PA"):
        return values > 0, levels
    full = 1 if picture.mode == "F" else 255 if values.max() <= 255 else 65535
    return values > (full / 2 if values.max() > full / 2 else 0), levels


def resize(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Resize to a square with the antialiased bilinear filter, without rounding to 8 bits.

    The triangle filter is widened by the reduction factor and renormalised at the border; with
    aspect ratios other than one, each axis has its own factor.

    Args:
        image: ``(C, H, W)`` float32.
        size: Side of the result in pixels.

    Returns:
        ``(C, size, size)`` float32, within the range of the input.
    """
    # Pillow's mode "F" takes one channel at a time and keeps float32 throughout.
    return np.stack(
        [
            np.asarray(Image.fromarray(channel).resize((size, size), Image.Resampling.BILINEAR))
            for channel in np.ascontiguousarray(image, dtype=np.float32)
        ]
    )


def resize_mask(
    mask: NDArray[np.bool_], size: int, rule: MaskRule = "nearest"
) -> NDArray[np.bool_]:
    """Resize a binary mask to a square.

    Args:
        mask: ``(H, W)`` bool.
        size: Side of the result in pixels.
        rule: ``nearest`` takes the source pixel nearest to each cell's centre, so a region
            smaller than a cell may vanish; ``any`` marks every cell that an anomalous pixel
            overlaps, so that none vanishes but all grow by up to a cell.

    Returns:
        ``(size, size)`` bool.
    """
    height, width = mask.shape
    if rule == "nearest":
        return mask[np.ix_(_nearest(height, size), _nearest(width, size))]
    # A summed-area table answers "any" for all cells at once, whatever their extent.
    table = np.zeros((height + 1, width + 1), dtype=np.int64)
    table[1:, 1:] = mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    (top, bottom), (left, right) = _extent(height, size), _extent(width, size)
    inside = (
        table[np.ix_(bottom, right)]
        - table[np.ix_(top, right)]
        - table[np.ix_(bottom, left)]
        + table[np.ix_(top, left)]
    )
    return inside > 0


def _nearest(length: int, size: int) -> NDArray[np.int64]:
    """Source index under each cell's centre: floor((i + 1/2) * length / size), in integers."""
    return (2 * np.arange(size) + 1) * length // (2 * size)


def _extent(length: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First source index of each cell, and the one past its last."""
    cell = np.arange(size)
    return cell * length // size, -((cell + 1) * -length // size)


def _open(path: Path, content: bytes | None) -> Image.Image:
    """Decode a file and turn it upright, with every way of failing made a `DataError`."""
    try:
        file = path if content is None else BytesIO(content)
        with Image.open(file, formats=_FORMATS) as picture:
            picture.load()
            return ImageOps.exif_transpose(picture)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            path, f"too many pixels to be opened safely ({error})", "cut or shrink it"
        ) from error
    except UnidentifiedImageError as error:
        raise DataError(
            path, "is not of any known image format", "replace or remove the file"
        ) from error
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        raise DataError(
            path, f"cannot be read as an image ({error})", "replace or remove the file"
        ) from error
