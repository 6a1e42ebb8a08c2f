"""The split rule: AutoPatch's slices, groups that stay whole, stated splits that are obeyed."""

from pathlib import Path

import pytest
from hypothesis import assume, given, strategies as st

from autosearch.data.index import Index, Sample
from autosearch.data.records import NORMAL
from autosearch.data.splits import Split, split_index
from autosearch.errors import ConfigError, DataError
from autosearch.spec.sections import DatasetSpec


def index(*samples: Sample) -> Index:
    return Index(Path("/d"), "c", tuple(sorted(samples, key=lambda sample: sample.path)))


def sample(
    name: str, kind: str = NORMAL, split: str | None = None, group: str | None = None
) -> Sample:
    return Sample(Path("/d", name), (), kind, split, group or name)  # type: ignore[arg-type]


def dataset(k: int, normal: int | None = None, test_skip: int | None = None) -> DatasetSpec:
    return DatasetSpec(validation={"real_per_type": k, "normal": normal}, test_skip=test_skip)


def folders(train: int, test: int, **anomalous: int) -> Index:
    return index(
        *(sample(f"train/{i:03}") for i in range(train)),
        *(sample(f"test/good/{i:03}", split="test") for i in range(test)),
        *(sample(f"test/{t}/{i:03}", t) for t, count in anomalous.items() for i in range(count)),
    )


def names(samples: tuple[Sample, ...]) -> list[str]:
    return [part.path.relative_to("/d").as_posix() for part in samples]


def test_autopatch_slices() -> None:
    split = split_index(folders(7, 2, a=4, b=3), dataset(2))
    assert names(split.train) == [f"train/00{i}" for i in (2, 3, 4, 5, 6)]
    assert names(split.val) == [
        "test/a/000", "test/a/001", "test/b/000", "test/b/001", "train/000", "train/001",
    ]  # fmt: skip
    assert names(split.test) == [
        "test/a/002", "test/a/003", "test/b/002", "test/good/000", "test/good/001",
    ]  # fmt: skip
    assert split.unused == ()


def test_test_skip_gives_every_k_the_same_test_set() -> None:
    data = folders(7, 2, a=6, b=5)
    splits = [split_index(data, dataset(k, test_skip=4)) for k in (1, 2, 4)]
    assert len({split.test for split in splits}) == 1
    assert names(splits[0].test)[:3] == ["test/a/004", "test/a/005", "test/b/004"]
    assert [len(split.unused) for split in splits] == [6, 4, 0]


def test_normal_validation_replaces_the_number_of_test_normals() -> None:
    split = split_index(folders(7, 2, a=2), dataset(1, normal=4))
    assert names(split.val) == ["test/a/000", *(f"train/00{i}" for i in range(4))]
    assert len(split.train) == 3


def test_too_many_validation_normals_name_the_key() -> None:
    with pytest.raises(DataError, match=r"dataset\.validation\.normal"):
        split_index(folders(4, 4, a=2), dataset(1, normal="as_test"))
    with pytest.raises(ConfigError, match=r"dataset\.validation\.normal: 4"):
        split_index(folders(4, 1, a=2), dataset(1, normal=4))


def test_test_skip_below_k_would_leak() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.test_skip: 1"):
        split_index(folders(4, 1, a=4), dataset(2, test_skip=1))


def test_without_stated_test_normals_a_fifth_goes_to_val_and_to_test() -> None:
    split = split_index(folders(10, 0, a=2), DatasetSpec())
    assert names(split.val) == ["test/a/000", "train/000", "train/001"]
    assert names(split.test) == ["test/a/001", "train/002", "train/003"]


