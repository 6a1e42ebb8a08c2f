"""One image with its ground truth, at the size of the file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autosearch.data.decoding import Decoded, content_of, decode
from autosearch.data.images import rgb_of
from autosearch.data.index import Sample, Saturation, means_normal
from autosearch.data.mask_folder import read_object_mask
from autosearch.data.masks import MaskReading, mask_of
from autosearch.data.notes import Note
from autosearch.data.records import NORMAL
from autosearch.data.regions import label_regions
from autosearch.errors import DataError
from autosearch.spec import DatasetSpec

_SMALLEST = 8
"""Pixels a side; what is smaller is a placeholder, or was cut off."""

NO_FOREGROUND = "has no mask in dataset.foreground, so its object is looked for in it"
"""Kind of the note about an image whose object no file marks, where files do."""

_KEY = "dataset.orientation"
_ACROSS = range(5, 9)
"""EXIF orientations under which width and height change places."""


@dataclass(frozen=True)
class Original:
    """An image and its ground truth at the size of the file.

    Attributes:
        image: ``(3, H, W)`` float32 RGB in [0, 1].
        mask: ``(H, W)`` bool, true where anomalous.
        digests: SHA-256 of the image file and of the mask file, or of each, or of outlines; the
            latter may be empty. Then what else tells it from other readings of the same files, if
            there are any.
        notes: What was assumed of the files.
        flat: Whether the image has two grey levels at most, as masks have.
        saturation: Of each 8-connected region of ``mask``, in the order of `label_regions`, the
            share of its area that has to be covered; empty where that is all of it.
        unmarked: Whether the image is anomalous and nothing says where; ``mask`` is all false.
        foreground: ``(H, W)`` bool, true on the object that a file marks; None where none does.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.bool_]
    digests: tuple[str, ...]
    notes: tuple[Note, ...]
    flat: bool
    saturation: tuple[float, ...] = ()
    unmarked: bool = False
    foreground: NDArray[np.bool_] | None = None


def read_sample(sample: Sample, dataset: DatasetSpec) -> Original:
    """Read an image with its mask and refuse what no metric could be computed from.

    Args:
        sample: Where they are.
        dataset: How masks and EXIF orientations are read.

    Raises:
        DataError: A file cannot be read, the image is tiny, an anomalous image has an empty mask,
            or none and a type that means normal, a normal image has a mask that is not empty, or
            the shapes differ; or the mask of its object is of another aspect.
    """
    data = content_of(sample.path)
    picture = decode(sample.path, data, dataset.orientation)
    image = rgb_of(picture)
    digests = [hashlib.sha256(data).hexdigest(), ""]
    if min(image.shape[1:]) < _SMALLEST:
        remedy = f"remove it, or save it with {_SMALLEST} pixels a side and more"
        raise DataError(sample.path, f"the image is {_size(image)} pixels", remedy)
    notes = picture.page_notes()
    mask = np.zeros(image.shape[1:], dtype=bool)
    turned = picture.turn != 1
    saturation: tuple[float, ...] = ()
    unmarked = not sample.marked and not sample.normal
    if unmarked:
        _check_type(sample)
    if sample.marked:
        truth = _truth(sample, picture, dataset)
        mask, saturation = truth.mask, truth.saturation
        notes += truth.notes
        turned |= truth.turned
        digests[1:] = truth.digests
    if turned and dataset.orientation == "stored":
        digests.append(dataset.orientation)
    foreground = None
    if sample.foreground is not None:
        shape = picture.picture.size[::-1]
        foreground, digest = read_object_mask(sample.foreground, shape, dataset.orientation)
        digests.append(f"foreground {digest}")
    elif dataset.foreground is not None:
        remedy = "add it, or set dataset.foreground to null"
        notes += (Note(sample.path, NO_FOREGROUND, remedy),)
    return Original(
        image, mask, tuple(digests), notes, _flat(image), saturation, unmarked, foreground
    )


def file_digest(sample: Sample) -> str:
    """SHA-256 over all that an image and its ground truth are read from, without decoding it.

    Raises:
        DataError: A file cannot be read.
    """
    digest = hashlib.sha256()
    files = (sample.path, *sample.masks)
    for path in files if sample.foreground is None else (*files, sample.foreground):
        digest.update(hashlib.sha256(content_of(path)).digest())
    if sample.outlines is not None:
        digest.update(sample.outlines.digest.encode())
    return digest.hexdigest()


def flat_notes(paths: list[Path], among: int) -> list[Note]:
    """Images of two grey levels, where they are not the rule.

    Args:
        paths: Images with two grey levels at most.
        among: How many images there are in all.
    """
    if 2 * len(paths) > among:
        return []
    kind = "is an image of two grey levels at most, as masks are, among photographs"
    return [Note(path, kind, "remove it if it is a mask, or broken") for path in paths]


def _check_type(sample: Sample) -> None:
    """Refuse what may be a normal image under another name."""
    if means_normal(sample.type):
        remedy = f"name the type {NORMAL} if {sample.type} images are normal, or add masks"
        raise DataError(sample.path, "an anomalous image without mask", remedy)


