"""Whether the server forgets keys when its memory is full: what it has evicted is forgiven."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mahavishnu.runtime.redis.link import GONE, LATE, Link


class ServerMemory:
    """Asks once in a process, where the server lets itself be asked; `evicts` hears the policy of one that does."""

    def __init__(self, evicts: Callable[[str], object]) -> None:
        self._evicts = evicts
        self._known = False

    def ask(self, link: Link) -> None:
        """Nobody waits for the answer."""
        if not self._known:
            link.call("INFO", "memory").add_done_callback(self._answered)

    def _answered(self, asked: asyncio.Future[Any]) -> None:
        answer = GONE if asked.cancelled() else asked.result()
        if self._known or answer in (GONE, LATE):
            return
        self._known = True
        policy = evicting(answer)
        if policy is not None:
            self._evicts(policy)


def evicting(answer: object) -> str | None:
    """The policy by which a server evicts, by what it says of its memory; None: it has no bound, or does not say."""
    if not isinstance(answer, bytes):
        return None
    lines = (line.partition(":") for line in answer.decode("utf-8", "replace").splitlines())
    said = {name: value for name, _, value in lines}
    policy = said.get("maxmemory_policy", "noeviction")
    return None if policy == "noeviction" or said.get("maxmemory", "0") == "0" else policy
