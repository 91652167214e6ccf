"""What code of this process can make a kept call again, by dependency and operation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

from mahavishnu.runtime.dead_letters.letters import Letter

Handler = Callable[[Letter], Awaitable[object]]
"""Makes the call of a letter again; raises what the call raises, or Unreadable."""


class Unhandled(Exception):
    """What made such calls is not there any more, or not yet."""


HANDLERS: dict[tuple[str, str], Handler] = {}
_Said = ContextVar[list[str]]
_NOTHING = [""]
_KEY: _Said = ContextVar("mahavishnu_idempotency_key", default=_NOTHING)
_REDRIVEN: _Said = ContextVar("mahavishnu_redriven", default=_NOTHING)


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
    return _KEY.get()[0]


def keyed(key: str) -> AbstractContextManager[None]:
    """Inside, a call with this key is made."""
    return _saying(_KEY, key)


@contextmanager
def redriving(letter: Letter) -> Generator[None, None, None]:
    """Inside, the call of this letter is made again: with its key, and not kept once more when it fails."""
    with _saying(_REDRIVEN, letter.dependency), keyed(letter.key):
        yield


def redriven() -> str:
    """The dependency of which a letter is being made again here; empty where none is."""
    return _REDRIVEN.get()[0]


@contextmanager
def _saying(said: _Said, word: str) -> Generator[None, None, None]:
    """Inside, the word is said; a task that was begun there, and outlives it, hears when it is over."""
    cell = [word]
    token = said.set(cell)
    try:
        yield
    finally:
        cell[0] = ""
        said.reset(token)
