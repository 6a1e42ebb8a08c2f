"""A validation split with synthetic anomalies beside the real ones, or instead of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np

from autosearch.data import SYNTHETIC, ImageSet, SearchData
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
    kind = SYNTHETIC + wanted.kind
    names = [f"{val.paths[s]}#{kind}{i % wanted.per_image}" for i, s in enumerate(sources)]
    added = ImageSet(
        pixels=np.concatenate([val.pixels, images]),
        masks=np.concatenate([val.masks, masks]),
        types=(*val.types, *[kind] * len(sources)),
        paths=(*val.paths, *names),
        groups=(*val.groups, *(val.groups[s] for s in sources)),
    )
    added.pixels.setflags(write=False)
    added.masks.setflags(write=False)
    settings = wanted.model_dump()
    digest = hashlib.sha256(json.dumps([data.info["sha256"], settings]).encode())
    digest.update(images.tobytes() + masks.tobytes())
    counts = dict(data.info["counts"])  # type: ignore[call-overload]
    counts["val"] = {**counts["val"], kind: len(sources)}
    info = {
        **data.info,
        "counts": counts,
        "sha256": digest.hexdigest(),
        "validation_synthetic": settings,
    }
    return replace(data, val=added, info=info)
