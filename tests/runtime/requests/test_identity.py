"""Who is asking: nothing a client can write changes the name its requests are counted under."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, cast

import pytest
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from mahavishnu.runtime.keys import Principal
from mahavishnu.runtime.requests.identity import Identity, bucket
from tests.figures import cheapest, figure
from tests.runtime.asgi_client import Answer, call, harden, scope_of, site, spec_of

TRUSTED = ("10.0.0.0/8", "fd00::/8", "127.0.0.1/32")
NETWORKS = [ip_network(one) for one in TRUSTED]
CLIENT, PROXY, INNER = "203.0.113.9", "10.0.0.1", "10.0.0.2"


def behind(*chain: str, peer: str | None = PROXY, header: str = "x-forwarded-for") -> dict[str, Any]:
    """A scope whose forwarding header has these lines."""
    return scope_of(headers=[(header, line) for line in chain], client=peer)


def who(scope: dict[str, Any]) -> str:
    """The address a scope is counted under."""
    return Identity(NETWORKS).address(scope)


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ([CLIENT], CLIENT),
        ([f"1.2.3.4, {CLIENT}"], CLIENT),
        ([f"{CLIENT}, {INNER}"], CLIENT),
        ([f"1.1.1.1, {INNER}, {CLIENT}, {INNER}"], CLIENT),
        (["1.1.1.1", CLIENT], CLIENT),
        ([CLIENT, INNER], CLIENT),
        ([f"{CLIENT}:5000"], CLIENT),
        ([f"  {CLIENT}\t"], CLIENT),
        ([f"::ffff:{CLIENT}"], CLIENT),
        ([f"[::ffff:{CLIENT}]:443"], CLIENT),
        (["::ffff:cb00:7109"], CLIENT),
        (["[2001:db8::7]:443"], "2001:db8::7"),
        (["2001:DB8:0:0::7"], "2001:db8::7"),
        (["2001:db8::7%eth0"], "2001:db8::7"),
        ([f"{INNER}"], INNER),
        ([f"{INNER}, {PROXY}"], INNER),
        ([], PROXY),
        ([""], PROXY),
        (["unknown"], PROXY),
        ([f"{CLIENT}, garbage"], PROXY),
        ([f"{CLIENT}, garbage, {INNER}"], PROXY),
        ([f"{CLIENT}, unknown, {INNER}"], INNER),
        ([f"{CLIENT}, _gateway, {INNER}"], INNER),
        ([f"{CLIENT}, _gateway:_p, {INNER}"], INNER),
        ([f"{CLIENT}:99999999"], PROXY),
        ([f"{CLIENT}:http"], PROXY),
        ([f"[{CLIENT}]"], PROXY),
        ([f"{CLIENT}%eth0"], PROXY),
        (["[2001:db8::7]x"], PROXY),
        (["[2001:db8::7%25eth0]:_p"], "2001:db8::7"),
        (["9" * 100], PROXY),
        ([f"{CLIENT}, _{'x' * 90}, {INNER}"], PROXY),
        ([f"{CLIENT},"], PROXY),
        ([f"{CLIENT}, ,{INNER}"], PROXY),
        (["203.0.113.09"], PROXY),
        (["203.0.113"], PROXY),
        (["3405803785"], PROXY),
        (["0x7f.1"], PROXY),
        (["localhost"], PROXY),
        (["\u0662.1.1.1".encode().decode("latin-1")], PROXY),
        (["10.0.0.2, " * 200 + CLIENT], CLIENT),
        ([CLIENT + ", 10.0.0.2" * 50], PROXY),
        ([CLIENT + ", 10.0.0.2" * 49], CLIENT),
    ],
)  # fmt: skip
def test_the_chain_is_walked_from_the_right(chain: list[str], expected: str) -> None:
    """To the first hop that no trusted proxy is; what cannot be read ends the walk; never the leftmost."""
    assert who(behind(*chain)) == expected


@pytest.mark.parametrize(
    ("peer", "expected"),
    [(CLIENT, CLIENT), (f"::ffff:{PROXY}", "1.1.1.1"), ("fd00::5", "1.1.1.1"), ("::1", "::1"), (None,
    "unknown"),
     ("", "unknown"), ("testclient", "unknown"), ("/run/app.sock", "unknown"), ("10.0.0.1.evil.com",
     "unknown")],
)  # fmt: skip
def test_only_a_trusted_peer_is_believed(peer: str | None, expected: str) -> None:
    """An unknown peer, a unix socket or none at all speaks for nobody."""
    assert who(behind("1.1.1.1", peer=peer)) == expected


SOCKETS = [("/run/app.sock", None), ["/run/app.sock", None], None]


@pytest.mark.parametrize("server", SOCKETS)
def test_a_proxy_at_a_unix_socket_is_believed_by_name(server: Any) -> None:
    """It has no address: what is trusted is that nobody else may open the socket."""
    told: list[int] = []
    scope = behind(f"1.1.1.1, {CLIENT}, {INNER}", peer=None) | {"server": server}
    nobody = Identity(NETWORKS, shared=lambda: told.append(1))
    assert [(nobody.address(scope), nobody.proxied(scope)) for _ in range(3)] == [("unknown", False)] * 3
    assert told == [1]
    one = Identity(NETWORKS, unix=True, shared=lambda: told.append(2))
    assert (one.address(scope), one.caller(scope).client, one.proxied(scope)) == (CLIENT, CLIENT, True)
    assert one.address(scope_of(client=None) | {"server": server}) == "unknown"
    assert Identity(unix=True).address(behind(CLIENT, peer=None) | {"server": server}) == CLIENT
    assert told == [1]


def test_who_has_hung_up_is_no_unix_socket() -> None:
    """uvicorn has no address of a connection that is gone already: whoever cuts it would be anybody."""
    told: list[int] = []
    one = Identity(NETWORKS, unix=True, shared=lambda: told.append(1))
    scope = behind(CLIENT, peer=None)
    assert scope["server"] == ("127.0.0.1", 8000)
    assert (one.address(scope), one.caller(scope).client, one.proxied(scope)) == ("unknown", "unknown", False)
    assert Identity(NETWORKS, shared=lambda: told.append(1)).address(scope) == "unknown"
    assert told == []


async def test_clients_that_nobody_can_tell_apart_are_told_to_the_log() -> None:
    """Once, with what to write; a spec that says it is believed, and says so to nobody."""
    for trusted in ((), ("unix",), ("10.0.0.0/8", "unix")):
        house = harden(site(), spec_of(service={"trusted_proxies": trusted}))
        for number in range(3):
            headers = {"x-forwarded-for": f"203.0.113.{number}"}
            await house.call(client=None, headers=headers, server=("/run/app.sock", None))
        said = [line["help"] for line in house.lines if line["event"] == "clients without an address"]
        shown = [line["client"] for line in house.lines if "client" in line]
        assert len(said) == (not trusted)
        assert all("add `unix` to `service.trusted_proxies`" in one for one in said)
        assert shown == ([f"203.0.113.{number}" for number in range(3)] if trusted else ["unknown"] * 3)


def test_a_peer_is_an_address_or_nobody() -> None:
    """Also where a server in front has put something else there: no spelling of its own makes another client."""
    chance = random.Random(4)
    odd = ["01.2.3.4", "1.2.3", "1.2.3.256", "1.2.3.4\n", "1.2.3.4\0", "0x1.2.3.4", "127.1", "", "\ud800",
           "\u0661.2.3.4", "testclient"]  # fmt: skip
    random_ones = ["".join(chance.choices("0123456789.", k=chance.randint(7, 11))) for _ in range(20_000)]
    scopes = [scope_of(client=peer) for peer in (*odd, *random_ones, "203.0.113.9")]
    found = [Identity().address(scope) for scope in scopes]
    expected = [_four(peer) for peer in (*odd, *random_ones, "203.0.113.9")]
    assert found == expected
    assert [Identity().caller(scope).client for scope in scopes] == expected
    assert {"unknown", "203.0.113.9"} < set(found)


def _four(peer: str) -> str:
    try:
        return str(IPv4Address(peer))
    except ValueError:
        return "unknown"


@pytest.mark.parametrize(
    ("address", "key"),
    [("203.0.113.9", "203.0.113.9"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("2001:db8:1:2::",
    "2001:db8:1:2::/64"),
     ("2001:db8:1:3:ffff::", "2001:db8:1:3::/64"), ("::1", "::/64"), ("unknown", "unknown")],
)  # fmt: skip
def test_an_ipv6_client_is_its_whole_network(address: str, key: str) -> None:
    """A /64 is one subscriber."""
    assert bucket(address) == key


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ([f"for={CLIENT}"], CLIENT),
        ([f"FOR={CLIENT};proto=https;by=10.0.0.1"], CLIENT),
        ([f"proto=https; for={CLIENT} ; by=_edge"], CLIENT),
        ([f"for=1.1.1.1, for={CLIENT}, for={INNER}"], CLIENT),
        (["for=1.1.1.1", f"for={CLIENT}", f"for={INNER}"], CLIENT),
        ([f'for="{CLIENT}:47011"'], CLIENT),
        ([f'for="{CLIENT}:_port"'], CLIENT),
        (['for="[2001:db8::7]"'], "2001:db8::7"),
        (['for="[2001:db8::7%25eth0]:443"'], "2001:db8::7"),
        (['for="[::ffff:203.0.113.9]:443"'], CLIENT),
        (["for=[2001:db8::7]"], "2001:db8::7"),
        ([r'for="203\.0.113\.9"'], CLIENT),
        ([f"for=1.1.1.1, for=unknown, for={INNER}"], INNER),
        ([f"for=1.1.1.1, for=Unknown, for={INNER}"], INNER),
        ([f'for=1.1.1.1, for="_hidden:_p", for={INNER}'], INNER),
        ([f"for=1.1.1.1, proto=https, for={INNER}"], INNER),
        ([f"for=1.1.1.1, for={CLIENT};for={CLIENT}, for={INNER}"], PROXY),
        ([f"for=1.1.1.1, for={CLIENT} junk, for={INNER}"], PROXY),
        ([f"for=1.1.1.1, , for={INNER}"], PROXY),
        ([f"for=1.1.1.1, for=, for={INNER}"], PROXY),
        ([f"for={CLIENT},"], PROXY),
        ([CLIENT], PROXY),
        ([f'for=1.1.1.1;by=" , for={CLIENT}'], CLIENT),
        (['for=1.1.1.1;by="\\', f"for={CLIENT}"], CLIENT),
        ([f'", for={CLIENT};host="shop, for=1.1.1.1"'], CLIENT),
        ([rf'for={CLIENT};host="a\", for=1.1.1.1;b=\""'], CLIENT),
        ([rf'for={CLIENT};host="a\\", for=1.1.1.1'], "1.1.1.1"),
        (["for=1.1.1.1;x=" + "y" * 9000 + f", for={CLIENT}"], CLIENT),
        (["for=10.0.0.2, " * 200 + f"for={CLIENT}"], CLIENT),
        ([f"for={CLIENT}" + ", for=10.0.0.2" * 49], CLIENT),
        ([f"for={CLIENT}" + ", for=10.0.0.2" * 50], PROXY),
        ([f"for={CLIENT}" + ", for=10.0.0.2;by=" + "_" * 9000], CLIENT),
        ([f'for=1.1.1.1, for={CLIENT};host="' + ",for=1.1.1.1;" * 700 + '"'], CLIENT),
        ([f'for=1.1.1.1, for={CLIENT};host="' + '\\",for=1.1.1.1;b=\\"' * 300 + '"'], CLIENT),
        ([f'for=1.1.1.1, for={CLIENT};host="' + '\\"' * 1001 + '"'], PROXY),
        ([f'for=1.1.1.1, for={CLIENT};host="' + '\\"' * 1001 + f'", for={INNER}'], PROXY),
    ],
)
def test_forwarded_is_walked_from_the_right(chain: list[str], expected: str) -> None:
    """RFC 7239, and what a client opened to the left of the proxies' own words swallows none of them."""
    identity = Identity(NETWORKS, forwarded="forwarded")
    assert identity.address(behind(*chain, header="forwarded")) == expected


