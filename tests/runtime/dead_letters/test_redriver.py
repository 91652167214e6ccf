"""Dead letters made again in the background: by the code that made them, when they are due, and never twice."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

import httpx
import pytest

from mahavishnu import degraded, dependency, idempotency_key, redriving
from mahavishnu.asgi import Hardening
from mahavishnu.errors import BulkheadFull, Parked
from mahavishnu.policies.throttle import ThrottleGuard
from mahavishnu.runtime.calls import http_fallback
from mahavishnu.runtime.calls.operation import called
from mahavishnu.runtime.current import forget
from mahavishnu.runtime.dead_letters import handlers
from mahavishnu.runtime.dead_letters.letters import Letter, LettersUnreachable
from mahavishnu.runtime.dead_letters.queue import DeadLetterQueue
from mahavishnu.runtime.dead_letters.redriver import AT_ONCE, LEASE, Redriver
from mahavishnu.runtime.dead_letters.sqlite import SqliteLetters
from mahavishnu.runtime.dead_letters.writer import LetterWriter
from mahavishnu.spec import Spec
from mahavishnu.testing import VirtualClock
from tests.metering import value
from tests.runtime.calls.worlds import SECOND, World

LETTER: dict[str, Any] = {"fallback": "dead_letter"}
ALSO: dict[str, Any] = {"dead_letters": {"redrive": {"attempts": 3, "base": "1m", "max": "10m"}}}
MINUTE = 60 * SECOND


class Shop:
    """A world whose function parks, and a redriver that is told when to look."""

    def __init__(self, **more: Any) -> None:
        self.world = World(also=ALSO, **{**LETTER, **more})
        self.down: Exception | None = ConnectionError()
        self.done: list[tuple[str, int]] = []
        self.clock = self.world.clock
        found = self.world.service.dead_letters
        assert found is not None
        self.dead_letters: DeadLetterQueue = found
        self.dead_letters.random = lambda: 1.0
        self.redriver = Redriver(lambda: self.world.service, self.clock)

        @self.world.stripe(idempotent=True)
        async def charge(order: int) -> None:
            if self.down is not None:
                raise self.down
            self.done.append((idempotency_key(), order))

        self.charge: Any = charge

    async def park(self, order: int = 1) -> str:
        """An order that fails; its key."""
        with pytest.raises(Parked) as told:
            await self.charge(order)
        return told.value.key

    async def look(self, after: int = 0) -> None:
        """Let time pass, look, and let the calls be made."""
        self.clock.advance(after)
        await self.redriver.look()
        await self.redriver.settle()

    def letters(self) -> list[Letter]:
        return list(self.dead_letters.writer.ask(lambda letters: letters.some(1000)).result())

    def redriven(self, outcome: str) -> float:
        series = "mahavishnu_dead_letters_redriven_total"
        return value(self.world.service.metrics, series, dependency="stripe", outcome=outcome)

    def shown(self, series: str, **labels: str) -> float:
        return value(self.world.service.metrics, f"mahavishnu_dead_letters{series}", **labels)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """To its end."""

    async def whole() -> None:
        await scenario()

    asyncio.run(whole())


def test_a_parked_call_is_made_once_more_with_its_key() -> None:
    """Not before its pause, and then never again."""

    async def scenario() -> None:
        shop = Shop()
        key = await shop.park(7)
        shop.down = None
        await shop.look(MINUTE - SECOND)
        assert shop.done == []
        await shop.look(SECOND)
        assert shop.done == [(key, 7)]
        await shop.look(MINUTE)
        assert (len(shop.done), shop.letters(), shop.redriven("done")) == (1, [], 1)

    run(scenario)


def test_what_fails_again_waits_longer_and_is_then_quarantined() -> None:
    """One minute, two, four; it is not parked a second time."""

    async def scenario() -> None:
        shop = Shop()
        await shop.park()
        waits = list[int]()
        for _ in range(3):
            before = shop.letters()[0]
            await shop.look(max(0, before.due * 10**6 - shop_now(shop)))
            waits.append((before.due - before.created) // 60_000)
        (letter,) = shop.letters()
        assert waits == [1, 3, 7]
        assert (letter.quarantined, letter.attempts, letter.error) == (True, 3, "ConnectionError")
        assert (shop.redriven("failed"), shop.redriven("quarantined")) == (2, 1)
        await shop.look()
        assert shop.shown("", state="quarantined") == 1
        assert shop.shown("", state="waiting") == 0
        assert shop.shown("_age_seconds") == 0

    run(scenario)


def shop_now(shop: Shop) -> int:
    """The time that letters are judged by, ns."""
    letters: Any = shop.dead_letters.writer.letters
    return int(letters._now()) * 10**6


class Wrong(Exception):
    """An answer that says so."""

    def __init__(self, status: int) -> None:
        self.response = httpx.Response(status)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(402, "quarantined"), (429, "failed"), (409, "failed"), (503, "failed"), (303, "failed")],
)
def test_a_call_that_is_wrong_is_not_tried_again(status: int, outcome: str) -> None:
    """4xx says that it would be so again, but for what passes."""

    async def scenario() -> None:
        shop = Shop()
        await shop.park()
        shop.down = Wrong(status)
        await shop.look(MINUTE)
        assert shop.redriven(outcome) == 1
        assert shop.letters()[0].quarantined is (outcome == "quarantined")

    run(scenario)


def test_an_open_breaker_costs_no_attempt() -> None:
    """Letters are left alone until it lets calls pass; a refusal on the way is none of theirs."""

    async def scenario() -> None:
        shop = Shop(breaker={"consecutive_failures": 1, "open_for": "30m", "probes": 1})
        await shop.park()
        await shop.park()
        await shop.look(10 * MINUTE)
        assert [one.attempts for one in shop.letters()] == [0, 0]
        shop.down = None
        await shop.look(20 * MINUTE)
        assert shop.redriven("done") + shop.redriven("deferred") == 2
        assert [one.attempts for one in shop.letters()] in ([], [0])
        await shop.look(MINUTE)
        await shop.look(MINUTE)
        assert len(shop.done) == 2

    run(scenario)


@pytest.mark.parametrize("together", [False, True])
def test_what_is_kept_elsewhere_on_the_way_is_not_made_once_more(together: bool) -> None:
    """The rest of it is a letter of another dependency: one, however often that is down, and one mail in the end."""

    async def scenario() -> None:
        shop = Shop(others={"mail": LETTER})
        charged, mailed = list[int](), list[int]()

        @dependency("mail")(idempotent=True)
        async def send(order: int) -> None:
            if shop.down is not None:
                raise shop.down
            mailed.append(order)

        async def again(order: int) -> None:
            charged.append(order)
            try:
                await send(order)
            except Parked as parked:
                raise (ExceptionGroup("", [parked]) if together else parked) from None

        shop.charge.redrive(again)
        await shop.park(7)
        for _ in range(2):
            await shop.look(MINUTE)
        assert [one.dependency for one in shop.letters()] == ["mail"]
        assert (charged, shop.redriven("done")) == ([7], 1)
        shop.down = None
        await shop.look(10 * MINUTE)
        assert (mailed, shop.letters()) == ([7], [])

    run(scenario)


def test_a_call_that_is_known_by_its_own_letter_is_not_done() -> None:
    """Made where nobody sees that it is made again, as in a thread of its own, it is kept: as the letter it is."""

    async def scenario() -> None:
        shop = Shop()

        @shop.world.stripe(idempotent=True, key=numbered)
        async def charge(order: int) -> None:
            raise ConnectionError

        async def again(order: int) -> None:
            await asyncio.create_task(charge(order), context=Context())

        charge.redrive(again)
        with pytest.raises(Parked):
            await charge(4)
        await shop.look(MINUTE)
        assert [(one.key, one.attempts) for one in shop.letters()] == [("order-4", 1)]

    run(scenario)


def test_what_is_being_taken_up_at_the_end_is_given_back_untried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow the disk: else its only attempt would be spent, and nobody would have tried."""
    taken, gate, take = asyncio.Event(), threading.Event(), SqliteLetters.take

    async def scenario() -> None:
        shop, loop = Shop(), asyncio.get_running_loop()
        memory: Any = shop.dead_letters.writer.letters
        shop.dead_letters.writer = LetterWriter(SqliteLetters(str(tmp_path / "dead.db"), memory._now))
        await shop.park()
        shop.down = None

        def slow(*asked: Any) -> Any:
            found = take(*asked)
            loop.call_soon_threadsafe(taken.set)
            gate.wait()
            return found

        shop.redriver.start()
        monkeypatch.setattr(SqliteLetters, "take", slow)
        shop.clock.advance(MINUTE)
        await taken.wait()
        ending = asyncio.create_task(shop.redriver.stop())
        await asyncio.sleep(0)
        gate.set()
        await ending
        (letter,) = shop.letters()
        assert (shop.done, letter.token, letter.attempts, shop.redriven("deferred")) == ([], "", 0, 1)
        shop.dead_letters.writer.close()

    run(scenario)


