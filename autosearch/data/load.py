"""A dataset from disk to memory: what a search may see, and apart from it the test set."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autosearch.data.images import (
    MASK_RULES,
    RESIZE_RULE,
    read_image,
    read_mask,
    resize,
    resize_mask,
)
from autosearch.data.layouts import Index, Sample, open_index
from autosearch.data.records import ImageSet, SearchData
from autosearch.data.splits import first_test_position, split_index
from autosearch.errors import DataError
from autosearch.spec import DatasetSpec

_SMALLEST = 8
"""Pixels a side; what is smaller is a placeholder, or was cut off."""

Progress = Callable[[int, int], None]
"""Called with the number of images done and their total."""


@dataclass(frozen=True)
class Original:
    """An image and its ground truth at the size of the file.

    Attributes:
        image: ``(3, H, W)`` float32 RGB in [0, 1].
        mask: ``(H, W)`` bool, true where anomalous.
        levels: Number of distinct values in the mask file, 1 where there is none.
        digests: SHA-256 of the image file and of the mask file; the latter may be empty.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.bool_]
    levels: int
    digests: tuple[str, str]


def load_search_data(dataset: DatasetSpec, progress: Progress | None = None) -> SearchData:
    """Read the train and validation images of a dataset, and no other.

    Args:
        dataset: Where the images are, how they are split and resized.
        progress: Told about every image read.

    Returns:
        Read-only arrays in the order of the files' paths, with an ``info`` for records. Its
        ``sha256`` covers split, relative path and bytes of every image and mask used.

    Raises:
        ConfigError: The category, ``test_skip`` or ``validation.normal`` does not fit the dataset.
        DataError: The first file in the way, with a remedy.
    """
    index = open_index(dataset)
    split = split_index(index, dataset)
    tick = _ticker(progress, len(split.train) + len(split.val))
    train, train_files = _read_all(index, split.train, dataset, tick)
    val, val_files = _read_all(index, split.val, dataset, tick)
    counts = {"train": _count(split.train), "val": _count(split.val)}
    files = [f"train\0{line}" for line in train_files] + [f"val\0{line}" for line in val_files]
    info: dict[str, object] = {
        "name": index.root.name if dataset.root and dataset.name == "demo" else dataset.name,
        "category": index.category,
        "root": str(index.root),
        "root_name": index.root.name,
        "counts": counts,
        "sha256": _sha256(files),
        "image_size": dataset.image_size,
        "resize_rule": RESIZE_RULE,
        "mask_rule": f"{dataset.mask_rule}: {MASK_RULES[dataset.mask_rule]}",
        "rule": _rule(dataset),
        "synthetic": dataset.root is None,
    }
    return SearchData(train, val, info)


def load_test_set(
    dataset: DatasetSpec, progress: Progress | None = None
) -> tuple[ImageSet, dict[str, object]]:
    """Read the test images, for final figures only; nothing that selects may call this.

    Args:
        dataset: As given to the search.
        progress: Told about every image read.

    Returns:
        Read-only arrays in the order of the files' paths, and an info: ``counts`` of images by
        type, and ``sha256`` over relative path and bytes of every image and mask.

    Raises:
        ConfigError: As `load_search_data`.
        DataError: As `load_search_data`, or the test split is empty.
    """
    index = open_index(dataset)
    split = split_index(index, dataset)
    if not split.test:
        raise DataError(
            index.root / index.category,
            "the test split is empty",
            "add test images, or lower dataset.validation.real_per_type, dataset.test_skip or "
            "dataset.labelled",
        )
    tick = _ticker(progress, len(split.test))
    images, files = _read_all(index, split.test, dataset, tick)
    info: dict[str, object] = {
        "counts": _count(split.test),
        "sha256": _sha256(f"test\0{line}" for line in files),
    }
    return images, info


def read_sample(sample: Sample) -> Original:
    """Read an image with its mask and refuse what no metric could be computed from.

    Raises:
        DataError: A file cannot be read, the image is tiny, an anomalous image has no mask or an
            empty one, a normal image has a mask that is not empty, or the shapes differ.
    """
    data = _bytes(sample.path)
    image = read_image(sample.path, data)
    digest = hashlib.sha256(data).hexdigest()
    if min(image.shape[1:]) < _SMALLEST:
        remedy = f"remove it, or save it with {_SMALLEST} pixels a side and more"
        raise DataError(sample.path, f"the image is {_size(image)} pixels", remedy)
    if sample.mask_path is None:
        if not sample.normal:
            raise DataError(
                sample.path,
                "an anomalous image without mask",
                "add ground_truth/<type>/<name>_mask.png or fill the CSV's mask column",
            )
        return Original(image, np.zeros(image.shape[1:], dtype=bool), 1, (digest, ""))
    data = _bytes(sample.mask_path)
    mask, levels = read_mask(sample.mask_path, data)
    if mask.shape != image.shape[1:]:
        raise DataError(
            sample.mask_path,
            f"the mask is {_size(mask)} pixels, its image {_size(image)}",
            "save the mask at the size of its image",
        )
    if mask.any() == sample.normal:
        what = "marks a defect in a normal image" if sample.normal else "marks no pixel"
        raise DataError(sample.mask_path, f"the mask {what}", "correct the mask or the label")
    return Original(image, mask, levels, (digest, hashlib.sha256(data).hexdigest()))


def _rule(dataset: DatasetSpec) -> str:
    """How anomalous images were split, for people."""
    labelled = dataset.labelled
    if labelled is None:
        k, skip = dataset.validation.real_per_type, first_test_position(dataset)
        later = f"; test from number {skip + 1} on" if skip > k else ""
        return f"{k} per anomaly type for validation{later}"
    return f"of each anomaly type {labelled.train:.0%} for training, {labelled.val:.0%} validation"


def _read_all(
    index: Index, samples: tuple[Sample, ...], dataset: DatasetSpec, tick: Callable[[], None]
) -> tuple[ImageSet, list[str]]:
    """The samples as arrays, and a line with name and hashes for each."""
    size = dataset.image_size
    pixels = np.empty((len(samples), 3, size, size), dtype=np.float32)
    masks = np.empty((len(samples), size, size), dtype=bool)

    def read(i: int) -> tuple[str, str]:
        original = read_sample(samples[i])
        pixels[i] = resize(original.image, size)
        masks[i] = resize_mask(original.mask, size, dataset.mask_rule)
        return original.digests

    names = tuple(index.relative(sample.path) for sample in samples)
    lines = []
    # Decoding and resizing release the interpreter lock, so threads do help.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            for name, digests in zip(names, pool.map(read, range(len(samples))), strict=True):
                lines.append("\0".join((name, *digests)))
                tick()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    pixels.setflags(write=False)
    masks.setflags(write=False)
    types = tuple(sample.type for sample in samples)
    groups = tuple(sample.group for sample in samples)
    return ImageSet(pixels, masks, types, names, groups), lines


def _ticker(progress: Progress | None, total: int) -> Callable[[], None]:
    """What is called after every image, to tell ``progress``."""
    done = itertools.count(1)
    return lambda: progress(next(done), total) if progress else None


def _sha256(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


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


def _count(samples: Iterable[Sample]) -> dict[str, int]:
    return dict(sorted(Counter(sample.type for sample in samples).items()))