def test_only_the_declared_header_is_read() -> None:
    """Whoever may choose which of two is read may choose his address: the other one is no header at all."""
    for declared, other, said in (
        ("forwarded", "x-forwarded-for", "1.1.1.1"),
        ("forwarded", "x-forwarded-for", "for=1.1.1.1"),
        ("x-forwarded-for", "forwarded", "1.1.1.1"),
        ("x-forwarded-for", "forwarded", "for=1.1.1.1"),
    ):
        identity = Identity(NETWORKS, forwarded=declared)  # type: ignore[arg-type]
        assert identity.address(behind(said, header=other)) == PROXY


def test_a_network_of_ipv4_is_one_however_it_is_written() -> None:
    """Addresses are made canonical, so the networks they are compared with are too."""
    identity = Identity([ip_network("::ffff:10.0.0.0/104")])
    assert identity.address(behind(CLIENT)) == CLIENT
    assert identity.address(behind(CLIENT, peer="11.0.0.1")) == "11.0.0.1"
    assert Identity([ip_network("::/0")]).address(behind(CLIENT)) == PROXY


SPOOFS = (
    "x-forwarded-for", "x-real-ip", "x-client-ip", "client-ip", "true-client-ip", "cf-connecting-ip",
    "fastly-client-ip",
    "x-cluster-client-ip", "x-originating-ip", "x-remote-ip", "x-remote-addr", "forwarded", "x-forwarded",
    "via",
    "forwarded-for", "x_forwarded_for", "x-user-id", "x-api-key", "authorization", "cookie",
    "x-session-id", "user-agent",
    "x-request-id", "x-forwarded-host", "x-forwarded-proto", "host", "origin", "referer", "x-host", "from",
    "x-forwarded-user", "remote-user", "x-tenant", "x-envoy-external-address", "x-azure-clientip",
    "x-arr-clientip",
)  # fmt: skip
FORMS = ("{ip}", "for={ip}", 'for="[2001:db8::{n}]"', "{ip}, 127.0.0.1", "{n}", "::ffff:{ip}")


