"""Where an object lies in a photograph and how it is turned, and a set's common pose.

Centre and axis are moments of the object's mask. Which way round it lies, and the angle of an
object without an axis, are those at which it looks most like the mean of the training images.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from autosearch.data.boxes import Box, Size
from autosearch.data.objects import with_margin
from autosearch.data.parts import TEMPLATE, Grey, Part, Pose, extent
from autosearch.data.turning import Point, Turn

_ROUND = 1.1
"""Ratio of an object's second moments below which its axis means nothing."""
_TOGETHER = 0.9
"""Length of the mean of axes (as unit vectors, angles doubled) from which they lie alike."""
_CLEAR = 0.3
"""Least correlation with the template at which a round object is turned."""
_AS_GOOD = 0.97
"""Share of the best likeness from which a smaller turn is preferred."""
_NEAR, _ASIDE = 10, 6
"""Degrees by which an axis may mislead, and pixels of the template by which a centroid may."""
_ENOUGH = 100
"""Objects of which the mean is made."""
_RADII, _ANGLES = 28, 360
"""Circles on which angles are found, and how many there are."""
_GREY, _STEPS = 128, 24
"""Byte of a template that stands for 0, where there is no object, and bytes that stand for 1."""

_EVERYWHERE = Box(-(10**9), -(10**9), 10**9, 10**9)


@dataclass(frozen=True)
class Alignment:
    """The pose that all objects of a set are brought into.

    Attributes:
        axis: Direction of an object's axis, clockwise from the horizontal, in degrees; None for
            objects that have none.
        reach: Half the side of the template, in pixels of the files.
        middle: Where an object's centroid lies in the picture that is cut out.
        template: 64 x 64 bytes, row by row: the mean copy, 0 being 128 and 1 being 152.
    """

    axis: float | None
    reach: float
    middle: Point
    template: bytes

    def turn(self, part: Part) -> Turn:
        """How the upright picture of an object lies on its file."""
        degrees, aside = self.pose(part)
        centre = (part.centre[0] + aside[0], part.centre[1] + aside[1])
        return Turn(centre, self.middle, _signed(degrees))

    def pose(self, part: Part) -> Pose:
        """How an object lies."""
        likely = [Pose(self._turned(part, Pose(0), _ANGLES))]
        if self.axis is not None and part.ratio >= _ROUND:
            degrees = _halved(part.axis - self.axis)
            likely += [Pose(degrees), Pose(degrees + 180)]
        return max((self._closer(part, pose) for pose in likely), key=self._likeness(part))

    def to_plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "axis": self.axis,
            "reach": self.reach,
            "middle": list(self.middle),
            "template": base64.b64encode(self.template).decode(),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Alignment:
        """From what `to_plain` gave.

        Raises:
            KeyError: Something is missing.
            TypeError: Something is of another kind.
            ValueError: Something is no such value.
        """
        axis, (down, across) = plain["axis"], plain["middle"]
        template = base64.b64decode(plain["template"], validate=True)
        numbers = [float(plain["reach"]), float(down), float(across), float(axis or 0)]
        if len(template) != TEMPLATE**2 or not all(map(math.isfinite, numbers)):
            raise ValueError(f"alignment: {numbers}, a template of {len(template)} bytes")
        if numbers[0] <= 0:
            raise ValueError(f"alignment: a reach of {numbers[0]}")
        return cls(
            None if axis is None else numbers[3], numbers[0], (numbers[1], numbers[2]), template
        )

    @cached_property
    def _looks(self) -> Grey:
        values = np.frombuffer(self.template, dtype=np.uint8).reshape(TEMPLATE, TEMPLATE)
        return np.asarray((values.astype(np.float32) - _GREY) / _STEPS, dtype=np.float32)

    @cached_property
    def _circles(self) -> Grey:
        return _polar(self._looks)

    def _likeness(self, part: Part) -> Callable[[Pose], float]:
        """How much an object looks like the template in a pose; a little more if that is near."""

        def likeness(pose: Pose) -> float:
            found = _product(part.upright(pose, self.reach), self._looks)
            return found if abs(_signed(pose.degrees)) <= 90 else found * _AS_GOOD

        return likeness

    def _closer(self, part: Part, pose: Pose) -> Pose:
        """The pose near one at which an object looks most like the template.

        Where a piece is missing, centroid and axis are off, but most of the object is not.
        """
        for _ in range(2):
            pose = Pose(pose.degrees, self._moved(part, pose))
            pose = Pose(self._turned(part, pose, _NEAR), pose.aside)
        return pose

    def _turned(self, part: Part, pose: Pose, within: float) -> float:
        """The turn by which an object looks most like the template, if that is clear.

        Args:
            part: The object.
            pose: Where its middle is, and how far it is likely to be turned.
            within: How far from that it may be, in degrees.
        """
        # Circles around the middle, and the best shift along them.
        here, there = _polar(part.upright(pose, self.reach)), self._circles
        shifted = np.fft.rfft(here) * np.fft.rfft(there).conj()
        whole = np.fft.irfft(shifted.sum(axis=0), _ANGLES)
        away = _signed(np.arange(_ANGLES))
        likely = (whole > np.roll(whole, 1)) & (whole >= np.roll(whole, -1))
        likely &= whole > _CLEAR * math.sqrt(_product(here, here) * _product(there, there))
        peaks = np.flatnonzero(likely & (np.abs(away) <= within))
        if peaks.size == 0:
            return pose.degrees
        good = peaks[whole[peaks] >= _AS_GOOD * whole[peaks].max()]
        # Of turns that are as good, as those of a square, the least.
        best = int(good[np.argmin(np.abs(away[good]))])
        beside = whole[[best - 1, best, best + 1 - _ANGLES]]
        return pose.degrees + float(away[best]) + _vertex(*beside)

    def _moved(self, part: Part, pose: Pose) -> Point:
        """The middle at which an object looks most like the template, if that is clear."""
        here, there = part.upright(pose, self.reach), self._looks
        shifted = np.fft.rfft2(here) * np.fft.rfft2(there).conj()
        whole = np.roll(np.fft.irfft2(shifted, here.shape), (_ASIDE, _ASIDE), axis=(0, 1))
        near = whole[: 2 * _ASIDE + 1, : 2 * _ASIDE + 1]
        down, across = map(int, np.unravel_index(near.argmax(), near.shape))
        least = _CLEAR * math.sqrt(_product(here, here) * _product(there, there))
        if near[down, across] <= least or {down, across} & {0, 2 * _ASIDE}:
            return pose.aside
        y = down - _ASIDE + _vertex(*near[down - 1 : down + 2, across])
        x = across - _ASIDE + _vertex(*near[down, across - 1 : across + 2])
        scale, angle = self.reach / (TEMPLATE / 2), math.radians(pose.degrees)
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        return pose.aside[0] + sin * x + cos * y, pose.aside[1] + cos * x - sin * y


