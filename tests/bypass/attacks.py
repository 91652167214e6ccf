"""Forty ways around a rate limit of five a minute, as data: who asks how, and what a limiter that falls for it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import Any

Scope = MutableMapping[str, Any]
LIMIT = 5
KNOCKS = 50
BODY = 1024
"""The largest body that is accepted, in bytes."""
ATTACKER, PROXY = "81.2.69.142", "10.0.0.1"
NETWORK = 0x2A001450_4009080B_00000000_00000000
FLOOD = -1
"""As many other clients as the arena makes of a flood."""


@dataclass(frozen=True, slots=True)
class Knock:
    """One request of the attacker."""

    path: str = "/items/1"
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    client: tuple[str, int] | None = (ATTACKER, 40_000)
    query: str = ""
    raw: str | None = None
    """The path as it was sent, where it was not sent as it is read."""
    body: tuple[bytes, ...] = (b"",)
    websocket: bool = False
    after: float = 0
    """Seconds that pass before, on every clock."""
    wall: float = 0
    """Seconds that only the wall clock is moved by before."""
    others: int = 0
    """How many other clients make one request each before."""


@dataclass(frozen=True, slots=True)
class Weakness:
    """What a limiter may get wrong; without arguments, nothing."""

    key: Callable[[Scope], object] | None = None
    """What names the bucket, instead of the canonical address."""
    unlimited: Callable[[Scope], bool] = field(default=lambda _: False)
    """Which requests it does not see."""
    forgives: frozenset[int] = frozenset()
    """Statuses of the application for which a request is not counted after all."""
    wall: bool = False
    """It reads the wall clock."""
    fixed: bool = False
    """Its window is a fixed one."""
    most: int | None = None
    """How many clients it remembers; then it forgets the oldest."""


@dataclass(frozen=True, slots=True)
class Attack:
    """Fifty requests of one client, of which no more than `allowed` may be let in."""

    name: str
    knock: Callable[[int], Knock]
    """The n-th request."""
    weakness: Weakness
    """What lets it through: a limiter that is sound but for this admits more."""
    allowed: int = LIMIT


def header(scope: Scope, name: str) -> str | None:
    """The value of a request header, all its lines joined."""
    lines = [value.decode("latin-1") for key, value in scope["headers"] if key == name.encode()]
    return ", ".join(lines) if lines else None


def _by(*names: str) -> Weakness:
    return Weakness(key=lambda scope: tuple(header(scope, name) for name in names))


def _in(part: str) -> Weakness:
    return Weakness(key=lambda scope: (scope["client"] and scope["client"][0], scope[part]))


def _blind(unlimited: Callable[[Scope], bool]) -> Weakness:
    return Weakness(unlimited=unlimited)


def _address(number: int) -> str:
    return f"93.184.{number}.34"


def _spoofing(name: str, value: Callable[[int], str]) -> Callable[[int], Knock]:
    return lambda n: Knock(headers=((name, value(n)),))


def _behind(value: Callable[[int], str], *more: Callable[[int], tuple[str, str]]) -> Callable[[int], Knock]:
    """Through the trusted proxy, which has added the attacker's address to what it was sent."""

    def knock(n: int) -> Knock:
        return Knock(
            client=(PROXY, 40_000), headers=(("x-forwarded-for", value(n)), *(one(n) for one in more))
        )

    return knock


def _from(address: Callable[[int], str]) -> Callable[[int], Knock]:
    return lambda n: Knock(client=(address(n), 40_000))


def _at(path: Callable[[int], str], **more: Any) -> Callable[[int], Knock]:
    return lambda n: Knock(path=path(n), **more)


def _by_method(*methods: str, path: str = "/items/1") -> Callable[[int], Knock]:
    return lambda n: Knock(method=methods[n % len(methods)], path=path)


def _mixed_case(n: int) -> str:
    letters = (one.upper() if n >> place & 1 else one for place, one in enumerate("items1"))
    return "/" + "".join(letters)


