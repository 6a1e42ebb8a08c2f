"""A small dataset with a test split, and a searched study of it."""

from pathlib import Path

import numpy as np
from PIL import Image

from autosearch.executors.local import LocalExecutor
from autosearch.spec.reading import parse_spec
from autosearch.storage.folder import StudyFolder
from autosearch.study import session
from autosearch.study.inputs import load_inputs

SIDE = 64


def search_in(base: Path, **study: object) -> StudyFolder:
    """A study in which trials share configurations; the data lies beside it."""
    _write_part(base / "data" / "part")
    spec = parse_spec(
        {
            "study": {"name": "study", "runner": "autopatch", "trials": 4, **study},
            "space": {"stage1.extraction_block": [5, 6], "width": 1.0, "coreset_ratio": 0.2},
            "objectives": ["gflops", "rwap"],
            "sampler": {"name": "random"},
            "backbone": {"weights": "random"},
            "dataset": {"root": str(base / "data"), "category": "part", "image_size": SIDE},
        }
    )
    inputs, folder = load_inputs(spec), StudyFolder(base / "study")
    driver = session.open_driver(inputs, folder)
    session.run(inputs, folder, driver, LocalExecutor())
    return folder


def _write_part(base: Path) -> None:
    """Ten normal images to train on, three to test on, four holes and two dents."""
    draw = np.random.default_rng(0)
    names = [f"train/good/{i}" for i in range(10)] + [f"test/good/{i}" for i in range(3)]
    names += [f"test/hole/{i}" for i in range(4)] + [f"test/dent/{i}" for i in range(2)]
    for name in names:
        values = draw.normal(120, 12, (SIDE, SIDE, 3))
        if "good" not in name:
            y, x = draw.integers(4, 40, 2)
            values[y : y + 14, x : x + 12] += 90 if "hole" in name else 25
            mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
            mask[y : y + 14, x : x + 12] = 255
            path = base / "ground_truth" / f"{name.removeprefix('test/')}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
        path = base / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(path)
