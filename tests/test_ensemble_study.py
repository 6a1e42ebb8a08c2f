"""Several trials of a study as one detector: evaluated, compared, shown, exported."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dataset_parts import command
from final_parts import search_in
from report_parts import show_table
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner

import autosearch
from autosearch.cli.app import app
from autosearch.contracts.trials import Status, ensemble_name
from autosearch.data import load_test_set
from autosearch.errors import ConfigError, StudyError
from autosearch.export import trial
from autosearch.export.card import model_card
from autosearch.export.folder import load_model, read_manifest
from autosearch.export.frozen import Frozen
from autosearch.report.info import study_info
from autosearch.storage.folder import StudyFolder
from autosearch.storage.trial_store import TrialStore
from autosearch.study.ensemble import MOST, members_of
from autosearch.study.fitted import all_normal
from autosearch.study.inputs import rebuild, reopen

DRAWN = """
const [trace] = document.querySelector(".scatter").data.filter((one) => one.name === "ensemble");
return trace.text.map((name, i) => [name, trace.x[i], trace.y[i]]);
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two configurations; an ensemble of them is evaluated, and trial 0."""
    study = autosearch.open_study(search_in(tmp_path_factory.mktemp("made")).path)
    study.evaluate([0], ensemble=pair(study)[::-1], resamples=100)
    return study.path


@pytest.fixture
def study(made: Path) -> autosearch.Study:
    return autosearch.open_study(made)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: object, code: int = 0) -> str:
        found, out = command(capsys, *arguments)
        assert found == code, out
        return out

    return run


@pytest.fixture(scope="module")
def exported(made: Path) -> Path:
    """The ensemble as a model."""
    numbers = pair(autosearch.open_study(made))
    given = ["export", str(made), "--ensemble", ",".join(map(str, numbers))]
    kinds = (word for name in ("onnx", "openvino", "torch") for word in ("--format", name))
    done = CliRunner().invoke(app, [*given, *kinds])
    assert done.exit_code == 0 and "autosearch predict" in done.output, done.output
    return made / "exports" / f"ensemble-{ensemble_name(numbers)}"


def pair(study: autosearch.Study) -> list[int]:
    """Trial 0 and the first of another configuration."""
    first, *others = study.trials
    return [0, next(r.number for r in others if r.canonical != first.canonical)]


def maps_by_hand(
    study: autosearch.Study, everything: bool, pixels: np.ndarray
) -> tuple[np.ndarray, float]:
    """The mean of standardised maps, and the operations of all members, made here."""
    inputs, total, flops = reopen(StudyFolder(study.path)), 0.0, 0.0
    normal = torch.tensor(inputs.data.val.select(~inputs.data.val.labels).pixels)
    for number in pair(study):
        detector = rebuild(inputs, study.trial(number))
        detector.fit(inputs.data.train)
        scores = detector.anomaly_maps(normal).numpy().astype(float)
        flops += detector.cost().flops
        if everything:
            detector = rebuild(inputs, study.trial(number))
            detector.fit(all_normal(inputs.data))
        maps = detector.anomaly_maps(torch.tensor(pixels)).numpy()
        total = total + (maps - scores.mean()) / scores.std() / 2
    return total, flops


class TestEvaluated:
    def test_is_the_mean_of_standardised_maps(self, study: autosearch.Study) -> None:
        name = ensemble_name(pair(study))
        figures = study.ensembles[name]
        assert figures["ensemble"] == pair(study) and figures["trial"] is None
        test, _ = load_test_set(study.spec.dataset)
        maps, _ = maps_by_hand(study, True, test.pixels)
        expected = average_precision_score(test.masks.ravel(), maps.ravel())
        assert figures["metrics"]["ap"] == pytest.approx(expected, abs=1e-5)
        assert figures["fit"] == "all" and figures["metrics"]["iou_half"] is None
        low, high = figures["intervals"]["rwap"]
        assert low < high and (study.path / "ensembles" / name / "resamples.npz").is_file()

    def test_objectives_are_those_of_validation_and_true_cost(
        self, study: autosearch.Study
    ) -> None:
        val = reopen(StudyFolder(study.path)).data.val
        maps, flops = maps_by_hand(study, False, val.pixels)
        (figures,) = study.ensembles.values()
        told = figures["validation"]["objectives"]
        expected = average_precision_score(val.masks.ravel(), maps.ravel())
        assert told["ap"] == pytest.approx(expected, abs=1e-5)
        records = [study.trial(number) for number in pair(study)]
        for name in ("gflops", "search_gflops", "bank_mb", "parameters"):
            parts = [{**record.measured, **record.values}[name] for record in records]
            assert told[name] == pytest.approx(sum(parts))
        assert told["gflops"] == pytest.approx(flops / 1e9)
        assert 0 < told["rwap_synthetic"] <= 1  # Of anomalies that are made beside validation.
        assert figures["validation"]["metrics"]["ap"] == pytest.approx(told["ap"])

    def test_is_measured_once(self, study, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*arguments: object) -> None:
            raise AssertionError("read again")

        monkeypatch.setattr("autosearch.study.reopen", refuse)
        told: list[str] = []
        found = study.evaluate(ensemble=pair(study), progress=lambda u: told.append(u.text))
        assert found == study.ensembles and "known" in told
        with pytest.raises(AssertionError, match="read again"):
            study.evaluate(ensemble=pair(study), fit="train")

    def test_is_compared_with_a_trial(self, study: autosearch.Study) -> None:
        one, other = study.compare(pair(study), 0), study.compare(0, pair(study)[::-1])
        (figures,) = study.ensembles.values()
        expected = figures["metrics"]["rwap"] - study.tests[0]["metrics"]["rwap"]
        assert one.metrics["rwap"] == pytest.approx(expected)
        assert one.trial == ensemble_name(pair(study)) and one.against == 0
        low, high = one.intervals["rwap"]
        assert other.intervals["rwap"] == pytest.approx((-high, -low))
        with pytest.raises(StudyError, match=r"ensembles/0\+99: not evaluated"):
            study.compare([99, 0], 0)

    def test_the_commands_show_it(self, study: autosearch.Study, run) -> None:
        name, text = ensemble_name(pair(study)), ",".join(map(str, pair(study)))
        (figures,) = study.ensembles.values()
        ap = f"{figures['metrics']['ap']:.4f}"
        alone = run("evaluate", study.path, "--ensemble", text, "--resamples", 100)
        assert f"ensemble {name}" in alone and ap in alone and "1 evaluated before" in alone
        against = run("evaluate", study.path, "--ensemble", text, "--against", 0)
        assert "difference [95 %]" in against and f"ensemble {name}" in against
        both = run("evaluate", study.path, "--ensemble", text, "--trial", 0)
        assert f" {ap} " in both and f" {study.tests[0]['metrics']['ap']:.4f} " in both
        row = run("show", study.path).partition("Ensembles, each of")[2].partition(f"{name} ")[2]
        told = figures["validation"]["objectives"]
        assert f"{told['gflops']:.4g}" in row and f"{told['rwap']:.4g}" in row
        plain = json.loads(run("show", study.path, "--json"))["ensembles"][name]
        assert plain["values"] == told and plain["test"]["metrics"] == figures["metrics"]

    def test_the_report_tells_of_it(self, study: autosearch.Study) -> None:
        info = study_info(StudyFolder(study.path))
        (told,), (figures,) = info["ensembles"], study.ensembles.values()
        assert told["name"] == ensemble_name(pair(study)) and told["images"] == 7
        objectives = figures["validation"]["objectives"]
        assert told["figures"]["rwap"] == pytest.approx(objectives["rwap"], rel=1e-5)
        assert told["metrics"]["ap"] == pytest.approx(figures["metrics"]["ap"], rel=1e-5)
        drawn = {trace.name: trace for trace in study.figure("pareto").data}["ensembles"]
        assert drawn.text == (told["name"],) and drawn.y[0] == told["figures"]["rwap"]

    def test_the_page_has_its_point_and_its_row(
        self, study: autosearch.Study, tmp_path: Path, browser: Any
    ) -> None:
        browser.get(study.report(tmp_path / "report.html").as_uri())
        show_table(browser)
        (told,) = study_info(StudyFolder(study.path))["ensembles"]
        points = browser.execute_script(DRAWN)
        assert points == [[told["name"], told["figures"]["gflops"], told["figures"]["rwap"]]]
        row = browser.execute_script(
            "return [...document.querySelectorAll('.trials tfoot tr')].map((row) => "
            "[...row.cells].map((cell) => cell.textContent))"
        )
        heads = browser.execute_script(
            "return [...document.querySelectorAll('.trials thead th')].map((th) => th.textContent)"
        )
        (cells,) = row
        assert cells[:2] == [told["name"], "ensemble"] and len(cells) == len(heads)
        shown = dict(zip(heads, cells, strict=True))
        assert float(shown["test ap"]) == pytest.approx(told["metrics"]["ap"], rel=1e-3)
        assert browser.get_log("browser") == []


class TestExported:
    def test_agrees_with_torch_and_with_maps_made_by_hand(self, study, exported: Path) -> None:
        found = read_manifest(exported)
        for runtime in ("onnxruntime", "openvino"):
            assert max(found["parity"][runtime].values()) < 1e-4
        test, _ = load_test_set(study.spec.dataset)
        maps, _ = maps_by_hand(study, True, test.pixels)
        for provider in ("cpu", "openvino"):
            values, scores = load_model(exported, provider).answers(test.pixels, 4)
            np.testing.assert_allclose(values, maps, atol=1e-4 * np.abs(maps).max())
            np.testing.assert_allclose(scores, maps.max(axis=(1, 2)), rtol=1e-4)

    def test_says_what_it_consists_of(self, study: autosearch.Study, exported: Path) -> None:
        found, numbers = read_manifest(exported), pair(study)
        assert found["ensemble"] == numbers and found["study"]["trial"] is None
        for one, number in zip(found["configurations"], numbers, strict=True):
            assert one["trial"] == number
            assert one["search"] == one["exported"] == study.trial(number).canonical
            assert one["scales"][0]["deviation"] > 0
        (figures,) = study.ensembles.values()
        assert found["test"]["metrics"] == figures["metrics"]
        validation = found["validation"]["exported_configuration"]
        told = figures["validation"]["metrics"]
        assert validation["ap"] == pytest.approx(told["ap"])
        card, (one, other) = (exported / "README.md").read_text(), numbers
        assert f"An ensemble of trials {one} and {other} in one graph" in card
        assert f"ensemble {one}+{other}" in card.splitlines()[0]
        assert f"| trial {other}, whole |" in card and f"| {told['ap']:.4f} |" in card
        assert load_model(exported).name == f"study, ensemble {one}+{other}"

    def test_smaller_banks_are_those_of_all_members(
        self, study: autosearch.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(trial, "freeze", lambda *arguments: Frozen())
        out = study.export(ensemble=pair(study), coreset=0.1, out=tmp_path / "small")
        found = read_manifest(out)
        assert [c["exported"]["coreset_ratio"] for c in found["configurations"]] == [0.1, 0.1]
        assert "Exported with coreset ratio 0.1" in model_card(found, {})
        whole = StudyFolder(study.path).trials.records()
        bytes_before = sum(whole[n].measured["bank_mb"] for n in pair(study)) * 1e6
        assert 0 < found["cost"]["bank_bytes"] < 0.9 * bytes_before


class TestRefused:
    @pytest.mark.parametrize("numbers", [[], [0], [1, 1], [0, 1, 0], list(range(MOST + 1))])
    def test_numbers_that_make_no_ensemble(self, study, numbers: list[int]) -> None:
        with pytest.raises(ConfigError, match="numbers of 2 to 16 trials of one study, each once"):
            study.evaluate(ensemble=numbers)

    def test_trials_that_are_not_there_or_alike(self, study: autosearch.Study) -> None:
        with pytest.raises(StudyError, match="no trial 4; there are 4"):
            study.evaluate(ensemble=[0, 4])
        with pytest.raises(StudyError, match="no trial -1"):
            study.export(ensemble=[0, -1])
        first = study.trials[0].canonical
        twins = [record.number for record in study.trials if record.canonical == first]
        with pytest.raises(ConfigError, match="trials that differ; 0 and"):
            study.evaluate(ensemble=twins[:2])
        other = autosearch.open_study(study.path)
        with pytest.raises(ConfigError, match="trials of one study"):
            study.evaluate(ensemble=[0, other.trial(1)])

    def test_trials_without_values(self, study, monkeypatch: pytest.MonkeyPatch) -> None:
        records = study.trials
        records[1] = replace(records[1], status=Status.FAILED, reason="no disk")
        monkeypatch.setattr(TrialStore, "records", lambda self: records)
        with pytest.raises(StudyError, match="trial 1 is failed: no disk"):
            members_of(StudyFolder(study.path), [0, 1])

    @pytest.mark.parametrize("text", ["0;1", "other:3,4", "0,", "-1,2", "½,1"])
    def test_what_is_no_list_of_numbers(self, made: Path, run, text: str) -> None:
        said = run("evaluate", made, f"--ensemble={text}", code=2)
        assert "--ensemble" in said and "trials of one study, such as 3,7,12" in said

    def test_an_export_of_both_or_of_neither(self, study: autosearch.Study) -> None:
        with pytest.raises(ConfigError, match="one trial, or the trials of one ensemble"):
            study.export(0, ensemble=pair(study))
        with pytest.raises(ConfigError, match="one trial, or the trials of one ensemble"):
            study.export(ensemble=[])

    def test_figures_of_other_trials_than_their_folder_says(self, made: Path, tmp_path) -> None:
        folder = StudyFolder(Path(shutil.copytree(made, tmp_path / "study")))
        (place,) = folder.path.glob("ensembles/*")
        place.rename(place.with_name("0+9"))
        with pytest.raises(StudyError, match="is of trials"):
            folder.files.load_ensembles()
        place.with_name("0+9").rename(place.with_name("notes"))
        assert folder.files.load_ensembles() == {}
        (folder.path / "ensembles" / "2+3").symlink_to(tmp_path)
        with pytest.raises(StudyError, match="is a link"):
            folder.files.check()
        with pytest.raises(ValueError, match="no name of an ensemble"):
            folder.files.path("../0+1")
