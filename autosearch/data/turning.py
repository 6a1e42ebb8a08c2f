"""Photographs turned about an object, and maps of turned photographs laid back onto them.

Points are ``(y, x)`` in pixels, the middle of the first pixel being ``(0.5, 0.5)``.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autosearch.data.boxes import Size
from autosearch.data.regions import label_regions

Point = tuple[float, float]
Points = NDArray[np.float64]


class Turn(NamedTuple):
    """How an upright picture lies on the file that it is taken from.

    Attributes:
        centre: A point of the file.
        middle: The same point in the picture.
        degrees: By how much what the picture shows lies turned in the file, clockwise.
    """

    centre: Point
    middle: Point
    degrees: float

    def to_file(self, points: Points) -> Points:
        """``(K, 2)`` points of the picture as those of the file."""
        return np.asarray((points - self.middle) @ self._matrix.T + self.centre)

    def from_file(self, points: Points) -> Points:
        """``(K, 2)`` points of the file as those of the picture."""
        return np.asarray((points - self.centre) @ self._matrix + self.middle)

    @property
    def _matrix(self) -> Points:
        angle = math.radians(self.degrees)
        return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])

    def upright(self, image: NDArray[Any], size: Size, beyond: float = 0) -> NDArray[Any]:
        """The picture of one channel.

        Args:
            image: ``(h, w)`` of the file; float32 is interpolated (bilinear), bool and int32 take
                the nearest pixel.
            size: Height and width of the picture.
            beyond: What stands where the file has no pixel.
        """
        return _warped(image, self._matrix, self.middle, self.centre, size, beyond)

    def laid_back(self, values: NDArray[Any], shape: Size) -> NDArray[Any]:
        """``(h, w)`` of a file of some shape from ``(H, W)`` of the picture; 0 beyond it."""
        return _warped(values, self._matrix.T, self.centre, self.middle, shape, 0)


def upright_regions(mask: NDArray[np.bool_], turn: Turn, size: Size) -> NDArray[np.int32]:
    """Regions of a file's mask, labelled there, on the upright picture.

    Args:
        mask: ``(h, w)`` bool of the file.
        turn: How the picture lies on it.
        size: Height and width of the picture.

    Returns:
        ``(H, W)`` int32, numbered from 1 on without gaps. What lies beyond the picture is left
        out. A region that the nearest pixels miss gets one that it falls on, unless all of these
        are the only ones of others.
    """
    labels = label_regions(mask)
    found: NDArray[np.int32] = turn.upright(labels, size)
    count = int(labels.max(initial=0))
    owned = np.bincount(found.ravel(), minlength=count + 1)
    if not owned[1:].all():
        rows, columns = np.nonzero((owned == 0)[labels] & (labels > 0))
        points = turn.from_file(np.stack([rows, columns], axis=1).astype(np.float64) + 0.5)
        places = np.floor(points).astype(int)
        inside = ((places >= 0) & (places < size)).all(axis=1)
        for (row, column), region in zip(
            places[inside], labels[rows[inside], columns[inside]], strict=True
        ):
            other = found[row, column]
            if owned[region] == 0 and (other == 0 or owned[other] > 1):
                owned[other] -= 1
                owned[region] += 1
                found[row, column] = region
    numbers = np.cumsum(owned > 0) - 1 + (owned[0] == 0)
    numbers[0] = 0
    return np.asarray(numbers[found], dtype=np.int32)


def _warped(
    image: NDArray[Any], matrix: Points, origin: Point, onto: Point, size: Size, beyond: float
) -> NDArray[Any]:
    """``result[p] = image[onto + matrix (p - origin)]``."""
    (yy, yx), (xy, xx) = matrix
    down = onto[0] - yy * origin[0] - yx * origin[1]
    across = onto[1] - xy * origin[0] - xx * origin[1]
    smooth = image.dtype == np.float32
    plain = image.astype(np.uint8) if image.dtype == bool else image
    # Pillow's coefficients have x before y, and it adds the half pixels itself.
    turned = Image.fromarray(np.ascontiguousarray(plain)).transform(
        size[::-1],
        Image.Transform.AFFINE,
        (xx, xy, across, yx, yy, down),
        Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST,
        fillcolor=beyond if smooth else int(beyond),
    )
    return np.array(turned).astype(image.dtype)
