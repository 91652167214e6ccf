"""Who is asking: the nearest address that no trusted proxy vouches away, and whom the app has verified."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv6Address
from socket import AF_INET, inet_pton
from typing import Any, NamedTuple

from mahavishnu.ground.addresses import Address, Network, canonical
from mahavishnu.ground.functions import is_async
from mahavishnu.protocols import Scope
from mahavishnu.runtime.keys import Caller, Headers, Principal
from mahavishnu.runtime.requests.forwarding import (
    LONGEST_NODE,
    SECURE,
    Header,
    address_of,
    is_hidden,
    nearest_proto,
    nodes_of,
    protos,
)

Identify = Callable[[Scope], str | Principal | None]

UNKNOWN = "unknown"
_blank = object.__new__
_log = logging.getLogger("mahavishnu")
# Verdicts kept, of peers and of what proxies say: each a few hundred bytes.
_KEPT = 16_384


class _Hop(NamedTuple):
    """A node of the way a request came: its address (empty: it names none), and whether it may speak for others.

    `caller` is who asks if nothing more is known of him.
    """

    address: str
    caller: Caller
    trusted: bool = False
    hidden: bool = False


_NOBODY = _Hop(UNKNOWN, Caller(UNKNOWN))
_BROKEN = _Hop("", Caller(""))
_HIDDEN = _Hop("", Caller(""), hidden=True)
_SOCKET = _Hop(UNKNOWN, Caller(UNKNOWN), trusted=True)


class Identity:
    """Names the caller of a request; nothing a client can write into a header changes its own name.

    Args:
        trusted: the networks of the proxies that are believed; of what they say only `forwarded` is read.
        identify: the app's hook; by default whom Starlette's authentication has accepted.
        forwarded: the one header in which these proxies tell whom they speak for; X-Forwarded-Proto belongs to
            X-Forwarded-For.
        report: told of an exception in the hook, whose request then counts as nobody's but its address'.
        unix: whether the proxy at the server's own Unix socket is believed; else `shared` is told, once, that all
            who come through it are one.

    Raises TypeError for a hook that would have to be awaited.
    """

    def __init__(
        self,
        trusted: Sequence[Network] = (),
        identify: Identify | None = None,
        forwarded: Header = "x-forwarded-for",
        report: Callable[[Exception], object] | None = None,
        *,
        unix: bool = False,
        shared: Callable[[], object] | None = None,
    ) -> None:
        if identify is not None and is_async(identify):
            raise TypeError(
                "`identify` is a plain function: what must be awaited belongs into an authentication outside"
            )
        self._trusted = tuple(canonical(one) for one in trusted)
        self._identify = identify or _authenticated
        self._asks = identify is not None
        self._report = report or _warn
        self._unix = unix
        self._shared = shared
        self._trusted_four = [
            (int(one.network_address), int(one.netmask)) for one in self._trusted if one.version == 4
        ]
        self._header = forwarded.encode("ascii")
        self._nodes = nodes_of(forwarded)
        self._apart = b"x-forwarded-proto" if forwarded == "x-forwarded-for" else None
        self._peer = lru_cache(_KEPT)(self._judged_peer)
        self._judge = lru_cache(_KEPT)(self._judged)
        self._way = lru_cache(_KEPT)(self._walked)

    def caller(self, scope: Scope) -> Caller:
        """Everything a limit can count by."""
        client = scope.get("client")
        principal = self._principal(scope) if self._asks or "user" in scope else None
        if client and not self._trusted and ":" not in (address := client[0]):
            try:  # of a crowd hardly one is among the verdicts kept, and a good address of IPv4 needs none
                inet_pton(AF_INET, address)
                if principal is not None:
                    return Caller(address, principal)
                caller = _blank(Caller)  # nearly always, in half of the time that `Caller(…)` takes
                caller.address = caller.client = address
                caller.principal = caller.believed = None
                return caller
            except (OSError, ValueError):
                pass
        hop = self._peer(client[0]) if client else self._nameless(scope)
        if not hop.trusted:
            return hop.caller if principal is None else Caller(hop.caller.address, principal)
        headers: Headers = scope["headers"]
        return Caller(self._client(hop, headers).caller.address, principal, headers)

    def by_now(self, caller: Caller, scope: Scope) -> Caller:
        """The same caller as whom the app has verified since he came: its authentication may be inside."""
        principal = self._principal(scope)
        return Caller(caller.address, principal, caller.believed)

    def address(self, scope: Scope) -> str:
        """The client's address: the socket's peer or, behind trusted proxies, the last hop they did not add."""
        client = scope.get("client")
        hop = self._peer(client[0]) if client else self._nameless(scope)
        return (self._client(hop, scope["headers"]) if hop.trusted else hop).address

    def proxied(self, scope: Scope) -> bool:
        """Whether the request was handed over by a trusted proxy."""
        client = scope.get("client")
        return (self._peer(client[0]) if client else self._nameless(scope)).trusted

    def secure(self, scope: Scope) -> bool | None:
        """Whether the client came by TLS, as the trusted proxy says that hands his request over; None: it does not."""
        wanted = self._apart or self._header
        lines = [value for name, value in scope["headers"] if name == wanted]
        if lines and self._apart:
            return SECURE.get(nearest_proto(lines))
        return self._walked_secure(lines) if lines else None

    def user(self, scope: Scope) -> str | None:
        """The user that the app's own authentication, or the hook, has accepted; None for everybody else."""
        principal = self._principal(scope)
        return principal.user or None if principal else None

    def _nameless(self, scope: Scope) -> _Hop:
        """Who comes without an address: by a Unix socket, of which a server says no port.

        At a port it is one whose connection is gone already: if he was believed, anybody could be somebody else so.
        """
        server = scope.get("server")
        if server and server[1] is not None:
            return _NOBODY
        if self._unix:
            return _SOCKET
        told, self._shared = self._shared, None
        if told is not None:
            told()
        return _NOBODY

    def _principal(self, scope: Scope) -> Principal | None:
        try:
            said = self._identify(scope)
            return said if said is None or isinstance(said, Principal) else Principal(user=said)
        except Exception as fault:  # noqa: BLE001  whatever the app's hook raises: nobody is verified
            self._report(fault)
            return None

    def _client(self, peer: _Hop, headers: Headers) -> _Hop:
        lines = [value for name, value in headers if name == self._header]
        if len(lines) == 1 and len(lines[0]) <= LONGEST_NODE:
            return self._way(peer, lines[0])
        return self._walked(peer, *lines) if lines else peer

    def _walked(self, peer: _Hop, *lines: bytes) -> _Hop:
        """From the peer to the left, as long as a trusted proxy speaks.

        Who does not tell is counted as the proxy that asked him; when what stands there cannot be read, or never
        ends, nothing of it is believed.
        """
        nearest = peer
        for node in self._nodes(lines):
            hop = self._judge(node) if len(node) <= LONGEST_NODE else _BROKEN
            if not hop.address:
                return nearest if hop.hidden else peer
            nearest = hop
            if not hop.trusted:
                break
        return nearest

    def _walked_secure(self, lines: Sequence[bytes]) -> bool | None:
        """What is said of the furthest hop of which a trusted proxy says it: the client's, where all of them do."""
        said: bool | None = None
        for node, proto in zip(self._nodes(lines), protos(lines), strict=True):
            said = SECURE.get(proto, said)
            if len(node) > LONGEST_NODE or not self._judge(node).trusted:
                break
        return said

    def _judged_peer(self, peer: str) -> _Hop:
        hop = self._four(peer) or self._judged(peer.encode("utf-8", "replace"))
        return hop if hop.address else _NOBODY

    def _judged(self, node: bytes) -> _Hop:
        if (four := self._four(node.decode("latin-1"))) is not None:
            return four
        address = address_of(node)
        if address is None:
            return _HIDDEN if is_hidden(node) else _BROKEN
        trusted = any(address in one for one in self._trusted)
        return _Hop(str(address), Caller(_bucket(address)), trusted)

    def _four(self, text: str) -> _Hop | None:
        """The node of an IPv4 address, if the text is one as `IPv4Address` writes it, which takes many times as long.

        Of the addresses of a crowd, hardly one is still among the verdicts kept.
        """
        if ":" in text:
            return None
        try:
            packed = inet_pton(AF_INET, text)
        except (OSError, ValueError):
            return None
        number = int.from_bytes(packed, "big") if self._trusted_four else 0
        trusted = any(number & mask == network for network, mask in self._trusted_four)
        return _Hop(text, Caller(text), trusted)


def bucket(address: str) -> str:
    """The key that counts an address: itself for IPv4, its /64 for IPv6, which one client owns whole."""
    return _bucket(IPv6Address(address)) if ":" in address else address


def _bucket(address: Address) -> str:
    if isinstance(address, IPv6Address):
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return str(address)


def _warn(fault: Exception) -> None:
    # Its words may hold what it was asked to verify.
    _log.warning("`identify` failed with %s: the request counts for its address", type(fault).__name__)


def _authenticated(scope: Scope) -> str | None:
    user: Any = scope.get("user")
    if user is None or not getattr(user, "is_authenticated", False):
        return None
    for name in ("identity", "username"):
        try:
            known = getattr(user, name)
        except (AttributeError, NotImplementedError):
            continue
        if known not in (None, ""):
            return str(known)
    return None
