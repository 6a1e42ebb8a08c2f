"""Searches on tiles of large images, through evaluation and export to prediction."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_parts import command
from PIL import Image
from tiled_parts import SHAPE, SIDE, Tiled, photo

import autosearch
from autosearch.contracts.detector import TrialContext
from autosearch.contracts.registry import find_space
from autosearch.contracts.tiled import TiledDetector
from autosearch.contracts.trials import Status
from autosearch.data.check import check_dataset
from autosearch.data.tiles import TileGrid
from autosearch.errors import ConfigError
from autosearch.export.folder import ModelError, load_model, seal
from autosearch.export.predict import Prediction, Skipped
from autosearch.export.predictor import Predictor
from autosearch.spec.reading import load_spec
from autosearch.study.fitted import all_normal
from autosearch.study.inputs import load_inputs, rebuild

GRID = TileGrid.over(SHAPE, SIDE, 0.25)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Tiled:
    """Six tiles, one detector."""
    keys = ("dataset.image_size=[96, 160]", f"dataset.tiling={{size: {SIDE}}}", "study.name=s")
    return Tiled(tmp_path_factory.mktemp("shared"), *keys)


@pytest.fixture(scope="module")
def by_position(tmp_path_factory: pytest.TempPathFactory) -> Tiled:
    """Two tiles of images that are smaller, each with a detector; measured at the files' size."""
    tiling = "dataset.tiling={size: 64, overlap: 0.1, banks: position}"
    keys = ("dataset.image_size={short: 64}", "dataset.evaluation_size=source", tiling)
    return Tiled(tmp_path_factory.mktemp("position"), *keys, "study.name=p")


def fitted(tiled: Tiled) -> TiledDetector:
    """The exported detector, made again."""
    detector = rebuild(tiled.inputs, tiled.study.trials.records()[0])
    assert isinstance(detector, TiledDetector)
    detector.fit(all_normal(tiled.inputs.data))
    return detector


class TestSearch:
    def test_costs_are_those_of_all_tiles(self, shared: Tiled) -> None:
        (record,) = shared.study.trials.records()
        assert record.status == Status.COMPLETE and record.values["rwap"] > 0.5
        alone = shared.inputs.runner.build(
            record.canonical, TrialContext(record.number, "cpu", (SIDE, SIDE))
        ).cost()
        figures = record.measured
        assert figures["gflops"] == pytest.approx(6 * alone.flops / 1e9)
        assert figures["parameters"] == alone.parameters
        total = figures["gflops"] + figures["search_gflops"]
        assert record.values["total_gflops"] == pytest.approx(total)

    def test_says_how_images_are_cut(self, shared: Tiled, capsys: pytest.CaptureFixture) -> None:
        told = "96 x 160 px (height x width) in 6 tiles of 64 px"
        assert shared.study.load_meta()["data"]["tiling"] == {**GRID.to_plain(), "banks": "shared"}
        assert told in command(capsys, "show", shared.study.path)[1]
        keys = ("--set", "dataset.tiling={size: 64}", "--set", "dataset.image_size=[96, 160]")
        root = shared.inputs.spec.dataset.root
        assert f"detectors see {told}" in command(capsys, "data", "check", root, *keys)[1]

    def test_is_evaluated_on_the_test_split(self, shared: Tiled, by_position: Tiled) -> None:
        for tiled in (shared, by_position):
            figures = autosearch.open_study(tiled.study.path).evaluate([0], resamples=20)[0]
            assert figures["validation"]["reproduced"]
            assert figures["metrics"]["rwap"] > 0.3 and figures["metrics"]["image_auroc"] > 0.5

    def test_position_by_position(self, by_position: Tiled) -> None:
        (record,) = by_position.study.trials.records()
        assert record.status == Status.COMPLETE
        data = by_position.inputs.data
        grid = TileGrid.over((64, data.val.pixels.shape[3]), 64, 0.1)
        assert len(grid) == 2 and data.val.masks.shape[1] == SHAPE[0] == 96
        alone = by_position.inputs.runner.build(
            record.canonical, TrialContext(record.number, "cpu", (64, 64))
        ).cost()
        assert record.measured["parameters"] == 2 * alone.parameters

    def test_where_one_tile_is_the_image_it_is_as_without(self, shared: Tiled) -> None:
        dataset = shared.inputs.spec.dataset
        tiling = dataset.tiling and dataset.tiling.model_copy(update={"size": 160})
        spec = shared.inputs.spec.model_copy(
            update={"dataset": dataset.model_copy(update={"tiling": tiling})}
        )
        inputs = load_inputs(spec)
        assert inputs.data.info["tiling"] is None
        (note,) = [note for note in inputs.data.info["notes"] if "tiling has no effect" in note]
        problems = check_dataset(inputs.spec.dataset).problems
        assert note in [f"{problem.problem}; {problem.remedy}" for problem in problems]
        assert not isinstance(rebuild(inputs, shared.study.trials.records()[0]), TiledDetector)

    def test_defects_are_not_learnt_position_by_position(self) -> None:
        keys = ["dataset.tiling={size: 64, banks: position}", "backbone.weights=random"]
        with pytest.raises(ConfigError, match="learns from defects, which few positions"):
            load_inputs(load_spec(find_space("bilevel_weights"), keys))


