import copy
import json
import math
from itertools import product
from pathlib import Path

import optuna
import pytest
import yaml
from autosearch_runners.autopatch import AutoPatchRunner
from hypothesis import given, strategies as st

from autosearch.contracts.trials import canonical_key
from autosearch.errors import ConfigError, Infeasible
from autosearch.spec.reading import load_spec
from autosearch.spec.space import Parameter, Space

AUTOPATCH = Path(__file__).parents[1] / "searchspaces" / "autopatch.yaml"

MIXED = {
    "width": [1.0, 1.2],
    "fixed": 7,
    "kernel": {"int": [3, 7], "step": 2},
    "rate": {"float": [1e-4, 1.0], "log": True},
    "grid": {"float": [0.0, 1.0], "step": 0.25},
    "bank": ["full", "coreset", None, True],
    "ratio": {"float": [0.1, 0.5], "when": {"bank": ["coreset"]}},
    "method": {"choice": ["random", "kcenter"], "when": {"bank": ["coreset"], "kernel": [3, 5]}},
}


def values_of(form: object) -> list[object]:
    """All values of a finite YAML form, read independently of the package."""
    if not isinstance(form, dict):
        return form if isinstance(form, list) else [form]
    if "choice" in form:
        return list(form["choice"])
    low, high = form["int"]
    return list(range(low, high + 1, form.get("step", 1)))


def enumerate_configurations(plain: dict[str, object]) -> list[dict[str, object]]:
    """Every configuration of a mapping in which conditions follow what they depend on."""
    found: list[dict[str, object]] = [{}]
    for parameter, form in plain.items():
        when = form.get("when", {}) if isinstance(form, dict) else {}
        grown = []
        for params in found:
            if all(name in params and params[name] in values_of(when[name]) for name in when):
                grown += [{**params, parameter: value} for value in values_of(form)]
            else:
                grown.append(params)
        found = grown
    return found


@st.composite
def conditional_spaces(draw: st.DrawFn) -> dict[str, object]:
    """Small finite spaces, each parameter perhaps conditional on earlier ones."""
    plain: dict[str, object] = {}
    for i in range(draw(st.integers(1, 5))):
        form: dict[str, object]
        if draw(st.booleans()):
            low, high = draw(st.integers(-3, 3)), draw(st.integers(0, 4))
            form = {"int": [low, low + high], "step": draw(st.integers(1, 3))}
        else:
            pool = st.sampled_from(["a", "b", None, 2, 0.5, "3"])
            form = {"choice": draw(st.lists(pool, min_size=1, max_size=3, unique=True))}
        parents = (
            draw(st.lists(st.sampled_from(sorted(plain)), max_size=2, unique=True)) if i else []
        )
        when = {}
        for parent in parents:
            options = values_of(plain[parent])
            when[parent] = draw(
                st.lists(st.sampled_from(options), min_size=1, max_size=len(options), unique=True)
            )
        if when:
            form["when"] = when
        plain[f"p{i}"] = form
    return plain


class TestForms:
    def test_each_form_is_read_as_what_it_says(self) -> None:
        space = Space.parse(MIXED)
        assert space["width"] == Parameter("width", "choice", choices=(1.0, 1.2))
        assert space["fixed"].choices == (7,)
        assert space["kernel"].values() == (3, 5, 7)
        assert space["grid"].values() == (0.0, 0.25, 0.5, 0.75, 1.0)
        assert space["rate"].log and space["rate"].size() == math.inf
        assert space["method"].when == (("bank", ("coreset",)), ("kernel", (3, 5)))
        assert space.conditional
        assert not Space.parse({"a": [1]}).conditional

    @pytest.mark.parametrize(
        ("form", "size"),
        [
            (3, 1),
            (None, 1),
            ([1, 2, None], 3),
            ({"int": [1, 16]}, 16),
            ({"int": [3, 7], "step": 2}, 3),
            ({"int": [1, 10], "step": 4}, 3),
            ({"int": [1, 1000], "log": True}, 1000),
            ({"float": [0.0, 0.3], "step": 0.1}, 4),
            ({"float": [2.0, 2.0]}, 1),
            ({"float": [0, 1]}, math.inf),
        ],
    )
    def test_size_of_one_parameter(self, form: object, size: float) -> None:
        assert Space.parse({"a": form})["a"].size() == size
        assert Space.parse({"a": form}).size() == size

    def test_contains_only_what_can_be_drawn(self) -> None:
        space = Space.parse(MIXED)
        assert [value for value in range(10) if space["kernel"].contains(value)] == [3, 5, 7]
        assert not space["kernel"].contains(5.5)
        assert not space["kernel"].contains(True)
        assert space["grid"].contains(0.75) and not space["grid"].contains(0.6)
        assert space["rate"].contains(0.5) and not space["rate"].contains(2)
        assert space["bank"].contains(True) and not space["bank"].contains(1)
        assert space["bank"].contains(None) and not space["rate"].contains(None)

    def test_parameters_are_put_after_what_they_depend_on(self) -> None:
        backwards = dict(reversed(MIXED.items()))
        names = [parameter.name for parameter in Space.parse(backwards).parameters]
        assert names.index("bank") < names.index("ratio")
        assert max(names.index("bank"), names.index("kernel")) < names.index("method")


