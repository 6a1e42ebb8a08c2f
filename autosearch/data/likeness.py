"""How alike a set's images are in the same places, which is what windows of a bank live on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from skimage.transform import resize_local_mean

from autosearch.data.foreground import foreground_masks
from autosearch.data.framing import Framing, Pixels, Preprocess
from autosearch.data.index import Sample
from autosearch.data.records import ImageSet
from autosearch.data.views import View

_MOST = 50
"""Images that are looked at."""
_SIDE, _CELL = 128, 8
"""Sides of a square as large as the canvas that they are looked at on, and of a place."""
_OTHERS = 10
"""Images that each is compared with."""
_FARTHEST = 3
"""Places by which a place is looked for aside."""
_ALIGNED, _ROUGHLY = 0.6, 0.85
"""Differences of the same place, as shares of any other's, up to which a set is aligned."""
_GAIN = 0.08
"""Share by which looking further aside must lower that to be worth a wider window."""
_WINDOWS = ((0, 2), (1, 3), (2, 4), (3, 6))
"""Radii worth trying, in patches of an eighth of 224 px, by places that one has to look aside."""

Mask = NDArray[np.bool_]


class Seen(NamedTuple):
    """A small copy of what a detector sees of an image.

    Attributes:
        pixels: ``(3, h, w)`` float32.
        valid: ``(h, w)`` bool, true where pixels count.
    """

    pixels: Pixels
    valid: Mask

    @classmethod
    def of(cls, image: Pixels, view: View, framing: Framing) -> Seen:
        """Of an image ``(3, h, w)`` and what is seen of it."""
        height, width = framing.size
        short = _SIDE * (min(height, width) / max(height, width)) ** 0.5
        small = framing.scaled(max(_CELL, round(short)))
        placed = small.placed(view)
        valid = small.valid(placed)
        whole = np.ones(small.size, dtype=bool)
        return cls(small.pixels(image, placed), whole if valid is None else valid)


@dataclass(frozen=True)
class Likeness:
    """How well a set is aligned, as detectors see it.

    Attributes:
        overlap: Mean intersection over union of the objects of two images; None where no object
            stands out.
        shares: How much a place differs from the most similar one of another image that is 0, 1, 2
            and 3 places aside at most, as a share of how much any two differ: 0 is the same, 1 no
            more alike than others. A square image has 16 by 16 places.
        anywhere: The same for the most similar place of another image, wherever it is.
        stage: As of ``dataset.preprocess``.
    """

    overlap: float | None
    shares: tuple[float, ...]
    anywhere: float
    stage: Preprocess = "none"

    @property
    def windows(self) -> tuple[int, int] | None:
        """Least and greatest radius of windows worth trying, in patches; None where none is."""
        if self.shares[0] > _ROUGHLY:
            return None
        if self.shares[0] > _ALIGNED:
            return _WINDOWS[-1]
        enough = self.shares[-1] + _GAIN
        return _WINDOWS[next(i for i, share in enumerate(self.shares) if share <= enough)]

    @property
    def text(self) -> str:
        """For people."""
        same, aside = self.shares[0], self.shares[-1]
        text = f"the same place differs {same:.2f} as much as another"
        if same <= _ROUGHLY:
            text += f", {aside:.2f} where it may lie {_FARTHEST}/16 of the image aside"
        if self.overlap is not None:
            text += f"; objects overlap by {self.overlap:.0%}"
        movable = self.stage != "align" and (self.overlap is not None or self.stage != "none")
        advice = "; try dataset.preprocess=align if the part stands out" if movable else ""
        if self.windows is None:
            return f"not aligned: {text}; windows will hardly help{advice}"
        tried = "windows of {} to {} patches".format(*self.windows)
        if same > _ALIGNED:
            return f"roughly aligned: {text}; if any, wide {tried} will help{advice}"
        return f"aligned: {text}; {tried} are worth trying"


def compared_of(samples: Iterable[Sample]) -> set[Path]:
    """Normal images, evenly apart, that are held against each other."""
    normal = [sample.path for sample in samples if sample.normal]
    places = np.linspace(0, len(normal) - 1, min(_MOST, len(normal))).round().astype(int)
    return {normal[i] for i in places}


