"""A server that does not let us do everything, or that forgets: what is needed, and what is told."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hiredis import ReplyError
from redis.exceptions import ResponseError
from starlette.routing import Route

from mahavishnu.algorithms import Gcra, SlidingLog, SlidingWindow
from mahavishnu.asgi import Hardening
from mahavishnu.clock import SystemClock
from mahavishnu.runtime.current import forget
from mahavishnu.runtime.redis.address import address
from mahavishnu.runtime.redis.link import words_of
from mahavishnu.runtime.redis.store import RedisStore
from tests.runtime.asgi_client import call, ok, site, spec_of
from tests.runtime.redis.servers import Charged, Server, server
from tests.runtime.redis.test_store import Fleet

ROOT = Path(__file__).resolve().parents[3]
DAY = 86_400 * 10**9
EVERY = (
    Charged("a", Gcra(5, DAY, 5)),
    Charged("b", SlidingWindow(5, DAY)),
    Charged("c", SlidingLog(5, DAY)),
)


@pytest.fixture(scope="module")
def redis() -> Iterator[Server]:
    with server() as one:
        yield one


def rights() -> list[str]:
    """What docs/fleets.md says that a restricted user needs."""
    text = (ROOT / "docs/fleets.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"`(~\{mahavishnu:shop\}\*[^`]*)`", " ".join(text.split()))
    _, _, table = text.partition("| more rights |")
    return [*str(said).split(" "), *(one.replace("\\", "") for one in re.findall(r"`(\+[^`]*)`", table))]


def user(redis: Server, name: str, *rules: str) -> str:
    """The URL of a new user."""
    with redis.client() as client:
        client.flushall()
        client.execute_command("ACL", "SETUSER", name, "reset", "on", ">pw", *rules)
    return redis.url.replace("//", f"//{name}:pw@")


async def answers(one: Fleet) -> list[bool]:
    """What seven requests get, and an eighth, once the first has been given back."""
    taken = [await one.store.take(EVERY, ["k"] * 3) for _ in range(7)]
    one.store.give_back(taken[0])
    await asyncio.sleep(0.05)
    taken.append(await one.store.take(EVERY, ["k"] * 3))
    return [each.admitted for each in taken]


def test_a_user_with_the_rights_that_the_manual_lists_can_do_all_that_is_needed(redis: Server) -> None:
    """Rates of every kind, what is given back, and the word that breakers leave; and each of the rights is needed."""

    async def story() -> None:
        one, heard = Fleet(user(redis, "few", *rights())), list[int]()
        assert await answers(one) == [True] * 5 + [False] * 2 + [True]
        assert (one.store.reason(), one.calls("ok"), one.calls("error")) == ("", 9, 0)
        one.store.tell_open("bank", 10**10)
        one.store.ask_open("bank", heard.append)
        await asyncio.sleep(0.05)
        assert len(heard) == 1
        one.store.close()

    asyncio.run(story())


def test_a_user_with_them_may_ask_for_the_nodes_of_a_cluster(redis: Server) -> None:
    """The right has two words, and one without it is told so; this server answers that it is no cluster."""
    for given, told in ((rights(), "cluster support disabled"), ([], "no permissions")):
        user(redis, "few", *given)
        with redis.client(username="few", password="pw") as client, pytest.raises(ResponseError, match=told):
            client.execute_command("CLUSTER", "SLOTS")
    assert "+cluster|slots" in rights()


@pytest.mark.parametrize("given", ["shop", "shop@staging"])
@pytest.mark.parametrize("whose", ["shop", "shop@staging", "shop_two"])
def test_the_rights_of_an_environment_are_none_in_another(redis: Server, given: str, whose: str) -> None:
    """Nor those of the service without one; the manual has the pattern of each."""
    text = (ROOT / "docs/fleets.md").read_text(encoding="utf-8")
    pattern = f"~{{mahavishnu:{given}}}*"
    assert f"`{pattern}" in text

    async def story() -> str:
        one = Fleet(user(redis, "few", pattern, *rights()[1:]), whose=whose)
        await answers(one)
        reason = one.store.reason()
        one.store.close()
        return reason

    assert bool(asyncio.run(story())) is (given != whose)


@pytest.mark.parametrize("missing", ["+eval", "+evalsha", "+time", "+get", "+set"])
def test_a_right_that_is_missing_is_told_in_the_servers_words(redis: Server, missing: str) -> None:
    """Not as `ERR`: whoever reads the log can give the right."""

    async def story() -> str:
        one = Fleet(user(redis, "few", *(right for right in rights() if right != missing)))
        await answers(one)
        reason = one.store.reason()
        one.store.close()
        return reason

    reason = asyncio.run(story())
    assert len(reason) > 20
    assert "\n" not in reason


def test_only_what_is_asked_is_needed(redis: Server) -> None:
    """Who may not set names, ask how much memory there is, or read how long a key lasts has a store all the same."""

    async def story() -> None:
        extra = ("+client|setname", "+info", "+pttl", "+select", "+cluster|slots")
        one = Fleet(user(redis, "few", *(right for right in rights() if right not in extra)))
        assert await answers(one) == [True] * 5 + [False] * 2 + [True]
        assert one.calls("skipped") == 0
        one.store.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("LOADING Redis is loading the dataset in memory", "LOADING"),
        ("MOVED 3999 10.0.0.7:6379", "MOVED"),
        (
            "ERR unknown command 'AUTH', with args beginning with: 'shop' 's3cret' ",
            "ERR unknown command 'AUTH'",
        ),
        ("NOPERM this user has no permissions to run\r\nthe 'eval' command", None),
        ("ERR " + "x" * 9000, "ERR " + "x" * 196),
        ("ERR s3cret is no number", "ERR … is no number"),
    ],
)
def test_the_servers_words_hold_no_secret_and_no_end_of_a_line(said: str, told: str | None) -> None:
    """Of an error with a name of its own the name is enough, and stays the same with every try."""
    shown = words_of(ReplyError(said), ("shop", "s3cret"))
    assert shown == (told or "NOPERM this user has no permissions to run the 'eval' command")


@pytest.mark.parametrize(
    ("policy", "memory", "told"),
    [
        ("volatile-lru", "64mb", ["volatile-lru"]),
        ("allkeys-lfu", "64mb", ["allkeys-lfu"]),
        ("noeviction", "64mb", []),
        ("volatile-lru", "0", []),
    ],
)
def test_a_server_that_evicts_is_told_of_once(
    redis: Server, policy: str, memory: str, told: list[str]
) -> None:
    """For every connection of a process: what is evicted is forgiven. One without a bound evicts nothing."""
    heard: list[str] = []

    async def story() -> None:
        one = Fleet(redis.url)
        store = RedisStore(address(redis.url), "shop", SystemClock(), one.metrics, evicts=heard.append)
        for _ in range(2):
            await store.take(EVERY, ["k"] * 3)
            await asyncio.sleep(0.05)
            store.close()
        one.store.close()

    with redis.client() as client:
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", memory)
        try:
            asyncio.run(story())
        finally:
            client.config_set("maxmemory", "0")
    assert heard == told


def test_the_log_warns_of_a_server_that_evicts(redis: Server) -> None:
    """With what to do about it."""
    log = StringIO()

    async def story() -> None:
        forget()
        app = Hardening(
            site(Route("/", ok)), spec_of(store=redis.url, limits={"a": {"rate": "5/hour"}}), log_to=log
        )
        await call(app)
        await asyncio.sleep(0.1)
        store: Any = app.service.store
        store.close()

    with redis.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", "64mb")
        try:
            asyncio.run(story())
        finally:
            client.config_set("maxmemory", "0")
    (line,) = [json.loads(line) for line in log.getvalue().splitlines() if "evict" in line]
    assert line["level"] == "warning"
    assert line["policy"] == "allkeys-lru"
    assert "noeviction" in line["help"]