@pytest.mark.parametrize("name", SPOOFS)
async def test_a_header_that_a_client_invents_buys_nothing(name: str) -> None:
    """20 requests with 20 values in each of six forms, limit 5: five get in, directly and through a proxy."""
    for trusted, peer in (((), CLIENT), (TRUSTED, CLIENT), (TRUSTED, PROXY)):
        spec = spec_of(service={"trusted_proxies": trusted}, limits={"all": {"rate": "5/hour"}})
        house = harden(site(), spec)
        for form in FORMS:
            house.clock.advance("1h")
            admitted = 0
            for number in range(1, 21):
                value = form.format(ip=f"198.51.100.{number}", n=number)
                headers = [(name, value)]
                if peer == PROXY:  # the proxy adds what it has seen, in a line of its own or to the client's
                    headers = [(name, f"{value}, {CLIENT}")] if name == "x-forwarded-for" else [
                        (name, value), ("x-forwarded-for", CLIENT)]  # fmt: skip
                admitted += await house.status(headers=headers, client=peer) == 200
            assert admitted == 5, (form, trusted, peer)


@pytest.mark.proof
async def test_one_network_is_one_client_and_one_address_has_one_spelling() -> None:
    """10,000 addresses of a /64: five requests; three spellings of one IPv4: five requests."""
    house = harden(site(), spec_of(limits={"all": {"rate": "5/hour"}}))
    chance = random.Random("64")
    admitted = 0
    for _ in range(10_000):
        address = str(IPv6Address((0x20010DB8 << 96) | (7 << 64) | chance.getrandbits(64)))
        admitted += await house.status(client=address) == 200
    assert admitted == 5
    spelled = [CLIENT, f"::ffff:{CLIENT}", "::ffff:cb00:7109"] * 5
    assert sum([await house.status(client=one) == 200 for one in spelled]) == 5


