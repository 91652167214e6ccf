"""A setting of which each part is well written, and which cannot be all the same, in words."""

from __future__ import annotations

from pydantic_core import PydanticCustomError


def unfit(what: str, help: str) -> PydanticCustomError:
    """What a validator raises: what is wrong, and what to write instead; said to people word for word."""
    return PydanticCustomError("policy", "{what}", {"what": what, "help": help})
