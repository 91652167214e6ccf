"""What the log says of a dependency that fails, and of its breaker: the first of each kind, and how many there were."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from typing import Any

from mahavishnu.events import BREAKER_OPENED, CALL_CUT, CALL_FAILED
from mahavishnu.protocols import Clock, Turn
from mahavishnu.runtime.calls.reasons import cut
from mahavishnu.units import MINUTE, SECOND

_KINDS = 16
"""So many kinds of failures are told apart at a time; whatever else there is counts as one more."""
_TURNS = 30
"""So many changes of a breaker are told of in a minute."""
_WAITING = 64
Tell = Callable[..., object]


def unheard(event: str, **facts: object) -> None:
    """There is no log."""


class Troubles:
    """Those of one dependency, under whichever spec; thread-safe.

    What is to be told waits until the event loop's turn is over, or else for `settle`: it is noted where a breaker is
    locked. Nothing is done for a call that succeeds.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self.tell: Tell = unheard
        """Writes a line of the log, of an event and facts."""
        self.due = False
        """Whether somebody has to `settle`, for no event loop will."""
        self._untold: deque[tuple[Context, str, dict[str, Any]]] = deque(maxlen=_WAITING)
        self._name = name
        self._now = clock.now
        self._last = ""
        """Why the last attempt failed that a breaker has taken for a failure."""
        self._kinds: dict[str, Sparing] = {}
        self._others = Sparing(1)
        self._cuts = Sparing(1)
        self._turns = Sparing(_TURNS)

    def failed(self, reason: str, now: int, *, blamed: bool) -> None:
        """An attempt has failed so; `blamed`: the breaker takes that for a failure, if there is one."""
        if blamed:
            self._last = reason
        held = self._kind(reason.partition(" after ")[0], now).spend(now)  # however long a timeout was
        if held is not None:
            self._note(CALL_FAILED, {"reason": reason, "held_back": held})

    def cut(self, had: int, now: int) -> None:
        """An attempt had so much time (ns), all that its request had left: that says nothing about the dependency."""
        held = self._cuts.spend(now)
        if held is not None:
            self._note(CALL_CUT, {"reason": cut(had), "held_back": held})

    def turned(self, turn: Turn) -> None:
        """The breaker has changed its state."""
        held = self._turns.spend(self._now())
        if held is not None:
            facts = _facts(turn, turn.reason or self._last)
            self._note(_TURNS_TO[turn.to], facts | ({"held_back": held} if held else {}))

    def settle(self) -> None:
        """Tell it now."""
        self.due = False
        while self._untold:
            try:
                context, event, facts = self._untold.popleft()
            except IndexError:  # another thread was quicker
                return
            context.run(self.tell, event, dependency=self._name, **facts)

    def _kind(self, kind: str, now: int) -> Sparing:
        # No lock: the garbage collector ends calls, too, at any moment. At worst two threads both tell of a first one.
        known = self._kinds.get(kind)
        if known is None:
            if len(self._kinds) >= _KINDS:
                self._kinds = {name: one for name, one in self._kinds.copy().items() if now < one.until}
            if len(self._kinds) >= _KINDS:
                return self._others
            known = self._kinds[kind] = Sparing(1)
        return known

    def _note(self, event: str, facts: dict[str, Any]) -> None:
        self._untold.append((copy_context(), event, facts))
        try:
            asyncio.get_running_loop().call_soon(self.settle, context=Context())
        except RuntimeError:
            self.due = True


class Sparing:
    """So many lines in a minute, which begins with the first one; the next one says how many were held back."""

    __slots__ = ("_held", "_left", "_most", "until")

    def __init__(self, most: int) -> None:
        self.until = self._left = self._held = 0
        self._most = most

    def spend(self, now: int) -> int | None:
        """How many were held back before this one; None: it is held back, too."""
        if now >= self.until:
            self.until, self._left = now + MINUTE, self._most
        if self._left <= 0:
            self._held += 1
            return None
        self._left -= 1
        held, self._held = self._held, 0
        return held


def _facts(turn: Turn, reason: str) -> dict[str, Any]:
    counted = {"calls": turn.calls, "failures": turn.failures, **({"slow": turn.slow} if turn.slow else {})}
    facts: dict[str, Any] = {"from": turn.left, "to": turn.to, **(counted if turn.calls else {})}
    if turn.to != "open":
        return facts
    opened: Mapping[str, object] = {
        "reason": reason or None,
        "open_for": None if turn.span is None else round(turn.span / SECOND, 3),
        "enforced": None if turn.enforced else False,
    }
    return {**facts, **{name: one for name, one in opened.items() if one is not None}}


_TURNS_TO = {"open": BREAKER_OPENED, "half_open": "breaker half open", "closed": "breaker closed"}