async def test_the_wider_tier_stops_who_owns_many_networks() -> None:
    """5,000 /64s of one /48, 5 requests for each and 20 for all: 20; and the neighbour keeps his."""
    site_limits = {
        "address": {"rate": "5/hour", "per": "ip"},
        "site": {"rate": "20/hour", "per": "network"},
    }
    house = harden(site(), spec_of(limits=site_limits))
    admitted = 0
    for number in range(5_000):
        admitted += (
            await house.status(client=str(IPv6Address((0x20010DB80001 << 80) | (number << 64) | 7))) == 200
        )
    assert admitted == 20
    assert [await house.status(client="2001:db8:2::1") for _ in range(6)] == [200] * 5 + [429]
    four = [await house.status(client=f"198.51.100.{number}") for number in range(25)]
    assert four == [200] * 20 + [429] * 5


async def test_a_header_counts_where_a_proxy_has_written_it() -> None:
    """Through the proxy each tenant has a budget; straight from a client the same header is nothing."""
    house = harden(site(), spec_of(service={"trusted_proxies": TRUSTED},
                                   limits={"all": {"rate": "2/hour", "per": "header:X-Tenant"}}))  # fmt: skip

    async def status(tenant: str, peer: str) -> int:
        return await house.status(headers={"x-tenant": tenant, "x-forwarded-for": CLIENT}, client=peer)

    assert [await status("blue", PROXY) for _ in range(3)] == [200, 200, 429]
    assert [await status("red", PROXY) for _ in range(3)] == [200, 200, 429]
    assert [await status(f"t{number}", CLIENT) for number in range(4)] == [200, 200, 429, 429]


