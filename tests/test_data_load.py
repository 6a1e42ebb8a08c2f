"""From folders or CSV rows to arrays, with errors that name the file, and no way to test data."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autosearch.data.images import read_image, resize, resize_mask
from autosearch.data.index import Index
from autosearch.data.layouts.choose import open_index
from autosearch.data.load import load_search_data, load_test_set
from autosearch.data.masks import read_mask
from autosearch.errors import ConfigError, DataError
from autosearch.spec.sections import DatasetSpec
from autosearch.testing import LayoutSuite


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)


def write_mask(path: Path, column: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((40, 50), dtype=np.uint8)
    values[5:30, column : column + 9] = 255
    Image.fromarray(values).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Category ``part``: 6 train, 2 test normals, 3 ``hole`` and 2 ``dent`` images."""
    base = tmp_path / "made" / "part"
    for i in range(6):
        write_image(base / f"train/good/{i}.png", i)
    for i in range(2):
        write_image(base / f"test/good/{i}.png", 10 + i)
    for t, (kind, count, ending) in enumerate([("hole", 3, "_mask.png"), ("dent", 2, ".png")]):
        for i in range(count):
            write_image(base / f"test/{kind}/{i}.png", 20 + 10 * t + i)
            write_mask(base / f"ground_truth/{kind}/{i}{ending}", 4 * i)
    return tmp_path / "made"


def spec(root: Path, **keys: object) -> DatasetSpec:
    return DatasetSpec.model_validate(
        {"name": "made", "root": str(root), "category": "part", "image_size": 32, "fit": "stretch"}
        | keys
    )


COUNTS = {"good": 8, "hole": 3, "dent": 2}


class TestFolders(LayoutSuite):
    @pytest.fixture
    def index(self, root: Path) -> Index:
        write_mask(root / "part/ground_truth/hole/7_mask.png", 0)
        (root / "part/test/scratch").mkdir()
        return open_index(spec(root))

    @pytest.fixture
    def counts(self) -> dict[str, int]:
        return COUNTS

    def test_what_belongs_to_no_image_is_told(self, root: Path, index: Index) -> None:
        assert index.orphan_masks == (root.resolve() / "part/ground_truth/hole/7_mask.png",)
        assert index.empty_folders == (root.resolve() / "part/test/scratch",)


def test_arrays_are_the_files_resized_in_order(root: Path) -> None:
    data = load_search_data(spec(root))
    assert data.train.paths == tuple(f"part/train/good/{i}.png" for i in (2, 3, 4, 5))
    assert data.val.paths == (
        "part/train/good/0.png",
        "part/train/good/1.png",
        "part/test/dent/0.png",
        "part/test/hole/0.png",
    )
    assert data.val.types == ("good", "good", "dent", "hole")
    assert data.val.labels.tolist() == [False, False, True, True]
    for i, name in enumerate(data.val.paths):
        np.testing.assert_array_equal(
            data.val.pixels[i], resize(read_image(root / name), (32, 32))
        )
    mask = read_mask(root / "part/ground_truth/hole/0_mask.png").mask
    np.testing.assert_array_equal(data.val.masks[3], resize_mask(mask, (32, 32)))
    assert data.val.masks[2:].any(axis=(1, 2)).all() and not data.val.masks[:2].any()


def test_arrays_cannot_be_written(root: Path) -> None:
    data = load_search_data(spec(root))
    for images in (data.train, data.val):
        for array in (images.pixels, images.masks):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0


def test_info_says_what_was_used(root: Path) -> None:
    info = load_search_data(spec(root, validation={"real_per_type": 2}, mask_rule="any")).info
    assert info["counts"] == {"train": {"good": 4}, "val": {"dent": 2, "good": 2, "hole": 2}}
    assert (info["name"], info["category"], info["root_name"]) == ("made", "part", "made")
    assert (info["rule"], info["synthetic"]) == (
        "2 per anomaly type for validation; 2 of 6 normal images validate; fewer than 5 of some "
        "type, so synthetic ones are made for rwap_synthetic",
        False,
    )
    assert str(info["mask_rule"]).startswith("any:") and info["image_size"] == [32, 32]
    assert "test" not in info["counts"]  # type: ignore[operator]


