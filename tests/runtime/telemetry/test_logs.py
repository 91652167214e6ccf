"""The log: one line is one JSON object, whatever is said; and what is secret is never in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from mahavishnu.protocols import Decision
from mahavishnu.runtime.context import request_id
from mahavishnu.runtime.current import current
from mahavishnu.runtime.keys import Caller
from mahavishnu.runtime.telemetry.access_log import AccessLog
from mahavishnu.runtime.telemetry.logs import logger
from mahavishnu.runtime.telemetry.redaction import REDACTED
from mahavishnu.spec import Logs
from tests.figures import FULL, figure
from tests.hostile import HOSTILE
from tests.runtime.asgi_client import Answer, House, handshake, harden, limits, run, site, spec_of

LARGEST = 16 * 1024
CONTROLS = {chr(code) for code in (*range(32), *range(127, 160))} - {"\n"}
EXTRA = (
    "\ud800", "a\udfffb", "\ud83d", "\x1b[31mred\x1b[0m", "a\rb", "\x85", "\u2028\u2029",
    "\x9b31m", '"}\n{"level": "error"',
    "x" * 10**6, "\u20ac" * 10**5, "😀" * 10**5, "\n" * 10**5, "\\" * 10**5, '"' * 10**5, "\0" * 10**5,
)  # fmt: skip


class Silent:
    """An object that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


class Vast:
    """An object that says too much."""

    def __repr__(self) -> str:
        return "v" * 10**7


class Odd(dict[str, Any]):
    """A mapping that cannot be read."""

    def items(self) -> Any:
        raise OSError("gone")


class Colour(IntEnum):
    """An integer with a name."""

    RED = 1


@dataclass
class Thing:
    """A plain object."""

    name: str


def _circle() -> list[Any]:
    circle: list[Any] = [1]
    circle.append(circle)
    return circle


def _ring() -> dict[str, Any]:
    ring: dict[str, Any] = {}
    ring["self"] = ring
    return ring


def _deep() -> Any:
    deep: Any = "end"
    for _ in range(100_000):
        deep = [deep]
    return deep


STRANGE: dict[str, Any] = {
    "failing repr": Silent(), "huge repr": Vast(), "failing mapping": Odd(a=1), "circle": _circle(),
    "ring": _ring(),
    "deep": _deep(), "nan": float("nan"), "infinity": float("-inf"), "huge integer": 10**6000,
    "negative": -(2**70),
    "bytes": b"\xff\x00\n", "set": {1, 2}, "enum": Colour.RED, "object": Thing("a\nb"), "class": Thing,
    "long list": [1] * 10**5,
    "long mapping": {str(one): one for one in range(10**5)}, "odd keys": {"a b": 1, "\n": 2,
    "\ud800": 3, 7: 4, None: 5, Silent(): 6},
    "wide": [["x" * 1000] * 90] * 90,
    "wide mapping": {f"k{n}": {f"j{m}": "y" * 300 for m in range(50)} for n in range(50)},
    "exception": ValueError("a\nb\x1b"), "tuple": (1, (2, (3, (4, (5, (6, (7,))))))),
    "long keys": {"k" * 10**5: 1, "q" * 10**5: 2},
    "memoryview": memoryview(b"x"), "floats": [0.1] * 99, "nothing": None, "yes": True,
    "big floats": [1e308] * 99,
}  # fmt: skip


def _kind(value: object) -> str:
    return type(value).__name__


def written(form: Logs | None = None, event: Any = "said", **fields: Any) -> str:
    """What the log writes for one event."""
    stream = StringIO()
    logger(form or Logs(), stream).info(event, **fields)
    return stream.getvalue()


def one_object(line: str) -> dict[str, Any]:
    """The only object on the only line; strictly JSON, plain ASCII, within bounds."""
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert line.isascii()
    assert not CONTROLS & set(line)
    assert len(line) <= LARGEST
    found: dict[str, Any] = json.loads(line, parse_constant=_no_constant)
    assert {"event", "level", "timestamp"} <= set(found)
    json.dumps(found, ensure_ascii=False).encode()  # no lone surrogate came through
    return found


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.parametrize("text", [*HOSTILE, *EXTRA], ids=lambda text: ascii(text)[:30])
def test_a_hostile_text_is_one_json_object_wherever_it_stands(text: str) -> None:
    """As event, value, key, in depth, and in an exception."""
    assert one_object(written(None, text, value=text))["level"] == "info"
    one_object(written(None, "said", nested={text: [text, {text: text}]}, again=[text] * 5))
    one_object(written(None, "said", **{text: text}))
    stream = StringIO()
    try:
        raise ValueError(text)
    except ValueError:
        logger(Logs(), stream).exception(text)
    assert one_object(stream.getvalue())["exception"].startswith("Traceback")


