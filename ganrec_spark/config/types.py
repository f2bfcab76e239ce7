"""What sections are made of: their base, and the types of values that several of them take."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
_T = TypeVar("_T")


def _several(given: object) -> object:
    if isinstance(given, list):
        return tuple(given)
    return () if given is None else (given,) if isinstance(given, str) else given


# One name, several, or null for none.
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_several)]
Choices = Annotated[tuple[_T, ...], Field(min_length=1)]


class Section(BaseModel):
    """Base of every section: immutable, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
