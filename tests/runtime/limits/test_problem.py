"""What a refusal says, and what every response says: problem details, rate limit fields, safety headers, CORS."""

from __future__ import annotations

import asyncio
import re
from typing import Any, NamedTuple

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mahavishnu.algorithms import Gcra
from mahavishnu.protocols import Algorithm, Decision
from mahavishnu.runtime.limits.fields import RateLimitFields, problem
from mahavishnu.runtime.limits.margin import Margin
from mahavishnu.runtime.limits.memory_store import MemoryStore
from mahavishnu.runtime.telemetry.cells import CounterCell
from mahavishnu.testing import VirtualClock
from tests.runtime.asgi_client import Answer, House, harden, limits, site, spec_of

# RFC 9651: a list of strings with integer parameters, as the draft writes both fields.
_STRING = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
_KEY = r"[a-z*][a-z0-9_.*-]*"
_ITEM = rf"{_STRING}(?:;{_KEY}=-?[0-9]{{1,15}})*"
_LIST = re.compile(rf"{_ITEM}(?:[ \t]*,[ \t]*{_ITEM})*")


def fields(text: str) -> dict[str, dict[str, int]]:
    """A structured field as names with their parameters; fails on anything that is none."""
    assert _LIST.fullmatch(text), text
    items = [re.match(_STRING, one) for one in text.split(", ")]
    names = [one[0].strip('"') for one in items if one]
    parameters = [dict(re.findall(rf";({_KEY})=(-?\d+)", one)) for one in text.split(", ")]
    return {
        name: {key: int(value) for key, value in one.items()}
        for name, one in zip(names, parameters, strict=True)
    }


def test_the_reader_of_fields_can_fail() -> None:
    """What is no structured field is told apart."""
    for text in (
        "",
        "a;q=1",
        '"a";q=x',
        '"a" ;q=1',
        '"a";q=1.5',
        '"a";Q=1',
        '"a";q=1,',
        '"a\n";q=1',
        '"é";q=1',
    ):
        with pytest.raises(AssertionError):
            fields(text)


async def refused(status: int) -> tuple[House, Answer]:
    """A refusal of each kind."""
    body: dict[str, Any] = {"body": [b"x" * 2000]} if status == 413 else {}
    spec = spec_of(
        limits={
            429: {"calls": {"rate": "1/minute", "per": "client"}, "hour": {"rate": "100/hour"}},
            503: {"slots": {"concurrency": 1, "queue": 1, "wait": "1500ms"}},
            504: {"request": {"timeout": "1s"}},
            413: {"uploads": {"body": "1000B"}},
        }[status],
        security={"headers": "strict", "cors": {"origins": ["https://shop.example.com"]}},
    )
    end = asyncio.Event()

    async def handler(request: Request) -> Response:
        await request.body()
        if status in (503, 504):
            await end.wait()
        return PlainTextResponse("ok")

    house = harden(site(Route("/", handler, methods=["GET", "POST"])), spec)
    first = asyncio.create_task(house.call("POST"))
    await house.clock.settle()
    headers = {"origin": "https://shop.example.com"}
    second = asyncio.create_task(house.call("POST", headers=headers, **body))
    await house.clock.settle()
    house.clock.advance({503: "1500ms", 504: "1s"}.get(status, "1ms"))
    await house.clock.settle()
    end.set()
    await first
    return house, await second


KINDS = {
    429: (
        "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "Too Many Requests",
        "calls",
        "60",
    ),
    503: (
        "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
        "Service Unavailable",
        "slots",
        "2",
    ),
    504: (
        "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
        "Gateway Timeout",
        "request",
        None,
    ),
    413: ("about:blank", "Content Too Large", "uploads", None),
}


