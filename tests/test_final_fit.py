"""What detectors are fitted on before they are measured: what is exported, or as in the search."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from dataset_parts import command
from final_parts import search_in
from sklearn.metrics import average_precision_score

import autosearch
from autosearch.cli.final_view import fit_notes
from autosearch.data import load_test_set
from autosearch.errors import ConfigError, StudyError
from autosearch.report.info import study_info
from autosearch.storage.folder import StudyFolder
from autosearch.study.fitted import all_normal, fit_of
from autosearch.study.inputs import rebuild, reopen
from autosearch.study.truth import maps_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return search_in(tmp_path_factory.mktemp("made")).path


@pytest.fixture
def study(made: Path, tmp_path: Path) -> autosearch.Study:
    return autosearch.open_study(shutil.copytree(made, tmp_path / "study"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: object) -> str:
        code, out = command(capsys, *arguments)
        assert code == 0, out
        return out

    return run


def other(study: autosearch.Study) -> int:
    """A trial of another configuration than trial 0."""
    return next(r.number for r in study.trials if r.canonical != study.trials[0].canonical)


def aged(study: autosearch.Study, number: int) -> None:
    """Take away what earlier versions did not store."""
    path = study.path / "trials" / str(number) / "test.json"
    kept = json.loads(path.read_text())
    del kept["fit"], kept["fitted_on"]
    path.write_text(json.dumps(kept))


class TestMeasured:
    def test_is_what_is_exported(self, study: autosearch.Study) -> None:
        found = study.evaluate([0], resamples=100)[0]
        inputs = reopen(StudyFolder(study.path))
        detector = rebuild(inputs, study.trial(0))
        everything = all_normal(inputs.data)
        detector.fit(everything)
        test, _ = load_test_set(study.spec.dataset)
        maps = maps_of(detector, test)
        expected = average_precision_score(test.masks.ravel(), maps.ravel())
        assert found["metrics"]["ap"] == pytest.approx(expected)
        assert (found["fit"], found["fitted_on"]) == ("all", len(everything)) == ("all", 10)
        assert list(found["seconds"]) == ["fit", "validation", "refit", "test", "intervals"]
        folder = study.export(0, formats=["torch"])
        kept = json.loads((folder / "model.json").read_text())
        assert kept["fit"]["images"] == found["fitted_on"]
        assert kept["thresholds"]["pixel"] == found["thresholds"]["pixel"]
        assert found["validation"]["reproduced"], "by the detector of the search"

    def test_as_in_the_search(self, study: autosearch.Study) -> None:
        both = study.evaluate([0], resamples=100)[0], study.evaluate([0], fit="train")[0]
        inputs = reopen(StudyFolder(study.path))
        detector = rebuild(inputs, study.trial(0))
        detector.fit(inputs.data.train)
        test, _ = load_test_set(study.spec.dataset)
        maps = maps_of(detector, test)
        expected = average_precision_score(test.masks.ravel(), maps.ravel())
        assert both[1]["metrics"]["ap"] == pytest.approx(expected)
        assert (both[1]["fit"], both[1]["fitted_on"]) == ("train", len(inputs.data.train))
        assert both[0]["metrics"]["ap"] != both[1]["metrics"]["ap"]
        assert both[0]["thresholds"] == both[1]["thresholds"]
        assert both[0]["validation"] == both[1]["validation"]
        assert "refit" not in both[1]["seconds"]

    def test_otherwise_is_replaced(self, study: autosearch.Study, run) -> None:
        study.evaluate([0], resamples=100)
        aged(study, 0)
        assert study.tests[0]["fit"] == "train", "as earlier versions measured"
        study.evaluate([0], resamples=100, fit="train")
        assert study.tests[0]["fitted_on"] is None, "measured alike, so not again"
        run("evaluate", study.path, "--trial", 0, "--resamples", 100)
        assert study.tests[0]["fit"] == "all"
        out = run("evaluate", study.path, "--trial", 0, "--resamples", 100, "--fit", "train")
        assert study.tests[0]["fit"] == "train"
        assert "fitted on the train split alone, as in the search" in out

    def test_learning_from_defects_stays_on_the_train_split(self) -> None:
        assert [fit_of(asked, True) for asked in ("all", "train")] == ["train", "train"]
        assert [fit_of(asked, False) for asked in ("all", "train")] == ["all", "train"]

    def test_is_all_or_train(self, study: autosearch.Study) -> None:
        with pytest.raises(ConfigError, match="fit: 'test' is not allowed; expected all or train"):
            study.evaluate([0], fit="test")  # type: ignore[arg-type]


class TestCompared:
    def test_only_if_measured_alike(self, study: autosearch.Study) -> None:
        number = other(study)
        study.evaluate([0], resamples=100, fit="train")
        study.evaluate([number], resamples=100)
        with pytest.raises(StudyError, match=r"other images to fit on \(--fit\) than trial 0"):
            study.compare(number, 0)

    def test_the_fixed_choice_is_measured_alike_or_named(
        self, study: autosearch.Study, run
    ) -> None:
        folder, number = StudyFolder(study.path), other(study)
        spec, first = folder.load_spec(), study.trials[0].params
        folder.write_spec(spec.model_copy(update={"start": [first]}))
        study.evaluate([0], resamples=100, fit="train")
        again = ("evaluate", study.path, "--resamples", 100, "--trial", number)
        out = run(*again, "--trial", other(study))
        assert "not set against trial 0:" in out and "--fit" in out
        assert "to trial 0 [95 %]" in run(*again, "--trial", 0)
        assert {figures["fit"] for figures in study.tests.values()} == {"all"}


class TestShown:
    def test_wherever_test_figures_are(self, study: autosearch.Study, run) -> None:
        number = other(study)
        study.evaluate([0, number], resamples=100)
        told = "on all 10 normal images but the test split's, as export does"
        assert f"fitted {told}" in run("show", study.path, "--trial", 0)
        table = run("evaluate", study.path, "--trial", 0, "--trial", number)
        assert table.count(f"fitted {told}") == 1
        assert "test_fit" in run("show", study.path, "--csv", "--trial", 0)
        info = study_info(StudyFolder(study.path))
        assert (info["tests"]["0"]["fit"], info["tests"]["0"]["fitted_on"]) == ("all", 10)
        for record in study.front:
            study.evaluate([record.number], resamples=100)
        assert f"test: fitted {told}" in run("show", study.path)

    def test_of_several_ways_say_which_trials(self) -> None:
        tested = [{"trial": 0}, {"trial": 1, "fit": "all", "fitted_on": 9}, {"trial": 2}]
        assert list(fit_notes(tested)) == [
            "on the train split alone, as in the search (trial 0, 2)",
            "on all 9 normal images but the test split's, as export does (trial 1)",
        ]
