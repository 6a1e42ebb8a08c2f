"""Exports for other runtimes: fixed shapes in half precision, and 8-bit integers."""

import importlib
import io
import os
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_parts import SIDE, Exports, unseen
from rich.console import Console
from torch import Tensor, nn

from autosearch.api import open_study
from autosearch.backbones import FeatureExtractor, FeatureInfo
from autosearch.cli import export as export_cli
from autosearch.contracts import Detector
from autosearch.data import TileGrid
from autosearch.data.records import NORMAL
from autosearch.errors import ConfigError
from autosearch.export import folder, int8, static
from autosearch.export.card import model_card
from autosearch.export.folder import load_model
from autosearch.export.frozen import check_formats
from autosearch.export.int8 import Measured, Quantiser
from autosearch.export.predictor import Predictor
from autosearch.export.static import in_half
from autosearch.export.trial import Exported, ExportOptions, export_trial
from autosearch.graphs import (
    ModelError,
    in_int8,
    largest_difference,
    onnx_bytes,
    openvino_files,
    side_by_side,
    static_onnx,
    tensorrt,
)
from autosearch.graphs.int8 import search_nodes
from autosearch.study.fitted import all_normal
from autosearch.study.inputs import reopen
from autosearch.testing.images import image_set

FORMATS = ("onnx-static", "openvino-int8")


class Large(FeatureExtractor):
    """One convolution whose channels are around 400, so that their squares pass half precision."""

    feature_info = (FeatureInfo(1, 4, 1, "conv"),)
    mean = std = (0.5, 0.5, 0.5)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        nn.init.constant_(self.conv.weight, 20.0)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.conv(images)]


