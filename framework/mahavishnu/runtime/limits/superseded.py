"""Rates that a reload has set aside: nobody is given back what he has used under them until they are refilled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from weakref import WeakMethod

from mahavishnu.protocols import BEFORE, Clock, Store
from mahavishnu.runtime.limits.rates import RateLimit


class Superseded:
    """`held` says until when (ns) each of them holds beside the rate that took its place.

    `changed` is called when it is refilled, and holds no longer.
    """

    def __init__(self, store: Store, clock: Clock, changed: Callable[[], None]) -> None:
        self.held: tuple[tuple[int, RateLimit], ...] = ()
        self._store = store
        self._clock = clock
        self._changed = changed
        self._left = False  # to another engine; only requests that began before are this one's

    def beside(self, rates: Sequence[RateLimit]) -> tuple[RateLimit, ...]:
        """The rates, and those that hold on for a while beside one that refuses."""
        refusing = {one.name for one in rates if one.enforced}
        return (*rates, *(one for _, one in self.held if one.name.rstrip(BEFORE) in refusing))

    def take_over(self, rates: Iterable[RateLimit], old: Iterable[RateLimit], before: Superseded) -> None:
        """Go on with these rates from where the `old` ones stand now, and those that were set aside `before`."""
        before._left = True
        now, rates = self._clock.now(), list(rates)
        aside = self._still_held(before, {one.name for one in rates}, now)
        replaced = {one.name: one for one in old}
        for rate in rates:
            one = replaced.get(rate.name)
            if one is not None and not self._alike(one, rate):
                self._set_aside(one, aside, now)
                self._resume(rate, aside)
            self._store.carry(rate)
        self.held = tuple(aside.values())
        self._await_refill()

    def _still_held(self, before: Superseded, names: set[str], now: int) -> dict[str, tuple[int, RateLimit]]:
        """Those set aside before, by name; the refilled, and those whose limit is gone, are forgotten."""
        held = dict[str, tuple[int, RateLimit]]()
        for until, one in before.held:
            if until > now and one.name.rstrip(BEFORE) in names:
                held[one.name] = until, one
            else:
                self._store.forget(one.name)
        return held

    def _alike(self, old: RateLimit, new: RateLimit) -> bool:
        """Whether a rate can go on from what was used of another: the same keys, in the same store.

        What is used in this process and what all use are kept in two places.
        """
        return old.per == new.per and not (self._store.waits and old.shared != new.shared)

    def _set_aside(self, rate: RateLimit, aside: dict[str, tuple[int, RateLimit]], now: int) -> None:
        """What was used under other keys cannot be told of these: until it is refilled, both rates hold."""
        name = rate.name + BEFORE
        while name in aside:
            name += BEFORE
        if not rate.enforced:
            self._store.forget(rate.name)
            return
        self._store.rename(rate.name, name)
        aside[name] = now + rate.algorithm.horizon, rate.set_aside(name)

    def _resume(self, rate: RateLimit, aside: dict[str, tuple[int, RateLimit]]) -> None:
        """One that counts by the same keys again goes on where it was."""
        for name, (_, one) in list(aside.items()):
            if name.rstrip(BEFORE) == rate.name and self._alike(one, rate):
                self._store.rename(name, rate.name)
                del aside[name]

    def _await_refill(self) -> None:
        """Set a timer for the one that ends first; without an event loop it holds until the next reload."""
        if self.held:
            first = min(until for until, _ in self.held)
            with suppress(RuntimeError):
                self._clock.call_later(first - self._clock.now(), _unless_forgotten(self._refilled))

    def _refilled(self) -> None:
        now = self._clock.now()
        for until, one in self.held:
            if until <= now and not self._left:  # else the name may be another rate's by now
                self._store.forget(one.name)
        self.held = tuple(held for held in self.held if held[0] > now)
        self._changed()
        self._await_refill()


def _unless_forgotten(method: Callable[[], None]) -> Callable[[], None]:
    """The same for a timer, which keeps nobody: a day may see many specs, and each would be held for a day."""
    held = WeakMethod(method)

    def call() -> None:
        method = held()
        if method is not None:
            method()

    return call
