"""Published memory banks on transformers, as far as they are settings of `foundation`.

Depths are those of models of 12 blocks. What a study says is not among them: size and framing of
images (`dataset.image_size`, `dataset.framing`), tiles (`dataset.tiling`), thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence

from autosearch.spec import Params

_OF = 12


def _blocks(*numbers: int) -> Params:
    """Single tokens of blocks, numbered from 0, each counting alike; no others."""
    named: Sequence[int | None] = (*numbers, *[None] * (4 - len(numbers)))
    found: Params = {}
    for place, block in enumerate(named, start=1):
        found[f"block{place}.depth"] = None if block is None else round((block + 1) / _OF, 4)
        found[f"block{place}.patch_size"] = 1
        found[f"block{place}.weight"] = 1.0
    return found


PRESETS: dict[str, Params] = {
    "superadd": {
        "backbone": "vit_small_patch16_dinov3.lvd1689m",
        **_blocks(3, 5, 8, 10),
        "fusion": "mean",
        "distance": "euclidean",
        "bank_rows": 100_000,
        "coreset_method": "thinning",
        "coreset_pool": 10_000_000,  # All patches of any data set that fits into memory.
    },
    "rad": {
        "backbone": "vit_base_patch16_dinov3.lvd1689m",
        **_blocks(3, 6, 9, 11),
        "final_norm": True,
        "fusion": "mean",
        "metric": "cosine",
        "window": 1,
        "neighbour_images": 150,
        "likeness": "class_token",
        "smoothing": 1.75,  # One pixel of a map of 256 where images have 448.
        "top_share": 0.01,
    },
    "anomalydino": {
        "backbone": "vit_small_patch14_dinov2.lvd142m",
        **_blocks(11),
        "final_norm": True,
        "metric": "cosine",
        "foreground": "components",
        "smoothing": 4.0,
        "top_share": 0.01,
    },
}
"""By name what a preset has instead of the defaults."""
