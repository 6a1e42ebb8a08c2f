"""The section of a spec that says who proposes configurations."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, WithJsonSchema
from pydantic_core import PydanticCustomError

from autosearch.errors import ConfigError
from autosearch.spec.section import PathText, Section

SAMPLERS = ("tpe", "nsga2", "nsga3", "gp", "random")
"""Optuna's own."""

_HUB = re.compile(r"hub/(?:samplers/)?([A-Za-z0-9_-]+)(?::([A-Za-z_][A-Za-z0-9_]*))?")


def _known(name: str) -> str:
    if name in SAMPLERS or _HUB.fullmatch(name):
        return name
    listed = ", ".join(f"'{known}'" for known in SAMPLERS)
    raise PydanticCustomError(
        "sampler", f"Input should be {listed} or 'hub/PACKAGE' of OptunaHub, such as 'hub/hebo'"
    )


SamplerName = Annotated[
    str,
    AfterValidator(_known),
    WithJsonSchema(
        {"anyOf": [{"enum": list(SAMPLERS)}, {"type": "string", "pattern": f"^{_HUB.pattern}$"}]}
    ),
]
"""Of one of `SAMPLERS`, or ``hub/PACKAGE`` or ``hub/PACKAGE:Class`` of OptunaHub."""


class SamplerSpec(Section):
    """Who proposes configurations; options left null keep the sampler's own default.

    ``pessimism`` is how many standard errors are taken off a figure that has one before the
    sampler is told of it; what is stored and shown stays the figure itself. With ``noise: shrink``
    TPE takes figures for what their errors and those of similar configurations make likely.
    Samplers of OptunaHub take ``options``, the keywords of their class, and come from a
    ``registry``, a folder; null is where `optunahub` keeps what was fetched.
    """

    name: SamplerName = "tpe"
    multivariate: bool = True
    constant_liar: bool = True
    group: bool | None = None
    startup_trials: int = Field(10, ge=1, le=1_000_000)
    ei_candidates: int = Field(24, ge=1, le=100_000)
    pessimism: float = Field(0.0, ge=0, le=2, allow_inf_nan=False)
    noise: Literal["none", "shrink"] = "none"
    population_size: int = Field(50, ge=2, le=100_000)
    options: dict[str, JsonValue] = Field({})
    registry: PathText | None = None

    @property
    def package(self) -> tuple[str, str | None] | None:
        """Name of a package of OptunaHub, and of the class in it; None for Optuna's own."""
        found = _HUB.fullmatch(self.name)
        return None if found is None else (found[1], found[2])


def check_sampler(spec: SamplerSpec, conditional: bool) -> None:
    """Refuse keys that go with another sampler.

    Args:
        spec: What is asked for.
        conditional: Whether the space has conditions.

    Raises:
        ConfigError: Names the key, and what is allowed.
    """
    if conditional and spec.name == "gp":
        allowed = "tpe, nsga2, nsga3 or random, since the space has conditions"
        raise ConfigError("sampler.name", "gp", allowed)
    if spec.noise == "shrink" and spec.name != "tpe":
        raise ConfigError("sampler.noise", "shrink", f"none: {spec.name} is no tpe")
    if spec.package is not None:
        for key in ("seed", "constraints_func", "search_space"):
            if key in spec.options:
                allowed = "keywords without it: it follows from the rest of the spec"
                raise ConfigError("sampler.options", key, allowed)
        return
    for key, value in (("options", spec.options or None), ("registry", spec.registry)):
        if value is not None:
            allowed = f"nothing beside {spec.name}; it is of samplers 'hub/PACKAGE'"
            raise ConfigError(f"sampler.{key}", value, allowed)
