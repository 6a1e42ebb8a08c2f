"""Where an image lies on the input: its part, its place, and the pixels that count.

Free of torch on purpose: an exported model frames images as the search did.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autosearch.data.images import MaskRule, resize, resize_mask
from autosearch.data.regions import Regions, resize_regions
from autosearch.spec import ImageSize, OwnShape

Size = tuple[int, int]
"""``(height, width)`` in pixels."""
Fit = Literal["letterbox", "stretch"]

FITS: dict[Fit, str] = {
    "letterbox": "aspect kept, edges repeated as padding that nothing counts",
    "stretch": "to the whole input, out of proportion if need be",
}

_STEP = 8
"""Sides of an own shape are multiples of it, as feature grids like them."""
_SLIGHT, _FEW = 0.04, 4
"""Change of a side, as a share or in pixels, up to which stretching beats a sliver of padding."""

Pixels = NDArray[np.float32]
Mask = NDArray[np.bool_]


class Box(NamedTuple):
    """A rectangle in whole pixels; ``bottom`` and ``right`` are past its end."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> Size:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    @classmethod
    def whole(cls, size: Size) -> Box:
        """All of an area."""
        return cls(0, 0, *size)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Of an array of which it is a part."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True)
class View:
    """What is seen of one image, and where.

    Attributes:
        shape: Height and width of the file.
        source: The part that is seen, in pixels of the file; may reach beyond it.
        target: Where that part lies on the canvas; the rest is padding.
        counted: ``(h, w)`` bool of the file's size, true where pixels count; None for all.
    """

    shape: Size
    source: Box
    target: Box
    counted: Mask | None = None


@dataclass(frozen=True)
class Framing:
    """How the images of a dataset come onto the input, decided once for all of them.

    Attributes:
        size: Height and width of the canvas.
        fit: How other shapes come onto it.
        region: The part of every file that is looked at; None for all of it.
    """

    size: Size
    fit: Fit = "letterbox"
    region: Box | None = None

    def view(self, shape: Size) -> View:
        """What is seen of an image of ``shape``."""
        source = Box.whole(shape) if self.region is None else self.region
        return View(shape, source, fitted(source.size, self.size, self.fit))

    def pixels(self, image: Pixels, view: View) -> Pixels:
        """``(3, h, w)`` of a file as ``(3, H, W)`` of the canvas."""
        part = _cut(image, view.source)
        small = resize(part, view.target.size)
        return _padded(small, view.target, self.size)

    def mask(self, mask: Mask, view: View, rule: MaskRule) -> Mask:
        """A file's ``(h, w)`` ground truth as ``(H, W)``; nothing is anomalous in padding."""
        found = np.zeros(self.size, dtype=bool)
        found[view.target.slices] = resize_mask(_seen(mask, view), view.target.size, rule)
        return found

    def regions(self, mask: Mask, view: View, rule: MaskRule) -> Regions:
        """The same as numbers of regions, labelled at the size of the file."""
        found = np.zeros(self.size, dtype=np.int32)
        inside = resize_regions(_seen(mask, view), view.target.size, rule)
        found[view.target.slices] = inside.labels
        return Regions(found, inside.lost)

    def valid(self, view: View) -> Mask | None:
        """``(H, W)`` bool, true where the canvas shows pixels that count; None if all do."""
        if view.target == Box.whole(self.size) and view.counted is None:
            return None
        found = np.zeros(self.size, dtype=bool)
        inside = np.ones(view.shape, dtype=bool) if view.counted is None else view.counted
        found[view.target.slices] = resize_mask(
            _cut(inside[None], view.source)[0], view.target.size
        )
        return found

    def restored(self, values: Pixels, view: View) -> Pixels:
        """``(H, W)`` of the canvas as ``(h, w)`` of the file; the lowest where nothing was seen."""
        shown = values[view.target.slices]
        large = np.asarray(
            Image.fromarray(np.ascontiguousarray(shown)).resize(
                view.source.size[::-1], Image.Resampling.BILINEAR
            )
        )
        inside = _meet(view.source, Box.whole(view.shape))
        found = np.full(view.shape, large.min(), dtype=np.float32)
        found[inside.slices] = large[_within(inside, view.source).slices]
        if view.counted is not None:
            found[~view.counted] = found.min()
        return found

    def scaled(self, short: int) -> Framing:
        """The same on a canvas whose shorter side has ``short`` pixels."""
        scale = short / min(self.size)
        height, width = (max(1, round(side * scale)) for side in self.size)
        return replace(self, size=(height, width))

    def to_plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "size": list(self.size),
            "fit": self.fit,
            "region": None if self.region is None else list(self.region),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Framing:
        """From what `to_plain` gave.

        Raises:
            ValueError: Something is missing or is no such value.
        """
        try:
            height, width = map(int, plain["size"])
            fit, region = plain["fit"], plain["region"]
            if min(height, width) < 1 or fit not in FITS:
                raise ValueError(f"{height} x {width} pixels, {fit}")
            return cls((height, width), fit, None if region is None else Box(*map(int, region)))
        except (KeyError, TypeError) as error:
            raise ValueError(f"framing: {error}") from None


