"""A detector in 8-bit integers for OpenVINO, and what that costs in accuracy.

Activations are measured on normal training images. What 8 bits cost is measured on validation
with the detector of the thresholds, which has not seen its normal images: a bank of float
features holds them, and says nothing of how far rounded ones lie from it. The search for nearest
neighbours stays in float: in 8 bits nothing is left of its distances.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autosearch.contracts import Detector, TiledDetector, stage_of
from autosearch.data import CanvasStage, ImageSet, TileGrid, numbered
from autosearch.export.folder import INT8, INT8_DATA
from autosearch.export.frozen import Maps, Say, parts_of
from autosearch.graphs import (
    ModelError,
    Run,
    has_search,
    in_int8,
    onnx_bytes,
    openvino_files,
    openvino_run,
    round_to_half,
    side_by_side,
)
from autosearch.study import maps_by

CALIBRATION = 128
"""Images, or tiles, that activations are measured on, at most."""

Files = tuple[bytes, bytes]
Figures = Callable[[Maps], dict[str, float]]


@dataclass(frozen=True)
class Quantiser:
    """How a detector becomes integers.

    Attributes:
        train: Images of the train split; only normal ones are used.
        seed: Of their choice.
        half: Round large tensors to half precision first, as in other files of the export.
        opset: Of the ONNX graph on the way.
        threads: On which passes are timed.
        say: Told what is being done.
    """

    train: ImageSet
    seed: int
    half: bool
    opset: int
    threads: int
    say: Say

    def measure(
        self, detector: Detector, val: ImageSet, figures: Figures, before: Mapping[str, float]
    ) -> Measured:
        """Find out what 8 bits cost.

        Args:
            detector: Fitted on the train split alone.
            val: The validation split.
            figures: Figures of merit of its maps.
            before: Those of the maps in float.
        """
        graphs, grid, stage = self._graphs(detector, val), _grid(detector), stage_of(detector)
        self.say("measuring what 8 bits cost")
        runs = [openvino_run(*files) for files in self._quantised(graphs, grid, stage)]
        maps = maps_by(_asked(runs, grid, stage), val)
        if not np.isfinite(maps).all():
            raise ModelError("openvino-int8: its maps are not finite; nothing was exported")
        return Measured(dict(before), figures(maps), maps)

    def write(
        self, detector: Detector, val: ImageSet, measured: Measured
    ) -> tuple[dict[str, bytes], dict[str, Any]]:
        """The files of the detector that is exported, and what ``model.json`` says of them."""
        self.say("writing the model in 8 bits")
        graphs, grid = self._graphs(detector, val), _grid(detector)
        quantised = self._quantised(graphs, grid, stage_of(detector))
        files: dict[str, bytes] = {}
        for number, both in enumerate(quantised):
            for name, content in zip((INT8, INT8_DATA), both, strict=True):
                files[numbered(name, number, len(quantised))] = content
        size = grid.tile if grid else val.pixels.shape[2:]
        runs = [openvino_run(*some[0], self.threads) for some in (graphs, quantised)]
        times = side_by_side(runs, (size[0], size[1]))
        passes = 1 if grid is None else len(grid)
        return files, {
            "calibration": {
                "images": self._calibrating(),
                "of": "normal images of the train split"
                + ("" if grid is None else ", a tile of each"),
                "seed": self.seed,
            },
            "in_float": "the search" if has_search(*graphs[0]) else "nothing",
            "validation": {"float": measured.before, "int8": measured.after},
            "loss": measured.loss,
            "bytes": {
                name: sum(len(content) for both in some for content in both)
                for name, some in (("float", graphs), ("int8", quantised))
            },
            "latency_ms": {
                "threads": self.threads,
                "batch": 1,
                **{
                    name: round(passes * value, 3)
                    for name, value in zip(("float", "int8"), times, strict=True)
                },
            },
        }

    def _graphs(self, detector: Detector, val: ImageSet) -> list[Files]:
        """In float32, for OpenVINO, one for each that the detector has."""
        found = []
        for part, images in parts_of(detector, val):
            module = copy.deepcopy(part.module()).cpu().eval()
            if self.half:
                round_to_half(module)
            size = (images.shape[2], images.shape[3])
            graph = onnx_bytes(module, size, self.half, self.opset, part.top_share)
            found.append(openvino_files(graph))
        return found

    def _quantised(
        self, graphs: Sequence[Files], grid: TileGrid | None, stage: CanvasStage | None
    ) -> list[Files]:
        own = len(graphs) > 1
        return [
            in_int8(*files, list(self._images(grid, number if own else None, stage)))
            for number, files in enumerate(graphs)
        ]

    def _images(
        self, grid: TileGrid | None, place: int | None, stage: CanvasStage | None = None
    ) -> Iterator[Maps]:
        """What a graph's activations are measured on; of tiles one of each image."""
        draw = np.random.default_rng(self.seed)
        normal = np.flatnonzero(~self.train.labels)
        for index in sorted(draw.choice(normal, self._calibrating(), replace=False)):
            image = np.ascontiguousarray(self.train.pixels[index])
            image = image if stage is None else stage.seen(image)[0]
            if grid is None:
                yield image[None]
            else:
                yield grid.cut(image, [int(draw.integers(len(grid))) if place is None else place])

    def _calibrating(self) -> int:
        return min(CALIBRATION, int((~self.train.labels).sum()))


@dataclass(frozen=True)
class Measured:
    """What 8 bits cost.

    Attributes:
        before: Figures of validation in float.
        after: The same in 8 bits.
        maps: ``(N, h, w)`` of validation in 8 bits.
    """

    before: dict[str, float]
    after: dict[str, float]
    maps: NDArray[np.float32]

    @property
    def loss(self) -> dict[str, float]:
        """By how much figures fall, by their names: of pixels, or of images where none count."""
        before, after = self.before, self.after
        names = [name for name in ("rwap", "ap") if name in before and name in after]
        return {name: before[name] - after[name] for name in names or ("image_ap",)
                if name in before and name in after}  # fmt: skip


def _grid(detector: Detector) -> TileGrid | None:
    return detector.grid if isinstance(detector, TiledDetector) else None


def _asked(
    runs: Sequence[Run], grid: TileGrid | None, stage: CanvasStage | None
) -> Callable[[Tensor], Tensor]:
    """Images to maps, by the graph of each tile where there are tiles."""

    def one(image: Maps) -> Maps:
        if stage is not None:
            seen, place = stage.seen(image, again=True)
            (changed,), _ = runs[0](seen[None])
            return stage.back(np.asarray(changed), place)
        if grid is None:
            (whole,), _ = runs[0](image[None])
            return np.asarray(whole)
        tiles = grid.cut(image)
        maps = [runs[n % len(runs)](tiles[n : n + 1])[0] for n in range(len(grid))]
        return grid.blended(np.concatenate(maps))

    def ask(images: Tensor) -> Tensor:
        return torch.from_numpy(np.stack([one(image) for image in images.numpy()]))

    return ask
