"""The series: what the contract says, readable by others, bounded whatever clients invent."""

from __future__ import annotations

import asyncio
import random
import string
import subprocess
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mahavishnu.contract import contract
from mahavishnu.derived.bound import bound
from mahavishnu.runtime.process import Usage, usage
from mahavishnu.runtime.telemetry.metrics import Metrics
from mahavishnu.series import HTTP_ACTIVE, HTTP_DURATION, LIMIT_DECISIONS, MEMORY, METHODS, ROUTES_SHOWN
from mahavishnu.signals import AgreementError, Kind, Label, Signal, Source
from mahavishnu.testing import VirtualClock
from tests.figures import FULL, figure
from tests.judges import judge
from tests.runtime.asgi_client import METHODS as ALL
from tests.runtime.asgi_client import (
    House,
    Message,
    Receive,
    Send,
    chunks,
    harden,
    limits,
    run,
    scope_of,
    site,
    spec_of,
)

EVERY = spec_of(
    limits={
        "rate": {"rate": "5/hour"},
        "slots": {"concurrency": 2},
        "body": {"body": "1kB"},
        "time": {"timeout": "2s"},
        "seen": {"rate": "1/hour", "mode": "observe"},
    },
    dependencies={
        "stripe": {"timeout": "1s", "retry": {"attempts": 2}, "breaker": {"consecutive_failures": 3}}
    },
    slos={"availability": {"objective": "99.9%"}, "latency": {"objective": "95%", "under": "1s"}},
)


async def _busy(house: House) -> str:
    """Some traffic, then what a scraper sees."""
    for number in range(8):
        await house.call(path="/" if number % 2 else "/nowhere")
    answer = await house.call(path="/metrics")
    assert answer.status == 200
    return answer.body.decode()


async def test_the_exposition_is_read_by_the_reference_parser() -> None:
    """Every family has its help and type, none is outside the contract, and none is shown twice."""
    house = harden(site(), EVERY)
    text = await _busy(house)
    families = {one.name: one for one in read_text(text)}
    signals = house.app.service.contract.signals.values()
    assert set(families) <= {
        one.name.removesuffix("_total") for one in signals if one.source is Source.RUNTIME
    }
    assert all(one.documentation for one in families.values())
    assert {one.type for one in families.values()} == {"counter", "gauge", "histogram"}
    samples = [one for family in families.values() for one in family.samples]
    values = {f"{one.name}{sorted(one.labels.items())}": one.value for one in samples}
    assert len(values) == len(samples)
    assert values["mahavishnu_limit_decisions_total[('limit', 'rate'), ('outcome', 'refused')]"] == 3


async def test_the_exposition_is_read_as_openmetrics_when_asked() -> None:
    """The scraper's Accept header decides."""
    house = harden(site(), EVERY)
    await _busy(house)
    answer = await house.call(
        path="/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}
    )
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    read = cast("Any", openmetrics).text_string_to_metric_families
    assert len(list(read(answer.body.decode()))) > 10


async def test_a_version_that_is_none_is_answered_as_text() -> None:
    """prometheus_client fails on such a word; a scraper, or whoever asks, is shown the series all the same."""
    asked = {"accept": "application/openmetrics-text; version=new; escaping=dots"}
    answer = await harden(site(), EVERY).call(path="/metrics", headers=asked)
    assert (answer.status, answer.headers["content-type"][:10]) == (200, "text/plain")


def test_promtool_finds_nothing_to_say() -> None:
    """Names, units, help and types are as Prometheus' own linter wants them."""
    promtool = judge("promtool")

    async def scenario() -> str:
        return await _busy(harden(site(), EVERY))

    said = subprocess.run(
        [promtool, "check", "metrics"], input=run(scenario()), capture_output=True, text=True, check=False
    )
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


def _metrics() -> Metrics:
    return Metrics(contract(EVERY).signals)


