"""The score of an image as the mean of its map's highest share, from a metric to a prediction."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from dataset_parts import loaded, sound_dataset
from model_parts import SIDE, write_model
from PIL import Image
from torch import Tensor, nn

import autosearch
from autosearch.contracts.detector import Cost, Detector, ParameterInfo, Runner, TrialContext
from autosearch.contracts.objectives import Objective, Scored
from autosearch.contracts.tiled import TiledDetector
from autosearch.data import ImageSet, TileGrid, load_search_data, load_test_set, read_image
from autosearch.export.card import score_text
from autosearch.export.folder import load_model
from autosearch.export.trial import validation_figures
from autosearch.graphs import ModelError, onnx_bytes, onnx_run
from autosearch.graphs.onnx_graph import WithScore
from autosearch.metrics import auroc, choose_threshold
from autosearch.metrics.images import image_scores, pixels_of_share
from autosearch.metrics.truth import Truth
from autosearch.spec.space import Params
from autosearch.study.calibration import thresholds_of
from autosearch.study.truth import maps_of, truth_of

SHARE = 0.05


def slow_score(values: Iterable[float], top_share: float | None) -> float:
    """Sort all values, count how many are needed, and add them up."""
    falling, number = sorted(map(float, values), reverse=True), 1
    if top_share is not None:
        while number < top_share * len(falling):
            number += 1
    return sum(falling[:number]) / number


class TestScores:
    @pytest.mark.parametrize("top_share", [None, 0.0005, 0.01, 0.1, 1 / 3, 1.0])
    @pytest.mark.parametrize("tied", [False, True])
    def test_are_those_of_a_slow_oracle(self, top_share: float | None, tied: bool) -> None:
        draw = np.random.default_rng(0)
        maps = draw.random((6, 17, 9)).astype(np.float32)
        maps = (maps * 3).round() if tied else maps
        counted = draw.random(maps.shape) < 0.6
        counted[1], counted[2] = False, True
        counted[3] = False
        counted[3, 5, 5] = True
        before = maps.copy()
        found = image_scores(maps, top_share)
        assert found.dtype == np.float32 and found.shape == (6,)
        expected = [slow_score(one.ravel(), top_share) for one in maps]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        expected = [
            slow_score(one[own] if own.any() else one.ravel(), top_share)
            for one, own in zip(maps, counted, strict=True)
        ]
        found = image_scores(maps, top_share, counted)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert found[3] == maps[3, 5, 5]
        np.testing.assert_array_equal(maps, before)

    def test_by_hand(self) -> None:
        maps = np.array([[[1.0, 4.0], [2.0, 3.0]], [[5.0, 5.0], [5.0, 1.0]], [[0, -1], [-2, -3]]])
        for share, expected in (
            (None, [4, 5, 0]), (0.25, [4, 5, 0]), (0.26, [3.5, 5, -0.5]), (0.5, [3.5, 5, -0.5]),
            (0.75, [3, 5, -1]), (1.0, [2.5, 4, -1.5]),
        ):  # fmt: skip
            assert image_scores(maps, share).tolist() == expected
        assert image_scores(np.full((1, 1, 1), 0.5), 0.001).tolist() == [0.5]
        assert image_scores(np.zeros((0, 2, 2)), 0.5).shape == (0,)

    @pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
    def test_of_no_share_are_refused(self, share: float) -> None:
        with pytest.raises(ValueError, match="top_share"):
            image_scores(np.zeros((1, 2, 2)), share)

    def test_shares_are_rounded_up(self) -> None:
        found = [pixels_of_share(share, 50) for share in (1e-9, 0.02, 0.021, 0.5, 1.0)]
        assert found == [1, 1, 2, 25, 50]


class TestSplits:
    @pytest.mark.parametrize("marked", [True, False])
    def test_padding_is_no_part_of_an_image_marked_or_not(
        self, tmp_path: Path, marked: bool
    ) -> None:
        base = sound_dataset(tmp_path / "part")
        if not marked:
            shutil.rmtree(base / "ground_truth")
        val = loaded(base, image_size=32).val
        assert val.valid is not None and val.labels.any() and not val.valid.all()
        maps = np.random.default_rng(0).random(val.masks.shape).astype(np.float32)
        maps[~val.valid] = 9
        truth = truth_of(val)
        expected = [slow_score(one[own], SHARE) for one, own in zip(maps, val.valid, strict=True)]
        scored = Scored(maps, truth, {}, top_share=SHARE)
        np.testing.assert_allclose(scored.images, expected, rtol=1e-6)
        chosen = thresholds_of(maps, truth, top_share=SHARE)
        assert chosen.image == choose_threshold(scored.images, truth.labels)
        few = Scored(maps[::2], truth.select(np.arange(len(maps)) % 2 == 0), {}, top_share=SHARE)
        np.testing.assert_array_equal(few.images, scored.images[::2])
        some = truth_of(val, np.array([1]))
        assert some.scored is not None and some.scored.shape == (1, 32, 32)

    def test_without_padding_all_of_an_unmarked_image_is_scored(self) -> None:
        counted = np.ones((2, 4, 4), dtype=bool)
        counted[0] = False
        truth = Truth.from_masks(np.zeros_like(counted), ("a", "good"), counted=counted)
        maps = np.arange(32, dtype=np.float32).reshape(2, 4, 4)
        assert Scored(maps, truth, {}, top_share=0.25).images.tolist() == [13.5, 29.5]
        assert Scored(maps, truth, {}).images.tolist() == [15, 31]
        with pytest.raises(ValueError, match="valid: expected the shape"):
            Truth.from_masks(truth.masks, truth.types, valid=counted[:, 1:])


class Darkness(nn.Module):
    """How dark pixels are, smoothed a little."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(1 - images.mean(dim=1, keepdim=True), 3, 1, 1)[:, 0]


