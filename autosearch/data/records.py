"""What a dataset looks like in memory: arrays, never file handles, and never test labels."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autosearch.data import store
from autosearch.data.store import Place, mapped

NORMAL = "good"
"""The ``anomaly_type`` of a defect-free image, as MVTec AD's folders name it."""


@dataclass(frozen=True)
class ImageSet:
    """Images of one split, resized, with their ground truth.

    Arrays are numpy so that many worker processes can share one read-only copy; those that lie in
    a file of this machine (`autosearch.data.store`) travel to another process by its name.

    Attributes:
        pixels: ``(N, 3, H, W)`` float32 in [0, 1], RGB, not normalised.
        masks: ``(N, h, w)`` bool, true where anomalous; of the size at which maps are measured,
            which need not be that of ``pixels``.
        types: ``anomaly_type`` per image, `NORMAL` where defect-free.
        paths: Where each image came from, relative to the dataset's root.
        groups: ``group_id`` per image; images of one physical object share it.
        made: Whether each image's anomaly was made for validation; empty where none was.
        regions: ``(N, h, w)`` int32, for each anomalous pixel the number, from 1 on, of its region
            within its image as labelled at the file's own resolution, 0 elsewhere; None where
            regions are those of ``masks``.
        valid: ``(N, h, w)`` bool, false in padding and where nothing is to be scored; None where
            all pixels count.
        unmarked: Whether each image is anomalous and nobody said where; empty where none is.
        place: Where the arrays lie, if it is in a file.
    """

    pixels: NDArray[np.float32]
    masks: NDArray[np.bool_]
    types: tuple[str, ...]
    paths: tuple[str, ...]
    groups: tuple[str, ...]
    made: tuple[bool, ...] = ()
    regions: NDArray[np.int32] | None = None
    valid: NDArray[np.bool_] | None = None
    unmarked: tuple[bool, ...] = ()
    place: Place | None = None

    @classmethod
    def at(cls, place: Place) -> ImageSet:
        """The images of a place.

        Raises:
            StudyError: They are not on this machine.
        """
        entry = mapped(place.folder)
        return cls.of(entry.arrays, entry.about, place.start, place.stop, place)

    @classmethod
    def of(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        about: Mapping[str, Any],
        start: int,
        stop: int,
        place: Place | None,
    ) -> ImageSet:
        """Some of the images that were read together.

        Args:
            arrays: ``pixels``, ``masks``, and where there are any ``valid`` and ``regions``.
            about: ``types``, ``paths`` and ``groups``, one each for every image; ``unmarked`` and
                ``made`` where there are any; ``regions_from``, the image from which on there are
                regions, if it is not the first.
            start: The first of them.
            stop: The one past the last.
            place: Where the arrays lie, if it is in a file.
        """
        first = about.get("regions_from", 0)
        unmarked, made = (tuple(about.get(name, ())[start:stop]) for name in ("unmarked", "made"))
        labelled = "regions" in arrays and start >= first
        return cls(
            arrays["pixels"][start:stop],
            arrays["masks"][start:stop],
            tuple(about["types"][start:stop]),
            tuple(about["paths"][start:stop]),
            tuple(about["groups"][start:stop]),
            regions=arrays["regions"][start - first : stop - first] if labelled else None,
            valid=arrays["valid"][start:stop] if "valid" in arrays else None,
            made=made if any(made) else (),
            unmarked=unmarked if any(unmarked) else (),
            place=place,
        ).locked()

    def __reduce__(self) -> tuple[Any, ...]:
        if self.place is not None:
            return ImageSet.at, (self.place,)
        return ImageSet, tuple(getattr(self, item.name) for item in fields(self))

    def carried(self) -> ImageSet:
        """The same with arrays that travel to other machines with it."""
        return replace(self, place=None)

    def __len__(self) -> int:
        return len(self.types)

    @property
    def labels(self) -> NDArray[np.bool_]:
        """``(N,)`` bool, true for an image whose type is not `NORMAL`."""
        return np.array([kind != NORMAL for kind in self.types], dtype=bool)

    @property
    def synthetic(self) -> NDArray[np.bool_]:
        """``(N,)`` bool, true for an image whose anomaly was made for validation."""
        return np.array(self.made or [False] * len(self), dtype=bool)

    @property
    def marked(self) -> NDArray[np.bool_]:
        """``(N,)`` bool, true for an image of which every pixel's label is known."""
        return ~np.array(self.unmarked or [False] * len(self), dtype=bool)

    @property
    def counted(self) -> NDArray[np.bool_] | None:
        """``(N, h, w)`` bool, true where a pixel is valid and its label known; None for all."""
        if self.marked.all():
            return self.valid
        known = self.marked[:, None, None]
        valid = np.ones(self.masks.shape, dtype=bool) if self.valid is None else self.valid
        return valid & known

    def select(self, wanted: NDArray[np.bool_]) -> ImageSet:
        """Those images for which ``wanted``, ``(N,)`` bool, is true; the set itself if for all."""
        chosen = np.flatnonzero(wanted)
        if len(chosen) and chosen[-1] - chosen[0] + 1 == len(chosen):
            return self.part(int(chosen[0]), int(chosen[-1]) + 1)
        types, paths, groups = (
            tuple(itertools.compress(values, wanted))
            for values in (self.types, self.paths, self.groups)
        )
        made, unmarked = (
            tuple(itertools.compress(values, wanted)) for values in (self.made, self.unmarked)
        )
        regions = None if self.regions is None else self.regions[wanted]
        valid = None if self.valid is None else self.valid[wanted]
        pixels, masks = self.pixels[wanted], self.masks[wanted]
        kept = ImageSet(pixels, masks, types, paths, groups, made, regions, valid, unmarked)
        return kept.locked()

    def part(self, start: int, stop: int) -> ImageSet:
        """Images ``start`` to ``stop``, as views of the same arrays."""
        if (start, stop) == (0, len(self)):
            return self
        rows = slice(start, stop)
        return ImageSet(
            self.pixels[rows],
            self.masks[rows],
            self.types[rows],
            self.paths[rows],
            self.groups[rows],
            self.made[rows],
            None if self.regions is None else self.regions[rows],
            None if self.valid is None else self.valid[rows],
            self.unmarked[rows],
            None if self.place is None else self.place.part(start, stop),
        )

    def locked(self) -> ImageSet:
        """The same, after nobody can write to its arrays any more."""
        for array in (self.pixels, self.masks, self.regions, self.valid):
            if array is not None:
                array.setflags(write=False)
        return self


