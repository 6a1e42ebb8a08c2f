"""Pictures that lie in a file which all processes map."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from dataset_parts import photo, sound_dataset, spec

from autosearch.data import ImageSet, join, load_search_data, load_test_set, reading, store
from autosearch.errors import DataError, StudyError
from autosearch.spec import DatasetSpec


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A dataset with an image of another shape, so that there is padding, and its own cache."""
    monkeypatch.setenv("AUTOSEARCH_CACHE", str(tmp_path / "cache"))
    base = sound_dataset(tmp_path / "data/part")
    photo(base / "train/good/020.png", 20, (60, 30))
    yield base
    for folder in list(store._open):
        store._open.pop(folder).close()


@pytest.fixture
def dataset(base: Path) -> DatasetSpec:
    return spec(base.parent)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every dataset is so large that it is stored."""
    monkeypatch.setattr(store, "LARGE", 0)


def entries() -> list[Path]:
    folder = store.folder_of("x").parent
    return sorted(folder.iterdir()) if folder.is_dir() else []


def same(one: ImageSet, other: ImageSet) -> None:
    for field in fields(ImageSet):
        if field.name != "place":
            left, right = (getattr(images, field.name) for images in (one, other))
            np.testing.assert_array_equal(left, right, err_msg=field.name)


@pytest.mark.parametrize("keys", [{}, {"evaluation_size": 48}, {"regions": "resized"}], ids=str)
def test_same_images_as_in_memory(
    base: Path, keys: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = spec(base.parent, **keys)
    plain, (plain_test, plain_info) = load_search_data(asked), load_test_set(asked)
    assert not entries() and plain.train.place is None
    monkeypatch.setattr(store, "LARGE", 0)
    for _ in range(2):  # made, then found
        kept, (kept_test, kept_info) = load_search_data(asked), load_test_set(asked)
        assert kept.train.place is not None and kept_test.place is not None
        assert kept.info == plain.info and kept.files == plain.files and kept_info == plain_info
        same(kept.train, plain.train)
        same(kept.val, plain.val)
        same(kept_test, plain_test)
    assert plain.train.valid is not None and not plain.train.valid.all()


@pytest.mark.usefixtures("large")
def test_a_second_search_reads_no_image(
    dataset: DatasetSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_search_data(dataset)

    def refuse(*given: object) -> None:
        raise AssertionError("an image was read again")

    monkeypatch.setattr(reading, "read_sample", refuse)
    told: list[tuple[int, int]] = []
    second = load_search_data(dataset, lambda done, total: told.append((done, total)))
    same(first.train, second.train)
    assert np.shares_memory(second.train.pixels, second.train.pixels[:1])
    assert told[-1][0] == told[-1][1] == len(told)


@pytest.mark.usefixtures("large")
def test_other_data_or_another_reading_is_another_entry(base: Path) -> None:
    load_search_data(spec(base.parent))
    load_search_data(spec(base.parent, image_size=32))
    assert len(entries()) == 2
    photo(base / "train/good/005.png", 99)
    load_search_data(spec(base.parent))
    assert len(entries()) == 3
    # What changes nothing about an image changes nothing here.
    load_search_data(spec(base.parent, prevalence=0.2))
    assert len(entries()) == 3


@pytest.mark.usefixtures("large")
def test_moved_data_are_the_same(base: Path, tmp_path: Path) -> None:
    first = load_search_data(spec(base.parent))
    shutil.move(base.parent, tmp_path / "elsewhere")
    second = load_search_data(spec(tmp_path / "elsewhere"))
    assert len(entries()) == 1 and first.info["notes"] == second.info["notes"]
    same(first.val, second.val)


@pytest.mark.usefixtures("large")
def test_a_fault_leaves_no_entry(base: Path) -> None:
    (base / "train/good/005.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"005\.png"):
        load_search_data(spec(base.parent, image_size=32))
    assert entries() == []


@pytest.mark.usefixtures("large")
class TestParts:
    def test_parts_are_views(self, dataset: DatasetSpec) -> None:
        train = load_search_data(dataset).train
        part = train.select(np.arange(len(train)) >= 3)
        assert np.shares_memory(part.pixels, train.pixels)
        assert part.paths == train.paths[3:]

    def test_all_normal_images_lie_in_a_row(self, dataset: DatasetSpec) -> None:
        data = load_search_data(dataset)
        normal = data.val.select(~data.val.labels)
        together = join(data.train, normal)
        assert together.place is not None and len(together) == len(data.train) + len(normal)
        assert not together.labels.any()
        np.testing.assert_array_equal(
            together.pixels, np.concatenate([data.train.pixels, normal.pixels])
        )

    def test_labelled_ones_come_first(self, base: Path) -> None:
        data = load_search_data(spec(base.parent, labelled={"train": 0.4, "val": 0.4}))
        assert data.train.labels.tolist() == sorted(data.train.labels, reverse=True)
        assert data.train.labels.any() and data.val.labels[-1]
        normal = join(*(part.select(~part.labels) for part in (data.train, data.val)))
        assert normal.place is not None

    def test_otherwise_they_are_copied_to_a_file(
        self, dataset: DatasetSpec, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = load_search_data(dataset)
        alone = data.train.carried()
        for parts in ((data.val, data.train), (data.val, alone)):
            kept = join(*parts)
            assert kept.place is not None and kept.paths == data.val.paths + data.train.paths
            again = join(*parts)
            assert again.place == kept.place
            with monkeypatch.context() as patch:
                patch.setattr(store, "LARGE", 1 << 40)
                plain = join(*parts)
            assert plain.place is None
            same(kept, plain)


def _received(content: bytes, back: object) -> None:
    images = pickle.loads(content)
    back.send((images.paths, float(images.pixels.sum()), images.pixels.flags.writeable))  # type: ignore[attr-defined]


@pytest.mark.usefixtures("large")
class TestTravelling:
    def test_by_name_to_a_process_of_this_machine(self, dataset: DatasetSpec) -> None:
        val = load_search_data(dataset).val
        content = pickle.dumps(val)
        assert len(content) < 1000 < val.pixels.nbytes
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_received, args=(content, there))
        process.start()
        assert here.recv() == (val.paths, float(val.pixels.sum()), False)
        process.join(30)

    def test_whole_to_other_machines(self, dataset: DatasetSpec) -> None:
        val = load_search_data(dataset).val
        content = pickle.dumps(val.carried())
        assert len(content) > val.pixels.nbytes
        shutil.rmtree(entries()[0].parent)
        same(pickle.loads(content), val)

    def test_where_they_are_not_there_it_is_said(self, dataset: DatasetSpec) -> None:
        content = pickle.dumps(load_search_data(dataset).val)
        store._open.popitem()[1].close()
        shutil.rmtree(entries()[0].parent)
        with pytest.raises(StudyError, match="are gone"):
            pickle.loads(content)


@pytest.mark.usefixtures("large")
class TestRoom:
    def test_entries_used_longest_ago_make_room(
        self, base: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for size in (32, 40):
            load_search_data(spec(base.parent, image_size=size))
        old, new = sorted(entries(), key=lambda folder: (folder / "about.json").stat().st_mtime)
        os.utime(old / "about.json", (1, 1))
        for folder in (old, new):
            store._open.pop(folder).close()
        held = sum(file.stat().st_size for file in new.iterdir())
        monkeypatch.setattr(store, "LIMIT", held + 1)
        assert store.room_for(1) and entries() == [new]

    def test_what_is_in_use_stays(
        self, dataset: DatasetSpec, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        load_search_data(dataset)
        monkeypatch.setattr(store, "LIMIT", 0)
        assert store.room_for(1) and len(entries()) == 1

    def test_leftovers_of_the_killed_go_after_a_day(self, dataset: DatasetSpec) -> None:
        load_search_data(dataset)
        leftover = entries()[0].parent / ".killed.1234"
        leftover.mkdir()
        assert store.room_for(1) and leftover.exists()
        os.utime(leftover, (time.time() - 2 * 24 * 3600,) * 2)
        assert store.room_for(1) and not leftover.exists()

    def test_too_small_a_disk_or_none_means_memory(
        self, dataset: DatasetSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        usage = shutil.disk_usage(tmp_path)._replace(free=1000)
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda place: usage)
            assert load_search_data(dataset).train.place is None
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("AUTOSEARCH_CACHE", str(tmp_path / "file"))
        assert load_search_data(dataset).train.place is None

    def test_a_disk_that_gets_full_means_memory(
        self, dataset: DatasetSpec, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(path: Path) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(store, "_allocate", full)
        assert load_search_data(dataset).train.place is None
        assert entries() == []

    def test_a_damaged_entry_is_made_again(self, dataset: DatasetSpec) -> None:
        load_search_data(dataset)
        (folder,) = entries()
        store._open.pop(folder).close()
        (folder / "about.json").write_text("{")
        assert load_search_data(dataset).train.place is not None