class Distances(nn.Module):
    """Least squared distance of pixels to the rows of a bank, by the binomial formula."""

    def __init__(self) -> None:
        super().__init__()
        self.extractor = Large()
        rows = 100 * torch.rand(6, 4, generator=torch.Generator().manual_seed(1))
        self.register_buffer("rows", rows)

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` to ``(N, H, W)``."""
        (features,) = self.extractor(images)
        pooled = nn.functional.avg_pool2d(features, 3, 1, 1)
        queries = pooled.permute(0, 2, 3, 1).reshape(-1, 4) - self.rows.mean(0)
        rows = self.rows - self.rows.mean(0)
        least = ((queries * -2) @ rows.T + rows.square().sum(1)).amin(1)
        return (least + queries.square().sum(1)).reshape(-1, *images.shape[2:])


@cache
def distances() -> nn.Module:
    torch.manual_seed(0)
    return Distances().eval()


@pytest.fixture(scope="module")
def small() -> np.ndarray:
    return np.ascontiguousarray(unseen(3)[:, :, :16, :16])


@pytest.fixture(scope="module")
def both(exports: Exports) -> Exported:
    """A trial in both formats."""
    options = ExportOptions(0, FORMATS, batch=2)
    return export_trial(exports.study, options, exports.results / "out" / "both")


class TestStatic:
    def test_only_networks_are_in_half_precision(self, small: np.ndarray) -> None:
        module, images = distances(), torch.from_numpy(small)
        with torch.inference_mode():
            exact, short = module(images).numpy(), in_half(module)(images).numpy()
            everything = Distances().eval().half()(images.half())
        assert exact.max() > 65504 and not torch.isfinite(everything).all()
        assert 0 < largest_difference(exact, short) <= 1e-2
        assert next(module.parameters()).dtype == torch.float32  # It was a copy.

    def test_without_extractors_it_is_layers_that_are(self, small: np.ndarray) -> None:
        module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1)).eval()
        short = in_half(module)
        kinds = [parameter.dtype for parameter in short.parameters()]
        assert kinds == [torch.float16] * 2 + [torch.float32] * 2 + [torch.float16] * 2
        with torch.inference_mode():
            images = torch.from_numpy(small)
            torch.testing.assert_close(short(images), module(images), atol=1e-2, rtol=1e-2)

    def test_a_graph_for_one_batch_size(self, small: np.ndarray) -> None:
        made = static_onnx(in_half(distances()), (2, 16, 16))
        model = onnx.load_from_string(made.content)
        for part, rest in (("input", [3, 16, 16]), ("output", [16, 16])):
            shape = getattr(model.graph, part)[0].type.tensor_type.shape
            assert [axis.dim_value for axis in shape.dim] == [2, *rest]
        assert model.opset_import[0].version == 17
        assert sum(made.operators.values()) == len(model.graph.node)
        assert made.operators["Conv"] == 1 and "Shape" not in made.operators
        session = onnxruntime.InferenceSession(made.content, providers=["CPUExecutionProvider"])
        maps, scores = session.run(None, {"images": small[:2]})
        with torch.inference_mode():
            exact = distances()(torch.from_numpy(small[:2])).numpy()
        assert largest_difference(exact, maps) <= 1e-2
        np.testing.assert_array_equal(scores, maps.max((1, 2)))
        with pytest.raises(Exception, match="Got: 3 Expected: 2"):
            session.run(None, {"images": small})

    def test_what_tensorrt_lacks_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tensorrt, "MOST_OF_TOPK", 25)
        with pytest.raises(ModelError, match=r"at most 25 of .* score is of 26"):
            static_onnx(distances(), (1, 16, 16), top_share=26 / 256)
        monkeypatch.setattr(tensorrt, "LACKING", frozenset({"Conv", "Unique"}))
        with pytest.raises(ModelError, match="TensorRT does not read Conv, which"):
            static_onnx(distances(), (1, 16, 16))

    def test_stays_in_float32_where_half_precision_changes_too_much(
        self, exports: Exports, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(static, "HALF_TOLERANCE", 0.0)
        inputs = reopen(exports.study)
        files, found = static.freeze_static(fitted(exports), inputs.data.val, 3, False, 18)
        assert (found["network"], found["tolerance"], found["opset"]) == ("float32", 1e-4, 17)
        assert found["difference"] <= 1e-4
        model = onnx.load_from_string(files[folder.STATIC])
        assert onnx.TensorProto.FLOAT16 not in {t.data_type for t in model.graph.initializer}

    @pytest.mark.parametrize(
        ("formats", "batch", "said"),
        [(("onnx",), 2, "--format onnx-static beside it"), (FORMATS, 0, "a whole number from 1")],
    )
    def test_refuses_a_batch_size(
        self, exports: Exports, formats: tuple[str, ...], batch: int, said: str, tmp_path: Path
    ) -> None:
        study, out = open_study(exports.study.path), tmp_path / "model"
        with pytest.raises(ConfigError, match=f"--batch: {batch} .*{said}"):
            study.export(0, formats=formats, batch=batch, out=out)


class TestInt8:
    def test_the_search_stays_in_float(self, small: np.ndarray) -> None:
        openvino = pytest.importorskip("openvino")
        pytest.importorskip("nncf")
        files = openvino_files(onnx_bytes(distances(), (16, 16)))
        nodes = set(search_nodes(openvino.Core().read_model(*files)))
        network, data = in_int8(*files, [image[None] for image in small])
        model = openvino.Core().read_model(network, data)
        by_name = {node.get_friendly_name(): node for node in model.get_ops()}
        searching = {name: node for name, node in by_name.items() if name in nodes}
        kinds = {node.get_type_name() for node in searching.values()}
        assert {"MatMul", "ReduceMin", "Subtract", "Power", "AvgPool"} <= kinds
        assert "Convolution" not in kinds
        for node in searching.values():
            for port in node.inputs():
                source = port.get_source_output().get_node()
                rounded = source.get_type_name() == "FakeQuantize"
                # Features may come rounded; nothing between them and the map is rounded again.
                assert not rounded or node.get_type_name() == "AvgPool", node.get_friendly_name()
        stored = {node.get_output_element_type(0).get_type_name() for node in model.get_ops()
                  if node.get_type_name() == "Constant"}  # fmt: skip
        assert "i8" in stored

    def test_calibrates_on_normal_training_images(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(int8, "CALIBRATION", 3)
        train = image_set(16, 5, 4, seed=0)
        known = [image for image, kind in zip(train.pixels, train.types, strict=True)
                 if kind == NORMAL]  # fmt: skip

        def chosen(seed: int) -> list[int]:
            quantiser = Quantiser(train, seed, False, 18, 1, print)
            return [
                next(i for i, one in enumerate(known) if np.array_equal(one, image[0]))
                for image in quantiser._images(None, None)
            ]

        assert len(set(chosen(0))) == 3 and chosen(0) == chosen(0)
        assert len({tuple(chosen(seed)) for seed in range(5)}) > 1
        grid = TileGrid.over((16, 16), 8, 0.0)
        tiles = list(Quantiser(train, 0, False, 18, 1, print)._images(grid, 2))
        for image, tile in zip(chosen(0), tiles, strict=True):
            np.testing.assert_array_equal(tile[0], known[image][:, 8:, :8])

    def test_loss_is_of_pixels_or_else_of_images(self) -> None:
        maps = np.zeros((1, 2, 2), np.float32)
        before = {"rwap": 0.5, "ap": 0.75, "image_ap": 1.0}
        after = {"rwap": 0.25, "ap": 1.0, "image_ap": 0.5}
        assert Measured(before, after, maps).loss == {"rwap": 0.25, "ap": -0.25}
        alone = [{"image_ap": one["image_ap"]} for one in (before, after)]
        assert Measured(*alone, maps).loss == {"image_ap": 0.5}
        assert Measured({}, {}, maps).loss == {}


@pytest.mark.slow
@pytest.mark.timeout(600)
class TestExport:
    """Of both at once: quantising takes its time."""

    def test_fixed_shapes(self, both: Exported, exports: Exports) -> None:
        found = both.manifest["static"]
        assert (found["batch"], found["opset"], found["network"]) == (2, 17, "float16")
        assert 0 < found["difference"] <= found["tolerance"] == 1e-2
        model = onnx.load(both.path / folder.STATIC)
        kinds = {tensor.data_type for tensor in model.graph.initializer}
        assert {onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT} <= kinds
        card = (both.path / "README.md").read_text()
        assert "not run in TensorRT" in card and f"Conv {found['operators']['Conv']}" in card
        assert not (both.path / "run_onnx.py").exists()  # It is for another graph.

    def test_integers(self, both: Exported, exports: Exports) -> None:
        found = both.manifest["int8"]
        inputs = reopen(exports.study)
        normal = int((~inputs.data.train.labels).sum())
        assert found["calibration"]["images"] == normal and found["in_float"] == "the search"
        before, after = (found["validation"][kind] for kind in ("float", "int8"))
        assert before == both.manifest["validation"]["exported_configuration"] != after
        for name in ("rwap", "ap"):
            assert found["loss"][name] == pytest.approx(before[name] - after[name])
        sizes = [len((both.path / name).read_bytes()) for name in (folder.INT8, folder.INT8_DATA)]
        assert found["bytes"]["int8"] == sum(sizes)
        assert min(found["latency_ms"]["float"], found["latency_ms"]["int8"]) > 0
        card = (both.path / "README.md").read_text()
        assert f"| 8 bits | {after['rwap']:.4f} | {after['ap']:.4f} |" in card

    def test_runs_with_thresholds_of_its_own(self, both: Exported, exports: Exports) -> None:
        model = load_model(both.path, "openvino-int8")
        own = both.manifest["int8"]["scoring"]
        assert model.image_threshold.value == own["thresholds"]["image"]["value"]
        assert model.image_threshold.value != both.manifest["thresholds"]["image"]["value"]
        assert model.baseline == tuple(own["baseline"]["scores"])
        # The second is far beyond the ranges of normal images, so it is cut off.
        pictures = [(0.5 + contrast * (unseen(1)[0] - 0.5)).transpose(1, 2, 0)
                    for contrast in (0.2, 1.0)]  # fmt: skip
        images = [(255 * picture).astype(np.uint8) for picture in pictures]
        near, far = Predictor(both.path, "openvino-int8")(images)
        exact, beyond = Predictor(exports.plain.path)(images)
        assert near.score == pytest.approx(exact.score, rel=0.2)
        assert near.score != exact.score
        assert near.score < far.score < beyond.score and far.anomalous

    def test_other_runtimes_are_refused_in_one_line(
        self, both: Exported, exports: Exports
    ) -> None:
        for path, provider, name in (
            (both.path, "cpu", folder.ONNX),
            (exports.plain.path, "openvino-int8", folder.INT8),
        ):
            with pytest.raises(ModelError, match=f"was exported without {name}; it holds "):
                load_model(path, provider)

    def test_the_card_names_graphs_as_they_are(self, both: Exported) -> None:
        found = {**both.manifest}
        card = model_card(found, {})
        assert "`model.static.onnx` is for" in card and "`model.int8.xml` computes" in card
        tiles = TileGrid((SIDE, 2 * SIDE), (SIDE, SIDE), (0,), (0, SIDE)).to_plain()
        found["input"] = {**found["input"], "tiling": {**tiles, "banks": "position"}}
        card = model_card({**found, "tile_latency_ms": found["latency_ms"]}, {})
        assert "`model.static-00.onnx` is for" in card and "`model.int8-00.xml` computes" in card

    def test_what_is_told_of_both(self, both: Exported) -> None:
        screen = Console(file=io.StringIO(), width=120)
        screen.print(export_cli._int8_table(both.manifest["int8"]))
        for line in export_cli._export_notes(both.path, both.manifest):
            screen.print(line, soft_wrap=True)
        told = screen.file.getvalue()  # type: ignore[attr-defined]
        assert "8 bits" in told and "batches of 2, opset 17, network in float16" in told
        assert told.rstrip().endswith("--provider openvino-int8")


def test_nncf_is_asked_to_tell_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NNCF_CI", raising=False)
    told: dict[str, str | None] = {}
    monkeypatch.setattr(
        importlib, "import_module", lambda name: told.update({name: os.environ.get("NNCF_CI")})
    )
    check_formats(("openvino-int8",))
    assert told["nncf"] == "1" and told["openvino"] is None and "NNCF_CI" not in os.environ


def test_times_are_taken_in_turns() -> None:
    order: list[int] = []
    times = side_by_side([lambda _: order.append(0), lambda _: order.append(1)], (4, 4))
    assert order == [0, 1] * (len(order) // 2) and len(order) >= 2 * 5
    assert len(times) == 2 and all(0 <= time < 100 for time in times)


def fitted(exports: Exports) -> Detector:
    """The detector of the only trial, fitted anew."""
    from autosearch.export.chosen import Chosen, records_of

    inputs = reopen(exports.study)
    chosen = Chosen.of(inputs, records_of(exports.study, 0, ()), None)
    return chosen.fitted(all_normal(inputs.data))
