"""A blocking client of redis-py that stays with whichever server takes what is written to our keys."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis import Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,  # noqa: A004 - redis-py's, of which a timeout is none
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004 - ditto
)
from redis.retry import Retry

from mahavishnu.runtime.redis.address import address, options
from mahavishnu.runtime.redis.nodes import HOPS, Nodes
from mahavishnu.runtime.redis.reasons import LOST, OF_THE_SERVER, SILENT, SLOW, name_of, reason, words_of

FAULTS = (RedisError, OSError)
"""What a blocking client raises."""
REFUSED = ResponseError
"""What it raises of those where the server has answered."""
_HUNG_UP = {LOST, os.strerror(errno.ECONNRESET), os.strerror(errno.EPIPE)}
"""What is seen of one and the same end depends on who was quicker."""
_PATIENCE = 2.0  # seconds that it waits for an answer
# The server's own words, which redis-py takes off; not all of its versions keep them elsewhere.
_NAMES: dict[type[Exception], str] = {
    AuthenticationError: "NOAUTH",
    BusyLoadingError: "LOADING",
    ClusterDownError: "CLUSTERDOWN",
    MasterDownError: "MASTERDOWN",
    MovedError: "MOVED",
    NoPermissionError: "NOPERM",
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
}


class Blocking:
    """For a thread of its own; it connects with its first call.

    In a cluster the node that MOVED names is asked from then on. A server that cannot be asked any more, or takes
    nothing, like one that has become a replica, is left for the next one: the URL's name may lead to another by now.
    """

    def __init__(self, url: str) -> None:
        """Raises as `address`."""
        self._nodes = Nodes(address(url))
        patience = {"socket_timeout": _PATIENCE, "socket_connect_timeout": _PATIENCE}
        once = Retry(NoBackoff(), 0)  # `ask` tries again, where the next server is
        self._options: dict[str, Any] = {**patience, **options(url), "retry": once}
        self.server: Any = self._client()
        """The client of the server at work."""
        self._knows = False

    def ask(self, question: Callable[[Any], Any]) -> Any:
        """The answer to what is asked of a client, where need be of another server than before; raises FAULTS."""
        try:
            return self._followed(question)
        except FAULTS as fault:  # also over a connection that the server has closed meanwhile
            if not _of_the_server(fault):
                raise
            self._turn()
        try:
            return self._followed(question)
        except FAULTS as fault:
            if _of_the_server(fault):
                self._turn()
            raise

    def words(self, fault: Exception) -> str:
        """What it has raised as people are told of it: without addresses and secrets."""
        said = _said(fault)
        if said is not None:
            return words_of(said, self._nodes.at.login)
        cause = _cause(fault)
        return SILENT if cause in _HUNG_UP and not self._knows else cause

    def close(self) -> None:
        """Let go of every connection."""
        self.server.connection_pool.disconnect()

    def _followed(self, question: Callable[[Any], Any]) -> Any:
        for _ in range(HOPS):
            try:
                answer = question(self.server)
            except MovedError as moved:
                if not self._nodes.moved(str(moved)):
                    raise
                self._connect()
            else:
                self._answered()
                return answer
        return question(self.server)

    def _answered(self) -> None:
        """Remember who has; of a new one ask what else there is, should it be lost."""
        if not self._knows:
            self._knows = True
            self._nodes.answered()
            with suppress(*FAULTS):
                self._nodes.learn(self.server.execute_command("CLUSTER", "SLOTS"))

    def _turn(self) -> None:
        self._nodes.failed()
        self._connect()

    def _connect(self) -> None:
        """Ask the node that is to be asked now, whose name is looked up anew."""
        self.close()
        self.server, self._knows = self._client(), False

    def _client(self) -> Any:
        at = self._nodes.at
        kind: Any = SSLConnection if at.tls else Connection
        where: dict[str, Any] = {"host": at.host, "port": at.port}
        if at.path is not None:
            kind, where = UnixDomainSocketConnection, {"path": at.path}
        return Redis(connection_pool=ConnectionPool(connection_class=kind, **where, **self._options))


def _of_the_server(fault: Exception) -> bool:
    """Whether it is nothing that the question has done."""
    said = _said(fault)
    return said is None or name_of(said) in OF_THE_SERVER


def _said(fault: Exception) -> str | None:
    """An error of the server as it has said it; None where it has said nothing."""
    name = getattr(fault, "status_code", None) or _NAMES.get(type(fault))
    if name is not None:
        return f"{name} {fault}"
    if not isinstance(fault, ResponseError):
        return None
    said = str(fault)
    return said if name_of(said).isupper() else f"ERR {said}"


def _cause(fault: Exception) -> str:
    """Why nothing was said."""
    if isinstance(fault, OSError):
        return reason(fault)
    if isinstance(fault.__context__, OSError):
        return reason(fault.__context__)
    if isinstance(fault, TimeoutError):
        return SLOW
    return LOST if isinstance(fault, ConnectionError) else type(fault).__name__