def _mapped(n: int) -> str:
    low = f"{int(ip_address(ATTACKER)):08x}"
    spelled = f"{low[:4]}:{low[4:]}"
    return (
        ATTACKER,
        f"::ffff:{ATTACKER}",
        f"::FFFF:{ATTACKER}",
        f"::ffff:{spelled}",
        f"0:0:0:0:0:ffff:{spelled}",
        f"0000::ffff:{spelled}",
    )[n % 6]


_HUNDRED = ", ".join(map(_address, range(100)))
_VENDORS = ("x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip", "fastly-client-ip")
_HOSTS = (
    "shop.example.com",
    "x/../y",
    "127.0.0.1:8000",
    "shop.example.com:80/items/1?",
    "[::1]",
    "a@b",
    "%2e",
)
_OVERRIDES = ("PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


def _vendors(n: int) -> Knock:
    return Knock(headers=tuple((name, _address(n)) for name in _VENDORS))


def _credentials(n: int) -> Knock:
    return Knock(
        headers=(
            ("authorization", f"Bearer {n:032x}"),
            ("cookie", f"session={n:032x}"),
            ("x-api-key", f"{n:032x}"),
            ("user-agent", f"Mozilla/{n}"),
        )
    )


def _ports_and_brackets(n: int) -> str:
    address = IPv6Address(NETWORK + 7)
    return (f"[{address}]:{40_000 + n}", f"[{address}]", f"{address}")[n % 3]


def _override(n: int) -> Knock:
    method = _OVERRIDES[n % 5]
    return Knock(
        method="POST",
        path="/upload",
        query=f"_method={method}",
        headers=(("x-http-method-override", method), ("x-method-override", method)),
    )


ATTACKS: tuple[Attack, ...] = (
    # --- names that anybody can write ------------------------------------------------------------------------
    Attack("X-Forwarded-For, a new address each", _spoofing("x-forwarded-for", _address), _by("x-forwarded-for")),
    Attack(
        "X-Forwarded-For, a hundred hops in two lines",
        lambda n: Knock(headers=(("x-forwarded-for", _address(n)), ("x-forwarded-for", _HUNDRED))),
        _by("x-forwarded-for"),
    ),
    Attack("X_Forwarded_For, with underscores", _spoofing("x_forwarded_for", _address), _by("x_forwarded_for")),
    Attack("Forwarded, a new `for` each", _spoofing("forwarded", lambda n: f"for={_address(n)}"), _by("forwarded")),
    Attack("X-Real-IP, X-Client-IP, CF-Connecting-IP …", _vendors, _by(*_VENDORS)),
    Attack("X-User-ID", _spoofing("x-user-id", str), _by("x-user-id")),
    Attack("tokens, cookies and keys that nobody checked", _credentials, _by("authorization", "cookie", "x-api-key")),
    Attack(
        "behind a proxy: a new leftmost address",
        _behind(lambda n: f"{_address(n)}, {ATTACKER}"),
        Weakness(key=lambda scope: (header(scope, "x-forwarded-for") or "").split(",")[0]),
    ),
    Attack("behind a proxy: ports and brackets", _behind(_ports_and_brackets), _by("x-forwarded-for")),
    Attack(
        "behind a proxy: digits of other scripts",
        _behind(lambda n: f"{chr(0x660 + n % 10)}.{n}.1.1, {ATTACKER}".encode().decode("latin-1")),
        _by("x-forwarded-for"),
    ),
    Attack(
        "behind a proxy: Forwarded beside its X-Forwarded-For",
        _behind(lambda n: ATTACKER, lambda n: ("forwarded", f"for={_address(n)}")),
        _by("forwarded"),
    ),
    # --- names that one client has many of ---------------------------------------------------------------------
    Attack("IPv6: all addresses of one /64", _from(lambda n: str(IPv6Address(NETWORK + n))), _in("client")),
    Attack("IPv4 written as IPv6", _from(_mapped), _in("client")),
    Attack("IPv6 zone ids", _from(lambda n: f"fe80::1%eth{n}"), _in("client")),
    Attack("a new connection for each request", lambda n: Knock(client=(ATTACKER, 40_000 + n)), _in("client")),
    Attack("no address at all", lambda n: Knock(client=None), _blind(lambda scope: scope["client"] is None)),
    # --- one resource, many spellings ----------------------------------------------------------------------------
    Attack("path parameters", _at(lambda n: f"/items/{n}"), _in("path")),
    Attack("query strings", lambda n: Knock(query=f"page={n}"), _in("query_string")),
    Attack("the case of the path", _at(_mixed_case), _in("path")),
    Attack("double slashes", _at(lambda n: "/" * (n + 1) + "items/1"), _in("path")),
    Attack(
        "dot segments, plain and as %2e",
        lambda n: Knock(path="/" + "./" * n + "items/1", raw="/" + ("%2e/" if n % 2 else "./") * n + "items/1"),
        _in("raw_path"),
    ),
    Attack("an encoded slash, %2f", lambda n: Knock(path=f"/items/1/{n}", raw=f"/items/1%2f{n}"), _in("raw_path")),
    Attack("path parameters after a semicolon", _at(lambda n: f"/items/1;x={n}"), _in("path")),
    Attack("trailing slashes, which are redirected", _at(lambda n: "/items/1/"), Weakness(forgives=frozenset({307}))),
    Attack("a mounted application", _at(lambda n: "/admin/panel"), _blind(lambda scope: "/admin" in scope["path"])),
    Attack("an included router", _at(lambda n: f"/api/{n}"), _blind(lambda scope: scope["path"].startswith("/api"))),
    Attack("Host tricks", lambda n: Knock(headers=(("host", _HOSTS[n % 7]),)), _by("host")),
    # --- methods and protocols -----------------------------------------------------------------------------------
    Attack("HEAD", _by_method("HEAD"), _blind(lambda scope: scope["method"] == "HEAD")),
    Attack("OPTIONS", _by_method("OPTIONS"), _blind(lambda scope: scope["method"] == "OPTIONS")),
    Attack("a scan for methods (405)", _by_method("PUT", "PATCH", "DELETE"), Weakness(forgives=frozenset({405}))),
    Attack("a scan for paths (404)", _at(lambda n: f"/secret{n}"), Weakness(forgives=frozenset({404}))),
    Attack("method override", _override, _by("x-http-method-override")),
    Attack("methods that nobody knows", lambda n: Knock(method=f"PWN{n}"), _in("method")),
    Attack("a method in lower case", _by_method("get"), _blind(lambda scope: scope["method"] == "get")),
    Attack(
        "websocket upgrades",
        lambda n: Knock(path="/ws", websocket=True),
        _blind(lambda scope: scope["type"] != "http"),
    ),
    Attack(
        "bodies that are too large, refused once the handler has run",
        lambda n: Knock(method="POST", path="/upload", body=(b"x" * BODY, b"x" * BODY)),
        Weakness(forgives=frozenset({413})),
    ),
    # --- time and memory -----------------------------------------------------------------------------------------
    Attack(
        "the wall clock is set on by 61 s, again and again",
        lambda n: Knock(wall=61 if n % 10 == 9 else 0),
        Weakness(wall=True),
    ),
    Attack(
        "a burst across the edge of two windows",
        lambda n: Knock(after={1: 59.5, 25: 1.0}.get(n, 0)),
        Weakness(fixed=True),
        allowed=LIMIT + 1,  # one of them a minute before the last
    ),
    Attack("1,100 other clients in between", lambda n: Knock(others=1_100 if n == 25 else 0), Weakness(most=1_024)),
    Attack("a flood of new clients in between", lambda n: Knock(others=FLOOD if n == 25 else 0), Weakness(most=2_000)),
)  # fmt: skip
NAMES: Mapping[str, Attack] = {one.name: one for one in ATTACKS}
