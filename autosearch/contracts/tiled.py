"""Detectors that see large images tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autosearch.contracts.detector import Cost, Detector, TrialContext, shared_tensor
from autosearch.data import ImageSet, TileGrid, numbered, size_text, tiles_of
from autosearch.errors import Infeasible

_CANVAS_BYTES = 40
"""For each pixel of an image while it is cut, asked for and blended."""

_PIXELS = 1 << 21
"""Of the tiles that are handed over at a time: eight of 512 x 512."""


class TiledDetector(Detector):
    """A detector of tiles, asked for whole images; or one for every position of a tile.

    It holds one image's tiles at a time when it is asked. The tiles of all training images are
    ``1 / (1 - overlap)²`` times as large as these; they are cut once, and lie in a file that all
    trials of a machine share unless they are small (see `autosearch.data.tiles_of`).

    Args:
        grid: The tiles.
        parts: One detector, or as many as there are tiles, row by row; each of a tile's size.

    Attributes:
        grid: The tiles.
        parts: The detectors.
        top_share: Theirs, of a whole image's map.
    """

    def __init__(self, grid: TileGrid, parts: Iterable[Detector]) -> None:
        self.grid, self.parts = grid, tuple(parts)
        if len(self.parts) not in (1, len(grid)):
            raise ValueError(f"{len(self.parts)} detectors of {len(grid)} tiles")
        self.top_share = self.parts[0].top_share

    @classmethod
    def built(
        cls,
        grid: TileGrid,
        by_position: bool,
        make: Callable[[TrialContext], Detector],
        context: TrialContext,
    ) -> TiledDetector:
        """Make the detectors of a trial.

        Args:
            grid: The tiles.
            by_position: Whether every position has one of its own.
            make: Makes one.
            context: Of whole images; detectors get that of their tiles.
        """

        def of(positions: Sequence[int] | None) -> TrialContext:
            whole = context.validation
            tiles = None if whole is None else tiles_of(whole, grid, positions)
            return replace(context, image_size=grid.tile, validation=tiles)

        chosen = [(number,) for number in range(len(grid))] if by_position else [None]
        with _of_tiles(grid):
            return cls(grid, [make(of(positions)) for positions in chosen])

    def memory(self, images: int) -> int:
        """See `Detector.memory`; the tiles themselves lie in a file if they are large."""
        if len(self.parts) > 1:
            return sum(part.memory(images) for part in self.parts)
        height, width = self.grid.canvas
        return self.parts[0].memory(images * len(self.grid)) + _CANVAS_BYTES * height * width

    def seconds(self, fitted: int, asked: int) -> float | None:
        """See `Detector.seconds`."""
        count = len(self.grid)
        if len(self.parts) > 1:
            one = self.parts[0].seconds(fitted, asked)
            return None if one is None else count * one
        return self.parts[0].seconds(count * fitted, count * asked)

    def fit(self, train: ImageSet) -> None:
        """Learn from all tiles on which a pixel counts; `fit_in_steps` without pauses."""
        for _ in self.fit_in_steps(train):
            pass

    def fit_in_steps(self, train: ImageSet) -> Iterator[float]:
        """See `Detector.fit_in_steps`; detectors by position take their steps in turn."""
        running = [self._steps(train, number) for number in range(len(self.parts))]
        reached = 0.0
        while True:
            fractions = [next(steps, 1.0) for steps in running]
            if min(fractions) == 1:
                return
            # What ended in this turn has begun, so that maps can be asked for.
            reached = max(reached, sum(fractions) / len(fractions))
            yield reached

    def anomaly_maps(self, images: Tensor) -> Tensor:
        """See `Detector.anomaly_maps`; image after image, blended where tiles overlap."""
        whole = images.cpu().numpy()
        maps = [self.grid.blended(self._asked(image)) for image in whole]
        return torch.from_numpy(np.stack(maps))

    def answers(self, images: Tensor) -> Tensor:
        """See `Detector.answers`: ``(N, T, ...)``, those of every tile."""
        whole = images.cpu().numpy()
        return torch.from_numpy(np.stack([self._asked(image, before=True) for image in whole]))

    def maps_of_answers(self, answers: Tensor, images: Tensor) -> Tensor:
        """See `Detector.maps_of_answers`."""
        # Of a tile nothing but the size is read.
        tile = images.new_empty(1, 3, *self.grid.tile)
        maps = []
        for one in answers:
            of_tiles = [
                self.parts[number % len(self.parts)].maps_of_answers(own[None], tile)
                for number, own in enumerate(one)
            ]
            maps.append(self.grid.blended(torch.cat(of_tiles).numpy()))
        return torch.from_numpy(np.stack(maps))

    def follow(self, fitted: Detector) -> None:
        """See `Detector.follow`; part by part."""
        if not isinstance(fitted, TiledDetector):
            raise TypeError(f"no tiles: {fitted}")
        for own, other in zip(self.parts, fitted.parts, strict=True):
            own.follow(other)

    def artifacts(self) -> dict[str, bytes]:
        """See `Detector.artifacts`; of detectors by position under numbered names."""
        if len(self.parts) == 1:
            return self.parts[0].artifacts()
        return {
            numbered(name, number, len(self.parts)): content
            for number, part in enumerate(self.parts)
            for name, content in part.artifacts().items()
        }

    def figures(self) -> dict[str, float]:
        """See `Detector.figures`; of detectors by position the means."""
        told = [part.figures() for part in self.parts]
        names = dict.fromkeys(name for one in told for name in one)
        found = {name: [one[name] for one in told if name in one] for name in names}
        return {name: sum(values) / len(values) for name, values in found.items()}

    def cost(self) -> Cost:
        """See `Detector.cost`: operations of all tiles of an image, and numbers of all parts."""
        costs = [part.cost() for part in self.parts]
        times = len(self.grid) // len(costs)
        return Cost(
            macs=times * sum(cost.macs for cost in costs),
            flops=times * sum(cost.flops for cost in costs),
            search_flops=times * sum(cost.search_flops for cost in costs),
            parameters=sum(cost.parameters for cost in costs),
            bank_bytes=sum(cost.bank_bytes for cost in costs),
        )

    def module(self) -> nn.Module:
        """Of a tile's maps, not of a whole image's.

        Raises:
            ValueError: Every position has its own: see `parts`.
        """
        if len(self.parts) > 1:
            raise ValueError(f"{len(self.parts)} positions, each with a module of its own")
        return self.parts[0].module()

    def _asked(self, image: NDArray[np.float32], before: bool = False) -> NDArray[np.float32]:
        """``(3, H, W)`` to the ``(T, h, w)`` maps of its tiles, or what these are made of."""
        count, (height, width) = len(self.grid), self.grid.tile
        size = 1 if len(self.parts) > 1 else max(1, _PIXELS // (height * width))
        maps = []
        for start in range(0, count, size):
            part = self.parts[start if len(self.parts) > 1 else 0]
            tiles = self.grid.cut(image, range(start, min(start + size, count)))
            ask = part.answers if before else part.anomaly_maps
            maps.append(ask(shared_tensor(tiles)).numpy())
        return np.concatenate(maps)

    def _steps(self, train: ImageSet, number: int) -> Iterator[float]:
        # Tiles are cut when the first step is taken, and forgotten after the last.
        positions = (number,) if len(self.parts) > 1 else None
        with _of_tiles(self.grid):
            yield from self.parts[number].fit_in_steps(tiles_of(train, self.grid, positions))


@contextmanager
def _of_tiles(grid: TileGrid) -> Iterator[None]:
    """Say of what cannot be built from tiles that it is they which are too small or odd."""
    try:
        yield
    except Infeasible as error:
        size = size_text(grid.tile)
        raise Infeasible(f"in tiles of {size} (dataset.tiling): {error}") from None
