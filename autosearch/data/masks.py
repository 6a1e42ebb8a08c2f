"""From a mask file to anomalous pixels: what it means, and what was assumed where it may mean two.

Without other orders, two questions are asked. Which plane holds the mask: colours, unless alpha
over a single colour, or a palette without black, speaks for another. Then which of its values are
anomalous: all but 0 where there are few, those above half of the highest in a ramp.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from autosearch.data.decoding import Decoded, Orientation, decode
from autosearch.data.notes import Note
from autosearch.errors import DataError

Reading = Literal["auto", "value", "index", "alpha", "inverted"]

KEY = "dataset.mask_reading"

_MOST_CLASSES, _MOST_SHOWN = 32, 8
_BINARY = "save it as PNG with 0 and 255"
_STRAIGHT = {"La": "LA", "RGBa": "RGBA"}
"""Modes whose colours were multiplied by alpha, and those that say the same without."""

Mask = NDArray[np.bool_]
Values = NDArray[Any]


@dataclass(frozen=True)
class MaskReading:
    """A mask, and how sure it is.

    Attributes:
        mask: ``(H, W)`` bool, true where anomalous.
        levels: Distinct values, or colours, of the plane that was read.
        certain: Whether the file can be read in this way only, and was not asked to be.
        notes: What was assumed, and whether the outcome looks like a mistake.
        turn: EXIF orientation of the file, 1 where it states none.
    """

    mask: Mask
    levels: int
    certain: bool
    notes: tuple[Note, ...]
    turn: int = 1


@dataclass(frozen=True)
class _Plane:
    """Values of a file that may hold its mask.

    Attributes:
        kinds: ``(H, W)``, a number for each colour, 0 for black; or palette indices, or alpha.
        values: ``(H, W)``, the highest of the channels, in which a ramp rises.
        distinct: The numbers in ``kinds``, rising.
        grey: Whether all its colours are grey.
    """

    kinds: Values
    values: Values
    distinct: Values
    grey: bool = True

    @property
    def marked(self) -> Mask:
        """All but 0."""
        return np.asarray(self.kinds > 0)

    @property
    def constant(self) -> bool:
        """Whether all pixels are equal."""
        return len(self.distinct) == 1


@dataclass(frozen=True)
class _Planes:
    """A file taken apart."""

    path: Path
    lossless: bool
    colours: _Plane
    index: _Plane | None = None
    alpha: _Plane | None = None

    def note(self, kind: str, remedy: str, detail: str = "") -> tuple[Note, ...]:
        """One note about the file."""
        return (Note(self.path, kind, remedy, detail),)


def read_mask(
    path: Path,
    content: bytes | None = None,
    reading: Reading = "auto",
    orientation: Orientation = "upright",
) -> MaskReading:
    """Read a ground-truth mask.

    Under ``auto``, alpha is the mask where all colours are equal. A palette is read by colour; by
    index where its colours hold no black, or nothing else, unless all are grey. One value beside
    0 is certain. Up to 32 in a lossless file are classes, all of them anomalous; otherwise, or
    where there is no 0, they are a ramp, anomalous above half of the highest.

    Args:
        path: The file.
        content: Its bytes, where they have been read already.
        reading: ``auto``; or ``value``: anomalous wherever a colour value is not 0; ``index``:
            wherever the palette index is not 0 (a file without palette is read by value);
            ``alpha``: wherever alpha is not 0; ``inverted``: wherever ``auto`` says normal.
        orientation: See `autosearch.data.decoding.decode`.

    Raises:
        DataError: The file cannot be read, holds values that are negative or not finite, has not
            what ``reading`` asks for, or contradicts itself.
    """
    return mask_of(decode(path, content, orientation), reading)


def mask_of(decoded: Decoded, reading: Reading = "auto") -> MaskReading:
    """The mask in a decoded file; see `read_mask`."""
    planes = _planes(decoded)
    notes: tuple[Note, ...] = ()
    if reading in ("auto", "inverted"):
        plane, notes = _chosen(planes, reading)
        marked, more = _by_values(planes, plane)
        mask, notes = (~marked, ()) if reading == "inverted" else (marked, notes + more)
    else:
        plane = _asked(planes, reading)
        mask = plane.marked
    certain = reading == "auto" and not notes
    notes += _odd_outcome(planes, mask, reading)
    return MaskReading(mask, len(plane.distinct), certain, notes, decoded.turn)


def _asked(planes: _Planes, reading: Reading) -> _Plane:
    """The plane that a person names."""
    if reading == "alpha":
        if planes.alpha is None:
            problem = f"has no alpha channel, which {KEY}: alpha asks for"
            raise DataError(planes.path, problem, f"save it with one, or set {KEY} to auto")
        return planes.alpha
    return planes.index if reading == "index" and planes.index else planes.colours


def _chosen(planes: _Planes, reading: Reading) -> tuple[_Plane, tuple[Note, ...]]:
    """The plane that is most likely meant, and what was assumed."""
    plane, notes = _by_palette(planes)
    alpha = planes.alpha
    if alpha is None or alpha.constant:
        return plane, notes
    if planes.colours.constant:
        kind = "is of a single colour, so its alpha channel is taken for the mask"
        remedy = f"set {KEY} to value to read colours"
        return alpha, planes.note(kind, remedy, f"{_count(alpha.marked)} pixels")
    if np.array_equal(plane.marked, alpha.marked):
        return plane, ()
    if reading == "inverted":
        return plane, notes
    raise DataError(
        planes.path,
        f"colours mark {_count(plane.marked)} pixels, the alpha channel {_count(alpha.marked)}",
        f"save it without alpha, or set {KEY} to value (colours) or alpha",
    )


def _by_palette(planes: _Planes) -> tuple[_Plane, tuple[Note, ...]]:
    """Colours, or palette indices where colours say nothing."""
    colours, index = planes.colours, planes.index
    if index is None or index.constant:
        return colours, ()
    by_colour, by_index = colours.marked, index.marked
    counts = f"{_count(by_index)} pixels by index, {_count(by_colour)} by colour"
    remedy = f"set {KEY} to value to read colours"
    if not by_colour.any():
        kind = "has a palette of black alone, so it is read by index: all but 0 is anomalous"
        return index, planes.note(kind, remedy, counts)
    # A palette of greys is a grey image, however its entries are sorted.
    if by_colour.all() and not (colours.grey and not colours.constant):
        kind = "has no black in its palette, so it is read by index: all but 0 is anomalous"
        return index, planes.note(kind, remedy, counts)
    if by_colour.all() or np.array_equal(by_colour, by_index):
        return colours, ()
    kind = "marks other pixels by palette colour than by palette index; colours are read"
    return colours, planes.note(kind, f"set {KEY} to index for the other reading", counts)


def _by_values(planes: _Planes, plane: _Plane) -> tuple[Mask, tuple[Note, ...]]:
    """Which values of a plane are anomalous, and what was assumed."""
    beside = plane.distinct[plane.distinct > 0]
    if len(beside) <= 1 or plane is planes.index:
        return plane.marked, ()
    few = planes.lossless and len(beside) <= _MOST_CLASSES
    if few and len(beside) < len(plane.distinct):
        kind = "holds several values beside 0, read as classes that are all anomalous"
        shown = _listed(beside, plane.grey)
        return plane.marked, planes.note(kind, f"{_BINARY} if some of them are normal", shown)
    if few and not plane.grey:
        raise DataError(
            planes.path,
            f"has the colours {_listed(beside, False)} and no black, which stands for normal",
            f"save it with black for normal, or set {KEY}",
        )
    highest = plane.values.max()
    kind = "is a ramp of values, read as anomalous above half of the highest"
    remedy = f"{_BINARY}, or set {KEY} to value to take all but 0"
    detail = f"{len(beside)} values beside 0, up to {highest:g}"
    return np.asarray(plane.values > highest / 2), planes.note(kind, remedy, detail)


def _odd_outcome(planes: _Planes, mask: Mask, reading: Reading) -> tuple[Note, ...]:
    """What a mask looks like if normal and anomalous were confused."""
    share = mask.mean()
    corners = bool(mask[[0, 0, -1, -1], [0, -1, 0, -1]].all())
    if share <= 0.5 and not corners:
        return ()
    other = "auto" if reading == "inverted" else "inverted"
    kind = "marks more than half of its image or all four corners, as an inverted mask does"
    remedy = f"set {KEY} to {other} if these are the normal pixels"
    detail = f"{_count(mask)} pixels, {share:.0%}"
    return planes.note(kind, remedy, f"{detail}, all corners" if corners else detail)


def _planes(decoded: Decoded) -> _Planes:
    """Take a file apart, its values checked."""
    picture, path = decoded.picture, decoded.path
    index = alpha = None
    if picture.mode in ("P", "PA"):
        raw = np.asarray(picture)
        index = _grey_plane(raw if raw.ndim == 2 else raw[..., 0])
    deep = picture.mode == "F" or picture.mode.startswith("I")
    try:
        picture = picture.convert(_STRAIGHT.get(picture.mode, picture.mode))
        if not deep and picture.has_transparency_data:
            picture = picture.convert("RGBA")
            alpha = _grey_plane(np.asarray(picture)[..., 3])
        if not deep and picture.mode not in ("1", "L"):
            picture = picture.convert("RGB")
    except ValueError as error:
        raise DataError(path, f"cannot be read as RGB ({error})", _BINARY) from error
    values = np.asarray(picture)
    if not (np.isfinite(values).all() and values.min() >= 0):
        raise DataError(
            path, "the mask has pixels below zero or not finite", "save it with 0 and 255"
        )
    colours = _grey_plane(values) if values.ndim == 2 else _colour_plane(values)
    return _Planes(path, decoded.lossless, colours, index, alpha)


def _grey_plane(values: Values) -> _Plane:
    small = values.dtype in (np.bool_, np.uint8, np.uint16)
    values = values.astype(np.uint8) if values.dtype == np.bool_ else values
    # Counting is much faster than the sorting of np.unique.
    distinct = np.flatnonzero(np.bincount(values.ravel())) if small else np.unique(values)
    return _Plane(values, values, distinct)


def _colour_plane(values: Values) -> _Plane:
    """Of ``(H, W, 3)`` uint8."""
    red, green, blue = np.moveaxis(values, 2, 0)
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return _grey_plane(red)
    kinds = red.astype(np.uint32) << 16 | green.astype(np.uint32) << 8 | blue
    return _Plane(kinds, values.max(axis=2), np.unique(kinds), grey=False)


def _count(mask: Mask) -> str:
    return f"{np.count_nonzero(mask):,}"


def _listed(distinct: Values, grey: bool) -> str:
    shown = [f"{value:g}" if grey else f"#{value:06x}" for value in distinct[:_MOST_SHOWN]]
    return ", ".join(shown + (["…"] if len(distinct) > _MOST_SHOWN else []))
