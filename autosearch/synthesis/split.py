"""A validation split with synthetic anomalies beside the real ones, or instead of them."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from autosearch.data import (
    ImageSet,
    SearchData,
    foreground_masks,
    join,
    resize_regions,
)
from autosearch.spec import SyntheticSpec
from autosearch.synthesis.blend import SynthesisSettings
from autosearch.synthesis.cutpaste import defect_library
from autosearch.synthesis.places import at_input, places
from autosearch.synthesis.textures import open_textures
from autosearch.synthesis.validation import synthetic_validation

_SETTINGS = SynthesisSettings(perlin_max_exp=3)
"""Coarser noise than in training, or an image would fall into dozens of regions."""


def add_synthetic(data: SearchData, wanted: SyntheticSpec | None) -> SearchData:
    """Add anomalous images made of the normal validation images.

    They are of one type of their own, ``synthetic_perlin`` or ``synthetic_cutpaste``, which rwAP
    weighs like any other, and stay in the group of the image they were made from. ``cutpaste``
    pastes the real anomalies of validation where there are any, else pieces of the same image.
    Pixels that do not count stay as they are.

    Args:
        data: Train and validation as they were read.
        wanted: What to add; None adds nothing.

    Returns:
        The same training images; validation with what was added, and ``info`` that says so.
    """
    if wanted is None:
        return data
    val = data.val
    known, counted = at_input(val)
    some = np.ones(len(val), dtype=bool) if counted is None else counted.any(axis=(1, 2))
    normal = np.flatnonzero(~val.labels & some)
    defects = defect_library(val.pixels, known) if known.any() else ()
    images, masks = synthetic_validation(
        val.pixels[normal],
        wanted.kind,
        wanted.per_image,
        wanted.seed,
        foregrounds=foreground_masks(val.pixels[normal]),
        valid=None if counted is None else counted[normal],
        textures=open_textures(
            wanted.textures,
            data.train.pixels,
            places(foreground_masks(data.train.pixels), data.train.valid),
        ),
        synthesis=_SETTINGS,
        defects=defects,
    )
    sources = np.repeat(normal, wanted.per_image)
    kind = _unused(f"synthetic_{wanted.kind}", val.types)
    names = [f"{val.paths[s]}#{kind}{i % wanted.per_image}" for i, s in enumerate(sources)]
    measured = val.masks.shape[1:]
    regions = [resize_regions(mask, measured).labels for mask in masks]
    labelled = np.array(regions, dtype=np.int32).reshape(len(masks), *measured)
    made = ImageSet(
        pixels=images,
        masks=labelled > 0,
        types=(kind,) * len(sources),
        paths=tuple(names),
        groups=tuple(val.groups[s] for s in sources),
        made=(True,) * len(sources),
        regions=None if val.regions is None else labelled,
        valid=None if val.valid is None else val.valid[sources],
    )
    settings = wanted.model_dump()
    digest = hashlib.sha256(json.dumps([data.info["sha256"], settings]).encode())
    digest.update(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(made.masks).data)
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
