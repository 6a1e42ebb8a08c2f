"""From YAML and command-line overrides to a validated `StudySpec`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError

from autosearch.errors import ConfigError, did_you_mean
from autosearch.spec.narrowing import fitting_space
from autosearch.spec.sampler import check_sampler
from autosearch.spec.sections import NAME, TAGS, DatasetSpec, StartSpec, StudySpec
from autosearch.spec.space import Space
from autosearch.spec.strict_yaml import check_encoding, read_yaml, yaml_value

Override = str | tuple[str, object]

_NULLS = ("null", "Null", "NULL", "~")
"""What means nothing in YAML."""


def load_spec(
    source: Path | Mapping[str, Any],
    overrides: Iterable[Override] = (),
    younger: Mapping[str, object] = MappingProxyType({}),
) -> StudySpec:
    """Read and validate a spec.

    Args:
        source: A YAML file, or what would stand in one.
        overrides: ``key=value`` texts with dotted keys, values in YAML, or as they stand where
            the spec has text; or pairs of dotted key and value.
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
    narrowed, given = False, set[str]()
    for key, value in map(_pair, overrides):
        _apply(content, key, value)
        narrowed |= key == "space" or key.startswith("space.")
        given |= {key.removeprefix("space.")} if key.startswith("space.") else set()
    if given and isinstance(content.get("space"), dict):
        content["space"] = fitting_space(content["space"], given)
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
    check_sampler(spec.sampler, space.conditional)
    backbone = spec.backbone
    if (backbone.study is None) != (backbone.trial is None):
        missing = "study" if backbone.study is None else "trial"
        raise ConfigError(f"backbone.{missing}", None, "study and trial, or neither of them")
    if backbone.architecture and backbone.study is None:
        allowed = "nothing: it follows from backbone.study and backbone.trial"
        raise ConfigError("backbone.architecture", backbone.architecture.params, allowed)
    _check_labelled(spec.dataset)
    within = "start.configurations" if isinstance(spec.start, StartSpec) else "start"
    _check_start(spec.configurations, space, within)
    if len({(bound.name, bound.relation) for bound in constraints}) < len(constraints):
        raise ConfigError("constraints", spec.constraints, "one bound a side for each value")
    return spec


def _fitting_start(content: Mapping[str, Any]) -> dict[str, Any]:
    """The file's first configurations in a space that the command line changed.

    Numbers that it no longer holds become the nearest; a configuration that still does not fit is
    left out, and one that then is as another before it.
    """
    start, space = content.get("start"), content.get("space")
    if isinstance(start, dict):
        listed = _fitting_start({"start": start.get("configurations"), "space": space})
        return {"start": start | {"configurations": listed["start"]}} if listed else {}
    if not isinstance(start, list) or not isinstance(space, dict):
        return {}
    kept = []
    for configuration in start:
        try:
            parsed = Space.parse(space)
            near = _nearest(configuration, parsed)
            _check_start([near], parsed)
        except (ConfigError, AttributeError):
            continue
        if near not in kept:
            kept.append(near)
    return {"start": kept}


def _nearest(configuration: Mapping[str, Any], space: Space) -> dict[str, Any]:
    known = {parameter.name: parameter for parameter in space.parameters}
    return {
        name: known[name].nearest(value) if name in known else value
        for name, value in configuration.items()
    }


def _check_start(start: list[dict[str, Any]], space: Space, within: str = "start") -> None:
    """Refuse first configurations that the space does not hold."""
    known = {parameter.name: parameter for parameter in space.parameters}
    for number, configuration in enumerate(start):
        for name, value in configuration.items():
            key = f"{within}.{number}.{name}"
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
    if k not in ("auto", 1):
        allowed = "its default, since dataset.labelled.val says how many there are"
        raise ConfigError("dataset.validation.real_per_type", k, allowed)


def dataset_spec(overrides: Iterable[Override]) -> DatasetSpec:
    """A dataset section from overrides, with or without ``dataset.`` before the key.

    Raises:
        ConfigError: A key or value is not allowed.
    """
    content: dict[str, Any] = {}
    for override in overrides:
        key, value = _pair(override, within="dataset.")
        _apply(content, key, value)
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


def _pair(override: Override, within: str = "") -> tuple[str, object]:
    """Key and value of an override; ``within`` is what its key may leave out."""
    if not isinstance(override, str):
        key, value = override
        check_encoding(value, key)
        return within + key.removeprefix(within), plain_copy(value)
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError("--set", override, "key=value, such as dataset.category=screw")
    whole, said = within + key.removeprefix(within), f"--set {key}"
    check_encoding(text, said)
    kinds, stated = _kinds(whole), text.strip()
    several = tuple[str, ...] in kinds
    # 01 and no are names of categories, and no number and no truth value; quotes stay YAML's, and
    # so do brackets where there may be several names.
    texts = {str} <= set(kinds) <= {str, NoneType, tuple[str, ...]}
    if not texts or not stated or stated[0] in ("'\"[" if several else "'\""):
        return whole, yaml_value(text, said)
    return whole, None if NoneType in kinds and stated in _NULLS else stated


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
    if sections == ["start"] and isinstance(content.get("start"), list):
        # Most spaces list configurations, to which those of earlier studies may be added.
        content["start"] = {"configurations": content["start"]}
    for depth, section in enumerate(sections):
        if target.get(section) is None or (section, target[section]) == ("synthetic", "auto"):
            target[section] = {}
        target = target[section]
        if not isinstance(target, dict):
            place = ".".join(sections[: depth + 1])
            raise ConfigError(key, value, f"a whole value: {place} is no mapping")
    target[last] = value


def _kinds(key: str) -> tuple[Any, ...]:
    """The types of which a key's value may be; none if the key is unknown, or has many keys."""
    section: Any = StudySpec
    kinds: tuple[Any, ...] = ()
    for part in key.split("."):
        fields = getattr(section, "model_fields", {})
        if part not in fields:
            return ()
        kind = fields[part].annotation
        kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        kinds = tuple(k.__origin__ if get_origin(k) is Annotated else k for k in kinds)
        others = [kind for kind in kinds if kind is not NoneType]
        section = next((kind for kind in others if hasattr(kind, "model_fields")), None)
    return kinds


def _first_problem(error: ValidationError, prefix: tuple[str, ...] = ()) -> ConfigError:
    first = error.errors(include_url=False)[0]
    location = [str(part) for part in (*prefix, *first["loc"]) if part not in TAGS]
    key = ".".join(location) or "spec"
    if first["type"] == "extra_forbidden":
        # Of an optional section, the one kind that has keys.
        kinds = _kinds(".".join(location[:-1])) or (StudySpec,)
        section = next(kind for kind in kinds if hasattr(kind, "model_fields"))
        known = [field.alias or name for name, field in section.model_fields.items()]
        allowed = f"a known key; {did_you_mean(location[-1], known)}"
        return ConfigError(key, first["input"], allowed)
    if first["type"] == "missing":
        return ConfigError(key, None, "a value: this key is required")
    if first["type"] == "string_type":
        example = f'in YAML, quote what looks like something else: {location[-1]}: "01"'
        return ConfigError(key, first["input"], f"text; {example}")
    message = first["msg"].removeprefix("Input should be ")
    value = "…" if first["type"] == "password" else first["input"]
    return ConfigError(key, value, message[0].lower() + message[1:])