def join(*sets: ImageSet) -> ImageSet:
    """Several sets of the same size as one, in their order.

    Nothing is copied if they lie in a row; large ones are copied to a file of their own.
    """
    sets = tuple(part for part in sets if len(part)) or sets[:1]
    if len(sets) == 1:
        return sets[0]
    if together := _in_a_row([part.place for part in sets]):
        return ImageSet.at(together)
    about: dict[str, Any] = {
        name: [value for part in sets for value in getattr(part, name)]
        for name in ("types", "paths", "groups")
    }
    about["made"] = [bool(value) for part in sets for value in part.synthetic]
    about["unmarked"] = [not value for part in sets for value in part.marked]
    count = len(about["types"])
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        name: ((count, *getattr(sets[0], name).shape[1:]), getattr(sets[0], name).dtype)
        for name in ("pixels", "masks")
    }
    if all(part.regions is not None for part in sets):
        shapes["regions"] = ((count, *sets[0].masks.shape[1:]), np.int32)
    if any(part.valid is not None for part in sets):
        shapes["valid"] = ((count, *sets[0].masks.shape[1:]), np.bool_)

    def fill(arrays: Mapping[str, NDArray[Any]]) -> Mapping[str, Any]:
        start = 0
        for part in sets:
            stop = start + len(part)
            for name, array in arrays.items():
                values = getattr(part, name)
                array[start:stop] = True if values is None else values
            start = stop
        return about

    return made_once(sets, "join", shapes, fill)


def made_once(
    sources: Sequence[ImageSet],
    how: str,
    shapes: Mapping[str, tuple[tuple[int, ...], Any]],
    fill: Callable[[Mapping[str, NDArray[Any]]], Mapping[str, Any]],
) -> ImageSet:
    """Images that are made of others: in memory, or if they are large in a file, once.

    Args:
        sources: What they are made of.
        how: All that they depend on besides, in words.
        shapes: Shape and type of each array; see `ImageSet.of`.
        fill: Fills the arrays; returns what `ImageSet.of` wants to know besides.
    """
    count, folder = shapes["pixels"][0][0], None
    if store.size_of(shapes) >= store.LARGE:
        folder = store.entry_for(_content(sources, how), shapes, fill)
    if folder is not None:
        return ImageSet.at(Place(folder, 0, count))
    arrays = {name: np.empty(shape, kind) for name, (shape, kind) in shapes.items()}
    return ImageSet.of(arrays, fill(arrays), 0, count, None)


def _content(sets: Sequence[ImageSet], how: str) -> str:
    """SHA-256 of sets, by their places where they have any, and of what is made of them."""
    digest = hashlib.sha256(how.encode())
    for part in sets:
        if part.place is not None:
            digest.update(repr(part.place).encode())
            continue
        texts = [part.types, part.paths, part.groups, part.made, part.unmarked]
        digest.update(repr(texts).encode())
        for array in (part.pixels, part.masks, part.regions, part.valid):
            digest.update(b"" if array is None else np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _in_a_row(places: Sequence[Place | None]) -> Place | None:
    """The place that parts of one entry make up, if each begins where the last one ends."""
    first, last = places[0], places[-1]
    if first is None or last is None:
        return None
    for one, other in itertools.pairwise(places):
        if one is None or other is None or one.stop != other.start:
            return None
        if one.folder != other.folder:
            return None
    return Place(first.folder, first.start, last.stop)


@dataclass(frozen=True)
class SearchData:
    """All that a trial may see: train and validation. There is no way from here to test data.

    Attributes:
        train: Images to fit on: defect-free, and labelled anomalous ones for a runner that learns
            from them.
        val: Defect-free and anomalous images that drive the search.
        info: What stands in reports: name, category, root, counts, ``sha256`` over the files
            used, resize and mask rules, anomalies per type, whether anomalies are synthetic.
        files: What ``sha256`` is over, a line for each file: split, name relative to the root and
            hashes, with NUL between them.
        made: Anomalous images made beside those of ``val``, for figures of synthetic anomalies;
            None where there are none, or they are among those of ``val``.
        whole: All defect-free training images, where trials are fitted on a part of them, which
            ``train`` then is; else None.
    """

    train: ImageSet
    val: ImageSet
    info: dict[str, object] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    made: ImageSet | None = None
    whole: ImageSet | None = None
