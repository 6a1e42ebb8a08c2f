"""From YAML and command-line overrides to a validated `StudySpec`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any, get_args

from pydantic import ValidationError

from autosearch.errors import ConfigError, did_you_mean
from autosearch.spec.sections import NAME, DatasetSpec, StudySpec, ValidationSpec
from autosearch.spec.space import Space
from autosearch.spec.strict_yaml import read_yaml, yaml_value

Override = str | tuple[str, object]


def load_spec(
    source: Path | Mapping[str, Any],
    overrides: Iterable[Override] = (),
    younger: Mapping[str, object] = MappingProxyType({}),
) -> StudySpec:
    """Read and validate a spec.

    Args:
        source: A YAML file, or what would stand in one.
        overrides: ``key=value`` texts with dotted keys, values in YAML; or pairs of dotted key
            and value.
        younger: Values of keys, by dotted name, that the source may be too old to have.

    Raises:
        ConfigError: The file cannot be read, is no mapping, or a key or value is not allowed.
    """
    path = source if isinstance(source, Path) else Path("study")
    content = read_yaml(source) if isinstance(source, Path) else plain_copy(source)
    if not isinstance(content, dict):
        raise ConfigError(str(path), content, "a mapping with study, space, objectives, …")
    content.setdefault("study", {})
    if isinstance(content["study"], dict):
        content["study"].setdefault("name", path.stem)
    for key, value in younger.items():
        if not _has(content, key):
            _apply(content, key, value)
    narrowed = False
    for key, value in map(_pair, overrides):
        _apply(content, key, value)
        narrowed |= key == "space" or key.startswith("space.")
    if narrowed:
        content |= _fitting_start(content)
    return parse_spec(content)


def parse_spec(content: Mapping[str, Any]) -> StudySpec:
    """Validate a mapping as a spec, including its space and its constraints.

    Raises:
        ConfigError: The first key that is unknown, missing or has a value that is not allowed.
    """
    try:
        spec = StudySpec.model_validate(content)
    except ValidationError as error:
        raise _first_problem(error) from None
    space, constraints = spec.parsed_space, spec.parsed_constraints
    for key, names in (("objectives", spec.objectives), ("measures", spec.measures)):
        if len(set(names)) != len(names):
            raise ConfigError(key, names, "each name once")
    if space.conditional and spec.sampler.name == "gp":
        allowed = "tpe, nsga2, nsga3 or random, since the space has conditions"
        raise ConfigError("sampler.name", "gp", allowed)
    backbone = spec.backbone
    if (backbone.study is None) != (backbone.trial is None):
        missing = "study" if backbone.study is None else "trial"
        raise ConfigError(f"backbone.{missing}", None, "study and trial, or neither of them")
    if backbone.architecture and backbone.study is None:
        allowed = "nothing: it follows from backbone.study and backbone.trial"
        raise ConfigError("backbone.architecture", backbone.architecture.params, allowed)
    _check_labelled(spec.dataset)
    _check_start(spec.start, space)
    if len({(bound.name, bound.relation) for bound in constraints}) < len(constraints):
        raise ConfigError("constraints", spec.constraints, "one bound a side for each value")
    return spec


def _fitting_start(content: Mapping[str, Any]) -> dict[str, Any]:
    """Of the file's first configurations those that a space changed on the command line holds."""
    start, space = content.get("start"), content.get("space")
    if not isinstance(start, list) or not isinstance(space, dict):
        return {}
    kept = []
    for configuration in start:
        try:
            _check_start([configuration], Space.parse(space))
        except (ConfigError, AttributeError):
            continue
        kept.append(configuration)
    return {"start": kept}


def _check_start(start: list[dict[str, Any]], space: Space) -> None:
    """Refuse first configurations that the space does not hold."""
    known = {parameter.name: parameter for parameter in space.parameters}
    for number, configuration in enumerate(start):
        for name, value in configuration.items():
            key = f"start.{number}.{name}"
            if name not in known:
                raise ConfigError(key, value, f"a parameter; {did_you_mean(name, known)}")
            if not known[name].contains(value):
                raise ConfigError(key, value, f"a value of space.{name}: {space[name].to_plain()}")


