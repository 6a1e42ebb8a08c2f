"""Specs that are read: shipped ones, overrides, round trips, and what makes two the same."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, strategies as st
from spec_parts import CONTENT, write_spec

from autosearch.contracts import registry
from autosearch.contracts.detector import check_space
from autosearch.errors import ConfigError
from autosearch.spec.constraint import Constraint
from autosearch.spec.reading import dataset_spec, load_spec, parse_spec
from autosearch.spec.space import Space

SHIPPED = sorted((Path(__file__).parents[1] / "searchspaces").glob("*.yaml"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small spec on disk."""
    return write_spec(tmp_path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
class TestShippedSpaces:
    def test_loads_and_fits_its_runner(self, path: Path) -> None:
        spec = load_spec(path)
        assert spec.study.name == path.stem
        runner = registry.load_runner(spec.study.runner)
        check_space(spec.parsed_space, runner.parameters, spec.study.runner)
        assert list(registry.resolve_objectives(spec)) == spec.objectives
        assert registry.find_space(path.stem).read_text() == path.read_text()

    def test_its_runner_refuses_what_it_does_not_know(self, path: Path) -> None:
        spec = load_spec(path)
        known = registry.load_runner(spec.study.runner).parameters
        name = spec.parsed_space.parameters[-1].name
        misspelt = load_spec(path, [f"space.{name}x=[1]"])
        with pytest.raises(ConfigError) as caught:
            check_space(misspelt.parsed_space, known, "it")
        assert caught.value.key == f"space.{name}x" and f"{name!r}?" in caught.value.allowed
        outside = load_spec(path, [f"space.{name}=[5000]"])
        with pytest.raises(ConfigError) as caught:
            check_space(outside.parsed_space, known, "it")
        assert (caught.value.key, caught.value.value) == (f"space.{name}", 5000)


class TestOverrides:
    def test_replace_values_of_the_file(self, path: Path) -> None:
        spec = load_spec(
            path,
            [
                "study.trials=7",
                "study.timeout=15m",
                "dataset.root=/data/a=b",
                "backbone.weights=random",
                "resources.gpu=0.5",
                "dataset.test_skip=null",
                "objectives=[gmacs]",
            ],
        )
        assert (spec.study.trials, spec.study.timeout) == (7, 900)
        assert spec.dataset.root == "/data/a=b" and spec.dataset.test_skip is None
        assert spec.backbone.weights == "random" and spec.resources.gpu == 0.5
        assert spec.objectives == ["gmacs"]
        assert spec.study.name == "small"

    def test_of_a_parameter_take_all_behind_space_as_its_name(self, path: Path) -> None:
        spec = load_spec(
            path, ["space.stage0.patch_size=3", "space.stage1.extraction_block=[null, 5]"]
        )
        space = spec.parsed_space
        assert space["stage0.patch_size"].choices == (3,)
        assert space["stage1.extraction_block"].choices == (None, 5)
        assert space["width"].choices == (1.0, 1.2)

    def test_later_ones_win(self, path: Path) -> None:
        assert load_spec(path, ["study.seed=1", "study.seed=2"]).study.seed == 2

    def test_reach_into_sections_of_sections(self, path: Path) -> None:
        spec = load_spec(
            path,
            [
                "dataset.validation.real_per_type=0",
                "dataset.validation.synthetic.kind=cutpaste",
                "dataset.validation.synthetic.per_image=3",
            ],
        )
        validation = spec.dataset.validation
        assert validation.real_per_type == 0 and validation.synthetic is not None
        assert (validation.synthetic.kind, validation.synthetic.per_image) == ("cutpaste", 3)
        with pytest.raises(ConfigError, match=r"dataset\.category is no mapping"):
            load_spec(path, ["dataset.category=screw", "dataset.category.name=screw"])

    def test_a_whole_space(self, path: Path) -> None:
        spec = load_spec(path, ["space={width: 1.2}"])
        assert [parameter.name for parameter in spec.parsed_space.parameters] == ["width"]

    def test_of_a_dataset_alone(self) -> None:
        dataset = dataset_spec(["root=/data", "dataset.category=screw", "image_size=64"])
        assert (dataset.root, dataset.category, dataset.image_size) == ("/data", "screw", 64)
        with pytest.raises(ConfigError, match="did you mean 'category'") as caught:
            dataset_spec(["catgory=screw"])
        assert caught.value.key == "dataset.catgory"


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "wanted"),
        [(90, 90), ("90", 90), ("90s", 90), ("1.5m", 90), (" 2 h ", 7200), ("1d", 86400)],
    )
    def test_are_seconds(self, text: object, wanted: float) -> None:
        content = CONTENT | {"study": CONTENT["study"] | {"timeout": text, "trial_timeout": text}}
        spec = parse_spec(content)
        assert (spec.study.timeout, spec.study.trial_timeout) == (wanted, wanted)

    @pytest.mark.parametrize("text", ["-5", "1.2.3s", ".", "5 weeks", "h", -3, "nan", "inf"])
    def test_others_are_refused(self, text: object) -> None:
        with pytest.raises(ConfigError) as caught:
            parse_spec(CONTENT | {"study": CONTENT["study"] | {"timeout": text}})
        assert caught.value.key == "study.timeout"


