"""A client of MCP that is refused is told so in its own language: as an error of JSON-RPC."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mahavishnu import limit
from tests.runtime.asgi_client import METHODS, Answer, House, harden, limits, ok, run, site, spec_of

BOTH = "application/json, text/event-stream"
RATE = {"calls": {"rate": "1/minute"}}


@pytest.fixture(autouse=True)
def _sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of a server has the SDK of MCP."""
    monkeypatch.setitem(sys.modules, "mcp", ModuleType("mcp"))


def refused(house: House, method: str = "POST", **more: Any) -> Answer:
    """The answer to the second of two requests, where the first is let in."""

    async def both() -> Answer:
        await house.call(method, **more)
        return await house.call(method, **more)

    answer: Answer = run(both())
    return answer


@pytest.mark.parametrize(
    "accept",
    [[("accept", BOTH)], [("Accept", "text/event-stream;q=0.9,Application/JSON")],
     [("accept", "application/json"), ("x-a", "b"), ("accept", "text/event-stream")]],
)  # fmt: skip
@pytest.mark.parametrize("around", [{}, {"security": {"cors": {"origins": ["https://shop.example"]}}}])
def test_the_problem_is_an_error_of_json_rpc(accept: Any, around: dict[str, Any]) -> None:
    """With the same status and the same headers; what the problem says is its data."""
    spec = spec_of(limits=RATE, **around)
    plain = refused(harden(site(), spec))
    answer = refused(harden(site(), spec), headers=accept)
    said = answer.json()
    assert (said["jsonrpc"], said["id"]) == ("2.0", None)
    assert said["error"]["code"] == -32005
    assert said["error"]["message"] == "limit `calls` allows 1/minute; retry in 60 s"
    assert said["error"]["data"] == {**plain.json(), "retry_after": 60}
    assert answer.status == plain.status == 429
    changed = {"content-type": "application/json", "content-length": str(len(answer.body))}
    ids = {"x-request-id": answer.headers["x-request-id"]}
    assert answer.headers == {**plain.headers, **changed, **ids}


@pytest.mark.parametrize(
    ("method", "accept"),
    [
        ("POST", "application/json"),
        ("POST", "text/event-stream"),
        ("POST", "*/*"),
        ("GET", BOTH),
        ("DELETE", BOTH),
    ],
)
def test_everybody_else_is_told_of_a_problem(method: str, accept: str) -> None:
    answer = refused(harden(site(), limits(**RATE)), method, headers={"accept": accept})
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["violated-policies"] == ["calls"]


def test_where_there_is_no_sdk_nobody_looks_for_its_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mcp")
    answer = refused(harden(site(), limits(**RATE)), headers={"accept": BOTH})
    assert answer.headers["content-type"] == "application/problem+json"


async def _tool(_: Request) -> Response:
    with limit(tool="search"):
        return PlainTextResponse("found")


@pytest.mark.parametrize(
    ("said", "status", "after"),
    [
        ({"timeout": "1s"}, 504, None),
        ({"body": "1KiB"}, 413, None),
        ({"rate": "1/hour", "match": {"tool": "search"}}, 429, 3600),
    ],
)
async def test_whatever_refuses_says_so(said: dict[str, Any], status: int, after: int | None) -> None:
    """A deadline, a body, a tool whose refusal is not caught."""

    async def slow(_: Request) -> Response:
        await asyncio.sleep(3600)
        return PlainTextResponse("never")

    handler = slow if "timeout" in said else _tool if "match" in said else ok
    house = harden(Route("/", handler, methods=METHODS), limits(calls=said))
    asked: Any = {"headers": {"accept": BOTH, "content-length": "4096"}}
    if "match" in said:
        assert await house.status("POST", **asked) == 200
    call = asyncio.create_task(house.call("POST", **asked))
    await house.clock.settle()
    house.clock.advance("2s" if "timeout" in said else 0)
    answer = await call
    assert (answer.status, answer.json()["error"]["data"]["status"]) == (status, status)
    assert answer.json()["error"]["data"].get("retry_after") == after
    assert "limit `calls`" in answer.json()["error"]["message"]
