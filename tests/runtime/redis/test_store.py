"""A shared store on real servers: what holds while it answers, and what when it does not."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any, Self, cast

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mahavishnu.alerts.shared_store import STORE_CALLS, STORE_DURATION, STORE_UP
from mahavishnu.algorithms import Gcra, SlidingLog, SlidingWindow
from mahavishnu.asgi import Hardening
from mahavishnu.clock import SystemClock
from mahavishnu.derived.outage import outage
from mahavishnu.policies.rate import Rate
from mahavishnu.protocols import Taken
from mahavishnu.runtime.current import forget
from mahavishnu.runtime.redis.address import address
from mahavishnu.runtime.redis.known import Known
from mahavishnu.runtime.redis.line import Line
from mahavishnu.runtime.redis.link import GONE, Link, nothing
from mahavishnu.runtime.redis.store import RedisStore
from mahavishnu.runtime.telemetry.metrics import Metrics
from tests.metering import value
from tests.ports import free_port
from tests.runtime.asgi_client import call, ok, site, spec_of
from tests.runtime.redis.servers import Charged, Server, server

MINUTE = 60 * 10**9
PER_CLIENT = (Charged("per_client", Gcra(5, MINUTE, 5)),)


class Fleet:
    """A store as one process has it, with its series."""

    def __init__(self, url: str, deadline: float | None = 1, whose: str = "shop") -> None:
        """By default the deadline is one that even a busy machine keeps."""
        if deadline is not None:
            url += f"?socket_timeout={deadline}"
        self.metrics = Metrics({one.name: one for one in (STORE_CALLS, STORE_DURATION, STORE_UP)})
        self.store = RedisStore(address(url), whose, SystemClock(), self.metrics)

    async def take(self, charges: Sequence[Charged] = PER_CLIENT, *keys: str) -> Taken:
        return await self.store.take(charges, keys or ["i:10.0.0.1"] * len(charges))

    def calls(self, outcome: str) -> float:
        return value(self.metrics, "mahavishnu_limit_store_calls_total", outcome=outcome)

    def up(self) -> float:
        return value(self.metrics, "mahavishnu_limit_store_up")

    async def until(self, up: bool, within: float = 8.0) -> None:
        """Wait until it is up, or down: at most as long as the longest pause between two tries, and some."""
        for _ in range(round(within / 0.02)):
            if bool(self.up()) is up:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"not {'up' if up else 'down'} within {within} s: {self.store.reason()}")


@asynccontextmanager
async def fleet(url: str, deadline: float | None = 1, whose: str = "shop") -> AsyncGenerator[Fleet, None]:
    """A store that is up; it lets go of its connection with the block."""
    one = Fleet(url, deadline, whose)
    try:
        await one.until(up=True)
        yield one
    finally:
        one.store.close()


async def _admitted(one: Fleet, times: int, charges: Sequence[Charged] = PER_CLIENT) -> int:
    return sum([(await one.take(charges)).admitted for _ in range(times)])


async def _told(one: Fleet) -> None:
    """Wait until it says why it is not there, for as long as any name may take to be looked up."""
    async with asyncio.timeout(60):
        while one.store.reason() == "not connected yet":  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


def test_all_rates_of_a_request_are_consumed_or_none_is(redis: Server) -> None:
    """What one enforced rate refuses has consumed nothing in the others; what is only observed refuses nobody."""

    async def story() -> None:
        charges = (
            Charged("wide", SlidingWindow(10, MINUTE)),
            Charged("narrow", SlidingLog(2, MINUTE)),
            Charged("watched", Gcra(1, MINUTE, 1), enforced=False),
        )
        async with fleet(redis.url) as one:
            first, second, third = [await one.take(charges) for _ in range(3)]
            assert (first.admitted, first.denied) == (True, ())
            assert (second.admitted, list(second.denied)) == (True, [2])
            assert (third.admitted, list(third.denied), third.lost) == (False, [1, 2], False)
            assert third.standing(0).remaining == 8
            assert third.standing(1).retry_after
            assert (one.calls("ok"), one.calls("skipped")) == (3, 0)

    asyncio.run(story())


def test_what_is_given_back_is_there_again(redis: Server) -> None:
    """For every algorithm; and what was refused gives nothing back."""

    async def story() -> None:
        charges = (
            Charged("a", Gcra(3, MINUTE, 3)),
            Charged("b", SlidingWindow(3, MINUTE)),
            Charged("c", SlidingLog(3, MINUTE)),
        )
        async with fleet(redis.unix) as one:
            for _ in range(10):
                one.store.give_back(await one.take(charges))
            assert await _admitted(one, 4, charges) == 3
            one.store.give_back(await one.take(charges))
            assert await _admitted(one, 1, charges) == 0

    asyncio.run(story())


@pytest.mark.parametrize("algorithm", ["gcra", "sliding_window", "sliding_log"])
@pytest.mark.parametrize(
    ("beside", "status"),
    [
        ({"slots": {"concurrency": 1}}, 503),
        ({"own": {"rate": "1/hour", "scope": "process", "match": {"path": "/"}}}, 429),
    ],
    ids=["gate", "own"],
)
def test_whoever_is_refused_is_given_back_his_request_and_no_more(
    redis: Server, algorithm: str, beside: dict[str, Any], status: int
) -> None:
    """By a full gate, or by a rate of this process: however often he comes, he has as much left as before."""
    served, end = asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Response:
        served.set()
        await end.wait()
        return PlainTextResponse("ok")

    async def story() -> None:
        sections = {
            "store": redis.unix,
            "limits": {"calls": {"rate": "9/hour", "algorithm": algorithm}, **beside},
        }
        app = Hardening(site(Route("/", handler)), spec_of(**sections), log_to=StringIO())
        store: Any = app.service.store
        async with asyncio.timeout(60):
            await call(app, path="/elsewhere")  # which asks for the store, too
            while store.reason():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        with redis.client() as client:
            client.flushall()
        first = asyncio.create_task(call(app))
        await served.wait()
        refused = [await call(app) for _ in range(5)]
        end.set()
        assert (await first).status == 200
        told = {one.headers["ratelimit"].split(",")[0].split(";")[1] for one in refused}
        assert ({one.status for one in refused}, told) == ({status}, {"r=8"})
        store.close()

    asyncio.run(story())


class Shop:
    """A hardened app on a shared store whose spec is a file; `/` answers at once, `/slow` when it may."""

    def __init__(self, folder: Path, url: str) -> None:
        forget()
        self.path = folder / "mahavishnu.yaml"
        self.url = url
        self.end = asyncio.Event()

    async def open(self, **limits: Any) -> None:
        """It starts with these limits, and has found its store."""
        self.write(**limits)
        routes = [Route("/", ok), Route("/slow", self._slow)]
        self.app = Hardening(site(*routes), self.path, log_to=StringIO())
        self.store = cast("RedisStore", self.app.service.store)
        async with asyncio.timeout(60):
            await call(self.app, path="/elsewhere", client="203.0.113.99")
            while self.store.reason():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)

    def write(self, **limits: Any) -> None:
        service = {"name": "shop", "app": "shop:app"}
        self.path.write_text(
            json.dumps({"mahavishnu": 1, "service": service, "store": self.url, "limits": limits})
        )

    async def reload(self, **limits: Any) -> None:
        """It has these limits from now on."""
        self.write(**limits)
        await self.app.reload()

    async def allowed(self) -> int:
        """How many requests are let in before one is refused."""
        number = 0
        while (await call(self.app)).status == 200:
            number += 1
        return number

    async def _slow(self, _: Request) -> Response:
        await self.end.wait()
        return PlainTextResponse("ok")


def test_by_whatever_callers_are_told_apart_after_a_reload_what_is_given_back_is_one_request(
    redis: Server, tmp_path: Path
) -> None:
    """Who has no name has the same key by `client` and by `ip`; both rates hold, and count him apart."""

    async def story() -> None:
        shop, slots = Shop(tmp_path, redis.unix), {"concurrency": 1, "match": {"path": "/slow"}}
        await shop.open(calls={"rate": "9/hour", "per": "client"}, slots=slots)
        for _ in range(5):
            await call(shop.app)
        await shop.reload(calls={"rate": "9/hour", "per": "ip"}, slots=slots)
        first = asyncio.create_task(call(shop.app, path="/slow"))
        await asyncio.sleep(0.05)
        refused = [await call(shop.app, path="/slow") for _ in range(4)]
        assert {one.status for one in refused} == {503}
        assert {one.headers["ratelimit"].split(";")[1] for one in refused} == {"r=8"}
        shop.end.set()
        await first
        assert await shop.allowed() == 3
        shop.store.close()

    asyncio.run(story())


@pytest.mark.parametrize("scopes", [("fleet", "process"), ("process", "fleet")])
def test_what_is_counted_elsewhere_after_a_reload_still_counts(
    redis: Server, tmp_path: Path, scopes: tuple[str, str]
) -> None:
    """By all processes, or by this one alone: what was used before holds on until it is refilled."""

    async def story() -> None:
        shop = Shop(tmp_path, redis.unix)
        limits = [{"calls": {"rate": "5/hour", "scope": scope}} for scope in scopes]
        await shop.open(**limits[0])
        assert await shop.allowed() == 5
        await shop.reload(**limits[1])
        assert await shop.allowed() == 0
        shop.store.close()

    asyncio.run(story())


@pytest.mark.parametrize("algorithm", [Gcra(5, MINUTE, 5), SlidingWindow(5, MINUTE), SlidingLog(5, MINUTE)])
def test_what_was_charged_for_a_request_that_has_ended_meanwhile_is_given_back(
    redis: Server, algorithm: Any
) -> None:
    """Its deadline came before the answer, or with it: it was refused before its handler ran, and spends no quota."""

    async def story() -> None:
        charges = (Charged("calls", algorithm),)
        async with fleet(redis.unix) as one:
            for key in map(str, range(20)):
                await one.take(charges, key)
                for turns in range(4):
                    waits = asyncio.ensure_future(one.take(charges, key))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    waits.cancel()
                    await asyncio.gather(waits, return_exceptions=True)
                    assert waits.cancelled()
                await asyncio.sleep(0.03)
                assert (await one.take(charges, key)).standing(0).remaining == 3

    asyncio.run(story())


def test_what_was_charged_by_a_second_question_is_given_back_too(redis: Server) -> None:
    """The server has forgotten the script, and the request ends while it is told of it again."""

    async def story() -> None:
        async with fleet(redis.unix) as one:
            await one.take()
            store: Any = one.store
            (line,) = store._lines.values()
            call = line.call

            def ends(*words: Any) -> Any:
                asyncio.get_running_loop().call_soon(waits.cancel)
                return call(*words)

            for _ in range(3):
                redis.client().script_flush()
                line.call = ends
                waits = asyncio.ensure_future(one.take())
                await asyncio.gather(waits, return_exceptions=True)
                line.call = call
                assert waits.cancelled()
                await asyncio.sleep(0.05)
            assert (await one.take()).standing(0).remaining == 3

    asyncio.run(story())


def test_what_was_charged_in_the_turn_in_which_its_request_ends_is_given_back(redis: Server) -> None:
    """The answer is there, and whoever waits for it is cancelled before he has seen it."""

    async def story() -> None:
        async with fleet(redis.unix) as one:
            await one.take()
            store: Any = one.store
            (line,) = store._lines.values()
            link = line._link
            waits = asyncio.ensure_future(one.take())

            def answered(took: float, count: int) -> None:
                waits.cancel()

            seen, link._seen = link._seen, answered
            await asyncio.gather(waits, return_exceptions=True)
            link._seen = seen
            assert waits.cancelled()
            await asyncio.sleep(0.05)
            assert (await one.take()).standing(0).remaining == 3

    asyncio.run(story())


def test_what_was_charged_in_an_answer_that_came_too_late_is_given_back() -> None:
    """The request was counted in this process meanwhile."""

    async def story(own: Server) -> None:
        async with fleet(own.unix, deadline=0.2) as one:
            own.send(signal.SIGSTOP)
            assert (await one.take()).standing(0).remaining == 4
            own.send(signal.SIGCONT)
            await asyncio.sleep(0.3)
            assert one.calls("timeout") == 1
            assert (await one.take()).standing(0).remaining == 4

    with server() as own:
        asyncio.run(story(own))


@pytest.mark.parametrize("lost", [False, True])
def test_what_this_process_counts_is_counted_by_the_rate_at_work(lost: bool) -> None:
    """Where none of a request's rates is the fleet's, and where the server is lost."""

    async def story() -> None:
        old = Charged("own", Gcra(100, MINUTE, 100), shared=lost)
        new = Charged("own", SlidingWindow(3, MINUTE), shared=lost)
        one = Fleet(f"redis://127.0.0.1:{free_port()}")
        one.store.carry(new)
        assert await _admitted(one, 1, (old,)) == 1
        assert await _admitted(one, 9, (new,)) == 2
        assert await _admitted(one, 1, (old,)) == 0
        one.store.close()

    asyncio.run(story())


def test_a_request_that_waits_through_a_reload_does_not_bring_the_old_rate_back(redis: Server) -> None:
    """It is the first that this process counts by that rate."""

    async def story() -> None:
        fleet_wide = Charged("wide", Gcra(1000, MINUTE, 1000))
        old, new = (Charged("own", Gcra(one, MINUTE, one), shared=False) for one in (100, 3))
        async with fleet(redis.unix) as one:
            await one.take((fleet_wide,))
            waits = asyncio.ensure_future(one.take((fleet_wide, old)))
            await asyncio.sleep(0)
            one.store.carry(new)
            await waits
            assert await _admitted(one, 9, (fleet_wide, new)) == 2

    asyncio.run(story())


def test_who_is_refused_later_is_told_what_holds_without_his_request(redis: Server) -> None:
    """By a full queue, or by a rate of the process: what is left of each rate is as before his request."""

    async def story() -> None:
        shared = (
            Charged("a", Gcra(3, MINUTE, 3)),
            Charged("b", SlidingWindow(3, MINUTE)),
            Charged("c", SlidingLog(3, MINUTE)),
        )
        async with fleet(redis.unix) as one:
            kept, last = await one.take(shared), await one.take(shared)
            one.store.give_back(last)
            for place in range(3):
                assert last.standing(place).remaining == kept.standing(place).remaining == 2
            assert last.standing(0).reset <= kept.standing(0).reset
            joined = (*shared[:1], Charged("own", SlidingLog(1, MINUTE), shared=False))
            await one.take(joined)
            refused = await one.take(joined)
            assert (refused.admitted, refused.standing(0).remaining) == (False, 1)
            assert refused.standing(0).reset <= MINUTE * 2 // 3

    asyncio.run(story())


@pytest.mark.parametrize("whose", ["shop", "shop@staging"])
def test_keys_share_one_slot_and_name_nobody(redis: Server, whose: str) -> None:
    """One hash tag for a service, digests for callers, and nothing is kept for ever."""

    async def story() -> None:
        charges = (*PER_CLIENT, Charged("b", SlidingWindow(3, MINUTE)), Charged("c", SlidingLog(3, MINUTE)))
        async with fleet(redis.url, whose=whose) as one:
            await one.take(
                charges, "i:192.0.2.7", "u:alice\0r:/orders", "k:sk_live_verysecret" + "x" * 10_000
            )

    asyncio.run(story())
    with redis.client() as client:
        keys = [key for key in client.scan_iter() if b"probe" not in key]
        assert len(keys) == 3
        for key in keys:
            assert key.startswith(b"{mahavishnu:%s}:" % whose.encode())
            assert len(key) < 100
            assert not any(word in key for word in (b"192", b"alice", b"secret", b"orders"))
            assert 0 < client.pttl(key) <= 2 * 60_000 + 2


def test_requests_of_one_moment_share_a_round_trip(redis: Server) -> None:
    """Fifty requests at once are one write, and each gets its own answer."""

    async def story() -> None:
        async with fleet(redis.url) as one:
            takes = [one.take(PER_CLIENT, f"i:{number % 10}") for number in range(50)]
            said = await asyncio.gather(*takes)
            assert [taken.admitted for taken in said] == [True] * 50
            assert [taken.standing(0).remaining for taken in said] == [4 - n // 10 for n in range(50)]

    asyncio.run(story())
    with redis.client() as client:
        reads = client.info("stats")
        assert reads["total_reads_processed"] < reads["total_commands_processed"] / 2


def test_a_rate_of_the_process_is_counted_in_the_process(redis: Server) -> None:
    """`scope: process` beside a rate of the fleet: each is exact where it holds, and both or none consume."""

    async def story() -> None:
        charges = (
            Charged("each", SlidingLog(2, MINUTE), shared=False),
            Charged("all", SlidingLog(3, MINUTE)),
        )
        async with fleet(redis.url) as one, fleet(redis.url) as other:
            assert [(await one.take(charges)).admitted for _ in range(3)] == [True, True, False]
            said = await one.take(charges)
            assert list(said.denied) == [0]
            assert [said.standing(place).remaining for place in (0, 1)] == [0, 1]
            assert [(await other.take(charges)).admitted for _ in range(2)] == [True, False]
            last = await other.take(charges)
            assert list(last.denied) == [1]
            assert last.standing(0).remaining == 1
            only = (charges[0],)
            assert (await other.take(only)).admitted

    asyncio.run(story())


def test_each_event_loop_has_its_own_connection(redis: Server) -> None:
    """A store outlives an event loop, as in a test client: the next loop finds its way by itself."""
    one = Fleet(redis.url)

    async def story() -> bool:
        admitted = (await one.take()).admitted
        one.store.close()
        return admitted

    assert [asyncio.run(story()) for _ in range(6)] == [True] * 5 + [False]
    assert one.calls("skipped") == 0


def test_what_one_event_loop_was_charged_is_given_back_whichever_asked_last(redis: Server) -> None:
    """A thread may run a loop of its own beside it, for a single call: nothing goes missing for that."""

    async def story() -> int:
        beside = asyncio.Runner()
        async with fleet(redis.url) as one:
            taken = await one.take()
            await asyncio.to_thread(beside.run, one.take(PER_CLIENT, "i:another"))
            one.store.give_back(taken)
            admitted = await _admitted(one, 6)
            await asyncio.to_thread(beside.run, _let_go(one))
            await asyncio.to_thread(beside.close)
        return admitted

    assert asyncio.run(story()) == 5


async def _let_go(one: Fleet) -> None:
    one.store.close()


def test_what_an_event_loop_without_a_connection_cannot_give_back_is_not_said_to_be(redis: Server) -> None:
    """The client is told what the server holds, and whoever has a connection may still give it back."""

    async def story() -> None:
        async with fleet(redis.url) as one:
            taken = await one.take()
            await asyncio.to_thread(asyncio.run, _give_back(one, taken))
            assert taken.standing(0).remaining == 4
            one.store.give_back(taken)
            assert taken.standing(0).remaining == 5
            assert await _admitted(one, 6) == 5

    asyncio.run(story())


async def _give_back(one: Fleet, taken: Taken) -> None:
    one.store.give_back(taken)


def test_the_first_requests_wait_for_the_connection(redis: Server) -> None:
    """Nobody is counted apart only because the service has just started."""

    async def story() -> None:
        one = Fleet(redis.url)
        said = await asyncio.gather(*(one.take() for _ in range(20)))
        assert sum(taken.admitted for taken in said) == 5
        assert one.calls("ok") == 20
        one.store.close()

    asyncio.run(story())


# --- a store that cannot be asked -------------------------------------------------------------------


Fault = Callable[[Server], None]


def _killed(one: Server) -> None:
    one.kill()


def _stopped(one: Server) -> None:
    one.send(signal.SIGSTOP)


def _read_only(one: Server) -> None:
    with one.client() as client:
        client.replicaof("127.0.0.1", 1)


def _full(one: Server) -> None:
    with one.client() as client:
        client.config_set("maxmemory", 1)


def _locked(one: Server) -> None:
    with one.client() as client:
        client.config_set("requirepass", "another")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def _forbidden(one: Server) -> None:
    with one.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-eval", "-evalsha")


FAULTS = [_killed, _stopped, _read_only, _full, _locked, _forbidden]
EACH = (
    Charged("near", SlidingLog(2, MINUTE)),
    Charged("far", SlidingLog(1, MINUTE), on_store_failure="open"),
)
SHUT = (*EACH, Charged("shut", SlidingLog(9, MINUTE), on_store_failure="closed"))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_every_fault_ends_in_the_declared_choice(fault: Fault) -> None:
    """`local` counts in this process, `open` lets through, `closed` refuses; nothing is raised."""

    async def story(one: Server) -> None:
        async with fleet(one.url, None) as mine:
            assert (await mine.take(EACH)).admitted
            fault(one)
            said = [await mine.take(EACH, "i:10.0.0.2", "i:10.0.0.2") for _ in range(8)]
            assert [taken.admitted for taken in said] == [True] * 2 + [False] * 6
            assert [list(taken.denied) for taken in said] == [[]] * 2 + [[0]] * 6
            assert not said[-1].lost
            assert said[-1].standing(1).remaining == 1
            shut = await mine.take(SHUT)
            assert (shut.admitted, list(shut.denied), shut.lost) == (False, [2], True)
            assert (shut.standing(2).retry_after or 0) >= 10**9
            assert mine.up() == 0
            assert mine.calls("skipped") >= 1

    with server() as one:
        asyncio.run(story(one))


@pytest.mark.parametrize(
    "fault", [_killed, _stopped, _read_only, _full], ids=lambda one: one.__name__.strip("_")
)
def test_it_comes_back_by_itself(fault: Fault) -> None:
    """When the server is well again it is asked again, without a restart, and where it still knows, goes on."""

    def heal(one: Server) -> None:
        if fault is _killed:
            one.start()
        elif fault is _stopped:
            one.send(signal.SIGCONT)
        else:
            with one.client() as client:
                client.replicaof("NO", "ONE")
                client.config_set("maxmemory", 0)

    async def story(one: Server) -> None:
        async with fleet(one.url) as mine:
            assert await _admitted(mine, 5) == 5
            fault(one)
            for _ in range(4):
                await mine.take(PER_CLIENT, "i:who consumes")
            await mine.until(up=False)
            heal(one)
            await mine.until(up=True)
            assert await _admitted(mine, 5) == (5 if fault is _killed else 0)

    with server() as one:
        asyncio.run(story(one))


def test_what_a_lost_server_lets_through_is_what_check_says() -> None:
    """Two processes under a rate that hardly refills; the server is killed, and comes back with nothing."""
    limit = {"rate": "6/minute", "burst": 200, "cost": 2}

    async def drained(one: Fleet, charges: Sequence[Charged]) -> int:
        admitted = 0
        while (await one.take(charges)).admitted:
            admitted += 1
        return admitted

    async def story(one: Server) -> tuple[int, int]:
        spec = spec_of(store=one.url, limits={"a": limit}, deploy={"replicas": {"max": 2}})
        (sentence,) = outage(spec)
        said = re.findall(r"(?:up to|;) ([0-9,]+)(?= through| if)", sentence)
        rate = spec.limits["a"]
        assert isinstance(rate, Rate)
        charges = (Charged("a", rate.algorithm_of(), rate.cost),)
        async with fleet(one.url) as mine, fleet(one.url) as other:
            admitted = await drained(mine, charges)
            one.kill()
            admitted += await drained(mine, charges) + await drained(other, charges)
            # But for what refills in a whole minute, 3 in each count.
            assert int(said[0]) - 9 <= admitted <= int(said[0])
            one.start()
            await mine.until(up=True)
            return admitted + await drained(mine, charges), int(said[1])

    with server() as one:
        admitted, most = asyncio.run(story(one))
    assert most - 9 <= admitted <= most


def test_forgotten_scripts_are_sent_again(redis: Server) -> None:
    """SCRIPT FLUSH: not one request is counted elsewhere, nor given back to nobody."""

    async def story() -> None:
        async with fleet(redis.url) as one:
            for _ in range(3):
                with redis.client() as client:
                    client.script_flush()
                assert (await one.take()).admitted
            taken = await one.take()
            with redis.client() as client:
                client.script_flush()
            one.store.give_back(taken)
            assert await _admitted(one, 3) == 2
            assert (one.calls("error"), one.calls("skipped"), one.calls("timeout")) == (0, 0, 0)

    asyncio.run(story())


def test_a_server_that_still_loads_is_waited_for(tmp_path: Any) -> None:
    """LOADING: counted here until it has read its data, then there."""

    async def story(one: Server) -> None:
        mine = Fleet(one.url)
        assert await _admitted(mine, 7) == 5
        assert mine.calls("ok") == 0
        assert mine.store.reason() == "LOADING"
        mine.store.close()

    with server() as one:
        with one.client() as client:
            client.execute_command("DEBUG", "POPULATE", 50_000)
            client.save()
        one.kill()
        slow = Server(
            one.folder, one.port, "--key-load-delay", "100", "--loading-process-events-interval-bytes", "1024"
        )
        slow.start()
        try:
            asyncio.run(story(slow))
        finally:
            slow.kill()


class Hole:
    """A way to a server that from some moment on swallows all that is said: a half-open connection."""

    def __init__(self, to: int) -> None:
        self.to, self.open = to, True

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for one in self._tasks:
            one.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.to)
        for source, sink in ((reader, back), (there, writer)):
            self._tasks.add(asyncio.ensure_future(self._pump(source, sink)))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                if self.open:
                    sink.write(data)
        finally:
            sink.close()


def test_a_half_open_connection_costs_a_few_requests_their_deadline(redis: Server) -> None:
    """Nobody answers and nobody hangs up: three requests wait for 20 ms, the rest for nothing."""

    async def story() -> None:
        async with Hole(redis.port) as hole, fleet(f"redis://127.0.0.1:{hole.port}", None) as one:
            assert (await one.take()).admitted
            hole.open = False
            waits: list[float] = []
            for _ in range(20):
                before = time.perf_counter()
                await one.take()
                waits.append(time.perf_counter() - before)
            assert min(waits[:3]) > 0.015
            assert (one.calls("timeout"), one.calls("skipped")) == (3, 17)
            hole.open = True
            await one.until(up=True)

    asyncio.run(story())


def test_a_server_that_hangs_is_lost_even_if_nobody_waits_for_its_answers() -> None:
    """Requests that have less time than an answer are cancelled first: what they asked is late all the same."""

    async def story(server: Server) -> None:
        async with fleet(server.url, 0.05) as one:
            server.send(signal.SIGSTOP)
            for last in (False, False, True):
                asked = asyncio.ensure_future(one.take())
                await asyncio.sleep(0)
                asked.cancel()
                assert one.up() == 1
                await (one.until(up=False) if last else asyncio.sleep(0.1))
            assert one.store.reason() == "no answer in time"

    with server() as stopped:
        asyncio.run(story(stopped))


def test_answers_that_come_too_late_are_nobodys(redis: Server) -> None:
    """Who was given up on does not get the next one's answer: it stays in order."""

    async def story() -> None:
        async with fleet(redis.url, 0.05) as one:
            with redis.client() as client:
                asked = asyncio.ensure_future(one.take(PER_CLIENT, "i:late"))
                await asyncio.sleep(0)
                await asyncio.to_thread(client.execute_command, "DEBUG", "SLEEP", 0.15)
            assert (await asked).admitted
            await asyncio.sleep(0.2)
            said = [(await one.take(PER_CLIENT, f"i:{n}")).standing(0).remaining for n in range(5)]
            assert said == [4] * 5

    asyncio.run(story())


