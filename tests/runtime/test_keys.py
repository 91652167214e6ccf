"""The name of a bucket: one for each caller, none that a caller can choose."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import pytest

from mahavishnu.runtime.keys import Caller, Principal, key_of, network

ADDRESS, SIX = "203.0.113.9", "2001:db8:1:2::/64"
ALL = Principal("ann", "key-1", "session-1")


def caller(address: str = ADDRESS, **more: Any) -> Caller:
    """Somebody who asks."""
    return Caller(address, **more)


def key(per: tuple[str, ...], asking: Caller) -> str:
    """The name of his bucket, on the route `/x`."""
    read, suffix = key_of(per, "/x")
    return read(asking) + suffix


@pytest.mark.parametrize(
    ("per", "expected"),
    [
        (("client",), "u:ann"),
        (("ip",), ADDRESS),
        (("network",), "203.0.113.0/24"),
        (("user",), "u:ann"),
        (("route",), "/x"),
        (("global",), ""),
        (("ip", "route"), f"{ADDRESS}\0/x"),
        (("client", "network"), "u:ann\x00203.0.113.0/24"),
        (("route", "global", "user"), "u:ann\0/x"),
    ],
)
def test_a_caller_has_one_name_in_each_dimension(per: tuple[str, ...], expected: str) -> None:
    """And in a combination the names side by side."""
    assert key(per, caller(principal=ALL)) == expected


def test_secrets_do_not_stand_in_a_key() -> None:
    """Keys are written into stores: of an API key and a session only the digest, the same everywhere."""
    for per, said in ((("api_key",), "key-1"), (("session",), "session-1")):
        found = key(per, caller(principal=ALL))
        assert said not in found
        assert len(found) == 34
        assert found == key(per, caller(address="198.51.100.1", principal=ALL))
    assert Principal(api_key="key-1") == Principal(api_key="key-1")


@pytest.mark.parametrize("dimension", ["client", "user", "api_key", "session", "header:x-tenant"])
@pytest.mark.parametrize("principal", [None, Principal(), Principal("", "", "")])
def test_who_is_not_verified_is_an_address(dimension: str, principal: Principal | None) -> None:
    """Nobody shares a bucket for those without a name."""
    assert key((dimension,), caller(principal=principal)) == ADDRESS


def test_a_client_is_its_user_then_its_key_then_its_address() -> None:
    """A session is no client: it is not kept from one visit to the next."""
    assert caller(principal=ALL).client == "u:ann"
    asking = caller(principal=Principal(api_key="a"))
    assert asking.client == key(("api_key",), asking)
    assert caller(principal=Principal(session="a")).client == ADDRESS


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (ADDRESS, "203.0.113.0/24"),
        (SIX, "2001:db8:1::/48"),
        ("::/64", "::/48"),
        ("unknown", "unknown"),
    ],
)
def test_the_wider_tier(address: str, expected: str) -> None:
    """A /48 of IPv6 and a /24 of IPv4; those without an address stay together."""
    assert network(address) == expected


NAMES = ("ann", "key-1", ADDRESS, SIX, "unknown", f"u:{ADDRESS}", "u:ann", "a\0b", "a", "b", "a\0", "", "#", "x" * 500,
         "x" * 499, "\ud800", "h:x-tenant:a", "203.0.113.0/24")  # fmt: skip
KINDS = ("user", "api_key", "session")


@pytest.mark.parametrize("per", [("client",), ("user",), ("api_key",), ("session",), ("user", "session"),
    ("session", "route", "api_key"), ("user", "api_key"), ("client", "network", "header:x-tenant")])  # fmt: skip
def test_no_two_callers_share_a_key(per: tuple[str, ...]) -> None:
    """Names made to look like addresses, like other kinds and like two names: each has its own bucket."""
    known: dict[str, tuple[str, ...]] = {}
    for address, first, second in product((ADDRESS, SIX, "unknown"), NAMES, NAMES):
        for one, other in combinations(KINDS, 2):
            asking = caller(address, principal=Principal(**{one: first, other: second}))
            who = tuple(_who(asking, dimension) for dimension in per)
            assert known.setdefault(key(per, asking), who) == who
            assert key(per, asking).count("\0") == len(per) - 1


def _who(asking: Caller, dimension: str) -> str:
    """Whom a dimension is about, in a form that nothing else can have."""
    user, api_key = ("user", asking.user), ("api_key", asking.api_key)
    kinds = {
        "client": (user, api_key),
        "user": (user,),
        "api_key": (api_key,),
        "session": (("session", asking.session),),
    }
    found = next((pair for pair in kinds.get(dimension, ()) if pair[1]), None)
    if found is None:
        said = {"route": "/x", "network": network(asking.address)}.get(dimension, asking.address)
        found = (dimension if dimension in ("route", "network") else "address", said)
    return repr(found)


def test_a_key_is_short_whatever_a_caller_writes() -> None:
    """No name fills the memory."""
    long = "x" * 100_000
    asking = caller(principal=Principal(long, long, long), believed=[(b"x-tenant", long.encode())])
    assert len(key(("user", "api_key", "session", "header:x-tenant"), asking)) < 200
    assert len(asking.client) < 50


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (None, ADDRESS),
        ([], ADDRESS),
        ([(b"x-tenant", b"blue")], "h:x-tenant:blue"),
        ([(b"x-tenant", b" blue\t")], "h:x-tenant:blue"),
        ([(b"x-tenant", b"")], ADDRESS),
        ([(b"x-tenant", b"blue"), (b"x-tenant", b"blue")], ADDRESS),
        ([(b"x-tenants", b"blue")], ADDRESS),
    ],
)
def test_a_header_is_believed_from_a_proxy_and_once(lines: Any, expected: str) -> None:
    """Of two lines one may be the client's: neither is believed."""
    assert key(("header:X-Tenant",), caller(believed=lines)) == expected


@pytest.mark.parametrize("value", [7, True, b"ann", ["ann"]])
def test_a_principal_is_text(value: Any) -> None:
    """A name like `True` would be everybody's."""
    with pytest.raises(TypeError, match="is a text"):
        Principal(user=value)
