"""How the images of one dataset come in: decided from what was asked for and from the images."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from autosearch.data.align import Alignment, aligned
from autosearch.data.boxes import Box, Size, cut
from autosearch.data.decoding import shape_of
from autosearch.data.framing import (
    Framing,
    Mask,
    View,
    canvas_size,
    fitted,
    size_text,
    source_size,
)
from autosearch.data.images import read_image
from autosearch.data.index import Sample
from autosearch.data.interest import area_of, read_interest
from autosearch.data.mask_folder import no_masks, read_object_mask
from autosearch.data.notes import Note
from autosearch.data.objects import find_object, largest, with_margin
from autosearch.data.parts import Part
from autosearch.errors import ConfigError, DataError
from autosearch.spec import DatasetSpec, OwnShape

_ALIKE = 1.1
"""Ratio of two aspects up to which nobody needs to be told that they differ."""

NO_OBJECT = "has no object that stands out, so the whole image is used"
"""Kind of the note about an image in which no object was found."""


@dataclass(frozen=True)
class Framings:
    """How images of a dataset come in, and how they are measured.

    Attributes:
        input: Onto the canvas that detectors see.
        measured: Onto that at which maps are held against masks; of the same aspect.
        remark: That images are padded or squeezed a lot, and what keeps their shape: problem and
            remedy. None where they are not.
        objects: In how many of how many normal training images an object was found; None where
            none was looked for.
        marked: In how many of them a file marks the object.
    """

    input: Framing
    measured: Framing
    remark: tuple[str, str] | None = None
    objects: tuple[int, int] | None = None
    marked: int = 0

    @property
    def fitting(self) -> Framings:
        """The same for images to fit on, whose masks are wanted at the size of the input."""
        return replace(self, measured=self.input)

    @property
    def found(self) -> str | None:
        """What came of looking for objects, for people."""
        if self.objects is None:
            return None
        text = f"object found in {self.objects[0]} of {self.objects[1]} normal training images"
        if self.input.marked:
            text += f", {self.marked} of which have a mask in dataset.foreground"
        if (around := self.input.object_size) is not None:
            text += f"; canvas {around[0]} x {around[1]} px (height x width) of the files"
        return f"{text}, {size_text(self.input.size)} on the input"

    @property
    def told(self) -> list[str]:
        """Lines for people: what was found, and the remark."""
        lines = [self.found] if self.found else []
        return lines + (["; ".join(self.remark)] if self.remark else [])


@dataclass(frozen=True)
class _Place:
    """Of one normal training image: what is seen of it without further ado, and its object.

    For ``align`` the object is measured.
    """

    path: Path
    area: Box
    object: Box | None = None
    part: Part | None = None


def framings_of(
    dataset: DatasetSpec, samples: Iterable[Sample], lenient: bool = False
) -> Framings:
    """Decide how the images of a dataset come in.

    Args:
        dataset: What was asked for.
        samples: The training images; normal ones are looked at, or their shapes alone where no
            object is looked for.
        lenient: Leave out images that cannot be read or used.

    Raises:
        DataError: A file cannot be read, or does not hold the region of interest.
        ConfigError: The region of interest is a file that cannot be used; no object stands out
            in most of the images; no file marks any, where files are to; or several categories
            are to be brought into one pose.
    """
    if dataset.preprocess == "align" and len(dataset.categories) > 1:
        allowed = "none, mask, crop or centre: objects of several categories have no common pose"
        raise ConfigError("dataset.preprocess", "align", allowed)
    region, interest = dataset.region_of_interest, read_interest(dataset)
    box = Box(*region) if isinstance(region, tuple) else None
    normal = [sample for sample in samples if sample.normal]
    marked = sum(sample.foreground is not None for sample in normal)
    folder = None if dataset.preprocess == "none" else dataset.foreground
    if folder is not None and normal and not marked:
        which = f"{len(normal)} normal training images"
        raise no_masks("dataset.foreground", folder, "dataset.root", which, normal[0].path)
    places = list(_places(dataset, box, normal, lenient))
    stage, around, alignment = dataset.preprocess, None, None
    boxes = [place.object for place in places if place.object is not None]
    parts = [place.area.size for place in places]
    if stage != "none":
        _check_found(dataset, places)
    if stage == "centre" and boxes:
        around = largest(boxes)
        parts = [around]
    elif stage == "align" and boxes:
        alignment, around = _pose(places)
        parts = [around]
    elif stage in ("centre", "align"):
        stage = "none"  # Nothing to look at; whoever is lenient has said so.
    elif stage == "crop":
        parts = [(with_margin(p.object, p.area) if p.object else p.area).size for p in places]
    framing = Framing(
        canvas_size(dataset.image_size, parts),
        dataset.fit,
        box,
        stage,
        around,
        dataset.background,
        looked_at=None if interest is None else interest.mask,
        alignment=alignment,
        marked=folder is not None,
    )
    objects = None if dataset.preprocess == "none" else (len(boxes), len(places))
    found = Framings(framing, framing, _remark(dataset, framing, parts), objects, marked)
    wanted = dataset.evaluation_size
    if wanted is None:
        return found
    short = source_size(parts) if wanted == "source" else wanted
    return replace(found, measured=framing.scaled(short))


def _places(
    dataset: DatasetSpec, region: Box | None, normal: Iterable[Sample], lenient: bool
) -> Iterator[_Place]:
    def place(sample: Sample) -> _Place | None:
        path = sample.path
        try:
            if dataset.preprocess == "none":
                shape = shape_of(path, dataset.orientation)
                return _Place(path, area_of(shape, region, path))
            image = read_image(path, orientation=dataset.orientation)
            shape = (image.shape[1], image.shape[2])
            area = area_of(shape, region, path)
            inside, marked = cut(image, area), None
            if sample.foreground is not None:
                mask = read_object_mask(sample.foreground, shape, dataset.orientation).mask
                marked = mask[area.slices]
            found = find_object(inside, marked)
            if found is None:
                return _Place(path, area)
            part = Part.of(inside, found) if dataset.preprocess == "align" else None
            return _Place(path, area, found.box.moved(area.top, area.left), part)
        except DataError:
            if lenient:
                return None
            raise

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            yield from filter(None, pool.map(place, normal))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _pose(places: list[_Place]) -> tuple[Alignment, Size]:
    """The common pose of objects, and the size of the picture that holds any of them."""
    tall = median(math.log(place.area.size[0] / place.area.size[1]) for place in places) > 0
    return aligned([place.part for place in places if place.part is not None], tall)


def _check_found(dataset: DatasetSpec, places: list[_Place]) -> None:
    """Refuse what would take most images whole, as if nobody had asked for anything."""
    missing = [place for place in places if place.object is None]
    if 2 * len(missing) <= len(places):
        return
    if dataset.foreground is not None:
        raise ConfigError(
            "dataset.foreground",
            dataset.foreground,
            f"masks of objects: {len(missing)} of {len(places)} normal training images have none "
            f"(first {missing[0].path}), since nothing or everything is marked, or there is no "
            "mask and no object that stands out from the border",
        )
    raise ConfigError(
        "dataset.preprocess",
        dataset.preprocess,
        f"none, since no object stands out from the border of {len(missing)} of "
        f"{len(places)} normal training images (first {missing[0].path}); objects are found "
        "on a plain background that reaches the border, of which "
        "dataset.region_of_interest can cut out a part",
    )


def view_notes(path: Path, mask: Mask, view: View, dataset: DatasetSpec) -> tuple[Note, ...]:
    """What a person should know of how one image is seen.

    Args:
        path: The image.
        mask: Its ``(h, w)`` ground truth.
        view: What is seen of it.
        dataset: What was asked for.
    """
    notes = []
    stage = dataset.preprocess
    if stage != "none" and view.object is None:
        notes.append(Note(path, NO_OBJECT, f"set dataset.preprocess to none instead of {stage}"))
    if view.object is not None and not view.whole_object:
        kind = "has an object larger than any normal training image, cut at the canvas"
        sizes = [f"{h} x {w}" for h, w in (view.object.size, view.source.size)]
        remedy = "set dataset.preprocess to crop to see all of it"
        notes.append(Note(path, kind, remedy, f"{sizes[0]} on {sizes[1]} px"))
    if mask.any() and not view.seen(mask):
        key = "region_of_interest" if stage in ("none", "crop") else "preprocess"
        kind = "is anomalous only where nothing is looked at, so it counts as an image alone"
        notes.append(Note(path, kind, f"mend its mask, or change dataset.{key}"))
    return tuple(notes)


def _remark(dataset: DatasetSpec, framing: Framing, parts: list[Size]) -> tuple[str, str] | None:
    """What a canvas of quite another aspect does to the images, and what would not."""
    if isinstance(dataset.image_size, OwnShape) or not parts:
        return None
    height, width = framing.size
    aspect = math.exp(median(math.log(w / h) for h, w in parts))
    ratio = aspect / (width / height)
    if 1 / _ALIKE <= ratio <= _ALIKE:
        return None
    part = (round(median(h for h, _ in parts)), round(median(w for _, w in parts)))
    canvas = "the canvas of objects is"
    what = {"crop": "objects are", "centre": canvas, "align": canvas}.get(
        framing.preprocess, "images are"
    )
    if framing.region is not None and framing.preprocess in ("none", "mask"):
        what = "the region of interest is"
    own = f"{what} {part[0]} x {part[1]} px (height x width)"
    side = round(math.sqrt(height * width))
    remedy = f"dataset.image_size={{side: {side}}} keeps their shape at the same cost"
    if framing.fit == "stretch":
        longer = "widened" if ratio < 1 else "narrowed"
        return f"{own}, {longer} {max(ratio, 1 / ratio):.2g} times on a canvas of " + (
            size_text(framing.size)
        ), remedy
    tall, wide = fitted(part, framing.size, framing.fit).size
    share = 1 - tall * wide / (height * width)
    return f"{own}, and {share:.0%} of a canvas of {size_text(framing.size)} is padding", remedy
