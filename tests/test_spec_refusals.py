"""Specs that are refused: what the error names, and what it says is allowed."""

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given, strategies as st
from spec_parts import CONTENT, write_spec

from autosearch.contracts import registry
from autosearch.errors import ConfigError
from autosearch.spec.reading import load_spec, parse_spec, study_name
from autosearch.spec.sections import LabelledSpec


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small spec on disk."""
    return write_spec(tmp_path)


def refusal(path: Path, *overrides: str) -> ConfigError:
    """The error that loading ends with."""
    with pytest.raises(ConfigError) as caught:
        load_spec(path, overrides)
    assert "\n" not in str(caught.value)
    return caught.value


class TestErrors:
    @pytest.mark.parametrize(
        ("override", "key", "value", "allowed"),
        [
            ("stduy=1", "stduy", 1, "did you mean 'study'?"),
            ("study.trails=3", "study.trails", 3, "did you mean 'trials'?"),
            ("dataset.validatoin=3", "dataset.validatoin", 3, "'validation'?"),
            ("resources.gpus=1", "resources.gpus", 1, "did you mean 'gpu'?"),
            ("dataset.a.b=1", "dataset.a", {"b": 1}, "a known key"),
            (
                "dataset.validation.synthetic.kidn=1",
                "dataset.validation.synthetic.kidn",
                1,
                "did you mean 'kind'?",
            ),
            ("synthesis.texture=a", "synthesis.texture", "a", "did you mean 'textures'?"),
            ("backbone.study=results/a", "backbone.trial", None, "or neither"),
            ("backbone.trial=0", "backbone.study", None, "or neither"),
            ("backbone={study: a, trial: -1}", "backbone.trial", -1, "equal to 0"),
            ("study.trials=many", "study.trials", "many", "integer"),
            ("study.trials=0", "study.trials", 0, "greater than or equal to 1"),
            ("study.trials=2.5", "study.trials", 2.5, "integer"),
            ("study.seed=-1", "study.seed", -1, "greater than or equal to 0"),
            ("study.name=a/b", "study.name", "a/b", "pattern"),
            ("study.name=..", "study.name", "..", "pattern"),
            ("study.timeout=soon", "study.timeout", "soon", "number"),
            ("study.timeout=0", "study.timeout", 0, "greater than 0"),
            ("study.trial_timeout=.inf", "study.trial_timeout", math.inf, "less than"),
            ("study=3", "study", 3, "dictionary"),
            ("sampler.name=cmaes", "sampler.name", "cmaes", "'tpe'"),
            ("dataset.image_size=16", "dataset.image_size", 16, "32"),
            ("dataset.mask_rule=max", "dataset.mask_rule", "max", "'nearest'"),
            ("objectives=[]", "objectives", [], "at least 1"),
            ("objectives=[ap, ap]", "objectives", ["ap", "ap"], "each name once"),
            ("measures=[ap, ap]", "measures", ["ap", "ap"], "each name once"),
            ("constraints=[gflops < 1]", "constraints", "gflops < 1", '"gflops <= 0.31"'),
            ("space=3", "space", 3, "dictionary"),
            ("space={}", "space", {}, "at least one parameter"),
            ("space.width=[]", "space.width", [], "at least one choice"),
            ("novalue", "--set", "novalue", "key=value"),
            ("=3", "--set", "=3", "key=value"),
            ("study.trials=[", "--set study.trials", "[", "YAML"),
            ("study.trials={a: 1, a: 2}", "--set study.trials", "{a: 1, a: 2}", "YAML"),
            ("study.seed=2024-13-45", "--set study.seed", "2024-13-45", "YAML"),
            ("objectives.x=1", "objectives.x", 1, "no mapping"),
        ],
    )
    def test_message_names_key_value_and_what_is_allowed(
        self, path: Path, override: str, key: str, value: object, allowed: str
    ) -> None:
        error = refusal(path, override)
        assert (error.key, error.value) == (key, value)
        assert allowed in error.allowed

    def test_every_problem_of_a_first_level_key_has_its_place(self, path: Path) -> None:
        content = {key: value for key, value in CONTENT.items() if key != "objectives"}
        path.write_text(yaml.safe_dump(content))
        error = refusal(path)
        assert error.key == "objectives" and "required" in error.allowed

    def test_unknown_objective_with_the_nearest_name(self, path: Path) -> None:
        for key in ("objectives=[rwpa]", "measures=[rwpa]", "constraints=[rwpa >= 0.5]"):
            with pytest.raises(ConfigError, match=r"did you mean 'rwap'\?") as caught:
                registry.resolve_objectives(load_spec(path, [key]))
            assert (caught.value.key, caught.value.value) == (key.split("=")[0], "rwpa")

    def test_gp_needs_a_space_without_conditions(self, path: Path) -> None:
        assert load_spec(path, ["sampler.name=gp"]).sampler.name == "gp"
        condition = "space.stage1.patch_size={int: [1, 2], when: {width: 1.2}}"
        error = refusal(path, "sampler.name=gp", condition)
        assert (error.key, error.value) == ("sampler.name", "gp")

    def test_two_bounds_on_one_side(self, path: Path) -> None:
        load_spec(path, ["constraints=[gflops <= 1, gflops >= 0.1]"])
        assert refusal(path, "constraints=[gflops <= 1, gflops <= 2]").key == "constraints"


class TestFile:
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("study: {name: a}\nobjectives: [ap]\nstudy: {name: b}\n", "'study' stands twice"),
            ("study: {runner: a, trials: 1, trials: 2}", "'trials' stands twice"),
            ("study: &one {name: a}\nspace: *one\n", "aliases"),
            ("study: [1\n", "expected"),
            ("study: \x00", ""),
            ("a: !!python/object/apply:os.getcwd []", "constructor"),
            ("? [a]\n: 1\n", "unhashable"),
            ("a: " + "[" * 5000 + "]" * 5000, "RecursionError"),
            ("a: 2024-13-45", ""),
            ("a: 0b_", ""),
            ("a: !!int x", ""),
            ("a: !!bool x", ""),
            ("a: !!timestamp x", ""),
            ("[" + "1" * 5000 + "]", ""),
        ],
        ids=range(14),
    )
    def test_that_is_not_good_yaml(self, path: Path, text: str, problem: str) -> None:
        path.write_text(text)
        error = refusal(path)
        assert error.key.startswith(str(path)) and error.allowed == "valid YAML in UTF-8"
        assert problem in str(error.value)

    def test_line_of_a_mistake_is_named(self, path: Path) -> None:
        path.write_text("study: {name: a}\nspace:\n  a: {b: 1, b: 2}\n")
        assert refusal(path).key == f"{path}:3"

    def test_bad_utf8(self, path: Path) -> None:
        path.write_bytes(b"study: {name: caf\xe9}")
        assert "UTF-8" in refusal(path).allowed

    def test_huge(self, path: Path) -> None:
        path.write_text("# " + "x" * 1_000_000)
        error = refusal(path)
        assert error.key == str(path) and "1 MB" in error.allowed

    @pytest.mark.parametrize("text", ["", "3", "[1, 2]", "text"])
    def test_that_is_no_mapping(self, path: Path, text: str) -> None:
        path.write_text(text)
        assert "a mapping" in refusal(path).allowed

    def test_missing_or_a_folder(self, tmp_path: Path) -> None:
        for place in (tmp_path / "missing.yaml", tmp_path):
            error = refusal(place)
            assert error.key == str(place) and "readable" in error.allowed

    def test_name_defaults_to_that_of_the_file(self, path: Path) -> None:
        assert load_spec(path.rename(path.with_name("screw_1.2.yaml"))).study.name == "small"
        nameless = path.with_name("screw_1.2.yaml")
        nameless.write_text(
            yaml.safe_dump(CONTENT | {"study": {"runner": "autopatch"}}, sort_keys=False)
        )
        assert load_spec(nameless).study.name == "screw_1.2"

    @given(
        st.text(st.characters(codec="utf-8"), max_size=60).map(str.encode)
        | st.text("{}[]:,-?&*!|>'\"a1 \n").map(str.encode)
        | st.binary(max_size=30)
    )
    def test_any_other_content_is_refused(
        self, tmp_path_factory: pytest.TempPathFactory, content: bytes
    ) -> None:
        file = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
        file.write_bytes(content)
        refusal(file)


class TestLabelled:
    def test_survives_being_written_and_read(self, path: Path, tmp_path: Path) -> None:
        spec = load_spec(path, ["dataset.labelled={train: 0.5, val: 0.25}"])
        again = tmp_path / "again.yaml"
        again.write_text(spec.to_yaml())
        assert load_spec(again) == spec
        assert load_spec(path, ["dataset.labelled={}"]).dataset.labelled == LabelledSpec()

    @pytest.mark.parametrize(
        ("override", "key"),
        [
            ("dataset.labelled={train: 0.7, val: 0.3}", "dataset.labelled.val"),
            ("dataset.labelled.train=0", "dataset.labelled.train"),
            ("dataset.test_skip=2", "dataset.test_skip"),
            ("dataset.validation.real_per_type=3", "dataset.validation.real_per_type"),
        ],
    )
    def test_refuses_what_contradicts_it(self, path: Path, override: str, key: str) -> None:
        with pytest.raises(ConfigError) as caught:
            load_spec(path, ["dataset.labelled.val=0.28", override])
        assert caught.value.key == key


def test_an_architecture_without_its_trial_is_refused(path: Path) -> None:
    found = "{runner: autopatch, params: {width: 1.0}, hashes: {}, weights: auto, seed: 0}"
    error = refusal(path, f"backbone.architecture={found}")
    assert (error.key, error.value) == ("backbone.architecture", {"width": 1.0})
    assert "it follows from backbone.study" in error.allowed
    whole = load_spec(path, [f"backbone={{study: a, trial: 0, architecture: {found}}}"])
    assert parse_spec(yaml.safe_load(whole.to_yaml())) == whole


@pytest.mark.parametrize(
    "text", ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "a\n", "x" * 101]
)
def test_study_names_that_are_no_folder(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        study_name(text)
    assert caught.value.value == text


@pytest.mark.parametrize("text", ["a", "screw-2", "A.b_c", "0", "x" * 100])
def test_study_names_that_are(text: str) -> None:
    assert study_name(text) == text
