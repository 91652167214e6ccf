"""Answers that are not the dependency's own, and how everybody is told: the handler, the client, the series."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from mahavishnu.runtime.context import Degraded, current_request

DEGRADED = b"mahavishnu-degraded"
"""The field of a response in which it says what of it is not as it should be (a list of RFC 9651)."""
_SEEN: ContextVar[tuple[dict[str, Degraded], ...]] = ContextVar("mahavishnu_degraded", default=())


def degraded() -> Mapping[str, Degraded]:
    """What stood in for dependencies of the request being served, by dependency; empty outside of one."""
    request = current_request()
    return {} if request is None else getattr(request, "degraded", {})


@contextmanager
def watching() -> Generator[Mapping[str, Degraded], None, None]:
    """What stood in for dependencies within the block, by dependency: for workers, and for parts of a request."""
    seen: dict[str, Degraded] = {}
    token = _SEEN.set((*_SEEN.get(), seen))
    try:
        yield seen
    finally:
        _SEEN.reset(token)


def mark(one: Degraded) -> None:
    """Tell whoever watches."""
    request = current_request()
    if request is not None:
        request.degrade(one)
    for seen in _SEEN.get():
        seen[one.dependency] = one


def said(ones: Iterable[Degraded]) -> bytes:
    """The value of the field: `payment;by=dead_letter, catalogue;by=stale_cache;age=12`."""
    return ", ".join(word(one) for one in ones).encode()


def word(one: Degraded) -> str:
    """One of its members."""
    age = "" if one.age is None else f";age={one.age}"
    return f"{one.dependency};by={one.fallback}{age}"
