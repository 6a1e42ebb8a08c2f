"""The spec as a JSON schema with runners, their parameters and objectives in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autosearch.contracts.objectives import Objective
from autosearch.spec import parameter_schema, spec_schema

if TYPE_CHECKING:
    from autosearch.contracts.detector import ParameterInfo, Runner

Schema = dict[str, Any]


def study_schema(
    runners: Mapping[str, type[Runner]], objectives: Mapping[str, Objective]
) -> Schema:
    """What an editor needs to complete a spec and to check it as it is written.

    Args:
        runners: By name; a spec may name no other, and a space no other parameter of them.
        objectives: By name; a spec may name no other.
    """
    from autosearch.contracts.staged import understood  # Loads torch, as any runner does.

    schema = spec_schema()
    schema["$defs"]["StudySection"]["properties"]["runner"] |= {"enum": sorted(runners)}
    listed = {
        "enum": list(objectives),
        "enumDescriptions": [one.help for one in objectives.values()],
    }
    for key, text in (
        ("objectives", "What the search makes better; two or more give a Pareto front."),
        ("measures", "Measured and stored for every trial, beside the objectives."),
    ):
        schema["properties"][key] |= {"items": listed, "uniqueItems": True, "description": text}
    names = "|".join(map(re.escape, objectives))
    schema["properties"]["constraints"] |= {
        "items": {
            "type": "string",
            "pattern": rf"^\s*({names})\s*(<=|>=)\s*[-+.\deE]+\s*$",
        },
        "description": "Bounds, such as `gflops <= 0.31`; a trial that breaks one is infeasible.",
    }
    forms = _Forms(schema["$defs"])
    schema["allOf"] = [
        _of_runner(name, runners[name], understood(runners[name]), forms)
        for name in sorted(runners)
    ]
    return schema


class _Forms:
    """Forms of parameters, each once, however many parameters have it."""

    def __init__(self, definitions: Schema) -> None:
        self._definitions, self._known = definitions, dict[str, str]()

    def of(self, info: ParameterInfo) -> Schema:
        """A reference to the form of a parameter."""
        form = parameter_schema(*_values(info))
        name = self._known.setdefault(json.dumps(form), f"form{len(self._known)}")
        self._definitions[name] = form
        return {"$ref": f"#/$defs/{name}"}


def _of_runner(
    name: str, runner: type[Runner], known: Mapping[str, ParameterInfo], forms: _Forms
) -> Schema:
    """What a space may hold if the spec names a runner."""
    named = {"properties": {"runner": {"const": name}}, "required": ["runner"]}
    parameters = {
        parameter: {
            "description": f"{info.help} (default {json.dumps(info.default)}; {info.allowed()})",
            "allOf": [forms.of(info)],
        }
        for parameter, info in known.items()
    }
    space = {
        "description": runner.description,
        "properties": parameters,
        "additionalProperties": False,
    }
    return {
        "if": {"properties": {"study": named}, "required": ["study"]},
        "then": {"properties": {"space": space}},
    }


def _values(info: ParameterInfo) -> tuple[Schema, Schema | None]:
    """Of a value of a parameter, and of the ends of a range; None where it is no number."""
    if info.choices is not None:
        numbers = [value for value in info.choices
                   if isinstance(value, (int, float)) and not isinstance(value, bool)]  # fmt: skip
        ends = {"minimum": min(numbers), "maximum": max(numbers)} if numbers else None
        return {"enum": list(info.choices)}, ends
    if info.text:
        return {"type": "string"}, None
    whole = info.whole or isinstance(info.default, int)
    kind = "integer" if whole else "number"
    limits = {"minimum": info.low, "maximum": info.high}
    return {"type": [kind, "null"] if info.default is None else kind, **limits}, limits
