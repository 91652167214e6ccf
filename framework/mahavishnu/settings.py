"""What a mapping of the spec is, and the kinds of values that stand in several of them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, StringConstraints
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from mahavishnu.ground.secret_refs import REFERENCE

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$", max_length=40)]
SecretRef = Annotated[str, StringConstraints(pattern=rf"^{REFERENCE}$")]
"""`${NAME}`: a secret declared in `secrets`; its value is never written anywhere."""
Count = Annotated[int, Field(strict=True, gt=0, le=1_000_000_000)]
BudgetHeader = Annotated[
    str,
    StringConstraints(pattern=r"^([a-z0-9]+-)*timeout(-ms)?$", max_length=64),
    Field(examples=["grpc-timeout", "x-request-timeout-ms", "request-timeout"]),
]
"""A header that says how much time is left; its name tells its form, see `runtime.budget`."""


class Settings(BaseModel):
    """A mapping of the spec: frozen, and every unknown key is an error.

    `later` names words of the format that this version does not carry out: the loader refuses them by name.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_default=False,
        defer_build=True,
    )
    later: ClassVar[frozenset[str]] = frozenset()


class Keyed(Settings):
    """One of several things that a key of the spec may hold, told from the others by the key it has within."""

    keyword: ClassVar[str] = ""


def exactly(kind: type) -> BeforeValidator:
    """A validator that lets only this very type through, where pydantic would convert: `true` is not 1."""

    def refuse(value: object) -> object:
        if type(value) is not kind and isinstance(value, str | int | float):
            raise PydanticCustomError("kind", "not of this kind")
        return value

    return BeforeValidator(refuse)


def listed(value: object) -> object:
    """One word where several may stand, as a list of it."""
    return (value,) if isinstance(value, str) else value


class OneOf:
    """A field that takes one of several kinds, chosen by which of their keywords is present."""

    def __init__(self, *kinds: type[Keyed]) -> None:
        self.kinds = {kind.keyword: kind for kind in kinds}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {f"~{keyword}": handler.generate_schema(kind) for keyword, kind in self.kinds.items()}
        return core_schema.tagged_union_schema(
            choices,
            self._choose,
            custom_error_type="one_of",
            custom_error_message="{words}",
            custom_error_context={"words": " | ".join(self.kinds)},
        )

    def _choose(self, value: object) -> str | None:
        if isinstance(value, Keyed):
            return f"~{value.keyword}"
        said = [word for word in self.kinds if isinstance(value, dict) and word in value]
        return f"~{said[0]}" if len(said) == 1 else None
