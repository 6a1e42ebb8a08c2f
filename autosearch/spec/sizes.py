"""Sizes of images as a spec gives them: exact ones, and such as keep the images' own shape."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_serializer,
)
from pydantic_core import PydanticCustomError

SMALLEST, LARGEST = 32, 16_384
"""Pixels a side."""

_Side = Annotated[int, Field(ge=SMALLEST, le=LARGEST)]


class OwnShape(BaseModel):
    """The shape that the images have, at a size.

    Attributes:
        short: Length of the shorter side in pixels.
        side: Side in pixels of the square that has as many pixels, and so costs as much.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    short: _Side | None = None
    side: _Side | None = None

    @model_serializer
    def _given(self) -> dict[str, int]:
        return {name: side for name, side in vars(self).items() if side is not None}


def _size(value: object) -> object:
    """Take ``[height, width]`` for a tuple, and refuse what is no size in words for people."""
    if isinstance(value, OwnShape):
        return value
    if isinstance(value, dict):
        given = {name: side for name, side in value.items() if side is not None}
        sides, fine = list(given.values()), len(given) == 1 and given.keys() <= {"short", "side"}
    else:
        sides = list(value) if isinstance(value, (list, tuple)) else [value]
        fine = len(sides) == 2 or not isinstance(value, (list, tuple))
    whole = all(type(side) is int and SMALLEST <= side <= LARGEST for side in sides)
    if not (fine and whole):
        raise PydanticCustomError(
            "image_size",
            "Input should be pixels, [height, width], {short: pixels} or {side: pixels}, "
            "each a whole number from {low} to {high}",
            {"low": SMALLEST, "high": LARGEST},
        )
    return tuple(sides) if isinstance(value, (list, tuple)) else value


_SIDE = {"type": "integer", "minimum": SMALLEST, "maximum": LARGEST}
_OWN = {
    "type": "object",
    "properties": {"short": _SIDE, "side": _SIDE},
    "additionalProperties": False,
    "minProperties": 1,
    "maxProperties": 1,
}
_BOTH = {"type": "array", "items": _SIDE, "minItems": 2, "maxItems": 2}

ImageSize = Annotated[
    int | tuple[int, int] | OwnShape,
    BeforeValidator(_size),
    WithJsonSchema({"anyOf": [_SIDE, _BOTH, _OWN]}),
]
"""Side of a square, ``(height, width)``, or the images' own shape; in pixels."""


def _evaluation(value: object) -> object:
    fine = value is None or value == "source"
    if not fine and not (type(value) is int and SMALLEST <= value <= LARGEST):
        raise PydanticCustomError(
            "evaluation_size",
            "Input should be null, source, or the shorter side in pixels, "
            "a whole number from {low} to {high}",
            {"low": SMALLEST, "high": LARGEST},
        )
    return value


EvaluationSize = Annotated[
    int | Literal["source"] | None,
    BeforeValidator(_evaluation),
    WithJsonSchema({"anyOf": [_SIDE, {"enum": ["source", None]}]}),
]
"""None for the size of the input, the shorter side in pixels, or that of the files."""


def _region(value: object) -> object:
    if value is None or (isinstance(value, str) and value and "\x00" not in value):
        return value
    if isinstance(value, (list, tuple)) and len(value) == 4 and all(type(v) is int for v in value):
        top, left, bottom, right = value
        if 0 <= top < bottom and 0 <= left < right:
            return tuple(value)
    raise PydanticCustomError(
        "region",
        "Input should be null, [top, left, bottom, right] in whole pixels, or the path of a mask",
    )


Region = Annotated[tuple[int, int, int, int] | str | None, BeforeValidator(_region)]
"""``(top, left, bottom, right)`` in pixels, the last two past the end; or a mask file."""


def _memory(value: object) -> object:
    if value == "auto":
        return value
    try:
        found = int(TypeAdapter(ByteSize).validate_python(value))
    except ValidationError:
        found = 0
    if isinstance(value, bool) or found <= 0:
        raise PydanticCustomError("memory", "Input should be auto, or a size such as 8GB")
    return found


MemorySize = Annotated[
    int | Literal["auto"],
    BeforeValidator(_memory),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "exclusiveMinimum": 0},
                {"type": "string", "pattern": r"^(auto|\s*[\d.]+\s*([kKmMgGtTpPeE]?i?[bB]?)\s*)$"},
            ]
        }
    ),
]
"""Bytes, read from ``8GB``, ``500MB`` or a number."""
