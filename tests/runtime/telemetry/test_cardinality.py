"""However clients name things, the series stay the same few, their memory too, and whoever scrapes can read them."""

from __future__ import annotations

import asyncio
import random
import string
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families as read_text
from starlette.routing import Route

from mahavishnu.runtime.process import usage
from mahavishnu.series import METHODS
from tests.figures import FULL, figure
from tests.hostile import HOSTILE
from tests.judges import judge
from tests.runtime.asgi_client import METHODS as ALL
from tests.runtime.asgi_client import House, harden, ok, run, site, spec_of

SPEC = spec_of(
    limits={"all": {"rate": "1000000/second"}, "deadline": {"timeout": "10s"}},
    observability={"logs": {"level": "error"}},
)
_LETTERS = string.printable + "é\u2028\ufffd"


def shop() -> House:
    """Three routes that take every usual method."""
    routes = [Route(path, ok, methods=ALL) for path in ("/", "/orders/{id}", "/orders/{id}/lines")]
    return harden(site(*routes), SPEC)


def word(chance: random.Random, longest: int = 24) -> str:
    """What somebody might send."""
    return "".join(chance.choices(_LETTERS, k=chance.randint(1, longest)))


async def known(house: House) -> None:
    """Every method on every route, beside every route, and where there is none."""
    for method in (*METHODS, "BREW"):
        for path in ("/", "/orders/1", "/orders/1/", "/orders/1/lines", "/orders/1/lines/", "/nowhere"):
            await house.call(method, path)


async def invent(house: House, chance: random.Random, requests: int) -> None:
    """Random paths, half of them of a route, random methods, a new user agent each."""
    for number in range(requests):
        method = word(chance, 6) if number % 3 else chance.choice(METHODS)
        path = chance.choice(("/", "/orders/", "/orders/7/lines/")) + word(chance)
        agent = word(chance).encode("utf-8").decode("latin-1")
        await house.call(method, path, headers={"user-agent": agent})
        house.clock.advance("1ms")


@pytest.mark.proof
def test_a_million_inventions_make_no_series() -> None:
    """What usual requests have made is all there will ever be in series; in memory, what a tenth has made."""
    requests = 1_000_000 if FULL else 50_000

    async def scenario() -> tuple[int, int, float]:
        house, chance = shop(), random.Random("inventions")
        await known(house)
        series = house.app.service.metrics.series()
        await invent(house, chance, requests // 10)
        before = usage().memory
        await invent(house, chance, requests - requests // 10)
        return series, house.app.service.metrics.series(), (usage().memory - before) / 2**20

    few, many, grown = asyncio.run(scenario())
    figure(
        f"series after {requests:,} random paths, methods and user agents",
        f"{few}, as after {6 * (len(METHODS) + 1)} usual ones",
        many,
    )
    figure("memory they cost", "< 10 MB", f"{grown:.1f} MB")
    assert many == few
    assert grown < 10


async def provoke(house: House, hostile: str) -> None:
    """The string wherever a client can put one, and as a route that the app itself has."""
    for path in (f"/{hostile}", f"/orders/{hostile}", f"/named/{hostile}/"):
        await house.call("GET", path, headers={"user-agent": hostile.encode().decode("latin-1")})
        await house.call(hostile, path, headers={"x-request-id": hostile.encode().decode("latin-1")})


def test_hostile_names_can_be_scraped() -> None:
    """64 strings that break careless writers, as paths, methods, headers and route templates."""

    async def scenario() -> str:
        named = [Route(f"/named/{one.replace('{', '(').replace('}', ')')}/", ok) for one in HOSTILE]
        house = harden(site(Route("/orders/{id}", ok), *named), SPEC)
        for one in HOSTILE:
            await provoke(house, one)
        return (await house.call(path="/metrics")).body.decode()

    text = run(scenario())
    routes = {
        sample.labels["http_route"]
        for family in read_text(text)
        for sample in family.samples
        if "http_route" in sample.labels
    }
    methods = {
        sample.labels["http_request_method"]
        for family in read_text(text)
        for sample in family.samples
        if "http_request_method" in sample.labels
    }
    assert methods <= set(METHODS)
    assert len(routes) <= len(HOSTILE) + 2
    told = subprocess.run(
        [judge("promtool"), "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )
    assert told.returncode == 0, told.stderr


@pytest.mark.proof
def test_every_label_value_can_be_scraped() -> None:
    """Random mixtures of the hostile strings: the exposition parses after every hundred of them."""
    rounds = 10_000 if FULL else 1_000

    async def scenario() -> int:
        house, chance, unread = shop(), random.Random("labels"), 0
        for number in range(rounds):
            await provoke(house, "".join(chance.sample(HOSTILE, 3)))
            if number % 100 == 0:
                text = (await house.call(path="/metrics")).body.decode()
                unread += not list(read_text(text))
        return unread

    unread = asyncio.run(scenario())
    figure(f"expositions of {rounds:,} hostile names that cannot be parsed", 0, unread)
    assert unread == 0
