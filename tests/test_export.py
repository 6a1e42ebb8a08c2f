import copy
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
import onnx
import pytest
import safetensors.torch
import torch
from autosearch_runners import memory_bank
from autosearch_runners.memory_bank import NearestPatchScore
from PIL import Image
from torch import Tensor, nn

from autosearch.cli import export as export_cli
from autosearch.contracts.detector import TrialContext
from autosearch.contracts.registry import find_space
from autosearch.contracts.trials import trial_seed
from autosearch.data import load_search_data
from autosearch.data.records import NORMAL
from autosearch.errors import AutosearchError, ConfigError, StudyError
from autosearch.executors.local import LocalExecutor
from autosearch.export import frozen, trial as export
from autosearch.export.folder import ModelError, load_model
from autosearch.export.onnx_graph import largest_difference, onnx_bytes, round_to_half
from autosearch.export.trial import Exported, ExportOptions, all_normal, export_trial
from autosearch.metrics.thresholds import choose_threshold
from autosearch.spec.reading import load_spec
from autosearch.storage.folder import StudyFolder
from autosearch.study.inputs import load_inputs, reopen
from autosearch.study.session import open_driver, run

SIDE = 64
SPACES = {
    "autopatch": "{width: 1.0, stage0.extraction_block: [2], stage0.kernel_size: 5, "
    "stage0.patch_size: 4, stage1.extraction_block: 5, stage1.patch_size: 3, "
    "stage3.extraction_block: null}",
    "backbones": "{level1.extract: [true], level1.patch_size: 2, level2.extract: false, "
    "level3.extract: false, num_neighbors: 3, coreset_ratio: 0.5, coreset_method: random}",
}


def search(results: Path, space: str) -> StudyFolder:
    """A study of one trial at 64 pixels with random weights."""
    given = ["backbone.weights=random", f"dataset.image_size={SIDE}", "study.trials=1"]
    spec = load_spec(find_space(space), [*given, f"space={SPACES[space]}"])
    folder = StudyFolder(results / space)
    inputs = load_inputs(spec)
    run(inputs, folder, open_driver(inputs, folder), LocalExecutor())
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def study(results: Path) -> StudyFolder:
    """A study of AutoPatch subnets; the memory bank keeps everything."""
    return search(results, "autopatch")


@pytest.fixture(scope="module")
def plain(study: StudyFolder) -> Exported:
    """Its only trial, exported as it is."""
    return export_trial(study, ExportOptions(0))


@pytest.fixture(scope="module")
def small(results: Path) -> Exported:
    """A trial of a fixed backbone with several neighbours: smaller bank, half precision."""
    options = ExportOptions(0, ("onnx", "torch"), coreset=0.2, half=True, rule="fpr", max_fpr=0.1)
    return export_trial(search(results, "backbones"), options, results / "out" / "small")


def detector_of(exported: Exported, folder: StudyFolder, train: Any, **bank: Any) -> Any:
    """A detector built by the runner itself, from nothing but the export's description."""
    runner = reopen(folder).runner
    found = exported.manifest
    params = runner.canonical({**found["configuration"]["search"], **bank})
    detector = runner.build(params, TrialContext(found["study"]["trial_seed"], "cpu", SIDE))
    detector.fit(train)
    return detector


def unseen(number: int) -> np.ndarray:
    """Pictures that no split holds: smooth, so that features differ from those of the demo."""
    noise = torch.rand(number, 3, 6, 6, generator=torch.Generator().manual_seed(7))
    return nn.functional.interpolate(noise, (SIDE, SIDE), mode="bilinear").numpy()