def test_hash_follows_the_bytes_used_and_not_the_place(root: Path, tmp_path: Path) -> None:
    def digest(place: Path, **keys: object) -> object:
        return load_search_data(spec(place, **keys)).info["sha256"]

    first = digest(root)
    moved = root.rename(tmp_path / "elsewhere")
    assert digest(moved) == first
    write_image(moved / "part/test/hole/2.png", 99)
    assert digest(moved) == first, "a test image is no part of a search"
    assert digest(moved, validation={"normal": 3}) != first
    write_mask(moved / "part/ground_truth/hole/0_mask.png", 20)
    assert digest(moved) != first


def test_a_search_never_opens_test_files(root: Path) -> None:
    for name in ("test/good/0.png", "test/hole/1.png", "ground_truth/hole/2_mask.png"):
        (root / "part" / name).write_text("not an image")
    assert len(load_search_data(spec(root)).val) == 4
    with pytest.raises(DataError, match=r"0\.png"):
        load_test_set(spec(root))


def test_test_set_is_what_no_search_saw(root: Path) -> None:
    data, (test, _) = load_search_data(spec(root)), load_test_set(spec(root))
    assert test.types == ("dent", "good", "good", "hole", "hole")
    assert not set(test.paths) & {*data.train.paths, *data.val.paths}


def test_test_hash_follows_test_files_and_not_the_place(root: Path, tmp_path: Path) -> None:
    _, info = load_test_set(spec(root))
    assert info["counts"] == {"dent": 1, "good": 2, "hole": 2}
    moved = root.rename(tmp_path / "elsewhere")
    write_image(moved / "part/train/good/5.png", 98)
    assert load_test_set(spec(moved))[1] == info, "a train image is no part of the test"
    fewer = load_test_set(spec(moved, validation={"real_per_type": 2}))[1]
    assert fewer["sha256"] != info["sha256"]
    write_mask(moved / "part/ground_truth/hole/2_mask.png", 20)
    assert load_test_set(spec(moved))[1]["sha256"] != info["sha256"]


def test_progress_counts_every_image(root: Path) -> None:
    seen: list[tuple[int, int]] = []
    load_search_data(spec(root), lambda done, total: seen.append((done, total)))
    assert seen == [(i, 8) for i in range(1, 9)]
    seen.clear()
    load_test_set(spec(root), lambda done, total: seen.append((done, total)))
    assert seen == [(i, 5) for i in range(1, 6)]


def empty_mask(base: Path) -> Path:
    path = base / "ground_truth/hole/0_mask.png"
    Image.new("L", (50, 40)).save(path)
    return path


def small_mask(base: Path) -> Path:
    path = base / "ground_truth/hole/0_mask.png"
    Image.new("L", (25, 20), 255).save(path)
    return path


def broken_image(base: Path) -> Path:
    path = base / "train/good/5.png"
    path.write_bytes(path.read_bytes()[:100])
    return path


@pytest.mark.parametrize("damage", [empty_mask, small_mask, broken_image])
def test_a_file_in_the_way_is_named(root: Path, damage: Callable[[Path], Path]) -> None:
    path = damage(root / "part")
    with pytest.raises(DataError) as caught:
        load_search_data(spec(root))
    assert caught.value.path == path and caught.value.remedy


def test_wrong_roots_and_categories(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.category: 'paart'.*one of part"):
        load_search_data(spec(root, category="paart"))
    with pytest.raises(DataError, match="no such folder"):
        load_search_data(spec(root / "absent"))
    with pytest.raises(DataError, match=r"is a category itself; .*dataset\.category to part"):
        load_search_data(spec(root / "part", category="other"))
    with pytest.raises(ConfigError, match=r"dataset\.root"):
        load_search_data(DatasetSpec(name="mvtec"))


def test_home_is_expanded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root.parent))
    monkeypatch.setenv("USERPROFILE", str(root.parent))
    assert open_index(spec(Path("~/made"))).root == root.resolve()


