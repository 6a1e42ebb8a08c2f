"""A large image as overlapping tiles, and maps of tiles as one map. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import PurePath
from typing import Any, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from autosearch.data.boxes import Box, Size
from autosearch.data.framing import size_text
from autosearch.data.images import resize_mask
from autosearch.data.records import NORMAL, ImageSet, made_once
from autosearch.spec import Seams, TilingSpec

_Values = TypeVar("_Values", bound=np.generic)


@dataclass(frozen=True)
class TileGrid:
    """Where tiles of one size lie on a canvas, row by row.

    Attributes:
        canvas: Height and width of the whole.
        tile: Height and width of a tile.
        tops: First row of the tiles of each row of the grid, rising from 0; the last tiles end at
            the border.
        lefts: First column of the tiles of each column of the grid, likewise.
        seams: How maps become one where tiles overlap; see `blended`.
    """

    canvas: Size
    tile: Size
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    seams: Seams = "blend"

    @classmethod
    def over(cls, canvas: Size, side: int, overlap: float, seams: Seams = "blend") -> TileGrid:
        """As few tiles as cover a canvas, evenly spread.

        Args:
            canvas: Height and width.
            side: Of a tile; where the canvas is smaller than it, the tile is as well.
            overlap: Least share of a tile's side that it has in common with the next, up to 0.5.
            seams: See `blended`.
        """
        height, width = (min(side, whole) for whole in canvas)
        tops = _starts(canvas[0], height, overlap)
        return cls(canvas, (height, width), tops, _starts(canvas[1], width, overlap), seams)

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    @property
    def boxes(self) -> list[Box]:
        """Places of all tiles."""
        height, width = self.tile
        return [
            Box(top, left, top + height, left + width) for top in self.tops for left in self.lefts
        ]

    @property
    def text(self) -> str:
        """For people: the canvas, the number of tiles and their size."""
        return f"{size_text(self.canvas)} in {len(self)} tiles of {size_text(self.tile)}"

    def cut(
        self, array: NDArray[_Values], positions: Sequence[int] | None = None
    ) -> NDArray[_Values]:
        """Tiles of the last two axes.

        Args:
            array: ``(..., H, W)`` of the canvas.
            positions: Of the ``T`` tiles that are wanted; None for all.

        Returns:
            ``(T, ..., h, w)``, a copy.
        """
        boxes = self.boxes
        chosen = range(len(boxes)) if positions is None else positions
        return np.stack([array[..., *boxes[i].slices] for i in chosen])

    def blended(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Maps of all tiles as one: means, weighed so that a tile counts less towards its border.

        Weights fall linearly from 1 to 0 over what a tile shares with its neighbour, and those of
        a pixel add up to 1: what tiles agree on stays, and where they do not, there is no seam.
        Only tiles without overlap meet abruptly.

        With the seams ``middle`` each pixel is that of one tile alone, in whose middle it lies:
        neighbours halve what they share, so that no value is made from a border, where a network
        sees but half of what is around.

        Args:
            maps: ``(T, h, w)``.

        Returns:
            ``(H, W)``.
        """
        down, across = self._weights
        whole = np.zeros(self.canvas, dtype=np.float32)
        for number, (box, values) in enumerate(zip(self.boxes, maps, strict=True)):
            row, column = divmod(number, len(self.lefts))
            whole[box.slices] += values * down[row][:, None] * across[column]
        return whole

    @cached_property
    def _weights(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``(rows, h)`` and ``(columns, w)`` weights, whose products add up to 1."""
        (height, width), (rows, columns) = self.canvas, self.tile
        if self.seams == "middle":
            return _own(self.tops, rows), _own(self.lefts, columns)
        return _shares(self.tops, rows, height), _shares(self.lefts, columns, width)

    def to_plain(self) -> dict[str, Any]:
        """As JSON; of seams nothing is said where they are blended."""
        plain: dict[str, Any] = {
            name: list(getattr(self, name)) for name in ("canvas", "tile", "tops", "lefts")
        }
        return plain if self.seams == "blend" else {**plain, "seams": self.seams}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> TileGrid:
        """From what `to_plain` gave.

        Raises:
            ValueError: Something is missing, or the tiles do not cover the canvas.
        """
        try:
            canvas, tile, tops, lefts = (
                tuple(map(int, plain[name])) for name in ("canvas", "tile", "tops", "lefts")
            )
            (height, width), (rows, columns) = canvas, tile
            seams = next(one for one in get_args(Seams) if one == plain.get("seams", "blend"))
        except StopIteration:
            raise ValueError(f"seams that are {plain['seams']!r}") from None
        except (KeyError, TypeError) as error:
            raise ValueError(f"tiles: {error}") from None
        if not (_covers(tops, rows, height) and _covers(lefts, columns, width)):
            raise ValueError(f"tiles of {rows} x {columns} pixels that miss some of {canvas}")
        return cls((height, width), (rows, columns), tops, lefts, seams)


def grid_of(tiling: TilingSpec | None, canvas: Size) -> TileGrid | None:
    """The tiles of a canvas; None where there are none, or one would be all of it."""
    if tiling is None:
        return None
    grid = TileGrid.over(canvas, tiling.size, tiling.overlap, tiling.seams)
    return grid if len(grid) > 1 else None


def described(tiling: TilingSpec | None, canvas: Size) -> dict[str, Any] | None:
    """The tiles of a canvas as JSON, with the key ``banks``; None where there are none."""
    grid = grid_of(tiling, canvas)
    return None if tiling is None or grid is None else {**grid.to_plain(), "banks": tiling.banks}


def input_text(info: Mapping[str, Any]) -> str:
    """The size of images and of their tiles, for people, from what is stored of a dataset."""
    tiling = info.get("tiling")
    return TileGrid.from_plain(tiling).text if tiling else size_text(info["image_size"])


def without_effect(tiling: TilingSpec | None, canvas: Size) -> tuple[str, str] | None:
    """What to say where tiles are asked for and one would be all of the canvas, and a remedy."""
    if tiling is None or grid_of(tiling, canvas) is not None:
        return None
    text = f"images of {size_text(canvas)} are no larger than a tile: dataset.tiling has no effect"
    return text, f"raise dataset.image_size or lower dataset.tiling.size ({tiling.size})"


def tiles_of(images: ImageSet, grid: TileGrid, positions: Sequence[int] | None = None) -> ImageSet:
    """Tiles of all images as images, those left out of which no pixel counts.

    A tile is anomalous if its mask is: the rest of an anomalous image is as normal as any other.
    Of an image without a mask no tile's label is known, so it stays as it is. Regions are those
    of the tiles' masks.

    Args:
        images: Of the size of the canvas; masks of another size are brought to it (nearest pixel).
        grid: The tiles.
        positions: Of the tiles that are wanted; None for all. If nothing counts in any of them,
            they are given as though all did.
    """
    chosen = list(range(len(grid)) if positions is None else positions)
    boxes, marked, synthetic = grid.boxes, images.marked, images.synthetic
    masks = _cut_each(images.masks, grid, chosen)
    valid = None if images.valid is None else _cut_each(images.valid, grid, chosen)
    if valid is not None and not valid.any():
        valid = None
    seen = np.ones(masks.shape[:2], dtype=bool) if valid is None else valid.any(axis=(2, 3))
    places = [(int(owner), int(place)) for owner, place in zip(*np.nonzero(seen), strict=True)]
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "pixels": ((len(places), 3, *grid.tile), np.float32),
        "masks": ((len(places), *grid.tile), np.bool_),
    }
    if valid is not None:
        shapes["valid"] = ((len(places), *grid.tile), np.bool_)

    def fill(arrays: Mapping[str, NDArray[Any]]) -> Mapping[str, Any]:
        for number, (owner, place) in enumerate(places):
            arrays["pixels"][number] = images.pixels[owner][:, *boxes[chosen[place]].slices]
        arrays["masks"][:] = masks[seen]
        if valid is not None:
            arrays["valid"][:] = valid[seen]
        return {
            "types": [
                images.types[owner] if masks[owner, place].any() or not marked[owner] else NORMAL
                for owner, place in places
            ],
            "paths": [images.paths[owner] for owner, _ in places],
            "groups": [images.groups[owner] for owner, _ in places],
            "made": [bool(synthetic[owner]) for owner, _ in places],
            "unmarked": [not marked[owner] for owner, _ in places],
        }

    same = replace(grid, seams="blend").to_plain()  # Tiles are the same, whatever becomes of maps.
    return made_once([images], f"tiles {same} {chosen}", shapes, fill)


def numbered(name: str, number: int, count: int) -> str:
    """A file's name with the number of a position: ``model-07.onnx``; as it is if there is one."""
    if count == 1:
        return name
    path = PurePath(name)
    return f"{path.stem}-{number:0{max(2, len(str(count - 1)))}d}{path.suffix}"


def _starts(whole: int, own: int, overlap: float) -> tuple[int, ...]:
    stride = max(1, math.floor(own * (1 - overlap)))
    gaps = -(-(whole - own) // stride)
    return tuple(i * (whole - own) // gaps for i in range(gaps + 1)) if gaps else (0,)


def _shares(starts: Sequence[int], own: int, whole: int) -> NDArray[np.float32]:
    """``(n, own)`` weights of an axis; over all tiles they add up to 1 wherever they lie."""
    weights = np.ones((len(starts), own))
    inside = np.arange(own) + 0.5
    for i, start in enumerate(starts):
        before = starts[i - 1] + own - start if i else 0
        after = start + own - starts[i + 1] if i + 1 < len(starts) else 0
        if before:
            weights[i] = np.minimum(weights[i], inside / before)
        if after:
            weights[i] = np.minimum(weights[i], inside[::-1] / after)
    total = np.zeros(whole)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + own] += weight
    shares = [
        weight / total[start : start + own] for start, weight in zip(starts, weights, strict=True)
    ]
    return np.stack(shares).astype(np.float32)


def _own(starts: Sequence[int], own: int) -> NDArray[np.float32]:
    """``(n, own)`` weights of an axis: 1 up to the middle of what a tile shares, 0 beyond."""
    weights = np.zeros((len(starts), own), dtype=np.float32)
    # The first rows of tiles, and one behind the last.
    ends = [(before + own + start) // 2 for before, start in pairwise(starts)]
    for weight, start, first, last in zip(
        weights, starts, [0, *ends], [*ends, starts[-1] + own], strict=True
    ):
        weight[first - start : last - start] = 1
    return weights


def _covers(starts: Sequence[int], own: int, whole: int) -> bool:
    """Whether tiles begin and end with an axis and leave out nothing between."""
    steps = [later - earlier for earlier, later in pairwise(starts)]
    ends = bool(starts) and starts[0] == 0 and starts[-1] + own == whole
    return 0 < own <= whole and ends and all(0 < step <= own for step in steps)


def _cut_each(
    masks: NDArray[np.bool_], grid: TileGrid, positions: Sequence[int]
) -> NDArray[np.bool_]:
    """``(N, T, h, w)`` tiles of ``(N, H, W)``, brought to the size of the canvas first."""
    tiles = np.empty((len(masks), len(positions), *grid.tile), dtype=bool)
    for number, mask in enumerate(masks):
        tiles[number] = grid.cut(resize_mask(mask, grid.canvas), positions)
    return tiles
