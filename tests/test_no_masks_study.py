"""Searches on datasets without masks, through evaluation, export and prediction."""

import json
from pathlib import Path

import numpy as np
import pytest
from dataset_parts import command
from no_masks_parts import search, write

import autosearch
from autosearch.data.load import load_search_data, load_test_set
from autosearch.data.pictures import contact_sheet
from autosearch.storage.folder import StudyFolder
from autosearch.study.inputs import load_inputs

PIXELS = {"rwap", "ap", "rwap_calibrated", "ap_calibrated", "pixel_auroc", "aupro",
          "pixel_f1_at_val", "pixel_iou_at_val", "pixel_f1_best", "iou_half"}  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> autosearch.Study:
    """A search on six holes and three dents without masks, all trials evaluated."""
    base = tmp_path_factory.mktemp("unmarked")
    write(base / "data" / "part", hole=6, dent=3)
    found = search(base)
    found.evaluate([0, 1], resamples=100)
    return found


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> autosearch.Study:
    """A search where no image is anomalous."""
    base = tmp_path_factory.mktemp("good")
    write(base / "data" / "part")
    found = search(base, objectives=["gflops", "rwap"])
    found.evaluate([0, 1], resamples=100)
    return found


class TestImagesAlone:
    def test_trials_record_what_is_defined_and_no_nan(self, study: autosearch.Study) -> None:
        assert study.counts["complete"] == 2
        for record in study.trials:
            assert {"image_ap", "image_f1"} <= record.measured.keys()
            assert not {"rwap", "ap", "pixel_auroc", "rwap_real"} & record.measured.keys()
            values = [*record.values.values(), *record.measured.values()]
            assert np.isfinite(values).all()
        data = study.meta["data"]
        assert data["counts"]["val"] == {"dent": 1, "good": 3, "hole": 2}
        assert data["rule"] == (
            "a third of each anomaly type for validation, since no anomalous image has a mask; "
            "3 of 10 normal images validate; "
            "fewer than 5 of some type, so synthetic ones are made for rwap_synthetic"
        )
        assert study.meta["objectives"]["image_auroc"]["pixels"] is False

    def test_evaluation_has_figures_of_images(self, study: autosearch.Study) -> None:
        for found in study.tests.values():
            for part in (found, found["validation"], *found["types"].values()):
                metrics = part["metrics"]
                assert {name for name, value in metrics.items() if value is None} == PIXELS
            assert found["intervals"]["image_ap"] is not None
            assert all(found["intervals"][name] is None for name in PIXELS)
            thresholds = found["thresholds"]
            assert thresholds["pixel"] == thresholds["image"] and thresholds["pixel_is"]
            assert found["validation"]["reproduced"]

    def test_the_commands_show_it(
        self, study: autosearch.Study, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, one = command(capsys, "evaluate", study.path, "--trial", 0)
        assert code == 0 and "of images alone: no anomalous image of the test split has" in one
        assert "image_ap" in one and "rwap" not in one and "pixel" not in one and "1 %" not in one
        assert "type images image_auroc" in one
        code, two = command(capsys, "evaluate", study.path, "--trial", 0, "--trial", 1)
        assert code == 0 and "image_auroc image_auroc" in two and "aupro" not in two
        code, shown = command(capsys, "show", study.path)
        assert code == 0 and "test image_auroc [95 %]" in shown
        assert "split a third of each anomaly type" in shown
        code, best = command(capsys, "recommend", study.path)
        assert code == 0 and "image_auroc from 1.0000 to 1.0000, standard error 0.0000" in best
        code, text = command(capsys, "show", study.path, "--json")
        assert code == 0 and json.loads(text)["front"] and "NaN" not in text

    def test_the_report_says_what_figures_are_of(self, study: autosearch.Study) -> None:
        text = study.report().read_text()
        assert (
            "of images alone, by their highest pixel" in text and "every region counts" not in text
        )

    def test_the_ground_truth_of_the_pictures_says_so(self, study: autosearch.Study) -> None:
        val = load_search_data(study.spec.dataset).val
        maps = np.zeros(val.masks.shape, dtype=np.float32)
        known = type(val)(val.pixels, val.masks, val.types, val.paths, val.groups)
        assert contact_sheet(val, maps) != contact_sheet(known, maps)

    def test_a_model_is_exported_and_predicts(self, study: autosearch.Study) -> None:
        folder = study.export(0, formats=["onnx"])
        manifest = json.loads((folder / "model.json").read_text())
        thresholds = manifest["thresholds"]
        assert thresholds["pixel"]["value"] == thresholds["image"]["value"]
        assert "rwap" not in manifest["validation"]["exported_configuration"]
        assert "image_ap" in manifest["validation"]["exported_configuration"]
        card = (folder / "README.md").read_text()
        assert "The pixel threshold is the threshold of images" in card
        assert "| pixel | " in card and "Calibrated" not in card
        predict = autosearch.Predictor(folder)
        data = study.spec.dataset
        for path in sorted((Path(str(data.root)) / "part/test/hole").iterdir())[:2]:
            (found,) = predict([path])
            assert found.anomalous == found.mask.any()


class TestGoodImagesAlone:
    def test_validation_is_synthetic_and_says_so(self, good: autosearch.Study) -> None:
        validation = good.spec.dataset.validation
        assert validation.real_per_type == 0 and validation.synthetic is not None
        data = good.meta["data"]
        assert data["counts"]["val"] == {
            "good": 3, "synthetic_perlin": 3, "synthetic_cutpaste": 3,
        }  # fmt: skip
        assert data["rule"] == "no anomalous image; 3 of 10 normal images validate"
        assert data["notes"] == [
            "no anomalous image: validation uses synthetic anomalies (perlin and cutpaste); "
            "figures are of these alone"
        ]

    def test_the_study_is_gone_on_with(self, good: autosearch.Study) -> None:
        base = good.path.parent.parent
        inputs = load_inputs(StudyFolder(good.path).load_spec())
        assert inputs.spec == good.spec
        onward = search(base, objectives=["gflops", "rwap"], resume=3)
        assert len(onward.trials) == 3 and onward.spec.dataset == good.spec.dataset

    def test_only_false_alarms_can_be_had_of_the_test_split(
        self, good: autosearch.Study, capsys: pytest.CaptureFixture[str]
    ) -> None:
        test, _ = load_test_set(good.spec.dataset)
        assert len(test) == 3 and not test.labels.any()
        found = good.tests[0]
        known = {name for name, value in found["metrics"].items() if value is not None}
        assert known == {"image_fpr_at_val"} and found["types"] == {}
        assert found["validation"]["metrics"]["rwap"] == pytest.approx(
            good.trials[0].values["rwap"]
        )
        for trials in ([0], [0, 1]):
            asked = [part for number in trials for part in ("--trial", number)]
            code, text = command(capsys, "evaluate", good.path, *asked)
            assert code == 0 and "only image_fpr_at_val: the share of normal images" in text
            assert "image_fpr_at_val" in text and "By anomaly type" not in text