async def test_what_a_hook_has_verified_is_counted_by_its_kind() -> None:
    """A key is one bucket wherever it comes from; a key named like a user is not that user."""

    def identify(scope: Any) -> Principal | None:
        said = {name: value.decode() for name, value in scope["headers"]}
        return Principal(said.get(b"user"), said.get(b"key"), said.get(b"session"))

    house = harden(site(), spec_of(limits={"all": {"rate": "2/hour", "per": "client"}}), identify=identify)

    async def status(name: str, value: str, number: int) -> int:
        return await house.status(headers={name: value}, client=f"198.51.100.{number}")

    assert [await status("key", "ann", number) for number in range(3)] == [200, 200, 429]
    assert [await status("user", "ann", number) for number in range(3)] == [200, 200, 429]
    assert [await status("session", f"s{number}", 9) for number in range(3)] == [200, 200, 429]


async def test_a_hook_that_fails_verifies_nobody() -> None:
    """The request counts for its address, the log says so, and nothing of what was to be verified stands there."""

    def broken(_: Any) -> str:
        raise ValueError("bad token eyJhbGciOi")

    house = harden(site(), spec_of(limits={"all": {"rate": "2/hour"}}), identify=broken)
    assert [await house.status(client=CLIENT) for _ in range(3)] == [200, 200, 429]
    said = [line for line in house.lines if line["event"] == "identify failed"]
    assert [line["error"] for line in said] == ["ValueError"] * 3
    assert "eyJ" not in house.stream.getvalue()


@pytest.mark.parametrize("said", [7, True, b"ann", ["ann"]])
def test_a_hook_that_names_no_text_verifies_nobody(said: Any) -> None:
    """`True` would be one user for all; what it returned is reported."""
    faults: list[Exception] = []
    identity = Identity((), lambda _: said, report=faults.append)
    assert identity.caller(scope_of(client=CLIENT)).client == CLIENT
    assert [type(fault) for fault in faults] == [TypeError]


