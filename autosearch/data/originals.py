"""One image with its ground truth, at the size of the file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autosearch.data.decoding import Decoded, decode
from autosearch.data.images import rgb_of
from autosearch.data.index import Sample, means_normal
from autosearch.data.masks import MaskReading, mask_of
from autosearch.data.notes import Note
from autosearch.data.records import NORMAL
from autosearch.errors import DataError
from autosearch.spec import DatasetSpec

_SMALLEST = 8
"""Pixels a side; what is smaller is a placeholder, or was cut off."""

_KEY = "dataset.orientation"
_ACROSS = range(5, 9)
"""EXIF orientations under which width and height change places."""


@dataclass(frozen=True)
class Original:
    """An image and its ground truth at the size of the file.

    Attributes:
        image: ``(3, H, W)`` float32 RGB in [0, 1].
        mask: ``(H, W)`` bool, true where anomalous.
        digests: SHA-256 of the image file and of the mask file; the latter may be empty. Then
            what else tells it from other readings of the same files, if there are any.
        notes: What was assumed of the files.
        flat: Whether the image has two grey levels at most, as masks have.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.bool_]
    digests: tuple[str, ...]
    notes: tuple[Note, ...]
    flat: bool


def read_sample(sample: Sample, dataset: DatasetSpec) -> Original:
    """Read an image with its mask and refuse what no metric could be computed from.

    Args:
        sample: Where they are.
        dataset: How masks and EXIF orientations are read.

    Raises:
        DataError: A file cannot be read, the image is tiny, an anomalous image has no mask or an
            empty one, a normal image has a mask that is not empty, or the shapes differ.
    """
    data = _bytes(sample.path)
    picture = decode(sample.path, data, dataset.orientation)
    image = rgb_of(picture)
    digests = [hashlib.sha256(data).hexdigest(), ""]
    if min(image.shape[1:]) < _SMALLEST:
        remedy = f"remove it, or save it with {_SMALLEST} pixels a side and more"
        raise DataError(sample.path, f"the image is {_size(image)} pixels", remedy)
    notes = picture.page_notes()
    mask = np.zeros(image.shape[1:], dtype=bool)
    turned = picture.turn != 1
    if sample.mask_path is None:
        _check_unmarked(sample)
    else:
        data = _bytes(sample.mask_path)
        file = decode(sample.mask_path, data, dataset.orientation)
        reading = mask_of(file, dataset.mask_reading)
        mask = reading.mask
        notes += file.page_notes()
        notes += _fit(sample, sample.mask_path, picture, reading, dataset)
        turned |= file.turn != 1
        digests[1] = hashlib.sha256(data).hexdigest()
        if not reading.certain:
            digests.append(hashlib.sha256(np.packbits(mask).tobytes()).hexdigest())
    if turned and dataset.orientation == "stored":
        digests.append(dataset.orientation)
    return Original(image, mask, tuple(digests), notes, _flat(image))


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


def _check_unmarked(sample: Sample) -> None:
    if sample.normal:
        return
    remedy = "add ground_truth/<type>/<name>_mask.png or fill the CSV's mask column"
    if means_normal(sample.type):
        remedy = f"name the type {NORMAL} if {sample.type} images are normal, or {remedy}"
    raise DataError(sample.path, "an anomalous image without mask", remedy)


def _fit(
    sample: Sample, path: Path, picture: Decoded, reading: MaskReading, dataset: DatasetSpec
) -> tuple[Note, ...]:
    """Refuse a mask that is not of its image; what was assumed where it is."""
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
    if mask.any() == sample.normal:
        what = "marks a defect in a normal image" if sample.normal else "marks no pixel"
        raise DataError(path, f"the mask {what}", "correct the mask or the label")
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


def _bytes(path: Path) -> bytes:
    try:
        # A device or a pipe would be read for ever.
        if path.exists() and not path.is_file():
            raise DataError(path, "is no file", "name an image")
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            path, f"cannot be opened ({error.strerror})", "restore or remove the file"
        ) from error


def _size(image: NDArray[np.generic]) -> str:
    return f"{image.shape[-1]}x{image.shape[-2]}"
