"""From samples to arrays: in memory where they are few, else in a file that is made once."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from autosearch.data import store
from autosearch.data.framing import Framing
from autosearch.data.framings import Framings, view_notes
from autosearch.data.index import Index, Sample
from autosearch.data.notes import Note
from autosearch.data.originals import file_digest, flat_notes, read_sample
from autosearch.data.records import ImageSet
from autosearch.spec import DatasetSpec

Progress = Callable[[int, int], None]
"""Called with the number of images done and their total."""

_VERSION = 1
"""Of what an entry of the store holds; whoever changes how images are read counts it up."""

_NOT_READ = {"name", "root", "category", "validation", "labelled", "test_skip", "prevalence",
             "seed", "tiling", "foreground"}  # fmt: skip
"""Keys of a dataset that change nothing about how one image is read."""

Array = NDArray[Any]
_Item = TypeVar("_Item")


class Read(NamedTuple):
    """What was read of one split.

    Attributes:
        images: The arrays, those of the train split with anomalous images first, those of
            validation with normal ones first, so that all normal ones lie in a row.
        lines: Name and hashes of each file, in the order of the samples.
        notes: What was assumed.
    """

    images: ImageSet
    lines: list[str]
    notes: list[Note]


@dataclass(frozen=True)
class _Told:
    """What one image says besides its pixels."""

    line: str
    notes: tuple[Note, ...]
    flat: bool
    unmarked: bool


def read_splits(
    index: Index,
    splits: Mapping[str, tuple[Sample, ...]],
    dataset: DatasetSpec,
    framings: Framings,
    progress: Progress | None,
) -> dict[str, Read]:
    """Read the images of several splits.

    Args:
        index: Where they are.
        splits: Samples by the name of their split.
        dataset: How they are read.
        framings: How they come in; those of ``train`` are measured at the size of the input.
        progress: Told about every image.

    Raises:
        DataError: The first file in the way, with a remedy.
    """
    plans = [
        _Plan.of(name, samples, framings.input if name == "train" else framings.measured)
        for name, samples in splits.items()
    ]
    alike = all(plan.measured == plans[0].measured for plan in plans)
    groups = [plans] if alike else [[plan] for plan in plans]
    jobs = [_Job(index, dataset, framings.input, group) for group in groups]
    tick = _ticker(progress, sum(job.ticks for job in jobs))
    found: dict[str, Read] = {}
    for job in jobs:
        found |= job.run(tick)
    return {name: found[name] for name in splits}


@dataclass(frozen=True)
class _Plan:
    """One split, its images in the order of the arrays."""

    name: str
    samples: tuple[Sample, ...]
    order: tuple[int, ...]
    measured: Framing

    @classmethod
    def of(cls, name: str, samples: tuple[Sample, ...], measured: Framing) -> _Plan:
        order = list(range(len(samples)))
        if name in ("train", "val"):
            order.sort(key=lambda i: samples[i].normal == (name == "train"))
        return cls(name, samples, tuple(order), measured)


class _Job:
    """Splits that share their arrays."""

    def __init__(
        self, index: Index, dataset: DatasetSpec, framing: Framing, plans: Sequence[_Plan]
    ) -> None:
        self._index, self._dataset, self._framing, self._plans = index, dataset, framing, plans
        self._samples = [plan.samples[i] for plan in plans for i in plan.order]
        count, size = len(self._samples), plans[0].measured.size
        self._measured = plans[0].measured
        self._shapes: dict[str, tuple[tuple[int, ...], Any]] = {
            "pixels": ((count, 3, *framing.size), np.float32),
            "masks": ((count, *size), np.bool_),
            "valid": ((count, *size), np.bool_),
        }
        # Regions are for metrics, and no image of the train split is measured.
        self._later = len(plans[0].samples) if plans[0].name == "train" else 0
        if dataset.regions == "source" and not all(s.normal for s in self._samples[self._later :]):
            self._shapes["regions"] = ((count - self._later, *size), np.int32)
        self._bytes = store.size_of(self._shapes)
        self._large = self._bytes >= store.LARGE

    @property
    def ticks(self) -> int:
        """How often progress is told."""
        return len(self._samples) * (2 if self._large else 1)

    def run(self, tick: Callable[[], None]) -> dict[str, Read]:
        """Read all, or map what was read before."""
        entry = None
        if self._large:
            folder = store.folder_of(self._key(tick))
            entry = store.opened(folder)
            if entry is not None:
                for _ in self._samples:
                    tick()
            elif store.room_for(self._bytes):
                entry = store.write(folder, self._shapes, lambda arrays: self._fill(arrays, tick))
        if entry is not None:
            return self._parts(entry.arrays, entry.about, entry.folder)
        arrays = {name: np.zeros(shape, kind) for name, (shape, kind) in self._shapes.items()}
        about = self._fill(arrays, tick)
        for name in about["left_out"]:
            del arrays[name]
        return self._parts(arrays, about, None)

    def _key(self, tick: Callable[[], None]) -> str:
        """SHA-256 of all that the arrays follow from."""
        digests = []
        for digest in _threaded(file_digest, self._samples):
            digests.append(digest)
            tick()
        plain = {
            "version": _VERSION,
            "dataset": self._dataset.model_dump(mode="json", exclude=_NOT_READ),
            "framings": [self._framing.to_plain(), self._measured.to_plain()],
            "splits": [[plan.name, plan.order] for plan in self._plans],
            "samples": [
                [self._name(sample.path), sample.type, sample.group, digest]
                for sample, digest in zip(self._samples, digests, strict=True)
            ],
        }
        return hashlib.sha256(json.dumps(plain).encode()).hexdigest()

    def _fill(self, arrays: Mapping[str, Array], tick: Callable[[], None]) -> dict[str, Any]:
        """Read every image into its place; what is to be known besides."""
        told: list[_Told] = []
        for entry in _threaded(lambda i: self._read(arrays, i), range(len(self._samples))):
            told.append(entry)
            tick()
        return {
            "types": [sample.type for sample in self._samples],
            "paths": [self._name(sample.path) for sample in self._samples],
            "groups": [sample.group for sample in self._samples],
            "unmarked": [entry.unmarked for entry in told],
            "regions_from": self._later,
            "left_out": ["valid"] if bool(arrays["valid"].all()) else [],
            "lines": [entry.line for entry in told],
            "flat": [entry.flat for entry in told],
            "notes": [[self._plain(note) for note in entry.notes] for entry in told],
        }

    def _name(self, path: Path) -> str:
        return self._index.relative(path)

    def _plain(self, note: Note) -> list[str]:
        return [self._name(note.path), note.kind, note.remedy, note.detail]

    def _read(self, arrays: Mapping[str, Array], i: int) -> _Told:
        sample, dataset = self._samples[i], self._dataset
        original = read_sample(sample, dataset)
        seen = self._framing.view(original.image, sample.path, original.foreground)
        arrays["pixels"][i] = self._framing.pixels(original.image, seen)
        view, measured = self._measured.placed(seen), self._measured
        inside = measured.valid(view)
        arrays["valid"][i] = True if inside is None else inside
        hidden = bool(original.mask.any()) and not view.seen(original.mask)
        if original.mask.any() and not hidden:
            if "regions" in arrays and i >= self._later:
                labels = measured.regions(original.mask, view, dataset.mask_rule).labels
                arrays["regions"][i - self._later] = labels
                arrays["masks"][i] = labels > 0
            else:
                arrays["masks"][i] = measured.mask(original.mask, view, dataset.mask_rule)
            # A cell that a region needs counts, even if its centre lies where nothing does.
            arrays["valid"][i] |= arrays["masks"][i]
        notes = original.notes + view_notes(sample.path, original.mask, view, dataset)
        line = "\0".join((self._name(sample.path), *original.digests))
        return _Told(line, notes, original.flat, original.unmarked or hidden)

    def _parts(
        self, arrays: Mapping[str, Array], about: Mapping[str, Any], folder: Path | None
    ) -> dict[str, Read]:
        """The splits as parts of the arrays."""
        found, start, root = {}, 0, self._index.root
        for plan in self._plans:
            stop = start + len(plan.order)
            place = None if folder is None else store.Place(folder, start, stop)
            images = ImageSet.of(arrays, about, start, stop, place)
            # As the samples were given, so that hashes and notes depend on no order of ours.
            given = [start + plan.order.index(i) for i in range(len(plan.order))]
            flat = [root / about["paths"][i] for i in given if about["flat"][i]]
            notes = [Note(root / name, *rest) for i in given for name, *rest in about["notes"][i]]
            notes += flat_notes(flat, len(given))
            found[plan.name] = Read(images, [about["lines"][i] for i in given], notes)
            start = stop
        return found


def _threaded(work: Callable[[Any], _Item], items: Iterable[Any]) -> Iterator[_Item]:
    """Results in order; decoding, resizing and hashing release the interpreter lock."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            yield from pool.map(work, items)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _ticker(progress: Progress | None, total: int) -> Callable[[], None]:
    """What is called after every image, to tell ``progress``."""
    done = itertools.count(1)
    return lambda: progress(next(done), total) if progress else None
