"""A validation split with synthetic anomalies beside the real ones, or instead of them."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from autosearch.data import ImageSet, SearchData, join, label_regions
from autosearch.spec import SyntheticSpec
from autosearch.synthesis.blend import SynthesisSettings
from autosearch.synthesis.cutpaste import defect_library
from autosearch.synthesis.foreground import foreground_masks
from autosearch.synthesis.textures import open_textures
from autosearch.synthesis.validation import synthetic_validation

_SETTINGS = SynthesisSettings(perlin_max_exp=3)
"""Coarser noise than in training, or an image would fall into dozens of regions."""


def add_synthetic(data: SearchData, wanted: SyntheticSpec | None) -> SearchData:
    """Add anomalous images made of the normal validation images.

    They are of one type of their own, ``synthetic_perlin`` or ``synthetic_cutpaste``, which rwAP
    weighs like any other, and stay in the group of the image they were made from. ``cutpaste``
    pastes the real anomalies of validation where there are any, else pieces of the same image.

    Args:
        data: Train and validation as they were read.
        wanted: What to add; None adds nothing.

    Returns:
        The same training images; validation with what was added, and ``info`` that says so.
    """
    if wanted is None:
        return data
    val = data.val
    normal, anomalous = np.flatnonzero(~val.labels), np.flatnonzero(val.labels)
    defects = defect_library(val.pixels[anomalous], val.masks[anomalous]) if len(anomalous) else ()
    images, masks = synthetic_validation(
        val.pixels[normal],
        wanted.kind,
        wanted.per_image,
        wanted.seed,
        foregrounds=foreground_masks(val.pixels[normal]),
        textures=open_textures(
            wanted.textures, data.train.pixels, foreground_masks(data.train.pixels)
        ),
        synthesis=_SETTINGS,
        defects=defects,
    )
    sources = np.repeat(normal, wanted.per_image)
    kind = _unused(f"synthetic_{wanted.kind}", val.types)
    names = [f"{val.paths[s]}#{kind}{i % wanted.per_image}" for i, s in enumerate(sources)]
    made = ImageSet(
        pixels=images,
        masks=masks,
        types=(kind,) * len(sources),
        paths=tuple(names),
        groups=tuple(val.groups[s] for s in sources),
        made=(True,) * len(sources),
        regions=None if val.regions is None else np.stack([label_regions(m) for m in masks]),
    )
    settings = wanted.model_dump()
    digest = hashlib.sha256(json.dumps([data.info["sha256"], settings]).encode())
    digest.update(images.tobytes() + masks.tobytes())
    counts = dict(data.info["counts"])  # type: ignore[call-overload]
    counts["val"] = {**counts["val"], kind: len(sources)}
    info = {
        **data.info,
        "counts": counts,
        "sha256": digest.hexdigest(),
        "validation_synthetic": {**settings, "type": kind},
    }
    return replace(data, val=join(val, made), info=info)


def _unused(name: str, taken: Collection[str]) -> str:
    """The name, or it with a number where a real type is called so."""
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    return next(n for n in itertools.chain([name], numbered) if n not in taken)