class TestErrors:
    @pytest.mark.parametrize(
        ("plain", "key", "value", "allowed"),
        [
            ({}, "space", {}, "at least one parameter"),
            (["a"], "space", ["a"], "mapping"),
            ({1: [2]}, "space.1", 1, "parameter name"),
            ({"a": []}, "space.a", [], "at least one choice"),
            ({"a": [1, 2, 1]}, "space.a", [1, 2, 1], "differ"),
            # Optuna takes 1, 1.0 and true for one choice, so they cannot stand side by side.
            ({"a": [1, True]}, "space.a", [1, True], "differ"),
            ({"a": [1, 1.0]}, "space.a", [1, 1.0], "differ"),
            ({"a": [[1]]}, "space.a", [1], "numbers or text"),
            ({"a": [math.nan]}, "space.a", math.nan, "finite"),
            ({"a": {}}, "space.a", {}, "list of choices"),
            ({"a": {"int": [1, 2], "setp": 1}}, "space.a", "setp", "did you mean 'step'?"),
            ({"a": {"int": [1, 2], "float": [1, 2]}}, "space.a", None, "int|float"),
            ({"a": {"choice": 3}}, "space.a", {"choice": 3}, "choice: [values]"),
            ({"a": {"choice": [3], "log": True}}, "space.a", None, "choice: [values]"),
            ({"a": {"int": [1]}}, "space.a", [1], "two whole numbers"),
            ({"a": {"int": 4}}, "space.a", 4, "two whole numbers"),
            ({"a": {"int": [1, 2.5]}}, "space.a", [1, 2.5], "two whole numbers"),
            ({"a": {"int": [True, 2]}}, "space.a", [True, 2], "two whole numbers"),
            ({"a": {"float": ["1e-3", 1]}}, "space.a", ["1e-3", 1], "two numbers"),
            ({"a": {"float": [0, math.inf]}}, "space.a", [0, math.inf], "two numbers"),
            ({"a": {"float": [0, 10**400]}}, "space.a", None, "two numbers"),
            ({"a": {"int": [5, 1]}}, "space.a", [5, 1], "low <= high"),
            ({"a": {"int": [1, 5], "log": "yes"}}, "space.a.log", "yes", "true or false"),
            ({"a": {"int": [0, 5], "log": True}}, "space.a", None, "low > 0"),
            ({"a": {"int": [1, 5], "log": True, "step": 2}}, "space.a", None, "no step"),
            ({"a": {"int": [1, 5], "step": 0}}, "space.a.step", 0, "step > 0"),
            ({"a": {"int": [1, 5], "step": 0.5}}, "space.a.step", 0.5, "whole numbers"),
            ({"a": {"float": [1, 5], "step": True}}, "space.a.step", True, "step > 0"),
            ({"a": {"int": [1, 5], "when": {}}}, "space.a.when", {}, "other_parameter"),
            ({"a": {"int": [1, 5], "when": ["b"]}}, "space.a.when", ["b"], "other_parameter"),
            (
                {"extract": [True, False], "a": {"int": [1, 5], "when": {"exract": True}}},
                "space.a.when",
                "exract",
                "did you mean 'extract'?",
            ),
            ({"b": [1, 2], "a": {"int": [1, 5], "when": {"b": 3}}}, "space.a.when", 3, "b can"),
            (
                {"b": {"int": [1, 5], "step": 2}, "a": {"int": [1, 5], "when": {"b": 2}}},
                "space.a.when",
                2,
                "b can take",
            ),
        ],
    )
    def test_message_names_key_value_and_what_is_allowed(
        self, plain: dict[str, object], key: str, value: object, allowed: str
    ) -> None:
        with pytest.raises(ConfigError) as caught:
            Space.parse(plain)
        error = caught.value
        assert error.key == key
        if value is not None:
            assert repr(error.value) == repr(value)
        assert allowed in error.allowed
        assert str(error).startswith(f"{key}: ") and repr(error.value) in str(error)

    @pytest.mark.parametrize(
        "circle",
        [
            {"a": {"int": [1, 2], "when": {"a": 1}}},
            {"a": {"int": [1, 2], "when": {"b": 1}}, "b": {"int": [1, 2], "when": {"a": 1}}},
            {
                "free": [1, 2],
                "a": {"int": [1, 2], "when": {"c": 1}},
                "b": {"int": [1, 2], "when": {"a": 1}},
                "c": {"int": [1, 2], "when": {"b": 1, "free": 2}},
            },
        ],
    )
    def test_circles_are_refused_and_their_members_named(self, circle: dict[str, object]) -> None:
        with pytest.raises(ConfigError, match="without a circle") as caught:
            Space.parse(circle)
        assert set(str(caught.value.value).split(", ")) == circle.keys() - {"free"}

    @given(
        st.dictionaries(
            st.text(max_size=3) | st.integers(),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(
                        st.sampled_from(["int", "float", "choice", "log", "step", "when", "x"]),
                        inner,
                        max_size=3,
                    )
                ),
                max_leaves=6,
            ),
            max_size=3,
        )
    )
    def test_nothing_but_a_config_error_comes_of_any_mapping(self, plain: dict) -> None:
        try:
            Space.parse(plain).size()
        except ConfigError as error:
            assert error.key.startswith("space")


