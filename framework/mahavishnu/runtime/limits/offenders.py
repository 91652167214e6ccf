"""Who is refused most: a few counters for each limit, whoever and however many they are."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

from mahavishnu.protocols import Clock
from mahavishnu.units import MINUTE

_SIZE = 128
_PERIOD = 5 * MINUTE


class Offender(NamedTuple):
    """A client by its hash: how often it was refused at the least, and when last (ns)."""

    hash: str
    refused: int
    last: int


class Offenders:
    """The clients that one limit refuses most, in this period of five minutes and the one before.

    Misra and Gries, Finding repeated elements (1982): with 128 counters whoever had more than one of 129
    refusals in a period is among them, and `refused` is too low by `missed` at the most. One look into a dict
    for each refusal; what takes all counters at once, 128 refusals before it have paid for.
    """

    def __init__(self) -> None:
        self._young = _Period(0)
        self._old = _Period(0)

    def saw(self, client: str, now: int) -> None:
        """Count a refusal."""
        period = self._young
        if now >= period.since + _PERIOD:
            self._turn(now)
            period = self._young
        period.total += 1
        entry = period.clients.get(client)
        if entry is None:
            period.met(client, now)
        else:
            entry[0] += 1
            entry[1] = now

    def counts(self, now: int) -> tuple[int, int, dict[str, tuple[int, int]]]:
        """All refusals, by how much a count may be too low, and each client's count and last time."""
        self._turn(now)
        merged: dict[str, tuple[int, int]] = {}
        for period in (self._old, self._young):
            for client, (count, last) in period.clients.items():
                merged[client] = (merged.get(client, (0, 0))[0] + count, last)
        return self._old.total + self._young.total, self._old.missed + self._young.missed, merged

    def _turn(self, now: int) -> None:
        if now < self._young.since + _PERIOD:
            return
        late = now >= self._young.since + 2 * _PERIOD
        self._old = _Period(0) if late else self._young
        self._young = _Period(now)


class _Period:
    """The counters of one period: for each client how often, and when last."""

    __slots__ = ("clients", "missed", "since", "total")

    def __init__(self, since: int) -> None:
        self.clients: dict[str, list[int]] = {}
        self.missed = 0
        self.since = since
        self.total = 0

    def met(self, client: str, now: int) -> None:
        """Count somebody who has no counter: he gets one, if one is free."""
        if len(self.clients) < _SIZE:
            self.clients[client] = [1, now]
        else:
            self._lower()

    def _lower(self) -> None:
        """One off everybody, the new one included: who comes often stays."""
        self.missed += 1
        for entry in self.clients.values():
            entry[0] -= 1
        self.clients = {client: entry for client, entry in self.clients.items() if entry[0]}


class Refusals:
    """The offenders of all limits of a process, told apart by hashes whose key nobody knows."""

    def __init__(self, clock: Clock) -> None:
        self._now = clock.now
        self._key = secrets.token_bytes(32)
        self._limits: dict[str, Offenders] = {}

    def know(self, limits: Iterable[str]) -> None:
        """From now on count for these limits, and for no others."""
        self._limits = {name: self._limits.get(name) or Offenders() for name in limits}

    def saw(self, limit: str, client: str) -> None:
        """Count a refusal; what is no limit of the spec is nothing that is shown."""
        offenders = self._limits.get(limit)
        if offenders is not None:
            offenders.saw(client, self._now())

    def hash(self, client: str) -> str:
        """The name that a client has in this process."""
        said = client.encode("utf-8", "surrogatepass")
        return blake2b(said, digest_size=8, key=self._key).hexdigest()

    def top(self, limit: str, most: int) -> tuple[int, int, list[Offender]]:
        """All refusals of a limit, by how much a count may be too low, and those refused most often."""
        total, missed, clients = self._limits[limit].counts(self._now())
        first = sorted(clients.items(), key=lambda one: one[1], reverse=True)[:most]
        return total, missed, [Offender(self.hash(client), *seen) for client, seen in first]

    @property
    def limits(self) -> tuple[str, ...]:
        """The limits that are counted."""
        return tuple(self._limits)
