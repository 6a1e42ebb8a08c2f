"""The graph of an exported trial: what it computes, what it holds, how it is rounded."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from autosearch_runners.bank import scores as bank_scores
from autosearch_runners.bank.scores import NearestPatchScore
from export_parts import SIDE, Exports, detector_of, unseen
from torch import Tensor, nn

from autosearch.data import load_search_data
from autosearch.errors import ConfigError
from autosearch.export.folder import ModelError, load_model
from autosearch.export.trial import Exported, ExportOptions, export_trial
from autosearch.graphs import largest_difference, round_to_half
from autosearch.storage.folder import StudyFolder
from autosearch.study.fitted import all_normal


class TestGraph:
    @pytest.mark.parametrize("batch", [1, 3, 5])
    def test_scores_as_a_detector_fitted_on_all_normal_images(
        self, plain_export: Exported, exported_study: StudyFolder, batch: int
    ) -> None:
        data = load_search_data(exported_study.load_spec().dataset)
        detector = detector_of(plain_export, exported_study, all_normal(data))
        images = unseen(batch)
        expected = detector.anomaly_maps(torch.from_numpy(images)).numpy()
        maps, scores = load_model(plain_export.path, threads=1).run(images)
        assert maps.shape == (batch, SIDE, SIDE) and maps.dtype == np.float32
        assert np.abs(maps - expected).max() <= 1e-4 * expected.max()
        np.testing.assert_array_equal(scores, maps.max((1, 2)))

    def test_knows_the_normal_images_of_validation(
        self, plain_export: Exported, exported_study: StudyFolder
    ) -> None:
        data = load_search_data(exported_study.load_spec().dataset)
        normal = data.val.pixels[~data.val.labels]
        anomalous = data.val.pixels[data.val.labels]
        model = load_model(plain_export.path, threads=1)
        level = model.run(anomalous)[1].min()
        assert model.run(data.train.pixels[:4])[1].max() < 1e-3 * level
        assert model.run(normal)[1].max() < 1e-3 * level
        # The one that thresholds were chosen with does not.
        train_only = detector_of(plain_export, exported_study, data.train)
        assert train_only.anomaly_maps(torch.from_numpy(normal)).max() > 1e-2 * level

    def test_is_one_standard_file(self, plain_export: Exported) -> None:
        model = onnx.load(plain_export.path / "model.onnx", load_external_data=False)
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

    def test_compares_the_bank_in_blocks(self, plain_export: Exported) -> None:
        # Never more products at a time than with one block, or the bank bounds the image size.
        graph = onnx.load(plain_export.path / "model.onnx").graph
        patches = plain_export.manifest["fit"]["images"] * (SIDE // 4) ** 2
        widths = [
            tensor.dims[1] for tensor in graph.initializer
            if tensor.name.startswith("module.bank.")
        ]  # fmt: skip
        assert sum(widths) == patches > 2048 and max(widths) == 2048
        assert sum(node.op_type == "MatMul" for node in graph.node) == len(widths)

    def test_of_a_small_one(self, small_export: Exported, exports: Exports) -> None:
        folder = exports.backbones
        data = load_search_data(folder.load_spec().dataset)
        bank = {"coreset_ratio": 0.2, "coreset_method": "kcenter"}
        detector = detector_of(small_export, folder, all_normal(data), **bank)
        images = unseen(3)
        exact = detector.anomaly_maps(torch.from_numpy(images)).numpy()
        model = load_model(small_export.path, threads=1)
        maps, _ = model.run(images)
        assert 0 < largest_difference(exact, maps) < 0.02
        assert 0 < small_export.manifest["half_error"] < 0.02
        np.testing.assert_allclose(model.run(images[1:2])[0], maps[1:2], rtol=1e-3)

    def test_of_a_small_one_is_stored_in_half_precision(self, small_export: Exported) -> None:
        graph = onnx.load(small_export.path / "model.onnx").graph
        large = [tensor for tensor in graph.initializer if np.prod(tensor.dims) >= 1024]
        single = [t for t in large if t.data_type == onnx.TensorProto.FLOAT]
        # The squared norms of the bank, which follow from it, one number a patch.
        assert len(large) > 5 and all(tensor.dims[0] == 1 for tensor in single)
        assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        held = safetensors.torch.load_file(small_export.path / "weights.safetensors")
        assert held["bank.0"].dtype == torch.float16 and held["origin"].dtype == torch.float32

    def test_of_a_small_one_has_the_smaller_bank(self, small_export: Exported) -> None:
        found = small_export.manifest
        patches = found["fit"]["images"] * (SIDE // 4) ** 2
        tensors = safetensors.torch.load_file(small_export.path / "weights.safetensors")
        width = sum(t.shape[1] for name, t in tensors.items() if name.startswith("bank."))
        assert width == round(0.2 * patches)
        assert found["configuration"]["search"]["coreset_ratio"] == 0.5
        assert found["configuration"]["exported"]["coreset_ratio"] == 0.2

    def test_tensors_make_the_module_again(
        self, plain_export: Exported, exported_study: StudyFolder
    ) -> None:
        data = load_search_data(exported_study.load_spec().dataset)
        detector = detector_of(plain_export, exported_study, all_normal(data))
        module = copy.deepcopy(detector.module()).eval()
        tensors = safetensors.torch.load_file(plain_export.path / "weights.safetensors")
        for tensor in module.state_dict().values():
            tensor.zero_()
        module.squares.zero_()
        module.load_state_dict(tensors)
        images = unseen(2)
        with torch.inference_mode():
            again = module(torch.from_numpy(images)).numpy()
        maps, _ = load_model(plain_export.path, threads=1).run(images)
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
        monkeypatch.setattr(bank_scores, "_EXPORT_BLOCK", 4)
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


def test_difference_is_relative_to_the_highest_score() -> None:
    reference = np.array([[0.0, 4.0]], dtype=np.float32)
    assert largest_difference(reference, reference + np.float32(0.5)) == 0.125
    assert largest_difference(np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)) == 1


@pytest.mark.slow
def test_openvino(exported_study: StudyFolder, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    options = ExportOptions(0, ("openvino",), half=True)
    exported = export_trial(exported_study, options, tmp_path / "openvino")
    assert {"model.xml", "model.bin"} < set(exported.manifest["files"])
    assert max(exported.manifest["parity"]["openvino"].values()) <= 1e-4
    images = unseen(3)
    maps, scores = load_model(exported.path, "openvino", 1).run(images)
    np.testing.assert_allclose(scores, maps.max((1, 2)))
    with pytest.raises(ModelError, match=r"without model\.onnx"):
        load_model(exported.path)
