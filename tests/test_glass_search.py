"""GLASS in a search: on its own, on a subnet that AutoPatch found, with textures from a folder."""

import json
import shutil
from dataclasses import replace

import numpy as np
import optuna
import pytest
import torch
from autosearch_runners.autopatch import architecture_of
from autosearch_runners.glass.detector import GlassDetector
from autosearch_runners.glass.runner import GlassRunner
from PIL import Image

from autosearch.backbones.recalibration import recalibrate
from autosearch.backbones.supernets.ofa_mobilenetv3 import OFAMobileNetV3, random_state
from autosearch.contracts.registry import find_space
from autosearch.contracts.trials import SCORED, Assignment, Outcome, Progress, Status
from autosearch.errors import ConfigError, StudyError, WeightsError
from autosearch.executors.local import LocalExecutor
from autosearch.spec.reading import load_spec
from autosearch.spec.sections import StudySpec
from autosearch.storage.folder import StudyFolder
from autosearch.study import session
from autosearch.study.evaluation import TrialEvaluator
from autosearch.study.inputs import Inputs, load_inputs, rebuild, reopen
from autosearch.study.session import open_driver

SIDE = 64
SUBNETS = (
    "space={width: 1.0, stage0.kernel_size: [3, 5, 7], stage0.extraction_block: null, "
    "stage1.extraction_block: [5, 6, 7, 8], stage3.extraction_block: null, "
    "stage4.extraction_block: null, bn_recalibration: true}"
)
TINY = {"layers": "2", "embed_dim": 16, "disc_hidden": 8, "epochs": 2, "ascent_steps": 1}
TINY |= {"images_per_epoch": 4, "batch": 4}
RAW = {"feature_scale": "raw"}
SPACE = f"space={json.dumps(TINY | {'radius_ratio': [1.5, 3.0]})}"


def spec_of(space: str, *overrides: str, seed: int = 0) -> StudySpec:
    shared = ["backbone.weights=random", f"dataset.image_size={SIDE}", "resources.gpu=0"]
    shared += [f"study.seed={seed}", "study.trials=2"]
    return load_spec(find_space(space), [*shared, *overrides])


def on_trial(folder: StudyFolder, trial: int = 0, *overrides: str) -> StudySpec:
    found = [f"backbone.study={folder.path}", f"backbone.trial={trial}", "backbone.weights=auto"]
    return spec_of("glass", SPACE, *found, *overrides)


def run(spec: StudySpec, folder: StudyFolder) -> None:
    inputs = load_inputs(spec)
    session.run(inputs, folder, open_driver(inputs, folder), LocalExecutor())
    assert {record.status for record in folder.trials.records()} == {Status.COMPLETE}


@pytest.fixture(scope="module")
def subnets(tmp_path_factory) -> StudyFolder:
    """Two trials of AutoPatch with random weights of a seed that no other study here has."""
    folder = StudyFolder(tmp_path_factory.mktemp("results") / "autopatch")
    run(spec_of("autopatch", SUBNETS, seed=7), folder)
    return folder


@pytest.fixture(scope="module")
def study(subnets, tmp_path_factory) -> StudyFolder:
    """Two trials of GLASS on the first of them."""
    folder = StudyFolder(tmp_path_factory.mktemp("results") / "glass")
    run(on_trial(subnets), folder)
    return folder


def test_trials_train_on_the_subnet_that_was_found(subnets, study) -> None:
    inputs = reopen(study)
    found = subnets.trials.records()[0].canonical
    assert inputs.spec.backbone.architecture.params == found
    assert inputs.runner.weights() == subnets.load_meta()["weights"]
    records = study.trials.records()
    assert len(records) == 2
    assert all(not {"backbone", "layers"} & set(r.canonical) for r in records)
    assert all(set(r.values) == {"gflops", "rwap"} for r in records)
    assert all(r.measured["training_seconds"] == r.seconds["fit"] > 0 for r in records)
    assert all([at for at, _ in r.curve] == [0.5] for r in records)

    detector = rebuild(inputs, records[0])
    detector.fit(inputs.data.train)
    images = torch.from_numpy(inputs.data.train.pixels.copy())
    own = OFAMobileNetV3(1.0, random_state(1.0, 7)).subnet(architecture_of(found))
    features = detector.module().scores.embedding
    normalised = (images[:2] - features.mean) / features.std
    with torch.no_grad():
        expected = recalibrate(own, images)(normalised)
        seen, plain = features.extractor(normalised), own(normalised)
    assert len(seen) == len(expected) == len(architecture_of(found).extracted)
    for ours, wanted, without in zip(seen, expected, plain, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-4)
        assert not torch.allclose(ours, without, rtol=1e-2, atol=1e-2)


def test_a_resumed_study_refuses_another_architecture(subnets, study, tmp_path) -> None:
    first, second = (record.canonical for record in subnets.trials.records())
    assert first != second
    copy = StudyFolder(shutil.copytree(study.path, tmp_path / "glass"))
    open_driver(load_inputs(on_trial(subnets)), copy).close()
    with pytest.raises(StudyError, match=r"another backbone.*extraction_block"):
        open_driver(load_inputs(on_trial(subnets, 1)), copy)


def test_weights_must_be_those_that_the_trial_was_searched_with(subnets, tmp_path) -> None:
    copy = StudyFolder(shutil.copytree(subnets.path, tmp_path / "autopatch"))
    meta = copy.load_meta()
    meta["weights"][0]["sha256"] = "0" * 64
    copy.write_meta(meta)
    with pytest.raises(WeightsError, match=r"ofa_mbv3.* searched with 0{64}"):
        load_inputs(on_trial(copy))
    with pytest.raises(WeightsError, match="no such file"):
        load_inputs(on_trial(subnets, 0, "backbone.weights=nowhere.safetensors"))


