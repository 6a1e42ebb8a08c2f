"""Exported trials: what their folder says and shows, and what is refused."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from export_parts import SIDE, detector_of, unseen
from PIL import Image
from torch import nn

import autosearch.export
from autosearch.cli import export as export_cli, predict as predict_cli
from autosearch.contracts.trials import trial_seed
from autosearch.data import load_search_data
from autosearch.data.records import NORMAL
from autosearch.errors import AutosearchError, ConfigError, StudyError
from autosearch.export import frozen, trial as export
from autosearch.export.card import model_card
from autosearch.export.chosen import Chosen
from autosearch.export.folder import ModelError, load_model
from autosearch.export.predictor import Predictor
from autosearch.export.trial import Exported, ExportOptions, export_trial
from autosearch.graphs import TooLarge, onnx_bytes
from autosearch.metrics.thresholds import Criterion, choose_threshold
from autosearch.storage.folder import StudyFolder
from autosearch.study.fitted import all_normal
from autosearch.study.inputs import reopen


class TestDescription:
    def test_lists_every_file_with_its_hash(self, plain_export: Exported) -> None:
        content = json.loads((plain_export.path / "model.json").read_text())
        names = {path.name for path in plain_export.path.iterdir()} - {"model.json"}
        assert names == {
            "model.onnx", "weights.safetensors", "README.md", "maps.jpg", "run_onnx.py",
            "run_onnx.cpp",
        } == set(content["files"])  # fmt: skip
        for name, entry in content["files"].items():
            data = (plain_export.path / name).read_bytes()
            assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    def test_its_example_says_what_predict_says(
        self, plain_export: Exported, tmp_path: Path
    ) -> None:
        path = tmp_path / "a.png"
        Image.fromarray((255 * unseen(1)[0].transpose(1, 2, 0)).astype(np.uint8)).save(path)
        done = subprocess.run(
            [sys.executable, str(plain_export.path / "run_onnx.py"), str(path)],
            capture_output=True,
            text=True,
            check=True,
        )
        (answer,) = Predictor(plain_export.path)([path])
        assert float(done.stdout.split()[1]) == pytest.approx(answer.score, abs=1e-4)
        with Image.open(f"{path}.pfm") as values:
            np.testing.assert_allclose(np.array(values), answer.map, atol=1e-4)
        assert "`run_onnx.py`" in (plain_export.path / "README.md").read_text()

    def test_tells_no_path_of_this_machine(
        self, plain_export: Exported, exported_study: StudyFolder
    ) -> None:
        root = str(reopen(exported_study).data.info["root"])
        parents = [str(plain_export.path.parent), str(Path(export.__file__).parent)]
        secrets = [root, *parents, sys.prefix]
        for path in plain_export.path.iterdir():
            content = path.read_bytes()
            assert not [secret for secret in secrets if secret.encode() in content], path.name

    def test_thresholds_come_from_a_detector_that_saw_no_validation_image(
        self, plain_export: Exported, exported_study: StudyFolder
    ) -> None:
        data = load_search_data(exported_study.load_spec().dataset)
        maps = detector_of(plain_export, exported_study, data.train).anomaly_maps(
            torch.from_numpy(np.array(data.val.pixels))
        ).numpy()  # fmt: skip
        found = plain_export.manifest["thresholds"]
        for name, scores, labels in (
            ("image", maps.max((1, 2)), data.val.labels),
            ("pixel", maps.ravel(), data.val.masks.ravel()),
        ):
            expected = choose_threshold(scores, labels, "f1")
            assert found[name]["value"] == pytest.approx(expected.value, rel=1e-5)
            assert found[name]["reached"]["tp"] == expected.reached.tp
        loaded = load_model(plain_export.path)
        normal = sorted(maps[~data.val.labels].max((1, 2)).tolist())
        assert loaded.baseline == pytest.approx(normal, rel=1e-5)
        assert loaded.image_threshold.value == found["image"]["value"]
        assert loaded.low < loaded.high

    def test_of_a_bounded_false_positive_rate(self, small_export: Exported) -> None:
        for name in ("image", "pixel"):
            limit = small_export.manifest["thresholds"][name]
            assert limit["rule"] == "fpr" and limit["reached"]["fpr"] <= limit["max_fpr"] == 0.1

    def test_says_how_it_was_fitted(
        self, plain_export: Exported, exported_study: StudyFolder
    ) -> None:
        counts = reopen(exported_study).data.info["counts"]
        train, val = counts["train"], counts["val"]  # type: ignore[index]
        assert plain_export.manifest["input"]["orientation"] == "upright"
        fit = plain_export.manifest["fit"]
        assert fit["train"] == sum(train.values())
        assert fit["validation_normal"] == val[NORMAL]
        assert fit["images"] == fit["train"] + fit["validation_normal"]
        assert fit["anomalous"] == 0

    def test_reports_what_a_smaller_bank_costs(
        self, small_export: Exported, plain_export: Exported
    ) -> None:
        figures = small_export.manifest["validation"]
        assert figures["search"]["rwap"] != figures["exported_configuration"]["rwap"]
        figures = plain_export.manifest["validation"]
        assert figures["search"]["rwap"] == pytest.approx(
            figures["exported_configuration"]["rwap"], abs=1e-6
        )

    def test_keeps_the_seed_of_the_trial(self, small_export: Exported) -> None:
        before = trial_seed(0, small_export.manifest["configuration"]["search"])
        assert small_export.manifest["study"]["trial_seed"] == before

    def test_parity_was_checked_at_both_batches(
        self, plain_export: Exported, small_export: Exported
    ) -> None:
        for exported in (plain_export, small_export):
            parity = exported.manifest["parity"]
            assert set(parity["onnxruntime"]) == {"batch_1", "batch_3"}
            assert max(parity["onnxruntime"].values()) <= parity["tolerance"] == 1e-4
            assert exported.manifest["latency_ms"]["onnxruntime"] > 0


class TestCard:
    def test_warns_of_what_means_nothing(self, plain_export: Exported) -> None:
        card = (plain_export.path / "README.md").read_text()
        assert "RANDOM WEIGHTS" in card and "Synthetic defects" in card
        assert "](maps.jpg)" in card
        with Image.open(plain_export.path / "maps.jpg") as picture:
            assert min(picture.size) > 100
        assert "was not evaluated" in card and "stage0 | " in card
        assert "rwAP, pixels, calibrated | 0." in card and "so that 0.01 of all" in card

    def test_says_where_validation_was_made_up(
        self, exported_study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inputs = reopen(exported_study)
        info: dict[str, Any] = dict(inputs.data.info)
        info["counts"] = {**info["counts"], "val": {"good": 1, "synthetic_perlin": 4}}
        info["validation_synthetic"] = {"kind": "perlin", "textures": "/home/me/textures"}
        changed = replace(inputs, data=replace(inputs.data, info=info))
        monkeypatch.setattr(export, "reopen", lambda *_: changed)
        quick(monkeypatch)
        exported = export_trial(exported_study, ExportOptions(0), tmp_path / "out")
        card = (tmp_path / "out" / "README.md").read_text()
        assert "Synthetic validation** (perlin)" in card
        assert exported.manifest["dataset"]["validation_synthetic"]["textures"] == "textures"
        assert "/home/me" not in (tmp_path / "out" / "model.json").read_text()

    def test_code_of_the_card_runs(self, plain_export: Exported, tmp_path: Path) -> None:
        folder = shutil.copytree(plain_export.path, tmp_path / "model")
        code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
        assert code is not None
        smooth = (unseen(1)[0].transpose(1, 2, 0) * 255).astype(np.uint8)
        Image.fromarray(smooth).resize((200, 200)).save(folder / "part.png")
        done = subprocess.run(
            [sys.executable, "-c", code[1]], cwd=folder, capture_output=True, text=True, check=True
        )
        predict_cli.predict(folder, tmp_path / "out", [str(folder / "part.png")], 1)
        (entry,) = json.loads((tmp_path / "out" / "scores.json").read_text())["images"]
        score, called = done.stdout.split()
        assert float(score) == pytest.approx(entry["score"], rel=0.05)
        assert called == str(entry["anomalous"])

    def test_shows_what_the_smaller_bank_costs(self, small_export: Exported) -> None:
        card = (small_export.path / "README.md").read_text()
        figures = small_export.manifest["validation"]
        assert "validation, as exported" in card and "coreset ratio 0.2" in card
        assert f"{figures['search']['rwap']:.4f} | " in card
        assert f" {figures['exported_configuration']['rwap']:.4f} |" in card
        assert "half precision" in card

    @pytest.mark.parametrize("bank", [{}, {"coreset_ratio": 0.1}])
    def test_says_that_graphs_compute_in_float32(
        self, plain_export: Exported, bank: dict[str, float]
    ) -> None:
        exported = {"window": 1, **bank}
        searched = {"window": 1, "precision": "bfloat16"}
        found = {**plain_export.manifest}
        found["configuration"] = {"search": searched, "exported": exported}
        card = model_card(found, {})
        assert "The search computed networks in bfloat16" in card
        assert ("coreset ratio 0.1" in card) == bool(bank)

    def test_shows_test_figures_where_there_are_any(
        self, exported_study: StudyFolder, plain_export: Exported, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        copied = StudyFolder(Path(shutil.copytree(exported_study.path, tmp_path / "study")))
        copied.files.write_test(0, {"metrics": {"rwap": 0.4321, "image_auroc": None}})
        quick(monkeypatch)
        rule = Criterion("normal_percentile", percentile=95, factor=1.4)
        exported = export_trial(copied, ExportOptions(0, rule=rule), force=True)
        card = (exported.path / "README.md").read_text()
        assert "| rwAP, pixels |" in card and "0.4321" in card and "took no part" in card
        assert exported.manifest["thresholds"]["pixel"]["factor"] == 1.4 and rule.text in card


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the graph, which takes longest, where a test is not about it."""
    files = {"weights.safetensors": b"tensors"}
    monkeypatch.setattr(export, "freeze", lambda *_: frozen.Frozen(dict(files)))


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (ExportOptions(5), "no trial 5; there are 1"),
            (ExportOptions(0, ("onxx",)), "--format: 'onxx'"),
            (ExportOptions(0, coreset=1.5), "--coreset: 1.5 is not allowed"),
            (ExportOptions(0, coreset=0.0), "--coreset: 0.0 is not allowed"),
            (ExportOptions(0, rule="fpr"), "max_fpr: None"),
            (ExportOptions(0, max_fpr=0.1), "max_fpr: 0.1"),
        ],
    )
    def test_of_options(
        self, exported_study: StudyFolder, tmp_path: Path, options: ExportOptions, message: str
    ) -> None:
        with pytest.raises(AutosearchError, match=re.escape(message)):
            export_trial(exported_study, options, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_of_a_trial_without_values(
        self, make_study: Callable[..., StudyFolder], tmp_path: Path
    ) -> None:
        folder = make_study(tmp_path / "fake", 60)
        number = next(r.number for r in folder.trials.records() if r.status == "failed")
        with pytest.raises(StudyError, match=f"trial {number} is failed: failed on purpose"):
            export_trial(folder, ExportOptions(number))

    def test_of_missing_packages(
        self, exported_study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, extra in (("onnx", "export"), ("openvino", "openvino")):
            with monkeypatch.context() as patch:
                patch.setitem(sys.modules, "openvino" if name == "openvino" else "onnx", None)
                with pytest.raises(ConfigError, match=rf"pip install 'autosearch\[{extra}\]'"):
                    export_trial(exported_study, ExportOptions(0, (name,)), tmp_path / "out")

    def test_of_what_is_in_the_way(
        self, exported_study: StudyFolder, plain_export: Exported, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        quick(monkeypatch)
        before = (plain_export.path / "model.json").read_bytes()
        with pytest.raises(StudyError, match="--force"):
            export_trial(exported_study, ExportOptions(0))
        assert (plain_export.path / "model.json").read_bytes() == before
        mine = tmp_path / "mine"
        mine.mkdir()
        (mine / "thesis.txt").write_text("x")
        with pytest.raises(StudyError, match="holds no export"):
            export_trial(exported_study, ExportOptions(0), mine, force=True)
        assert [path.name for path in mine.iterdir()] == ["thesis.txt"]

    def test_force_replaces_the_whole_folder(
        self, exported_study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        quick(monkeypatch)
        out = tmp_path / "deep" / "out"
        export_trial(exported_study, ExportOptions(0), out)
        (out / "stale.txt").touch()
        export_trial(exported_study, ExportOptions(0), out, force=True)
        assert sorted(path.name for path in out.iterdir()) == [
            "README.md", "maps.jpg", "model.json", "run_onnx.cpp", "run_onnx.py",
            "weights.safetensors",
        ]  # fmt: skip
        assert [path.name for path in out.parent.iterdir()] == ["out"]

    def test_of_a_runtime_that_disagrees(
        self, exported_study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []

        def wrong(graph: bytes, threads: int) -> Callable[..., Any]:
            def answer(images: np.ndarray) -> Any:
                asked.append(len(images))
                # Right for one image, wrong for several.
                maps = reference[: len(images)] * (1 if len(images) == 1 else 1.001)
                return maps, maps.max((1, 2))

            return answer

        data = reopen(exported_study).data
        params = exported_study.trials.records()[0].canonical
        made = {"configuration": {"search": params}, "study": {"trial_seed": 0}}
        detector = detector_of(Exported(tmp_path, made), exported_study, all_normal(data))
        order = np.argsort(~data.val.labels, kind="stable")[:3]
        reference = detector.anomaly_maps(torch.from_numpy(data.val.pixels[order])).numpy()
        monkeypatch.setattr(frozen, "onnx_bytes", lambda *_: b"graph")
        monkeypatch.setattr(frozen, "onnx_run", wrong)
        monkeypatch.setattr(frozen, "_latency", lambda *_: 0.0)
        with pytest.raises(ModelError, match=r"differ from torch's by 0\.001 .* batch 3"):
            export_trial(exported_study, ExportOptions(0), tmp_path / "new" / "out")
        assert 1 in asked and 3 in asked
        assert not (tmp_path / "new").exists()

    def test_of_a_graph_that_no_file_can_hold(self) -> None:
        module = nn.Module()
        module.register_buffer("bank", torch.empty(30_000, 20_000, device="meta"))
        with pytest.raises(ConfigError, match=r"^graph: '2\.4 GB' .* at most 2 GB a file$"):
            onnx_bytes(module, (SIDE, SIDE))

    def test_names_what_makes_such_a_graph_smaller(
        self, exported_study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def large(*_: object) -> None:
            raise TooLarge("graph", "2.4 GB", "at most 2 GB")

        quick(monkeypatch)
        monkeypatch.setattr(export, "freeze_static", large)
        text = r"^--format: 'onnx-static' .* 2 GB, and not of 2\.4 GB; .*: --coreset .*; --half; "
        with pytest.raises(TooLarge, match=text + "--format onnx or openvino"):
            export_trial(exported_study, ExportOptions(0, ("onnx-static",)), tmp_path / "out")
        inputs, record = reopen(exported_study), exported_study.trials.records()[0]
        windowed = replace(record, canonical={**record.canonical, "window": 1})
        without = replace(inputs, runner=SimpleNamespace(parameters={}))
        others = [(inputs, [record, windowed]), (without, [record])]
        for known, records in others:
            chosen = Chosen(known, records, [one.canonical for one in records])
            told = pytest.raises(TooLarge, match="--format onnx or openvino")
            with told as error, chosen.in_one_file("openvino-int8", half=True):
                large()
            assert not {"--coreset", "--half"} & set(str(error.value).split())


def test_all_normal_images_are_train_and_normal_validation(exported_study: StudyFolder) -> None:
    data = load_search_data(exported_study.load_spec().dataset)
    everything = all_normal(data)
    normal = [p for p, t in zip(data.val.paths, data.val.types, strict=True) if t == NORMAL]
    assert everything.paths == (*data.train.paths, *normal)
    assert set(everything.types) == {NORMAL} and not everything.masks.any()
    assert np.array_equal(everything.pixels[: len(data.train)], data.train.pixels)
    assert len(everything.groups) == len(everything.pixels) == len(everything)


def test_command_prints_what_was_made(
    exported_study: StudyFolder, plain_export: Exported, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(autosearch.export, "export_trial", lambda *_: plain_export)
    export_cli.export(exported_study.path, 0)
    out = capsys.readouterr().out
    assert "onnxruntime" in out and "model.onnx" in out and "autosearch predict" in out
    assert f"{plain_export.manifest['validation']['search']['rwap']:.4f}" in out
