"""The spec as a JSON schema, for editors: what pydantic says of it, and what it cannot know."""

from __future__ import annotations

from typing import Any

from autosearch.spec.sections import StudySpec

Schema = dict[str, Any]

DRAFT = "http://json-schema.org/draft-07/schema#"
"""What editors that check YAML know best."""

_SCALAR: Schema = {"type": ["null", "boolean", "number", "string"]}
_WHEN: Schema = {
    "type": "object",
    "description": "Other parameters, and the values of theirs with which this one exists.",
    "minProperties": 1,
    "additionalProperties": {
        "anyOf": [_SCALAR, {"type": "array", "items": _SCALAR, "minItems": 1}]
    },
}
_MOST = 1000


def spec_schema() -> Schema:
    """The schema of a spec of any runner, with `Space`'s forms for whatever stands in ``space``.

    It is laxer than `load_spec`, which also holds keys against each other; what it refuses,
    `load_spec` refuses.
    """
    schema = StudySpec.model_json_schema()
    _tidy(schema)
    schema["$defs"]["StudySection"]["required"].remove("name")  # That of the file, if left out.
    schema["$defs"]["StartSpec"]["properties"]["from"] |= {"type": ["array", "string"]}
    schema["$defs"] |= {"when": _WHEN, "parameter": parameter_schema()}
    schema["properties"]["space"] = {
        "description": "What is searched: the runner's parameters, and what may be drawn of each.",
        "type": "object",
        "minProperties": 1,
        "maxProperties": _MOST,
        "additionalProperties": {"$ref": "#/$defs/parameter"},
    }
    return {"$schema": DRAFT, "title": "autosearch spec", **schema}


def parameter_schema(value: Schema = _SCALAR, end: Schema | None = None) -> Schema:
    """The forms in which a space gives a parameter; within `spec_schema` alone.

    Args:
        value: Of one of its values.
        end: Of the ends of a range; None where it is no number.
    """
    several = {
        "type": "array", "items": value, "minItems": 1, "maxItems": _MOST, "uniqueItems": True,
    }  # fmt: skip
    when = {"$ref": "#/$defs/when"}
    forms: list[Schema] = [value, several, _form({"choice": several, "when": when}, "choice")]
    for kind, name in (("int", "integer"), ("float", "number")):
        if end is None and value is not _SCALAR:
            continue
        ends = {
            "type": "array", "items": {**(end or {}), "type": name},
            "minItems": 2, "maxItems": 2, "description": "The lowest value and the highest.",
        }  # fmt: skip
        options = {
            "log": {"type": "boolean", "description": "Drawn on a logarithmic scale."},
            "step": {"type": name, "exclusiveMinimum": 0, "description": "From low on."},
            "when": when,
        }
        forms.append(_form({kind: ends, **options}, kind))
    return {"anyOf": forms}


def _form(properties: Schema, required: str) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": [required],
        "additionalProperties": False,
    }


def _tidy(node: object) -> None:
    """Drop titles that are names once more and defaults of whole sections; say tuples as lists."""
    if isinstance(node, list):
        for part in node:
            _tidy(part)
    if not isinstance(node, dict):
        return
    if isinstance(node.get("title"), str):
        del node["title"]
    if "$ref" in node:
        node.pop("default", None)
    if isinstance(node.get("description"), str):
        node["description"] = node["description"].replace("``", "`")
    if "prefixItems" in node:
        node["items"] = node.pop("prefixItems")[0]
    for part in node.values():
        _tidy(part)
