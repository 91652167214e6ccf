"""Whose bucket a request claims: the caller as the engine sees it, and its name in every dimension of a limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv6Address
from operator import attrgetter

Headers = Sequence[tuple[bytes, bytes]]
Part = Callable[["Caller"], str]
Key = tuple[Part, str]
"""The name of a bucket: what is read from the caller, and what is the same for all requests of a route or tool."""

# Longer values, and those with characters that could be mistaken for a separator, are hashed.
_LONGEST = 48
CLIENT: Part = attrgetter("client")
"""By whom most limits count: known by what reads it, and quicker to look at."""
NOBODY: Part = attrgetter("nobody")
"""Of a limit that is one for all."""
_SEPARATOR = "\0"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who the app has verified a request to be from: None, or an empty text, for what it has not.

    Raises TypeError for what is no text: a name like `True` would be everybody's.
    """

    user: str | None = None
    api_key: str | None = None
    session: str | None = None

    def __post_init__(self) -> None:
        for name in ("user", "api_key", "session"):
            value: object = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise TypeError(f"the `{name}` of a Principal is a text, not {type(value).__name__}")


class Caller:
    """Who asks.

    `address` is the bucket of the address (itself for IPv4, the /64 for IPv6), `client` the key of the verified
    user, else of the API key, else the address; `believed` the request's headers when a trusted proxy has handed
    it over, else None.
    """

    __slots__ = ("address", "believed", "client", "principal")

    nobody = ""

    def __init__(
        self, address: str, principal: Principal | None = None, believed: Headers | None = None
    ) -> None:
        self.address = address
        self.client = address if principal is None else _client(address, principal)
        self.principal = principal
        self.believed = believed

    @property
    def user(self) -> str | None:
        """The verified user."""
        return self.principal.user if self.principal else None

    @property
    def api_key(self) -> str | None:
        """The accepted API key."""
        return self.principal.api_key if self.principal else None

    @property
    def session(self) -> str | None:
        """The session that the app itself has issued."""
        return self.principal.session if self.principal else None


def key_of(per: tuple[str, ...], route: str = "", tool: str = "") -> Key:
    """What names a caller's bucket in a limit counted `per` these dimensions, on one route or for one tool.

    Kinds are marked and everything from outside is bounded: no two callers that differ share a key, and nobody
    can be named like an address. An address needs no mark: no other part begins with a hexadecimal digit.
    """
    fixed = {"route": route, "tool": tool, "global": ""}
    suffix = _SEPARATOR.join(fixed[one] for one in per if one in fixed and one != "global")
    parts = [one for one in per if one not in fixed]
    return _read(parts), f"{_SEPARATOR}{suffix}" if parts and suffix else suffix


def outside(mark: str, value: str) -> str:
    """A value from outside as part of a key: bounded, printable, and marked with its kind."""
    if len(value) <= _LONGEST and value.isprintable():
        return f"{mark}:{value}"
    return secret(mark, value)


def secret(mark: str, value: str) -> str:
    """As `outside`, for what must not stand in a store or a log: always its digest."""
    digest = blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16)
    return f"{mark}#{digest.hexdigest()}"


@lru_cache(maxsize=8192)
def network(address: str) -> str:
    """The wider tier of an address' bucket: the /48 of IPv6, which one site owns whole, the /24 of IPv4."""
    if ":" in address:
        return f"{IPv6Address(int(IPv6Address(address.partition('/')[0])) >> 80 << 80)}/48"
    return f"{address.rpartition('.')[0]}.0/24" if "." in address else address


def _client(address: str, principal: Principal) -> str:
    if principal.user:
        return outside("u", principal.user)
    return secret("k", principal.api_key) if principal.api_key else address


def _read(parts: Sequence[str]) -> Part:
    if not parts:
        return NOBODY
    if len(parts) == 1:
        return _part(parts[0])
    reads = [_part(one) for one in parts]
    return lambda caller: _SEPARATOR.join([read(caller) for read in reads])


def _part(dimension: str) -> Part:
    if dimension.startswith("header:"):
        return _header(dimension.removeprefix("header:").lower().encode("ascii"))
    return _PARTS[dimension]


def _header(name: bytes) -> Part:
    mark = f"h:{name.decode('ascii')}"

    def part(caller: Caller) -> str:
        """One line of the header, from a trusted proxy: of two, one may be the client's own."""
        lines = [value for said, value in caller.believed or () if said == name]
        value = lines[0].strip().decode("latin-1") if len(lines) == 1 else ""
        return outside(mark, value) if value else caller.address

    return part


def _network(caller: Caller) -> str:
    return network(caller.address)


def _user(caller: Caller) -> str:
    user = caller.user
    return outside("u", user) if user else caller.address


def _api_key(caller: Caller) -> str:
    key = caller.api_key
    return secret("k", key) if key else caller.address


def _session(caller: Caller) -> str:
    session = caller.session
    return secret("s", session) if session else caller.address


_PARTS: dict[str, Part] = {
    # What has an attribute of its own needs no function; and no part holds what the parts are joined with.
    "client": CLIENT,
    "ip": attrgetter("address"),
    "network": _network,
    "user": _user,
    "api_key": _api_key,
    "session": _session,
}
