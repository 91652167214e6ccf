"""The arguments of a call as bytes, and back: what is kept until tomorrow must be the same then."""

from __future__ import annotations

import inspect
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import GenericAlias
from typing import Any, get_type_hints

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError


class Unreadable(Exception):
    """What was kept does not fit the function as it is now."""


class CallCodec:
    """Writes and reads the arguments of one function, each by its annotation, as pydantic does.

    Raises TypeError for a function of which some argument can never be written down.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.name: str = getattr(function, "__qualname__", type(function).__qualname__)
        if inspect.ismethod(function) or not hasattr(function, "__qualname__"):
            what = f"`{self.name}` holds more than its arguments, which cannot be written down"
            raise TypeError(f"{what}: use a function")
        self._signature = inspect.signature(function)
        hints = _hints(function)
        self._adapters = {
            name: self._adapter(parameter, hints.get(name, Any))
            for name, parameter in self._signature.parameters.items()
        }

    def wrap(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The arguments as JSON; raises TypeError when they would not be the same again."""
        arguments = self._signature.bind(*args, **kwargs).arguments
        try:
            said = {
                name: self._adapters[name].dump_python(value, mode="json", warnings="error")
                for name, value in arguments.items()
            }
            text = json.dumps(said, allow_nan=False, separators=(",", ":"))
            if self._values(json.loads(text)) == arguments:
                return text.encode()
        except (PydanticSerializationError, ValidationError, ValueError, TypeError):
            pass
        raise TypeError(f"the arguments of `{self.name}` cannot be written down and read again: {_ADVICE}")

    def unwrap(self, payload: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments again; raises Unreadable."""
        try:
            values = self._values(json.loads(payload))
            bound = inspect.BoundArguments(self._signature, OrderedDict(values))
            self._signature.bind(*bound.args, **bound.kwargs)
        except (ValueError, TypeError, KeyError, AttributeError) as fault:
            raise Unreadable(f"what was kept does not fit `{self.name}`: {type(fault).__name__}") from None
        return bound.args, bound.kwargs

    def _values(self, said: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._adapters[name].validate_python(value) for name, value in said.items()}

    def _adapter(self, parameter: inspect.Parameter, annotation: Any) -> TypeAdapter[Any]:
        if parameter.name in ("self", "cls") and annotation is Any:
            raise TypeError(
                f"`{self.name}` is a method, and its object cannot be written down: use a function"
            )
        try:
            return TypeAdapter(_many(parameter, annotation))
        except (PydanticSchemaGenerationError, PydanticUserError):
            what = f"argument `{parameter.name}` of `{self.name}` cannot be written down"
            raise TypeError(f"{what}: {_ADVICE}") from None


def _many(parameter: inspect.Parameter, annotation: Any) -> Any:
    """What `*args: int` and `**kwargs: int` are as a whole."""
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return GenericAlias(tuple, (annotation, ...))
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return GenericAlias(dict, (str, annotation))
    return annotation


_ADVICE = "take what JSON can say, or annotate it with a type that pydantic can read"


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations; none where they name what is not there at run time."""
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}