def aligned(parts: Sequence[Part], tall: bool) -> tuple[Alignment, Size]:
    """The pose that objects are brought into, and the size of the picture that holds them all.

    The first object is the template to begin with; then the mean of up to 100 is, twice. Objects
    that lie alike stay as they are photographed.

    Args:
        parts: Objects of the normal training images; one at least.
        tall: Whether files are higher than wide: objects turned at random lie in them lengthwise.

    Returns:
        The pose, and height and width in pixels of the files, with a margin as around objects
        that are cropped.
    """
    long = [part for part in parts if part.ratio >= _ROUND]
    axis = _common(long, tall) if 2 * len(long) > len(parts) else None
    reach = median(part.reach for part in parts)
    first = parts[0] if axis is None else long[0]
    some = [parts[i] for i in np.linspace(0, len(parts) - 1, min(_ENOUGH, len(parts))).astype(int)]
    start = 0 if axis is None else _halved(first.axis - axis)
    found = _mean(some, axis, reach, first.upright(Pose(start), reach))
    turns = np.deg2rad([found.pose(part).degrees for part in some])
    if axis is None and abs(np.exp(1j * turns).mean()) < _TOGETHER:
        found = _mean(some, axis, reach, first.upright(Pose(_snug(first)), reach))
    held = np.concatenate([extent(part, found.turn(part)) for part in parts])
    top, left = np.floor(held.min(axis=0)).astype(int)
    bottom, right = np.ceil(held.max(axis=0)).astype(int)
    box = Box(int(top), int(left), int(bottom), int(right))
    window = with_margin(box, _EVERYWHERE)
    middle = (float(-window.top), float(-window.left))
    return Alignment(axis, reach, middle, found.template), window.size


def _mean(parts: Sequence[Part], axis: float | None, reach: float, start: Grey) -> Alignment:
    """The mean of objects, once they are brought into the pose of one that is upright."""
    found = Alignment(axis, reach, (0.0, 0.0), _quantised(start))
    for _ in range(2):
        mean = np.zeros((TEMPLATE, TEMPLATE), dtype=np.float64)
        for part in parts:
            mean += part.upright(found.pose(part), reach) / len(parts)
        found = Alignment(axis, reach, (0.0, 0.0), _quantised(mean))
    return found


def _snug(part: Part) -> float:
    """The turn after which an object fills its box best, in degrees."""

    def area(degrees: int) -> float:
        (top, left), (bottom, right) = extent(part, Turn(part.centre, (0.0, 0.0), degrees))
        return float((bottom - top) * (right - left))

    return float(min(range(90), key=area))


def _common(parts: Sequence[Part], tall: bool) -> float:
    """The direction in which objects are to lie: the one they have, or else along the picture."""
    doubled = np.deg2rad([2 * part.axis for part in parts])
    mean = complex(np.exp(1j * doubled).mean())
    if abs(mean) >= _TOGETHER:
        return math.degrees(math.atan2(mean.imag, mean.real)) / 2
    return 90.0 if tall else 0.0


def _polar(copy: Grey) -> Grey:
    """``(28, 360)`` values on circles, less the mean of each, weighed by the circle's length."""
    angles = np.arange(_ANGLES) * (2 * np.pi / _ANGLES)
    radii = (np.arange(_RADII) + 1)[:, None] * (TEMPLATE / 2 - 1) / _RADII
    middle = (TEMPLATE - 1) / 2
    places = [middle + radii * np.sin(angles), middle + radii * np.cos(angles)]
    values = scipy.ndimage.map_coordinates(copy, places, order=1)
    values -= values.mean(axis=1, keepdims=True)
    return np.asarray(values * np.sqrt(radii), dtype=np.float32)


def _product(one: Grey, other: Grey) -> float:
    return float(np.vdot(one, other))


def _quantised(mean: NDArray[np.floating]) -> bytes:
    values = (mean * _STEPS + _GREY).round().clip(0, 255).astype(np.uint8)
    return values.tobytes()


def _signed(degrees: Any) -> Any:
    """The same angles in [-180, 180)."""
    return (degrees + 180) % 360 - 180


def _halved(degrees: float) -> float:
    """The angle between two directions without ends, in [-90, 90)."""
    return (degrees + 90) % 180 - 90


def _vertex(before: float, at: float, after: float) -> float:
    """Where a parabola through three values, the middle one the greatest, is highest."""
    bend = before - 2 * at + after
    return 0.0 if bend == 0 else float((before - after) / (2 * bend))
