"""All images of a dataset in one set, to be split anew; for estimates after a search only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from autosearch.data.framings import framings_of
from autosearch.data.index import Index, Sample
from autosearch.data.layouts.choose import open_index
from autosearch.data.load import accepted, digest_of
from autosearch.data.notes import summary
from autosearch.data.reading import Progress, read_splits
from autosearch.data.records import ImageSet
from autosearch.data.splits import settled, split_index
from autosearch.spec import DatasetSpec


@dataclass(frozen=True)
class Pool:
    """All images of a dataset.

    Attributes:
        images: In the order of their paths, masks at the size at which maps are measured.
        parts: What each was in the search: ``train``, ``val``, ``test`` or ``unused``.
        stated: Whether the dataset itself states that an image is a test one.
        info: For records: ``root``, ``category``, ``counts`` by type, ``sha256`` over the relative
            path and bytes of every image and mask, and ``notes``.
    """

    images: ImageSet
    parts: tuple[str, ...]
    stated: tuple[bool, ...]
    info: dict[str, object]


def load_pool(
    dataset: DatasetSpec, progress: Progress | None = None, index: Index | None = None
) -> Pool:
    """Read all images of a dataset, those of the test split among them; nothing may select on it.

    Args:
        dataset: As given to the search; images come in as they did there.
        progress: Told about every image read.
        index: Its files, if they were listed before.

    Raises:
        ConfigError: As `autosearch.data.load_search_data`.
        DataError: Likewise.
    """
    index = accepted(open_index(dataset) if index is None else index)
    dataset = settled(index, dataset)
    split = split_index(index, dataset)
    placed: list[tuple[Sample, str]] = [
        (sample, part)
        for part in ("train", "val", "test", "unused")
        for sample in getattr(split, part)
    ]
    placed.sort(key=lambda entry: entry[0].path)
    samples = tuple(sample for sample, _ in placed)
    framings = framings_of(dataset, split.train)
    read = read_splits(index, {"pool": samples}, dataset, framings, progress)["pool"]
    info: dict[str, object] = {
        "root": str(index.root),
        "category": index.category,
        "counts": dict(sorted(Counter(sample.type for sample in samples).items())),
        "sha256": digest_of("pool", read.lines, dataset),
        "notes": summary(read.notes, index.relative),
    }
    return Pool(
        read.images,
        tuple(part for _, part in placed),
        tuple(sample.split == "test" for sample in samples),
        info,
    )