def _check_labelled(dataset: DatasetSpec) -> None:
    """Refuse shares that leave nothing, and the rule of k anomalies beside that of shares."""
    labelled = dataset.labelled
    if labelled is None:
        return
    if labelled.train + labelled.val >= 1:
        allowed = f"below {1 - labelled.train:g}, so that some anomalies are left to test"
        raise ConfigError("dataset.labelled.val", labelled.val, allowed)
    if dataset.test_skip is not None:
        allowed = "null, since dataset.labelled says which anomalies are test ones"
        raise ConfigError("dataset.test_skip", dataset.test_skip, allowed)
    k = dataset.validation.real_per_type
    if k != ValidationSpec().real_per_type:
        allowed = "its default, since dataset.labelled.val says how many there are"
        raise ConfigError("dataset.validation.real_per_type", k, allowed)


def dataset_spec(overrides: Iterable[Override]) -> DatasetSpec:
    """A dataset section from overrides, with or without ``dataset.`` before the key.

    Raises:
        ConfigError: A key or value is not allowed.
    """
    content: dict[str, Any] = {}
    for key, value in map(_pair, overrides):
        _apply(content, "dataset." + key.removeprefix("dataset."), value)
    try:
        return DatasetSpec.model_validate(content.get("dataset", {}))
    except ValidationError as error:
        raise _first_problem(error, ("dataset",)) from None


def study_name(text: str) -> str:
    """Check a study's name, which becomes a folder under the results.

    Raises:
        ConfigError: The name is empty, starts with a dot, or has a path separator or other signs.
    """
    if not NAME.fullmatch(text):
        raise ConfigError("study.name", text, "letters, digits, '.', '_' and '-', not first a dot")
    return text


def _pair(override: Override) -> tuple[str, object]:
    """Key and value of an override."""
    if not isinstance(override, str):
        key, value = override
        return key, plain_copy(value)
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError("--set", override, "key=value, such as dataset.category=screw")
    return key, yaml_value(text, f"--set {key}")


def plain_copy(value: object) -> Any:
    """A copy that shares nothing, of what could stand in YAML; paths become text."""
    if isinstance(value, Mapping):
        return {name: plain_copy(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_copy(part) for part in value]
    return str(value) if isinstance(value, PurePath) else value


def _has(content: Mapping[str, Any], key: str) -> bool:
    """Whether a spec gives a value, were it null, for a dotted key."""
    found: Any = content
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return False
        found = found[part]
    return True


def _apply(content: dict[str, Any], key: str, value: object) -> None:
    # Parameter names hold dots themselves, so everything after `space.` is one name.
    *sections, last = key.split(".", 1) if key.startswith("space.") else key.split(".")
    target: Any = content
    for depth, section in enumerate(sections):
        if target.get(section) is None:
            target[section] = {}
        target = target[section]
        if not isinstance(target, dict):
            place = ".".join(sections[: depth + 1])
            raise ConfigError(key, value, f"a whole value: {place} is no mapping")
    target[last] = value


def _first_problem(error: ValidationError, prefix: tuple[str, ...] = ()) -> ConfigError:
    first = error.errors(include_url=False)[0]
    location = [str(part) for part in (*prefix, *first["loc"])]
    key = ".".join(location) or "spec"
    if first["type"] == "extra_forbidden":
        section: Any = StudySpec
        for part in location[:-1]:
            kind = section.model_fields[part].annotation
            # Of an optional section, the one kind that is not None.
            section = next((k for k in get_args(kind) if k is not type(None)), kind)
        return ConfigError(
            key, first["input"], f"a known key; {did_you_mean(location[-1], section.model_fields)}"
        )
    if first["type"] == "missing":
        return ConfigError(key, None, "a value: this key is required")
    message = first["msg"].removeprefix("Input should be ")
    return ConfigError(key, first["input"], message[0].lower() + message[1:])
