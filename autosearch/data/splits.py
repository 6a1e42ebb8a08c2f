"""Which images train, which drive the search, which are kept for the very end.

The rule is AutoPatch's ("Neural Architecture Search for Visual Anomaly Segmentation"), extended
from images to groups: images of one physical object never cross partitions.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from autosearch.data.index import Index, Sample, SplitName
from autosearch.errors import ConfigError, DataError
from autosearch.spec import DatasetSpec, LabelledSpec, SyntheticSpec

_LEAST_NORMALS, _MOST_NORMALS = 10, 500
"""Normal images that validation may take of however few, if as many are left to train on."""


@dataclass(frozen=True)
class Split:
    """A partition of an index, each part sorted by path.

    Attributes:
        train: Normal images to fit on, and with ``dataset.labelled`` anomalous ones.
        val: Normal and anomalous images that drive the search.
        test: Images for the final figures only.
        unused: Anomalous images between ``real_per_type`` and ``test_skip``, left out so
            that searches with different ``real_per_type`` share one test set.
    """

    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    test: tuple[Sample, ...]
    unused: tuple[Sample, ...]

    def within(self, index: Index) -> Split:
        """What an index has of it, such as that of one of several categories."""
        own = {sample.path for sample in index.samples}
        return Split(*(tuple(s for s in part if s.path in own) for part in self.parts))

    @property
    def parts(self) -> tuple[tuple[Sample, ...], ...]:
        """All of them, in the order of the attributes."""
        return self.train, self.val, self.test, self.unused


def split_index(index: Index, dataset: DatasetSpec) -> Split:
    """Partition an index; depends on nothing but the sorted paths, groups and stated splits.

    With k = ``validation.real_per_type`` (``auto``: see `settled` and `real_per_type`) and n = the
    number of normal images stated to be test ones (``test/good``): validation takes the first n of
    the remaining normal images and the first k anomalous ones of every type, those with masks
    before others, training the rest of the normal images, and test all stated normal images and
    the anomalous ones from position ``test_skip`` (default k) on. Where no normal test image is
    stated, n is a fifth of the normal images and test takes the next n.
    That is AutoPatch's rule, ``validation.normal: as_test``. With ``auto`` validation takes n, but
    at most a quarter (rounded up) of the normal images that are not test ones, or ten where as
    many are left to train on, and never more than 500; a number replaces n. With ``labelled``, the
    anomalous images of every type go to train, validation and test by their shares instead, spread
    evenly over the sorted paths.

    A group moves as a whole, to where its first image of any type would go; counts are then met
    or exceeded. Stated splits are obeyed, also for the unstated images of a stated group.

    Of several categories each is split by itself, as if there were no other.

    Raises:
        ConfigError: ``test_skip`` is below k, or ``validation.normal`` leaves nothing to train on.
        DataError: A group stands in two stated splits, an anomalous image in train, or a part
            has no images of the kind it needs.
    """
    dataset = settled(index, dataset)
    splits = [_split_one(part, dataset) for part in index.each]
    return splits[0] if len(splits) == 1 else _joined(splits)


def _joined(splits: Iterable[Split]) -> Split:
    """Those of several categories as one."""
    return Split(
        *(
            tuple(sorted(itertools.chain.from_iterable(parts), key=lambda sample: sample.path))
            for parts in zip(*(split.parts for split in splits), strict=True)
        )
    )


def _split_one(index: Index, dataset: DatasetSpec) -> Split:
    """The split of one category, for a dataset as `settled` gives it."""
    wanted_of, skip = real_per_type(index, dataset), dataset.test_skip
    most = max(wanted_of.values(), default=0)
    if skip is not None and skip < most:
        raise ConfigError(
            "dataset.test_skip",
            skip,
            f"at least dataset.validation.real_per_type ({most}), or null",
        )
    parts: dict[str, list[Sample]] = {"train": [], "val": [], "test": [], "unused": []}
    normal, anomalous = [], []
    stated = _stated_groups(index)
    for name, members in _groups(index.samples).items():
        if name in stated:
            parts[stated[name]] += members
        elif all(sample.normal for sample in members):
            normal.append(members)
        else:
            anomalous.append(members)
    anomalous.sort(key=lambda members: not any(sample.marked for sample in members))
    in_test = _normals(parts["test"])
    fallback = in_test or max(1, sum(map(len, normal)) // 5)
    asked = dataset.validation.normal
    by_number = asked if isinstance(asked, int) else fallback
    for_test = 0 if in_test else by_number
    free = sum(map(len, normal)) + _normals(parts["train"]) + _normals(parts["val"]) - for_test
    wanted = min(by_number, _most_normals(free)) if asked == "auto" else by_number
    if dataset.labelled is None:
        _place_anomalous(anomalous, parts, wanted_of, skip)
    else:
        _share_anomalous(anomalous, parts, dataset.labelled)
    _place_normal(normal, parts, wanted, for_test)
    _check_parts(index, dataset, parts, wanted)
    train, val, test, unused = (
        tuple(sorted(part, key=lambda sample: sample.path)) for part in parts.values()
    )
    return Split(train, val, test, unused)


def _most_normals(free: int) -> int:
    """Most normal images that validate by ``validation.normal: auto``.

    Beyond some hundreds more of them change no figure, and cost memory and time in every trial.

    Args:
        free: Number of those that are not test ones.
    """
    least = _LEAST_NORMALS if free >= 2 * _LEAST_NORMALS else 1
    return max(least, min(_MOST_NORMALS, -(-free // 4)))


def settled(index: Index, dataset: DatasetSpec) -> DatasetSpec:
    """A dataset with what ``validation.real_per_type: auto`` stands for, where that is a number.

    It is 1 where any anomalous image is marked, or there are masks whose images are missing. Where
    there is neither an anomalous image nor a mask it is 0, and validation has synthetic anomalies.
    Else it stays ``auto``; see `real_per_type`.
    """
    validation = dataset.validation
    if validation.real_per_type != "auto":
        return dataset
    anomalous = [sample for sample in index.samples if not sample.normal]
    if dataset.labelled is not None or any(sample.marked for sample in anomalous):
        changed: dict[str, object] = {"real_per_type": 1}
    elif anomalous:
        return dataset
    elif index.orphan_masks:
        changed = {"real_per_type": 1}
    else:
        made = validation.synthetic
        made = made if isinstance(made, SyntheticSpec) else SyntheticSpec()
        changed = {"real_per_type": 0, "synthetic": made}
    return dataset.model_copy(update={"validation": validation.model_copy(update=changed)})


def real_per_type(index: Index, dataset: DatasetSpec) -> dict[str, int]:
    """Number of images of each anomaly type that validation takes.

    ``auto`` is a third of those whose split is not stated otherwise, and 1 at least.

    Args:
        index: The images.
        dataset: As `settled` gives it.
    """
    k = dataset.validation.real_per_type
    kinds = sorted({sample.type for sample in index.samples if not sample.normal})
    if k != "auto":
        return dict.fromkeys(kinds, k)
    free = Counter(sample.type for sample in index.samples if sample.split in (None, "val"))
    return {kind: max(1, free[kind] // 3) for kind in kinds}


def _groups(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Members of each group, in the order of the groups' first images."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.group, []).append(sample)
    return groups


def _stated_groups(index: Index) -> dict[str, SplitName]:
    """Split of every group of which at least one image states one."""
    stated: dict[str, SplitName] = {}
    for sample in index.samples:
        if sample.split is None:
            continue
        first = stated.setdefault(sample.group, sample.split)
        if first != sample.split:
            raise DataError(
                sample.path,
                f"group {sample.group!r} is in the splits {first} and {sample.split}",
                "put all images of one object into one split",
            )
    return stated


def _place_anomalous(
    groups: list[list[Sample]],
    parts: dict[str, list[Sample]],
    wanted: Mapping[str, int],
    skip: int | None,
) -> None:
    """Append groups with an anomalous image to val, unused or test, by position within type."""
    before = Counter(sample.type for sample in parts["val"])
    for members in groups:
        kinds = Counter(sample.type for sample in members if not sample.normal)
        if any(before[kind] < wanted[kind] for kind in kinds):
            part = "val"
        elif skip is not None and any(before[kind] < skip for kind in kinds):
            part = "unused"
        else:
            part = "test"
        parts[part] += members
        before += kinds


def _share_anomalous(
    groups: list[list[Sample]], parts: dict[str, list[Sample]], labelled: LabelledSpec
) -> None:
    """Append each group with an anomalous image to the part that lacks most of its first type."""
    shares = {"train": labelled.train, "val": labelled.val}
    shares["test"] = 1 - labelled.train - labelled.val
    held = {part: Counter(sample.type for sample in parts[part]) for part in shares}
    for members in groups:
        kinds = Counter(sample.type for sample in members if not sample.normal)
        kind = min(kinds)
        total = kinds[kind] + sum(held[part][kind] for part in shares)

        def lack(part: str, kind: str = kind, total: int = total) -> float:
            return shares[part] * total - held[part][kind]

        chosen = max(shares, key=lack)
        parts[chosen] += members
        held[chosen] += kinds


def _place_normal(
    groups: list[list[Sample]], parts: dict[str, list[Sample]], for_val: int, for_test: int
) -> None:
    """Append normal groups to val and test until they hold enough, and the rest to train."""
    for members in groups:
        if _normals(parts["val"]) < for_val:
            parts["val"] += members
        elif _normals(parts["test"]) < for_test:
            parts["test"] += members
        else:
            parts["train"] += members


def _normals(samples: Iterable[Sample]) -> int:
    return sum(sample.normal for sample in samples)


def _check_parts(
    index: Index, dataset: DatasetSpec, parts: dict[str, list[Sample]], wanted: int
) -> None:
    """Refuse a split that cannot be searched on."""
    for sample in parts["train"]:
        if not sample.normal and dataset.labelled is None:
            raise DataError(
                sample.path,
                "an anomalous image is in the train split",
                "state val or test for it, or set dataset.labelled to learn from some",
            )
    place = index.place
    if not _normals(parts["train"]):
        if isinstance(dataset.validation.normal, int):
            raise ConfigError(
                "dataset.validation.normal", wanted, "a number that leaves normal images to train"
            )
        raise DataError(
            place,
            f"{wanted} normal images are wanted for validation, and none is left to train on",
            "set dataset.validation.normal to a smaller number or add normal images",
        )
    if not _normals(parts["val"]):
        raise DataError(
            place, "validation holds no normal image", "state val for some normal images"
        )
    joined = isinstance(dataset.validation.synthetic, SyntheticSpec)
    if not joined and _normals(parts["val"]) == len(parts["val"]):
        raise DataError(
            place,
            "validation holds no anomalous image",
            "add anomalous images, or let dataset.validation.synthetic make some",
        )
