"""Photographs of one part, turned and moved by a known amount, drawn by a program."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from object_parts import save
from scipy import ndimage

GROUND = (0.88, 0.89, 0.9)
SHAPE = (120, 160)


class Lie(NamedTuple):
    """By how much a part is turned, clockwise, and where its centre is; as ``autosearch`` says."""

    degrees: float
    centre: tuple[float, float] = (60.0, 80.0)

    def inside(self, points: np.ndarray) -> np.ndarray:
        """``(..., 2)`` points of a photograph as ``(y, x)`` from the part's centre, upright."""
        angle = np.deg2rad(self.degrees)
        down, across = np.moveaxis(points - self.centre, -1, 0)
        along = np.cos(angle) * across + np.sin(angle) * down
        return np.stack([np.cos(angle) * down - np.sin(angle) * across, along], axis=-1)


def photo(
    lie: Lie, seed: int = 0, size: tuple[int, int] = (44, 80), shape: tuple[int, int] = SHAPE,
    disc: bool = False, broken: bool = False,
) -> np.ndarray:  # fmt: skip
    """``(3, h, w)`` float32: a dark part of squares with one bright corner, on bright ground.

    Args:
        lie: Its place.
        seed: Of the noise.
        size: Of the part.
        shape: Of the photograph.
        disc: Whether the part is a disc.
        broken: Whether a corner is missing.
    """
    fine = 3
    grid = np.random.default_rng(1).uniform(0.1, 0.35, (size[0] // 4, size[1] // 4))
    looks = np.kron(grid, np.ones((4, 4)))
    looks[: size[0] // 3, : size[1] // 4] = 0.5
    points = (np.moveaxis(np.indices([side * fine for side in shape]), 0, -1) + 0.5) / fine
    y, x = np.moveaxis(lie.inside(points), -1, 0)
    on = (np.abs(y) <= size[0] / 2) & (np.abs(x) <= size[1] / 2)
    if disc:
        on = y**2 + x**2 <= (min(size) / 2) ** 2
    if broken:
        on &= ~((x > size[1] * 0.3) & (y > size[0] * 0.2))
    places = [y + (size[0] - 1) / 2, x + (size[1] - 1) / 2]
    seen = ndimage.map_coordinates(looks, places, order=1, mode="nearest")
    noise = np.random.default_rng(seed).normal(0, 0.005, shape)
    parts = []
    for ground in GROUND:
        values = np.where(on, seen, ground).reshape(shape[0], fine, shape[1], fine)
        parts.append(values.mean(axis=(1, 3)) + noise)
    return np.stack(parts).clip(0, 1).astype(np.float32)


def defect(lie: Lie, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """``(h, w)`` bool: a stroke at one place of the part."""
    points = np.moveaxis(np.indices(shape), 0, -1) + 0.5
    y, x = np.moveaxis(lie.inside(points), -1, 0)
    return np.asarray((np.abs(x - 12) < 10) & (np.abs(y - 6) < 4))


def lies(count: int, seed: int = 0, degrees: float = 180, pixels: float = 12) -> list[Lie]:
    """Places drawn at random."""
    rng = np.random.default_rng(seed)

    def drawn(middle: float, away: float) -> float:
        return float(rng.uniform(middle - away, middle + away))

    return [Lie(drawn(0, degrees), (drawn(60, pixels), drawn(80, pixels))) for _ in range(count)]


def turned_dataset(base: Path, degrees: float = 180, pixels: float = 12) -> dict[str, Lie]:
    """Category ``part``: 10 train, 2 test normals, 3 of ``stroke``; places by name of the file."""
    places = lies(15, 3, degrees, pixels)
    names = [f"train/good/{i:03}.png" for i in range(10)]
    names += [f"test/good/{i:03}.png" for i in range(2)]
    names += [f"test/stroke/{i:03}.png" for i in range(3)]
    for i, (name, lie) in enumerate(zip(names, places, strict=True)):
        values = photo(lie, i)
        if "stroke" in name:
            mask = defect(lie)
            values[:, mask] = np.array([0.9, 0.3, 0.2], dtype=np.float32)[:, None]
            truth = base / "ground_truth/stroke" / f"{Path(name).stem}_mask.png"
            save(truth, (mask * 255).astype(np.uint8))
        save(base / name, (values.transpose(1, 2, 0) * 255).round().astype(np.uint8))
    return {f"{base.name}/{name}": lie for name, lie in zip(names, places, strict=True)}
