"""Small datasets that a test may change, and what a search and a check say of them."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autosearch import cli
from autosearch.cli.screen import console
from autosearch.data import SearchData, load_search_data
from autosearch.data.check import Problem, Report, check_dataset
from autosearch.errors import DataError
from autosearch.spec.sections import DatasetSpec

SHAPE = (40, 50)


def photo(path: Path, seed: int = 0, shape: tuple[int, int] = SHAPE, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    Image.fromarray(values).save(path, **options)


def mark(shape: tuple[int, int] = SHAPE) -> np.ndarray:
    values = np.zeros(shape, dtype=np.uint8)
    values[3:9, 5:15] = 255
    return values


def mask(path: Path, values: np.ndarray | None = None, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mark() if values is None else values).save(path, **options)


def inverted(values: np.ndarray) -> Image.Image:
    return Image.fromarray(255 - values)


def sound_dataset(base: Path) -> Path:
    """Category ``part`` with nothing to say about: 13 train, 2 test normals, 3 ``hole`` images."""
    for i in range(13):
        photo(base / f"train/good/{i:03}.png", i)
    for i in range(2):
        photo(base / f"test/good/{i:03}.png", 20 + i)
    for i in range(3):
        photo(base / f"test/hole/{i:03}.png", 30 + i)
        mask(base / f"ground_truth/hole/{i:03}_mask.png")
    return base


def spec(root: Path, **keys: object) -> DatasetSpec:
    given = {"name": "x", "root": str(root), "category": "part", **keys}
    given = {"image_size": {"short": 32}} | given  # of their own shape, so that nothing is told
    return DatasetSpec.model_validate(given)


def checked(base: Path, **keys: object) -> Report:
    return check_dataset(spec(base.parent, **keys))


def found_in_files(base: Path, **keys: object) -> list[Problem]:
    """Problems of files: that one image validates, as by default, is none of them."""
    problems = checked(base, **keys).problems
    return [problem for problem in problems if "validation holds" not in problem.problem]


def loaded(base: Path, **keys: object) -> SearchData:
    return load_search_data(spec(base.parent, **keys))


def notes(base: Path, **keys: object) -> list[str]:
    """What a search says of the dataset; `data check` says as much with the severity warning."""
    found: Any = loaded(base, **keys).info["notes"]
    report = checked(base, **keys)
    assert report.usable
    remedies = {problem.remedy for problem in report.problems}
    assert all(note.rpartition("; ")[2] in " ".join(remedies) for note in found)
    return list(found)


def refusal(base: Path, **keys: object) -> DataError:
    """The error of a search, which `data check` names too."""
    with pytest.raises(DataError) as caught:
        loaded(base, **keys)
    error = caught.value
    errors = [problem for problem in checked(base, **keys).problems if problem.severity == "error"]
    assert (error.path, error.problem, error.remedy) in [
        (problem.path, problem.problem, problem.remedy) for problem in errors
    ]
    return error


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code and output of a command in a wide terminal, white space made even."""
    before, sys.argv = sys.argv, ["autosearch", *map(str, arguments)]
    console.width = 400
    try:
        cli.main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.argv = before
        console.width = None
    out, err = capsys.readouterr()
    return code, " ".join((out + err).split())