@dataclass(frozen=True)
class _Truth:
    """What masks and outlines of an image say together; as `Original` has it."""

    mask: NDArray[np.bool_]
    digests: list[str]
    notes: tuple[Note, ...]
    turned: bool
    saturation: tuple[float, ...]


def _truth(sample: Sample, picture: Decoded, dataset: DatasetSpec) -> _Truth:
    width, height = picture.picture.size
    mask = np.zeros((height, width), dtype=bool)
    digests: list[str] = []
    notes: tuple[Note, ...] = ()
    files: list[Decoded] = []
    readings: list[MaskReading] = []
    for path in sample.masks:
        data = content_of(path)
        file = decode(path, data, dataset.orientation)
        reading = mask_of(file, dataset.mask_reading)
        notes += file.page_notes()
        notes += _fit(sample, path, picture, reading, dataset)
        mask |= reading.mask
        digests.append(hashlib.sha256(data).hexdigest())
        files.append(file)
        readings.append(reading)
    if sample.outlines is not None:
        drawn, more = sample.outlines.mask(sample.path, width, height)
        notes += more
        if picture.turn != 1 and dataset.orientation == "upright":
            kind = "has an EXIF orientation, and its outlines are taken to be drawn on it upright"
            remedy = f"set {_KEY} to stored if they were drawn on the image as it is stored"
            notes += (Note(sample.path, kind, remedy, f"orientation {picture.turn}"),)
        mask |= drawn
        digests.append(sample.outlines.digest)
    if mask.any() == sample.normal:
        what = "marks a defect in a normal image" if sample.normal else "marks no pixel"
        where = [*sample.masks, *([sample.outlines.file] if sample.outlines else [])][0]
        raise DataError(where, f"the mask {what}", "correct the mask or the label")
    if not all(reading.certain for reading in readings):
        digests.append(hashlib.sha256(np.packbits(mask).tobytes()).hexdigest())
    shares: tuple[float, ...] = ()
    if sample.saturation:
        wanted = [
            _share(file, sample.saturation, r.mask)
            for file, r in zip(files, readings, strict=True)
        ]
        shares = _region_shares(mask, [reading.mask for reading in readings], wanted)
        digests.append(hashlib.sha256(repr(shares).encode()).hexdigest())
    turned = any(file.turn != 1 for file in files)
    return _Truth(mask, digests, notes, turned, shares)


def _share(file: Decoded, known: Sequence[Saturation], mask: NDArray[np.bool_]) -> float:
    """The share of a mask's area that has to be covered."""
    value = int(
        np.asarray(file.picture.convert("L") if file.picture.mode == "P" else file.picture).max()
    )
    found = next((entry for entry in known if entry.value == value), None)
    if found is None:
        values = ", ".join(str(entry.value) for entry in known)
        problem = f"marks pixels with {value}, which stands for no defect"
        raise DataError(
            file.path, problem, f"use one of {values}, as defects_config.json has them"
        )
    if found.relative:
        return found.threshold
    return min(1.0, found.threshold / max(1, int(mask.sum())))


def _region_shares(
    mask: NDArray[np.bool_], parts: Sequence[NDArray[np.bool_]], shares: Sequence[float]
) -> tuple[float, ...]:
    """For every region of a mask the share of that part which holds most of the region."""
    labels = label_regions(mask)
    count = int(labels.max(initial=0))
    held = [np.bincount(labels[part], minlength=count + 1)[1:] for part in parts]
    return tuple(shares[i] for i in np.argmax(held, axis=0))


def _fit(
    sample: Sample, path: Path, picture: Decoded, reading: MaskReading, dataset: DatasetSpec
) -> tuple[Note, ...]:
    """Refuse a mask that is not of its image's size; what was assumed where it is."""
    mask, image = reading.mask, np.empty(picture.picture.size[::-1], dtype=bool)
    otherwise = reading.turn != picture.turn
    if mask.shape != image.shape:
        problem = f"the mask is {_size(mask)} pixels, its image {_size(image)}"
        remedy = "save the mask at the size of its image"
        across = (reading.turn in _ACROSS) != (picture.turn in _ACROSS)
        if across and mask.shape == image.shape[::-1] and dataset.orientation == "upright":
            problem += ", since only one of them is turned by an EXIF orientation"
            remedy = f"set {_KEY} to stored if the mask was drawn on the image as it is stored"
        raise DataError(path, problem, remedy)
    if sample.normal or not otherwise or dataset.orientation == "stored":
        return reading.notes
    kind = "is of an image with another EXIF orientation, both of which are turned upright"
    detail = f"orientation {reading.turn}, its image {picture.turn}"
    remedy = f"set {_KEY} to stored if it was drawn on the image as it is stored"
    return (*reading.notes, Note(path, kind, remedy, detail))


def _flat(image: NDArray[np.float32]) -> bool:
    """Whether an image has two grey levels at most."""
    first = image[0]
    low, high = first.min(), first.max()
    few = bool(((first == low) | (first == high)).all())
    return few and np.array_equal(first, image[1]) and np.array_equal(first, image[2])


def _size(image: NDArray[np.generic]) -> str:
    return f"{image.shape[-1]}x{image.shape[-2]}"
