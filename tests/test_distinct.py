"""Whether validation can tell the trials of a study apart, and who says so where it cannot."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dataset_parts import command
from PIL import Image

import autosearch
from autosearch.contracts import Status, TrialRecord, registry
from autosearch.report.info import study_info
from autosearch.storage.folder import StudyFolder
from autosearch.study import indistinct

KNOWN = registry.objectives()
SEVERAL = {"counts": {"val": {"good": 4, "pit": 3}}}
SIDE = 64


def said(
    values: list[float],
    name: str = "rwap",
    data: dict | None = None,
    **measured: list[float],
) -> str | None:
    """What is said of complete trials of different configurations."""
    records = [
        TrialRecord(
            number,
            Status.COMPLETE,
            {"x": number},
            {"x": number},
            {"gflops": 1.0, name: value},
            {key: column[number] for key, column in measured.items()},
        )
        for number, value in enumerate(values)
    ]
    objectives = {key: KNOWN[key] for key in ("gflops", name)}
    return indistinct(records, objectives, SEVERAL if data is None else data, 0.01)


class TestJudged:
    def test_spread_within_the_error_of_the_best(self) -> None:
        errors = {"rwap_se": [0.01, 0.02, 0.21]}
        assert said([0.3, 0.4, 0.52], **errors) is None
        text = said([0.3, 0.4, 0.5], **errors)
        assert text is not None and "\n" not in text
        assert "rwap from 0.3000 to 0.5000, standard error 0.2100" in text
        assert "by chance and cost" in text
        for key in ("real_per_type", "image_size", "synthetic"):
            assert f"dataset.{'' if key == 'image_size' else 'validation.'}{key}" in text

    def test_no_better_than_chance(self) -> None:
        known = {"rwap_se": [0.0] * 3}
        near = said([1e-6, 2e-6, 9e-6], rwap_calibrated=[0.01, 0.02, 0.012], **known)
        assert near is not None and "near chance (rwap_calibrated at most 0.0200" in near
        assert said([0.1, 0.2, 0.3], rwap_calibrated=[0.01, 0.021, 0.012], **known) is None

    def test_a_single_anomalous_image(self) -> None:
        one = {"counts": {"val": {"good": 4, "pit": 1}}}
        text = said([0.1, 0.9], data=one)
        assert text is not None and "on a single anomalous image" in text
        made = {"counts": {"val": {"good": 4, "pit": 1, "synthetic_perlin": 4}}}
        assert said([0.1, 0.9], data=made) is None

    def test_a_single_one_with_a_mask_where_pixels_count(self) -> None:
        drawn = {"pit": {"images": 3, "marked": 1}}
        assert "single" in str(said([0.1, 0.9], data={**SEVERAL, "defects": drawn}))
        data = {**SEVERAL, "defects": drawn}
        assert said([0.1, 0.9], "image_auroc", data, image_auroc_se=[0.01, 0.01]) is None

    def test_of_images(self) -> None:
        errors = {"image_auroc_se": [0.1, 0.2]}
        text = said([0.55, 0.7], "image_auroc", **errors)
        assert text is not None and "near chance, which gives an image_auroc of 0.5" in text
        assert "image_size" not in text
        assert said([0.2, 0.95], "image_auroc", **errors) is None
        assert "standard error 0.2000" in str(said([0.75, 0.95], "image_auroc", **errors))

    def test_of_earlier_versions_by_chance_and_spread_alone(self) -> None:
        assert said([0.3, 0.31, 0.32], data={}) is None
        assert "hardly a difference" in str(said([0.3, 0.30001, 0.30002], data={}))
        assert "near chance" in str(said([0.0, 0.1], data={}, rwap_calibrated=[0.01, 0.01]))
        assert "near chance" in str(said([0.4, 0.55], "image_auroc", {}))
        assert said([0.4, 0.56], "image_auroc", {}) is None

    def test_nothing_where_there_is_nothing_to_tell_apart(self) -> None:
        assert said([0.5], data={}) is None
        same = TrialRecord(0, Status.COMPLETE, {}, {"x": 0}, {"rwap": 0.1})
        objectives = {"rwap": KNOWN["rwap"]}
        assert indistinct([same, same], objectives, {}, 0.01) is None
        failed = [TrialRecord(n, Status.FAILED, {}, {"x": n}) for n in range(3)]
        assert indistinct(failed, objectives, {}, 0.01) is None
        cost = [TrialRecord(n, Status.COMPLETE, {}, {"x": n}, {"gflops": 1.0}) for n in range(3)]
        assert indistinct(cost, {"gflops": KNOWN["gflops"]}, {}, 0.01) is None


def write(base: Path, side: int, change: int) -> None:
    """Twelve normal images to train on and four pits, three of them for validation."""
    draw = np.random.default_rng(0)
    names = [f"train/good/{i:02}" for i in range(12)] + [f"test/good/{i}" for i in range(3)]
    for name in [*names, *(f"test/pit/{i}" for i in range(4))]:
        values = draw.normal(120, 12, (SIDE, SIDE, 3))
        if "pit" in name:
            mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
            y, x = draw.integers(4, 40, 2)
            mask[y : y + side, x : x + side] = 255
            values[mask > 0] += change
            path = base / f"ground_truth/{name.removeprefix('test/')}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
        path = base / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(path)


def searched(base: Path, side: int, change: int) -> autosearch.Study:
    write(base / "data" / "part", side, change)
    space = {
        "study": {"name": "study", "runner": "autopatch", "trials": 3},
        "space": {
            "stage1.extraction_block": [5, 6, 7],
            "width": 1.0,
            "coreset_ratio": 0.2,
            "coreset_method": "random",
        },
        "objectives": ["gflops", "rwap"],
        "sampler": {"name": "random"},
        "backbone": {"weights": "random"},
        "dataset": {
            "root": str(base / "data"),
            "category": "part",
            "image_size": SIDE,
            "validation": {"real_per_type": 3, "synthetic": None},
        },
    }
    return autosearch.search(space, results=base / "results", executor="local")


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> autosearch.Study:
    """A study on pits of one pixel that nobody can see."""
    return searched(tmp_path_factory.mktemp("blind"), 1, 0)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: object) -> str:
        code, out = command(capsys, *arguments)
        assert code == 0, out
        return out

    return run


APART = "validation cannot tell these trials apart: "


class TestSaid:
    def test_errors_are_recorded(self, blind: autosearch.Study) -> None:
        for record in blind.trials:
            assert 0 < record.measured["rwap_se"] < 1 > record.measured["image_auroc_se"] > 0
            assert "rwap_calibrated_se" not in record.measured, "nobody searches by it"

    def test_by_the_study_and_its_recommendation(self, blind: autosearch.Study) -> None:
        assert blind.doubt is not None and blind.doubt.startswith(APART)
        found = blind.recommend()
        assert found.doubt == found.reasons[0] == blind.doubt and "best" not in str(found)
        assert "highest, by chance, validation rwap of all" in found.reasons[1]
        assert blind.recommend(prefer="gflops").doubt is None

    def test_by_commands(self, blind: autosearch.Study, run: Callable[..., str]) -> None:
        shown = run("show", blind.path)
        assert APART in shown and "Pareto front" in shown
        assert json.loads(run("show", blind.path, "--json"))["study"]["doubt"] == blind.doubt
        named = run("recommend", blind.path)
        assert APART in named and "highest by validation, which is chance here" in named
        assert "best" not in named and "export" not in named
        both = ("--trial", 0, "--trial", 1)
        evaluated = run("evaluate", blind.path, *both, "--resamples", 100)
        assert APART in evaluated and "Choose by validation" not in evaluated

    def test_at_the_end_of_a_search(self, blind: autosearch.Study, run) -> None:
        out = run("resume", blind.path, "--trials", 3, "--executor", "local")
        assert APART in out and "Pareto front" in out
        assert "autosearch export" not in out and "autosearch recommend" not in out

    def test_by_the_page(self, blind: autosearch.Study) -> None:
        info = study_info(StudyFolder(blind.path))
        assert info["doubt"] == blind.doubt
        assert any(text.startswith("Validation cannot tell") for text in info["warnings"])
