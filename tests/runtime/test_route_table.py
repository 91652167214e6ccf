"""The route table finds what the app's own router finds, and handing that on changes nothing for the app."""

from __future__ import annotations

import os
from typing import Any

import pytest

from mahavishnu.runtime.hand_on import HANDED
from mahavishnu.runtime.route_table import RouteTable
from mahavishnu.runtime.routes import resolve, router_of
from tests.figures import figure
from tests.runtime.asgi_client import Answer, chunks, collector, run, scope_of
from tests.runtime.random_sites import Site

FULL = os.environ.get("FULL") == "1"
Outcome = tuple[Any, ...]


def scope_for(request: dict[str, Any]) -> dict[str, Any]:
    """The scope of a random request."""
    scope = scope_of(request["method"], request["path"], request["headers"], root_path=request["root_path"])
    scope["type"] = request["type"]
    if request["type"] == "websocket":
        del scope["method"]
        scope["subprotocols"] = []
    return scope


async def outcome(app: Any, scope: dict[str, Any]) -> Outcome:
    """All that comes of a request: what is sent, and the error."""
    answer = Answer()
    waiting: list[Any] = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]

    async def connect() -> Any:
        return waiting.pop(0)

    try:
        await app(scope, connect if scope["type"] == "websocket" else chunks(()), collector(answer))
    except Exception as error:  # noqa: BLE001  an app that fails must fail in the same way
        return answer.messages, type(error), str(error)
    return answer.messages, None, None


def handler_of(answered: Outcome) -> str | None:
    """The handler that ran; None when the router itself has answered."""
    headers = [pair for message in answered[0] for pair in message.get("headers", ())]
    return next((value.decode() for name, value in headers if name == b"x-handler"), None)


async def faults(bare: Site, ours: Site, table: RouteTable, request: dict[str, Any]) -> list[str]:
    """What is wrong with the table's verdict, and with the answer when it is handed on, or found and left."""
    wrong: list[str] = []
    expected = await outcome(bare.app, scope_for(request))
    found = table.find(scope_for(request))
    template, ran = found.template if found else None, handler_of(expected)
    if template != resolve(router_of(bare.app), scope_for(request)):
        wrong.append(f"found {template}")
    if ran is not None and template != bare.templates[ran]:
        wrong.append(f"found {template}, ran {bare.templates[ran]}")
    if await outcome(ours.app, scope_for(request) | {HANDED: found}) != expected:
        wrong.append("handed on, it is answered otherwise")
    if await outcome(ours.app, scope_for(request)) != expected:
        wrong.append("left alone, it is answered otherwise")
    return wrong


async def differences(seed: object, requests: int) -> list[str]:
    """Where an app behind the table differs from its twin without one, over random requests."""
    bare, ours = Site(seed), Site(seed)
    table = RouteTable(ours.app)
    asked = [ours.request() for _ in range(requests)]
    return [
        f"{seed}: {request}: {one}" for request in asked for one in await faults(bare, ours, table, request)
    ]


def test_the_table_finds_and_hands_on_what_the_router_would() -> None:
    """Random sites and requests: same handler, parameters, scope, answer and error, with and without it."""
    for seed in range(150):
        assert run(differences(seed, 20)) == []


@pytest.mark.proof
def test_ten_thousand_random_route_tables() -> None:
    """The same over ten thousand sites."""
    sites = 10_000 if FULL else 1_000
    wrong = [one for seed in range(sites) for one in run(differences(f"site {seed}", 20))]
    figure(
        f"{sites:,} random route tables, {20 * sites:,} requests: other than Starlette's and FastAPI's",
        0,
        len(wrong),
    )
    assert wrong == []
