"""The demo set: honest split of the photographs, exact masks, one folder however many make it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from autosearch.data import demo
from autosearch.data.check import check_dataset
from autosearch.data.defects import DEFECTS, damage
from autosearch.data.images import read_image
from autosearch.data.load import load_search_data
from autosearch.spec.sections import DatasetSpec


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and a demo set of few images."""
    monkeypatch.setenv("AUTOSEARCH_CACHE", str(tmp_path))
    for name, value in {"TRAIN": 3, "TEST": 2, "PER_TYPE": 1}.items():
        monkeypatch.setattr(demo, name, value)
    return tmp_path


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_the_seed_decides_every_pixel(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = contents(demo.demo_root(3)), contents(demo.demo_root(4))
    monkeypatch.setenv("AUTOSEARCH_CACHE", str(small / "again"))
    assert contents(demo.demo_root(3)) == first
    images = [name for name in first if name.endswith(".png") and "ground_truth" not in name]
    assert len(images) == 3 * (3 + 2 + 4)
    assert all(first[name] != other[name] for name in images)


def test_two_makers_at_once_both_succeed(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, together = demo._make, Barrier(2, timeout=60)

    def make_then_wait(root: Path, seed: int) -> None:
        make(root, seed)
        together.wait()

    monkeypatch.setattr(demo, "_make", make_then_wait)
    with ThreadPoolExecutor(2) as pool:
        roots = list(pool.map(demo.demo_root, [0, 0]))
    assert roots[0] == roots[1] and (roots[0] / "README.txt").is_file()
    assert [path.name for path in (small / "demo").iterdir()] == [roots[0].name]


def test_a_failed_making_leaves_nothing(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: Path, seed: int) -> None:
        root.mkdir()
        raise OSError("disk full")

    monkeypatch.setattr(demo, "_make", fail)
    with pytest.raises(OSError, match="disk full"):
        demo.demo_root(0)
    assert list((small / "demo").iterdir()) == []


def test_test_images_share_no_pixel_with_training_images(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "PER_TYPE", 0)
    halves = np.full((512, 512), 0.8)
    halves[:, : demo._TEST_COLUMNS] = 0.2
    monkeypatch.setattr(demo, "photographs", lambda: dict.fromkeys(demo.CATEGORIES, halves))
    root = demo.demo_root(0)
    for category in demo.CATEGORIES:
        for path in (root / category / "train/good").iterdir():
            assert read_image(path).min() > 0.6
        for path in (root / category / "test/good").iterdir():
            assert read_image(path).max() < 0.4


@pytest.mark.parametrize("kind", ["cut_paste", "scratch", "stain"])
@pytest.mark.parametrize("seed", range(4))
def test_masks_are_where_a_defect_covers_at_least_half(kind: str, seed: int) -> None:
    plain, foreign = np.full((128, 128), 0.5), np.full((128, 128), 0.1)
    damaged, mask = damage(kind, plain, np.random.default_rng(seed), foreign)
    # On a plain image the change is the coverage times a constant.
    change = np.abs(damaged - plain)
    coverage = change / change.max()
    clear = np.abs(coverage - 0.5) > 1e-9
    np.testing.assert_array_equal(mask[clear], coverage[clear] > 0.5)
    assert 20 < mask.sum() < mask.size / 4


@pytest.mark.parametrize("kind", sorted(DEFECTS))
def test_defects_change_the_inside_and_leave_the_rest(kind: str) -> None:
    photo = demo.photographs()["gravel"][:256, :256]
    foreign = demo.photographs()["brick"][:256, :256]
    damaged, mask = damage(kind, photo, np.random.default_rng(1), foreign)
    change = np.abs(damaged - photo)
    assert change[mask].mean() > 0.05
    assert (change > 0).sum() < 2 * mask.sum() + 400
    assert damaged.min() >= 0 and damaged.max() <= 1


def test_the_real_demo_is_sound() -> None:
    for category in demo.CATEGORIES:
        report = check_dataset(DatasetSpec(category=category))
        assert report.problems == ()
        assert report.counts["train"] == {"good": 30}
        assert report.counts["test"] == {"good": 10, **dict.fromkeys(sorted(DEFECTS), 7)}
    data = load_search_data(DatasetSpec(image_size=64))
    assert data.info["synthetic"] is True and data.info["category"] == "brick"
    assert "SYNTHETIC" in Path(str(data.info["root"]), "README.txt").read_text(encoding="utf-8")