class Dark(Detector):
    """Knows from the beginning what is normal, so that no fit makes a difference."""

    def __init__(self, top_share: float | None) -> None:
        self.top_share = top_share

    def fit(self, train: ImageSet) -> None:
        pass

    def anomaly_maps(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self.module().forward(images)

    def cost(self) -> Cost:
        return Cost(macs=1, flops=2, search_flops=0, parameters=0, bank_bytes=0)

    def module(self) -> Darkness:
        return Darkness()


class DarkRunner(Runner):
    description = "how dark pixels are"
    parameters: ClassVar = {
        "top_share": ParameterInfo(SHARE, "of an image's pixels", choices=(None, SHARE))
    }

    def canonical(self, params: Params) -> Params:
        return {"top_share": params.get("top_share", SHARE)}

    def build(self, params: Params, context: TrialContext) -> Detector:
        share = params["top_share"]
        return Dark(None if share is None else float(share))


class TestGraph:
    @pytest.mark.parametrize("top_share", [None, 0.0005, 0.03, 1.0])
    def test_has_the_score_of_the_metric(self, top_share: float | None) -> None:
        images = torch.rand(3, 3, 12, 20, generator=torch.Generator().manual_seed(0))
        maps, scores = WithScore(Darkness(), top_share)(images)
        expected = image_scores(maps.numpy(), top_share)
        np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-6)

    def test_answers_as_torch_in_the_lowest_opset(self) -> None:
        run = onnx_run(onnx_bytes(Darkness(), (12, 20), opset=15, top_share=SHARE), threads=1)
        images = np.random.default_rng(0).random((5, 3, 12, 20), dtype=np.float32)
        for batch in (1, 5):
            maps, scores = run(images[:batch])
            assert scores.shape == (batch,)
            np.testing.assert_allclose(scores, image_scores(maps, SHARE), rtol=1e-6)


class TestTiles:
    GRID = TileGrid.over((24, 40), SIDE, 0.25)

    def test_have_the_share_of_their_detectors(self) -> None:
        assert TiledDetector(self.GRID, [Dark(SHARE)]).top_share == SHARE
        assert TiledDetector(self.GRID, [Dark(None)]).top_share is None

    def test_are_scored_as_a_whole(self, tmp_path: Path) -> None:
        model = load_model(write_model(tmp_path / "m", image_score={"top_share": SHARE}))
        tiled = replace(model, tiles=self.GRID)
        image = np.random.default_rng(0).random((3, 24, 40), dtype=np.float32)
        maps, scores = tiled.answers([image], 2)
        assert scores.tolist() == pytest.approx([slow_score(maps.ravel(), SHARE)], rel=1e-6)


@pytest.mark.parametrize(
    ("told", "expected"), [({}, None), ({"image_score": None}, None),
     ({"image_score": {"top_share": None}}, None), ({"image_score": {"top_share": 0.5}}, 0.5)],
)  # fmt: skip
def test_models_say_their_share_or_have_none(
    tmp_path: Path, told: dict[str, Any], expected: float | None
) -> None:
    assert load_model(write_model(tmp_path / "model", **told)).top_share == expected


@pytest.mark.parametrize("told", [{"top_share": 2}, {"top_share": "x"}, {"top_share": []}, [1]])
def test_models_with_no_such_share_are_refused(tmp_path: Path, told: object) -> None:
    with pytest.raises(ModelError, match="lacks what prediction needs"):
        load_model(write_model(tmp_path / "model", image_score=told))


def test_shares_in_words() -> None:
    assert score_text(None) == "the highest value"
    assert score_text(0.0025) == "the mean of the highest 0.25 % of the values"