def test_a_stalled_event_loop_is_not_the_servers_fault(redis: Server) -> None:
    """A handler that blocks for longer than the deadline makes nobody late: the answers are there."""

    async def story() -> None:
        async with fleet(redis.url, None) as one:
            asked = [asyncio.ensure_future(one.take(PER_CLIENT, f"i:{n}")) for n in range(10)]
            await asyncio.sleep(0)
            time.sleep(0.06)  # noqa: ASYNC251
            await asyncio.gather(*asked)
            assert (one.calls("ok"), one.calls("timeout"), one.up()) == (10, 0, 1)

    asyncio.run(story())


def test_a_cancelled_request_disturbs_no_other(redis: Server) -> None:
    """Clients that hang up while they are decided on: everybody else gets the answer that is theirs."""

    async def story() -> None:
        async with fleet(redis.url) as one:
            asked = [asyncio.ensure_future(one.take(PER_CLIENT, f"i:{n // 2}")) for n in range(40)]
            await asyncio.sleep(0)
            for task in asked[::2]:
                task.cancel()
            said = await asyncio.gather(*asked[1::2])
            assert [taken.standing(0).remaining for taken in said] == [3] * 20

    asyncio.run(story())


@pytest.mark.parametrize(
    "words",
    [
        b"+OK\r\n" * 50,
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"",
        b"*-7\r\n",
        b"$9999999999999\r\n",
        b"-MOVED 7 elsewhere\r\n" * 50,
    ],
)
def test_who_is_no_redis_is_no_store(words: bytes) -> None:
    """Whatever listens there: the choice holds, and nothing is raised."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        if not words:
            writer.close()
            return
        while await reader.read(65536):
            writer.write(words)
        writer.close()

    async def story() -> None:
        other = await asyncio.start_server(speak, "127.0.0.1", 0)
        one = Fleet(f"redis://127.0.0.1:{other.sockets[0].getsockname()[1]}")
        assert await _admitted(one, 7) == 5
        assert one.up() == 0
        await _told(one)
        one.store.close()
        other.close()

    asyncio.run(story())


def test_a_connection_that_ends_right_behind_the_first_answers_is_tried_again() -> None:
    """Whoever hangs up before the connection is at work is down, told of, and asked again."""
    tries: list[asyncio.StreamWriter] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tries.append(writer)
        try:
            await reader.readuntil(b"SETNAME")
            writer.write(b"+OK\r\n")
            for _ in range(2):
                await reader.readuntil(b"EVAL\r\n")
            writer.write(b"*2\r\n:1\r\n:1\r\n:1\r\n:1\r\n")
            if len(tries) > 1:
                await reader.read()
        finally:
            writer.close()

    async def story() -> None:
        other = await asyncio.start_server(speak, "127.0.0.1", 0)
        one = Fleet(f"redis://127.0.0.1:{other.sockets[0].getsockname()[1]}")
        await _told(one)
        assert (one.up(), one.store.reason()) == (0, "the connection was lost")
        await one.until(up=True)
        assert len(tries) == 2
        one.store.close()
        other.close()

    asyncio.run(story())


def test_a_call_that_finds_the_connection_dead_takes_it_down(redis: Server) -> None:
    """At once, whether or not anybody else has noticed; what befell an earlier connection does nothing to this one."""
    links: list[Link] = []

    async def probe(link: Link) -> object:
        links.append(link)
        return await link.call("PING")

    async def story() -> None:
        clock = SystemClock()
        line = Line(address(redis.url), "test", clock, probe, Known(clock, nothing))
        assert await line.opened()
        line.judge(GONE)
        assert line.up
        links[0].close()
        line.judge(GONE)
        assert (line.up, line.reason) == (False, "the connection was lost")
        line.close()

    asyncio.run(story())


def test_another_node_of_a_cluster_is_followed_to(redis: Server) -> None:
    """MOVED: the keys of a service are in one slot, and its node is the one that is asked from then on."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            for line in data.split(b"\r\n"):
                if line == b"CLIENT":
                    writer.write(b"+OK\r\n")
                if line in (b"EVAL", b"EVALSHA"):
                    writer.write(b"-MOVED 3999 127.0.0.1:%d\r\n" % redis.port)
        writer.close()

    async def story() -> None:
        other = await asyncio.start_server(speak, "127.0.0.1", 0)
        async with fleet(f"redis://127.0.0.1:{other.sockets[0].getsockname()[1]}") as one:
            assert await _admitted(one, 7) == 5
            assert one.calls("ok") == 7
        other.close()

    asyncio.run(story())


