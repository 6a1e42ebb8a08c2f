"""Final figures: true to independent metrics, repeatable, and shown by the commands."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from final_parts import search_in
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, roc_auc_score
from typer.testing import CliRunner, Result

from autosearch.cli.evaluate import evaluate
from autosearch.cli.show import show
from autosearch.contracts.detector import Detector
from autosearch.contracts.trials import Status, TrialRecord
from autosearch.data import load_test_set
from autosearch.errors import StudyError
from autosearch.metrics.thresholds import Threshold, choose_threshold
from autosearch.storage.folder import StudyFolder
from autosearch.study import ensemble
from autosearch.study.final import METRICS, FinalEvaluator
from autosearch.study.inputs import Inputs, rebuild, reopen


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study in which trials share configurations; the data lies beside it."""
    folder = search_in(tmp_path_factory.mktemp("made"))
    statuses = [record.status for record in folder.trials.records()]
    assert set(statuses) == {Status.COMPLETE, Status.CACHED}
    return folder.path


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> StudyFolder:
    """A copy of the study that a test may change; its data may not be."""
    return StudyFolder(Path(shutil.copytree(made, tmp_path / "study")))


@pytest.fixture(scope="module")
def figures(made: Path) -> dict:
    """What is found of trial 0, by way of a file."""
    folder = StudyFolder(made)
    inputs = reopen(folder)
    test = load_test_set(inputs.spec.dataset)
    evaluator = FinalEvaluator(inputs, *test, resamples=200, fit="train")
    found = evaluator(folder.trials.records()[0]).figures
    return json.loads(json.dumps(found, allow_nan=False))


@pytest.fixture(scope="module")
def maps(made: Path) -> dict[str, np.ndarray]:
    """Validation and test maps of trial 0, made here without the evaluator."""
    inputs = reopen(StudyFolder(made))
    detector = rebuild(inputs, StudyFolder(made).trials.records()[0])
    detector.fit(inputs.data.train)
    test, _ = load_test_set(inputs.spec.dataset)
    images = {"val": inputs.data.val.pixels, "test": test.pixels}
    return {k: detector.anomaly_maps(torch.tensor(v)).numpy() for k, v in images.items()}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run `evaluate`, or `show`, as the command line would; errors are raised."""
    app = typer.Typer()
    app.command()(evaluate)
    app.command()(show)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: object, code: int = 0) -> Result:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if isinstance(done.exception, Exception):
            raise done.exception
        assert done.exit_code == code, done.output
        return done

    return run


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the trials for which a detector was made."""
    made: list[int] = []

    def spied(inputs: Inputs, record: TrialRecord) -> Detector:
        made.append(record.number)
        return rebuild(inputs, record)

    monkeypatch.setattr(ensemble, "rebuild", spied)
    return made


