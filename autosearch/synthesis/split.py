"""A validation split with synthetic anomalies beside the real ones, or instead of them."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autosearch.data import (
    ImageSet,
    SearchData,
    categories_of,
    foreground_masks,
    join,
    makes_beside,
    prefixed,
    resize_regions,
)
from autosearch.errors import ConfigError
from autosearch.spec import SyntheticSpec
from autosearch.synthesis.blending import SynthesisSettings
from autosearch.synthesis.cutpaste import defect_library
from autosearch.synthesis.placing import at_input, places
from autosearch.synthesis.textures import open_textures
from autosearch.synthesis.validation import Kind, synthetic_validation

_SETTINGS = SynthesisSettings(perlin_max_exp=3)
"""Coarser noise than in training, or an image would fall into dozens of regions."""

_BESIDE, _BESIDE_BYTES = 24, 64 << 20
"""Most images, and most bytes of them, that ``auto`` makes of a kind; textures are of as many."""


def add_synthetic(data: SearchData, wanted: SyntheticSpec | Literal["auto"] | None) -> SearchData:
    """Add anomalous images made of the normal validation images.

    They are of types of their own, ``synthetic_perlin`` and ``synthetic_cutpaste``, in each
    category if there are several, which rwAP weighs like any other, and stay in the group of the
    image they were made from. ``cutpaste`` pastes the real anomalies of validation where there are
    any, else pieces of the same image. Pixels that do not count stay as they are.

    With ``auto`` they stand beside validation, in `SearchData.made`, where
    `autosearch.data.makes_beside` says so: one of either kind of at most 24 normal images,
    spread evenly, by the defaults of `SyntheticSpec`. Validation itself, and the hash of the data,
    stay as they are. Where none can be made, ``info`` says so and there are none.

    Args:
        data: Train and validation as they were read.
        wanted: What to add; None adds nothing.

    Returns:
        The same training images; validation with what was added, or what was made beside it, and
        ``info`` that says so.
    """
    if wanted is None:
        return data
    if wanted == "auto":
        return _with_beside(data) if makes_beside(data.val.types) else data
    made, settings = _made(data, data.val, data.train, wanted), wanted.model_dump()
    digest = hashlib.sha256(json.dumps([data.info["sha256"], settings]).encode())
    digest.update(np.ascontiguousarray(made.pixels).data)
    digest.update(np.ascontiguousarray(made.masks).data)
    counts = dict(data.info["counts"])  # type: ignore[call-overload]
    counts["val"] = {**counts["val"], **Counter(made.types)}
    info = {
        **data.info,
        "counts": counts,
        "sha256": digest.hexdigest(),
        "validation_synthetic": {**settings, "types": sorted(set(made.types))},
    }
    return replace(data, val=join(data.val, made), info=info)


def _with_beside(data: SearchData) -> SearchData:
    """The same with anomalies beside validation."""
    room = max(1, _BESIDE_BYTES // data.val.pixels[0].nbytes)
    most, wanted = min(_BESIDE, room), SyntheticSpec()
    normal = data.val.select(_spread(~data.val.labels, most))
    train = data.train.select(_spread(~data.train.labels, most))
    try:
        made = _made(data, normal, train, wanted).locked()
    except ConfigError as error:
        reason = f"no synthetic anomaly could be made beside validation: {error.allowed}"
        notes: list[str] = [*data.info.get("notes", ()), reason]  # type: ignore[misc]
        return replace(data, info={**data.info, "notes": notes})
    digest = hashlib.sha256(np.ascontiguousarray(made.pixels).data)
    digest.update(np.ascontiguousarray(made.masks).data)
    about = {**wanted.model_dump(), "types": sorted(set(made.types)), "images": len(made)}
    info = {**data.info, "validation_beside": {**about, "sha256": digest.hexdigest()}}
    return replace(data, made=made, info=info)


def _spread(wanted: NDArray[np.bool_], most: int) -> NDArray[np.bool_]:
    """So many of those that are wanted at most, spread evenly: ``(N,)`` bool to the same."""
    found = np.flatnonzero(wanted)
    number = min(most, len(found))
    chosen = np.zeros_like(wanted)
    if number:
        chosen[found[np.arange(number) * len(found) // number]] = True
    return chosen


def _made(data: SearchData, val: ImageSet, train: ImageSet, wanted: SyntheticSpec) -> ImageSet:
    """Anomalous images, made of the normal ones of a split: all of one kind, then of the next.

    A kind that they do not admit is left out, unless it is the only one.

    Args:
        data: What the split is from.
        val: The split.
        train: Images that textures are made of.
        wanted: What to make.
    """
    known, counted = at_input(val)
    some = np.ones(len(val), dtype=bool) if counted is None else counted.any(axis=(1, 2))
    normal = np.flatnonzero(~val.labels & some)
    foregrounds = foreground_masks(val.pixels[normal])
    textures = None
    if "perlin" in wanted.kinds:
        allowed = places(foreground_masks(train.pixels), train.valid)
        textures = open_textures(wanted.textures, train.pixels, allowed)
    defects = defect_library(val.pixels, known) if known.any() else ()
    parts: list[ImageSet] = []
    for kind in wanted.kinds:
        try:
            images, masks = synthetic_validation(
                val.pixels[normal],
                kind,
                wanted.per_image,
                wanted.seed,
                foregrounds=foregrounds,
                valid=None if counted is None else counted[normal],
                textures=textures,
                synthesis=_SETTINGS,
                defects=defects,
            )
        except ConfigError:
            if kind == wanted.kinds[-1] and not parts:
                raise
            continue
        parts.append(_of_kind(data, val, normal, wanted.per_image, kind, images, masks))
    return join(*parts)


def _of_kind(
    data: SearchData,
    val: ImageSet,
    normal: NDArray[np.intp],
    per_image: int,
    kind: Kind,
    images: NDArray[np.float32],
    masks: NDArray[np.bool_],
) -> ImageSet:
    """What was made of a kind, as images of a split.

    Args:
        data: What the split is from.
        val: The split.
        normal: ``(N,)``, places of the images that they were made of.
        per_image: How many of each.
        kind: The kind.
        images: ``(N * per_image, 3, H, W)``.
        masks: ``(N * per_image, H, W)``.
    """
    name, sources = _type(data, kind), np.repeat(normal, per_image)
    names = [f"{val.paths[s]}#{name}{i % per_image}" for i, s in enumerate(sources)]
    groups = tuple(val.groups[s] for s in sources)
    types = (name,) * len(sources)
    if "categories" in data.info:
        types = tuple(prefixed(category, name) for category in categories_of(groups))
    measured = val.masks.shape[1:]
    regions = [resize_regions(mask, measured).labels for mask in masks]
    labelled = np.array(regions, dtype=np.int32).reshape(len(masks), *measured)
    valid = None if val.valid is None else val.valid[sources]
    if valid is not None:
        # A pixel of the input may lie across the edge of what counts at a finer size.
        labelled = np.where(valid, labelled, 0)
    hidden = tuple(not one.any() for one in labelled)
    return ImageSet(
        pixels=images,
        masks=labelled > 0,
        types=types,
        paths=tuple(names),
        groups=groups,
        made=(True,) * len(sources),
        regions=None if val.regions is None else labelled,
        valid=valid,
        unmarked=hidden if any(hidden) else (),
    )


def _type(data: SearchData, kind: Kind) -> str:
    """What anomalies of a kind are called, in each category if there are several."""
    taken = set(data.val.types)
    if "categories" in data.info:
        taken = {kind.partition("/")[2] for kind in taken}
    return _unused(f"synthetic_{kind}", taken)


def _unused(name: str, taken: Collection[str]) -> str:
    """The name, or it with a number where a real type is called so."""
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    return next(n for n in itertools.chain([name], numbered) if n not in taken)