@pytest.mark.parametrize("status", KINDS)
async def test_a_refusal_is_a_problem_of_rfc_9457(status: int) -> None:
    """The members, the media type, the length; Retry-After where waiting helps; not to be stored."""
    _, answer = await refused(status)
    kind, title, limit, retry = KINDS[status]
    said = answer.json()
    assert answer.status == status
    assert (said["type"], said["title"], said["status"]) == (kind, title, status)
    assert said["violated-policies"] == [limit]
    assert f"`{limit}`" in said["detail"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers.get("retry-after") == retry


@pytest.mark.parametrize("status", KINDS)
async def test_a_refusal_has_everything_that_an_answer_has(status: int) -> None:
    """Safety headers, the request's id, and CORS, without which a browser hides the reason from its script."""
    _, answer = await refused(status)
    names = [name for name, _ in answer.raw]
    assert len(names) == len(set(names))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["access-control-allow-origin"] == "https://shop.example.com"
    assert "Retry-After" in answer.headers["access-control-expose-headers"]
    assert answer.headers["x-request-id"]
    assert ("ratelimit" in answer.headers) == (status == 429)


async def test_the_rate_limit_fields_say_what_holds() -> None:
    """As structured fields, with the same names, in whole seconds, and true while the quota is used up."""
    spec = limits(minute={"rate": "3/minute"}, burst={"rate": "10/13s", "burst": 20, "per": "global"})
    house = harden(site(), spec)
    for left in (2, 1, 0, 0):
        answer = await house.call()
        policy, now = fields(answer.headers["ratelimit-policy"]), fields(answer.headers["ratelimit"])
        assert policy == {"minute": {"q": 3, "w": 60}, "burst": {"q": 10, "w": 13}}
        assert now["minute"]["r"] == left
        assert set(now) == set(policy)
        assert all(set(one) == {"r", "t"} and one["t"] >= 0 for one in now.values())
    assert now["minute"]["t"] == int(answer.headers["retry-after"]) == 20


class Rated(NamedTuple):
    """A rate as a store sees it, and the fields."""

    name: str
    algorithm: Algorithm
    margin: Margin
    cost: int = 1
    enforced: bool = True
    quota: int = 5
    window: int = 10**9


def test_times_are_never_rounded_down() -> None:
    """One nanosecond more than a second is two seconds."""
    decision = Decision(False, "a", 429, "about:blank", "", 10**9 + 1)
    assert (b"retry-after", b"2") in problem(decision)[1]
    one_a_while = [Rated("a", Gcra(1, 10**9 + 1, 1), Margin(1, CounterCell()))]
    store = MemoryStore(VirtualClock())
    store.take(one_a_while, [""])
    told = RateLimitFields(one_a_while)
    assert told.fields(told.numbers(store.take(one_a_while, [""])))[1] == (b"ratelimit", b'"a";r=0;t=2')


async def test_an_app_without_rates_shows_no_fields() -> None:
    """Nothing to say, nothing said."""
    answer = await harden(site(), limits(slots={"concurrency": 5})).call()
    assert not [name for name in answer.headers if name.startswith("ratelimit")]


STRICT = {
    "strict-transport-security": r"max-age=\d{8,}; includeSubDomains",
    "content-security-policy": r".*frame-ancestors 'none'.*",
    "x-content-type-options": r"nosniff",
    "referrer-policy": r"no-referrer",
    "x-frame-options": r"DENY",
}


async def test_safety_headers_are_on_every_answer() -> None:
    """Fine, missing, not allowed, redirected, or our own: all the same."""
    app = site(Route("/", _own), Route("/dir/", _plain))
    house = harden(app, spec_of(security={"headers": "strict"}))
    ours = (("GET", "/healthz"), ("HEAD", "/readyz"), ("GET", "/metrics"))
    for method, path in (("GET", "/dir/"), ("GET", "/nowhere"), ("PUT", "/dir/"), ("GET", "/dir"), *ours):
        answer = await house.call(method, path)
        for name, value in STRICT.items():
            assert re.fullmatch(value, answer.headers[name])
    assert "x-frame-options" not in (await harden(app, limits()).call(path="/dir/")).headers


async def _plain(request: Request) -> Response:
    return PlainTextResponse("ok")


async def _own(request: Request) -> Response:
    return PlainTextResponse(
        "ok",
        headers={
            "Content-Security-Policy": "default-src 'none'",
            "X-FRAME-OPTIONS": "SAMEORIGIN",
            "X-Request-ID": "mine",
            "RateLimit": '"mine";r=1;t=1',
        },
    )


async def test_the_apps_own_word_wins() -> None:
    """A header that the app has set, in whatever case, stays as it is and comes once."""
    spec = spec_of(security={"headers": "strict"}, limits={"calls": {"rate": "5/minute"}})
    answer = await harden(site(Route("/", _own)), spec).call()
    assert answer.headers["content-security-policy"] == "default-src 'none'"
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["ratelimit"] == '"mine";r=1;t=1'
    names = [name.lower() for name, _ in answer.raw]
    assert len(names) == len(set(names))


async def test_a_preflight_is_answered_and_costs_nothing() -> None:
    """The browser asks before it calls: no quota is spent, no handler runs; a foreign origin gets no leave."""
    spec = spec_of(
        security={"cors": {"origins": ["https://shop.example.com"]}}, limits={"calls": {"rate": "2/hour"}}
    )
    house = harden(site(), spec)
    asking = {"access-control-request-method": "PUT", "access-control-request-headers": "x-a"}
    for _ in range(10):
        answer = await house.call("OPTIONS", headers={"origin": "https://shop.example.com", **asking})
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (
            200,
            "https://shop.example.com",
        )
        assert "PUT" in answer.headers["access-control-allow-methods"]
    foreign = await house.call("OPTIONS", headers={"origin": "https://evil.example", **asking})
    assert (foreign.status, foreign.headers.get("access-control-allow-origin")) == (400, None)
    assert house.count("calls", "allowed") == 0
    assert [await house.status("OPTIONS") for _ in range(3)] == [200, 200, 429]


async def test_a_preflight_that_the_app_answers_counts() -> None:
    """Anybody may send one, to any handler: one that cost nothing would be a way around the rate."""
    house = harden(site(), spec_of(limits={"calls": {"rate": "2/hour"}}))
    asking = {"origin": "https://shop.example.com", "access-control-request-method": "PUT"}
    assert [await house.status("OPTIONS", headers=asking) for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "https://shop.example.com.evil.example", "null", ""]
)
async def test_other_origins_get_no_cors_headers(origin: str) -> None:
    """Nor may any origin send credentials."""
    spec = spec_of(security={"cors": {"origins": ["https://shop.example.com"]}})
    answer = await harden(site(), spec).call(headers={"origin": origin})
    assert answer.status == 200
    assert "access-control-allow-origin" not in answer.headers
    assert "access-control-allow-credentials" not in answer.headers


