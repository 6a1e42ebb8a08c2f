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
        mask: ``(S, S)`` bool, a subset of the foreground.
        pooled: ``(ceil(S / cell), ceil(S / cell))`` bool, the mask at feature resolution.
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
) -> AnomalyMask:
    """Draw Perlin masks within the foreground until one has a positive cell.

    An empty foreground counts as full, and after `MAX_TRIES` draws without a positive cell the
    mask is the whole foreground; both are told by ``fell_back``.

    Args:
        foreground: ``(S, S)`` bool, true where anomalies may be.
        max_exp: Noise has ``2**e`` periods per axis, ``e`` up to this.
        threshold: Noise above it is anomalous.
        cell: Pixels per side of a cell: the downsampling of the first feature layer.
        rng: Source of every draw.
    """
    empty = not foreground.any()
    allowed = np.ones_like(foreground) if empty else foreground
    for _ in range(MAX_TRIES):
        mask = perlin_mask(len(foreground), max_exp, threshold, rng) & allowed
        if mask.any():
            return AnomalyMask(mask, pool_mask(mask, cell), empty)
    return AnomalyMask(allowed.copy(), pool_mask(allowed, cell), True)


def perlin_mask(
    size: int, max_exp: int, threshold: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """One draw: the intersection or the union of two thresholded noises, or the first alone.

    Each of the three has probability 1/3. The mask may be empty.

    Args:
        size: Side in pixels.
        max_exp: As in `draw_mask`; limited so that a period spans two pixels at least, since
            noise is zero at whole periods.
        threshold: As in `draw_mask`.
        rng: Source of every draw.

    Returns:
        ``(size, size)`` bool.
    """
    first, second = (_blobs(size, max_exp, threshold, rng) for _ in range(2))
    match rng.integers(3):
        case 0:
            return first & second
        case 1:
            return first | second
        case _:
            return first


def perlin_noise(
    size: int, frequencies: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Gradient noise after Perlin, "Improving noise" (2002), for any size.

    A lattice corner's unit gradient adds ``fade(dy) * fade(dx) * (g_y * dy + g_x * dx)`` to the
    pixels of the squares around it. The fades are products, so rows are summed before columns are.

    Args:
        size: Side in pixels; it need not be a multiple of the frequencies.
        frequencies: Lattice squares along y and x.
        rng: Source of the gradients.

    Returns:
        ``(size, size)`` float32 in [-1, 1], zero at lattice corners.
    """
    rows, columns = frequencies
    angle = rng.uniform(0, 2 * np.pi, (rows + 1, columns + 1)).astype(np.float32)
    upright, level = np.sin(angle), np.cos(angle)
    row, dy, fade_y = _lattice(size, rows)
    column, dx, fade_x = _lattice(size, columns)
    slopes = sum(fade_y[k] * dy[k] * upright[row + k].T for k in (0, 1))
    levels = sum(fade_y[k] * level[row + k].T for k in (0, 1))
    # Indexed by column first, since whole rows are gathered faster than columns.
    noise = np.zeros((size, size), dtype=np.float32)
    for k in (0, 1):
        noise += fade_x[k, :, None] * slopes[column + k]
        noise += (fade_x[k] * dx[k])[:, None] * levels[column + k]
    return np.asarray(np.sqrt(np.float32(2)) * noise.T)


def pool_mask(mask: NDArray[np.bool_], cell: int) -> NDArray[np.bool_]:
    """Reduce ``(S, S)`` to ``(ceil(S / cell), ceil(S / cell))``; any positive pixel counts."""
    cells = -(-len(mask) // cell)
    padded = np.pad(mask, (0, cells * cell - len(mask)))
    return np.asarray(padded.reshape(cells, cell, cells, cell).any(axis=(1, 3)))


def _blobs(
    size: int, max_exp: int, threshold: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    highest = max(0, min(max_exp, (size // 2).bit_length() - 1))
    rows, columns = 2 ** rng.integers(highest + 1, size=2)
    noise = perlin_noise(size, (int(rows), int(columns)), rng)
    # Pillow fills what turns in from outside with zero, which is below the threshold.
    turned = Image.fromarray(noise).rotate(rng.uniform(-90, 90), Image.Resampling.BILINEAR)
    return np.asarray(turned) > threshold


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
