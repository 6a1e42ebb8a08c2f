"""Search spaces as data: a list is a choice, ``{int|float: [low, high]}`` a range, a scalar fixed.

A parameter with ``when`` exists only in configurations where the parameters named there have one
of the listed values. Spaces convert to and from the plain mappings that stand in YAML and JSON.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, Protocol

from autosearch.errors import ConfigError, did_you_mean

Value = bool | int | float | str | None
Params = dict[str, Value]

_FORMS = "a list of choices, a single value, or {int|float: [low, high], log, step, when}"
_KEYS = {"choice", "int", "float", "log", "step", "when"}
_MAX_ENUMERATED = 1_000_000
_MAX_ENTRIES = 1000
"""Of a list of choices and of a space: more cannot be searched, and would take long to check."""
_MAX_NUMBER = 2**53
"""Of whole numbers and of steps in a range, so that every value has a float of its own."""


class Suggester(Protocol):
    """The part of an Optuna trial that a space asks for values."""

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        """One of the choices."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """An integer in the closed range."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None, log: bool
    ) -> float:
        """A number in the closed range."""


@dataclass(frozen=True)
class Parameter:
    """One dimension of a space.

    Attributes:
        name: As in YAML, such as ``stage0.kernel_size``.
        kind: ``choice`` (unordered), ``int`` or ``float``.
        choices: The allowed values of a choice; one of them makes a constant.
        low: Lower end of a range, included.
        high: Upper end of a range, included.
        step: Grid of a range, or None for a continuous one.
        log: Whether a range is searched on a logarithmic scale.
        when: Parameter names and the values that make this parameter exist.
    """

    name: str
    kind: Literal["choice", "int", "float"]
    choices: tuple[Value, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    when: tuple[tuple[str, tuple[Value, ...]], ...] = ()

    def size(self) -> float:
        """Number of distinct values; infinity for a continuous range."""
        if self.kind == "choice":
            return len(self.choices)
        if self.step is None:
            return math.inf if self.high > self.low else 1
        return math.floor((self.high - self.low) / self.step + 1e-9) + 1

    def values(self) -> tuple[Value, ...]:
        """All values in order, or the two ends of a continuous range."""
        if self.kind == "choice":
            return self.choices
        if self.step is None:
            return (self.low, self.high)
        points = (self.low + self.step * i for i in range(int(self.size())))
        return tuple(int(point) if self.kind == "int" else point for point in points)

    def ends(self) -> tuple[Value, Value]:
        """The least and the greatest value of a range."""
        if self.step is None:
            return (self.low, self.high)
        last = self.low + self.step * (self.size() - 1)
        return (self.low, int(last) if self.kind == "int" else last)

    def contains(self, value: Value) -> bool:
        """Whether a value could be drawn."""
        if self.kind == "choice":
            return any(_same(value, choice) for choice in self.choices)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        if not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / (self.step or 1)
        return self.step is None or math.isclose(steps, round(steps), abs_tol=1e-9)

    def nearest(self, value: Value) -> Value:
        """The value that could be drawn and is nearest to a number; another than a number itself.

        Numbers are near by their ratio where all are positive, of two equally near the lower.
        """
        if self.contains(value) or isinstance(value, bool) or not isinstance(value, (int, float)):
            return value
        if self.kind != "choice":
            low, high = (float(end) for end in self.ends())  # type: ignore[arg-type]
            step = self.step or 0.0
            inside = min(max(float(value), low), high)
            point = low + round((inside - low) / step) * step if step else inside
            return int(point) if self.kind == "int" else point
        numbers = [
            one
            for one in self.choices
            if isinstance(one, (int, float)) and not isinstance(one, bool)
        ]
        if not numbers:
            return value
        if min(*numbers, value) > 0:
            return min(numbers, key=lambda one: (abs(math.log(one / value)), one))
        return min(numbers, key=lambda one: (abs(one - value), one))

    def active(self, params: Mapping[str, Value]) -> bool:
        """Whether the parameter exists beside the values already chosen."""
        return all(
            name in params and any(_same(params[name], value) for value in values)
            for name, values in self.when
        )

    def suggest(self, trial: Suggester) -> Value:
        """Draw a value from an Optuna trial."""
        if self.kind == "choice":
            return trial.suggest_categorical(self.name, list(self.choices))
        if self.kind == "int":
            return trial.suggest_int(
                self.name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log
            )
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)

    def to_plain(self) -> object:
        """The YAML form that `parse_parameter` reads back to an equal parameter."""
        if self.kind == "choice" and not self.when:
            return list(self.choices)
        plain: dict[str, object] = {}
        if self.kind == "choice":
            plain["choice"] = list(self.choices)
        elif self.kind == "int":
            plain["int"] = [int(self.low), int(self.high)]
            if self.step not in (None, 1):
                plain["step"] = int(self.step or 1)
        else:
            plain["float"] = [self.low, self.high]
            if self.step is not None:
                plain["step"] = self.step
        if self.log:
            plain["log"] = True
        if self.when:
            plain["when"] = {name: list(values) for name, values in self.when}
        return plain