class TestSize:
    @given(conditional_spaces())
    def test_equals_brute_force_enumeration(self, plain: dict[str, object]) -> None:
        assert Space.parse(plain).size() == len(enumerate_configurations(plain))

    @given(conditional_spaces(), st.randoms(use_true_random=False))
    def test_does_not_depend_on_order(self, plain: dict[str, object], random) -> None:
        items = list(plain.items())
        random.shuffle(items)
        assert Space.parse(dict(items)).size() == len(enumerate_configurations(plain))

    def test_a_continuous_parameter_makes_it_infinite(self) -> None:
        assert Space.parse(MIXED).size() == math.inf

    def test_too_many_conditions_are_not_counted(self) -> None:
        plain = {f"p{i}": {"int": [0, 9]} for i in range(7)}
        plain |= {f"c{i}": {"int": [0, 1], "when": {f"p{i}": 3}} for i in range(7)}
        assert Space.parse(plain).size() is None

    def test_a_continuous_parent_is_not_counted(self) -> None:
        plain = {"a": {"float": [0, 1]}, "b": {"int": [0, 1], "when": {"a": 0.5}}}
        assert Space.parse(plain).size() is None


class TestRoundTrip:
    @given(conditional_spaces())
    def test_through_yaml_and_json(self, plain: dict[str, object]) -> None:
        space = Space.parse(plain)
        written = space.to_plain()
        assert Space.parse(json.loads(json.dumps(written))) == space
        assert Space.parse(yaml.safe_load(yaml.safe_dump(written, sort_keys=False))) == space

    def test_of_every_form(self) -> None:
        space = Space.parse(MIXED)
        text = yaml.safe_dump(space.to_plain(), sort_keys=False)
        assert Space.parse(yaml.safe_load(text)) == space

    def test_parse_leaves_its_input_alone(self) -> None:
        before = copy.deepcopy(MIXED)
        Space.parse(MIXED).to_plain()["bank"].append("x")  # type: ignore[attr-defined]
        assert before == MIXED


