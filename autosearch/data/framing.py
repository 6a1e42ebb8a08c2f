"""Where an image lies on the input: its part, its place, and the pixels that count.

Free of torch on purpose: an exported model frames images as the search did.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autosearch.data.align import Alignment
from autosearch.data.boxes import Box, Size, cut
from autosearch.data.images import MaskRule, resize, resize_mask
from autosearch.data.interest import KEY, area_of, scaled_to
from autosearch.data.objects import Found, find_object, with_margin
from autosearch.data.parts import Part, border_colour, box_in
from autosearch.data.regions import Regions, carry_regions
from autosearch.data.views import View as View
from autosearch.errors import DataError
from autosearch.spec import ImageSize, OwnShape

Fit = Literal["letterbox", "stretch"]
Preprocess = Literal["none", "mask", "crop", "centre", "align"]

FITS: dict[Fit, str] = {
    "letterbox": "aspect kept, edges repeated as padding that nothing counts",
    "stretch": "to the whole input, out of proportion if need be",
}
STAGES: dict[Preprocess, str] = {
    "none": "as photographed",
    "mask": "the object alone, its surroundings made background that nothing counts",
    "crop": "cut to the object and a margin of 5 % of its longer side",
    "centre": "the object's box in the middle of a canvas that holds the largest, on background",
    "align": "turned and moved until the object lies as all others do, cut out as they are",
}

_STEP = 8
"""Sides of an own shape are multiples of it, as feature grids like them."""
_SLIGHT, _FEW = 0.04, 4
"""Change of a side, as a share or in pixels, up to which stretching beats a sliver of padding."""

Pixels = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Framing:
    """How the images of a dataset come onto the input, decided once for all of them.

    Attributes:
        size: Height and width of the canvas.
        fit: How other shapes come onto it.
        region: The part of every file that is looked at; None for all of it.
        preprocess: What is done about the object before that; one of `STAGES`.
        object_size: Height and width of what is shown around the centre of an object, in pixels
            of the files; for ``centre`` and ``align`` alone.
        background: What stands where the photograph is not shown, in [0, 1].
        looked_at: ``(h, w)`` bool of any size, true where pixels count; None for all.
        alignment: The pose that objects are brought into; for ``align`` alone.
        marked: Whether files marked the objects that all this was decided from.
    """

    size: Size
    fit: Fit = "letterbox"
    region: Box | None = None
    preprocess: Preprocess = "none"
    object_size: Size | None = None
    background: float = 0.0
    looked_at: Mask | None = field(default=None, compare=False, repr=False)
    alignment: Alignment | None = None
    marked: bool = False

    def view(
        self, image: Pixels, path: Path | str = "image", foreground: Mask | None = None
    ) -> View:
        """What is seen of ``(3, h, w)``.

        Args:
            image: RGB in [0, 1] at the size of the file.
            path: The file, for the error.
            foreground: ``(h, w)`` mask of its object, where somebody marked it; None where it is
                looked for.

        Raises:
            DataError: The image does not hold ``region``, has not the shape of ``looked_at``, or
                nothing of it would count.
        """
        shape = (image.shape[1], image.shape[2])
        area = area_of(shape, self.region, path)
        counted = None if self.looked_at is None else scaled_to(shape, self.looked_at, path)
        part = cut(image, area)
        marked = None if foreground is None else foreground[area.slices]
        found = None if self.preprocess == "none" else find_object(part, marked)
        view = View(shape, area, area, counted)
        if found is not None and self.alignment is not None:
            view = self._aligned(view, Part.of(part, found).moved(area.top, area.left))
            view = replace(view, beyond=border_colour(part))
        elif found is not None:
            source, shown, box = self._stage(found, area, shape)
            view = replace(view, source=source, shown=shown, object=box)
        if counted is not None and view.shown is not None:
            counted = counted & view.shown
        view = replace(
            view,
            target=self._target(view.source),
            counted=view.shown if counted is None else counted,
        )
        counted = view.counted
        if counted is not None and not view.seen(counted):
            remedy = f"remove it, or set {KEY} to where the object lies"
            raise DataError(path, "nothing of the image counts", remedy)
        return view

    def placed(self, view: View) -> View:
        """The same part of the same image on this canvas, which differs in size alone."""
        return replace(view, target=self._target(view.source))

    def pixels(self, image: Pixels, view: View) -> Pixels:
        """``(3, h, w)`` of a file as ``(3, H, W)`` of the canvas."""
        given = (self.background,) * len(image) if view.beyond is None else view.beyond
        ground = np.array(given, dtype=np.float32)[:, None, None]
        if view.shown is not None:
            image = np.where(view.shown, image, ground)
        if view.turn is None:
            part = cut(image, view.source, self.background)
        else:
            part = np.stack(
                [
                    view.turn.upright(channel, view.source.size, colour)
                    for channel, colour in zip(image, given, strict=True)
                ]
            )
        small = resize(part, view.target.size)
        # Edges that are the object's would be drawn out into bars.
        alone = self.preprocess in ("mask", "centre") or view.turn is not None
        return _padded(small, view.target, self.size, ground if alone else None)

    def mask(self, mask: Mask, view: View, rule: MaskRule) -> Mask:
        """A file's ``(h, w)`` ground truth as ``(H, W)``; nothing is anomalous in padding."""
        found = np.zeros(self.size, dtype=bool)
        found[view.target.slices] = resize_mask(view.part_of(mask), view.target.size, rule)
        return found

    def regions(self, mask: Mask, view: View, rule: MaskRule) -> Regions:
        """The same as numbers of regions, labelled at the size of the file."""
        found = np.zeros(self.size, dtype=np.int32)
        inside = carry_regions(view.regions_of(mask), view.target.size, rule)
        found[view.target.slices] = inside.labels
        return Regions(found, inside.lost)

    def valid(self, view: View) -> Mask | None:
        """``(H, W)`` bool, true where the canvas shows pixels that count; None if all do."""
        if view.target == Box.whole(self.size) and view.counted is None and view.turn is None:
            return None
        found = np.zeros(self.size, dtype=bool)
        if view.counted is None and view.turn is None:
            found[view.target.slices] = True
            return found
        counted = np.ones(view.shape, dtype=bool) if view.counted is None else view.counted
        inside = view.cut(counted)
        small = resize_mask(inside, view.target.size)
        # So little may count that no cell's centre hits it.
        found[view.target.slices] = (
            small if small.any() else resize_mask(inside, view.target.size, "any")
        )
        return found

    def restored(self, values: Pixels, view: View) -> Pixels:
        """``(H, W)`` of the canvas as ``(h, w)`` of the file.

        Where nothing was seen or counts, the lowest value of those that do.
        """
        shown = values[view.target.slices]
        large = np.asarray(
            Image.fromarray(np.ascontiguousarray(shown)).resize(
                view.source.size[::-1], Image.Resampling.BILINEAR
            )
        )
        if view.turn is None:
            inside = view.source.meet(Box.whole(view.shape))
            found = np.zeros(view.shape, dtype=np.float32)
            found[inside.slices] = large[inside.within(view.source).slices]
        else:
            found = view.turn.laid_back(large, view.shape)
        known = view.known
        if not known.all():
            found[~known] = found[known].min()
        return found

    def scaled(self, short: int) -> Framing:
        """The same on a canvas whose shorter side has ``short`` pixels."""
        scale = short / min(self.size)
        height, width = (max(1, round(side * scale)) for side in self.size)
        return replace(self, size=(height, width))

    def to_plain(self) -> dict[str, Any]:
        """As JSON; of ``looked_at`` its size and a hash of its pixels."""
        return {
            "size": list(self.size),
            "fit": self.fit,
            "region": None if self.region is None else list(self.region),
            "preprocess": self.preprocess,
            "object_size": None if self.object_size is None else list(self.object_size),
            "background": self.background,
            "looked_at": None if self.looked_at is None else _described(self.looked_at),
            "alignment": None if self.alignment is None else self.alignment.to_plain(),
            # Only where it is so, that studies from before it keep their records.
            **({"marked": True} if self.marked else {}),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], looked_at: Mask | None = None) -> Framing:
        """From what `to_plain` gave; what is younger than a model may be missing.

        Args:
            plain: As JSON.
            looked_at: The mask that goes with it.

        Raises:
            ValueError: Something is missing or is no such value.
        """
        try:
            fit, stage = plain["fit"], plain.get("preprocess", "none")
            region, around = plain["region"], plain.get("object_size")
            pose = plain.get("alignment")
            size = _size(plain["size"])
            background = float(plain.get("background", 0))
            if fit not in FITS or stage not in STAGES or not 0 <= background <= 1:
                raise ValueError(f"{fit}, {stage}, background {background}")
            if (stage in ("centre", "align")) != (around is not None):
                raise ValueError(f"{stage} with objects of {around}")
            if (stage == "align") != (pose is not None):
                raise ValueError(f"{stage} with the pose {pose}")
            given = None if looked_at is None else _described(looked_at)
            if given != plain.get("looked_at"):
                raise ValueError(f"a mask {given} instead of {plain['looked_at']}")
            return cls(
                size,
                fit,
                None if region is None else Box(*map(int, region)),
                stage,
                None if around is None else _size(around),
                background,
                looked_at,
                None if pose is None else Alignment.from_plain(pose),
                bool(plain.get("marked", False)),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"framing: {error}") from None

    def _target(self, source: Box) -> Box:
        return fitted(source.size, self.size, self.fit)

    def _aligned(self, view: View, part: Part) -> View:
        """The upright picture of an object."""
        assert self.alignment is not None and self.object_size is not None
        turn = self.alignment.turn(part)
        shown = None
        if view.source != Box.whole(view.shape):
            shown = np.zeros(view.shape, dtype=bool)
            shown[view.source.slices] = True
        source = Box.whole(self.object_size)
        return replace(view, source=source, shown=shown, object=box_in(part, turn), turn=turn)

    def _stage(
        self, found: Found | None, area: Box, shape: Size
    ) -> tuple[Box, Mask | None, Box | None]:
        """The part that is seen of an image, where it is shown, and the box of its object."""
        if found is None:
            return area, None, None
        box = found.box.moved(area.top, area.left)
        if self.preprocess == "crop":
            return with_margin(box, area), None, box
        shown = np.zeros(shape, dtype=bool)
        if self.preprocess == "mask" or self.object_size is None:
            shown[area.slices] = found.mask
            return area, shown, box
        shown[box.slices] = True
        return box.centred(self.object_size), shown, box