def test_stated_splits_win_also_for_the_rest_of_a_group() -> None:
    split = split_index(
        index(
            sample("0", split="train"),
            sample("1", split="val"),
            sample("2", "a", split="test", group="x"),
            sample("3", "a", group="x"),
            sample("4", "a", split="val"),
            sample("5", "a"),
        ),
        DatasetSpec(),
    )
    assert [names(part) for part in (split.train, split.val, split.test)] == [
        ["0"],
        ["1", "4"],
        ["2", "3", "5"],
    ]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([sample("0", split="val", group="x"), sample("1", split="train", group="x")], "'x'"),
        ([sample("0", "a", split="train"), sample("1", "a")], "anomalous image is in the train"),
        ([sample("0", split="train"), sample("1", "a")], "no normal image"),
        ([sample("0"), sample("1", split="test"), sample("2")], "no anomalous image"),
    ],
)
def test_splits_that_cannot_be_searched_are_refused(samples: list[Sample], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_index(index(*samples), dataset(1))


GROUPED = st.lists(
    st.tuples(
        st.sampled_from([NORMAL, NORMAL, "a", "b"]),
        st.integers(0, 6),
    ),
    min_size=4,
    max_size=30,
)


@given(GROUPED, st.dictionaries(st.integers(0, 6), st.sampled_from(["val", "test"])),
       st.integers(1, 3), st.integers(0, 2))  # fmt: skip
def test_no_group_crosses_partitions_and_no_image_is_lost(
    rows: list[tuple[str, int]], stated: dict[int, str], k: int, extra: int
) -> None:
    data = index(
        *(
            # Every other image of a stated group is silent, and must follow the group.
            sample(f"{i:02}", kind, stated.get(group) if i % 2 else None, f"g{group}")
            for i, (kind, group) in enumerate(rows)
        )
    )
    try:
        split = split_index(data, dataset(k, test_skip=k + extra))
    except DataError:
        assume(False)
    _check_partition(data, split)
    free = {part.group for part in data.samples} - {p.group for p in data.samples if p.split}
    for kind in ("a", "b"):
        available = sum(part.type == kind and part.group in free for part in data.samples)
        assert sum(part.type == kind for part in split.val) >= min(k, available)


def _check_partition(data: Index, split: Split) -> None:
    parts = (split.train, split.val, split.test, split.unused)
    together = [part for samples in parts for part in samples]
    assert sorted(together, key=lambda part: part.path) == list(data.samples)
    groups = [{part.group for part in samples} for samples in parts]
    assert sum(map(len, groups)) == len(set().union(*groups))
    assert all(part.normal for part in split.train)
    place = {part.path: number for number, samples in enumerate(parts) for part in samples}
    for part in data.samples:
        if part.split:
            assert place[part.path] == ("train", "val", "test").index(part.split)


def labelled(train: float, val: float) -> DatasetSpec:
    return DatasetSpec(labelled={"train": train, "val": val})


def test_labelled_anomalies_are_shared_out_by_type() -> None:
    split = split_index(folders(9, 2, a=25, b=4, c=1), labelled(0.48, 0.28))
    counts = {
        part: [sum(s.type == kind for s in getattr(split, part)) for kind in "abc"]
        for part in ("train", "val", "test")
    }
    assert counts == {"train": [12, 2, 1], "val": [7, 1, 0], "test": [6, 1, 0]}
    assert split.unused == ()
    first = [s.path.name for s in split.train if s.type == "a"][:3]
    assert first != ["000", "001", "002"], "spread over the paths, which are often in series"


@given(
    st.lists(st.integers(0, 30), min_size=4, max_size=60),
    st.tuples(st.floats(0.05, 0.9), st.floats(0.05, 0.9)).filter(lambda pair: sum(pair) < 0.95),
)
def test_labelled_shares_are_kept_and_groups_stay_whole(
    groups: list[int], shares: tuple[float, float]
) -> None:
    members = [sample(f"test/a/{i:03}", "a", group=f"g{g}") for i, g in enumerate(groups)]
    normals = [sample(f"train/{i}") for i in range(6)]
    data = index(*members, *normals)
    try:
        split = split_index(data, labelled(*shares))
    except DataError:
        assume(False)
    parts = {"train": split.train, "val": split.val, "test": split.test}
    homes = [{s.group for s in part if not s.normal} for part in parts.values()]
    assert sum(map(len, homes)) == len(set().union(*homes)) == len(set(groups))
    largest = max(groups.count(g) for g in groups)
    for part, share in zip(parts.values(), (*shares, 1 - sum(shares)), strict=True):
        assert abs(sum(not s.normal for s in part) - share * len(groups)) <= 1 + largest


def test_stated_anomalies_may_train_if_labels_are_used() -> None:
    data = index(
        *(sample(f"train/{i}") for i in range(6)),
        *(sample(f"d/{i}", "dent", split) for i, split in enumerate(("train", "val", "test"))),
    )
    with pytest.raises(DataError, match="labelled"):
        split_index(data, dataset(1))
    split = split_index(data, labelled(0.5, 0.25))
    assert [s.type for s in split.train if not s.normal] == ["dent"]
