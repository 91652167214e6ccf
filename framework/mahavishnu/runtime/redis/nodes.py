"""The nodes of a cluster that may be asked, and which of them is: a server that is no cluster has one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from mahavishnu.runtime.redis.address import Address

HOPS = 5
"""So often one try follows from node to node; who is sent on further is sent in a circle."""


class Nodes:
    """Begins with the seed, the address of the URL; `at` is the one to ask now.

    A try begins where the last good one ended. After each that fails the next node is begun with, in the order of the
    slots, where a primary's replicas come right behind it. The seed is never forgotten: its name may lead to others.
    """

    def __init__(self, seed: Address) -> None:
        self._seed = seed
        self.at: Address = seed
        self._begun: Address = seed
        self._known: tuple[Address, ...] = (seed,)

    def moved(self, said: str) -> bool:
        """Whether it names another node (`MOVED slot host:port`); that one is asked now."""
        host, _, port = said.rsplit(" ", maxsplit=1)[-1].rpartition(":")
        if not port.isdecimal():
            return False
        self.at = self.at.moved(host, int(port))
        return True

    def answered(self) -> None:
        """The one that is asked serves us."""
        self._begun = self.at
        if self.at not in self._known:
            self._known = (self._seed, self.at)

    def failed(self) -> None:
        """It does not: the next one is asked now."""
        place = self._known.index(self._begun) + 1 if self._begun in self._known else 0
        self.at = self._begun = self._known[place % len(self._known)]

    def learn(self, slots: object) -> None:
        """What the one that is asked says of its cluster (`CLUSTER SLOTS`); whatever is no answer teaches nothing."""
        with suppress(TypeError, ValueError, AttributeError):
            if named := [self.at.moved(host, port) for host, port in _named(slots)]:
                self._known = tuple(dict.fromkeys((self._seed, *named)))


def _named(slots: Any) -> Iterator[tuple[str, int]]:
    """The nodes of every range of slots; a name that is empty means the node that was asked, `?` none at all."""
    for _first, _last, *nodes in slots:
        for host, port, *_ in nodes:
            name = "" if host is None else host.decode()
            if name != "?":
                yield name, int(port)
