"""Photographs beside what a detector will see of them, so that a person can judge that."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from autosearch.data.boxes import Size
from autosearch.data.framing import Framing, View, size_text
from autosearch.data.framings import framings_of
from autosearch.data.index import Index, Sample
from autosearch.data.layouts.choose import open_index
from autosearch.data.originals import Original, read_sample
from autosearch.data.splits import split_index
from autosearch.spec import DatasetSpec

_NORMAL, _TYPES = 3, 5
"""Normal images, and anomalous ones of different types, that are shown."""
_ROOM = (260, 380)
"""Height and width that a picture may take."""
_GAP, _LINE, _COLUMNS = 12, 20, 2
_WHITE, _INK, _GREY = (255, 255, 255), (20, 20, 20), (110, 110, 110)
_MASK, _SEEN = (0, 230, 90), (255, 190, 0)
_HATCH = 9
"""Pixels from one line to the next where nothing counts."""

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def look(dataset: DatasetSpec) -> bytes:
    """Draw some images as they are, and as a detector will see them.

    On the left the file: what is seen of it within a yellow line, the rest dimmed. On the right
    the input: hatched where nothing counts. Anomalies are outlined in green.

    Args:
        dataset: Which images, and how they come in. Test images are shown too.

    Returns:
        A JPEG file.

    Raises:
        ConfigError: The dataset cannot be split, or brought onto its input, as asked for.
        DataError: The first file in the way.
    """
    index = open_index(dataset)
    train = split_index(index, dataset).train
    framings = framings_of(dataset, train)
    cells = [
        _cell(index, sample, read_sample(sample, dataset), framings.input)
        for sample in _chosen(train, index.samples)
    ]
    input_size = size_text(framings.input.size)
    title = f"{index.category}: files, and what is seen of them on the input of {input_size}"
    hints = "yellow: what is seen; green: anomalous; hatched: counts nowhere"
    return _sheet(cells, [title, *framings.told, hints])


def _chosen(train: Iterable[Sample], samples: Iterable[Sample]) -> list[Sample]:
    """Some normal training images, evenly apart, and the first image of some anomaly types."""
    normal = [sample for sample in train if sample.normal]
    places = np.linspace(0, len(normal) - 1, min(_NORMAL, len(normal))).round().astype(int)
    first: dict[str, Sample] = {}
    for sample in samples:
        if not sample.normal:
            first.setdefault(sample.type, sample)
    return [normal[i] for i in places] + list(first.values())[:_TYPES]


def _cell(index: Index, sample: Sample, original: Original, framing: Framing) -> Picture:
    """A photograph, what is seen of it, and which one it is."""
    view = framing.view(original.image, sample.path, original.foreground)
    pair = [_photo(original, view), _seen(original, view, framing)]
    height = max(picture.shape[0] for picture in pair)
    width = sum(picture.shape[1] for picture in pair) + _GAP
    cell = np.full((height + _LINE, max(width, _ROOM[1]), 3), 255, dtype=np.uint8)
    left = 0
    for picture in pair:
        cell[_LINE : _LINE + picture.shape[0], left : left + picture.shape[1]] = picture
        left += picture.shape[1] + _GAP
    text = f"{sample.type}: {index.relative(sample.path)}"
    if view.object is None and framing.preprocess != "none":
        text = f"no object found; {text}"
    return _written(cell, [(text, _INK)])


def _photo(original: Original, view: View) -> Picture:
    picture, size = _shown(original.image)
    small = _resized(~view.known, size)
    picture[small] = (picture[small] * 0.45 + 255 * 0.15).astype(np.uint8)
    if small.any():
        _outline(picture, ~small, _SEEN)
    _outline(picture, _resized(original.mask, size), _MASK)
    return picture


def _seen(original: Original, view: View, framing: Framing) -> Picture:
    picture, size = _shown(framing.pixels(original.image, view))
    valid = framing.valid(view)
    if valid is not None:
        nowhere = ~_resized(valid, size)
        rows, columns = np.indices(size)
        lines = nowhere & ((rows + columns) % _HATCH == 0)
        picture[nowhere] = (picture[nowhere] * 0.55).astype(np.uint8)
        picture[lines] = _GREY
    _outline(picture, _resized(framing.mask(original.mask, view, "any"), size), _MASK)
    return picture


def _shown(image: NDArray[np.float32]) -> tuple[Picture, Size]:
    """``(3, h, w)`` as a picture that fits into its room, and its size."""
    height, width = image.shape[1:]
    scale = min(_ROOM[0] / height, _ROOM[1] / width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    values = (image * 255).round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
    large = Image.fromarray(np.ascontiguousarray(values)).resize(size[::-1], _filter(scale))
    return np.array(large), size


def _filter(scale: float) -> Image.Resampling:
    # Pixels of a small input stay visible as such.
    return Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.BILINEAR


def _resized(mask: Mask, size: Size) -> Mask:
    return np.array(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))


def _outline(picture: Picture, mask: Mask, colour: tuple[int, int, int]) -> None:
    """Draw the border of a mask, two pixels wide."""
    inner = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=2, border_value=0)
    picture[mask & ~inner] = colour


def _sheet(cells: list[Picture], lines: list[str]) -> bytes:
    """Cells in columns below a few lines of text."""
    rows = [cells[i : i + _COLUMNS] for i in range(0, len(cells), _COLUMNS)]
    columns = [max(cell.shape[1] for cell in cells[i::_COLUMNS]) for i in range(_COLUMNS)
               if cells[i::_COLUMNS]]  # fmt: skip
    width = sum(columns) + (len(columns) + 1) * _GAP
    parts = list(_broken(lines, width))
    heights = [max(cell.shape[0] for cell in row) for row in rows]
    top = len(parts) * _LINE + 2 * _GAP
    sheet = np.full((top + sum(heights) + len(rows) * _GAP, width, 3), 255, dtype=np.uint8)
    head = _written(sheet[_GAP // 2 : top], [(part, _INK) for part in parts], _GAP)
    sheet[_GAP // 2 : top] = head
    for row, height in zip(rows, heights, strict=True):
        left = _GAP
        for cell, room in zip(row, columns, strict=False):
            sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
            left += room + _GAP
        top += height + _GAP
    out = io.BytesIO()
    Image.fromarray(sheet).save(out, "JPEG", quality=90)
    return out.getvalue()


def _broken(lines: Iterable[str], width: int) -> Iterator[str]:
    """Lines that are too long for a sheet in parts."""
    font = _font()
    for line in lines:
        part = ""
        for word in line.split():
            longer = f"{part} {word}".strip()
            if part and font.getlength(longer) > width - 2 * _GAP:
                yield part
                longer = word
            part = longer
        yield part


def _written(
    picture: Picture, lines: list[tuple[str, tuple[int, int, int]]], left: int = 0
) -> Picture:
    """A picture with text at its top."""
    drawn = Image.fromarray(np.ascontiguousarray(picture))
    draw, font = ImageDraw.Draw(drawn), _font()
    for number, (text, colour) in enumerate(lines):
        room = picture.shape[1] - left
        while text and font.getlength(text) > room:
            text = text[:-2].rstrip("…") + "…" if len(text) > 2 else ""
        draw.text((left, number * _LINE + 2), text, fill=colour, font=font)
    return np.asarray(drawn)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(13)
