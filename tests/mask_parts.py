"""Paintings of masks, and a slow oracle of what they mean, pixel by pixel.

The rules are those of docs/spec.md. The oracle knows what was painted; the code knows the file.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from autosearch.data.masks import MaskReading

Colour = tuple[int, ...]
Grid = list[list[int]]

READINGS = ("auto", "value", "index", "alpha", "inverted")
WORDS = {
    "alpha": "its alpha channel is taken for the mask",
    "index": "it is read by index",
    "palette": "by palette colour than by palette index",
    "classes": "read as classes",
    "ramp": "is a ramp of values",
    "odd": "as an inverted mask does",
}
"""What tells one kind of note from the others."""


@dataclass(frozen=True)
class Painting:
    """What somebody painted: numbers of colours, and what they stand for.

    Attributes:
        mode: How it is stored: a mode of Pillow, or ``P+`` for a palette with transparency.
        grid: A number for each pixel.
        colours: By number, one value for grey modes, three for others.
        alpha: Of each pixel; for ``P+``, of each number.
        turn: EXIF orientation; None states none.
        kind: Format of the file.
    """

    mode: str
    grid: Grid
    colours: list[Colour]
    alpha: Grid | None = None
    turn: int | None = None
    kind: str = "PNG"

    def file(self) -> bytes:
        picture = self._picture()
        options: dict[str, object] = {}
        if self.turn is not None:
            exif = Image.Exif()
            exif[0x0112] = self.turn
            options["exif"] = exif
        if self.mode == "P+":
            assert self.alpha is not None
            options["transparency"] = bytes(self.alpha[0])
        if self.kind == "WEBP":
            options |= {"lossless": True, "exact": True}
        out = io.BytesIO()
        picture.save(out, self.kind, **options)
        return out.getvalue()

    def _picture(self) -> Image.Image:
        types = {"I;16": np.uint16, "I": np.int32, "F": np.float32, "1": np.bool_}
        values = np.array([[self.colours[n] for n in row] for row in self.grid])
        if self.mode in ("P", "P+"):
            picture = Image.fromarray(np.array(self.grid, dtype=np.uint8), "P")
            picture.putpalette([part for colour in self.colours for part in colour])
            return picture
        if self.mode in ("LA", "RGBA"):
            values = np.concatenate([values, np.array(self.alpha)[..., None]], axis=2)
        if values.shape[2] == 1:
            values = values[..., 0]
        return Image.fromarray(values.astype(types.get(self.mode, np.uint8)))

    def planes(self) -> tuple[list[list[Colour]], Grid | None, Grid | None]:
        """Colours, palette indices and alpha of each pixel, as they are stored."""
        colours = [[self.colours[n] for n in row] for row in self.grid]
        index = self.grid if self.mode in ("P", "P+") else None
        alpha = self.alpha
        if self.mode == "P+":
            assert alpha is not None
            alpha = [[alpha[0][n] for n in row] for row in self.grid]
        return colours, index, alpha


def flat(rows):
    return [pixel for row in rows for pixel in row]


def grey(colour: Colour) -> bool:
    return len(set(colour)) == 1


def expected(painting: Painting, reading: str) -> tuple[list[list[bool]], set[str]] | None:
    """Mask and kinds of notes, or None where the file must be refused; orientation left out."""
    colours, index, alpha = painting.planes()
    by_colour = [[any(part != 0 for part in colour) for colour in row] for row in colours]
    by_index = index and [[number != 0 for number in row] for row in index]
    by_alpha = alpha and [[value != 0 for value in row] for row in alpha]
    notes: set[str] = set()
    if reading == "value" or (reading == "index" and index is None):
        mask = by_colour
    elif reading == "index":
        mask = by_index
    elif reading == "alpha":
        if alpha is None:
            return None
        mask = by_alpha
    else:
        found = assumed(colours, index, alpha, by_colour, by_index, by_alpha, reading, notes)
        if found is None:
            return None
        mask = found
        if reading == "inverted":
            notes.clear()
            mask = [[not pixel for pixel in row] for row in mask]
    corners = [mask[0][0], mask[0][-1], mask[-1][0], mask[-1][-1]]
    if 2 * sum(flat(mask)) > len(flat(mask)) or all(corners):
        notes.add("odd")
    return mask, notes


def assumed(colours, index, alpha, by_colour, by_index, by_alpha, reading, notes):
    """The rules of ``auto`` in their order."""
    different = set(flat(colours))
    plane, source, marked = "colour", colours, by_colour
    if index is not None and len(set(flat(index))) > 1:
        without_black = (0, 0, 0) not in different
        grey_image = len(different) > 1 and all(map(grey, different))
        if different == {(0, 0, 0)} or (without_black and not grey_image):
            plane, marked = "index", by_index
            notes.add("index")
        elif not without_black and by_colour != by_index:
            notes.add("palette")
    if alpha is not None and len(set(flat(alpha))) > 1:
        if len(different) == 1:
            plane, marked = "alpha", by_alpha
            source = [[(value,) for value in row] for row in alpha]
            notes.clear()
            notes.add("alpha")
        elif marked == by_alpha:
            notes.clear()
        elif reading == "auto":
            return None
    beside = {colour for colour in flat(source) if any(colour)}
    if plane == "index" or len(beside) < 2:
        return marked
    some_zero = len(beside) < len(set(flat(source)))
    if some_zero and len(beside) <= 32:
        notes.add("classes")
        return marked
    if len(beside) <= 32 and not all(map(grey, beside)):
        return None
    notes.add("ramp")
    half = max(max(colour) for colour in beside) / 2
    return [[max(colour) > half for colour in row] for row in source]


def upright(rows, turn: int | None):
    """Turn rows as the definition of EXIF's orientation says where their first pixel belongs."""
    height, width = len(rows), len(rows[0])
    places = {
        1: lambda y, x: (y, x),
        2: lambda y, x: (y, width - 1 - x),
        3: lambda y, x: (height - 1 - y, width - 1 - x),
        4: lambda y, x: (height - 1 - y, x),
        5: lambda y, x: (x, y),
        6: lambda y, x: (x, height - 1 - y),
        7: lambda y, x: (width - 1 - x, height - 1 - y),
        8: lambda y, x: (width - 1 - x, y),
    }
    turned = {places[turn or 1](y, x): rows[y][x] for y in range(height) for x in range(width)}
    tall, wide = (width, height) if (turn or 1) > 4 else (height, width)
    return [[turned[y, x] for x in range(wide)] for y in range(tall)]


def kinds(reading: MaskReading) -> set[str]:
    found = {name for name, words in WORDS.items() for n in reading.notes if words in n.kind}
    assert len(found) == len(reading.notes) and all(n.remedy for n in reading.notes)
    return found