def fitted(part: Size, canvas: Size, fit: Fit) -> Box:
    """Where a part of an image lies on a canvas: in its middle, as large as its aspect allows."""
    scale = min(whole / own for whole, own in zip(canvas, part, strict=True))
    sides = [max(1, round(own * scale)) for own in part]
    slight = all(
        whole - own <= max(_FEW, _SLIGHT * whole)
        for whole, own in zip(canvas, sides, strict=True)
    )
    if fit == "stretch" or slight:
        return Box.whole(canvas)
    top, left = ((whole - own) // 2 for whole, own in zip(canvas, sides, strict=True))
    return Box(top, left, top + sides[0], left + sides[1])


def canvas_size(wanted: ImageSize, shapes: Sequence[Size]) -> Size:
    """Height and width of the input.

    Args:
        wanted: As the spec has it.
        shapes: Of the normal training images; an own shape has the median of their aspects.
    """
    if isinstance(wanted, int):
        return wanted, wanted
    if not isinstance(wanted, OwnShape):
        return wanted
    # Without any, as where none can be read, a square is as good as another.
    aspect = float(np.exp(np.median([math.log(w / h) for h, w in shapes] or [0.0])))
    if wanted.short is not None:
        height, width = wanted.short * max(1, 1 / aspect), wanted.short * max(1, aspect)
    else:
        side = wanted.side or 0
        height, width = side / math.sqrt(aspect), side * math.sqrt(aspect)
    short = min(height, width)
    if max(height, width) - short <= _SLIGHT * short:
        return round(short), round(short)
    return _stepped(height, wanted.short), _stepped(width, wanted.short)


def size_text(size: int | Sequence[int]) -> str:
    """A size for people: a square's side, or height and width; in pixels."""
    height, width = (size, size) if isinstance(size, int) else size
    return f"{height} px" if height == width else f"{height} x {width} px (height x width)"


def source_size(shapes: Sequence[Size]) -> int:
    """Shorter side of the largest file."""
    return max((min(shape) for shape in shapes), default=1)


def _stepped(length: float, exact: int | None) -> int:
    return exact if exact == round(length) else max(_STEP, _STEP * round(length / _STEP))


def _seen(mask: Mask, view: View) -> Mask:
    """The part of a mask that is seen and counts."""
    counted = mask if view.counted is None else mask & view.counted
    seen: Mask = _cut(counted[None], view.source)[0]
    return seen


def _cut(image: NDArray[Any], box: Box) -> NDArray[Any]:
    """A part of ``(C, h, w)``, zeros where it reaches beyond."""
    whole = Box.whole((image.shape[1], image.shape[2]))
    if box == whole:
        return image
    inside = _meet(box, whole)
    if inside == box:
        return image[:, *box.slices]
    part = np.zeros((len(image), *box.size), dtype=image.dtype)
    part[:, *_within(inside, box).slices] = image[:, *inside.slices]
    return part


def _meet(one: Box, other: Box) -> Box:
    """What two boxes have in common; empty rather than inside out."""
    top, left = max(one.top, other.top), max(one.left, other.left)
    bottom, right = min(one.bottom, other.bottom), min(one.right, other.right)
    return Box(top, left, max(top, bottom), max(left, right))


def _within(box: Box, outer: Box) -> Box:
    """A box in coordinates of another that holds it."""
    down, across = outer.top, outer.left
    return Box(box.top - down, box.left - across, box.bottom - down, box.right - across)


def _padded(image: Pixels, target: Box, canvas: Size) -> Pixels:
    if target == Box.whole(canvas):
        return image
    height, width = canvas
    margins = ((0, 0), (target.top, height - target.bottom), (target.left, width - target.right))
    return np.pad(image, margins, mode="edge")