class TestFigures:
    def test_agree_with_independent_metrics(self, made: Path, figures: dict, maps: dict) -> None:
        dataset = StudyFolder(made).load_spec().dataset
        test, info = load_test_set(dataset)
        assert test.types == ("dent", "good", "good", "good", "hole", "hole", "hole")
        assert figures["data"] == {**info, "images": 7}
        pixels, flat = maps["test"].ravel(), test.masks.ravel()
        scores = maps["test"].max(axis=(1, 2))
        value = {name: figures["thresholds"][name]["value"] for name in ("pixel", "image")}
        expected = {
            "ap": average_precision_score(flat, pixels),
            "pixel_auroc": roc_auc_score(flat, pixels),
            "image_auroc": roc_auc_score(test.labels, scores),
            "pixel_f1_at_val": f1_score(flat, pixels >= value["pixel"]),
            "pixel_iou_at_val": jaccard_score(flat, pixels >= value["pixel"]),
            "image_f1_at_val": f1_score(test.labels, scores >= value["image"]),
            "image_tpr_at_val": np.mean(scores[test.labels] >= value["image"]),
            "image_fpr_at_val": np.mean(scores[~test.labels] >= value["image"]),
        }
        # All regions have one size, so rwAP's weights only balance two types of 3 + 1 regions.
        regions = {"hole": 3, "dent": 1}
        weight = np.ones(test.masks.shape)
        for i, kind in enumerate(test.types):
            if kind != "good":
                weight[i][test.masks[i]] = 2 / regions[kind]
        expected["rwap"] = average_precision_score(flat, pixels, sample_weight=weight.ravel())
        assert figures["prevalence"] == 0.01
        for name, mass in (("ap", np.ones(flat.size)), ("rwap", weight.ravel())):
            balanced = np.where(flat, mass / mass[flat].sum(), 99 / (~flat).sum())
            score = average_precision_score(flat, pixels, sample_weight=balanced)
            expected[f"{name}_calibrated"] = score
        found = figures["metrics"]
        assert list(found) == list(METRICS)
        assert {name: found[name] for name in expected} == pytest.approx(expected)
        every = [
            f1_score(flat, pixels >= cut) for cut in np.quantile(pixels, np.linspace(0, 1, 80))
        ]
        assert found["pixel_f1_best"] >= max(every) and 0 < found["aupro"] <= 1

    def test_thresholds_are_those_of_validation(
        self, made: Path, figures: dict, maps: dict
    ) -> None:
        val = reopen(StudyFolder(made)).data.val
        chosen = choose_threshold(maps["val"].ravel(), val.masks.ravel())
        kept = Threshold.from_plain(figures["thresholds"]["pixel"])
        assert kept.value == pytest.approx(chosen.value) and kept.reached == chosen.reached
        image = choose_threshold(maps["val"].max(axis=(1, 2)), val.labels)
        assert figures["thresholds"]["image"]["value"] == pytest.approx(image.value)
        checked = figures["validation"]["metrics"]
        assert checked["pixel_f1_at_val"] == pytest.approx(chosen.f1)
        assert checked["pixel_f1_best"] == pytest.approx(chosen.f1)

    def test_of_a_type_are_of_its_images_and_all_normal_ones(
        self, made: Path, figures: dict, maps: dict
    ) -> None:
        test, _ = load_test_set(StudyFolder(made).load_spec().dataset)
        assert {kind: part["images"] for kind, part in figures["types"].items()} == {
            "dent": 1,
            "hole": 3,
        }
        kept = [i for i, kind in enumerate(test.types) if kind != "dent"]
        found = figures["types"]["hole"]["metrics"]
        flat, pixels = test.masks[kept].ravel(), maps["test"][kept].ravel()
        assert found["ap"] == pytest.approx(average_precision_score(flat, pixels))
        scores = maps["test"][kept].max(axis=(1, 2))
        assert found["image_auroc"] == pytest.approx(roc_auc_score(test.labels[kept], scores))

    def test_have_intervals_where_images_can_be_drawn(self, figures: dict) -> None:
        assert figures["intervals"].pop("iou_half") is None, "no probabilities"
        for name, (low, high) in figures["intervals"].items():
            assert 0 <= low <= high <= 1, name
        low, high = figures["intervals"]["rwap"]
        assert low < figures["metrics"]["rwap"] < high
        assert set(figures["types"]["dent"]["intervals"].values()) == {None}
        assert figures["types"]["hole"]["intervals"]["ap"] is not None
        assert figures["bootstrap"]["resamples"] == 200
        assert figures["bootstrap"]["too_few"] == ["dent", "good", "hole"]

    def test_prove_that_the_search_can_be_repeated(self, made: Path, figures: dict) -> None:
        record = StudyFolder(made).trials.records()[0]
        checked = figures["validation"]
        assert {r.threads for r in StudyFolder(made).trials.records()} == {torch.get_num_threads()}
        assert checked["reproduced"] and checked["largest_difference"] < 1e-6
        assert checked["stored"]["rwap"] == record.values["rwap"]
        assert {"ap", "pixel_auroc", "image_auroc"} < set(checked["stored"])

    @pytest.mark.parametrize(("threads", "expected"), [(1, 1), (3, 3), (None, 2)])
    def test_are_of_a_detector_fitted_with_as_many_threads(
        self, made: Path, monkeypatch: pytest.MonkeyPatch, threads: int | None, expected: int
    ) -> None:
        folder, seen = StudyFolder(made), []

        def stopped(detector: object, train: object) -> None:
            seen.append(torch.get_num_threads())
            raise InterruptedError

        inputs = reopen(folder)
        record = replace(folder.trials.records()[0], threads=threads)
        monkeypatch.setattr(type(rebuild(inputs, record)), "fit", stopped)
        evaluator = FinalEvaluator(inputs, *load_test_set(inputs.spec.dataset), resamples=100)
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            with pytest.raises(InterruptedError):
                evaluator(record)
            assert (seen, torch.get_num_threads()) == ([expected], 2)
        finally:
            torch.set_num_threads(before)

    def test_say_where_the_search_was_not_repeated(self, made: Path) -> None:
        folder = StudyFolder(made)
        inputs = reopen(folder)
        record = folder.trials.records()[0]
        other = replace(record, values={**record.values, "rwap": record.values["rwap"] + 0.01})
        evaluator = FinalEvaluator(inputs, *load_test_set(inputs.spec.dataset), resamples=100)
        checked = evaluator(other).figures["validation"]
        assert not checked["reproduced"]
        assert checked["largest_difference"] == pytest.approx(0.01)


