"""A dataset from disk to memory: what a search may see, and apart from it the test set."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

import numpy as np

from autosearch.data import tiles
from autosearch.data.drawn import (
    Defect,
    Drawn,
    beside_text,
    few_defects,
    made_for,
    small_defects,
)
from autosearch.data.framing import FITS, STAGES, size_text
from autosearch.data.framings import NO_OBJECT, framings_of
from autosearch.data.images import MASK_RULES, RESIZE_RULE
from autosearch.data.index import Index, Sample
from autosearch.data.interest import KEY, read_interest
from autosearch.data.layouts.choose import open_index
from autosearch.data.notes import Note, summary
from autosearch.data.reading import Progress, read_splits
from autosearch.data.records import ImageSet, SearchData
from autosearch.data.regions import REGION_RULES
from autosearch.data.split_words import (
    normals_text,
    orphan_notes,
    split_rule,
    synthetic_alone,
    unmarked_notes,
)
from autosearch.data.splits import settled, split_index
from autosearch.errors import DataError
from autosearch.spec import DatasetSpec


def load_search_data(
    dataset: DatasetSpec, progress: Progress | None = None, index: Index | None = None
) -> SearchData:
    """Read the train and validation images of a dataset, and no other.

    Args:
        dataset: Where the images are, how they are split and resized.
        progress: Told about every image read.
        index: Its files, if they were listed before.

    Returns:
        Read-only arrays in the order of the files' paths, but with the normal images of both
        splits in a row: the train split begins with its anomalous ones, if any, and validation
        ends with them. Large ones lie in a file that processes share. ``info`` is for records; its
        ``sha256`` covers split, relative path and bytes of every image and mask used, and how
        those were read that can be read in two ways; ``categories`` names them where there are
        several; ``notes`` says of how they were read, one line a kind,
        what was assumed, ``defects`` which anomalous images validate, and ``weak``, likewise, why
        they are too few or too small to rank trials by.

    Raises:
        ConfigError: The category, ``test_skip`` or ``validation.normal`` does not fit the dataset.
        DataError: The first file in the way, with a remedy.
    """
    index = accepted(open_index(dataset) if index is None else index)
    dataset = settled(index, dataset)
    split = split_index(index, dataset)
    framings = framings_of(dataset, split.train)
    framing = framings.input
    splits = {"train": split.train, "val": split.val}
    read = read_splits(index, splits, dataset, framings, progress)
    files = [f"{name}\0{line}" for name, part in read.items() for line in part.lines]
    files += _interest(dataset)
    alone = synthetic_alone(index, dataset)
    drawn, made = drawn_of(read["val"].images), made_for(dataset, split.val)
    size = size_text(framings.measured.size)
    few = few_defects(index, drawn, made, dataset)
    small = small_defects(index, drawn, made, dataset, size)
    idle = tiles.without_effect(dataset.tiling, framing.size)
    doubts = (*index.doubts(), *unmarked_notes(index, index.samples), *orphan_notes(index))
    info: dict[str, object] = {
        "name": index.root.name if dataset.root and dataset.name == "demo" else dataset.name,
        "category": index.category,
        **({"categories": [part.category for part in index.parts]} if index.parts else {}),
        "root": str(index.root),
        "root_name": index.root.name,
        "counts": {name: _count(samples) for name, samples in splits.items()},
        "sha256": _sha256(files),
        "image_size": list(framing.size),
        "framing": framing.to_plain(),
        "tiling": tiles.described(dataset.tiling, framing.size),
        "evaluation_size": list(framings.measured.size),
        "resize_rule": f"{RESIZE_RULE}; {FITS[dataset.fit]}",
        "preprocess": f"{dataset.preprocess}: {STAGES[dataset.preprocess]}"
        f"{'; objects as files mark them' if framing.marked else ''}",
        **_no_object(dataset, index, (*read["train"].notes, *read["val"].notes)),
        "mask_rule": f"{dataset.mask_rule}: {MASK_RULES[dataset.mask_rule]}",
        "regions": f"{dataset.regions}: {REGION_RULES[dataset.regions]}",
        "prevalence": dataset.prevalence,
        "rule": f"{split_rule(index, dataset)}; {normals_text(split.train, split.val)}"
        f"{beside_text(dataset, split.val)}",
        "defects": {kind: one.to_plain() for kind, one in drawn.items()},
        "notes": [
            *([f"{alone.kind}; {alone.remedy}"] if alone else []),
            *summary((*doubts, *read["train"].notes, *read["val"].notes), index.relative),
            *framings.told,
            *(["; ".join(idle)] if idle else []),
        ],
        "weak": [
            *([f"{few.text}; {few.remedy}"] if few else []),
            *summary(small, index.relative),
        ],
        "synthetic": dataset.root is None,
    }
    return SearchData(read["train"].images, read["val"].images, info, tuple(files))


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
    index = accepted(open_index(dataset))
    split = split_index(index, dataset)
    empty = [part for part in index.each if not split.within(part).test]
    if empty:
        raise DataError(
            empty[0].place,
            "the test split is empty",
            "add test images, or lower dataset.validation.real_per_type, dataset.test_skip or "
            "dataset.labelled",
        )
    framings = framings_of(dataset, split.train)
    read = read_splits(index, {"test": split.test}, dataset, framings, progress)["test"]
    info: dict[str, object] = {
        "counts": _count(split.test),
        "sha256": digest_of("test", read.lines, dataset),
        "notes": summary((*unmarked_notes(index, split.test), *read.notes), index.relative),
    }
    return read.images, info


def drawn_of(val: ImageSet) -> dict[str, Drawn]:
    """What a validation split holds of every anomaly type."""
    marked = val.marked
    return Drawn.of(
        Defect(val.types[i], val.paths[i], int(val.masks[i].sum()) if marked[i] else None)
        for i in np.flatnonzero(val.labels).tolist()
    )


def accepted(index: Index) -> Index:
    """The index of a dataset, unless its names have a fault."""
    if index.faults:
        raise index.faults[0]
    return index


def digest_of(name: str, lines: Iterable[str], dataset: DatasetSpec) -> str:
    """SHA-256 over the files of one split of a name, and the mask of what is looked at."""
    return _sha256([*(f"{name}\0{line}" for line in lines), *_interest(dataset)])


def _no_object(dataset: DatasetSpec, index: Index, notes: Iterable[Note]) -> dict[str, object]:
    """``no_object``: names of images in which none was found; nothing where none is looked for."""
    if dataset.preprocess == "none":
        return {}
    return {"no_object": [index.relative(note.path) for note in notes if note.kind == NO_OBJECT]}


def _interest(dataset: DatasetSpec) -> list[str]:
    """The mask of what is looked at as one more file; nothing where there is none."""
    found = read_interest(dataset)
    return [] if found is None else [f"region\0{KEY}\0{found.sha256}"]


def _sha256(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _count(samples: Iterable[Sample]) -> dict[str, int]:
    return dict(sorted(Counter(sample.type for sample in samples).items()))