CREDENTIALS = {"origins": ["https://shop.example.com"], "credentials": True, "expose": ["X-Total"]}


@pytest.mark.parametrize("origin", ["https://shop.example.com", "https://evil.example"])
async def test_a_page_may_send_its_cookie_where_the_spec_says_so(origin: str) -> None:
    """With the preflight, with an answer and with a refusal; a foreign origin gets no leave all the same."""
    spec = spec_of(security={"cors": CREDENTIALS}, limits={"calls": {"rate": "1/hour"}})
    house = harden(site(), spec)
    asking = {"access-control-request-method": "PUT", "access-control-request-headers": "x-csrf"}
    answers = [await house.call("OPTIONS", headers={"origin": origin, **asking})]
    answers += [await house.call(headers={"origin": origin}) for _ in range(2)]
    own = origin == "https://shop.example.com"
    assert [answer.status for answer in answers] == [200 if own else 400, 200, 429]
    for answer in answers:
        assert answer.headers.get("access-control-allow-origin") == (origin if own else None)
        assert answer.headers["access-control-allow-credentials"] == "true"
    assert answers[0].headers["access-control-allow-headers"] == "x-csrf"


async def test_a_script_may_read_what_the_app_says_of_itself() -> None:
    """Beside what says why it was refused."""
    house = harden(site(), spec_of(security={"cors": CREDENTIALS}))
    answer = await house.call(headers={"origin": "https://shop.example.com"})
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"Retry-After", "X-Request-ID", "X-Total"} < {*exposed}