OUTSIDE: dict[str, Callable[[Metrics], object]] = {
    "unknown counter": lambda one: one.counter(Signal("mahavishnu_invented_total", Kind.COUNTER, "No.")),
    "unknown gauge": lambda one: one.gauge(Signal("invented", Kind.GAUGE, "No."), lambda: 1),
    "unknown histogram": lambda one: one.histogram(Signal("invented_seconds", Kind.HISTOGRAM, "No.")),
    "unknown read counter": lambda one: one.read_counter(
        Signal("invented_total", Kind.COUNTER, "No."), lambda: 1
    ),
    "another kind": lambda one: one.counter(HTTP_ACTIVE),
    "a gauge for a counter": lambda one: one.gauge(
        LIMIT_DECISIONS, lambda: 1, limit="rate", outcome="allowed"
    ),
    "a label too few": lambda one: one.counter(LIMIT_DECISIONS, limit="rate"),
    "a label too many": lambda one: one.gauge(MEMORY, lambda: 1, host="x"),
    "another label": lambda one: one.counter(LIMIT_DECISIONS, limit="rate", result="allowed"),
    "an unknown limit": lambda one: one.counter(LIMIT_DECISIONS, limit="invented", outcome="allowed"),
    "an unknown outcome": lambda one: one.counter(LIMIT_DECISIONS, limit="rate", outcome="maybe"),
    "an unknown method": lambda one: one.histogram(
        HTTP_DURATION, http_request_method="BREW", http_route="/", http_response_status_code="200"
    ),
    "an unknown status": lambda one: one.histogram(
        HTTP_DURATION, http_request_method="GET", http_route="/", http_response_status_code="999"
    ),
    "a signal made up from a known name": lambda one: one.counter(
        Signal(LIMIT_DECISIONS.name, Kind.COUNTER, "No.", (Label("client"),)), client="1.2.3.4"
    ),
}


@pytest.mark.parametrize("ask", OUTSIDE.values(), ids=OUTSIDE)
def test_a_signal_outside_the_contract_is_refused(ask: Callable[[Metrics], object]) -> None:
    """An unknown name, kind, label or value cannot be moved, so no rule can miss it."""
    with pytest.raises(AgreementError):
        ask(_metrics())


async def _flood(count: int) -> tuple[int, int]:
    """Random methods, paths and statuses; how many series there are, and how many there can be."""
    chance = random.Random("flood")

    async def any_status(request: Request) -> Response:
        return PlainTextResponse("", chance.randint(90, 620) if chance.random() < 0.5 else 200)

    app = site(Route("/orders/{id}", any_status, methods=ALL), Route("/raw", any_status, methods=ALL))
    house = harden(app, spec_of(limits={"all": {"rate": "1000000/second"}}))
    for _ in range(count):
        name = "".join(chance.choices(string.printable + "é\ufffd", k=chance.randint(0, 12)))
        method = chance.choice([*METHODS, "".join(chance.choices(string.ascii_letters, k=5)), name])
        await house.call(method, chance.choice(["/orders/", "/", "/raw", "/orders/x/"]) + name, client=name)
    (await house.call(path="/metrics")).body.decode()
    return house.app.service.metrics.series(), bound(house.app.service.contract).of(2)


def test_what_clients_invent_makes_no_series() -> None:
    """5,000 random paths, methods, statuses and clients: never more than routes x methods x statuses."""
    few, most = run(_flood(1000))
    many, _ = run(_flood(5000))
    assert few <= most
    assert few <= many <= most


@pytest.mark.proof
def test_what_many_clients_invent_makes_no_series() -> None:
    """Ten times as many, and every status there is: the bound that `check` prints is reached and never passed."""
    count = 100_000 if FULL else 25_000

    async def scenario() -> tuple[int, int, float]:
        before = usage().memory
        series, most = await _flood(count)
        return series, most, (usage().memory - before) / 2**20

    series, most, grown = asyncio.run(scenario())
    figure(f"series after {count:,} random requests, with all statuses", f"at most {most:,}", f"{series:,}")
    figure(f"memory they cost, with {count:,} clients' rates", "< 32 MB", f"{grown:.0f} MB")
    assert series <= most
    assert grown < 32


def test_the_bound_is_the_number_itself() -> None:
    """Every route, method and status: as many series as `check` prints, not one more or less."""
    service = harden(site(), EVERY).app.service
    for route in ("/", "/orders", "unmatched"):
        for method in METHODS:
            for status in (*range(201, 212), *range(90, 620)):
                service.cell(service.engine.planner.plan(route, method), status).observe(0.1)
    assert service.metrics.series() == bound(service.contract).of(2)


async def test_rare_statuses_are_shown_as_their_class() -> None:
    """The first ten of a route and method as they are, and 429; others as any client may take them: none is lost."""
    statuses = [*range(200, 205), *range(400, 404), 500, 418, 451, 511, 299, 429, 200, 418]

    async def answer(request: Request) -> Response:
        return PlainTextResponse("", statuses[int(request.path_params["n"])])

    house = harden(site(Route("/{n}", answer)), limits())
    for number in range(len(statuses)):
        await house.call(path=f"/{number}")
    shown = {
        labels["http_response_status_code"]: value
        for labels, value in _counts(house, "http_server_request_duration_seconds_count")
    }
    assert shown == {
        **{str(status): 1 for status in (*range(201, 205), *range(401, 404), 429)},
        "200": 2 + 1,  # and 299
        "400": 1 + 3,  # and 418 twice, 451
        "500": 1 + 1,  # and 511
    }