class TestCommand:
    def test_shares_equal_configurations(
        self, command: Callable[..., Result], folder: StudyFolder, fits: list[int]
    ) -> None:
        records = folder.trials.records()
        wanted = [part for record in records for part in ("--trial", record.number)]
        out = command("evaluate", folder.path, *wanted, "--resamples", 100).output
        distinct = {json.dumps(record.canonical) for record in records}
        assert len(fits) == 2 * len(distinct) < 2 * len(records), "as searched, and as exported"
        tests = folder.files.load_tests()
        assert list(tests) == [0, 1, 2, 3] and "rwap" in out
        for record in records:
            kept = tests[record.number]
            assert kept["trial"] == record.number
            assert kept["same_as"] == record.cached_from
            assert kept["validation"]["metrics"]["rwap"] == pytest.approx(record.values["rwap"])

    def test_skips_what_is_done_unless_forced(
        self, command: Callable[..., Result], folder: StudyFolder, fits: list[int]
    ) -> None:
        again = ("evaluate", folder.path, "--trial", 0, "--resamples", 100)
        command(*again)
        first = folder.files.load_tests()[0]
        assert "1 evaluated before" in command(*again).output and fits == [0, 0]
        command(*again, "--force")
        second = folder.files.load_tests()[0]
        assert fits == [0, 0, 0, 0]
        for part in ("metrics", "intervals", "types", "thresholds", "bootstrap"):
            assert second[part] == first[part]

    def test_figures_of_another_test_split_are_replaced(
        self, command: Callable[..., Result], folder: StudyFolder, fits: list[int]
    ) -> None:
        command("evaluate", folder.path, "--trial", 0, "--resamples", 100)
        kept = folder.files.load_tests()[0]
        folder.files.write_test(0, {**kept, "data": {**kept["data"], "sha256": "0" * 64}})
        command("evaluate", folder.path, "--trial", 0, "--resamples", 100)
        assert fits == [0, 0, 0, 0] and folder.files.load_tests()[0]["data"] == kept["data"]

    def test_interrupted_keeps_what_is_finished(
        self,
        command: Callable[..., Result],
        folder: StudyFolder,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        records = folder.trials.records()
        other = next(r for r in records if r.canonical != records[0].canonical)

        def stopped(inputs: Inputs, record: TrialRecord) -> Detector:
            if record.number == other.number:
                raise KeyboardInterrupt
            return rebuild(inputs, record)

        monkeypatch.setattr(ensemble, "rebuild", stopped)
        wanted = ("--trial", 0, "--trial", other.number, "--resamples", 100)
        out = command("evaluate", folder.path, *wanted, code=130).output
        assert "1 of 2 trials have figures; the same command goes on" in out and list(
            folder.files.load_tests()
        ) == [0]

    def test_front_is_evaluated_and_nothing_else(
        self, command: Callable[..., Result], folder: StudyFolder
    ) -> None:
        out = command("evaluate", folder.path, "--front", "--resamples", 100).output
        shown = json.loads(command("show", folder.path, "--json").output)["front"]
        assert list(folder.files.load_tests()) == sorted(trial["number"] for trial in shown)
        assert "RANDOM WEIGHTS" in out

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((), "Give --trial N, or --front"),
            (("--trial", 9), "no trial 9; there are 4"),
        ],
    )
    def test_says_what_to_give(
        self, command: Callable[..., Result], made: Path, arguments: tuple, message: str
    ) -> None:
        with pytest.raises(StudyError, match=message):
            command("evaluate", made, *arguments)

    def test_refuses_trials_without_values(
        self, command: Callable[..., Result], tmp_path: Path, make_study: Callable
    ) -> None:
        folder = make_study(tmp_path / "fake", 30)
        failed = next(r for r in folder.trials.records() if r.status == Status.FAILED)
        with pytest.raises(StudyError, match=f"trial {failed.number} is failed"):
            command("evaluate", folder.path, "--trial", failed.number)


