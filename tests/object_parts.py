"""Photographs of objects on plain ground, drawn by a program, as a small dataset."""

from pathlib import Path

import numpy as np
from PIL import Image

from autosearch.contracts.registry import find_space
from autosearch.data import Box, ImageSet
from autosearch.executors.local import LocalExecutor
from autosearch.export.trial import ExportOptions, export_trial
from autosearch.spec.reading import load_spec
from autosearch.storage.folder import StudyFolder
from autosearch.study.inputs import load_inputs
from autosearch.study.session import open_driver, run

GROUND = (225, 228, 230)
SHAPE = (96, 160)


def drawn(
    box: Box, seed: int = 0, shape: tuple[int, int] = SHAPE, defect: Box | None = None
) -> np.ndarray:
    """``(h, w, 3)`` uint8: a dark, grained rectangle on bright ground, with a bright defect."""
    rng = np.random.default_rng(seed)
    values = np.broadcast_to(np.array(GROUND), (*shape, 3)).astype(float)
    values = values + rng.normal(0, 1, (*shape, 1))
    values[box.slices] = rng.integers(30, 60, (*box.size, 3))
    if defect is not None:
        values[defect.slices] = (140, 30, 30)
    return values.clip(0, 255).astype(np.uint8)


def plain(seed: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Noise alone, from which nothing stands out."""
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def box_of(i: int, size: tuple[int, int] = (30, 50)) -> Box:
    """A place for an object, another for each number."""
    top, left = 10 + 7 * i % 30, 15 + 11 * i % 60
    return Box(top, left, top + size[0], left + size[1])


def objects_dataset(base: Path) -> Path:
    """Category ``part``: 12 train, 2 test normals, 3 of ``spot``, defects inside the object."""
    for i in range(12):
        save(base / f"train/good/{i:03}.png", drawn(box_of(i, (30, 50 - i % 2)), i))
    for i in range(2):
        save(base / f"test/good/{i:03}.png", drawn(box_of(i + 3), 20 + i))
    for i in range(3):
        box = box_of(i + 5)
        defect = Box(box.top + 10, box.left + 20, box.top + 18, box.left + 30)
        save(base / f"test/spot/{i:03}.png", drawn(box, 30 + i, defect=defect))
        mark(base / f"ground_truth/spot/{i:03}_mask.png", defect)
    return base


def mark(path: Path, box: Box, shape: tuple[int, int] = SHAPE) -> None:
    """A mask that is white in a box."""
    values = np.zeros(shape, dtype=np.uint8)
    values[box.slices] = 255
    save(path, values)


SPACE = (
    "space={level1.extract: [true], level1.patch_size: 2, level2.extract: false, "
    "level3.extract: false, num_neighbors: 1, coreset_ratio: 0.5, coreset_method: random}"
)


def exported(results: Path, base: Path, *overrides: str) -> tuple[Path, ImageSet]:
    """The only trial of a tiny study of a dataset as a model's folder, and validation images."""
    given = [
        f"dataset.root={base.parent}", f"dataset.category={base.name}", "study.trials=1",
        "backbone.weights=random", SPACE, *overrides,
    ]  # fmt: skip
    inputs = load_inputs(load_spec(find_space("backbones"), given))
    folder = StudyFolder(results / "study")
    run(inputs, folder, open_driver(inputs, folder), LocalExecutor())
    done = export_trial(folder, ExportOptions(0, ("onnx",)), results / "model")
    return done.path, inputs.data.val