def likeness(images: Sequence[Seen], stage: Preprocess = "none") -> Likeness | None:
    """Compare small copies of normal images.

    Args:
        images: All of one size.
        stage: As of ``dataset.preprocess``.

    Returns:
        None for less than two images, or where nothing counts or differs.
    """
    if len(images) < 2:
        return None
    pixels = np.stack([image.pixels for image in images])
    objects = foreground_masks(pixels)
    counted = objects & np.stack([image.valid for image in images])
    shares = _shares(pixels.mean(axis=1), counted)
    if shares is None:
        return None
    return Likeness(None if objects.all() else _overlap(counted), *shares, stage)


def likeness_of(images: ImageSet, stage: Preprocess = "none") -> Likeness | None:
    """Compare images as detectors are given them; see `likeness`, and `compared_of` for how many.

    Args:
        images: Normal ones.
        stage: As of ``dataset.preprocess``.
    """
    count, (height, width) = len(images.pixels), images.pixels.shape[2:]
    scale = _SIDE / (height * width) ** 0.5
    size = max(_CELL, round(height * scale)), max(_CELL, round(width * scale))
    found = []
    for i in np.linspace(0, count - 1, min(_MOST, count)).round().astype(int):
        pixels = resize_local_mean(images.pixels[i], size, channel_axis=0)
        valid = np.ones(size, dtype=bool)
        if images.valid is not None:
            valid = resize_local_mean(images.valid[i].astype(np.float32), size) >= 0.5
        found.append(Seen(pixels.astype(np.float32), valid))
    return likeness(found, stage)


def _overlap(masks: Mask) -> float:
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    both, areas = flat @ flat.T, flat.sum(axis=1)
    either = areas[:, None] + areas - both
    pairs = np.triu_indices(len(masks), 1)
    return float((both[pairs] / np.maximum(either[pairs], 1)).mean())


def _shares(grey: NDArray[np.float32], counted: Mask) -> tuple[tuple[float, ...], float] | None:
    """Differences within 0, 1, 2, 3 places and anywhere, as shares of those of any two places."""
    places, there = _described(grey), _pooled(counted) >= 0.5
    count, rows, columns, _ = places.shape
    flat, there = places.reshape(count, rows * columns, -1), there.reshape(count, -1)
    down, across = np.indices((rows, columns)).reshape(2, -1)
    apart = np.maximum(*(np.abs(axis[:, None] - axis) for axis in (down, across)))
    sums = np.zeros(_FARTHEST + 3)
    for step in range(1, min(_OTHERS, count - 1) + 1):
        for one, other in ((one, (one + step) % count) for one in range(count)):
            mine, theirs = there[one], there[other]
            if not (mine.any() and theirs.any()):
                continue
            distance = cdist(flat[one][mine], flat[other])
            near = [
                np.where(apart[mine] <= aside, distance, np.inf).min(axis=1).mean()
                for aside in range(_FARTHEST + 1)
            ]
            elsewhere = distance[:, theirs]
            sums += [*near, elsewhere.min(axis=1).mean(), elsewhere.mean()]
    if sums[-1] == 0:
        return None
    *shares, anywhere = (float(value) for value in sums[:-1] / sums[-1])
    return tuple(shares), anywhere


def _described(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(N, rows, columns, 3)``: mean and strength of gradients of each place, scaled."""
    down, across = np.gradient(grey, axis=(1, 2))
    parts = np.stack([_pooled(grey), _pooled(np.abs(down)), _pooled(np.abs(across))], axis=-1)
    spread = parts.std(axis=(0, 1, 2))
    return np.asarray(parts / np.maximum(spread, 1e-6), dtype=np.float32)


def _pooled(values: NDArray[np.generic]) -> NDArray[np.float32]:
    """``(N, h, w)`` as means over cells."""
    count, height, width = values.shape
    rows, columns = height // _CELL, width // _CELL
    cut = values[:, : rows * _CELL, : columns * _CELL].astype(np.float32)
    means: NDArray[np.float32] = cut.reshape(count, rows, _CELL, columns, _CELL).mean(axis=(2, 4))
    return means
