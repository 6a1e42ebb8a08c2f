"""Photographs that are wider than high, cut into tiles, and studies of them; an oracle."""

from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from autosearch.contracts.registry import find_space
from autosearch.data.tiles import TileGrid
from autosearch.executors.local import LocalExecutor
from autosearch.export.trial import Exported, ExportOptions, export_trial
from autosearch.spec.reading import load_spec
from autosearch.storage.folder import StudyFolder
from autosearch.study.inputs import Inputs, load_inputs
from autosearch.study.session import open_driver, run

SHAPE, SIDE = (96, 160), 64
SPACE = "{level1.extract: [true], level1.patch_size: 2, level2.extract: false, "
SPACE += "level3.extract: false, num_neighbors: 3}"


def photo(seed: int, defect: tuple[int, int] | None = None) -> np.ndarray:
    """``(96, 160, 3)`` uint8: a texture that differs from place to place, and a spot."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    grey = 128 + 60 * np.sin(x / 7) * np.cos(y / (5 + x / 40)) + rng.normal(0, 4, SHAPE)
    image = np.stack([grey, grey * 0.9, grey * 0.8], -1)
    if defect is not None:
        image[spot(defect)] = (250, 20, 20)
    return image.clip(0, 255).astype(np.uint8)


def spot(place: tuple[int, int]) -> np.ndarray:
    """``(96, 160)`` bool, true where a defect lies."""
    mask = np.zeros(SHAPE, dtype=bool)
    mask[place[0] : place[0] + 12, place[1] : place[1] + 14] = True
    return mask


def dataset(root: Path) -> Path:
    """Category ``part``: 6 normal images to train on, 2 to test, 3 with a dent."""
    images = {f"train/good/{i}.png": photo(i) for i in range(6)}
    images |= {f"test/good/{i}.png": photo(20 + i) for i in range(2)}
    for i in range(3):
        place = (10 + 20 * i, 20 + 50 * i)
        images[f"test/dent/{i}.png"] = photo(30 + i, place)
        images[f"ground_truth/dent/{i}_mask.png"] = np.uint8(255) * spot(place)
    for name, pixels in images.items():
        path = root / "part" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


def slow_weights(grid: TileGrid) -> np.ndarray:
    """``(T, H, W)`` weights, pixel by pixel from the definition."""

    def ramp(starts: tuple[int, ...], which: int, own: int, at: int) -> float:
        start = starts[which]
        if not start <= at < start + own:
            return 0.0
        found = 1.0
        if which > 0 and (shared := starts[which - 1] + own - start):
            found = min(found, (at - start + 0.5) / shared)
        if which + 1 < len(starts) and (shared := start + own - starts[which + 1]):
            found = min(found, (start + own - at - 0.5) / shared)
        return found

    (height, width), (rows, columns) = grid.canvas, grid.tile
    weights = np.array(
        [
            [
                [
                    ramp(grid.tops, i, rows, y) * ramp(grid.lefts, j, columns, x)
                    for x in range(width)
                ]
                for y in range(height)
            ]
            for i in range(len(grid.tops))
            for j in range(len(grid.lefts))
        ]
    )
    return weights / weights.sum(axis=0)


class Tiled:
    """A study of one trial and what comes of it, made when first asked for.

    Args:
        place: Folder of the images, the study and the export.
        *keys: Overrides of the spec.
    """

    def __init__(self, place: Path, *keys: str) -> None:
        self._place, self._keys = place, keys

    @cached_property
    def inputs(self) -> Inputs:
        """What the study was made from."""
        given = [f"dataset.root={dataset(self._place / 'data')}", "dataset.category=part"]
        given += ["backbone.weights=random", "resources.gpu=0", "study.trials=1", f"space={SPACE}"]
        return load_inputs(load_spec(find_space("backbones"), [*given, *self._keys]))

    @cached_property
    def study(self) -> StudyFolder:
        """The study, run."""
        folder = StudyFolder(self._place / "study")
        run(self.inputs, folder, open_driver(self.inputs, folder), LocalExecutor())
        return folder

    @cached_property
    def exported(self) -> Exported:
        """Its trial as a model."""
        return export_trial(self.study, ExportOptions(0))
