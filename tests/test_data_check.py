"""The dataset check finds each planted problem, and nothing in a sound dataset."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autosearch.data.check import Problem, RegionAreas, check_dataset
from autosearch.data.load import load_search_data
from autosearch.errors import AutosearchError
from autosearch.spec.sections import DatasetSpec


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A sound category ``part``: 14 train and 2 test normals, 5 ``hole`` images."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "part"
    names = [f"train/good/{i:02}" for i in range(14)]
    names += [f"test/good/{i}" for i in range(2)] + [f"test/hole/{i}" for i in range(5)]
    for number, name in enumerate(names):
        shape = (40 + number, 60)
        save(folder / f"{name}.png", rng.integers(0, 256, shape, dtype=np.uint8))
        if "hole" in name:
            mask = np.zeros(shape, dtype=np.uint8)
            mask[2:5, 2:5] = mask[5, 5] = 255  # one region of 10 pixels, joined by a corner
            mask[20:24, 30:40] = 255
            save(folder / f"ground_truth/hole/{name[-1]}_mask.png", mask)
    return folder


def check(base: Path, **keys: object) -> tuple[Problem, ...]:
    return check_dataset(_spec(base, **keys)).problems


def _spec(base: Path, **keys: object) -> DatasetSpec:
    given = {"name": "x", "root": str(base.parent), "category": base.name, **keys}
    usual = {"image_size": {"short": 32}, "validation": {"real_per_type": 3}}
    return DatasetSpec.model_validate(usual | given)


def test_a_sound_dataset(base: Path) -> None:
    report = check_dataset(_spec(base))
    assert report.problems == () and report.usable
    assert report.counts == {
        "train": {"good": 12},
        "val": {"good": 2, "hole": 3},
        "test": {"good": 2, "hole": 2},
    }
    assert (report.smallest, report.largest) == ((60, 40), (60, 60))
    assert report.regions == {"hole": RegionAreas(10, 10, 25.0, 40)}


def test_every_planted_problem_is_found(base: Path) -> None:
    truth = base / "ground_truth/hole"
    (base / "train/good/13.png").write_bytes(b"broken")
    (truth / "0_mask.png").unlink()
    save(truth / "1_mask.png", np.zeros((57, 60), dtype=np.uint8))
    grey = np.zeros((58, 60), dtype=np.uint8)
    grey[1, 1], grey[1, 3] = 255, 100
    save(truth / "2_mask.png", grey)
    save(truth / "9_mask.png", grey)
    (base / "test/dent").mkdir()
    (base / "test/good/1.png").write_bytes((base / "train/good/05.png").read_bytes())
    found = {
        (problem.severity, problem.path.relative_to(base).as_posix(), problem.problem[:15])
        for problem in check(base)
    }
    assert found == {
        ("error", "train/good/13.png", "is not of any k"),
        ("warning", "test/hole/0.png", "has no mask (1 "),
        ("error", "ground_truth/hole/1_mask.png", "the mask marks "),
        ("warning", "ground_truth/hole/2_mask.png", "holds several v"),
        ("warning", "ground_truth/hole/2_mask.png", "2 of 2 regions "),
        ("warning", "ground_truth/hole/9_mask.png", "a mask without "),
        ("warning", "test/dent", "a type without "),
        ("warning", "train/good/05.png", "the same bytes "),
    }
    assert all(problem.remedy for problem in check(base))


def test_mask_of_another_shape(base: Path) -> None:
    save(base / "ground_truth/hole/0_mask.png", np.full((20, 30), 255, dtype=np.uint8))
    (problem,) = check(base)
    assert problem.severity == "error" and "30x20" in problem.problem


def test_regions_of_which_little_is_left_are_named(base: Path) -> None:
    mask = np.zeros((56, 60), dtype=np.uint8)
    mask[1, 1] = 255
    save(base / "ground_truth/hole/0_mask.png", mask)
    (problem,) = check(base)
    assert problem.severity == "warning"
    size = "32 x 40 px (height x width)"
    assert problem.problem == f"1 of 1 regions have fewer than 4 pixels at {size}"
    (problem,) = check(base, regions="resized")
    assert "all regions vanish" in problem.problem
    assert check(base, regions="resized", mask_rule="any") == ()


def test_regions_that_fall_together_are_named(base: Path) -> None:
    specks = np.zeros((120, 120), dtype=np.uint8)
    specks[::2, ::2] = 255
    save(base / "test/hole/0.png", np.random.default_rng(1).integers(0, 256, (120, 120), np.uint8))
    save(base / "ground_truth/hole/0_mask.png", specks)
    texts = [problem.problem for problem in check(base)]
    size = "32 x 40 px (height x width)"
    assert f"2576 of 3600 regions share their pixels with others at {size}" in texts
    texts = [problem.problem for problem in check(base, image_size=[120, 150])]
    size = "120 x 150 px (height x width)"
    assert texts == [f"3600 of 3600 regions have fewer than 4 pixels at {size}"]


def test_too_few_normals(base: Path) -> None:
    (problem,) = check(base, validation={"normal": 5, "real_per_type": 3})
    assert problem.severity == "warning" and "only 9 normal" in problem.problem
    (problem,) = check(base, validation={"normal": 14, "real_per_type": 3})
    assert problem.severity == "error" and "validation.normal" in problem.problem


def test_more_anomalies_wanted_than_there_are(base: Path) -> None:
    texts = [problem.problem for problem in check(base, validation={"real_per_type": 6})]
    assert [text.split(" images")[0] for text in texts][:1] == ["type hole has 5"]
    assert texts[1] == "type hole has no image in the test split"


@pytest.mark.parametrize("name", ["train/good/03.png", "ground_truth/hole/0_mask.png"])
def test_error_means_that_loading_refuses(base: Path, name: str) -> None:
    (base / name).write_bytes(b"broken")
    (problem,) = check(base)
    assert problem.severity == "error"
    with pytest.raises(AutosearchError) as caught:
        load_search_data(_spec(base))
    assert str(caught.value) == f"{problem.path}: {problem.problem}; {problem.remedy}"


def test_real_tiles_have_no_errors(shared_data: Path) -> None:
    dataset = DatasetSpec(
        name="tiles", root=str(shared_data / "magnetic_tile"), category="magnetic_tile_mini"
    )
    report = check_dataset(dataset)
    assert report.usable
    assert sorted(report.regions) == ["blowhole", "break", "crack", "fray", "uneven"]