def test_so_many_are_made_at_a_time_and_no_more() -> None:
    """A dependency that has just come back is not met with everything at once."""

    async def scenario() -> None:
        shop = Shop()
        for order in range(20):
            await shop.park(order)
        gate, inside = asyncio.Event(), [0]

        async def again(order: int) -> None:
            inside[0] += 1
            await gate.wait()

        shop.charge.redrive(again)

        shop.clock.advance(MINUTE)
        for _ in range(3):
            await shop.redriver.look()
            await shop.clock.settle()
        assert inside[0] == AT_ONCE
        gate.set()
        for _ in range(3):
            await shop.look()
        assert (inside[0], shop.letters()) == (20, [])

    run(scenario)


def test_the_lease_of_a_long_call_is_renewed() -> None:
    """However long it takes, nobody else gets it."""

    async def scenario() -> None:
        shop = Shop()
        await shop.park()
        gate, calls = asyncio.Event(), [0]

        async def again(order: int) -> None:
            calls[0] += 1
            await gate.wait()

        shop.charge.redrive(again)

        shop.clock.advance(MINUTE)
        for _ in range(10):
            await shop.redriver.look()
            shop.clock.advance(LEASE * 10**6 // 2)
        assert (
            shop.dead_letters.writer.ask(lambda letters: letters.take("stripe", 9, LEASE, 9)).result() == []
        )
        gate.set()
        await shop.redriver.settle()
        assert (calls[0], shop.letters()) == (1, [])

    run(scenario)


def test_what_a_redriven_call_has_begun_is_kept_as_any_other() -> None:
    """A task that outlives it makes calls of its own: none is a part of it, and none has its key."""

    async def scenario() -> None:
        shop = Shop()
        await shop.park()
        gate, begun = asyncio.Event(), list[asyncio.Task[str]]()

        async def work() -> str:
            await gate.wait()
            shop.down = ConnectionError()
            assert idempotency_key() == ""
            return await shop.park(2)

        async def again(order: int) -> None:
            assert idempotency_key()
            begun.append(asyncio.create_task(work()))

        shop.charge.redrive(again)
        await shop.look(MINUTE)
        assert shop.letters() == []
        gate.set()
        key = await begun[0]
        assert [letter.key for letter in shop.letters()] == [key]

    run(scenario)


def numbered(order: int) -> str:
    """The key of an order."""
    return f"order-{order}"


def test_plain_functions_are_made_again_in_a_thread() -> None:
    """So that they block nobody."""

    async def scenario() -> None:
        shop = Shop()
        loop, where = asyncio.get_running_loop(), list[bool]()

        @shop.world.stripe(idempotent=True, key=numbered)
        def charge(order: int) -> None:
            if shop.down:
                raise shop.down
            with suppress(RuntimeError):
                where.append(asyncio.get_running_loop() is loop)
            shop.done.append((idempotency_key(), order))

        with pytest.raises(Parked):
            charge(4)
        shop.down = None
        await shop.look(MINUTE)
        assert (where, shop.done) == ([], [("order-4", 4)])

    run(scenario)


def test_what_answers_badly_is_not_done() -> None:
    """A response is judged by its status, whether it was raised or returned."""

    async def scenario() -> None:
        shop = Shop()

        @shop.world.stripe(idempotent=True)
        async def post() -> Any:
            return httpx.Response(503 if shop.down else 422)

        with pytest.raises(Parked):
            await post()
        await shop.look(MINUTE)
        assert shop.redriven("failed") == 1
        shop.down = None
        await shop.look(2 * MINUTE)
        assert shop.letters()[0].error == "it answered 422"
        assert shop.redriven("quarantined") == 1

    run(scenario)


def test_letters_without_code_wait_for_it() -> None:
    """They lose no attempt; a process that has the code makes them."""

    async def scenario() -> None:
        shop = Shop()
        await shop.park()
        known = dict(handlers.HANDLERS)
        handlers.HANDLERS.clear()
        try:
            for _ in range(5):
                await shop.look(MINUTE)
            assert (shop.redriven("unhandled"), shop.letters()[0].attempts) == (5, 0)
        finally:
            handlers.HANDLERS.update(known)
        shop.down = None
        await shop.look(MINUTE)
        assert len(shop.done) == 1

    run(scenario)


def test_a_letter_of_another_name_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that was moved, or one of the same name elsewhere: it waits, and the log says once for which."""

    async def scenario() -> None:
        shop = Shop()
        await shop.park()
        operation = shop.letters()[0].operation
        module, _, name = operation.rpartition(".")
        handler = handlers.HANDLERS["stripe", operation]
        others = {("stripe", other): handler for other in (name, f"elsewhere.{name}", f"{module}.other")}
        monkeypatch.setattr(handlers, "HANDLERS", others)
        log = shop.world.service.log = Mock()
        shop.down = None
        for _ in range(3):
            await shop.look(MINUTE)
        assert (shop.done, shop.redriven("unhandled"), shop.letters()[0].attempts) == ([], 3, 0)
        said = {"dependency": "stripe", "operation": operation}
        assert log.warning.mock_calls == [call("no code for dead letters", **said)]

    run(scenario)


def test_letters_of_a_dependency_that_keeps_none_any_more_are_told_of() -> None:
    """One that was renamed, or lost its fallback: no series shows them, nobody makes them, and the log says so once."""

    async def scenario() -> None:
        shop, other = Shop(), Letter("1", "bank", "charge", "order-1", b"{}")
        await shop.park()
        log = shop.world.service.log = Mock()
        await shop.look()
        assert log.warning.mock_calls == []
        shop.dead_letters.park(other).result()
        for _ in range(3):
            await shop.look()
        (told,) = log.warning.mock_calls
        assert told.args == ("letters of unknown dependency",)
        assert (told.kwargs["dependency"], told.kwargs["letters"]) == ("bank", 1)

    run(scenario)


def test_what_cannot_be_read_is_quarantined() -> None:
    """The function has changed; a person has to look."""

    async def scenario() -> None:
        shop = Shop()
        await shop.park()

        @shop.world.stripe(idempotent=True)
        async def changed(order: int, currency: str) -> None: ...

        operation = shop.letters()[0].operation
        handlers.handle("stripe", operation, handlers.HANDLERS["stripe", called(changed)])
        await shop.look(MINUTE)
        assert "does not fit" in shop.letters()[0].error
        assert shop.redriven("quarantined") == 1

    run(scenario)


def test_requests_are_made_again_by_the_client_that_is_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With its own credentials, and the same key; a closed one makes none."""
    monkeypatch.setattr(http_fallback, "_CLIENTS", {})  # other tests may have left one open

    async def scenario() -> None:
        shop = Shop()
        seen: list[httpx.Request] = []

        def answer(request: httpx.Request) -> httpx.Response:
            seen.append(request)
            return httpx.Response(503 if shop.down else 201)

        options: dict[str, Any] = {
            "transport": httpx.MockTransport(answer),
            "headers": {"authorization": "Bearer a"},
        }
        async with shop.world.stripe.httpx_async_client(**options) as client:
            with pytest.raises(Parked):
                await client.post("http://stripe/charges?x=1", json={"n": 1}, extensions={"idempotent": True})
        shop.down = None
        await shop.look(MINUTE)
        assert shop.redriven("unhandled") == 1
        async with shop.world.stripe.httpx_async_client(**options):
            await shop.look(MINUTE)
        first, second = seen
        assert (second.method, str(second.url), second.content) == (
            first.method,
            str(first.url),
            first.content,
        )
        assert second.headers["idempotency-key"] == first.headers["idempotency-key"]
        assert second.headers["authorization"] == "Bearer a"
        assert shop.letters() == []
        with shop.world.stripe.httpx_client(**options) as plain:
            shop.down = ConnectionError()
            with pytest.raises(Parked):
                plain.post("http://stripe/charges", extensions={"idempotent": True})
            shop.down = None
            await shop.look(MINUTE)
        assert (len(seen), shop.letters()) == (4, [])

    run(scenario)


@pytest.mark.parametrize("kind", ["httpx_client", "httpx_async_client"])
def test_a_request_is_made_again_as_it_was(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Whatever the client would make of its URL: `params` of its own are in there, and may have been others."""
    monkeypatch.setattr(http_fallback, "_CLIENTS", {})

    async def scenario() -> None:
        shop = Shop()
        seen: list[tuple[str, str]] = []

        def answer(request: httpx.Request) -> httpx.Response:
            seen.append((str(request.url), request.headers["host"]))
            return httpx.Response(503 if shop.down else 201)

        client = getattr(shop.world.stripe, kind)(
            transport=httpx.MockTransport(answer),
            base_url="http://stripe/v1",
            params={"v": "1", "for": "ann"},
        )
        asked = client.build_request(
            "POST",
            "/charges",
            params={"v": "2", "q": "a b&c"},
            headers={"host": "eu.stripe"},
            extensions={"idempotent": True},
        )
        with pytest.raises(Parked):
            _ = await client.send(asked) if kind == "httpx_async_client" else client.send(asked)
        shop.down = None
        await shop.look(MINUTE)
        assert seen == [("http://stripe/v1/charges?v=2&for=ann&q=a+b%26c", "eu.stripe")] * 2

    run(scenario)


@pytest.mark.parametrize(("url", "known"), [("/charges", True), ("http://stock/charges", False)])
def test_a_request_is_made_again_with_what_the_client_knows(
    monkeypatch: pytest.MonkeyPatch, url: str, known: bool
) -> None:
    """The password in its URL is not in the letter, and goes to its own place alone."""
    monkeypatch.setattr(http_fallback, "_CLIENTS", {})

    async def scenario() -> None:
        shop = Shop()
        seen: list[bool] = []

        def answer(request: httpx.Request) -> httpx.Response:
            seen.append("authorization" in request.headers)
            return httpx.Response(503 if shop.down else 201)

        client = shop.world.stripe.httpx_async_client(
            transport=httpx.MockTransport(answer), base_url="http://ann:hunter2@stripe"
        )
        with pytest.raises(Parked):
            await client.post(url, extensions={"idempotent": True})
        shop.down = None
        await shop.look(MINUTE)
        assert seen == [known, known]

    run(scenario)


@pytest.mark.parametrize("status", [204, 303])
def test_a_request_that_the_first_call_would_have_taken_for_done_is_done(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A payment that answers `see other` has been made."""
    monkeypatch.setattr(http_fallback, "_CLIENTS", {})

    async def scenario() -> None:
        shop = Shop()
        transport = httpx.MockTransport(lambda _: httpx.Response(503 if shop.down else status))
        async with shop.world.stripe.httpx_async_client(transport=transport) as client:
            with pytest.raises(Parked):
                await client.post("http://stripe/charges", extensions={"idempotent": True})
            shop.down = None
            await shop.look(MINUTE)
        assert (shop.redriven("done"), shop.letters()) == (1, [])

    run(scenario)


def test_a_client_that_is_closed_is_not_the_one_that_is_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that was made later and has ended, or was dropped, takes nothing from the one that lives on."""
    monkeypatch.setattr(http_fallback, "_CLIENTS", {})

    async def scenario() -> None:
        shop = Shop()
        options: dict[str, Any] = {
            "transport": httpx.MockTransport(lambda _: httpx.Response(503 if shop.down else 201))
        }
        async with shop.world.stripe.httpx_async_client(**options) as client:
            with pytest.raises(Parked):
                await client.post("http://stripe/charges", extensions={"idempotent": True})
            shop.down = None
            async with shop.world.stripe.httpx_async_client(**options):
                pass
            shop.world.stripe.httpx_client(**options)
            await shop.look(MINUTE)
        assert (shop.redriven("unhandled"), shop.redriven("done")) == (0, 1)

    run(scenario)


def test_a_throttle_costs_no_attempt() -> None:
    """A call that was kept back was never made: its letter waits, however often, and is not quarantined."""

    async def scenario() -> None:
        shop = Shop(throttle={"min_calls": 1, "most": "90%", "window": "1h"})
        shop.world.guard(ThrottleGuard)._random = lambda: 1.0
        await shop.park()
        shop.world.guard(ThrottleGuard)._random = lambda: 0.0
        for _ in range(4):
            await shop.look(2 * MINUTE)
        assert [(one.attempts, one.quarantined) for one in shop.letters()] == [(0, False)]
        assert shop.redriven("deferred") == 4

    run(scenario)


@pytest.mark.parametrize("also", [[], [ConnectionError()]])
def test_refusals_of_tasks_cost_no_attempt(also: list[Exception]) -> None:
    """Code with a TaskGroup lets them out together: it was refused, unless one of its calls was made and failed."""

    async def scenario() -> None:
        shop = Shop()
        await shop.park()

        async def again(order: int) -> None:
            refused = BulkheadFull("bank", "bulkhead", "it is full")
            raise ExceptionGroup("", [ExceptionGroup("", [refused]), refused, *also])

        shop.charge.redrive(again)
        await shop.look(MINUTE)
        assert [one.attempts for one in shop.letters()] == [len(also)]
        assert (shop.redriven("deferred"), shop.redriven("failed")) == (1 - len(also), len(also))

    run(scenario)


def test_an_answer_that_is_called_a_failure_is_not_done() -> None:
    """What `failed` says holds when the call is made again, too: nobody else hears of it."""

    async def scenario() -> None:
        shop = Shop()
        answers: list[str | None] = [None, "busy", "fine"]

        @shop.world.stripe(idempotent=True, failed=lambda answer: answer == "busy")
        async def charge() -> str:
            answer = answers.pop(0)
            if answer is None:
                raise ConnectionError
            return answer

        with pytest.raises(Parked):
            await charge()
        await shop.look(MINUTE)
        assert (shop.redriven("done"), shop.redriven("failed")) == (0, 1)
        assert [one.error for one in shop.letters()] == ["it answered, and the answer is a failure"]
        await shop.look(2 * MINUTE)
        assert (shop.redriven("done"), shop.letters(), answers) == (1, [], [])

    run(scenario)


def test_who_redrives_is_nobodys_request() -> None:
    """No deadline, no id, no mark of whatever started it."""

    async def scenario() -> None:
        shop = Shop()
        await shop.park()
        shop.down = None
        marks: list[Any] = []

        async def again(order: int) -> None:
            marks.append(dict(degraded()))

        shop.charge.redrive(again)

        await shop.look(MINUTE)
        assert marks == [{}]

    run(scenario)


def test_letters_that_are_too_old_are_given_up_and_counted() -> None:
    """By `retention.dead_letters`; 14 days unless said."""

    async def scenario() -> None:
        shop = Shop()
        shop.dead_letters.keep = 180_000
        shop.down = ConnectionError()
        await shop.park()
        await shop.look(179 * SECOND)
        assert shop.shown("_dropped_total", reason="expired") == 0
        assert shop.shown("_age_seconds") == 179
        assert shop.shown("_full_ratio") > 0
        await shop.look(2 * SECOND)
        assert (shop.shown("_dropped_total", reason="expired"), shop.letters()) == (1, [])

    run(scenario)


def test_an_unreachable_store_is_shown_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing ends because of it; a call that fails meanwhile goes out with its own error."""

    async def scenario() -> None:
        shop = Shop()

        def broken(*_: Any, **__: Any) -> Any:
            raise LettersUnreachable("the dead letters in x: disk I/O error")

        with monkeypatch.context() as gone:
            gone.setattr(SqliteLetters, "together", broken)
            await shop.look()
            assert shop.shown("_store_up") == 0
            with pytest.raises(ConnectionError):
                await shop.charge(1)
        await shop.look()
        assert shop.shown("_store_up") == 1
        assert shop.shown("_parked_total", outcome="lost") == 1

    run(scenario)


def test_a_call_that_is_done_but_cannot_be_noted_comes_again_with_its_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At least once, and told apart by the key: what a dependency needs to do it once."""

    async def scenario() -> None:
        shop = Shop()
        key = await shop.park()
        shop.down = None

        def broken(*_: Any) -> Any:
            raise LettersUnreachable("gone")

        with monkeypatch.context() as gone:
            gone.setattr(SqliteLetters, "done", broken)
            await shop.look(MINUTE)
        assert len(shop.letters()) == 1
        await shop.look(LEASE * 10**6)
        assert shop.done == [(key, 1), (key, 1)]
        assert shop.letters() == []

    run(scenario)


def test_a_dependency_that_a_reload_takes_away_ends_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes while the store answers: the look goes on to its end, which tells that there is a store."""

    async def scenario() -> None:
        shop = Shop(others={"post": LETTER})
        writer, asked = shop.dead_letters.writer, shop.dead_letters.writer.ask

        def ask(step: Callable[[Any], Any]) -> Any:
            shop.world.service.dependencies.pop("post", None)
            return asked(step)

        monkeypatch.setattr(writer, "ask", ask)
        shop.dead_letters.up = False
        await shop.look()
        assert shop.dead_letters.up

    run(scenario)


# --- with the middleware ---------------------------------------------------------------------------

SPEC: dict[str, Any] = {
    "mahavishnu": 1,
    "service": {"name": "shop", "app": "shop:app"},
    "dependencies": {"stripe": LETTER},
    **ALSO,
}


class App:
    """The middleware with a lifespan, on a clock that is moved."""

    def __init__(self, spec: dict[str, Any] = SPEC) -> None:
        forget()
        self.clock = VirtualClock()
        self.said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.hardening = Hardening(self._app, Spec.model_validate(spec), clock=self.clock)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()

    async def live(self, during: Awaitable[None]) -> None:
        """Start, do this, stop."""
        await self.said.put({"type": "lifespan.startup"})
        task = asyncio.create_task(self.hardening({"type": "lifespan"}, self.said.get, _ignore))
        await self.clock.settle()
        await during
        await self.said.put({"type": "lifespan.shutdown"})
        await task


async def _ignore(_: Any) -> None: ...


def test_it_lives_as_long_as_the_server() -> None:
    """From its start, every second, to its end; what is being made then is given back."""

    async def scenario() -> None:
        app = App()
        queue = app.hardening.service.dead_letters
        assert queue is not None
        queue.random = lambda: 1.0
        import mahavishnu

        down, gate, begun = [True], asyncio.Event(), list[int]()

        @mahavishnu.dependency("stripe")(idempotent=True)
        async def charge(order: int) -> None:
            if down[0]:
                raise ConnectionError
            begun.append(order)
            if order == 2:
                await gate.wait()

        async def during() -> None:
            for order in (1, 2):
                with suppress(Parked):
                    await charge(order)
            down[0] = False
            for _ in range(61):
                app.clock.advance(SECOND)
                await app.clock.settle(50)
            assert sorted(begun) == [1, 2]

        await app.live(during())
        (letter,) = queue.writer.ask(lambda letters: letters.some(9)).result()
        assert (letter.token, letter.attempts) == ("", 0)
        assert app.clock.timers == 0

    run(scenario)


def test_without_dead_letters_nothing_runs() -> None:
    """A spec that keeps none needs no timer."""

    async def scenario() -> None:
        app = App({**SPEC, "dependencies": {"stripe": {}}, "dead_letters": {}})
        app.hardening.life.redriver.start()
        assert app.clock.timers == 0
        await app.hardening.life.redriver.look()
        await app.hardening.life.redriver.stop()

    run(scenario)


# --- without the middleware ------------------------------------------------------------------------


WORKER = """
import asyncio, sys
from mahavishnu import dependency, idempotency_key, redriving

stripe = dependency("stripe")
down, done = True, asyncio.Event()

@stripe(idempotent=True)
async def charge(order: int) -> None:
    if down:
        raise ConnectionError
    print("charged", order, idempotency_key(), flush=True)
    done.set()

async def work() -> None:
    global down
    async with redriving():
        try:
            await charge(7)
        except stripe.Parked as parked:
            print("parked", 7, parked.key, flush=True)
        down = False
        await asyncio.wait_for(done.wait(), 20)

asyncio.run(work())
"""
KEPT = """
mahavishnu: 1
service: {name: shop, app: "shop:app"}
dependencies: {stripe: {fallback: dead_letter}}
dead_letters: {redrive: {base: 100ms}}
"""


def test_a_worker_without_the_middleware_makes_its_own_again(tmp_path: Path) -> None:
    """A script that is run, with its letters in a file: the call is made again, by its key, and ends with it."""
    (tmp_path / "mahavishnu.yaml").write_text(KEPT, encoding="utf-8")
    (tmp_path / "worker.py").write_text(WORKER, encoding="utf-8")
    run_it = [sys.executable, "worker.py"]
    done = subprocess.run(run_it, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    parked, charged = (line.split() for line in done.stdout.splitlines())
    assert (parked[0], charged[0]) == ("parked", "charged")
    assert parked[1:] == charged[1:]
    letters = SqliteLetters(str(tmp_path / ".mahavishnu/dead_letters.db"), lambda: 0)
    assert list(letters.some(9)) == []


@pytest.mark.parametrize("disabled", [False, True])
def test_a_worker_looks_while_it_is_told_to_and_no_longer(
    disabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is being made at the end is given back; disabled, nothing is made at all."""

    async def scenario() -> None:
        shop, gate, begun = Shop(), asyncio.Event(), list[int]()

        async def again(order: int) -> None:
            begun.append(order)
            await gate.wait()

        shop.charge.redrive(again)
        await shop.park()
        if disabled:
            monkeypatch.setenv("MAHAVISHNU_DISABLE", "1")
        async with redriving():
            for _ in range(61):
                shop.clock.advance(SECOND)
                await shop.clock.settle(50)
            assert begun == ([] if disabled else [1])
        (letter,) = shop.letters()
        assert (letter.token, letter.attempts, shop.clock.timers) == ("", 0, 0)

    run(scenario)