def _counts(house: House, name: str) -> list[tuple[dict[str, str], float]]:
    families = house.app.service.metrics.collect()
    return [(one.labels, one.value) for family in families for one in family.samples if one.name == name]


async def test_an_app_with_too_many_routes_has_the_rest_unmatched() -> None:
    """In the series alone: each route still has its own limits."""
    house = harden(site(*(Route(f"/{n}", _fine) for n in range(ROUTES_SHOWN + 5))), limits())
    for number in range(ROUTES_SHOWN + 5):
        assert await house.status(path=f"/{number}") == 200
    counts = _counts(house, "http_server_request_duration_seconds_count")
    assert len(counts) == ROUTES_SHOWN + 1
    assert [count for labels, count in counts if labels["http_route"] == "unmatched"] == [5]


async def test_half_a_character_in_a_route_can_be_scraped() -> None:
    """An app may name its routes as it likes; what UTF-8 cannot say is shown as its number."""
    house = harden(site(Route("/a\ud800", _fine)), limits())
    assert await house.status(path="/a\ud800", raw_path=b"/a") == 200
    text = (await house.call(path="/metrics")).body.decode()
    labels = [one.labels for family in read_text(text) for one in family.samples]
    assert {one["http_route"] for one in labels if "http_route" in one} == {"/a\\ud800"}


async def test_a_route_with_an_odd_name_is_shown_whole() -> None:
    """Quotes, backslashes and line breaks of a template are escaped in the exposition."""
    odd = '/a"b\\c\nd/{x}'
    house = harden(site(Route(odd, _fine)), limits())
    assert await house.status(path='/a"b\\c\nd/1') == 200
    text = (await house.call(path="/metrics")).body.decode()
    labels = [one.labels for family in read_text(text) for one in family.samples]
    assert {one["http_route"] for one in labels if "http_route" in one} == {odd}


async def _fine(request: Request) -> Response:
    return PlainTextResponse("fine")


@pytest.mark.parametrize(
    "name",
    [
        "x-forwarded-for",
        "forwarded",
        "x-real-ip",
        "via",
        "x-forwarded-host",
        "x-forwarded-proto",
        "X-Forwarded-For",
    ],
)
async def test_nobody_sees_the_series_through_a_proxy(name: str) -> None:
    """A request that was handed on gets 404, also for HEAD; the scraper beside the service does not."""
    house = harden(site(), EVERY)
    for method in ("GET", "HEAD"):
        answer = await house.call(method, "/metrics", headers={name: "203.0.113.1"})
        assert answer.status == 404
        assert b"mahavishnu" not in answer.body
        assert await house.status(method, "/metrics") == 200


@pytest.mark.parametrize(
    "path", ["/metrics/", "//metrics", "/METRICS", "/metrics;x", "/metrics%00", "/./metrics", "/metrics\n"]
)
async def test_only_the_very_path_shows_them(path: str) -> None:
    """Any other spelling is the app's, and limited as such."""
    house = harden(site(), EVERY)
    assert await house.status(path=path) == 404
    assert house.count("rate", "allowed") == 1


async def test_the_path_is_the_specs() -> None:
    """And below a prefix that a proxy has left on, the same."""
    house = harden(site(), spec_of(observability={"metrics": {"path": "/-/series"}}))
    statuses = [await house.status(path=path) for path in ("/-/series", "/metrics")]
    assert statuses == [200, 404]
    assert await house.status(path="/api/-/series", root_path="/api") == 200
    assert await house.status(path="/-/series", root_path="/") == 200
    assert await house.status(path="/-/series", root_path="/-/s") == 200  # which is no part of it
    assert await house.status("POST", "/-/series") == 404


async def test_health_and_series_are_no_requests_of_the_service() -> None:
    """They are neither limited nor counted nor logged: a scraper does not shift the numbers it reads."""
    house = harden(site(), limits(calls={"rate": "1/hour"}))
    for path in ("/healthz", "/readyz", "/metrics"):
        assert [await house.status(path=path) for _ in range(5)] == [200] * 5
    assert house.lines == []
    assert house.count("calls", "allowed") == 0