@dataclass(frozen=True)
class Space:
    """Parameters in an order in which every condition comes after what it depends on."""

    parameters: tuple[Parameter, ...]

    @classmethod
    def parse(cls, plain: Mapping[str, object], key: str = "space") -> Space:
        """Build a space from its YAML mapping.

        Raises:
            ConfigError: A parameter has an unknown form, an empty range, or a condition that
                names an unknown parameter, an impossible value, or itself in a circle.
        """
        if not isinstance(plain, Mapping) or not plain:
            raise ConfigError(key, plain, "a mapping of at least one parameter")
        if len(plain) > _MAX_ENTRIES:
            raise ConfigError(key, f"{len(plain)} parameters", f"at most {_MAX_ENTRIES}")
        parameters = [parse_parameter(name, form, key) for name, form in plain.items()]
        by_name = {parameter.name: parameter for parameter in parameters}
        for parameter in parameters:
            _check_conditions(parameter, by_name, key)
        return cls(tuple(_in_order(parameters, key)))

    @property
    def conditional(self) -> bool:
        """Whether some parameter does not exist in every configuration."""
        return any(parameter.when for parameter in self.parameters)

    def suggest(self, trial: Suggester) -> Params:
        """Draw a configuration; parameters whose condition fails are left out."""
        params: Params = {}
        for parameter in self.parameters:
            if parameter.active(params):
                params[parameter.name] = parameter.suggest(trial)
        return params

    def size(self) -> float | None:
        """Number of distinct configurations, infinity if continuous, None if too many to count."""
        parents = {name for parameter in self.parameters for name, _ in parameter.when}
        if any(math.isinf(self[name].size()) for name in parents):
            return None
        if math.prod(self[name].size() for name in parents) > _MAX_ENUMERATED:
            return None
        total: float = 0
        for assignment in self._assignments(parents):
            free = (p for p in self.parameters if p.name not in parents and p.active(assignment))
            total += math.prod((parameter.size() for parameter in free), start=1)
        return total

    def to_plain(self) -> dict[str, object]:
        """The YAML mapping that `parse` reads back to an equal space."""
        return {parameter.name: parameter.to_plain() for parameter in self.parameters}

    def __getitem__(self, name: str) -> Parameter:
        return next(parameter for parameter in self.parameters if parameter.name == name)

    def _assignments(self, names: set[str]) -> Iterator[Params]:
        ordered = [parameter for parameter in self.parameters if parameter.name in names]
        seen = set()
        for values in product(*(parameter.values() for parameter in ordered)):
            params: Params = {}
            for parameter, value in zip(ordered, values, strict=True):
                if parameter.active(params):
                    params[parameter.name] = value
            if (identity := tuple(params.items())) not in seen:
                seen.add(identity)
                yield params


def parse_parameter(name: str, form: object, key: str = "space") -> Parameter:
    """Read one parameter from its YAML form.

    Raises:
        ConfigError: The form is none of those allowed, or its range is empty.
    """
    path = f"{key}.{name}"
    if not isinstance(name, str) or not name:
        raise ConfigError(path, name, "a parameter name")
    if isinstance(form, Mapping):
        return _parse_mapping(name, form, path)
    values = form if isinstance(form, list) else [form]
    return Parameter(name, "choice", choices=_choices(values, path))


def _parse_mapping(name: str, form: Mapping[object, object], path: str) -> Parameter:
    for option in form:
        if option not in _KEYS:
            raise ConfigError(path, option, f"{_FORMS}; {did_you_mean(str(option), _KEYS)}")
    kinds = [kind for kind in ("choice", "int", "float") if kind in form]
    if len(kinds) != 1:
        raise ConfigError(path, dict(form), _FORMS)
    when = _parse_when(form.get("when"), path)
    if kinds[0] == "choice":
        values = form["choice"]
        if not isinstance(values, list) or "log" in form or "step" in form:
            raise ConfigError(path, dict(form), "{choice: [values], when}")
        return Parameter(name, "choice", choices=_choices(values, path), when=when)
    return _parse_range(name, form, path, kinds[0] == "int", when)


