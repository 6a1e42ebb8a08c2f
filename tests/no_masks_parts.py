"""A small dataset without masks, and searches on it."""

from pathlib import Path

import numpy as np
from final_parts import SIDE
from PIL import Image

import autosearch

SPACE = {
    "study": {"name": "study", "runner": "autopatch", "trials": 2},
    "space": {"stage1.extraction_block": [5, 6], "width": 1.0, "coreset_ratio": 0.2},
    "objectives": ["gflops", "image_auroc"],
    "sampler": {"name": "random"},
    "backbone": {"weights": "random"},
}


def write(base: Path, normal: int = 13, **kinds: int) -> Path:
    """A category of normal images in ``train`` and ``test`` and of types without masks."""
    draw = np.random.default_rng(0)
    names = [f"train/good/{i:02}" for i in range(normal - 3)]
    names += [f"test/good/{i}" for i in range(3)]
    names += [f"test/{kind}/{i}" for kind, count in kinds.items() for i in range(count)]
    for name in names:
        values = draw.normal(120, 12, (SIDE, SIDE, 3))
        if "good" not in name:
            y, x = draw.integers(4, 40, 2)
            values[y : y + 14, x : x + 12] += 90
        path = base / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(path)
    return base


def search(base: Path, resume: int | None = None, **keys: object) -> autosearch.Study:
    dataset = {"root": str(base / "data"), "category": "part", "image_size": SIDE}
    space = {**SPACE, "dataset": dataset, **keys}
    return autosearch.search(
        space,
        trials=resume,
        results=base / "results",
        resume=resume is not None,
        executor="local",
    )