def test_passwords_databases_and_names(tmp_path: Any) -> None:
    """AUTH with and without a user, SELECT, CLIENT SETNAME, by the URL; a wrong one ends in the choice."""

    async def admitted(url: str) -> tuple[int, float]:
        one = Fleet(url)
        count = await _admitted(one, 7)
        calls = one.calls("ok")
        one.store.close()
        return count, calls

    with server("--requirepass", "s3cr:t@") as one, one.client(password="s3cr:t@") as client:
        client.execute_command("ACL", "SETUSER", "shop", "on", ">pw", "~{mahavishnu:*", "+@all")
        base = f"127.0.0.1:{one.port}"
        assert asyncio.run(admitted(f"redis://:s3cr%3At%40@{base}/3")) == (5, 7)
        assert client.info("keyspace")["db3"]["keys"] == 2
        assert asyncio.run(admitted(f"valkey://shop:pw@{base}")) == (5, 7)
        for wrong in (f"redis://{base}", f"redis://:wrong@{base}", f"redis://shop:no@{base}"):
            assert asyncio.run(admitted(wrong)) == (5, 0)


def test_a_database_that_is_missing_is_no_store(redis: Server) -> None:
    """Another one would be somebody else's; what holds is what the rates say of a lost store, and why is told."""

    async def story() -> None:
        one = Fleet(f"{redis.url}/99")
        assert await _admitted(one, 7) == 5
        await _told(one)
        assert (one.up(), one.store.reason()) == (0, "it has no database 99")
        one.store.close()

    asyncio.run(story())
    with redis.client() as client:
        assert client.dbsize() == 0