class TestSuggest:
    @pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
    def test_optuna_reaches_every_configuration_and_no_other(self) -> None:
        plain = {
            "bank": ["full", "coreset", None],
            "neighbours": {"int": [1, 5], "step": 2},
            "method": {"choice": ["random", "kcenter"], "when": {"bank": "coreset"}},
            "tries": {"int": [1, 2], "when": {"method": "kcenter", "neighbours": [3, 5]}},
        }
        space, drawn = Space.parse(plain), []
        study = optuna.create_study(sampler=optuna.samplers.BruteForceSampler(seed=0))

        def objective(trial: optuna.Trial) -> float:
            drawn.append(space.suggest(trial))
            assert trial.params == drawn[-1]
            return 0.0

        study.optimize(objective)  # Ends by itself once the tree of choices is exhausted.
        assert sorted(map(repr, drawn)) == sorted(map(repr, enumerate_configurations(plain)))
        assert len(drawn) == space.size() == 3 + 3 + 3 + (1 + 2 * 2)

    def test_every_draw_is_contained(self) -> None:
        space = Space.parse(MIXED)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        seen = set()
        for _ in range(100):
            params = space.suggest(study.ask())
            assert all(space[name].contains(value) for name, value in params.items())
            assert ("ratio" in params) == (params["bank"] == "coreset")
            assert ("method" in params) == (params["bank"] == "coreset" and params["kernel"] < 7)
            assert type(params["kernel"]) is int and type(params["rate"]) is float
            seen.add((params["bank"], params["kernel"]))
        assert len(seen) == 12


def distinct_autopatch(space: Space) -> int:
    """Configurations that differ in effect, from the sizes of a space's own choices.

    Stages behind the last extraction have no effect, nor has a patch size without extraction.
    """
    total, before = 0, 1
    for s in range(5):
        shape = space[f"stage{s}.kernel_size"].size() * space[f"stage{s}.expand_ratio"].size()
        blocks = space[f"stage{s}.extraction_block"].values()
        extracting = sum(block is not None for block in blocks)
        extracting *= space[f"stage{s}.patch_size"].size()
        total += before * shape * extracting
        before *= shape * ((None in blocks) + extracting)
    return int(space["width"].size() * total)


def effect(params: dict) -> tuple:
    """What an AutoPatch subnet depends on: stages up to the last extraction, pooled as said."""
    blocks = [params[f"stage{s}.extraction_block"] for s in range(5)]
    last = max(s for s in range(5) if blocks[s] is not None)
    stages = tuple(
        (
            params[f"stage{s}.kernel_size"],
            params[f"stage{s}.expand_ratio"],
            blocks[s],
            None if blocks[s] is None else params[f"stage{s}.patch_size"],
        )
        for s in range(last + 1)
    )
    return params["width"], stages


class TestAutoPatchSpace:
    def test_raw_size(self) -> None:
        assert load_spec(AUTOPATCH).parsed_space.size() == 386_983_526_400_000

    def test_distinct_size(self) -> None:
        assert distinct_autopatch(load_spec(AUTOPATCH).parsed_space) == 135_150_906_310_272

    def test_canonical_keeps_what_has_an_effect_and_nothing_else(self) -> None:
        reduced = {"width": [1.0, 1.2]}
        for s in range(5):
            searched = s in (1, 3)
            reduced[f"stage{s}.kernel_size"] = [3, 7] if searched else [5]
            reduced[f"stage{s}.expand_ratio"] = [4]
            first = 4 * s + 1
            reduced[f"stage{s}.extraction_block"] = (
                [None, first, first + 1, first + 3] if searched else [None]
            )
            reduced[f"stage{s}.patch_size"] = {"int": [1, 2]} if searched else [3]
        text = json.dumps(reduced)
        spec = load_spec(AUTOPATCH, [f"space={text}", "backbone.weights=random"])
        space, runner = spec.parsed_space, AutoPatchRunner(spec)

        by_effect: dict[tuple, set[str]] = {}
        impossible = 0
        names = [parameter.name for parameter in space.parameters]
        for values in product(*(parameter.values() for parameter in space.parameters)):
            params = dict(zip(names, values, strict=True))
            try:
                canonical = runner.canonical(params)
            except Infeasible:
                assert all(params[f"stage{s}.extraction_block"] is None for s in range(5))
                impossible += 1
                continue
            by_effect.setdefault(effect(params), set()).add(canonical_key(canonical))

        assert all(len(keys) == 1 for keys in by_effect.values())
        keys = set().union(*by_effect.values())
        assert len(keys) == len(by_effect) == distinct_autopatch(space)
        assert impossible == 2 * 2 * 2 * 2 * 2
