"""The wiring of a search: which images a runner is given, what is refused before any trial."""

from pathlib import Path

import pytest
from PIL import Image

from autosearch.contracts.registry import find_space
from autosearch.errors import ConfigError
from autosearch.spec.reading import load_spec
from autosearch.spec.sections import StudySpec
from autosearch.study.inputs import load_inputs

DEMO = ["dataset.image_size=32", "backbone.weights=random"]


def spec(*overrides: str) -> StudySpec:
    return load_spec(find_space("autopatch_fixed"), [*DEMO, *overrides])


def test_a_runner_without_labels_trains_on_normal_images_alone() -> None:
    data = load_inputs(spec("dataset.labelled={train: 0.5, val: 0.25}")).data
    assert not data.train.labels.any() and not data.train.masks.any()
    assert data.val.labels.sum() > 1
    assert data.info["counts"]["train"] == {"good": len(data.train)}  # type: ignore[index]


def test_a_runner_that_learns_from_defects_needs_some_to_train_on() -> None:
    given = [*DEMO, "dataset.labelled={train: 0.001, val: 0.5}"]
    with pytest.raises(ConfigError, match="0 anomalous training images") as caught:
        load_inputs(load_spec(find_space("bilevel_weights"), given))
    assert caught.value.key == "dataset.labelled.train"


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("objectives=[gflops, iou_half]", "objectives"),
        ("measures=[iou_half_images]", "measures"),
        ("constraints=['iou_half >= 0.5']", "constraints"),
    ],
)
def test_one_half_cuts_probabilities_only(override: str, key: str) -> None:
    with pytest.raises(ConfigError, match="no probabilities") as caught:
        load_inputs(spec(override))
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["backbone.study=results/a", "backbone.trial=3"], "backbone.study"),
        (["synthesis.textures=dtd"], "synthesis.textures"),
    ],
)
def test_what_a_runner_makes_no_use_of_is_refused(overrides: list[str], key: str) -> None:
    with pytest.raises(ConfigError, match="autopatch makes no use of it") as caught:
        load_inputs(spec(*overrides))
    assert caught.value.key == key


def test_other_textures_are_another_search(tmp_path: Path) -> None:
    def textures() -> str | None:
        given = load_spec(find_space("glass"), [*DEMO, f"synthesis.textures={tmp_path}"])
        inputs = load_inputs(given)
        assert inputs.guard()["textures"] == inputs.meta()["textures"]
        return inputs.textures

    Image.new("RGB", (9, 9), "red").save(tmp_path / "a.png")
    first = textures()
    assert first == textures() and first is not None
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    assert textures() != first
    Image.new("RGB", (9, 9), "blue").save(tmp_path / "b.png")
    assert textures() != first