def test_nobody_there_at_all() -> None:
    """A refused connection, a name that does not or cannot exist, no socket file: local limits from the start."""

    async def admitted(url: str) -> int:
        one = Fleet(url)
        count = await _admitted(one, 7)
        await _told(one)
        one.store.close()
        return count

    for url in (
        f"redis://127.0.0.1:{free_port()}",
        "redis://no-such-host.invalid:6379",
        "redis://no..host:6379",
        "unix:///nowhere/redis.sock",
    ):
        assert asyncio.run(admitted(url)) == 5


def test_an_event_loop_that_has_ended_says_nothing_of_the_server() -> None:
    """A thread may run one for a single call; that the server was lost then would alert for as long as nobody asks."""
    one = Fleet(f"redis://127.0.0.1:{free_port()}")
    asyncio.run(lost(one))
    assert (one.up(), one.store.reason()) == (1, "")


async def lost(one: Fleet) -> None:
    """A call that finds no server."""
    await one.take()
    assert one.up() == 0


@pytest.mark.proof
def test_the_event_loop_is_never_held_up() -> None:
    """SIGSTOP with requests going on: the loop's longest pause stays below 50 ms, if the machine lets it."""
    with server() as one:
        assert min(asyncio.run(_stall(one, 1.5)) for _ in range(3)) < 0.05