def test_what_cannot_be_built_upon(subnets, study, make_study, tmp_path) -> None:
    with pytest.raises(StudyError, match="no study here"):
        load_inputs(on_trial(StudyFolder(tmp_path / "none")))
    with pytest.raises(ConfigError, match=r"backbone\.trial: 9 .* has 2, the first being 0"):
        load_inputs(on_trial(subnets, 9))
    with pytest.raises(ConfigError, match=r"backbone\.study: .* autopatch, not glass"):
        load_inputs(on_trial(study))
    made_up = make_study(tmp_path / "made_up", 40)
    unfinished = [r for r in made_up.trials.records() if r.status not in SCORED]
    assert len({record.status for record in unfinished}) >= 2
    for record in unfinished:
        with pytest.raises(StudyError, match=f"trial {record.number} is {record.status}"):
            load_inputs(on_trial(made_up, record.number))


def test_textures_come_from_a_folder(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"synthesis\.textures: .*missing.* is no folder"):
        load_inputs(spec_of("glass", f"synthesis.textures={tmp_path / 'missing'}"))
    (tmp_path / "dtd").mkdir()
    given = f"synthesis.textures={tmp_path / 'dtd'}"
    with pytest.raises(ConfigError, match=r"synthesis\.textures: .*dtd.* holds no image"):
        load_inputs(spec_of("glass", given))
    plain(tmp_path / "dtd" / "white.png", 255)
    runner = GlassRunner(spec_of("glass", given, 'space={texture_source: ["auto", "folder"]}'))
    automatic = runner.canonical({})
    assert automatic == runner.canonical({"texture_source": "folder"})
    assert automatic["texture_source"] == "folder"


def test_a_relative_folder_of_textures_holds_from_anywhere(tmp_path, monkeypatch) -> None:
    (tmp_path / "dtd").mkdir()
    plain(tmp_path / "dtd" / "black.png", 0)
    monkeypatch.chdir(tmp_path)
    inputs = load_inputs(spec_of("glass", "synthesis.textures=dtd", SPACE))
    assert inputs.spec.synthesis.textures == str(tmp_path / "dtd")
    monkeypatch.chdir("/")
    *pauses, outcome = evaluated(inputs)
    assert [pause.fraction for pause in pauses] == [0.5]
    assert set(pauses[0].values) == {"gflops", "rwap"}
    assert outcome.status == Status.COMPLETE
    (procedural,) = evaluated(load_inputs(spec_of("glass", SPACE, "pruner.name=none")))
    assert procedural.values["gflops"] == outcome.values["gflops"]
    assert procedural.values["rwap"] != outcome.values["rwap"]


def test_a_study_from_before_another_default_goes_on_with_its_own(tmp_path, monkeypatch) -> None:
    before, folder = (
        replace(GlassRunner.parameters["feature_scale"], default="raw"),
        tmp_path / "a",
    )
    with monkeypatch.context() as patch:
        patch.setitem(GlassRunner.parameters, "feature_scale", before)
        run(spec_of("glass", SPACE, "study.trials=1"), StudyFolder(folder))
    inputs = load_inputs(StudyFolder(folder).load_spec(["study.trials=2"]))
    session.run(
        inputs, StudyFolder(folder), open_driver(inputs, StudyFolder(folder)), LocalExecutor()
    )
    forms = [record.canonical for record in StudyFolder(folder).trials.records()]
    assert [form["feature_scale"] for form in forms] == ["raw", "raw"]
    scales = [inputs.runner.canonical(TINY | named)["feature_scale"] for named in ({}, RAW)]
    assert scales == ["unit", "raw"]


def test_figures_of_a_detector_stand_beside_what_is_measured(monkeypatch) -> None:
    told = {"steps": 3, "rwap": 9.0, "ap": 9.0}
    monkeypatch.setattr(GlassDetector, "figures", lambda self: told)
    outcome = evaluated(load_inputs(spec_of("glass", SPACE, "pruner.name=none")))[-1]
    assert outcome.measured["steps"] == 3.0 and isinstance(outcome.measured["steps"], float)
    assert outcome.measured["ap"] <= 1 and outcome.values["rwap"] <= 1
    assert "rwap" not in outcome.measured


def test_early_stopping_is_told_what_only_grows(tmp_path) -> None:
    inputs = load_inputs(spec_of("glass", SPACE, "objectives=[training_seconds, rwap]"))
    assert inputs.cumulative == {"training_seconds"}
    driver = open_driver(inputs, StudyFolder(tmp_path))
    assert driver._stopping._cumulative == inputs.cumulative
    driver.close()


def plain(path, grey: int) -> None:
    Image.fromarray(np.full((80, 90, 3), grey, np.uint8)).save(path)


def evaluated(inputs: Inputs) -> list[Progress | Outcome]:
    evaluator = TrialEvaluator(inputs.spec, inputs.runner, inputs.data)
    return list(evaluator.steps(Assignment(0, {}, inputs.runner.canonical(TINY), 0)))


def test_shipped_space_draws_little_without_effect() -> None:
    spec = load_spec(find_space("glass"))
    runner, space = GlassRunner(spec), spec.parsed_space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(60):
        drawn = space.suggest(study.ask())
        canonical = runner.canonical(drawn)
        lost = set(drawn) - set(canonical)
        if drawn["ascent_steps"] or drawn["use_las"]:
            # Where plain noise takes the place of the ascent, nothing is projected.
            allowed = set() if drawn["ascent_steps"] else {"manifold_radius", "radius_ratio"}
        else:
            allowed = {"hypothesis", "manifold_radius", "coverage_quantile", "radius_ratio"}
        assert lost <= allowed, drawn
