"""What sections of the file are made of: their kind, and how values in them are written."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

from gateway.settings.units import (
    ADDRESS,
    ADDRESS_HINT,
    DURATION,
    DURATION_HINT,
    SIZE,
    SIZE_HINT,
    format_address,
    format_duration,
    format_size,
    parse_address,
    parse_duration,
    parse_size,
)

T = TypeVar("T", int, float)


def written(pattern: str, description: str, example: str) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "type": "string",
            "pattern": f"^{pattern}$",
            "description": description,
            "examples": [example],
        }
    )


def above_zero(value: T) -> T:
    if not value > 0:
        raise ValueError("must be more than 0")
    return value


def one_or_more(value: object) -> object:
    """``audience: scoring`` is short for ``audience: [scoring]``."""
    if not isinstance(value, str | list):
        raise ValueError("expected a text or a list of texts")
    return [value] if isinstance(value, str) else value


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration),
    written(DURATION, DURATION_HINT, "60s"),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size),
    written(SIZE, SIZE_HINT, "64KiB"),
]
Address = Annotated[
    tuple[str, int],
    BeforeValidator(parse_address),
    PlainSerializer(format_address),
    written(ADDRESS, ADDRESS_HINT, "127.0.0.1:8080"),
]
# Of these, nothing at all would mean that nothing can ever work.
SomeTime = Annotated[Duration, AfterValidator(above_zero)]
SomeSize = Annotated[Size, AfterValidator(above_zero)]
Texts = Annotated[
    list[str],
    Field(min_length=1),
    BeforeValidator(one_or_more),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ]
        }
    ),
]


class Section(BaseModel):
    """One mapping of the file: unknown keys are mistakes, values are not guessed at."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
