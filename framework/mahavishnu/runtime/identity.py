"""Who is asking: the nearest address that no trusted proxy vouches away, and the user that the app has verified."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from mahavishnu.policy import Scope

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Identify = Callable[[Scope], str | None]

_LONGEST_CHAIN = 50
# As `ip_address` writes it: what it would take apart and put together again, for every request.
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_BYTE}(?:\.{_BYTE}){{3}}")
UNKNOWN = "unknown"


class Identity:
    """Names the client of a request; nothing a client can write into a header changes its own name."""

    def __init__(self, trusted: Sequence[Network], identify: Identify | None = None) -> None:
        self._trusted = tuple(trusted)
        self._identify = identify or _authenticated

    def address(self, scope: Scope) -> str:
        """The client's address: the socket's peer or, behind trusted proxies, the last hop they did not add."""
        client = scope.get("client")
        if client and not self._trusted and _IPV4.fullmatch(client[0]):
            return str(client[0])
        peer = _parsed(client[0]) if client else None
        if peer is None:
            return UNKNOWN
        return str(self._walk(peer, _hops(scope)) if self._trusts(peer) else peer)

    def proxied(self, scope: Scope) -> bool:
        """Whether the request was handed over by a trusted proxy."""
        client = scope.get("client")
        peer = _parsed(client[0]) if client and self._trusted else None
        return peer is not None and self._trusts(peer)

    def user(self, scope: Scope) -> str | None:
        """The user that the app's own authentication, or the hook, has accepted; None for everybody else."""
        return self._identify(scope)

    def _walk(self, peer: Address, hops: Sequence[str]) -> Address:
        nearest = peer
        for hop in reversed(hops):
            address = _parsed(hop)
            if address is None:
                return nearest
            nearest = address
            if not self._trusts(address):
                return nearest
        return nearest

    def _trusts(self, address: Address) -> bool:
        return any(address.version == net.version and address in net for net in self._trusted)


@lru_cache(maxsize=8192)
def _network(address: str) -> str:
    return f"{IPv6Address(int(IPv6Address(address)) >> 64 << 64)}/64"


def bucket(address: str) -> str:
    """The key that counts an address: itself for IPv4, its /64 for IPv6, which one client owns whole."""
    if ":" not in address:
        return address
    return _network(address)


def _hops(scope: Scope) -> Sequence[str]:
    values = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    hops = b",".join(values).decode("latin-1").split(",") if values else []
    return hops[-_LONGEST_CHAIN:]


@lru_cache(maxsize=8192)
def _parsed(text: str) -> Address | None:
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


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
