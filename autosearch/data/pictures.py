"""Anomaly maps as pictures: image, ground truth and map side by side."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from autosearch.data.images import resize_mask
from autosearch.data.records import NORMAL, ImageSet

_PIXELS, _GAP = 160 * 160, 4
"""Of each picture, and between two."""
_HOT = np.array([[0, 0, 3], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]])


def contact_sheet(images: ImageSet, maps: NDArray[np.float32], limit: int = 6) -> bytes:
    """One row an image: the image, the outline of its ground truth if any, its anomaly map.

    Shows one defect-free image and the first of every anomaly type, as far as there is room. All
    maps share one colour scale, from the median to the highest score of the whole split, so that
    rows can be compared.

    Args:
        images: A split with ground truth.
        maps: ``(N, h, w)`` scores of all its images.
        limit: Largest number of rows.

    Returns:
        A JPEG file.
    """
    first = {kind: i for i, kind in reversed(list(enumerate(images.types)))}
    kinds = sorted(first, key=lambda kind: (kind == NORMAL, kind))
    chosen = [first[kind] for kind in kinds if kind != NORMAL][: limit - 1]
    chosen += [first[NORMAL]] if NORMAL in first else []
    low, high = float(np.median(maps)), float(maps.max())
    scale = high - low if high > low else 1.0
    rows = [_row(images, i, np.clip((maps[i] - low) / scale, 0, 1)) for i in chosen]
    out = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(out, "JPEG", quality=88)
    return out.getvalue()


def heat(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colours from black through red to pale yellow for ``(H, W)`` values in [0, 1]."""
    stops = np.linspace(0, 1, len(_HOT))
    channels = [np.interp(values, stops, _HOT[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def _row(images: ImageSet, i: int, values: NDArray[np.floating]) -> NDArray[np.uint8]:
    photo = (images.pixels[i].transpose(1, 2, 0) * 255).round().astype(np.uint8)
    height, width = photo.shape[:2]
    scale = (_PIXELS / (height * width)) ** 0.5
    size = max(1, round(height * scale)), max(1, round(width * scale))
    photo, marked = _resized(photo, size), _resized(photo, size)
    mask = resize_mask(images.masks[i], size, "any")
    inner = mask & np.roll(mask, 1, 0) & np.roll(mask, -1, 0)
    inner &= np.roll(mask, 1, 1) & np.roll(mask, -1, 1)
    marked[mask & ~inner] = (0, 255, 80)
    tiles = [_tile(picture, size) for picture in (photo, marked, heat(values))]
    named = Image.fromarray(np.concatenate(tiles, 1))
    label = ImageDraw.Draw(named)
    texts = [images.types[i], "" if images.marked[i] else "no mask"]
    for column, text in enumerate(texts):
        place = (4 + column * (size[1] + _GAP), 3)
        label.text(place, text, fill="white", stroke_width=1, stroke_fill="black")
    return np.asarray(named)


def _tile(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    gaps = ((0, _GAP), (0, _GAP), (0, 0))
    return np.pad(_resized(image, size), gaps, constant_values=255)


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
