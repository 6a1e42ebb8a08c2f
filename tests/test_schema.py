"""The JSON schema of a spec, as an editor uses it."""

import json
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from test_docs import blocks

from autosearch import api
from autosearch.cli.app import app
from autosearch.contracts import registry, study_schema
from autosearch.contracts.objectives import TABLE
from autosearch.errors import ConfigError
from autosearch.spec.reading import parse_spec
from autosearch.spec.schema import spec_schema

OURS = sorted(
    entry.name
    for entry in entry_points(group="autosearch.runners")
    if entry.dist and entry.dist.name == "autosearch"
)
SPACES = sorted((Path(__file__).parents[1] / "searchspaces").glob("*.yaml"))
FINE = {
    "study": {"name": "a", "runner": "patchcore", "timeout": "2h"},
    "objectives": ["gflops", "rwap"],
    "constraints": ["bank_mb <= 64"],
    "dataset": {"image_size": {"side": 224}, "validation": {"real_per_type": 2}},
    "resources": {"memory": "8GB"},
    "start": {"from": "results/a", "configurations": [{"level1.patch_size": 3}]},
    "space": {
        "level0.extract": [True, False],
        "level1.extract": False,
        "level1.patch_size": {"int": [1, 16]},
        "coreset_ratio": {"float": [0.05, 1.0], "log": True},
        "num_neighbors": {"choice": [1, 3], "when": {"level0.extract": True}},
    },
}


@cache
def shipped() -> dict[str, Any]:
    text = files("autosearch_searchspaces").joinpath("schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@cache
def validator() -> Any:
    return jsonschema.Draft7Validator(shipped())


def problems(spec: object) -> list[str]:
    return [error.message for error in validator().iter_errors(spec)]


def changed(key: str, value: object) -> dict[str, Any]:
    """`FINE` with another value of a key; what follows ``space.`` is one name."""
    spec: dict[str, Any] = json.loads(json.dumps(FINE))
    *sections, last = key.split(".", 1) if key.startswith("space.") else key.split(".")
    target = spec
    for section in sections:
        target = target.setdefault(section, {})
    target[last] = value
    return spec


def test_what_is_shipped_is_what_the_code_gives() -> None:
    runners = {name: registry.load_runner(name) for name in OURS}
    remedy = "autosearch schema --out searchspaces/schema.json"
    assert json.loads(json.dumps(study_schema(runners, TABLE))) == shipped(), remedy
    assert registry.schema_path().is_file()


def test_it_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(shipped())
    jsonschema.Draft7Validator.check_schema(spec_schema())


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_space_of_ours_is_valid(path: Path) -> None:
    assert problems(yaml.safe_load(path.read_text(encoding="utf-8"))) == []


def test_examples_and_whole_specs_are_valid() -> None:
    (example,) = blocks("docs/spec.md", "yaml")
    assert problems(yaml.safe_load(example)) == []
    assert problems(FINE) == []
    assert problems(yaml.safe_load(parse_spec(changed("start", [])).to_yaml())) == []


WRONG: list[tuple[str, object]] = [
    ("stduy", {}),
    ("study.trails", 3),
    ("study.trials", 0),
    ("study.trials", "3"),
    ("study.runner", "patchcor"),
    ("study.timeout", "2 weeks"),
    ("study.timeout", -1),
    ("study.name", "a/b"),
    ("objectives", []),
    ("objectives", ["rwpa"]),
    ("objectives", "rwap"),
    ("constraints", ["gflops < 1"]),
    ("constraints", ["gflop <= 1"]),
    ("sampler.name", "cmaes"),
    ("sampler.name", "hub/"),
    ("pruner.first_rung", 1),
    ("dataset.layout", "mvtecad"),
    ("dataset.image_size", 16),
    ("dataset.image_size", [224]),
    ("dataset.image_size", {"side": 224, "short": 1}),
    ("dataset.validation.real_per_type", -1),
    ("dataset.validation.synthetic", "cutpaste"),
    ("dataset.validation.synthetic", {"knid": "cutpaste"}),
    ("dataset.tiling", {}),
    ("resources.memory", "much"),
    ("resources.gpu", True),
    ("backbone.supernet", "other"),
    ("space", {}),
    ("space.level9.extract", True),
    ("space.level1.extract", "yes"),
    ("space.level1.extract", []),
    ("space.level1.extract", {"choice": True}),
    ("space.level1.patch_size", 0),
    ("space.level1.patch_size", {"int": [1, 99]}),
    ("space.level1.patch_size", {"int": [1.5, 3]}),
    ("space.level1.patch_size", {"int": [1]}),
    ("space.level1.patch_size", {"int": [1, 3], "lgo": True}),
    ("space.level1.patch_size", {"int": [1, 3], "step": 0}),
    ("space.level1.patch_size", {"int": [1, 3], "float": [1, 3]}),
    ("space.backbone", 3),
    ("space.backbone", {"int": [1, 3]}),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_mistakes_are_found(key: str, value: object) -> None:
    spec = changed(key, value)
    assert problems(spec)
    # What an editor marks, a search would have refused, too.
    with pytest.raises(ConfigError):
        found = parse_spec(spec)
        runner = registry.load_runner(found.study.runner)
        for parameter in found.parsed_space.parameters:
            if parameter.name not in runner.parameters:
                raise ConfigError(parameter.name, None, "a parameter")
            runner.parameters[parameter.name].check(parameter)
        registry.resolve_objectives(found, TABLE)


RIGHT: list[tuple[str, object]] = [
    ("study.timeout", 90),
    ("study.timeout", "1.5h"),
    ("study.timeout", None),
    ("sampler.name", "hub/hebo"),
    ("sampler.name", "gp"),
    ("dataset.image_size", [64, 128]),
    ("dataset.evaluation_size", "source"),
    ("dataset.category", ["a", "b"]),
    ("dataset.region_of_interest", [0, 0, 5, 5]),
    ("dataset.validation.synthetic", {"kind": "cutpaste"}),
    ("resources.memory", 10**9),
    ("start", [{"level1.patch_size": 3}]),
    ("space.backbone", ["resnet18", "resnet50"]),
    ("space.level1.patch_size", {"int": [1, 15], "step": 2}),
    ("space.coreset_ratio", 1),
    ("space.preset", None),
]


@pytest.mark.parametrize(("key", "value"), RIGHT)
def test_what_may_stand_in_a_spec_passes(key: str, value: object) -> None:
    assert problems(changed(key, value)) == []


def test_every_parameter_says_what_it_does() -> None:
    spaces = {}
    for part in shipped()["allOf"]:
        name = part["if"]["properties"]["study"]["properties"]["runner"]["const"]
        spaces[name] = part["then"]["properties"]["space"]["properties"]
    for name in OURS:
        for parameter, info in registry.load_runner(name).parameters.items():
            assert info.help in spaces[name][parameter]["description"]


def test_the_command_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "s.json"
    app(["schema", "--out", str(out)], standalone_mode=False)
    assert f"# yaml-language-server: $schema={out}" in capsys.readouterr().out.replace("\n", "")
    text = out.read_text(encoding="utf-8")
    assert json.loads(text)["$defs"] == shipped()["$defs"]
    monkeypatch.setattr("autosearch.api.schema_text", lambda: text)
    monkeypatch.setattr("autosearch.api.schema.schema_text", lambda: text)
    app(["schema"], standalone_mode=False)
    assert capsys.readouterr().out == text
    with pytest.raises(ConfigError):
        api.write_schema(out / "s.json")