def test_without_a_report_the_log_of_python_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Never silently."""

    def broken(_: Any) -> str:
        raise ValueError("secret")

    assert Identity((), broken).user(scope_of()) is None
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text


def test_a_hook_is_a_plain_function() -> None:
    """Nobody would await it: told when the app starts, not with every request."""

    async def identify(_: Any) -> str:
        return "ann"

    class Who:
        async def __call__(self, _: Any) -> str:
            return "ann"

    for hook in (identify, Who()):
        with pytest.raises(TypeError, match="plain function"):
            Identity((), hook)  # type: ignore[arg-type]


async def test_clients_behind_one_proxy_are_told_apart() -> None:
    """An attacker at the limit costs his neighbour nothing."""
    spec = spec_of(service={"trusted_proxies": TRUSTED}, limits={"all": {"rate": "5/hour"}})
    house = harden(site(), spec)
    for _ in range(100):
        await house.call(headers={"x-forwarded-for": "198.51.100.1"}, client=PROXY)
    good = [await house.status(headers={"x-forwarded-for": CLIENT}, client=PROXY) for _ in range(5)]
    assert good == [200] * 5


class Badge(BaseUser):
    """A user with an identity of its own."""

    def __init__(self, identity: str | None, *, real: bool = True) -> None:
        self._identity = identity
        self._real = real

    @property
    def is_authenticated(self) -> bool:
        return self._real

    @property
    def display_name(self) -> str:
        return "the same for all"

    @property
    def identity(self) -> str:
        return self._identity  # type: ignore[return-value]


class Backend(AuthenticationBackend):
    """Accepts `Authorization: <name>`; real ones check something."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        name = conn.headers.get("authorization")
        return (AuthCredentials(["in"]), SimpleUser(name)) if name else None


