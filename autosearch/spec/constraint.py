"""Bounds on measured values."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from autosearch.errors import ConfigError

_CONSTRAINT = re.compile(r"\s*(\w+)\s*(<=|>=)\s*([-+.\deE]+)\s*")


class Constraint(BaseModel):
    """A bound on a measured value, written ``gflops <= 0.31``."""

    model_config = ConfigDict(frozen=True)

    name: str
    relation: Literal["<=", ">="]
    bound: float = Field(allow_inf_nan=False)

    @classmethod
    def parse(cls, text: object, key: str = "constraints") -> Constraint:
        """Read ``name <= number`` or ``name >= number``; errors name the key."""
        found = _CONSTRAINT.fullmatch(text) if isinstance(text, str) else None
        try:
            if found is None:
                raise ValueError
            return cls.model_validate(
                {"name": found[1], "relation": found[2], "bound": float(found[3])}
            )
        except ValueError:
            raise ConfigError(key, text, 'text such as "gflops <= 0.31"') from None

    def violation(self, value: float) -> float:
        """By how much a value breaks the bound: positive if it does, else zero or less."""
        return value - self.bound if self.relation == "<=" else self.bound - value

    def __str__(self) -> str:
        return f"{self.name} {self.relation} {self.bound!r}"
