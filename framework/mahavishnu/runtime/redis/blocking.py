"""A blocking client of redis-py that stays with whichever server takes what is written to our keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from redis import Connection, ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,  # noqa: A004 - redis-py's, of which a timeout is none
    MasterDownError,
    MovedError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from mahavishnu.runtime.redis.address import address, theirs

FAULTS = (RedisError, OSError)
"""What a blocking client raises."""
REFUSED = ResponseError
"""What it raises of those where the server has answered."""
_ELSEWHERE = (ReadOnlyError, BusyLoadingError, MasterDownError, ClusterDownError)
_PATIENCE = 2.0  # seconds that it waits for an answer
_HOPS = 5


class Blocking:
    """For a thread of its own; it connects with its first call.

    In a cluster the node that MOVED names is asked from then on. A server that takes nothing any more, like one that
    has become a replica, is left: the URL's name may lead to another one by now. `server` is the client of the one at
    work.
    """

    def __init__(self, url: str) -> None:
        """Raises as `address`."""
        address(url)
        said: dict[str, Any] = {"socket_timeout": _PATIENCE, "socket_connect_timeout": _PATIENCE}
        said["retry"] = Retry(NoBackoff(), 1)  # over a connection that the server has closed meanwhile
        self._seed: Any = cast("Any", Redis).from_url(theirs(url), **said)
        self.server: Any = self._seed

    def ask(self, question: Callable[[Any], Any]) -> Any:
        """The answer to what is asked of a client, where need be of another server than before; raises FAULTS."""
        try:
            return self._followed(question)
        except _ELSEWHERE:
            self._turn_back()
        except ConnectionError:
            if self.server is self._seed:  # which has been tried twice
                raise
            self._turn_back()
        return self._followed(question)

    def close(self) -> None:
        """Let go of every connection."""
        self._leave()
        self._seed.close()

    def _followed(self, question: Callable[[Any], Any]) -> Any:
        for _ in range(_HOPS):
            try:
                return question(self.server)
            except MovedError as moved:
                self._turn_to(cast("Any", moved).host, moved.port)
        return question(self.server)

    def _turn_to(self, host: str, port: int) -> None:
        """Ask that node from now on; an empty host is the one that said so."""
        pool = self.server.connection_pool
        known = {name: value for name, value in pool.connection_kwargs.items() if name != "path"}
        known |= {"host": host or known.get("host", "localhost"), "port": port}
        kind = Connection if "path" in pool.connection_kwargs else pool.connection_class
        self._leave()
        self.server = Redis(connection_pool=ConnectionPool(connection_class=kind, **known))

    def _turn_back(self) -> None:
        """Begin at the URL again, whose name is looked up anew."""
        self._leave()
        self.server = self._seed

    def _leave(self) -> None:
        self.server.connection_pool.disconnect()
