"""What is told of a dataset, and where: checks, runs, tables and pages; with types of any name."""

import json
from pathlib import Path

import numpy as np
import pytest
from dataset_parts import command, inverted, mark, mask, photo, sound_dataset

import autosearch
from autosearch.data.check import Problem, Report
from autosearch.data.notes import Note, summary
from autosearch.errors import DataError


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A sound category ``part``, which a test may change."""
    return sound_dataset(tmp_path / "data" / "part")


# What is said, item 13.


def test_problems_of_one_kind_stand_on_one_line(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(12):
        photo(base / f"test/dent/{i:03}.png", 80 + i)
        mask(base / f"ground_truth/dent/{i:03}_mask.png", np.zeros_like(mark()))
        inverted(mark()).save(base / f"ground_truth/hole/{i:03}_mask.png")
    code, out = command(capsys, "data", "check", base.parent)
    assert code == 1 and out.count("error ") == 1 and out.count("as an inverted mask does") == 1
    assert "error 12 times, such as " in out and "dent/000_mask.png: the mask marks" in out
    assert "warning 9 times, such as " in out and "and 9 more (--all names them)" in out
    assert "dent/002_mask.png" in out and "dent/003_mask.png" not in out
    code, out = command(capsys, "data", "check", base.parent, "--all")
    assert code == 1 and out.count("error ") == 12 and "dent/011_mask.png" in out


def test_problems_are_grouped_by_kind_and_remedy() -> None:
    def problem(number: int, remedy: str = "mend it") -> Problem:
        return Problem.of_error(DataError(f"{number}.png", f"{number}x{number} pixels", remedy))

    first = [problem(n) for n in range(3)]
    report = Report("x", Path(), {}, (0, 0), (0, 0), {}, (*first, problem(7, "remove it")))
    assert report.groups == (tuple(first), (report.problems[3],))


def test_notes_are_one_line_a_kind() -> None:
    found = [Note(Path(f"{n}\n.png"), "is odd", "change it", str(n)) for n in range(3)]
    found.append(Note(Path("x\udcff.png"), "is even", "keep it"))
    assert summary(found, str) == [
        "3 files: each is odd (first 0\\n.png: 0); change it",
        "1 file is even (x\\udcff.png); keep it",
    ]


# Types of any name, item 11, through a whole search; and what its reader is told.

NAMES = ("all", "mean", "normal", "synthetic_perlin", "test", "val", "split", "images", "real")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> autosearch.Study:
    """A search with synthetic anomalies, odd types, and an inverted mask in each part."""
    base = sound_dataset(tmp_path_factory.mktemp("odd") / "part")
    for number, kind in enumerate(NAMES):
        for i in range(2):
            photo(base / f"test/{kind}/{i}.png", 100 + 2 * number + i)
            mask(base / f"ground_truth/{kind}/{i}.png")
    for i in range(2):
        inverted(mark()).save(base / f"ground_truth/all/{i}.png")
    given = {
        "dataset.root": base.parent, "dataset.category": "part", "dataset.image_size": [32, 40],
        "dataset.validation.synthetic.kind": "perlin", "backbone.weights": "random",
        "space": {"width": 1.0, "stage0.extraction_block": 1,
                  "coreset_ratio": {"float": [0.1, 0.9]}},
    }  # fmt: skip
    results = tmp_path_factory.mktemp("results")
    made = autosearch.search("autopatch", given, trials=4, results=results, executor="local")
    made.evaluate([made.front[0].number], resamples=20)
    return autosearch.open_study(made.path)


def test_types_of_any_name_keep_apart(
    study: autosearch.Study, capsys: pytest.CaptureFixture[str]
) -> None:
    number = study.front[0].number
    counts = study.meta["data"]["counts"]["val"]
    assert counts["synthetic_perlin"] == 1 and counts["synthetic_perlin_2"] == counts["good"] == 2
    assert set(study.tests[number]["types"]) == {*NAMES, "hole"}
    assert all(part["images"] == 1 + (kind == "hole")
               for kind, part in study.tests[number]["types"].items())  # fmt: skip
    assert {"rwap_real", "rwap_synthetic"} <= study.trials[number].measured.keys()
    assert not any(kind in study.trials[number].measured for kind in NAMES)
    code, out = command(capsys, "show", study.path, "--csv")
    header = out.split()[0].split(",")
    assert code == 0 and len(set(header)) == len(header) and not set(header) & set(NAMES)
    whole = json.loads(command(capsys, "show", study.path, "--json", "--trial", number)[1])
    assert set(whole["trial"]["test"]["types"]) == {*NAMES, "hole"}
    code, out = command(capsys, "show", study.path, "--trial", number)
    assert code == 0 and all(f" {kind} 1" in out for kind in NAMES)
    code, out = command(capsys, "correlate", study.path, "rwap_synthetic", "rwap_real")
    assert code == 0 and "over 4 different configurations" in out
    page = study.report().read_text(encoding="utf-8")
    assert all(f"1 {kind}" in page for kind in NAMES)


def test_check_shows_types_of_any_name(
    study: autosearch.Study, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = command(capsys, "data", "check", study.meta["data"]["root"])
    assert code == 0 and "type train (11) val (12) test (13)" in out
    assert all(f" {kind} 0 1 1 " in out for kind in NAMES)


def test_what_was_assumed_is_shown_wherever_figures_are(
    study: autosearch.Study, capsys: pytest.CaptureFixture[str]
) -> None:
    (note,) = study.meta["data"]["notes"]
    assert "part/ground_truth/all/0.png" in note and str(study.meta["data"]["root"]) not in note
    assert f"assumed {note}" in command(capsys, "show", study.path)[1]
    number = study.front[0].number
    out = command(capsys, "show", study.path, "--trial", number)[1]
    assert "assumed of test images: 1 file marks more than half" in out
    page = study.report().read_text(encoding="utf-8")
    assert "Assumed of the data: 1 file marks more than half" in page
