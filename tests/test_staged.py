"""`preprocess` as a parameter of every runner: the wrapper, whole studies, exports, refusals."""

import json
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dataset_parts import command
from object_parts import objects_dataset, plain, save
from outside_runners import MeanImageRunner
from staged_parts import Means, MeansRunner, content
from test_stages import SQUARE, image_set, picture

import autosearch
from autosearch.contracts import (
    EnsembleDetector,
    Member,
    ParameterInfo,
    Runner,
    StagedDetector,
    StagedRunner,
    Status,
    TrialContext,
    TrialRecord,
    ensemble_of,
    staged_runner,
    understood,
)
from autosearch.data import CanvasStage, ImageSet, read_image
from autosearch.errors import ConfigError
from autosearch.export import load_model
from autosearch.spec import parse_spec
from autosearch.study.inputs import load_inputs, rebuild
from autosearch.study.together import together
from autosearch.testing import RunnerSuite

WAYS = ["none", "mask", "centre"]
SIZE = (48, 64)


@cache
def runner_of(**dataset: Any) -> Runner:
    spec = parse_spec({**content(preprocess=WAYS), "dataset": dataset})
    return staged_runner(MeansRunner(spec), spec)


def built(preprocess: str, validation: ImageSet | None = None, **params: Any) -> Any:
    runner = runner_of(background=0.25)
    canonical = runner.canonical({"preprocess": preprocess, **params})
    return runner.build(canonical, TrialContext(0, "cpu", SIZE, validation))


class TestConformance(RunnerSuite):
    """On textures, from which nothing stands out, the wrapper changes nothing but names."""

    configurations = ({}, {"preprocess": "mask"}, {"preprocess": "centre", "power": 1})

    @pytest.fixture
    def runner(self) -> Runner:
        return _of_means()


@cache
def _of_means() -> Runner:
    inner = MeanImageRunner()
    return StagedRunner(inner, inner.spec)


class TestRunner:
    def test_is_only_there_where_the_space_names_it(self) -> None:
        spec = parse_spec(content(power=[1, 2]))
        alone = MeansRunner(spec)
        assert staged_runner(alone, spec) is alone and "preprocess" not in alone.parameters
        assert isinstance(runner_of(), StagedRunner)

    def test_a_parameter_of_its_own_goes_first(self) -> None:
        class Own(MeansRunner):
            parameters = {**MeansRunner.parameters, "preprocess": ParameterInfo(1, "x", low=1)}  # noqa: RUF012

        spec = parse_spec(content(preprocess=[1, 2]))
        own = Own(spec)
        assert staged_runner(own, spec) is own and understood(Own) == Own.parameters

    def test_without_preprocessing_a_configuration_is_what_it_was(self) -> None:
        runner = runner_of()
        usual = MeansRunner(runner.spec).canonical({"power": 1})
        assert runner.canonical({"power": 1, "preprocess": "none"}) == usual
        assert runner.canonical({"power": 1}) == usual
        masked = runner.canonical({"power": 1, "preprocess": "mask"})
        assert masked == {**usual, "preprocess": "mask"} == runner.canonical(masked)
        assert isinstance(built("none"), Means)

    def test_says_what_the_other_one_says(self) -> None:
        runner = runner_of()
        inner = MeansRunner(runner.spec)
        names = ("description", "supervised", "reads", "post_parameters", "probabilities")
        for name in names:
            assert getattr(runner, name) == getattr(inner, name)
        assert runner.weights() == inner.weights()
        assert list(runner.parameters) == ["power", "scale", "preprocess"]
        assert runner.parameters["preprocess"].choices == ("none", "mask", "centre")
        assert runner.post_of(runner.canonical({"preprocess": "mask"})) == {"scale"}
        copied = pickle.loads(pickle.dumps(runner))
        assert copied.parameters == runner.parameters and copied.reads == runner.reads


