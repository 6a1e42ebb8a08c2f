"""The nine operations that vary a texture before it is blended in (GLASS, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

Operation = Callable[[Image.Image, np.random.Generator], Image.Image]


def _contrast(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Contrast(picture).enhance(rng.uniform(0.8, 1.2))


def _brightness(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(rng.uniform(0.8, 1.2))


def _colour(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Saturation by a factor, hue by a part of the colour circle."""
    picture = ImageEnhance.Color(picture).enhance(rng.uniform(0.8, 1.2))
    shift = round(rng.uniform(-0.2, 0.2) * 256)
    hue, *rest = picture.convert("HSV").split()
    turned = hue.point([(value + shift) % 256 for value in range(256)])
    return Image.merge("HSV", (turned, *rest)).convert("RGB")


def _rotate(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    # Black corners would be a cue that no real texture has, so the borders are mirrored.
    width, height = picture.size
    reach = -(-max(height, width) // 4)
    mirrored = np.pad(np.asarray(picture), ((reach, reach), (reach, reach), (0, 0)), "symmetric")
    angle = np.deg2rad(rng.uniform(-45, 45))
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = width / 2, height / 2
    matrix = (cos, -sin, reach + x - cos * x + sin * y, sin, cos, reach + y - sin * x - cos * y)
    return Image.fromarray(mirrored).transform(
        picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )


OPERATIONS: dict[str, Operation] = {
    "contrast": _contrast,
    "brightness": _brightness,
    "colour": _colour,
    "mirror": lambda picture, _: ImageOps.mirror(picture),
    "flip": lambda picture, _: ImageOps.flip(picture),
    "grey": lambda picture, _: ImageOps.grayscale(picture).convert("RGB"),
    "autocontrast": lambda picture, _: ImageOps.autocontrast(picture),
    "equalise": lambda picture, _: ImageOps.equalize(picture),
    "rotate": _rotate,
}
"""Each takes an 8-bit RGB picture and keeps its size."""


def vary(
    picture: Image.Image,
    count: int,
    rng: np.random.Generator,
    known: Mapping[str, Operation] | None = None,
) -> Image.Image:
    """Apply ``count`` different operations, drawn without preference, in random order.

    They are those of ``known``, or of `OPERATIONS`.
    """
    known = OPERATIONS if known is None else known
    names = list(known)
    for index in rng.choice(len(names), count, replace=False):
        picture = known[names[index]](picture, rng)
    return picture