class TestShow:
    @pytest.fixture
    def shown(self, folder: StudyFolder, figures: dict) -> StudyFolder:
        for record in folder.trials.records():
            folder.files.write_test(record.number, {**figures, "trial": record.number})
        return folder

    def test_front_has_test_columns(
        self, command: Callable[..., Result], folder: StudyFolder, shown: StudyFolder
    ) -> None:
        out = command("show", shown.path).output
        assert "test rwap at 1 % [95 %]" in out and "over images of the test split" in out
        kept = shown.files.load_tests()[0]["metrics"]
        assert f"{kept['rwap_calibrated']:.4f} [0." in out and f"{kept['rwap']:.4f}" not in out
        record = next(r for r in shown.trials.records() if f"\n     {r.number} " in out)
        assert f"{record.measured['rwap_calibrated']:.4f}" in out

    def test_without_test_figures_there_are_none(
        self, command: Callable[..., Result], folder: StudyFolder
    ) -> None:
        for arguments in ((), ("--json",), ("--csv",), ("--trial", 0)):
            out = command("show", folder.path, *arguments).output
            assert not [
                word for word in ("test rwap", "test_rwap", '"metrics"', "[95") if word in out
            ]

    def test_trial_has_a_row_for_each_metric_and_type(
        self, command: Callable[..., Result], shown: StudyFolder, figures: dict
    ) -> None:
        out = command("show", shown.path, "--trial", 0).output
        # The table by type, whose head names metrics too, comes last.
        lines = {line.split()[0]: line for line in reversed(out.splitlines()) if line.split()}
        assert "iou_half" not in lines, "the scores are no probabilities"
        for name in set(METRICS) - {"iou_half"}:
            assert f"{figures['metrics'][name]:.4f}" in lines[name]
        assert f"{figures['types']['hole']['metrics']['rwap']:.4f}" in lines["hole"]

    def test_a_trial_that_was_not_reproduced_is_marked(
        self, command: Callable[..., Result], folder: StudyFolder, figures: dict
    ) -> None:
        doubtful = {**figures["validation"], "reproduced": False, "largest_difference": 0.25}
        folder.files.write_test(0, {**figures, "validation": doubtful})
        for arguments in ((), ("--trial", 0)):
            out = command("show", folder.path, *arguments).output
            assert "Trial 0 was not reproduced" in out and "0.25" in out

    def test_json(self, command: Callable[..., Result], shown: StudyFolder, figures: dict) -> None:
        front = json.loads(command("show", shown.path, "--json").output)["front"]
        for trial in front:
            parts = ("metrics", "intervals", "fit")
            assert trial["test"] == {part: figures[part] for part in parts}
        trial = json.loads(command("show", shown.path, "--trial", 1, "--json").output)["trial"]
        assert trial["number"] == trial["test"]["trial"] == 1
        assert trial["test"]["types"] == figures["types"] and "seconds" in trial

    def test_csv(self, command: Callable[..., Result], shown: StudyFolder, figures: dict) -> None:
        for arguments in ((), ("--trial", 0)):
            out = command("show", shown.path, "--csv", *arguments).output
            for row in csv.DictReader(io.StringIO(out)):
                low, high = figures["intervals"]["rwap"]
                assert float(row["test_rwap"]) == figures["metrics"]["rwap"]
                assert (float(row["test_rwap_low"]), float(row["test_rwap_high"])) == (low, high)
