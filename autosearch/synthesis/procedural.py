"""Textures made from formulas, for use where no auxiliary data is at hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft

from autosearch.data import Size

Field = NDArray[np.float32]
"""``(S, S)`` values in [0, 1]."""


def spectrum(size: int, rng: np.random.Generator) -> Field:
    """Noise whose amplitude falls with frequency f as ``1 / f**a``, ``a`` from 0.5 to 2."""
    rows = fft.fftfreq(size).astype(np.float32)[:, None]
    frequency = np.hypot(rows, fft.rfftfreq(size).astype(np.float32))
    frequency[0, 0] = 1
    amplitude = frequency ** np.float32(-rng.uniform(0.5, 2))
    noise = fft.rfft2(rng.standard_normal((size, size), dtype=np.float32))
    return _stretch(fft.irfft2(noise * amplitude, (size, size)))


def stripes(size: int, rng: np.random.Generator) -> Field:
    """Parallel bands of one period and direction, soft or hard, slightly wavy."""
    along, across = _turned(size, rng)
    waves = 2 * np.pi * rng.uniform(3, 40)
    bend = rng.uniform(0, 0.02) * np.sin(2 * np.pi * rng.uniform(1, 4) * along)
    return _soft_step(np.sin(waves * (across + bend)), rng)


def checker(size: int, rng: np.random.Generator) -> Field:
    """Rectangles of two kinds in turn, in any direction, soft or hard."""
    along, across = _turned(size, rng)
    first, second = (
        np.sin(np.float32(np.pi * rng.uniform(3, 30)) * axis) for axis in (along, across)
    )
    return _soft_step(first * second, rng)


def cells(size: int, rng: np.random.Generator) -> Field:
    """Distance to the nearest of scattered points (Worley, SIGGRAPH 1996): pebbles, scales.

    The points are one per square of a lattice; the nine in and around a pixel's square are tried.
    """
    count = int(rng.integers(4, 17))
    side = -(-size // count)
    points = rng.random((2, count + 2, count + 2), dtype=np.float32)
    inside = (np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(side)
    nearest = np.full((count, side, count, side), np.inf, dtype=np.float32)
    for down in (0, 1, 2):
        for right in (0, 1, 2):
            y, x = points[:, down : down + count, None, right : right + count, None]
            dy = y + np.float32(down - 1) - inside[:, None, None]
            dx = x + np.float32(right - 1) - inside
            np.minimum(nearest, dy * dy + dx * dx, out=nearest)
    flat = nearest.reshape(count * side, count * side)[:size, :size]
    return _stretch(np.sqrt(flat) if rng.random() < 0.5 else flat)


def spots(size: int, rng: np.random.Generator) -> Field:
    """Blobs of one typical size on a plain ground: noise of one band of frequencies, cut."""
    rows = fft.fftfreq(size).astype(np.float32)[:, None]
    frequency = np.hypot(rows, fft.rfftfreq(size).astype(np.float32)) * size
    centre = np.float32(np.exp(rng.uniform(np.log(4), np.log(40))))
    band = np.exp(-(((frequency - centre) / (0.3 * centre)) ** 2))
    noise = fft.rfft2(rng.standard_normal((size, size), dtype=np.float32))
    field = fft.irfft2(noise * band, (size, size))
    return _soft_step(field / max(float(field.std()), 1e-9) - rng.uniform(-0.5, 1), rng)


FAMILIES: dict[str, Callable[[int, np.random.Generator], Field]] = {
    "spectrum": spectrum,
    "stripes": stripes,
    "checker": checker,
    "cells": cells,
    "spots": spots,
}


class ProceduralTextures:
    """Fields of every family in two random colours with fine grain."""

    def picture(self, size: Size, rng: np.random.Generator) -> Image.Image:
        """A field of a random family, coloured from one random colour to another.

        It is a square of the longer side, so that its pattern is nowhere stretched.
        """
        side = max(size)
        field = FAMILIES[list(FAMILIES)[rng.integers(len(FAMILIES))]](side, rng)
        grain = rng.standard_normal((side, side), dtype=np.float32) * rng.uniform(0, 0.05)
        low, high = rng.uniform(0, 255, (2, 3))
        palette = np.linspace(low, high, 256).astype(np.uint8)
        return Image.fromarray(palette[np.clip((field + grain) * 255, 0, 255).astype(np.uint8)])


def _turned(size: int, rng: np.random.Generator) -> tuple[Field, Field]:
    """Coordinates of a frame turned at random, in units of the image's side."""
    angle = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    steps = np.arange(size, dtype=np.float32) / np.float32(size)
    y, x = steps[:, None], steps
    return cos * x + sin * y, cos * y - sin * x


def _soft_step(wave: NDArray[np.float32], rng: np.random.Generator) -> Field:
    """Turn a wave around zero into values in [0, 1], with edges from soft to hard."""
    steepness = np.float32(np.exp(rng.uniform(0, np.log(20))))
    return np.asarray(np.clip(wave * steepness * 0.5 + 0.5, 0, 1), dtype=np.float32)


def _stretch(values: NDArray[np.float32]) -> Field:
    low, high = values.min(), values.max()
    return np.asarray((values - low) / max(float(high - low), 1e-9), dtype=np.float32)