class TestGraph:
    @pytest.mark.parametrize("batch", [1, 3, 5])
    def test_scores_as_a_detector_fitted_on_all_normal_images(
        self, plain: Exported, study: StudyFolder, batch: int
    ) -> None:
        data = load_search_data(study.load_spec().dataset)
        detector = detector_of(plain, study, all_normal(data))
        images = unseen(batch)
        expected = detector.anomaly_maps(torch.from_numpy(images)).numpy()
        maps, scores = load_model(plain.path, threads=1).run(images)
        assert maps.shape == (batch, SIDE, SIDE) and maps.dtype == np.float32
        assert np.abs(maps - expected).max() <= 1e-4 * expected.max()
        np.testing.assert_array_equal(scores, maps.max((1, 2)))

    def test_knows_the_normal_images_of_validation(
        self, plain: Exported, study: StudyFolder
    ) -> None:
        data = load_search_data(study.load_spec().dataset)
        normal = data.val.pixels[~data.val.labels]
        anomalous = data.val.pixels[data.val.labels]
        model = load_model(plain.path, threads=1)
        level = model.run(anomalous)[1].min()
        assert model.run(data.train.pixels[:4])[1].max() < 1e-3 * level
        assert model.run(normal)[1].max() < 1e-3 * level
        # The one that thresholds were chosen with does not.
        train_only = detector_of(plain, study, data.train)
        assert train_only.anomaly_maps(torch.from_numpy(normal)).max() > 1e-2 * level

    def test_is_one_standard_file(self, plain: Exported) -> None:
        model = onnx.load(plain.path / "model.onnx", load_external_data=False)
        onnx.checker.check_model(model, full_check=True)
        assert model.opset_import[0].version >= 18 and not model.opset_import[0].domain
        assert {node.domain for node in model.graph.node} == {""}
        (images,) = model.graph.input
        assert [images.name, *(o.name for o in model.graph.output)] == [
            "images", "anomaly_map", "score",
        ]  # fmt: skip
        dims = images.type.tensor_type.shape.dim
        assert dims[0].dim_param and [d.dim_value for d in dims[1:]] == [3, SIDE, SIDE]
        assert not any(t.external_data for t in model.graph.initializer)

    def test_compares_the_bank_in_blocks(self, plain: Exported) -> None:
        # Never more products at a time than with one block, or the bank bounds the image size.
        graph = onnx.load(plain.path / "model.onnx").graph
        patches = plain.manifest["fit"]["images"] * (SIDE // 4) ** 2
        widths = [
            tensor.dims[1] for tensor in graph.initializer
            if tensor.name.startswith("module.bank.")
        ]  # fmt: skip
        assert sum(widths) == patches > 2048 and max(widths) == 2048
        assert sum(node.op_type == "MatMul" for node in graph.node) == len(widths)

    def test_of_a_small_one(self, small: Exported, results: Path) -> None:
        folder = StudyFolder(results / "backbones")
        data = load_search_data(folder.load_spec().dataset)
        bank = {"coreset_ratio": 0.2, "coreset_method": "kcenter"}
        detector = detector_of(small, folder, all_normal(data), **bank)
        images = unseen(3)
        exact = detector.anomaly_maps(torch.from_numpy(images)).numpy()
        model = load_model(small.path, threads=1)
        maps, _ = model.run(images)
        assert 0 < largest_difference(exact, maps) < 0.02
        assert 0 < small.manifest["half_error"] < 0.02
        np.testing.assert_allclose(model.run(images[1:2])[0], maps[1:2], rtol=1e-3)

    def test_of_a_small_one_is_stored_in_half_precision(self, small: Exported) -> None:
        graph = onnx.load(small.path / "model.onnx").graph
        large = [tensor for tensor in graph.initializer if np.prod(tensor.dims) >= 1024]
        single = [t for t in large if t.data_type == onnx.TensorProto.FLOAT]
        # The squared norms of the bank, which follow from it, one number a patch.
        assert len(large) > 5 and all(tensor.dims[0] == 1 for tensor in single)
        assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        held = safetensors.torch.load_file(small.path / "weights.safetensors")
        assert held["bank.0"].dtype == torch.float16 and held["origin"].dtype == torch.float32

    def test_of_a_small_one_has_the_smaller_bank(self, small: Exported) -> None:
        found = small.manifest
        patches = found["fit"]["images"] * (SIDE // 4) ** 2
        tensors = safetensors.torch.load_file(small.path / "weights.safetensors")
        width = sum(t.shape[1] for name, t in tensors.items() if name.startswith("bank."))
        assert width == round(0.2 * patches)
        assert found["configuration"]["search"]["coreset_ratio"] == 0.5
        assert found["configuration"]["exported"]["coreset_ratio"] == 0.2

    def test_tensors_make_the_module_again(self, plain: Exported, study: StudyFolder) -> None:
        data = load_search_data(study.load_spec().dataset)
        detector = detector_of(plain, study, all_normal(data))
        module = copy.deepcopy(detector.module()).eval()
        tensors = safetensors.torch.load_file(plain.path / "weights.safetensors")
        for tensor in module.state_dict().values():
            tensor.zero_()
        module.squares.zero_()
        module.load_state_dict(tensors)
        images = unseen(2)
        with torch.inference_mode():
            again = module(torch.from_numpy(images)).numpy()
        maps, _ = load_model(plain.path, threads=1).run(images)
        assert np.abs(again - maps).max() <= 1e-4 * maps.max()


class _Identity(nn.Module):
    """Features are the pixels."""

    def forward(self, images: Tensor) -> Tensor:
        return images


class TestNearestPatchScore:
    @pytest.mark.parametrize("neighbours", [1, 2, 5])
    @pytest.mark.parametrize("size", [5, 40, 41])
    def test_is_the_mean_of_the_smallest_distances(
        self, monkeypatch: pytest.MonkeyPatch, neighbours: int, size: int
    ) -> None:
        monkeypatch.setattr(memory_bank, "_EXPORT_BLOCK", 4)
        draw = torch.Generator().manual_seed(size)
        bank = torch.randn(size, 3, generator=draw) + 50
        images = torch.randn(2, 3, 6, 6, generator=draw) + 50
        features: Any = _Identity()
        found = NearestPatchScore(features, bank, neighbours)(images)
        pixels = images.double().permute(0, 2, 3, 1)[..., None, :]
        distances = (pixels - bank.double()).square().sum(-1).sort(-1).values
        expected = distances[..., :neighbours].mean(-1)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)

    def test_has_a_bounded_number_of_blocks(self) -> None:
        features: Any = _Identity()
        widths = [
            [part.shape[1] for part in NearestPatchScore(features, torch.zeros(n, 2), 1).bank]
            for n in (100, 2048, 2049, 300_000)
        ]
        assert widths[:3] == [[100], [2048], [2048, 1]]
        assert len(widths[3]) == 64 and sum(widths[3]) == 300_000

    def test_rounding_keeps_bank_and_norms_together(self) -> None:
        features: Any = _Identity()
        module = NearestPatchScore(features, 30 * torch.randn(600, 3), 1)
        round_to_half(module)
        rounded = module.bank[0]
        assert torch.equal(rounded, rounded.half().float())
        torch.testing.assert_close(module.squares, rounded.square().sum(0))

    def test_values_beyond_half_precision_are_refused(self) -> None:
        features: Any = _Identity()
        module = NearestPatchScore(features, 1e6 * torch.randn(600, 3), 1)
        with pytest.raises(ConfigError, match=r"--half: 'bank\.0'"):
            round_to_half(module)


class TestDescription:
    def test_lists_every_file_with_its_hash(self, plain: Exported) -> None:
        content = json.loads((plain.path / "model.json").read_text())
        names = {path.name for path in plain.path.iterdir()} - {"model.json"}
        assert names == {
            "model.onnx", "weights.safetensors", "README.md", "maps.jpg",
        } == set(content["files"])  # fmt: skip
        for name, entry in content["files"].items():
            data = (plain.path / name).read_bytes()
            assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    def test_tells_no_path_of_this_machine(self, plain: Exported, study: StudyFolder) -> None:
        root = str(reopen(study).data.info["root"])
        secrets = [root, str(plain.path.parent), str(Path(export.__file__).parent), sys.prefix]
        for path in plain.path.iterdir():
            content = path.read_bytes()
            assert not [secret for secret in secrets if secret.encode() in content], path.name

    def test_thresholds_come_from_a_detector_that_saw_no_validation_image(
        self, plain: Exported, study: StudyFolder
    ) -> None:
        data = load_search_data(study.load_spec().dataset)
        maps = detector_of(plain, study, data.train).anomaly_maps(
            torch.from_numpy(np.array(data.val.pixels))
        ).numpy()  # fmt: skip
        found = plain.manifest["thresholds"]
        for name, scores, labels in (
            ("image", maps.max((1, 2)), data.val.labels),
            ("pixel", maps.ravel(), data.val.masks.ravel()),
        ):
            expected = choose_threshold(scores, labels, "f1")
            assert found[name]["value"] == pytest.approx(expected.value, rel=1e-5)
            assert found[name]["reached"]["tp"] == expected.reached.tp
        loaded = load_model(plain.path)
        assert loaded.image_threshold.value == found["image"]["value"]
        assert loaded.low < loaded.high

    def test_of_a_bounded_false_positive_rate(self, small: Exported) -> None:
        for name in ("image", "pixel"):
            limit = small.manifest["thresholds"][name]
            assert limit["rule"] == "fpr" and limit["reached"]["fpr"] <= limit["max_fpr"] == 0.1

    def test_says_how_it_was_fitted(self, plain: Exported, study: StudyFolder) -> None:
        counts = reopen(study).data.info["counts"]
        train, val = counts["train"], counts["val"]  # type: ignore[index]
        fit = plain.manifest["fit"]
        assert fit["train"] == sum(train.values())
        assert fit["validation_normal"] == val[NORMAL]
        assert fit["images"] == fit["train"] + fit["validation_normal"]
        assert fit["anomalous"] == 0

    def test_reports_what_a_smaller_bank_costs(self, small: Exported, plain: Exported) -> None:
        figures = small.manifest["validation"]
        assert figures["search"]["rwap"] != figures["exported_configuration"]["rwap"]
        figures = plain.manifest["validation"]
        assert figures["search"]["rwap"] == pytest.approx(
            figures["exported_configuration"]["rwap"], abs=1e-6
        )

    def test_keeps_the_seed_of_the_trial(self, small: Exported, results: Path) -> None:
        before = trial_seed(0, small.manifest["configuration"]["search"])
        assert small.manifest["study"]["trial_seed"] == before

    def test_parity_was_checked_at_both_batches(self, plain: Exported, small: Exported) -> None:
        for exported in (plain, small):
            parity = exported.manifest["parity"]
            assert set(parity["onnxruntime"]) == {"batch_1", "batch_3"}
            assert max(parity["onnxruntime"].values()) <= parity["tolerance"] == 1e-4
            assert exported.manifest["latency_ms"]["onnxruntime"] > 0


class TestCard:
    def test_warns_of_what_means_nothing(self, plain: Exported) -> None:
        card = (plain.path / "README.md").read_text()
        assert "RANDOM WEIGHTS" in card and "Synthetic defects" in card
        assert "](maps.jpg)" in card
        with Image.open(plain.path / "maps.jpg") as picture:
            assert min(picture.size) > 100
        assert "was not evaluated" in card and "stage0 | " in card

    def test_says_where_validation_was_made_up(
        self, study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inputs = reopen(study)
        info: dict[str, Any] = dict(inputs.data.info)
        info["counts"] = {**info["counts"], "val": {"good": 1, "synthetic_perlin": 4}}
        info["validation_synthetic"] = {"kind": "perlin", "textures": "/home/me/textures"}
        changed = replace(inputs, data=replace(inputs.data, info=info))
        monkeypatch.setattr(export, "reopen", lambda *_: changed)
        quick(monkeypatch)
        exported = export_trial(study, ExportOptions(0), tmp_path / "out")
        card = (tmp_path / "out" / "README.md").read_text()
        assert "Synthetic validation** (synthetic_perlin)" in card
        assert exported.manifest["dataset"]["validation_synthetic"]["textures"] == "textures"
        assert "/home/me" not in (tmp_path / "out" / "model.json").read_text()

    def test_code_of_the_card_runs(self, plain: Exported, tmp_path: Path) -> None:
        folder = shutil.copytree(plain.path, tmp_path / "model")
        code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
        assert code is not None
        smooth = (unseen(1)[0].transpose(1, 2, 0) * 255).astype(np.uint8)
        Image.fromarray(smooth).resize((200, 150)).save(folder / "part.png")
        done = subprocess.run(
            [sys.executable, "-c", code[1]], cwd=folder, capture_output=True, text=True, check=True
        )
        export_cli.predict(folder, [str(folder / "part.png")], tmp_path / "out", 1)
        (entry,) = json.loads((tmp_path / "out" / "scores.json").read_text())["images"]
        score, called = done.stdout.split()
        assert float(score) == pytest.approx(entry["score"], rel=0.05)
        assert called == str(entry["anomalous"])

    def test_shows_what_the_smaller_bank_costs(self, small: Exported) -> None:
        card = (small.path / "README.md").read_text()
        figures = small.manifest["validation"]
        assert "validation, as exported" in card and "coreset ratio 0.2" in card
        assert f"{figures['search']['rwap']:.4f} | " in card
        assert f" {figures['exported_configuration']['rwap']:.4f} |" in card
        assert "half precision" in card

    def test_shows_test_figures_where_there_are_any(
        self, study: StudyFolder, plain: Exported, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        copied = StudyFolder(Path(shutil.copytree(study.path, tmp_path / "study")))
        copied.files.write_test(0, {"metrics": {"rwap": 0.4321, "image_auroc": None}})
        quick(monkeypatch)
        exported = export_trial(copied, ExportOptions(0), force=True)
        card = (exported.path / "README.md").read_text()
        assert "| rwAP, pixels |" in card and "0.4321" in card and "took no part" in card


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the graph, which takes longest, where a test is not about it."""
    files = {"weights.safetensors": b"tensors"}
    monkeypatch.setattr(
        export, "freeze", lambda *_: SimpleNamespace(
            files=dict(files), parity={}, latency={}, half_error=None
        )
    )  # fmt: skip


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
        self, study: StudyFolder, tmp_path: Path, options: ExportOptions, message: str
    ) -> None:
        with pytest.raises(AutosearchError, match=re.escape(message)):
            export_trial(study, options, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_of_a_trial_without_values(
        self, make_study: Callable[..., StudyFolder], tmp_path: Path
    ) -> None:
        folder = make_study(tmp_path / "fake", 60)
        number = next(r.number for r in folder.trials.records() if r.status == "failed")
        with pytest.raises(StudyError, match=f"trial {number} is failed: failed on purpose"):
            export_trial(folder, ExportOptions(number))

    def test_of_missing_packages(
        self, study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, extra in (("onnx", "export"), ("openvino", "openvino")):
            with monkeypatch.context() as patch:
                patch.setitem(sys.modules, "openvino" if name == "openvino" else "onnx", None)
                with pytest.raises(ConfigError, match=rf"pip install 'autosearch\[{extra}\]'"):
                    export_trial(study, ExportOptions(0, (name,)), tmp_path / "out")

    def test_of_what_is_in_the_way(
        self, study: StudyFolder, plain: Exported, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        quick(monkeypatch)
        before = (plain.path / "model.json").read_bytes()
        with pytest.raises(StudyError, match="--force"):
            export_trial(study, ExportOptions(0))
        assert (plain.path / "model.json").read_bytes() == before
        mine = tmp_path / "mine"
        mine.mkdir()
        (mine / "thesis.txt").write_text("x")
        with pytest.raises(StudyError, match="holds no export"):
            export_trial(study, ExportOptions(0), mine, force=True)
        assert [path.name for path in mine.iterdir()] == ["thesis.txt"]

    def test_force_replaces_the_whole_folder(
        self, study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        quick(monkeypatch)
        out = tmp_path / "deep" / "out"
        export_trial(study, ExportOptions(0), out)
        (out / "stale.txt").touch()
        export_trial(study, ExportOptions(0), out, force=True)
        assert sorted(path.name for path in out.iterdir()) == [
            "README.md", "maps.jpg", "model.json", "weights.safetensors",
        ]  # fmt: skip
        assert [path.name for path in out.parent.iterdir()] == ["out"]

    def test_of_a_runtime_that_disagrees(
        self, study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []

        def wrong(graph: bytes, threads: int) -> Callable[..., Any]:
            def answer(images: np.ndarray) -> Any:
                asked.append(len(images))
                # Right for one image, wrong for several.
                maps = reference[: len(images)] * (1 if len(images) == 1 else 1.001)
                return maps, maps.max((1, 2))

            return answer

        data = reopen(study).data
        detector = detector_of(
            Exported(tmp_path, {"configuration": {"search": study.trials.records()[0].canonical},
                                "study": {"trial_seed": 0}}),
            study, all_normal(data),
        )  # fmt: skip
        order = np.argsort(~data.val.labels, kind="stable")[:3]
        reference = detector.anomaly_maps(torch.from_numpy(data.val.pixels[order])).numpy()
        monkeypatch.setattr(frozen, "onnx_bytes", lambda *_: b"graph")
        monkeypatch.setattr(frozen, "onnx_run", wrong)
        monkeypatch.setattr(frozen, "_latency", lambda call: 0.0)
        with pytest.raises(ModelError, match=r"differ from torch's by 0\.001 .* batch 3"):
            export_trial(study, ExportOptions(0), tmp_path / "new" / "out")
        assert 1 in asked and 3 in asked
        assert not (tmp_path / "new").exists()

    def test_of_a_graph_that_no_file_can_hold(self) -> None:
        module = nn.Module()
        module.register_buffer("bank", torch.empty(30_000, 20_000, device="meta"))
        with pytest.raises(ConfigError, match=r"--coreset: '2\.4 GB'"):
            onnx_bytes(module, SIDE)


def test_all_normal_images_are_train_and_normal_validation(study: StudyFolder) -> None:
    data = load_search_data(study.load_spec().dataset)
    everything = all_normal(data)
    normal = [p for p, t in zip(data.val.paths, data.val.types, strict=True) if t == NORMAL]
    assert everything.paths == (*data.train.paths, *normal)
    assert set(everything.types) == {NORMAL} and not everything.masks.any()
    assert np.array_equal(everything.pixels[: len(data.train)], data.train.pixels)
    assert len(everything.groups) == len(everything.pixels) == len(everything)


def test_difference_is_relative_to_the_highest_score() -> None:
    reference = np.array([[0.0, 4.0]], dtype=np.float32)
    assert largest_difference(reference, reference + np.float32(0.5)) == 0.125
    assert largest_difference(np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)) == 1


@pytest.mark.slow
def test_openvino(results: Path, study: StudyFolder) -> None:
    pytest.importorskip("openvino")
    options = ExportOptions(0, ("openvino",), half=True)
    exported = export_trial(study, options, results / "openvino")
    assert {"model.xml", "model.bin"} < set(exported.manifest["files"])
    assert max(exported.manifest["parity"]["openvino"].values()) <= 1e-4
    images = unseen(3)
    maps, scores = load_model(exported.path, "openvino", 1).run(images)
    np.testing.assert_allclose(scores, maps.max((1, 2)))
    with pytest.raises(ModelError, match=r"without model\.onnx"):
        load_model(exported.path)


def test_command_prints_what_was_made(
    study: StudyFolder, plain: Exported, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(export, "export_trial", lambda *_: plain)
    export_cli.export(study.path, 0)
    out = capsys.readouterr().out
    assert "onnxruntime" in out and "model.onnx" in out and "autosearch predict" in out
    assert f"{plain.manifest['validation']['search']['rwap']:.4f}" in out
