"""Random anomaly masks from Perlin noise, after GLASS (Chen et al., ECCV 2024, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_TRIES = 50
"""Masks drawn before the whole foreground is taken instead."""


@dataclass(frozen=True)
class AnomalyMask:
    """Where an image is to become anomalous.

    Attributes:
        mask: ``(H, W)`` bool, a subset of the foreground.
        pooled: ``(ceil(H / cell), ceil(W / cell))`` bool, the mask at feature resolution.
        fell_back: Whether the foreground was empty, or no draw had a positive cell.
    """

    mask: NDArray[np.bool_]
    pooled: NDArray[np.bool_]
    fell_back: bool


def draw_mask(
    foreground: NDArray[np.bool_],
    max_exp: int,
    threshold: float,
    cell: int,
    rng: np.random.Generator,
    mixed: bool = True,
) -> AnomalyMask:
    """Draw Perlin masks within the foreground until one has a positive cell.

    An empty foreground counts as full, and after `MAX_TRIES` draws without a positive cell the
    mask is the whole foreground; both are told by ``fell_back``.

    Args:
        foreground: ``(H, W)`` bool, true where anomalies may be.
        max_exp: Noise has ``2**e`` periods per axis, ``e`` up to this.
        threshold: Noise above it is anomalous.
        cell: Pixels per side of a cell: the downsampling of the first feature layer.
        rng: Source of every draw.
        mixed: See `perlin_mask`.
    """
    empty = not foreground.any()
    allowed = np.ones_like(foreground) if empty else foreground
    for _ in range(MAX_TRIES):
        mask = perlin_mask(foreground.shape, max_exp, threshold, rng, mixed) & allowed
        if mask.any():
            return AnomalyMask(mask, pool_mask(mask, cell), empty)
    return AnomalyMask(allowed.copy(), pool_mask(allowed, cell), True)


def perlin_mask(
    shape: tuple[int, ...],
    max_exp: int,
    threshold: float,
    rng: np.random.Generator,
    mixed: bool = True,
) -> NDArray[np.bool_]:
    """One draw: the intersection or the union of two thresholded noises, or the first alone.

    Each of the three has probability 1/3. The mask may be empty.

    Args:
        shape: Height and width in pixels. Either side has a number of periods of its own, drawn
            as for a square of that side.
        max_exp: As in `draw_mask`; limited so that a period spans two pixels at least, since
            noise is zero at whole periods.
        threshold: As in `draw_mask`.
        rng: Source of every draw.
        mixed: Whether there are two noises, as in GLASS; else one, as in DRAEM.

    Returns:
        ``(H, W)`` bool.
    """
    if not mixed:
        return _blobs(shape, max_exp, threshold, rng)
    first, second = (_blobs(shape, max_exp, threshold, rng) for _ in range(2))
    match rng.integers(3):
        case 0:
            return first & second
        case 1:
            return first | second
        case _:
            return first


def perlin_noise(
    shape: tuple[int, int], frequencies: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Gradient noise after Perlin, "Improving noise" (2002), for any size.

    A lattice corner's unit gradient adds ``fade(dy) * fade(dx) * (g_y * dy + g_x * dx)`` to the
    pixels of the squares around it. The fades are products, so rows are summed before columns are.

    Args:
        shape: Height and width in pixels; they need not be multiples of the frequencies.
        frequencies: Lattice squares along y and x.
        rng: Source of the gradients.

    Returns:
        ``(H, W)`` float32 in [-1, 1], zero at lattice corners.
    """
    rows, columns = frequencies
    angle = rng.uniform(0, 2 * np.pi, (rows + 1, columns + 1)).astype(np.float32)
    upright, level = np.sin(angle), np.cos(angle)
    row, dy, fade_y = _lattice(shape[0], rows)
    column, dx, fade_x = _lattice(shape[1], columns)
    slopes = sum(fade_y[k] * dy[k] * upright[row + k].T for k in (0, 1))
    levels = sum(fade_y[k] * level[row + k].T for k in (0, 1))
    # Indexed by column first, since whole rows are gathered faster than columns.
    noise = np.zeros(shape[::-1], dtype=np.float32)
    for k in (0, 1):
        noise += fade_x[k, :, None] * slopes[column + k]
        noise += (fade_x[k] * dx[k])[:, None] * levels[column + k]
    return np.asarray(np.sqrt(np.float32(2)) * noise.T)


def pool_mask(mask: NDArray[np.bool_], cell: int) -> NDArray[np.bool_]:
    """Reduce ``(H, W)`` to ``(ceil(H / cell), ceil(W / cell))``; any positive pixel counts."""
    rows, columns = (-(-side // cell) for side in mask.shape)
    height, width = mask.shape
    padded = np.pad(mask, ((0, rows * cell - height), (0, columns * cell - width)))
    return np.asarray(padded.reshape(rows, cell, columns, cell).any(axis=(1, 3)))


def _blobs(
    shape: tuple[int, ...], max_exp: int, threshold: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    side = max(shape)
    highest = [max(0, min(max_exp, (length // 2).bit_length() - 1)) for length in shape]
    periods = [2 ** int(rng.integers(most + 1)) for most in highest]
    # A rectangle that turns leaves its own ends empty, so its noise goes on to a square.
    rows, columns = (-(-side * p // length) for p, length in zip(periods, shape, strict=True))
    height, width = (
        round(length * count / p)
        for length, count, p in zip(shape, (rows, columns), periods, strict=True)
    )
    noise = _middle(perlin_noise((height, width), (rows, columns), rng), (side, side))
    # Pillow fills what turns in from outside with zero, which is below the threshold.
    turned = Image.fromarray(noise).rotate(rng.uniform(-90, 90), Image.Resampling.BILINEAR)
    return _middle(np.asarray(turned), shape) > threshold


def _middle(values: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The part of ``shape`` in the middle."""
    top, left = ((have - want) // 2 for have, want in zip(values.shape, shape, strict=True))
    return np.ascontiguousarray(values[top : top + shape[0], left : left + shape[1]])


def _lattice(
    size: int, frequency: int
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
    """First corner of each pixel's square; distance and fade, ``(2, size)``, to both corners."""
    place = np.arange(size) * (frequency / size)
    corner = place.astype(np.intp)
    distance = np.stack([place - corner, place - corner - 1])
    near = 1 - np.abs(distance)
    fade = near**3 * (near * (near * 6 - 15) + 10)
    return corner, distance.astype(np.float32), fade.astype(np.float32)