def one_score(number: int, detector: Detector, scored: Scored | None) -> float:
    assert scored is not None
    return float(scored.images[number])


class Study:
    """A search of the stub on letterboxed images, whose figures are scores of images."""

    def __init__(self, place: Path) -> None:
        self.base = sound_dataset(place / "data" / "part")
        # The highest pixel is that of a normal image of the test split, the highest share is not.
        for path in self.base.glob("test/*/*.png"):
            pixels = read_image(path) * (0.5 if path.parent.name == "hole" else 1)
            if path.parent.name == "good":
                pixels[:, 20:24, 20:24] = 0
            Image.fromarray((pixels * 255).astype(np.uint8).transpose(1, 2, 0)).save(path)
        figures = [
            Objective(f"score_{i}", "maximize", "", "score", partial(one_score, i), "of an image")
            for i in range(3)
        ]
        spec = {
            "study": {"name": "study", "runner": "x", "trials": 1},
            "space": {"top_share": SHARE},
            "objectives": ["score_0", "score_1", "image_auroc"],
            "measures": ["score_2"],
            "sampler": {"name": "random"},
            "dataset": {"root": str(place / "data"), "category": "part", "image_size": 32},
        }
        self.study = autosearch.search(
            spec, results=place, executor="local", runner=DarkRunner, objectives=figures
        )
        self.model = self.study.export(0, formats=["onnx"], out=place / "model")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study(tmp_path_factory.mktemp("top_share"))


def oracle(images: ImageSet) -> list[float]:
    """Scores of a split by the definition."""
    assert images.valid is not None
    maps = Dark(None).anomaly_maps(torch.from_numpy(images.pixels.copy())).numpy()
    return [slow_score(one[own], SHARE) for one, own in zip(maps, images.valid, strict=True)]


class TestStudy:
    def test_search_and_prediction_give_one_score(self, made: Study, tmp_path: Path) -> None:
        val = load_search_data(made.study.spec.dataset).val
        (trial,) = made.study.trials
        values = {**trial.values, **trial.measured}
        searched = [values[f"score_{i}"] for i in range(3)]
        files = [made.base.parent / name for name in val.paths]
        found = [answer.score for answer in autosearch.Predictor(made.model)(files)]
        assert len(found) == 3
        np.testing.assert_allclose(searched, oracle(val), rtol=1e-6)
        np.testing.assert_allclose(found, searched, rtol=1e-5)
        autosearch.Predictor(made.model).write([str(files[0])], tmp_path / "out")
        (entry,) = json.loads((tmp_path / "out" / "scores.json").read_text())["images"]
        assert entry["score"] == pytest.approx(searched[0], rel=1e-5)

    def test_images_that_fill_the_canvas_have_the_score_of_the_graph(self, made: Study) -> None:
        picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        (answer,) = autosearch.Predictor(made.model)([picture])
        maps = Dark(None).anomaly_maps(torch.from_numpy(picture.transpose(2, 0, 1)[None] / 255))
        assert answer.score == pytest.approx(slow_score(maps.flatten().tolist(), SHARE), rel=1e-5)

    def test_thresholds_and_description_are_of_it(self, made: Study) -> None:
        described: dict[str, Any] = json.loads((made.model / "model.json").read_text())
        val = load_search_data(made.study.spec.dataset).val
        limit = choose_threshold(oracle(val), val.labels)
        assert described["thresholds"]["image"]["value"] == pytest.approx(limit.value, rel=1e-5)
        assert described["image_score"] == {"top_share": SHARE}
        words = "the mean of the highest 5 % of the values"
        assert described["outputs"]["score"] == f"(batch,) float32, of each map {words}"
        assert f"An image's score is {words}" in (made.model / "README.md").read_text()
        assert described["validation"]["exported_configuration"]["image_auroc"] == pytest.approx(
            described["validation"]["search"]["image_auroc"]
        )

    def test_test_figures_are_of_it(self, made: Study) -> None:
        figures = made.study.evaluate([0], resamples=20)[0]
        test, _ = load_test_set(made.study.spec.dataset)
        scores = np.array(oracle(test))
        assert figures["metrics"]["image_auroc"] == auroc(scores, test.labels) == 1
        maps = maps_of(Dark(None), test)
        known = [validation_figures(test, maps, 0.01, one)["image_auroc"] for one in (SHARE, None)]
        assert known == [1, 0]
        val = load_search_data(made.study.spec.dataset).val
        value = figures["thresholds"]["image"]["value"]
        limit = choose_threshold(oracle(val), val.labels)
        assert value == pytest.approx(limit.value, rel=1e-5)
        called = scores[~test.labels] >= value
        assert figures["metrics"]["image_fpr_at_val"] == pytest.approx(called.mean())
        assert figures["validation"]["reproduced"]
