"""By which scheme a client came: what a trusted proxy says is what the app sees, and nobody else is asked."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.otlp_receiver import Collector
from tests.runtime.asgi_client import House, handshake, harden, site, spec_of
from tests.runtime.tracing.traced import exchanged, facts, tracing

PROXY, INNER, CLIENT = "10.0.0.1", "10.0.0.2", "203.0.113.9"
SPOOFED = [("x-forwarded-proto", "https"), ("forwarded", f"for={CLIENT};proto=https")]


async def _seen(request: Request) -> Response:
    return JSONResponse([request.url.scheme, str(request.url_for("seen"))])


def _house(forwarded: str = "x-forwarded-for", trusted: tuple[str, ...] = ("10.0.0.0/8",)) -> House:
    service = {"trusted_proxies": trusted, "forwarded": forwarded}
    return harden(site(Route("/", _seen, name="seen")), spec_of(service=service))


async def _scheme(house: House, *lines: tuple[str, str], peer: str | None = PROXY, **more: Any) -> str:
    scheme, url = (await house.call(headers=[("host", "shop.test"), *lines], client=peer, **more)).json()
    assert url == f"{scheme}://shop.test/"
    return str(scheme)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (["https"], "https"),
        (["http"], "http"),
        (["HTTPS"], "https"),
        (["\thttps "], "https"),
        (["wss"], "https"),
        (["ws"], "http"),
        (["http, https"], "https"),
        (["https, http"], "http"),
        (["http", "https"], "https"),
        (["https", "http"], "http"),
        (["https,"], "http"),
        (["https, junk"], "http"),
        ([""], "http"),
        (["ftp"], "http"),
        (["https://shop.test"], "http"),
        (["javascript"], "http"),
        ([], "http"),
    ],
)
async def test_the_app_sees_what_the_nearest_proxy_says(said: list[str], expected: str) -> None:
    """Links, redirects and callbacks are made of it; what a client has written before it is not read."""
    assert await _scheme(_house(), *(("x-forwarded-proto", one) for one in said)) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([f"for={CLIENT};proto=https"], "https"),
        ([f"proto=HTTPS;for={CLIENT}"], "https"),
        ([f'for={CLIENT};proto="https"'], "https"),
        ([f"for={CLIENT};proto=https, for={INNER};proto=http"], "https"),
        ([f"for={CLIENT};proto=http, for={INNER};proto=https"], "http"),
        ([f"for={CLIENT}, for={INNER};proto=https"], "https"),
        ([f"for=1.1.1.1;proto=https, for={CLIENT};proto=http"], "http"),
        ([f"for=1.1.1.1;proto=https, for={CLIENT}"], "http"),
        ([f"for={INNER};proto=https", f"for={CLIENT};proto=http"], "http"),
        ([f"for=1.1.1.1;proto=https, for=unknown, for={INNER}"], "http"),
        (["proto=https"], "https"),
        ([f"for={CLIENT};proto=https;proto=http"], "http"),
        ([f"for={CLIENT};proto=https junk"], "http"),
        ([f"for={CLIENT};proto=ftp"], "http"),
        ([f"for={INNER};proto=https" + f", for={INNER}" * 50], "http"),
        ([f"for={INNER};proto=https" + f", for={INNER}" * 49], "https"),
        ([f"for={INNER};proto=https, for=_{'x' * 90}"], "http"),
        ([f'for=1.1.1.1;proto=https;by=" , for={CLIENT}'], "http"),
        ([f"for={CLIENT}"], "http"),
        ([], "http"),
    ],
)
async def test_forwarded_is_read_as_far_as_the_address_is(said: list[str], expected: str) -> None:
    """Each proxy says how the hop before it came: where all are trusted, the client's own scheme counts."""
    house = _house("forwarded")
    assert await _scheme(house, *(("forwarded", one) for one in said)) == expected


async def test_what_the_server_knows_stands_where_nobody_says_better() -> None:
    """A proxy may itself be asked by TLS, or speak it to the server: only what it says changes anything."""
    house = _house()
    assert await _scheme(house, scheme="https") == "https"
    assert await _scheme(house, ("x-forwarded-proto", "junk"), scheme="https") == "https"
    assert await _scheme(house, ("x-forwarded-proto", "http"), scheme="https") == "http"


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded"])
async def test_nobody_else_is_believed(header: str) -> None:
    """Neither a client, nor who has no address, nor anybody where no proxy is trusted; nor the other header."""
    assert await _scheme(_house(header), *SPOOFED, peer=CLIENT) == "http"
    assert await _scheme(_house(header), *SPOOFED, peer=None) == "http"
    assert await _scheme(_house(header, ()), *SPOOFED) == "http"
    (other,) = [one for one in SPOOFED if one[0].startswith("x-") != header.startswith("x-")]
    assert await _scheme(_house(header), other) == "http"


async def test_a_proxy_at_a_unix_socket_is_believed() -> None:
    """As it is for addresses."""
    at: dict[str, Any] = {"peer": None, "server": ("/run/app.sock", None)}
    assert await _scheme(_house(trusted=("unix",)), *SPOOFED, **at) == "https"
    assert await _scheme(_house(trusted=()), *SPOOFED, **at) == "http"


async def test_an_app_that_wants_tls_answers() -> None:
    """Instead of sending everybody who has come by TLS to where he is, for ever."""
    app = site(Route("/", _seen, name="seen"))
    app.add_middleware(HTTPSRedirectMiddleware)
    house = harden(app, spec_of(service={"trusted_proxies": ("10.0.0.0/8",)}))
    secure, plain = [
        await house.call(headers=[("host", "shop.test"), ("x-forwarded-proto", one)], client=PROXY)
        for one in ("https", "http")
    ]
    assert (secure.status, plain.status) == (200, 307)
    assert plain.headers["location"] == "https://shop.test/"


@pytest.mark.parametrize(
    ("said", "expected"), [("https", "wss"), ("wss", "wss"), ("http", "ws"), ("ws", "ws"), ("ftp", "ws")]
)
async def test_a_websocket_has_schemes_of_its_own(said: str, expected: str) -> None:
    """Whichever of the two words a proxy uses for it."""
    seen: list[str] = []

    async def endpoint(websocket: WebSocket) -> None:
        seen.append(websocket.url.scheme)
        await websocket.accept()
        await websocket.close()

    spec = spec_of(service={"trusted_proxies": ("10.0.0.0/8",)})
    house = harden(site(WebSocketRoute("/ws", endpoint)), spec)
    for peer in (PROXY, CLIENT):
        await handshake(house.app, "/ws", headers={"x-forwarded-proto": said}, client=peer, scheme="ws")
    assert seen == [expected, "ws"]


def test_a_span_says_the_same(receiver: Collector) -> None:
    """`url.scheme` is the client's."""
    spec = tracing(receiver.url, service={"trusted_proxies": ("10.0.0.0/8",)})
    asked = {"headers": {"x-forwarded-proto": "https"}}
    exchanged(receiver, site(), spec, asked | {"client": PROXY}, asked | {"client": CLIENT})
    assert [facts(span)["url.scheme"] for span in receiver.spans()] == ["https", "http"]