async def test_durations_fall_where_the_clock_says() -> None:
    """300 ms are in the bucket up to 0.5 s and in none below; running requests are counted while they run."""

    async def handler(request: Request) -> Response:
        await house.clock.sleep(300 * 10**6)
        return PlainTextResponse("ok", 201)

    house = harden(site(Route("/{x}", handler)), limits())
    tasks = [asyncio.create_task(house.call(path=f"/{n}")) for n in range(3)]
    await house.clock.settle()
    assert house.samples()["http_server_active_requests{}"] == 3
    house.clock.advance("300ms")
    await asyncio.gather(*tasks)
    shown = house.samples()
    assert shown["http_server_active_requests{}"] == 0
    labels = "http_request_method=GET,http_response_status_code=201,http_route=/{x}"
    name = "http_server_request_duration_seconds"
    assert shown[f"{name}_count{{{labels}}}"] == 3
    assert shown[f"{name}_sum{{{labels}}}"] == pytest.approx(0.9)
    buckets = [shown[f"{name}_bucket{{{labels},le={bound}}}"] for bound in ("0.25", "0.5", "+Inf")]
    assert buckets == [0, 3, 3]


async def _slept(clock: VirtualClock, message: Message, sent: list[Message]) -> None:
    """A client that takes 200 ms for each part that follows another one: a server waits for it with the next."""
    if sent and sent[-1]["type"] == "http.response.body":
        clock.advance("200ms")
    sent.append(message)


@pytest.mark.parametrize(
    ("parts", "took"), [([b"all"], 0.1), ([b"a", b"b", b""], 0.5), ([b"a", b"b"], 0.3), ([], 0.1)]
)
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("guarded", [{}, {"wide": {"concurrency": 4}}])
def test_what_an_app_does_after_its_response_is_no_latency(
    parts: list[bytes], took: float, fails: bool, guarded: dict[str, Any]
) -> None:
    """Starlette's background tasks: the app ends with them, and its client has had all long before; the last part,
    whenever the server could send it, has been."""

    async def app(_: Any, __: Receive, send: Send) -> None:
        house.clock.advance("100ms")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for place, part in enumerate(parts):
            await send({"type": "http.response.body", "body": part, "more_body": place + 1 < len(parts)})
        if not parts:
            await send({"type": "http.response.body"})
        house.clock.advance("30s")
        if fails:
            raise ValueError

    async def scenario() -> None:
        sent: list[Message] = []
        with suppress(ValueError):
            await house.app(scope_of(), chunks([]), partial(_slept, house.clock, sent=sent))
        shown = house.samples()
        labels = "http_request_method=GET,http_response_status_code=200,http_route=unmatched"
        assert shown[f"http_server_request_duration_seconds_sum{{{labels}}}"] == pytest.approx(took)
        (line,) = [one for one in house.lines if one["event"] == "request"]
        assert (line["duration_ms"], line.get("error")) == (took * 1000, "ValueError" if fails else None)

    house = harden(app, limits(**guarded))
    run(scenario())


async def test_the_operating_systems_numbers_are_read_at_each_scrape() -> None:
    """Through the injected reader; the real one gives true ones."""
    now = [Usage(1000, 1.5)]
    house = harden(site(), limits(), process=lambda: now[0])
    assert house.samples()["process_resident_memory_bytes{}"] == 1000
    now[0] = Usage(2000, 2.5)
    shown = house.samples()
    assert (shown["process_resident_memory_bytes{}"], shown["process_cpu_seconds_total{}"]) == (2000, 2.5)
    real = usage()
    assert 10**6 < real.memory < 10**11
    assert real.cpu > 0


async def test_the_spec_in_force_is_shown() -> None:
    """By its hash, and each limit by its number."""
    house = harden(site(), EVERY)
    shown = house.samples()
    assert shown[f"mahavishnu_spec_info{{hash={house.app.service.contract.hash}}}"] == 1
    quotas = {name: shown[f"mahavishnu_limit_quota{{limit={name}}}"] for name in EVERY.limits}
    assert quotas == {"rate": 5, "slots": 2, "body": 1000, "time": 2, "seen": 1}


def test_every_series_of_a_limit_is_there_before_the_first_request() -> None:
    """At zero: a rate over a series that does not exist yet would be blind to its first step."""
    house = harden(site(), EVERY)
    shown = house.samples()
    for name in EVERY.limits:
        for outcome in ("allowed", "refused", "observed"):
            assert shown[f"mahavishnu_limit_decisions_total{{limit={name},outcome={outcome}}}"] == 0