def _parse_range(
    name: str,
    form: Mapping[object, object],
    path: str,
    integer: bool,
    when: tuple[tuple[str, tuple[Value, ...]], ...],
) -> Parameter:
    kind: Literal["int", "float"] = "int" if integer else "float"
    ends, log, step = form[kind], form.get("log", False), form.get("step")
    noun = "whole numbers up to 2**53" if integer else "numbers"
    if not isinstance(ends, list) or len(ends) != 2:
        raise ConfigError(path, ends, f"[low, high] of two {noun}")
    low, high = (_number(end, integer) for end in ends)
    if low is None or high is None:
        raise ConfigError(path, ends, f"[low, high] of two {noun}")
    if low > high:
        raise ConfigError(path, ends, "a range that is not empty: low <= high")
    if not isinstance(log, bool):
        raise ConfigError(f"{path}.log", log, "true or false")
    if log and (low <= 0 or step is not None):
        raise ConfigError(path, dict(form), "low > 0 and no step on a log scale")
    grid = _number(step, integer)
    if step is not None and (grid is None or grid <= 0):
        raise ConfigError(f"{path}.step", step, f"a step > 0 among the {noun}")
    if grid is not None and (high - low) / grid > _MAX_NUMBER:
        raise ConfigError(f"{path}.step", step, "a step that the range holds fewer times")
    if integer and grid is None:
        grid = 1
    return Parameter(name, kind, low=low, high=high, step=grid, log=log, when=when)


def _parse_when(form: object, path: str) -> tuple[tuple[str, tuple[Value, ...]], ...]:
    if form is None:
        return ()
    if not isinstance(form, Mapping) or not form:
        raise ConfigError(f"{path}.when", form, "{other_parameter: [values]}")
    return tuple(
        (str(name), _choices(values if isinstance(values, list) else [values], f"{path}.when"))
        for name, values in form.items()
    )


def _choices(values: list[object], path: str) -> tuple[Value, ...]:
    if not 0 < len(values) <= _MAX_ENTRIES:
        allowed = f"at least one choice, and at most {_MAX_ENTRIES}"
        raise ConfigError(path, values, allowed)
    checked: list[Value] = []
    for value in values:
        if not (value is None or isinstance(value, (bool, int, float, str))):
            raise ConfigError(path, value, "choices that are null, true/false, numbers or text")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(path, value, "finite numbers")
        # Optuna finds a choice by equality, for which true is 1.
        if value in checked:
            raise ConfigError(path, values, "choices that differ from each other")
        checked.append(value)
    return tuple(checked)


def _check_conditions(parameter: Parameter, known: Mapping[str, Parameter], key: str) -> None:
    path = f"{key}.{parameter.name}.when"
    for name, values in parameter.when:
        if name not in known:
            allowed = f"a parameter of this space; {did_you_mean(name, known)}"
            raise ConfigError(path, name, allowed)
        for value in values:
            if not known[name].contains(value):
                raise ConfigError(path, value, f"a value that {name} can take")


def _in_order(parameters: Sequence[Parameter], key: str) -> Iterator[Parameter]:
    waiting, done = list(parameters), set[str]()
    while waiting:
        ready = next((p for p in waiting if all(name in done for name, _ in p.when)), None)
        if ready is None:
            names = ", ".join(parameter.name for parameter in waiting)
            raise ConfigError(
                f"{key}.{waiting[0].name}.when", names, "conditions without a circle"
            )
        waiting.remove(ready)
        done.add(ready.name)
        yield ready


def _number(value: object, integer: bool) -> float | None:
    """A finite number of the wanted kind, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if integer:
        return value if isinstance(value, int) and abs(value) <= _MAX_NUMBER else None
    # Half of the largest float, so that the difference of two is one as well.
    return float(value) if abs(value) <= sys.float_info.max / 2 else None


def _same(left: object, right: object) -> bool:
    """Equality in which true is not 1, as in YAML."""
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def integer(params: Params, name: str) -> int:
    """A whole number; 0 for null."""
    return int(params[name] or 0)


def number(params: Params, name: str) -> float:
    """A number; 0 for null."""
    return float(params[name] or 0)


def choice(params: Params, name: str) -> Any:
    """One of several texts, which the parameter's own list has checked."""
    return params[name]
