"""What somebody drew on an image with a tool for labelling, and the mask that it makes.

Coordinates are those of the tools: pixel ``(row, column)`` is the square from ``(column, row)`` to
``(column + 1, row + 1)``, and is inside where its centre is.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autosearch.data.notes import Note
from autosearch.errors import DataError

Canvas = NDArray[np.bool_]


@dataclass(frozen=True)
class Polygon:
    """A closed outline; a box is one of four corners.

    Attributes:
        label: Its class.
        corners: ``(x, y)`` in pixels, three at least.
    """

    label: str
    corners: tuple[tuple[float, float], ...]

    def plain(self) -> list[object]:
        """What it is, as JSON has it, for hashes."""
        return ["polygon", self.label, self.corners]

    @property
    def area(self) -> float:
        """Enclosed, in pixels, whatever lies outside the image included."""
        x, y = np.array(self.corners).T
        return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)

    def draw(self, canvas: Canvas) -> bool:
        """Mark what it encloses in an ``(H, W)`` mask; false where none of it is in the image."""
        from skimage.draw import line, polygon

        x, y = np.array(self.corners).T
        height, width = canvas.shape
        if x.max() <= 0 or y.max() <= 0 or x.min() >= width or y.min() >= height:
            return False
        rows, columns = polygon(y - 0.5, x - 0.5, canvas.shape)
        if not rows.size:
            # So thin that no centre is inside: what its outline passes through stands for it.
            rows = np.clip(np.floor(y), 0, height - 1).astype(int)
            columns = np.clip(np.floor(x), 0, width - 1).astype(int)
            for n in range(len(rows)):
                canvas[line(rows[n - 1], columns[n - 1], rows[n], columns[n])] = True
            return True
        canvas[rows, columns] = True
        return True

    def leaves(self, width: int, height: int) -> bool:
        """Whether it reaches beyond an image by more than a pixel."""
        x, y = np.array(self.corners).T
        return bool(min(x.min(), y.min()) < -1 or x.max() > width + 1 or y.max() > height + 1)


@dataclass(frozen=True)
class Pixels:
    """Pixels of a box as lengths of runs, the first of which are outside.

    Attributes:
        label: Their class.
        left: First column of the box.
        top: First row.
        width: Columns.
        height: Rows.
        runs: Pixels outside, inside, outside, …
        columns: Whether they run down columns, as in COCO, and not along rows.
    """

    label: str
    left: int
    top: int
    width: int
    height: int
    runs: tuple[int, ...]
    columns: bool = False

    def plain(self) -> list[object]:
        """What they are, as JSON has it, for hashes."""
        box = [self.left, self.top, self.width, self.height]
        return ["pixels", self.label, box, self.runs, self.columns]

    @property
    def area(self) -> float:
        """Pixels inside."""
        return float(sum(self.runs[1::2]))

    def draw(self, canvas: Canvas) -> bool:
        """Mark them in an ``(H, W)`` mask; false where none of the box is in the image."""
        values = np.arange(len(self.runs)) % 2 == 1
        flat = np.repeat(values, self.runs)
        shape = (self.width, self.height) if self.columns else (self.height, self.width)
        box = flat.reshape(shape).T if self.columns else flat.reshape(shape)
        top, left = max(0, self.top), max(0, self.left)
        place = canvas[top : max(0, self.top + self.height), left : max(0, self.left + self.width)]
        if not place.size:
            return False
        box = box[top - self.top :, left - self.left :]
        place |= box[: place.shape[0], : place.shape[1]]
        return True

    def leaves(self, width: int, height: int) -> bool:
        """Whether the box reaches beyond an image."""
        beyond = self.left + self.width > width or self.top + self.height > height
        return beyond or self.left < 0 or self.top < 0


Outline = Polygon | Pixels


@dataclass(frozen=True)
class Outlines:
    """All that was drawn on one image.

    Attributes:
        file: Where it is written.
        shapes: What was drawn.
        size: Width and height of the image as the file states them; None where it does not.
    """

    file: Path
    shapes: tuple[Outline, ...]
    size: tuple[int, int] | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the shapes, of which the mask is made; not of what else the file says."""
        plain = json.dumps([shape.plain() for shape in self.shapes])
        return hashlib.sha256(plain.encode()).hexdigest()

    def mask(self, image: Path, width: int, height: int) -> tuple[Canvas, tuple[Note, ...]]:
        """Draw them on an image of a size.

        Returns:
            ``(height, width)`` bool, and what was assumed.

        Raises:
            DataError: They are of an image of another size, or one lies outside of it.
        """
        if self.size is not None and self.size != (width, height):
            stated = "x".join(map(str, self.size))
            problem = f"outlines of {image.name} are of {stated} pixels, it has {width}x{height}"
            remedy = "export them anew from the image as it is"
            if self.size == (height, width):
                remedy += ", or set dataset.orientation to stored if its EXIF orientation turns it"
            raise DataError(self.file, problem, remedy)
        canvas = np.zeros((height, width), dtype=bool)
        notes: tuple[Note, ...] = ()
        for number, shape in enumerate(self.shapes, start=1):
            if not shape.draw(canvas):
                problem = f"outline {number} ({shape.label}) of {image.name} lies outside of it"
                raise DataError(self.file, problem, f"draw it within {width}x{height} pixels")
            if shape.leaves(width, height) and not notes:
                kind = "has an outline that reaches beyond it, and is cut off at its border"
                detail = f"outline {number}, {shape.label}"
                notes = (Note(image, kind, "nothing, if it was meant so", detail),)
        return canvas, notes