def fitted(part: Size, canvas: Size, fit: Fit) -> Box:
    """Where a part of an image lies on a canvas: in its middle, as large as its aspect allows."""
    scale = min(whole / own for whole, own in zip(canvas, part, strict=True))
    sides = [max(1, round(own * scale)) for own in part]
    slight = all(
        whole - own <= max(_FEW, _SLIGHT * whole) for whole, own in zip(canvas, sides, strict=True)
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


def _size(sides: Sequence[Any]) -> Size:
    height, width = map(int, sides)
    if min(height, width) < 1:
        raise ValueError(f"{height} x {width} pixels")
    return height, width


def _described(mask: Mask) -> dict[str, Any]:
    digest = hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()
    return {"size": list(mask.shape), "sha256": digest}


def _padded(image: Pixels, target: Box, canvas: Size, beyond: Pixels | None) -> Pixels:
    """Padding of one value, or of the edges repeated."""
    if target == Box.whole(canvas):
        return image
    height, width = canvas
    margins = ((0, 0), (target.top, height - target.bottom), (target.left, width - target.right))
    if beyond is None:
        return np.pad(image, margins, mode="edge")
    padded = np.empty((len(image), *canvas), dtype=image.dtype)
    padded[:] = beyond
    padded[:, *target.slices] = image
    return padded