async def test_a_verified_user_is_counted_as_itself_wherever_it_comes_from() -> None:
    """Authentication runs outside: the same user from many addresses has one bucket, two users have two."""
    house = harden(site(), spec_of(limits={"all": {"rate": "3/hour", "per": "user"}}))
    app = AuthenticationMiddleware(house.app, Backend())

    async def status(name: str, address: str) -> int:
        headers = {"authorization": name} if name else {}
        answer: Answer = await call(app, headers=headers, client=address)
        return answer.status

    assert [await status("alice", f"198.51.100.{n}") for n in range(5)] == [200, 200, 200, 429, 429]
    assert [await status("bob", "198.51.100.1") for _ in range(2)] == [200, 200]
    assert [await status("", "198.51.100.1") for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.parametrize(
    ("user", "expected"),
    [(None, None), (SimpleUser("alice"), "alice"), (SimpleUser(""), None), (Badge("u1"), "u1"),
    (Badge(""), None),
     (Badge(None), None), (Badge("u1", real=False), None), (object(), None)],
)  # fmt: skip
def test_only_an_accepted_user_with_a_name_is_one(user: Any, expected: str | None) -> None:
    """Nobody shares the bucket of `None`, and a display name is no identity."""
    scope = scope_of(user=user) if user is not None else scope_of()
    assert Identity(()).user(scope) == expected


def _claimed(scope: Any) -> str | None:
    """A hook that believes everybody."""
    return next((value.decode() for name, value in scope["headers"] if name == b"who"), "") or None


async def test_a_user_cannot_be_named_like_an_address() -> None:
    """Kinds are marked: no user name lands in the bucket of a client, nor of a combination."""
    spec = spec_of(limits={"all": {"rate": "1/hour", "per": "client"}})
    house = harden(site(), spec, identify=_claimed)
    assert await house.status(client=CLIENT) == 200
    for name in (CLIENT, f"i:{CLIENT}", f"u:i:{CLIENT}", "~1", ""):
        expected = 429 if not name else 200
        assert await house.status(client=CLIENT, headers={"who": name}) == expected


async def test_combinations_have_one_bucket_each() -> None:
    """`per: [client, route]` counts each client on each route."""
    house = harden(site(), spec_of(limits={"all": {"rate": "1/hour", "per": ["client", "route"]}}))
    asked = [("1.1.1.1", "/"), ("1.1.1.1", "/x"), ("2.2.2.2", "/"), ("1.1.1.1", "/"), ("1.1.1.1", "/y")]
    statuses = [await house.status(path=path, client=client) for client, path in asked]
    assert statuses == [200, 404, 200, 429, 429]


async def test_a_request_id_is_believed_from_trusted_proxies_only() -> None:
    """And only one that is short and plain; any other request gets a new one."""
    house = harden(site(), spec_of(service={"trusted_proxies": TRUSTED}))

    async def given(said: str, peer: str) -> str:
        answer = await house.call(headers={"x-request-id": said}, client=peer)
        assert answer.headers["x-request-id"] == house.lines[-1]["request_id"]
        return answer.headers["x-request-id"]

    assert await given("abc-123", PROXY) == "abc-123"
    assert await given("abc-123", CLIENT) != "abc-123"
    for odd in ("", "a b", "a\r\nb", "x" * 65, "é", "{}", '"', "../x"):
        assert await given(odd, PROXY) != odd
    fresh = {await given("", CLIENT) for _ in range(200)}
    assert len(fresh) == 200


# --- against a reference that was written from RFC 7239 and the docstrings, and shares no code


def reference(peer: str | None, lines: list[str], header: str) -> str:
    """The client's address, the long way round: all of the chain is taken apart, then read from its end."""
    way = [_read(peer or "")]
    if way[0] in (None, "hidden"):
        return "unknown"
    plain = [hop.strip(" \t") for hop in ",".join(lines).split(",")]
    hops = elements(",".join(lines)) if header == "forwarded" else plain
    for place, hop in enumerate(hops[::-1] if lines else []):
        if not any(way[-1] in net for net in NETWORKS if net.version == way[-1].version):
            break
        before = _read(hop) if place < 50 else None
        if before in (None, "hidden"):
            return str(way[-1] if before else way[0])
        way.append(before)
    return str(way[-1])


def _read(text: str) -> Any:
    """An address, `hidden`, or None for what is neither."""
    bare = text.count(":") > 1 and "[" not in text
    form = re.fullmatch(r"(\[.*\]|[^:]*)(?::([0-9]{1,5}|_[A-Za-z0-9._-]+))?", text, re.ASCII)
    name = text if bare else form[1] if form else ""
    if name.lower() == "unknown" or re.fullmatch("_[A-Za-z0-9._-]+", name):
        return "hidden" if len(text) <= 80 else None
    six = name[1:-1] if name[:1] == "[" else name
    six = re.sub(r"%[^\]\s]*$", "", six) if ":" in six else six
    try:
        found = ip_address(six) if len(text) <= 80 and "%" not in six else None
    except ValueError:
        return None
    if found is None or (found.version == 4 and six != name):
        return None
    return ip_address(int(found) & 0xFFFFFFFF) if found.version == 6 and int(found) >> 32 == 0xFFFF else found


def elements(text: str) -> list[str]:
    """The node of each element; a text that is well formed is the same from either end."""
    cut, quoted, escaped = [""], False, False
    for char in text:
        quoted ^= char == '"' and not escaped
        escaped = char == "\\" and quoted and not escaped
        if char == "," and not quoted:
            cut.append("")
        else:
            cut[-1] += char
    return [_node(one) for one in cut]


def _node(element: str) -> str:
    pairs = [one.strip(" \t") for one in re.findall(r'(?:[^;"]|"(?:[^"\\]|\\.)*")+', element)]
    whole = re.fullmatch(r'(?:[^;"]|"(?:[^"\\]|\\.)*"|;)*', element) and element.strip(" \t")
    form = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+=(?:\"(?:[^\"\\]|\\.)*\"|[^\s\";\\=,]+)"
    if not whole or not all(re.fullmatch(form, one) for one in pairs if one):
        return ","
    said = [one[4:] for one in pairs if one[:4].lower() == "for="]
    if len(said) != 1:
        return "," if said else "unknown"
    return re.sub(r"\\(.)", r"\1", said[0][1:-1]) if said[0][:1] == '"' else said[0]


def _hop(chance: random.Random) -> str:
    four = f"{chance.choice([10, 10, 127, 203, 198])}.0.{chance.randrange(2)}.{chance.randrange(3)}"
    six = chance.choice(["fd00::1", "2001:db8::5", "::1", f"::ffff:{four}", "fe80::1%eth0", "::"])
    plain = chance.choice([four, four, four, six])
    odd = ["", " ", "unknown", "UNKNOWN", "_hidden", "_h:80", "unknown:_p", "1.2.3", "1.2.3.4.5", "256.1.1.1", "a:b",
           "01.2.3.4", ":", "[", "]", "%", "\x00", "é", f"{four}:80", f"[{six}]:443", f"[{six}]", f"{four}:x",
           f"{four}:123456", f"[{four}]", f" {plain}\t", f"for={four}", f"{four}%1", f"[{six}]:_x", f"[{six}]9",
           f"{six}:80", "x" * 90, "_" + "x" * 90, "_", f"{four}:", f"{four}:_"]  # fmt: skip
    return plain if chance.random() < 0.75 else chance.choice(odd)


def _element(chance: random.Random) -> str:
    hop = _hop(chance)
    said = f"for={hop}" if chance.random() < 0.5 and not set(hop) & set(' \t";,\\=') else f'for="{hop}"'
    if chance.random() < 0.8:
        return said
    odd = [f"For={hop}", f"{said};proto=https", f"proto=http;{said};by=_b", f"{said};", f";{said}", f"{said} ; a=b",
           f"{said};{said}", "proto=http", f"{said};junk", f"{said};a=", f"a=b c;{said}", f'{said};b="a,for=1.1.1.1"',
           f'{said};host="a\\",for=1.1.1.1"', f'{said};host="a\\\\"', 'for="1\\.2.3.4"', f"{said}x", "for=", 'for=""',
           f"fo r={hop}", hop, f'host=", {said}";{said}']  # fmt: skip
    return chance.choice(odd)


def _differences(seed: str, count: int, header: str) -> int:
    chance = random.Random(seed + header)
    part = _element if header == "forwarded" else _hop
    identity = Identity(NETWORKS, forwarded=header)  # type: ignore[arg-type]
    wrong = 0
    for _ in range(count):
        peer = chance.choice([_hop(chance), PROXY, PROXY, "fd00::2", None])
        lines = [chance.choice([",", ", "]).join(part(chance) for _ in range(chance.randrange(6)))
                 for _ in range(chance.choice([1, 1, 1, 2, 0]))]  # fmt: skip
        if chance.random() < 0.02:
            trusted = "for=10.0.0.9" if header == "forwarded" else "10.0.0.9"
            lines.append(",".join([trusted] * chance.randrange(40, 60)))
        found = identity.address(behind(*lines, peer=peer, header=header))
        wrong += found != reference(peer, lines, header)
    return wrong


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded"])
def test_random_chains_agree_with_a_reference(header: str) -> None:
    """2,000 seeded chains, plain and broken."""
    assert _differences("chains", 2000, header) == 0


@pytest.mark.proof
def test_a_hundred_thousand_chains_agree_with_a_reference() -> None:
    """The long run, half of it for each header."""
    wrong = sum(_differences("many chains", 50_000, header) for header in ("x-forwarded-for", "forwarded"))
    figure("100,000 forwarding chains of both kinds against an independent reference", "0 differences", wrong)
    assert wrong == 0


@pytest.mark.proof
def test_naming_a_caller_is_cheap() -> None:
    """From the socket, against what reads no more than the socket; behind a proxy, against who walks the chain too."""
    headers = [(f"h{number}", "x") for number in range(7)] + [("x-forwarded-for", CLIENT)]
    direct, proxied, theirs = (scope_of(headers=headers, client=peer) for peer in (CLIENT, PROXY, PROXY))
    plain, behind_one = Identity(), Identity(NETWORKS)

    async def named(scope: Any, *_: object) -> None:
        assert scope["client"][0] == CLIENT

    walker = ProxyHeadersMiddleware(named, trusted_hosts=[str(network) for network in NETWORKS])

    def uvicorn() -> None:
        theirs["client"] = proxied["client"]  # it writes there what it finds
        with suppress(StopIteration):
            cast("Any", walker)(theirs, None, None).send(None)

    def many(work: Callable[[], object]) -> Callable[[], object]:
        return lambda: [work() for _ in range(500)]

    bare, host, walked, others = cheapest(
        *map(
            many,
            (
                lambda: plain.caller(direct),
                lambda: HTTPConnection(direct).client,
                lambda: behind_one.caller(proxied),
                uvicorn,
            ),
        ),
        rounds=60,
    )
    figure(
        "naming the caller, from the socket: ours / Starlette's request.client", "< 1.5", f"{bare / host:.2f}"
    )
    figure("… behind a proxy, 8 headers: uvicorn's proxy headers / ours", "> 1", f"{others / walked:.1f}")
    assert bare / host < 1.5
    assert others / walked > 1