class TestDetector:
    @pytest.mark.parametrize("way", ["mask", "centre"])
    def test_maps_are_those_of_a_slow_oracle(self, way: Any) -> None:
        train = image_set(SQUARE, SQUARE.moved(8, -20), None)
        asked = np.stack([picture(SQUARE.moved(3, -4)), picture(None), picture(SQUARE)])
        detector = built(way, power=1)
        assert list(detector.fit_in_steps(train)) == [0.5]
        stage, inner = CanvasStage(way, 0.25), built("none", power=1)
        inner.fit(stage.of(train))
        expected = []
        for image in asked:
            seen, place = stage.seen(image)
            (values,) = inner.anomaly_maps(torch.from_numpy(seen[None]))
            expected.append(stage.back(values.numpy(), place))
        found = detector.anomaly_maps(torch.from_numpy(asked))
        np.testing.assert_array_equal(found.numpy(), np.stack(expected))

    def test_what_is_around_an_object_does_not_count(self) -> None:
        detector = built("mask")
        detector.fit(image_set(SQUARE, SQUARE.moved(1, 1)))
        stained = picture()
        stained[:, 40:44, 4:8] += 0.05  # Too little to be an object itself.
        asked = torch.from_numpy(np.stack([picture(), stained]))
        plain_, found = detector.anomaly_maps(asked).numpy()
        np.testing.assert_array_equal(found, plain_)
        assert (found[38:46, 2:10] == found.min()).all()
        alone = built("none")
        alone.fit(image_set(SQUARE, SQUARE.moved(1, 1)))
        assert alone.anomaly_maps(asked)[1, 38:46, 2:10].max() > 0

    def test_training_may_select_on_preprocessed_validation(self) -> None:
        val = image_set(SQUARE)
        detector = built("centre", val)
        given = detector.inner.context.validation
        np.testing.assert_array_equal(
            given.pixels[0], CanvasStage("centre", 0.25).seen(picture())[0]
        )

    def test_followers_have_the_maps_of_their_own_scale(self) -> None:
        first, other = built("mask", scale=1.0), built("mask", scale=2.0)
        first.fit(image_set(SQUARE, SQUARE.moved(1, 1)))
        other.follow(first)
        asked = torch.from_numpy(np.stack([picture(SQUARE.moved(2, 0)), picture(None)]))
        found = other.maps_of_answers(first.answers(asked), asked)
        torch.testing.assert_close(found, 2 * first.anomaly_maps(asked))
        torch.testing.assert_close(found, other.anomaly_maps(asked))
        for wrong in (built("centre"), built("none")):
            with pytest.raises(TypeError, match="not preprocessed alike"):
                first.follow(wrong)

    def test_all_else_is_that_of_the_other_one(self) -> None:
        detector = built("mask")
        detector.fit(image_set(SQUARE))
        assert detector.cost() == detector.inner.cost() and detector.memory(3) == 300
        assert detector.seconds(2, 3) == pytest.approx(5e-3)
        assert detector.figures() == {"images_seen": 1.0}
        assert detector.artifacts() == {"note.txt": b"of means"}

    def test_ensembles(self) -> None:
        val = image_set(SQUARE.moved(1, 0), SQUARE.moved(0, 1))

        def members(*ways: str) -> list[Member]:
            return [Member(way, built(way, power=1 + i)) for i, way in enumerate(ways)]

        alike = ensemble_of(members("mask", "mask"), val)
        assert isinstance(alike, StagedDetector) and isinstance(alike.inner, EnsembleDetector)
        mixed = ensemble_of(members("mask", "centre"), val)
        assert isinstance(mixed, EnsembleDetector)
        for detector in (alike, mixed):
            detector.fit(image_set(SQUARE, SQUARE.moved(4, 4)))
            assert detector.anomaly_maps(torch.from_numpy(picture()[None])).isfinite().all()
        assert alike.module() is not None
        with pytest.raises(ValueError, match="other pictures"):
            mixed.module()

    def test_those_that_are_recommended_together_preprocess_alike(self) -> None:
        def record(number: int, **canonical: Any) -> TrialRecord:
            measured = {"search_gflops": 1.0, "total_gflops": 1.0}
            return TrialRecord(number, Status.COMPLETE, {}, {"n": number, **canonical},
                               measured=measured)  # fmt: skip

        ranked = [record(0, preprocess="mask"), record(1), record(2, preprocess="mask")]
        from autosearch.contracts import canonical_key

        scores = {canonical_key(one.canonical): 0.5 for one in ranked}
        assert [one.number for one in together(ranked, {}, scores)] == [0, 2]
        assert together(ranked[:2], {}, scores) == ()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return objects_dataset(tmp_path_factory.mktemp("objects") / "part")