async def _stall(one: Server, seconds: float) -> float:
    """The longest pause of the event loop while the server is stopped under 500 requests/s."""
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.002)
            longest = max(longest, time.perf_counter() - before - 0.002)

    async with fleet(one.url, None) as mine:
        heart = asyncio.ensure_future(beat())
        one.send(signal.SIGSTOP)
        asked: list[Awaitable[Taken]] = []
        for number in range(round(seconds * 500)):
            asked.append(asyncio.ensure_future(mine.take(PER_CLIENT, f"i:{number % 50}")))
            await asyncio.sleep(0.002)
        await asyncio.gather(*asked)
        heart.cancel()
        one.send(signal.SIGCONT)
    return longest


async def test_breakers_advise_each_other(redis: Server) -> None:
    """Who opens leaves word for as long as it is open, the first word is kept, and nobody waits for any of it."""
    one, other = Fleet(redis.url), Fleet(redis.url)
    heard: list[int] = []
    await one.take()
    await other.take()
    other.store.ask_open("stripe", heard.append)
    one.store.tell_open("stripe", 30 * 10**9)
    one.store.tell_open("stripe", 90 * 10**9)
    one.store.tell_open("bank", 1)
    await one.take()
    await asyncio.sleep(0.005)
    other.store.ask_open("stripe", heard.append)
    other.store.ask_open("catalogue", heard.append)
    await other.take()
    assert len(heard) == 1
    assert 29 * 10**9 < heard[0] <= 30 * 10**9
    with redis.client() as client:
        assert client.keys("*:open:*") == [b"{mahavishnu:shop}:open:stripe"]
    one.store.close()
    other.store.close()


def test_without_the_server_or_a_loop_breakers_advise_nobody() -> None:
    """Nothing is raised and nobody is told."""
    heard: list[int] = []

    def both() -> None:
        store.tell_open("stripe", 10**9)
        store.ask_open("stripe", heard.append)

    async def scenario() -> None:
        both()
        await asyncio.sleep(0)
        store.close()

    store = Fleet(f"redis://127.0.0.1:{free_port()}").store
    both()
    asyncio.run(scenario())
    assert heard == []
