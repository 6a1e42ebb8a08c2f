"""Operations that vary a texture: the ten of DRAEM's code, and the seven that its paper names."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from autosearch.synthesis import OPERATIONS as SHARED, Operation


def _gamma(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Every channel to a power of its own."""
    values = np.arange(256) / 255
    curves = [np.rint(255 * values**power) for power in rng.uniform(0.5, 2, 3)]
    return picture.point([int(value) for value in np.concatenate(curves)])


def _brightness(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Value times a factor, and more or less of it."""
    factor, more = rng.uniform(0.8, 1.2), rng.uniform(-30, 30)
    hue, saturation, value = picture.convert("HSV").split()
    value = value.point([int(np.clip(factor * level + more, 0, 255)) for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def _colour(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Hue on along the colour circle, and more or less saturation."""
    turn, more = (int(rng.integers(-50, 51)) for _ in range(2))
    hue, saturation, value = picture.convert("HSV").split()
    hue = hue.point([(level + turn) % 256 for level in range(256)])
    saturation = saturation.point([min(255, max(0, level + more)) for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def _sharpness(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """From blurred (0) to three times as sharp."""
    return ImageEnhance.Sharpness(picture).enhance(rng.uniform(0, 3))


def _solarise(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Half of the times invert what is bright."""
    return (
        ImageOps.solarize(picture, int(rng.integers(32, 129))) if rng.random() < 0.5 else picture
    )


def _posterise(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Keep 1 to 8 bits of every channel."""
    return ImageOps.posterize(picture, int(rng.integers(1, 9)))


def _autocontrast(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Stretch every channel, up to a fifth of its darkest and brightest pixels cut off."""
    return ImageOps.autocontrast(picture, cutoff=rng.uniform(0, 20))


MIAD: dict[str, Operation] = {
    "posterise": _posterise,
    "sharpness": _sharpness,
    "solarise": _solarise,
    "equalise": SHARED["equalise"],
    "brightness": _brightness,
    "colour": _colour,
    "autocontrast": _autocontrast,
}
"""The seven of the paper and of MIAD's appendix."""

ORIGINAL: dict[str, Operation] = MIAD | {
    "gamma": _gamma,
    "invert": lambda picture, _: ImageOps.invert(picture),
    "rotate": SHARED["rotate"],
}
"""The ten of the code; the borders of rotated textures are mirrored, where its are black."""

TEXTURE_OPS = {"original": ORIGINAL, "miad": MIAD}
"""By what a space calls them; each takes an 8-bit RGB picture and keeps its size."""
