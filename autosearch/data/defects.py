"""Four kinds of synthetic defects for the built-in demo set, each with an exact mask.

A defect is blended in with a coverage between 0 and 1; its mask is where the coverage is at least
one half.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

Grey = NDArray[np.float64]
Damaged = tuple[Grey, NDArray[np.bool_]]

_SUPERSAMPLING = 8
_TRIES = 200
_VISIBLE = 0.07
"""Least mean change of brightness within a mask, of a full scale of 1."""


def scratch(image: Grey, rng: np.random.Generator, foreign: Grey) -> Damaged:
    """A thin, slightly bent line, darker or lighter than its surroundings."""
    side = image.shape[0]
    points = rng.integers(3, 6)
    length, angle = rng.uniform(0.25, 0.75) * side, rng.uniform(0, np.pi)
    along = np.linspace(-length / 2, length / 2, points)
    across = rng.normal(0, 0.04 * length, points)
    x = along * np.cos(angle) - across * np.sin(angle)
    y = along * np.sin(angle) + across * np.cos(angle)
    x, y = _inside(x, side, rng), _inside(y, side, rng)
    large = Image.new("L", (side * _SUPERSAMPLING,) * 2)
    ImageDraw.Draw(large).line(
        [(px * _SUPERSAMPLING, py * _SUPERSAMPLING) for px, py in zip(x, y, strict=True)],
        fill=255,
        width=round(rng.uniform(2.0, 4.5) * _SUPERSAMPLING),
        joint="curve",
    )
    coverage = np.asarray(large.reduce(_SUPERSAMPLING), dtype=np.float64) / 255
    place = image[coverage >= 0.5]
    # A line drowns in coarse texture unless it leaves the texture's own range of brightness.
    contrast = rng.uniform(0.15, 0.25) + 1.2 * place.std()
    bright = rng.random() < 1 - place.mean()
    colour = np.clip(place.mean() + (contrast if bright else -contrast), 0.02, 0.98)
    return _blend(image, np.full_like(image, colour), rng.uniform(0.75, 0.95), coverage)


def stain(image: Grey, rng: np.random.Generator, foreign: Grey) -> Damaged:
    """A soft spot that darkens or lightens the texture below it."""
    coverage = _blob(image.shape[0], rng, radius=(14, 40), feather=0.35)
    place = image[coverage >= 0.5]
    change = rng.uniform(0.22, 0.38) + 0.7 * place.std()
    if rng.random() < place.mean():
        return _blend(image, image * (1 - change), 1.0, coverage)
    return _blend(image, 1 - (1 - image) * (1 - change), 1.0, coverage)


def cut_paste(image: Grey, rng: np.random.Generator, foreign: Grey) -> Damaged:
    """A feathered piece of foreign texture, brought half way to the brightness of the place."""
    coverage = _blob(image.shape[0], rng, radius=(16, 38), feather=0.1)
    inside = coverage >= 0.5
    piece = foreign + 0.5 * (image[inside].mean() - foreign[inside].mean())
    return _blend(image, piece, 1.0, coverage)


def blur(image: Grey, rng: np.random.Generator, foreign: Grey) -> Damaged:
    """A place where the texture is smeared or missing."""
    coverage = _blob(image.shape[0], rng, radius=(14, 38), feather=0.15)
    smooth = ndimage.gaussian_filter(image, sigma=rng.uniform(3.5, 9.0), mode="reflect")
    return _blend(image, smooth, 1.0, coverage)


DEFECTS: dict[str, Callable[[Grey, np.random.Generator, Grey], Damaged]] = {
    "blur": blur,
    "cut_paste": cut_paste,
    "scratch": scratch,
    "stain": stain,
}


def damage(kind: str, image: Grey, rng: np.random.Generator, foreign: Grey) -> Damaged:
    """Damage an image, anew until the change can be seen or many draws have failed.

    Args:
        kind: A key of `DEFECTS`.
        image: ``(S, S)`` grey in [0, 1].
        rng: Source of shape, place and contrast.
        foreign: ``(S, S)`` grey texture, which ``cut_paste`` takes its piece from.

    Returns:
        The damaged ``(S, S)`` image in [0, 1] and the ``(S, S)`` bool mask.
    """
    # Smearing a flat place changes nothing; such draws would be labelled but invisible.
    for _ in range(_TRIES):
        damaged, mask = DEFECTS[kind](image, rng, foreign)
        if np.abs(damaged - image)[mask].mean() >= _VISIBLE:
            break
    return damaged, mask


def _blend(image: Grey, other: Grey, opacity: float, coverage: Grey) -> Damaged:
    alpha = opacity * coverage
    return np.clip((1 - alpha) * image + alpha * other, 0, 1), coverage >= 0.5


def _inside(values: Grey, side: int, rng: np.random.Generator) -> Grey:
    """Coordinates moved to a random place at which all of them are within the image."""
    margin = 6
    low, high = margin - values.min(), side - margin - values.max()
    return np.asarray(values + rng.uniform(low, max(low, high)))


def _blob(
    side: int, rng: np.random.Generator, radius: tuple[float, float], feather: float
) -> Grey:
    """Coverage of an uneven ellipse, 1/2 on its outline, with an edge of ``feather`` radii."""
    r = np.exp(rng.uniform(*np.log(radius)))
    squeeze, turn = rng.uniform(0.6, 1.0), rng.uniform(0, np.pi)
    x0, y0 = rng.uniform(r, side - r, 2)
    y, x = np.mgrid[:side, :side] + 0.5
    u = (x - x0) * np.cos(turn) + (y - y0) * np.sin(turn)
    v = ((y - y0) * np.cos(turn) - (x - x0) * np.sin(turn)) / squeeze
    angle = np.arctan2(v, u)
    outline = np.ones_like(angle)
    for wave in (2, 3, 4, 5):
        outline += rng.normal(0, 0.16 / wave) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    ramp = np.clip((outline - np.hypot(u, v) / r) / feather + 0.5, 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp))