def test_files_of_file_managers_are_no_images(root: Path) -> None:
    for name in ("train/good/._0.png", "train/good/Thumbs.db", "test/.cache/0.png"):
        path = root / "part" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    assert len(open_index(spec(root)).samples) == 13


def csv_spec(root: Path, text: str, **keys: object) -> DatasetSpec:
    file = root / "rows.csv"
    file.write_text(text, encoding="utf-8-sig")
    return spec(file, **keys)


ROWS = """\
path,mask,label,type,split,group,category
part/train/good/0.png,,0,,train,,part
part/train/good/1.png,,normal,good,val,,part
part/test/hole/0.png,part/ground_truth/hole/0_mask.png,1,hole,val,A,part
part/test/hole/1.png,part/ground_truth/hole/1_mask.png,1,hole,,A,part
part/test/dent/1.png,part/ground_truth/dent/1.png,anomalous,,test,B,part
part/test/dent/0.png,,0,,,,other
"""


def test_csv_rows_state_split_group_and_category(root: Path) -> None:
    dataset = csv_spec(root, ROWS)
    data, (test, _) = load_search_data(dataset), load_test_set(dataset)
    assert data.train.paths == ("part/train/good/0.png",)
    assert data.val.types == ("good", "hole", "hole")
    assert data.val.groups == ("part/train/good/1.png", "A", "A")
    assert test.types == ("anomaly",) and test.groups == ("B",)
    with pytest.raises(ConfigError, match="other, part"):
        open_index(csv_spec(root, ROWS, category="brick"))


class TestCsv(LayoutSuite):
    @pytest.fixture
    def index(self, root: Path) -> Index:
        return open_index(csv_spec(root, ROWS))

    @pytest.fixture
    def counts(self) -> dict[str, int]:
        return {"good": 2, "hole": 2, "anomaly": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,groups\na.png,0,x\n", "groups"),
        ("label\n0\n", "use path"),
        ("path\na.png\n", "one of label and type"),
        ("path,label\na.png,maybe\n", "line 2: label is 'maybe'"),
        ("path,label\na.png,\n", "line 2: label is ''"),
        ("path,label,type\na.png,0,hole\n", "line 2: label 0 contradicts type hole"),
        ("path,type,split\na.png,good,dev\n", "line 2: split is 'dev'"),
        ("path,type\na.png,good\na.png,hole\n", "line 3: a.png stands there twice"),
        ("path,type\n,good\n", "line 2: path is empty"),
        ("path,type\na.png,good,x\n", "line 2: more cells"),
        ("path,type\n", "no rows"),
    ],
)
def test_csv_errors_name_the_line(root: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_index(csv_spec(root, text))


def test_empty_test_split_is_refused_only_when_asked_for(root: Path) -> None:
    dataset = csv_spec(root, "".join(ROWS.splitlines(keepends=True)[:5]))
    assert len(load_search_data(dataset).val) == 3
    with pytest.raises(DataError, match="test split is empty"):
        load_test_set(dataset)


def test_csv_group_in_two_splits_is_refused(root: Path) -> None:
    text = ROWS.replace("test,B", "test,A")
    with pytest.raises(DataError, match="group 'A' is in the splits"):
        load_search_data(csv_spec(root, text))


def test_real_tiles(shared_data: Path) -> None:
    dataset = spec(shared_data / "magnetic_tile", category="magnetic_tile_mini")
    data = load_search_data(dataset)
    kinds = ("blowhole", "break", "crack", "fray", "uneven")
    assert data.info["counts"] == {
        "train": {"good": 48},
        "val": {**dict.fromkeys(kinds, 1), "good": 16},
    }
    test, _ = load_test_set(dataset)
    assert [test.types.count(kind) for kind in ("good", *kinds)] == [16, 5, 5, 5, 5, 5]
    assert 0.2 < data.train.pixels.mean() < 0.8