class TestConstraints:
    def test_violation_is_positive_where_the_bound_is_broken(self) -> None:
        upper, lower = Constraint.parse("gflops <= 0.31"), Constraint.parse("rwap>=0.5")
        assert upper.violation(0.41) == pytest.approx(0.1)
        assert upper.violation(0.21) == pytest.approx(-0.1)
        assert lower.violation(0.4) == pytest.approx(0.1)
        assert lower.violation(0.7) == pytest.approx(-0.2)
        assert upper.violation(0.31) == lower.violation(0.5) == 0

    @given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["<=", ">="]))
    def test_text_round_trip_is_exact(self, bound: float, relation: str) -> None:
        constraint = Constraint(name="ap", relation=relation, bound=bound)
        assert Constraint.parse(str(constraint)) == constraint

    @pytest.mark.parametrize(
        "text",
        ["", "gflops", "gflops < 1", "gflops <= ", "gflops <= one", "1 <= 2 <= 3", 5, "a <= 1e"],
    )
    def test_others_are_refused(self, text: object) -> None:
        with pytest.raises(ConfigError) as caught:
            Constraint.parse(text)
        assert (caught.value.key, caught.value.value) == ("constraints", text)


TEXT = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=8)


class TestRoundTrip:
    @pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
    def test_shipped(self, path: Path, tmp_path: Path) -> None:
        spec = load_spec(path, ["study.timeout=2h", "dataset.root='/größe: 1'"])
        copy = tmp_path / "spec.yaml"
        copy.write_text(spec.to_yaml(), encoding="utf-8")
        assert load_spec(copy) == spec
        assert load_spec(copy).to_yaml() == spec.to_yaml()

    @given(
        st.dictionaries(
            TEXT,
            st.lists(st.none() | st.integers() | TEXT, min_size=1, max_size=4, unique=True),
            min_size=1,
            max_size=4,
        )
    )
    def test_of_awkward_names_and_values(self, space: dict[str, list[object]]) -> None:
        spec = parse_spec(CONTENT | {"space": space})
        assert parse_spec(yaml.safe_load(spec.to_yaml())) == spec


class TestIdentity:
    @pytest.mark.parametrize(
        "override",
        [
            "study.name=other",
            "study.trials=5",
            "study.timeout=1h",
            "study.retries=0",
            "resources.cpu=2",
            "backbone.weights=random",
            "measures=[ap]",
            "space.width={choice: [1.0, 1.2]}",
        ],
    )
    def test_survives_what_may_change_between_runs(self, path: Path, override: str) -> None:
        before, after = load_spec(path), load_spec(path, [override])
        assert before.identity() == after.identity()
        assert before.content_hash() == after.content_hash()

    @pytest.mark.parametrize(
        "override",
        [
            "study.runner=patchcore",
            "objectives=[rwap, gflops]",
            "constraints=[gflops <= 0.31]",
            "space.width=[1.0]",
            "space.width=[1.2, 1.0]",
            "backbone.count_kernel_transform=true",
        ],
    )
    def test_differs_where_trials_could_not_be_compared(self, path: Path, override: str) -> None:
        before, after = load_spec(path), load_spec(path, [override])
        assert before.content_hash() != after.content_hash()

    def test_holds_what_a_searched_backbone_is_and_not_where_it_was_found(self) -> None:
        found = {"runner": "autopatch", "params": {"width": 1.0, "stage0.extraction_block": None}}
        found |= {"hashes": {"a": "1"}, "weights": "auto", "seed": 0}
        searched = {"study": "/a", "trial": 1, "architecture": found}

        def identity(**changes: object) -> dict[str, object]:
            return parse_spec(CONTENT | {"backbone": searched | changes}).identity()

        assert identity(study="/b", trial=2) == identity()
        assert identity(architecture=found | {"weights": "random", "seed": 1}) == identity()
        wider = found["params"] | {"width": 1.2}
        assert identity(architecture=found | {"params": wider}) != identity()
        assert identity() != parse_spec(CONTENT).identity()

    def test_tells_close_bounds_apart(self, path: Path) -> None:
        one = load_spec(path, ["constraints=[parameters <= 1234567]"])
        two = load_spec(path, ["constraints=[parameters <= 1234568]"])
        assert one.content_hash() != two.content_hash()


def test_a_spec_is_frozen(path: Path) -> None:
    spec = load_spec(path)
    with pytest.raises(ValueError, match="frozen"):
        spec.study.trials = 3


def test_first_configurations_keep_to_a_space_that_the_command_line_changed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        "study: {runner: autopatch}\nobjectives: [rwap]\n"
        "space: {a: [64, 224, 320], b: {float: [0, 4]}, c: [null, 0.3],\n"
        "  d: {int: [1, 9], step: 4}}\n"
        "start: [{a: 224, b: 3.5, c: null, d: 9}, {a: 64, b: 0, c: 0.3, d: 1}]\n",
        encoding="utf-8",
    )
    narrower = ["space.a=[128, 192]", "space.b={float: [1, 2]}", "space.d={int: [1, 7], step: 3}"]
    first, second = load_spec(path, narrower).configurations
    assert first == {"a": 192, "b": 2.0, "c": None, "d": 7}
    assert second == {"a": 128, "b": 1.0, "c": 0.3, "d": 1}
    constant = ["space.a=[32]", "space.b=[1]", "space.c=[null, 0.3]", "space.d=[5]"]
    assert len(load_spec(path, constant).configurations) == 2
    assert len(load_spec(path, [*constant, "space.c=[0.3]"]).configurations) == 1
    (left,) = load_spec(path, ["space.c=[0.2]"]).configurations
    assert left["c"] == 0.2, "nothing is not near a number, and that one is left out"
    assert Space.parse({"d": {"int": [1, 9], "step": 4}})["d"].nearest(4) == 5
