"""What operators are told, and that nobody else is told anything."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from mahavishnu.protocols import Scope
from tests.runtime.asgi_client import Answer, House, handshake, harden, site, spec_of

TOKEN = "correct horse battery staple"
PATH = "/-/mahavishnu/refused"


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_TOKEN", TOKEN)


def guarded(*routes: Any, ops: dict[str, str] | None = None, **limits: dict[str, Any]) -> House:
    """A service with operators, who know their clients as users where a header says so."""

    def identify(scope: Scope) -> str | None:
        said = dict(scope["headers"]).get(b"x-user")
        return said.decode() if said else None

    spec = spec_of(
        limits=limits or {"calls": {"rate": "1/hour"}},
        secrets=["OPS_TOKEN"],
        ops=ops or {"token": "${OPS_TOKEN}"},
    )
    return harden(site(*routes), spec, identify=identify)


async def ask(house: House, token: str = TOKEN, query: str = "", **more: Any) -> Answer:
    """What the page says to whoever shows this token."""
    headers = {"authorization": f"Bearer {token}", **more.pop("headers", {})}
    return await house.call(path=more.pop("path", PATH), headers=headers, query_string=query.encode(), **more)


async def asked(house: House, query: str = "") -> dict[str, Any]:
    """The same as JSON, for the right token."""
    answer = await ask(house, query=query)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    said: dict[str, Any] = answer.json()
    return said


async def test_the_refused_are_told() -> None:
    """The most refused first, with their counts and times; an operator who knows one finds its hash."""
    house = guarded()
    for client, times in (("203.0.113.9", 3), ("203.0.113.8", 6)):
        for _ in range(times):
            await house.call(client=client)
    for _ in range(3):
        await house.call(headers={"x-user": "ann"}, client="203.0.113.8")
    house.clock.advance("2s")
    said = await asked(house, "client=203.0.113.8")
    calls = said["limits"]["calls"]
    assert (calls["refused"], calls["missed"]) == (2 + 5 + 2, 0)
    assert [one["refused"] for one in calls["clients"]] == [5, 2, 2]
    assert calls["clients"][0] == {
        "client": said["asked"]["as_address"],
        "refused": 5,
        "seconds_ago": 2.0,
    }
    user = (await asked(house, "client=ann"))["asked"]
    assert user["as_address"] is None
    assert user["as_user"] in {one["client"] for one in calls["clients"][1:]}


async def test_nobody_is_named() -> None:
    """No address, user or part of one is in the answer, not even the one that was asked for."""
    house = guarded()
    for _ in range(3):
        await house.call(client="203.0.113.77")
        await house.call(headers={"x-user": "ann.example"})
        await house.call(client="2001:db8::77")
    for query in (
        "",
        "client=203.0.113.77",
        "client=ann.example",
        "client=2001%3Adb8%3A%3A1",
        "client=%ff%00",
    ):
        text = json.dumps(await asked(house, query))
        assert not [part for part in ("203.0.113.77", "ann.example", "2001:db8") if part in text]


async def test_ipv6_is_asked_for_by_any_of_its_addresses() -> None:
    """Its /64 is one client."""
    house = guarded()
    for host in ("1", "2", "3"):
        await house.call(client=f"2001:db8::{host}")
    said = await asked(house, "client=%5B2001%3Adb8%3A%3Aff%5D")
    assert said["limits"]["calls"]["clients"][0]["client"] == said["asked"]["as_address"]


async def test_every_kind_of_limit_is_told() -> None:
    """Rates, places, sizes, and what a limit that observes would have refused; websockets too."""

    async def upload(request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    async def talk(socket: WebSocket) -> None:
        await socket.accept()

    house = guarded(
        Route("/", upload, methods=["POST"]),
        WebSocketRoute("/talk", talk),
        size={"body": "10B"},
        watched={"rate": "1/hour", "mode": "observe"},
        talks={"rate": "1/hour", "match": {"path": "/talk"}},
        off={"rate": "1/hour", "mode": "off"},
    )
    for _ in range(3):
        await house.call("POST", body=[b"x" * 11])
        await handshake(house.app, "/talk")
    said = (await asked(house))["limits"]
    assert {name: one["refused"] for name, one in said.items()} == {"size": 3, "watched": 5, "talks": 2}


async def test_who_found_no_place_or_was_too_slow_is_told() -> None:
    """Places and times are limits too."""

    async def slow(request: Request) -> Response:
        await house.clock.sleep(5 * 10**9)
        return PlainTextResponse("ok")

    house = guarded(Route("/", slow), places={"concurrency": 2}, time={"timeout": "1s"})
    tasks = [asyncio.create_task(house.call()) for _ in range(5)]
    await house.clock.settle()
    house.clock.advance("2s")
    assert sorted([(await one).status for one in tasks]) == [503, 503, 503, 504, 504]
    said = (await asked(house))["limits"]
    assert {name: one["refused"] for name, one in said.items()} == {"places": 3, "time": 2}


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \xff",
    ],
)
async def test_without_the_token_nothing_is_told(authorization: str | None) -> None:
    """One and the same answer to all, which says how to do it right."""
    house = guarded()
    headers = {} if authorization is None else {"authorization": authorization}
    answer = await house.call(path=PATH, headers=headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="mahavishnu"'
    assert answer.headers["cache-control"] == "no-store"
    assert b"limits" not in answer.body


async def test_the_scheme_may_be_in_any_case() -> None:
    """RFC 9110, section 11.1."""
    house = guarded()
    answer = await house.call(path=PATH, headers={"authorization": f"bearer {TOKEN}"})
    assert answer.status == 200


async def test_guessing_shuts_out() -> None:
    """After ten wrong tokens an address is told nothing, right or wrong; others are not touched, time heals."""
    house = guarded()
    assert [(await ask(house, "wrong")).status for _ in range(12)] == [401] * 10 + [429] * 2
    shut = [await ask(house, TOKEN), await ask(house, "wrong")]
    assert [one.status for one in shut] == [429, 429]
    assert shut[0].body == shut[1].body
    assert int(shut[0].headers["retry-after"]) == 6
    assert (await ask(house, client="203.0.113.2")).status == 200
    house.clock.advance("6s")
    assert [(await ask(house)).status for _ in range(30)] == [200] * 30


@pytest.mark.parametrize("name", ["x-forwarded-for", "forwarded", "via", "x-real-ip", "x-forwarded-host"])
async def test_nobody_is_told_through_a_proxy(name: str) -> None:
    """404, with the token or without, as for the series."""
    house = guarded()
    for token in (TOKEN, "wrong"):
        assert (await ask(house, token, headers={name: "203.0.113.1"})).status == 404


async def test_the_path_is_the_specs() -> None:
    """Where the spec says, and nowhere without it; other methods and paths are the app's."""
    house = guarded(ops={"token": "${OPS_TOKEN}", "path": "/intern"})
    assert (await ask(house, path="/intern/refused")).status == 200
    assert (await ask(house)).status == 404
    for number, path in enumerate(("/intern", "/intern/refused/", "/INTERN/refused")):
        assert (await ask(house, path=path, client=f"203.0.113.{number + 50}")).status == 404
    without = harden(site(), spec_of())
    assert (await ask(without)).status == 404


async def test_the_token_is_in_no_log() -> None:
    """Neither is that somebody asked: built-in paths are no requests of the service."""
    house = guarded()
    await ask(house)
    await ask(house, "wrong horse battery staple")
    assert "horse" not in house.stream.getvalue()
    assert house.lines == []


async def test_a_secret_that_is_missing_lets_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service starts, says so in its log, and no token is right: not the empty one either."""
    monkeypatch.delenv("OPS_TOKEN")
    house = guarded()
    assert [one["event"] for one in house.lines] == ["nobody is let in at ops.path"]
    for token in ("", "None", "\0", TOKEN):
        assert (await ask(house, token)).status == 401


async def test_a_short_token_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """It works, and the log says what would be better, not what it is."""
    monkeypatch.setenv("OPS_TOKEN", "hunter2")
    house = guarded()
    assert [one["level"] for one in house.lines] == ["warning"]
    assert "hunter2" not in house.stream.getvalue()
    assert (await ask(house, "hunter2")).status == 200
