"""An object as it lies in a photograph: its place, its axis, its outline, and how it looks."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray
from PIL import Image

from autosearch.data.boxes import Box, cut
from autosearch.data.objects import Found
from autosearch.data.turning import Point, Points, Turn

TEMPLATE = 64
"""Side of the copies that objects are compared on."""
_COPY = 96
_REACH = 2.0
"""How far a copy reaches from the centre, in radii of gyration: past the corners of a square."""
_PART = 0.1
"""Least area of what belongs to an object, as a share of its largest piece."""
_FAINT = 0.02
"""Standard deviation of grey values up to which an object is as good as plain."""
_BORDER = 1 / 32
"""Width of the border whose colour is the background's, as a share of the shorter side."""

Grey = NDArray[np.float32]


class Pose(NamedTuple):
    """How an object lies.

    Attributes:
        degrees: By how much it is turned, clockwise.
        aside: Where its middle is, from its centroid; they differ where a piece is missing. In
            pixels of the file.
    """

    degrees: float
    aside: Point = (0.0, 0.0)


class Part(NamedTuple):
    """An object as it lies in a photograph.

    Attributes:
        centre: Centroid, in pixels of the file.
        axis: Direction of its longest extent, clockwise from the horizontal; in degrees.
        ratio: Of its greatest second moment to its least.
        reach: Half the side of ``copy``, in pixels of the file.
        copy: ``(96, 96)`` float16 around the centre: 1 on the object, plus its grey values less
            their mean, by their standard deviation, so that its shape does not outweigh its
            looks; 0 around it.
        outline: ``(K, 2)`` points that hold the object, relative to the centre.
    """

    centre: Point
    axis: float
    ratio: float
    reach: float
    copy: NDArray[np.float16]
    outline: Points

    @classmethod
    def of(cls, image: NDArray[np.float32], found: Found) -> Part:
        """Measure an object.

        Args:
            image: ``(3, h, w)`` that it was found in.
            found: The object.
        """
        mask = _main(found.small)
        scale = np.array(image.shape[1:]) / mask.shape
        rows, columns = np.nonzero(mask)
        points = (np.stack([rows, columns], axis=1) + 0.5) * scale
        centre = points.mean(axis=0)
        (yy, yx), (_, xx) = np.cov((points - centre).T, bias=True) + np.diag(scale**2) / 12
        spread = math.hypot((xx - yy) / 2, yx)
        mean = (xx + yy) / 2
        reach = max(2.0, _REACH * math.sqrt(xx + yy))
        return cls(
            (float(centre[0]), float(centre[1])),
            math.degrees(math.atan2(2 * yx, xx - yy) / 2),
            float((mean + spread) / max(mean - spread, 1e-9)),
            reach,
            _copy(image, found.mask, centre, reach).astype(np.float16),
            _corners(mask) * scale - centre,
        )

    def moved(self, down: int, across: int) -> Part:
        """The same object in a file of which the image is a part."""
        return self._replace(centre=(self.centre[0] + down, self.centre[1] + across))

    def upright(self, pose: Pose, reach: float) -> Grey:
        """``(64, 64)`` grey copy that reaches ``reach`` pixels of the file, turned upright."""
        finer, scale = _COPY / 2 / self.reach, reach / self.reach * _COPY / TEMPLATE
        down, across = (_COPY / 2 + finer * aside for aside in pose.aside)
        half, angle = TEMPLATE / 2, math.radians(pose.degrees)
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        picture = Image.fromarray(self.copy.astype(np.float32)).transform(
            (TEMPLATE, TEMPLATE),
            Image.Transform.AFFINE,
            (cos, -sin, across - half * (cos - sin), sin, cos, down - half * (sin + cos)),
            Image.Resampling.BILINEAR,
        )
        return np.asarray(picture)


def extent(part: Part, turn: Turn) -> Points:
    """``(2, 2)`` least and greatest coordinates of an object in its upright picture."""
    points = turn.from_file(part.outline + part.centre)
    return np.stack([points.min(axis=0), points.max(axis=0)])


def box_in(part: Part, turn: Turn) -> Box:
    """The box that holds an object in its upright picture."""
    (top, left), (bottom, right) = extent(part, turn)
    return Box(math.floor(top), math.floor(left), math.ceil(bottom), math.ceil(right))


def border_colour(image: NDArray[np.float32]) -> tuple[float, ...]:
    """Median colour of the border of ``(C, h, w)``."""
    width = max(1, round(min(image.shape[1:]) * _BORDER))
    sides = (image[:, :width], image[:, -width:], image[:, :, :width], image[:, :, -width:])
    ring = np.concatenate([side.reshape(len(image), -1) for side in sides], axis=1)
    return tuple(map(float, np.median(ring, axis=1)))


def _main(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask without pieces that are small beside the largest, such as threads and crumbs."""
    labels, count = scipy.ndimage.label(mask, np.ones((3, 3)))
    if count < 2:
        return mask
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    return np.asarray((areas >= _PART * areas.max())[labels] & mask)


def _corners(mask: NDArray[np.bool_]) -> Points:
    """``(K, 2)`` corners of the convex hull of a mask's pixels."""
    # Only where something is aligned, since it takes a while.
    from scipy.spatial import ConvexHull

    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    pairs = [(rows + down, side) for down in (0, 1) for side in (first, last)]
    points = np.concatenate([np.stack(pair, axis=1) for pair in pairs]).astype(np.float64)
    return np.asarray(points[ConvexHull(points).vertices])


def _copy(
    image: NDArray[np.float32], mask: NDArray[np.bool_], centre: Points, reach: float
) -> Grey:
    """``Part.copy`` of what lies around a point."""
    (top, left), (bottom, right) = centre - reach, centre + reach
    box = Box(math.floor(top), math.floor(left), math.ceil(bottom), math.ceil(right))
    exact = (left - box.left, top - box.top, right - box.left, bottom - box.top)

    def small(values: Grey) -> Grey:
        picture = Image.fromarray(values)
        return np.asarray(picture.resize((_COPY, _COPY), Image.Resampling.BILINEAR, box=exact))

    inside = cut(mask[None], box)[0].astype(np.float32)
    shape, looks = small(inside), small(cut(image, box).mean(axis=0) * inside)
    area = max(float(shape.sum()), 1e-6)
    looks = looks - shape * (float(looks.sum()) / area)
    spread = math.sqrt(float(np.square(looks).sum()) / area)
    return np.asarray(shape + looks / max(spread, _FAINT), dtype=np.float32)
