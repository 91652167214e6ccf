"""What code of this process can make a kept call again, by dependency and operation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

from mahavishnu.runtime.dead_letters.letters import Letter

Handler = Callable[[Letter], Awaitable[object]]
"""Makes the call of a letter again; raises what the call raises, or Unreadable."""


class Unhandled(Exception):
    """What made such calls is not there any more, or not yet."""


HANDLERS: dict[tuple[str, str], Handler] = {}
_KEY: ContextVar[str] = ContextVar("mahavishnu_idempotency_key", default="")
_REDRIVEN: ContextVar[str] = ContextVar("mahavishnu_redriven", default="")


def handle(dependency: str, operation: str, handler: Handler) -> None:
    """From now on letters of this operation are made again so."""
    HANDLERS[dependency, operation] = handler


def handler_of(letter: Letter) -> Handler | None:
    """How this letter is made again; None where no code of this process knows."""
    return HANDLERS.get((letter.dependency, letter.operation))


def idempotency_key() -> str:
    """The key of the call around, the same whenever it is made again: to be handed on to the dependency.

    Empty outside of calls of a dependency with `fallback: dead_letter`.
    """
    return _KEY.get()


@contextmanager
def keyed(key: str) -> Generator[None, None, None]:
    """Inside, a call with this key is made."""
    token = _KEY.set(key)
    try:
        yield
    finally:
        _KEY.reset(token)


@contextmanager
def redriving(letter: Letter) -> Generator[None, None, None]:
    """Inside, the call of this letter is made again: with its key, and not kept once more when it fails."""
    token = _REDRIVEN.set(letter.dependency)
    try:
        with keyed(letter.key):
            yield
    finally:
        _REDRIVEN.reset(token)


def redriven() -> str:
    """The dependency of which a letter is being made again here; empty where none is."""
    return _REDRIVEN.get()
