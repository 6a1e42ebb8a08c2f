"""Folders of studies that earlier versions wrote; `tests/studies/` has one of each."""

import shutil
from pathlib import Path

import pytest

import autosearch
from autosearch.data import load_search_data
from autosearch.spec.sections import DatasetSpec
from autosearch.storage.folder import StudyFolder

STUDIES = sorted((Path(__file__).parent / "studies").iterdir())


@pytest.fixture(params=STUDIES, ids=lambda path: path.name)
def study(request: pytest.FixtureRequest, tmp_path: Path) -> autosearch.Study:
    folder = tmp_path / "old"
    shutil.copytree(request.param, folder)
    return autosearch.open_study(folder)


def test_is_read_as_it_was_written(study: autosearch.Study) -> None:
    assert study.counts["complete"] == len(study.trials) == 6
    (best,) = study.front
    assert best.number == study.recommend().trial.number == 4
    assert best.values == pytest.approx({"gflops": 0.030827056, "rwap": 0.47053612149811314})
    told = study.recommend(rule="pessimistic")
    assert told.trial.number == 4 and "an earlier version kept no draws" in told.reasons[-1]
    assert best.params["stage3.patch_size"] == 13 and best.measured["bank_mb"] == 12.77952
    assert study.tests[4]["metrics"]["rwap"] == pytest.approx(0.1234752787670246)
    assert study.meta["autosearch"] == "0.1.0" and study.spec.dataset.image_size == 64


def test_keeps_what_it_was_begun_with(study: autosearch.Study) -> None:
    assert study.spec.dataset.regions == "resized"
    asked = study.spec.model_copy(update={"dataset": DatasetSpec(regions="source")})
    before = DatasetSpec(
        regions="resized", fit="stretch", layout="mvtec",
        validation={"normal": None, "synthetic": None},
    )  # fmt: skip
    assert StudyFolder(study.path).as_begun(asked).dataset == before
    assert StudyFolder(study.path / "new").as_begun(asked) == asked


def test_is_shown(study: autosearch.Study) -> None:
    assert study.report().stat().st_size > 1e6
    assert len(study.figure("pareto").data[0].x) == 5


def test_is_gone_on_with(study: autosearch.Study) -> None:
    data = load_search_data(study.spec.dataset)
    if data.info["sha256"] != study.meta["data"]["sha256"]:
        pytest.skip("the demo is drawn otherwise by the libraries that are installed here")
    before = study.trials
    study.resume(trials=8, executor="local")
    assert study.trials[:6] == before and study.counts["complete"] == 8
    # The configuration evaluated again gives the very same values.
    figures = study.evaluate([4], resamples=100, force=True)[4]
    assert figures["validation"]["reproduced"]
