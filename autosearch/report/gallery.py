"""All images of a split with a trial's maps, as plain records that become JSON for a page.

Figures are of all images and exact; pictures are as large, and as many, as there is room for.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autosearch.data import NORMAL
from autosearch.metrics import Scores, decide
from autosearch.report.levels import Cuts, Levels, largest_in_cells, levels_of
from autosearch.study import Answer

ROOM = 10_000_000
"""Most characters that all pictures may take up."""

_SIZES = ((512, 256), (384, 256), (256, 256), (256, 192), (192, 160), (160, 128), (128, 96))
"""Longer sides of photographs and of maps, of which the first that fit are taken."""

_TRIED, _QUALITY = 6, 80


def gallery_data(answer: Answer, room: int = ROOM) -> dict[str, Any]:
    """What the page of a gallery draws.

    Args:
        answer: What a trial answers to a split.
        room: Most characters that pictures may take up.

    Returns:
        ``normal``, the type of defect-free images; ``image``: ``cuts``, thresholds of images, and
        ``start``, the place of the one that was chosen; ``pixel``: ``edges``, ``start`` (a level,
        from 1 on), ``low`` and ``high``, the median score and the highest, and ``counts``, as
        `Levels` has them; ``images``, the worst first: ``name``, ``type``, ``score``, ``made``,
        ``marked``, and where there was room ``photo``, ``map``, ``truth`` (data URIs; the last is
        None where nothing is marked and all is scored) and ``top``, the highest level of its map.
    """
    images, scores = answer.images, answer.scores
    levels = Levels.of(answer.maps, answer.truth, answer.thresholds.pixel.value)
    cuts = Cuts.of(scores, answer.thresholds.image.value)
    called = decide(scores, answer.thresholds.image)
    order = worst_first(scores, images.labels, called)
    made, marked = images.synthetic, images.marked
    records: list[dict[str, Any]] = [
        {
            "name": images.paths[i].encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
            "type": images.types[i],
            "score": float(scores[i]),
            "made": bool(made[i]),
            "marked": bool(marked[i]),
        }
        for i in order
    ]
    for record, pictures in zip(records, _pictures(answer, levels, order, room), strict=False):
        record |= pictures
    return {
        "normal": NORMAL,
        "image": {"cuts": cuts.values.tolist(), "start": cuts.start},
        "pixel": {
            "edges": levels.edges.tolist(),
            "start": levels.start,
            "low": float(np.median(answer.maps)),
            "high": float(answer.maps.max()),
            "counts": {
                kind: {name: number.tolist() for name, number in its.items()}
                for kind, its in levels.counts.items()
            },
        },
        "images": records,
    }


def worst_first(scores: Scores, labels: NDArray[np.bool_], called: NDArray[np.bool_]) -> list[int]:
    """Places of images: misses and false alarms in turn, then the others in turn.

    Misses begin with the lowest score, false alarms with the highest, and so do the others, which
    puts those first that came closest to being wrong.

    Args:
        scores: ``(N,)``.
        labels: ``(N,)``, true for an anomalous image.
        called: ``(N,)``, true for one that is called anomalous.
    """
    rising = np.argsort(scores, kind="stable")
    found: list[int] = []
    for wrong in (True, False):
        taken = (called != labels) == wrong
        anomalous = [int(i) for i in rising if taken[i] and labels[i]]
        normal = [int(i) for i in rising[::-1] if taken[i] and not labels[i]]
        turns = chain.from_iterable(zip_longest(anomalous, normal))
        found += [i for i in turns if i is not None]
    return found


@dataclass(frozen=True)
class _Painter:
    """Makes the pictures of one image."""

    answer: Answer
    levels: Levels
    photo_side: int
    map_side: int

    def __call__(self, i: int) -> dict[str, Any]:
        answer = self.answer
        levels = largest_in_cells(levels_of(answer.maps[i], self.levels.edges), self.map_side)
        truth = np.where(answer.truth.masks[i], 255, 0).astype(np.uint8)
        if answer.images.valid is not None:
            truth[~answer.images.valid[i] & (truth == 0)] = 128
        marks = largest_in_cells(truth, self.map_side) if truth.any() else None
        pixels = (answer.images.pixels[i].transpose(1, 2, 0) * 255).round().astype(np.uint8)
        photo = Image.fromarray(pixels)
        photo.thumbnail((self.photo_side, self.photo_side))
        return {
            "photo": _uri(photo, "JPEG", quality=_QUALITY),
            "map": _uri(Image.fromarray(levels), "PNG", compress_level=9),
            "truth": None if marks is None else _uri(Image.fromarray(marks), "PNG"),
            "top": int(levels.max()),
        }


def _pictures(
    answer: Answer, levels: Levels, order: list[int], room: int
) -> Iterator[dict[str, Any]]:
    """Pictures of images in some order, as long as there is room; a few tell how large."""
    tried = order[:: max(1, len(order) // _TRIED)]
    for sides in _SIZES:
        paint = _Painter(answer, levels, *sides)
        if sum(_size(paint(i)) for i in tried) / len(tried) * len(order) <= 0.95 * room:
            break
    for i in order:
        pictures = paint(i)
        room -= _size(pictures)
        if room < 0:
            return
        yield pictures


def _size(pictures: dict[str, Any]) -> int:
    return sum(len(text) for text in pictures.values() if isinstance(text, str))


def _uri(picture: Image.Image, kind: str, **options: Any) -> str:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    encoded = base64.b64encode(content.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{encoded}"
