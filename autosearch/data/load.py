"""A dataset from disk to memory: what a search may see, and apart from it the test set."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from autosearch.data.framing import FITS
from autosearch.data.framings import Framings, framings_of
from autosearch.data.images import MASK_RULES, RESIZE_RULE
from autosearch.data.index import Index, Sample
from autosearch.data.layouts import open_index
from autosearch.data.notes import Note, summary
from autosearch.data.originals import flat_notes, read_sample
from autosearch.data.records import ImageSet, SearchData
from autosearch.data.regions import REGION_RULES
from autosearch.data.splits import first_test_position, split_index
from autosearch.errors import DataError
from autosearch.spec import DatasetSpec

Progress = Callable[[int, int], None]
"""Called with the number of images done and their total."""


def load_search_data(dataset: DatasetSpec, progress: Progress | None = None) -> SearchData:
    """Read the train and validation images of a dataset, and no other.

    Args:
        dataset: Where the images are, how they are split and resized.
        progress: Told about every image read.

    Returns:
        Read-only arrays in the order of the files' paths, with an ``info`` for records. Its
        ``sha256`` covers split, relative path and bytes of every image and mask used, and how
        those were read that can be read in two ways; ``notes`` says of these, one line a kind,
        what was assumed.

    Raises:
        ConfigError: The category, ``test_skip`` or ``validation.normal`` does not fit the dataset.
        DataError: The first file in the way, with a remedy.
    """
    index = _accepted(dataset)
    split = split_index(index, dataset)
    tick = _ticker(progress, len(split.train) + len(split.val))
    framings = framings_of(dataset, split.train)
    framing = framings.input
    fitting = Framings(framing, framing)
    train, train_files, train_notes = _read_all(index, split.train, dataset, fitting, tick)
    val, val_files, val_notes = _read_all(index, split.val, dataset, framings, tick)
    counts = {"train": _count(split.train), "val": _count(split.val)}
    files = [f"train\0{line}" for line in train_files] + [f"val\0{line}" for line in val_files]
    info: dict[str, object] = {
        "name": index.root.name if dataset.root and dataset.name == "demo" else dataset.name,
        "category": index.category,
        "root": str(index.root),
        "root_name": index.root.name,
        "counts": counts,
        "sha256": _sha256(files),
        "image_size": list(framing.size),
        "framing": framing.to_plain(),
        "evaluation_size": list(framings.measured.size),
        "resize_rule": f"{RESIZE_RULE}; {FITS[dataset.fit]}",
        "mask_rule": f"{dataset.mask_rule}: {MASK_RULES[dataset.mask_rule]}",
        "regions": f"{dataset.regions}: {REGION_RULES[dataset.regions]}",
        "prevalence": dataset.prevalence,
        "rule": _rule(dataset),
        "notes": summary((*index.doubts(), *train_notes, *val_notes), index.relative),
        "synthetic": dataset.root is None,
    }
    return SearchData(train, val, info, tuple(files))


def load_test_set(
    dataset: DatasetSpec, progress: Progress | None = None
) -> tuple[ImageSet, dict[str, object]]:
    """Read the test images, for final figures only; nothing that selects may call this.

    Args:
        dataset: As given to the search.
        progress: Told about every image read.

    Returns:
        Read-only arrays in the order of the files' paths, and an info: ``counts`` of images by
        type, ``sha256`` over relative path and bytes of every image and mask, ``notes`` as those
        of `load_search_data`.

    Raises:
        ConfigError: As `load_search_data`.
        DataError: As `load_search_data`, or the test split is empty.
    """
    index = _accepted(dataset)
    split = split_index(index, dataset)
    if not split.test:
        raise DataError(
            index.root / index.category,
            "the test split is empty",
            "add test images, or lower dataset.validation.real_per_type, dataset.test_skip or "
            "dataset.labelled",
        )
    tick = _ticker(progress, len(split.test))
    framings = framings_of(dataset, split.train)
    images, files, notes = _read_all(index, split.test, dataset, framings, tick)
    info: dict[str, object] = {
        "counts": _count(split.test),
        "sha256": _sha256(f"test\0{line}" for line in files),
        "notes": summary(notes, index.relative),
    }
    return images, info


def _accepted(dataset: DatasetSpec) -> Index:
    """The index of a dataset whose names have no fault."""
    index = open_index(dataset)
    if index.faults:
        raise index.faults[0]
    return index


def _rule(dataset: DatasetSpec) -> str:
    """How anomalous images were split, for people."""
    labelled = dataset.labelled
    if labelled is None:
        k, skip = dataset.validation.real_per_type, first_test_position(dataset)
        later = f"; test from number {skip + 1} on" if skip > k else ""
        return f"{k} per anomaly type for validation{later}"
    return f"of each anomaly type {labelled.train:.0%} for training, {labelled.val:.0%} validation"


def _read_all(
    index: Index,
    samples: tuple[Sample, ...],
    dataset: DatasetSpec,
    framings: Framings,
    tick: Callable[[], None],
) -> tuple[ImageSet, list[str], list[Note]]:
    """The samples as arrays, a line with name and hashes for each, and what was assumed."""
    framing, measured = framings.input, framings.measured
    pixels = np.empty((len(samples), 3, *framing.size), dtype=np.float32)
    masks = np.zeros((len(samples), *measured.size), dtype=bool)
    outside = np.zeros(masks.shape, dtype=bool)
    regions = None
    if dataset.regions == "source" and not all(sample.normal for sample in samples):
        regions = np.zeros(masks.shape, dtype=np.int32)

    def read(i: int) -> tuple[tuple[str, ...], tuple[Note, ...], bool]:
        original = read_sample(samples[i], dataset)
        told = (original.digests, original.notes, original.flat)
        shape = original.mask.shape
        view = framing.view(shape)
        pixels[i] = framing.pixels(original.image, view)
        seen = measured.view(shape)
        inside = measured.valid(seen)
        if inside is not None:
            outside[i] = ~inside
        if not original.mask.any():
            return told
        if regions is None:
            masks[i] = measured.mask(original.mask, seen, dataset.mask_rule)
        else:
            regions[i] = measured.regions(original.mask, seen, dataset.mask_rule).labels
            masks[i] = regions[i] > 0
        return told

    names = tuple(index.relative(sample.path) for sample in samples)
    lines: list[str] = []
    notes: list[Note] = []
    flat: list[Path] = []
    # Decoding and resizing release the interpreter lock, so threads do help.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            for i, (digests, more, few) in enumerate(pool.map(read, range(len(samples)))):
                lines.append("\0".join((names[i], *digests)))
                notes += more
                flat += [samples[i].path] if few else []
                tick()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    types = tuple(sample.type for sample in samples)
    groups = tuple(sample.group for sample in samples)
    images = ImageSet(
        pixels,
        masks,
        types,
        names,
        groups,
        regions=regions,
        valid=~outside if outside.any() else None,
    ).locked()
    return images, lines, notes + flat_notes(flat, len(samples))


def _ticker(progress: Progress | None, total: int) -> Callable[[], None]:
    """What is called after every image, to tell ``progress``."""
    done = itertools.count(1)
    return lambda: progress(next(done), total) if progress else None


def _sha256(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _count(samples: Iterable[Sample]) -> dict[str, int]:
    return dict(sorted(Counter(sample.type for sample in samples).items()))