def given(base: Path, **keys: Any) -> dict[str, Any]:
    dataset = {"root": str(base.parent), "category": base.name, "image_size": [48, 80]}
    return {**{f"dataset.{name}": value for name, value in dataset.items()}, **keys}


@pytest.fixture(scope="module")
def study(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One trial a value, and one of ``mask`` with another power."""
    first = [{"preprocess": way, "power": 2} for way in WAYS]
    told = content(preprocess=WAYS, power=[1, 2])
    keys = given(base, start=[*first, {"preprocess": "mask", "power": 1}])
    keys["dataset.background"] = 0.875
    results = tmp_path_factory.mktemp("results")
    return autosearch.search(
        told, keys, trials=4, results=results, executor="local", runner=MeansRunner
    )


class TestStudy:
    def test_searches_it(self, study: Any) -> None:
        found = {r.number: (r.status, r.canonical.get("preprocess")) for r in study.trials}
        ways = dict(enumerate([None, "mask", "centre", "mask"]))
        assert found == {number: (Status.COMPLETE, way) for number, way in ways.items()}
        # Objects lie anywhere: a mean of pictures is of use only where they were brought together.
        values = [study.trials[number].values["rwap"] for number in range(3)]
        assert values[2] > max(values[:2])
        assert study.meta["weights"][0]["name"] == "means"

    def test_measures_as_a_person_would(self, study: Any, base: Path) -> None:
        inputs = load_inputs(study.spec, runner=MeansRunner)
        detector = rebuild(inputs, study.trials[2])
        assert isinstance(detector, StagedDetector)
        assert detector.stage == CanvasStage("centre", 0.875)
        figures = study.evaluate([1, 2], resamples=10)
        assert all(figures[n]["validation"]["reproduced"] for n in (1, 2))
        assert study.evaluate(ensemble=[0, 1], resamples=10)["0+1"]["metrics"]["image_auroc"] >= 0

    @pytest.mark.parametrize("trial", [1, 2])
    def test_exports_do_what_the_detector_does(
        self, study: Any, base: Path, tmp_path: Path, trial: int
    ) -> None:
        place = study.export(trial, formats=["onnx"], out=tmp_path / "model")
        way = study.trials[trial].canonical["preprocess"]
        manifest = json.loads((place / "model.json").read_text())
        assert manifest["input"]["stage"] == {"stage": way, "background": 0.875}
        card = (place / "README.md").read_text()
        assert f"the object is looked for on the input (`{way}`: " in card
        assert "InferenceSession" not in card and "but not this one: an object" in card
        inputs = load_inputs(study.spec, runner=MeansRunner)
        detector = rebuild(inputs, study.trials[trial])
        detector.fit(autosearch.study.all_normal(inputs.data))  # type: ignore[attr-defined]
        val = inputs.data.val
        expected = detector.anomaly_maps(torch.from_numpy(val.pixels.copy())).numpy()
        model = load_model(place)
        maps, scores = model.answers(list(val.pixels), 8)
        np.testing.assert_allclose(maps, expected, atol=1e-4 * expected.max())
        np.testing.assert_allclose(scores, expected.max(axis=(1, 2)), rtol=1e-4)
        save(tmp_path / "noise.png", plain(9))
        files = [base.parent / name for name in val.paths]
        answers = autosearch.Predictor(place)([*files, tmp_path / "noise.png"])
        for answer, score, values in zip(answers[:-1], scores, expected, strict=True):
            assert answer.score == pytest.approx(score, rel=1e-4)
            assert answer.map.shape == (96, 160) and answer.object_found is None
            assert answer.map.max() <= values.max() * 1.001
        image = read_image(tmp_path / "noise.png")
        canvas = model.framing.pixels(image, model.framing.view(image))
        alone, _ = model.run(canvas[None])
        assert answers[-1].score == pytest.approx(float(alone.max()), rel=1e-4)

    def test_ensembles_of_one_kind_are_exported(self, study: Any, tmp_path: Path) -> None:
        place = study.export(ensemble=[1, 3], formats=["onnx"], out=tmp_path / "model")
        assert load_model(place).stage == CanvasStage("mask", 0.875)
        with pytest.raises(ConfigError, match="these have mask and none"):
            study.export(ensemble=[0, 1], formats=["onnx"], out=tmp_path / "other")

    def test_of_old_models_and_forged_ones(self, study: Any, tmp_path: Path) -> None:
        from autosearch.export.folder import ModelError, seal

        place = study.export(0, formats=["onnx"], out=tmp_path / "model")
        manifest = json.loads((place / "model.json").read_text())
        assert "stage" not in manifest["input"] and load_model(place).stage is None
        del manifest["sha256"]
        manifest["input"]["stage"] = {"stage": "crop", "background": 0}
        files = {name: place / name for name in manifest["files"]}
        (place / "model.json").write_text(seal(manifest, files))
        with pytest.raises(ModelError, match="lacks what prediction needs"):
            load_model(place)

    def test_a_space_without_it_takes_no_preprocessed_trial_over(
        self, study: Any, base: Path, tmp_path: Path
    ) -> None:
        keys = given(base, start={"from": [str(study.path)], "top": 1})
        keys["dataset.background"] = 0.875
        again = autosearch.search(
            content(power=[1, 2]), keys, trials=1, results=tmp_path, executor="local",
            runner=MeansRunner, name="again",
        )  # fmt: skip
        (only,) = again.trials
        assert only.values == study.trials[0].values and only.source is not None


class TestRefusals:
    @pytest.mark.parametrize(
        ("keys", "said"),
        [
            ({"space.preprocess": ["none", "crop"]}, r"space.preprocess: .*crop.* among"),
            ({"dataset.preprocess": "mask"}, "dataset.preprocess: 'mask' .* none beside space"),
            ({"dataset.tiling": {"size": 32}}, "dataset.tiling: .*set dataset.preprocess instead"),
        ],
    )
    def test_what_cannot_go_with_it(self, base: Path, keys: dict[str, Any], said: str) -> None:
        with pytest.raises(ConfigError, match=said):
            _loaded(base, **keys)

    def test_textures(self, base: Path, tmp_path: Path) -> None:
        there = objects_dataset(tmp_path / "part")
        save(there / "train/good/004.png", plain(4))
        notes: Any = _loaded(there).data.info["notes"]
        assert (
            "no object stands out from the border of 1 of 10 normal training images (first "
            "part/train/good/004.png), so preprocess leaves them as they are"
        ) in notes
        for i in range(12):
            save(there / f"train/good/{i:03}.png", plain(i))
        with pytest.raises(ConfigError, match=r"space.preprocess: .*none, since no object stands "
                           r"out from the border of 10 of 10 .*002.png"):  # fmt: skip
            _loaded(there)
        _loaded(there, **{"space.preprocess": "none"})

    def test_tunes_trials_know_it(self, base: Path) -> None:
        from autosearch.executors.trainable import assignment_of

        inputs = _loaded(base)
        asked = assignment_of(inputs.spec, inputs.runner, {"preprocess": "mask"})
        assert asked.canonical["preprocess"] == "mask"
        spec = parse_spec(content(power=[1, 2]))
        with pytest.raises(ConfigError, match="spec's space must name preprocess"):
            assignment_of(spec, MeansRunner(spec), {"preprocess": "mask"})


def test_the_command_lists_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autosearch.api.runners", lambda: {"means": MeansRunner})
    assert "preprocess" in command(capsys, "runners", "means")[1]


def _loaded(base: Path, **keys: Any) -> Any:
    told = content(preprocess=WAYS, power=2)
    return load_inputs(
        autosearch.api.searching.build_spec(  # type: ignore[attr-defined]
            told, given(base, **keys), MeansRunner, None, None, None
        ),
        runner=MeansRunner,
    )