class TestExport:
    def test_describes_a_tile_and_the_image(self, shared: Tiled) -> None:
        manifest, path = shared.exported.manifest, shared.exported.path
        assert manifest["input"]["shape"] == ["batch", 3, SIDE, SIDE]
        assert manifest["input"]["framing"]["size"] == list(SHAPE)
        assert TileGrid.from_plain(manifest["input"]["tiling"]) == GRID
        tile, image = manifest["tile_latency_ms"], manifest["latency_ms"]
        assert image["onnxruntime"] == pytest.approx(6 * tile["onnxruntime"], abs=0.01)
        assert set(manifest["parity"]["onnxruntime"]) == {"batch_1", "batch_3"}
        card = (path / "README.md").read_text()
        assert card.count("96 x 160 px (height x width) in 6 tiles of 64 px") == 2
        assert "One tile takes" in card and "InferenceSession" not in card

    def test_has_a_graph_a_position(self, by_position: Tiled) -> None:
        files = by_position.exported.manifest["files"]
        for kind in ("model-{}.onnx", "weights-{}.safetensors"):
            assert {kind.format("00"), kind.format("01")} < files.keys()
        assert "model.onnx" not in files
        assert len(load_model(by_position.exported.path).runs) == 2
        card = (by_position.exported.path / "README.md").read_text()
        assert "`model-00.onnx` to `model-01.onnx`" in card
        (by_position.exported.path / "model-01.onnx").rename(by_position.exported.path / "gone")
        with pytest.raises(ModelError, match=r"model-01\.onnx: cannot be read"):
            load_model(by_position.exported.path)
        (by_position.exported.path / "gone").rename(by_position.exported.path / "model-01.onnx")

    @pytest.mark.parametrize(
        "change", [{"banks": "other"}, {"lefts": [0, 96]}, {"canvas": [96, 224]}, {"tile": None}]
    )
    def test_with_tiles_that_do_not_fit_is_refused(
        self, shared: Tiled, tmp_path: Path, change: dict[str, object]
    ) -> None:
        manifest = {k: v for k, v in shared.exported.manifest.items() if k != "sha256"}
        files = {name: shared.exported.path / name for name in manifest["files"]}
        tiling = {**manifest["input"]["tiling"], **change}
        for name, place in files.items():
            (tmp_path / name).write_bytes(place.read_bytes())
        forged = {**manifest, "input": {**manifest["input"], "tiling": tiling}}
        (tmp_path / "model.json").write_text(seal(forged, files))
        with pytest.raises(ModelError, match="lacks what prediction needs"):
            load_model(tmp_path)


class TestPrediction:
    @pytest.mark.parametrize("which", ["shared", "by_position"])
    def test_is_what_the_detector_says(
        self, which: str, request: pytest.FixtureRequest, tmp_path: Path
    ) -> None:
        tiled: Tiled = request.getfixturevalue(which)
        image = photo(50, (40, 70))
        loaded = load_model(tiled.exported.path)
        pixels = image.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
        framing = loaded.framing
        canvas = framing.pixels(pixels, framing.view(pixels))
        expected = fitted(tiled).anomaly_maps(torch.from_numpy(canvas[None])).numpy()
        for batch in (1, 4):
            maps, scores = loaded.answers([canvas], batch)
            np.testing.assert_allclose(maps, expected, atol=1e-4 * expected.max())
            assert scores[0] == maps.max()
        answer = Predictor(tiled.exported.path)([image])[0]
        assert answer.map.shape == SHAPE and answer.score == pytest.approx(scores[0], rel=1e-4)
        assert np.unravel_index(answer.map.argmax(), SHAPE)[0] in range(35, 57)

    def test_of_files_one_at_a_time(
        self, shared: Tiled, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        (tmp_path / "in").mkdir()
        for i in range(3):
            Image.fromarray(photo(60 + i)).save(tmp_path / f"in/{i}.png")
        (tmp_path / "in/3.png").write_bytes(b"no image")
        code, said = command(
            capsys, "predict", shared.exported.path, tmp_path / "in", "--out", tmp_path / "out",
            "--batch", "4",
        )  # fmt: skip
        assert code == 1 and "3 of 4 images" in said
        report = json.loads((tmp_path / "out/scores.json").read_text())
        answers = Predictor(shared.exported.path)([photo(60 + i) for i in range(3)])
        for entry, answer in zip(report["images"], answers, strict=True):
            assert entry["score"] == pytest.approx(answer.score, rel=1e-5)
            mask = np.asarray(Image.open(tmp_path / "out" / entry["mask"]))
            np.testing.assert_array_equal(mask > 0, answer.mask)

    def test_reads_an_image_when_the_one_before_is_done(
        self, shared: Tiled, tmp_path: Path
    ) -> None:
        for i in range(3):
            Image.fromarray(photo(60 + i)).save(tmp_path / f"{i}.png")
        told = []

        def remove_the_next(answer: Prediction | Skipped, done: int, total: int) -> None:
            told.append(type(answer))
            (tmp_path / f"{done}.png").unlink(missing_ok=True)

        Predictor(shared.exported.path).write(
            [str(tmp_path)], tmp_path / "out", told=remove_the_next
        )
        assert told == [Prediction, Skipped, Skipped]

    def test_of_a_model_whose_tiles_are_all_of_a_canvas(self, shared: Tiled) -> None:
        loaded = load_model(shared.exported.path)
        tile = np.random.default_rng(0).random((3, SIDE, SIDE), dtype=np.float32)
        alone = replace(loaded, tiles=TileGrid.over((SIDE, SIDE), SIDE, 0.25))
        maps, _ = loaded.run(tile[None])
        np.testing.assert_allclose(alone.answers([tile], 8)[0], maps, atol=1e-6)