@pytest.mark.parametrize("value", STRANGE.values(), ids=STRANGE)
def test_a_strange_value_raises_nothing_and_breaks_no_line(value: Any) -> None:
    """Failing, vast, circular, infinite: the record is whole, and the event is in it."""
    assert one_object(written(None, "said", value=value, more={"deep": [value]}))["event"] == "said"
    if value is not None:  # structlog leaves out an event that is nothing
        one_object(written(None, value))


@pytest.mark.parametrize("value", [*STRANGE.values(), *HOSTILE, *EXTRA], ids=_kind)
def test_text_for_people_is_one_line_too(value: Any) -> None:
    """No raw control byte reaches a terminal."""
    line = written(Logs(format="console"), "said", value=value, **{"odd key=": 1, "\n": 2})
    assert line.count("\n") == 1
    assert not CONTROLS & set(line)
    assert len(line) <= 2 * LARGEST
    assert "event=said" in line


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.characters(categories=["Cs"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@settings(max_examples=40)
@given(st.dictionaries(st.text(), _values, max_size=8), st.text())
def test_random_records_are_json(fields: dict[str, Any], event: str) -> None:
    """Whatever structure of whatever values."""
    for name in ("self", "event", "exc_info", "stack_info"):
        fields.pop(name, None)
    one_object(written(None, event, **fields))


@dataclass
class Served:
    """A request as the access log is told of it, with these words in every place that a client or an app fills."""

    path: str
    fault: str | None
    plan: Any
    refused: Decision | None
    caller: Caller
    status: int = 200
    sent: int = 7
    request_id: str = "r1"
    broken: bool = False


def _served(words: Callable[[], str], number: int) -> Served:
    plan, fault = SimpleNamespace(key=(words(), "GET")), words() if number % 5 else None
    refused = Decision(False, "per_client", where=words()) if number % 3 else None
    return Served("/" + words(), fault, plan, refused, Caller("203.0.113.1"))


@pytest.mark.proof
def test_every_record_of_a_million_is_one_json_object() -> None:
    """Random mixtures of the hostile texts as event, key, value and in depth; strange values; and the access log."""
    records = 1_000_000 if FULL else 20_000
    chance, strange = random.Random("records"), [*STRANGE.values()]
    stream, texts = StringIO(), (*HOSTILE, *(one[:200] for one in EXTRA))
    log, access = logger(Logs(), stream), AccessLog(Logs(), stream)

    def words() -> str:
        return "".join(chance.choices(texts, k=chance.randint(1, 4)))

    def write(number: int) -> None:
        if number % 2:
            access.add(cast("Any", _served(words, number)), 1000, 10**18)
            access.flush()
        elif number % 500 == 0:
            log.info("said", value=chance.choice(strange), words=words())
        else:
            log.info(words(), value=words(), nested={words(): [words()]}, **{f"_{words()}": words()})

    broken = 0
    for number in range(records):
        stream.seek(0)
        stream.truncate()
        try:
            write(number)
            one_object(stream.getvalue())
        except (AssertionError, ValueError):
            broken += 1
    figure(
        f"log records, of {records:,} with hostile texts, that are not one JSON object on one line", 0, broken
    )
    assert broken == 0


def test_a_log_that_cannot_be_written_costs_no_request() -> None:
    """A full disk, a reader that has gone, a stream that is closed."""

    class Full(StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    closed = StringIO()
    closed.close()
    for stream in (Full(), closed):

        async def scenario(stream: StringIO = stream) -> None:
            house = harden(site(), limits())
            house.app.service.log = logger(Logs(), stream)
            house.app.service.access = AccessLog(Logs(), stream)
            house.app.service.log.info("hello")
            assert await house.status() == 200

        run(scenario())


NAMES = (
    "authorization", "Authorization", "AUTHORIZATION", "cookie", "Set-Cookie", "set_cookie", "password",
    "passwd", "secret",
    "token", "api_key", "api-key", "apiKey", "X-API-Key", "x_api_key", "access_token", "accessToken",
    "refresh-token",
    "card_number", "Card-Number", "cardNumber", "proxy-authorization", "client_secret", "private_key",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_secret_names_lose_their_value_at_any_depth(name: str) -> None:
    """Those always secret and those the spec lists, however they are spelled, also as bytes or pairs."""
    canary = "hunter2-canary"
    plain = Logs(redact=("card_number",))
    fields: dict[str, Any] = {
        name: canary,
        "one": {
            name: canary,
            "two": [{name: {"three": canary}}, (name, canary), [name.encode(), canary.encode()]],
        },
        "headers": {name.encode(): canary.encode()},
        "list": {name: [canary, {"x": canary}]},
    }
    for form in (plain, Logs(format="console", redact=("card_number",))):
        line = written(form, **fields)
        assert canary not in line
        assert REDACTED in line


def test_other_names_keep_theirs() -> None:
    """A field that only contains such a word is no secret."""
    fields = {"tokens_left": 3, "cookie_banner": "shown", "pair": ["a", "b"], "passwordless": True}
    found = one_object(written(None, **fields))
    assert {name: found[name] for name in fields} == fields


async def test_lines_of_the_handler_carry_the_request_id() -> None:
    """From async code, from a thread, from a task of the request; and never the id of another request."""

    async def handler(request: Request) -> Response:
        service = current()
        assert service is not None
        service.log.info("direct", who=request.query_params["n"])
        await asyncio.sleep(0)
        await asyncio.to_thread(service.log.info, "thread", who=request.query_params["n"])
        await asyncio.create_task(_later(service, request.query_params["n"]))
        return PlainTextResponse(request_id())

    async def _later(service: Any, number: str) -> None:
        service.log.info("task", who=number)

    house = harden(site(Route("/", handler)), limits())
    answers = await asyncio.gather(*(house.call(query_string=b"n=%d" % n) for n in range(20)))
    ids = {str(number): answer.body.decode() for number, answer in enumerate(answers)}
    assert len(set(ids.values())) == 20
    said = [line for line in house.lines if line["event"] != "request"]
    assert len(said) == 60
    assert all(line["request_id"] == ids[line["who"]] for line in said)
    assert [answer.headers["x-request-id"] for answer in answers] == list(ids.values())
    assert request_id() == ""


_FORKED = """
import asyncio, io, os
from tests.runtime.asgi_client import call, harden, limits, site
app = harden(site(), limits()).app
for _ in range(2):
    if not os.fork():
        print(asyncio.run(call(app)).headers["x-request-id"], flush=True)
        os._exit(0)
    os.wait()
"""


def test_forked_processes_have_ids_of_their_own() -> None:
    """As workers of `gunicorn --preload`, which import the app before they are forked."""
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", _FORKED]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    one, two = said.stdout.split()
    assert one != two


def test_the_process_keeps_its_own_structlog() -> None:
    """Neither its configuration nor what it logs changes."""
    before = dict(structlog.get_config())
    harden(site(), limits()).app.service.log.info("ours")
    assert structlog.get_config() == before
    assert not structlog.is_configured()


async def _planted(house: House, chance: random.Random) -> list[str]:
    """Requests with canaries wherever a client can put one; the canaries."""
    canaries = [f"canary{chance.getrandbits(64):016x}" for _ in range(100)]
    left = iter(canaries)
    for place in range(20):
        headers = [
            ("authorization", f"Bearer {next(left)}"),
            (f"x-odd-{place}", next(left)),
            ("cookie", f"s={next(left)}"),
        ]
        answer = Answer()
        with contextlib.suppress(ValueError):
            await house.call(
                "POST",
                ("/", "/nowhere", "/fails", "/large")[place % 4],
                headers=headers,
                query_string=f"token={next(left)}".encode(),
                body=[next(left).encode()] * 50,
                answer=answer,
            )
    return canaries


async def test_the_access_log_holds_no_secret_of_a_request() -> None:
    """100 canaries in headers, cookies, queries, bodies and exceptions: none is written or shown."""

    async def fails(request: Request) -> Response:
        raise ValueError((await request.body()).decode())

    async def large(request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()

    app = site(
        Route("/", large, methods=["POST"]),
        Route("/fails", fails, methods=["POST"]),
        Route("/large", large, methods=["POST"]),
        WebSocketRoute("/ws", socket),
    )
    spec = limits(rate={"rate": "15/hour"}, body={"body": "500B", "match": {"path": "/large"}})
    house = harden(app, spec)
    canaries = await _planted(house, random.Random("canaries"))
    await handshake(house.app, "/ws")
    log = house.stream.getvalue()
    assert {line["status"] for line in house.lines if "status" in line} == {200, 404, 413, 429, 500}
    shown = log + house.app.service.metrics.expose()[0].decode()
    assert [one for one in canaries if one in shown] == []
    assert all(one_object(line + "\n") for line in log.splitlines())


@pytest.mark.parametrize("text", [*HOSTILE, *EXTRA], ids=lambda text: ascii(text)[:30])
async def test_a_hostile_path_is_one_line_of_the_access_log(text: str) -> None:
    """Whatever comes as a path, method or client."""
    house = harden(site(), limits())
    await house.call(path="/" + text)
    await house.call(method=text[:50] or "X", client=text[:50])
    for line in house.stream.getvalue().splitlines(keepends=True):
        one_object(line)
    assert len(house.lines) == 2


@pytest.mark.parametrize(("level", "events"), [("info", 2), ("warning", 1), ("error", 1)])
async def test_the_level_is_obeyed(level: Any, events: int) -> None:
    """From `warning` on only failed requests are written."""

    async def fails(request: Request) -> Response:
        return PlainTextResponse("no", 500 if request.url.path == "/fails" else 200)

    spec = spec_of(observability={"logs": {"level": level}})
    house = harden(site(Route("/{x:path}", fails)), spec)
    await house.call(path="/fine")
    await house.call(path="/fails")
    assert len(house.lines) == events
    assert (house.lines[-1]["level"], house.lines[-1]["status"]) == ("error", 500)
