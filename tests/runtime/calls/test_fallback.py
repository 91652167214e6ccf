"""What stands in for a call that failed: fixed values, old answers, code; marked, counted, refused where it cannot."""

from __future__ import annotations

import asyncio
import contextvars
import json
import sys
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import partial
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from unittest.mock import Mock
from uuid import UUID

import httpx
import pytest

from mahavishnu import degraded, watching
from mahavishnu.asgi import Hardening
from mahavishnu.dependencies import Dependency, dependency
from mahavishnu.errors import BadAnswer, BreakerOpen, CallTimeout, MahavishnuError, Parked
from mahavishnu.runtime.calls.degraded import DEGRADED, said
from mahavishnu.runtime.calls.operation import called
from mahavishnu.runtime.context import Degraded, request_id
from mahavishnu.runtime.current import current, forget, succeed
from mahavishnu.runtime.dead_letters.codec import CallCodec, Unreadable
from mahavishnu.runtime.dead_letters.letters import LettersUnreachable
from mahavishnu.runtime.dead_letters.sqlite import SqliteLetters
from mahavishnu.runtime.dead_letters.writer import LetterWriter
from mahavishnu.runtime.restart import needed
from mahavishnu.runtime.service import Service
from mahavishnu.spec import Spec
from mahavishnu.testing import VirtualClock
from tests.metering import value
from tests.runtime.calls.worlds import SECOND, World, serving
from tests.runtime.dead_letters.letterboxes import Time, held_up

STATIC: dict[str, Any] = {"fallback": {"static": {"price": 0, "tags": []}}}
SMALL: dict[str, Any] = {"mahavishnu": 1, "service": {"name": "shop", "app": "shop:app"}}
STALE: dict[str, Any] = {"fallback": {"stale_cache": "10m", "entries": 3, "size": "2kB"}}


class Wrong(Exception):
    """What an httpx error with a response looks like."""

    def __init__(self, status: int) -> None:
        super().__init__("it said no")
        self.response = httpx.Response(status)


def both(stripe: Dependency, act: Callable[[], Any]) -> list[Callable[[], Any]]:
    """The same function guarded as a plain one and as a coroutine function, each to be called from a test."""

    @stripe(idempotent=True)
    def sync() -> Any:
        return act()

    @stripe(idempotent=True)
    async def later() -> Any:
        return act()

    return [sync, lambda: asyncio.run(later())]


def fail(error: BaseException) -> Any:
    """Raise it."""
    raise error


def fail_once_more(tries: list[int]) -> Any:
    """Count, and fail."""
    tries.append(1)
    raise ConnectionError


Bare = Callable[[Dependency, Callable[[], Any]], Any]


def block(stripe: Dependency, act: Callable[[], Any]) -> Any:
    """In a block of a thread."""
    with stripe:
        return act()


def awaited(stripe: Dependency, act: Callable[[], Any]) -> Any:
    """In a block of a task."""

    async def run() -> Any:
        async with stripe:
            return act()

    return asyncio.run(run())


def loop(stripe: Dependency, act: Callable[[], Any]) -> Any:
    """In a loop of attempts."""
    for attempt in stripe.attempts():
        with attempt:
            return act()
    raise AssertionError


def awaited_loop(stripe: Dependency, act: Callable[[], Any]) -> Any:
    """In a loop of attempts of a task."""

    async def run() -> Any:
        async for attempt in stripe.attempts():
            with attempt:
                return act()
        raise AssertionError

    return asyncio.run(run())


BARE: list[Bare] = [block, awaited, loop, awaited_loop]


def nothing(error: Exception) -> None:
    """Stands in for a function without arguments."""


@pytest.mark.parametrize(
    "error", [ConnectionError(), TimeoutError(), Wrong(503), ExceptionGroup("", [OSError()])]
)
@pytest.mark.parametrize("form", [0, 1])
def test_a_fixed_value_stands_in_for_what_failed(form: int, error: Exception) -> None:
    """Every caller gets a copy of his own, and whoever watches is told."""
    world = World(**STATIC)
    call = both(world.stripe, lambda: fail(error))[form]
    with serving() as request, watching() as seen:
        first, second = call(), call()
        first["tags"].append("mine")
        assert second == {"price": 0, "tags": []}
        assert degraded() == seen == {"stripe": Degraded("stripe", "static")}
        assert request.degraded == degraded()
    assert world.fallbacks("static", "served") == 2
    assert world.calls("failure") + world.calls("timeout") == 2
    assert world.calls("success") == 0
    assert degraded() == {}


@pytest.mark.parametrize("form", [0, 1])
def test_a_bad_answer_is_a_failure_too(form: int) -> None:
    """A response of 5xx that was returned instead of raised."""
    world = World(**STATIC)
    assert both(world.stripe, lambda: httpx.Response(500))[form]() == {"price": 0, "tags": []}
    assert both(world.stripe, lambda: httpx.Response(404))[form]().status_code == 404


@pytest.mark.parametrize("error", [Wrong(404), KeyboardInterrupt(), asyncio.CancelledError()])
@pytest.mark.parametrize("form", [0, 1])
def test_nothing_stands_in_for_what_is_the_callers_own(form: int, error: BaseException) -> None:
    """Neither for a request that is wrong, nor for a caller who has gone."""
    world = World(**STATIC)
    with pytest.raises(type(error)):
        both(world.stripe, lambda: fail(error))[form]()
    assert world.fallbacks("static", "served") == 0


def test_it_stands_in_for_refusals_after_all_attempts() -> None:
    """Outside of retry and breaker: a call is made as often as it may be before anything stands in."""
    world = World(
        retry={"attempts": 3, "base": "1ms"}, breaker={"consecutive_failures": 3, "open_for": "1m"}, **STATIC
    )
    tries: list[int] = []
    call = both(world.stripe, lambda: fail_once_more(tries))[0]
    assert call() == {"price": 0, "tags": []}
    assert len(tries) == 3
    assert call() == {"price": 0, "tags": []}
    assert len(tries) == 3
    assert world.calls("rejected") == 1


def test_a_request_without_time_gets_what_stands_in() -> None:
    """The dependency is not called when nothing is left, and the customer is answered all the same."""
    world = World(timeout="1s", **STATIC)
    with serving(deadline=1):
        assert both(world.stripe, lambda: 1)[0]() == {"price": 0, "tags": []}


# --- the last good answer --------------------------------------------------------------------------


class Shelf:
    """A dependency that answers or fails, and counts."""

    def __init__(self) -> None:
        self.down = False
        self.calls = 0

    def price(self, item: int) -> dict[str, int]:
        self.calls += 1
        if self.down:
            raise ConnectionError
        return {"item": item, "price": self.calls}


@pytest.mark.parametrize("form", ["sync", "async"])
def test_the_last_good_answer_to_the_same_arguments_stands_in(form: str) -> None:
    """By position or by name; of another item there is none, and the error goes out."""
    world, shelf = World(**STALE), Shelf()

    @world.stripe(idempotent=True)
    def price(item: int) -> dict[str, int]:
        return shelf.price(item)

    @world.stripe(idempotent=True)
    async def later(item: int) -> dict[str, int]:
        return shelf.price(item)

    def ask(*args: int, **kwargs: int) -> Any:
        return price(*args, **kwargs) if form == "sync" else asyncio.run(_of(later(*args, **kwargs)))

    ask(7)
    shelf.down = True
    world.clock.advance("90s")
    with watching() as seen:
        old = ask(item=7)
    assert old == {"item": 7, "price": 1}
    assert seen == {"stripe": Degraded("stripe", "stale_cache", 90)}
    old["price"] = 0
    assert ask(7) == {"item": 7, "price": 1}
    with pytest.raises(ConnectionError):
        ask(8)
    assert (world.fallbacks("stale_cache", "served"), world.fallbacks("stale_cache", "failed")) == (2, 1)


async def _of(one: Awaitable[Any]) -> Any:
    return await one


def test_an_answer_that_is_too_old_does_not_stand_in() -> None:
    """It is as old as is said, to the nanosecond, and no older."""
    world, shelf = World(**STALE), Shelf()
    price = world.stripe(idempotent=True)(shelf_price(shelf))
    price(1)
    shelf.down = True
    world.clock.advance("10m")
    assert price(1)["price"] == 1
    world.clock.advance(1)
    with pytest.raises(ConnectionError):
        price(1)


def shelf_price(shelf: Shelf) -> Callable[[int], dict[str, int]]:
    """A plain function of it."""

    def price(item: int) -> dict[str, int]:
        return shelf.price(item)

    return price


def test_answers_are_bounded_in_number() -> None:
    """The one that was used least lately goes."""
    world, shelf = World(**STALE), Shelf()
    price = world.stripe(idempotent=True)(shelf_price(shelf))
    for item in (1, 2, 3):
        price(item)
    shelf.down = True
    price(1)
    shelf.down = False
    price(4)
    shelf.down = True
    assert [price(item)["item"] for item in (1, 3, 4)] == [1, 3, 4]
    with pytest.raises(ConnectionError):
        price(2)


def test_answers_are_bounded_in_bytes() -> None:
    """All together; one that is larger than all the room is not kept, and neither is what it replaces."""
    world = World(**STALE)
    size, down = [100], [False]

    @world.stripe(idempotent=True)
    def page(number: int) -> bytes:
        if down[0]:
            raise ConnectionError
        return b"x" * size[0]

    size[0] = 1500
    page(1)
    page(2)
    stand_in: Any = world.guardian.fallbacks.stand_in
    assert len(stand_in.stale._answers.kept) == 1
    assert stand_in.stale._answers.size <= 2000
    size[0] = 5000
    page(2)
    down[0] = True
    with pytest.raises(ConnectionError):
        page(2)
    assert stand_in.stale._answers.size == 0


def test_an_answer_that_is_called_a_failure_is_no_good_answer() -> None:
    """What `failed` says of it holds for the cache, too: the good one before it stands in."""
    world = World(**STALE)
    answers: list[str | None] = ["good", "bad", None]

    @world.stripe(idempotent=True, failed=lambda answer: answer == "bad")
    def page() -> str:
        answer = answers.pop(0)
        if answer is None:
            raise ConnectionError
        return answer

    assert [page(), page(), page()] == ["good", "bad", "good"]


@pytest.mark.parametrize("status", [404, 429, 503])
def test_an_answer_that_refuses_is_no_good_answer(status: int) -> None:
    """Also where it is handed out, as 4xx is, and 5xx is inside of another function of the dependency."""
    world = World(**STALE)
    answers = iter([httpx.Response(200), httpx.Response(status)])

    @world.stripe(idempotent=True)
    def page() -> Any:
        return next(answers, None) or fail(ConnectionError())

    @world.stripe(idempotent=True)
    def pages() -> int:
        code: int = page().status_code
        return code

    assert (page().status_code, pages()) == (200, status)
    assert page().status_code == 200


class Loose(Exception):
    """Can be written, and not read again, as many an exception with arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(one)
        self.two = two


def test_an_answer_that_cannot_be_read_again_does_not_stand_in() -> None:
    """The error that goes out is that of the call, not that of the cache."""
    world, down = World(**STALE), [False]

    @world.stripe(idempotent=True)
    def page() -> Loose:
        if down[0]:
            raise ConnectionError
        return Loose(1, 2)

    page()
    down[0] = True
    with pytest.raises(ConnectionError):
        page()
    assert world.fallbacks("stale_cache", "failed") == 1


def test_functions_of_one_name_are_two() -> None:
    """In different modules: nobody gets the other's answer, and letters find the code that made them."""
    world, down = World(**STALE), [False]

    def made(module: str) -> Callable[[int], str]:
        def price(item: int) -> str:
            if down[0]:
                raise ConnectionError
            return module

        price.__module__ = module
        guarded: Callable[[int], str] = world.stripe(idempotent=True)(price)
        return guarded

    shop, stock = made("shop.prices"), made("stock.prices")
    shop(1)
    down[0] = True
    assert shop(1) == "shop.prices"
    with pytest.raises(ConnectionError):
        stock(1)


class Api:
    """An object that does the calls."""

    def page(self, number: int) -> int:
        return number

    def __call__(self, number: int) -> int:
        return number


@pytest.mark.parametrize("said", [STALE, {"fallback": "dead_letter"}])
@pytest.mark.parametrize("form", [Api().page, Api(), partial(pow, 2)], ids=["method", "object", "partial"])
def test_what_holds_more_than_its_arguments_is_refused_by_name(
    said: dict[str, Any], form: Callable[..., Any]
) -> None:
    """Whose page it was, or of which object, could not be told from its arguments."""
    with pytest.raises(TypeError, match=r"`stripe`.*use a function"):
        World(**said).stripe(idempotent=True)(form)
    World(**STATIC).stripe(idempotent=True)(form)


def sender(kind: str) -> Callable[[int], str]:
    """A function that holds its kind."""

    def send(order: int) -> str:
        return f"{kind} {order}"

    return send


def chosen(kind: str) -> Callable[[int], str]:
    """One of two functions of one name."""
    if kind == "charge":

        def send(order: int) -> str:
            return f"charge {order}"
    else:

        def send(order: int) -> str:
            return f"refund {order}"

    return send


def defaulting(kind: str) -> Callable[[int], str]:
    """A function with a default that none of its calls need say."""

    def send(order: int, kind: str = kind) -> str:
        return f"{kind} {order}"

    return send


@pytest.mark.parametrize("said", [STALE, {"fallback": "dead_letter"}])
@pytest.mark.parametrize("made", [sender, chosen, defaulting])
def test_the_second_function_of_a_name_is_refused(
    said: dict[str, Any], made: Callable[[str], Callable[[int], str]]
) -> None:
    """A refund would be made from the letter of a charge: nothing but their name is kept of either."""
    stripe = World(**said).stripe(idempotent=True)
    assert stripe(made("charge"))(1) == "charge 1"
    with pytest.raises(TypeError, match=r"`stripe`.*another function.*send.*a name of its own"):
        stripe(made("refund"))
    stripe = World(**STATIC).stripe(idempotent=True)
    assert [stripe(made(kind))(1) for kind in ("charge", "refund")] == ["charge 1", "refund 1"]


@pytest.mark.parametrize("said", [STALE, {"fallback": "dead_letter"}])
def test_a_function_without_a_name_is_refused(said: dict[str, Any]) -> None:
    """The next one that is written beside it has the same."""
    with pytest.raises(TypeError, match=r"`stripe`.*lambda.*use `def`"):
        World(**said).stripe(idempotent=True)(lambda: 1)


def test_a_function_that_is_made_again_is_not_another_one(tmp_path: Path) -> None:
    """By the same code, out of the same things; by a module that is loaded anew, also once it was changed."""
    stripe, kind = World(fallback="dead_letter").stripe(idempotent=True), "charge"
    for _ in range(2):
        stripe(sender(kind))
    file = tmp_path / "anew.py"
    for text in ("def charge(order): ...", "def charge(order): ...", "\ndef charge(order, kind=1): ..."):
        file.write_text(text)
        found = spec_from_file_location("anew", file)
        assert found is not None
        assert found.loader is not None
        module = module_from_spec(found)
        found.loader.exec_module(module)
        stripe(module.charge)


def test_the_first_function_of_a_name_keeps_it_under_another_spec() -> None:
    """They were two before their spec had a fallback: letters are made by the one that may write them."""
    world = World()
    charge, refund = (world.stripe(idempotent=True)(sender(kind)) for kind in ("charge", "refund"))
    said = world.service.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    said["dependencies"]["stripe"] = STALE
    after = Service(Spec.model_validate(said), world.clock, before=world.service)
    after.take_over(world.service)
    succeed(after)
    assert charge(1) == "charge 1"
    with pytest.raises(MahavishnuError, match=r"`stripe`.*another function"):
        refund(1)


@pytest.mark.parametrize("key", ["", None])
def test_a_key_that_tells_nothing_is_refused(key: Any) -> None:
    """All calls would have the same, and all but the first would be lost."""
    world = World(fallback="dead_letter")

    @world.stripe(idempotent=True, key=lambda: key)
    def charge() -> None:
        raise ConnectionError

    with pytest.raises(MahavishnuError, match=r"`stripe`.*key.*charge"):
        charge()


@pytest.mark.parametrize(("name", "amount"), [("refund", 7), ("charge", 8)])
def test_two_calls_do_not_share_a_key(name: str, amount: int) -> None:
    """The second would never be made, and its caller was promised that: he is told at once that it is lost."""
    world = World(fallback="dead_letter")

    def charge(order: int, amount: int) -> None:
        raise ConnectionError

    def refund(order: int, amount: int) -> None:
        raise ConnectionError

    def order_of(order: int, amount: int) -> str:
        return f"order-{order}" if amount else ""

    guarded = world.stripe(idempotent=True, key=order_of)
    for _ in range(2):
        with pytest.raises(Parked):
            guarded(charge)(1, amount=7)
    with pytest.raises(ConnectionError) as told:
        guarded({"charge": charge, "refund": refund}[name])(1, amount)
    assert told.value.__notes__ == ["and the call to stripe could not be kept as a dead letter"]
    parked = "mahavishnu_dead_letters_parked_total"
    assert [value(world.service.metrics, parked, outcome=one) for one in ("stored", "known", "lost")] == [
        1,
        1,
        1,
    ]


def test_what_was_not_displaced_in_the_end_is_not_counted() -> None:
    """A step that fails as a whole has displaced nobody: no alert speaks of a letter that is still there."""
    world = World(fallback="dead_letter", also={"dead_letters": {"entries": 1, "when_full": "displace"}})
    assert world.service.dead_letters is not None
    letters: Any = world.service.dead_letters.writer.letters
    series = "mahavishnu_dead_letters_dropped_total"

    @world.stripe(idempotent=True)
    def charge() -> None:
        raise ConnectionError

    @contextmanager
    def failing() -> Generator[None, None, None]:
        with SqliteLetters.together(letters):
            yield
            raise LettersUnreachable("the disk is full")

    with pytest.raises(Parked):
        charge()
    letters.together = failing
    with pytest.raises(ConnectionError):
        charge()
    assert value(world.service.metrics, series, reason="displaced") == 0
    del letters.together
    with pytest.raises(Parked):
        charge()
    assert value(world.service.metrics, series, reason="displaced") == 1


Slow = Callable[[LetterWriter], threading.Event]
"""Makes a writer slow until what it returns is set."""


def begun(writer: LetterWriter) -> threading.Event:
    """It has begun to keep the letter, and takes its time."""
    gate, letters = threading.Event(), cast("Any", writer.letters)

    def put(*said: Any) -> Any:
        letters.begun = True
        gate.wait()
        return SqliteLetters.put(letters, *said)

    letters.put, letters.begun = put, False
    return gate


def lost(writer: LetterWriter) -> threading.Event:
    """It is busy with others, and then cannot keep it."""

    def put(*_: Any) -> Any:
        raise LettersUnreachable("the disk is full")

    cast("Any", writer.letters).put = put
    return held_up(writer)


async def charged(stripe: Dependency) -> None:
    """A function of one's own that fails."""

    @stripe(idempotent=True)
    async def charge() -> None:
        raise ConnectionError

    await charge()


async def posted(stripe: Dependency) -> None:
    """A request that fails."""
    transport = httpx.MockTransport(lambda _: httpx.Response(503))
    async with stripe.httpx_async_client(transport=transport) as client:
        await client.post("http://stripe/charges", extensions={"idempotent": True})


class Left:
    """A call that fails while the writer is slow, and whose request is ended before its letter is kept."""

    def __init__(self, folder: Path) -> None:
        self.world = World(fallback="dead_letter")
        self.told: list[tuple[str, str]] = []
        self.world.service.log = Mock(warning=self._warning)
        self.world.service.stand_by()
        queue = self.world.service.dead_letters
        assert queue is not None
        self.writer = queue.writer = LetterWriter(SqliteLetters(str(folder / "dead.db"), Time()))

    async def go(self, slow: Slow, call: Callable[[Dependency], Awaitable[None]]) -> None:
        gate = slow(self.writer)
        with serving("r1"):
            task = asyncio.ensure_future(call(self.world.stripe))
        while not self._handed_over():  # noqa: ASYNC110 - a thread tells no event
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        self.writer.close()

    def parked(self, outcome: str) -> float:
        return value(self.world.service.metrics, "mahavishnu_dead_letters_parked_total", outcome=outcome)

    def _warning(self, event: str, **_: str) -> None:
        if event != "call failed":  # what led to it
            self.told.append((event, request_id()))

    def _handed_over(self) -> bool:
        writer: Any = self.writer
        waits = writer._thread is not None and writer._queue.qsize() == 1
        return bool(getattr(writer.letters, "begun", waits))


@pytest.mark.parametrize("slow", [held_up, begun])
@pytest.mark.parametrize("call", [charged, posted])
def test_a_letter_is_kept_and_told_of_where_nobody_waits_any_more(
    slow: Slow, call: Callable[[Dependency], Awaitable[None]], tmp_path: Path
) -> None:
    """The deadline of its request passes first: nothing else would say that the call was ever asked for."""
    left = Left(tmp_path)
    asyncio.run(left.go(slow, call))
    assert [one.request for one in left.writer.ask(lambda letters: letters.some(9)).result()] == ["r1"]
    assert (left.parked("stored"), left.told) == (1, [("call parked", "r1")])
    left.writer.close()


async def answered_badly(stripe: Dependency) -> None:
    """A function of one's own that answers that it failed."""

    @stripe(idempotent=True)
    async def charge() -> httpx.Response:
        return httpx.Response(503)

    await charge()


async def part_of_another(stripe: Dependency) -> None:
    """One that waits within a call of another dependency, which has not failed."""

    @dependency("bank")(idempotent=True)
    async def pay() -> None:
        await charged(stripe)

    await pay()


RETRIED: dict[str, Any] = {"retry": {"attempts": 3, "base": "3s", "max": "3s"}, "fallback": "dead_letter"}


@pytest.mark.parametrize("call", [charged, posted, answered_badly, part_of_another])
async def test_a_call_that_is_cancelled_between_two_attempts_is_kept(
    call: Callable[[Dependency], Awaitable[None]],
) -> None:
    """As when its request's time is up, or the server ends: its failure is known, and the cancellation goes on."""
    world = World(auto=False, **RETRIED, others={"bank": {"fallback": "dead_letter"}})
    task = asyncio.ensure_future(call(world.stripe))
    await world.clock.settle()
    assert task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await world.clock.settle()
    assert await _kept(world) == ["stripe"]


async def _kept(world: World) -> list[str]:
    queue = world.service.dead_letters
    assert queue is not None
    some = await asyncio.wrap_future(queue.writer.ask(lambda letters: letters.some(9)))
    return [one.dependency for one in some]


async def test_a_call_that_is_cancelled_in_an_attempt_is_not_kept() -> None:
    """Nobody knows whether it was made, even where the attempt before has failed."""
    world = World(auto=False, **RETRIED)
    tries: list[int] = []

    @world.stripe(idempotent=True)
    async def charge() -> None:
        tries.append(1)
        if len(tries) > 1:
            await asyncio.Event().wait()
        raise ConnectionError

    task = asyncio.ensure_future(charge())
    await world.clock.settle()
    world.clock.advance("30s")
    await world.clock.settle()
    assert len(tries) == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _kept(world) == []


def test_a_letter_is_said_to_be_lost_where_nobody_waits_any_more(tmp_path: Path) -> None:
    """The log and the series are all that is left of it."""
    left = Left(tmp_path)
    asyncio.run(left.go(lost, charged))
    assert (left.parked("lost"), left.told) == (1, [("call lost", "r1")])


def test_a_call_under_way_is_kept_whatever_a_reload_takes_away() -> None:
    """Who parks no more by the new spec still tells the caller of his letter."""
    other: dict[str, Any] = {"fallback": "dead_letter"}
    world = World(fallback="dead_letter", others={"bank": other})
    before = world.service
    said = before.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    after = Service(
        Spec.model_validate({**said, "dependencies": {"stripe": {}, "bank": other}}),
        world.clock,
        before=before,
    )

    @world.stripe(idempotent=True)
    def charge() -> None:
        after.take_over(before)
        succeed(after)
        raise ConnectionError

    with pytest.raises(Parked):
        charge()


def test_what_cannot_be_kept_is_still_answered() -> None:
    """An answer that has no copy is handed on as it is."""
    world = World(**STALE)

    @world.stripe(idempotent=True)
    def door() -> Any:
        return lambda: 1

    assert door()() == 1


# --- code of one's own -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["sync", "async"])
def test_code_stands_in_with_the_arguments_and_the_error(form: str) -> None:
    """Where the spec names nothing; marked all the same."""
    world = World()
    errors: list[Exception] = []

    @world.stripe(idempotent=True)
    def charge(order: int, *, fast: bool = False) -> str:
        raise ConnectionError

    @charge.fallback
    def queued(order: int, *, fast: bool = False, error: Exception) -> str:
        errors.append(error)
        return f"{order} {fast}"

    @world.stripe
    async def later(order: int, *, fast: bool = False) -> str:
        raise ConnectionError

    @later.fallback
    async def queued_later(order: int, *, error: Exception, **more: Any) -> str:
        errors.append(error)
        return f"{order} {more['fast']}"

    with watching() as seen:
        answer = charge(3, fast=True) if form == "sync" else asyncio.run(_of(later(3, fast=True)))
    assert answer == "3 True"
    assert isinstance(errors[0], ConnectionError)
    assert seen == {"stripe": Degraded("stripe", "callable")}
    assert world.fallbacks("callable", "served") == 1


def test_code_that_fails_too_is_counted_as_such() -> None:
    """Its own error goes out, with the first one behind it."""
    world = World()

    @world.stripe
    def charge() -> Any:
        return httpx.Response(503)

    @charge.fallback
    def queued(error: Exception) -> Any:
        assert isinstance(error, BadAnswer)
        raise LookupError from error

    with pytest.raises(LookupError) as told:
        charge()
    assert isinstance(told.value.__cause__, BadAnswer)
    assert (world.fallbacks("callable", "served"), world.fallbacks("callable", "failed")) == (0, 1)


def test_nothing_stands_in_when_everything_is_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """MAHAVISHNU_DISABLE turns off code, too."""
    world = World()
    world.guardian.fallbacks = None

    @world.stripe
    def charge() -> Any:
        raise ConnectionError

    charge.fallback(nothing)
    with pytest.raises(ConnectionError):
        charge()


# --- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [STATIC, STALE, {"fallback": "dead_letter"}])
def test_what_may_not_be_repeated_is_refused_by_name(said: dict[str, Any]) -> None:
    """When the function is decorated, not when the dependency is down."""
    world = World(**said)
    with pytest.raises(
        MahavishnuError, match=r"`stripe` has a fallback.*guard `.*charge` with idempotent=True"
    ):

        @world.stripe
        def charge() -> None: ...


@pytest.mark.parametrize("said", [STATIC, STALE, {"fallback": "dead_letter"}])
@pytest.mark.parametrize("form", [0, 1])
def test_what_may_not_be_repeated_is_never_stood_in_for(form: int, said: dict[str, Any]) -> None:
    """Even where a spec came to work that should have been refused: nobody is told that it will be made again."""
    world = World(timeout="1s")

    @world.stripe
    def sync() -> Any:
        raise ConnectionError

    @world.stripe
    async def later() -> Any:
        raise ConnectionError

    spec = world.service.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    spec["dependencies"]["stripe"] = said
    after = Service(Spec.model_validate(spec), world.clock, before=world.service)
    after.take_over(world.service)
    succeed(after)
    with pytest.raises(ConnectionError):
        (asyncio.run(later()) if form else sync())
    assert after.metrics.total("mahavishnu_dependency_fallbacks_total", {}) == 0
    assert after.metrics.total("mahavishnu_dead_letters_parked_total", {}) == 0


@pytest.mark.parametrize("said", [STATIC, STALE, {"fallback": "dead_letter"}])
@pytest.mark.parametrize("form", BARE)
def test_nothing_stands_in_for_blocks_and_loops(
    form: Bare, said: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """They have no answer in whose place it could: one that is well goes on, and one that fails fails as it is."""
    world = World(breaker={"consecutive_failures": 2, "open_for": "1m"}, **said)
    assert form(world.stripe, lambda: "paid") == "paid"
    for error in (ConnectionError, ConnectionError, BreakerOpen):
        with pytest.raises(error):
            form(world.stripe, lambda: fail(ConnectionError()))
    assert world.service.metrics.total("mahavishnu_dependency_fallbacks_total", {}) == 0
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    (line,) = (one for one in lines if one["event"] == "no fallback")
    assert (line["dependency"], line["level"]) == ("stripe", "warning")
    assert "nothing stands in for a" in line["what"]


def test_that_nothing_stands_in_is_told_no_second_time_under_another_spec() -> None:
    """Nor where the spec has no fallback, nor in a function for which it stands in."""
    world, log = World(), StringIO()
    said = world.service.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)

    def reloaded(**stripe: Any) -> None:
        spec = Spec.model_validate({**said, "dependencies": {"stripe": stripe}})
        after = Service(spec, world.clock, log_to=log, before=current())
        succeed(after)

    def told() -> int:
        return log.getvalue().count('"no fallback"')

    block(world.stripe, lambda: 1)
    reloaded(**STATIC)

    @world.stripe(idempotent=True)
    def around() -> Any:
        return block(world.stripe, lambda: 1)

    assert around() == 1
    assert told() == 0
    block(world.stripe, lambda: 1)
    reloaded(fallback={"static": 2})
    block(world.stripe, lambda: 1)
    assert told() == 1


@pytest.mark.parametrize("said", [STALE, {"fallback": "dead_letter"}])
def test_arguments_that_cannot_be_written_down_are_refused_by_name(said: dict[str, Any]) -> None:
    """By their annotation at once; by their value with the first call, whether it would have failed or not."""
    world = World(**said)
    with pytest.raises(TypeError, match=r"argument `session` of `.*one` cannot be written down"):

        @world.stripe(idempotent=True)
        def one(session: contextvars.Context) -> None: ...

    with pytest.raises(TypeError, match="is a method"):

        class _Client:  # pyright: ignore[reportUnusedClass]
            @world.stripe(idempotent=True)
            def call(self) -> None: ...

    @world.stripe(idempotent=True)
    def two(session: Any) -> int:
        return 1

    assert two({"a": [1, None, "x"]}) == 1
    for wrong in (object(), {1: 2}, (1, 2), Decimal(1), float("nan")):
        with pytest.raises(MahavishnuError, match="cannot be written down and read again"):
            two(wrong)


def test_two_fallbacks_are_one_too_many() -> None:
    """Code and spec may not both name one."""
    world = World(**STATIC)

    @world.stripe(idempotent=True)
    def charge() -> None: ...

    with pytest.raises(MahavishnuError, match="keep one of them"):
        charge.fallback(nothing)


def test_code_that_could_not_be_called_is_refused() -> None:
    """When it is registered."""
    world = World()

    @world.stripe
    def charge(order: int) -> None: ...

    async def later(order: int, error: Exception) -> None: ...

    def without(order: int) -> None: ...

    with pytest.raises(TypeError, match="must take `error`"):
        charge.fallback(without)
    with pytest.raises(TypeError, match="must be `async def` just as it is"):
        charge.fallback(later)


def test_inside_a_call_of_the_same_dependency_nothing_stands_in() -> None:
    """The outermost does, once."""
    world = World(**STATIC)

    @world.stripe(idempotent=True)
    def inner() -> Any:
        raise ConnectionError

    @world.stripe(idempotent=True)
    def outer() -> Any:
        return inner()

    assert outer() == {"price": 0, "tags": []}
    assert world.fallbacks("static", "served") == 1


def test_a_response_says_what_of_it_is_degraded() -> None:
    """One member for each dependency, in the middleware's own field; scripts of other origins may read it."""
    spec = {
        **SMALL,
        "dependencies": {"price": {"fallback": {"static": 0}}, "stock": {"fallback": {"static": "?"}}},
        "security": {"cors": {"origins": ["https://a.example.com"]}},
    }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/bad":
            for name in ("price", "stock", "price"):
                await down(name)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def down(name: str) -> Any:
        @dependency(name)(idempotent=True)
        async def call() -> Any:
            raise ConnectionError

        return await call()

    forget()
    hardening = Hardening(app, Spec.model_validate(spec), clock=VirtualClock(), log_to=StringIO())
    transport = httpx.ASGITransport(app=hardening)

    async def ask(path: str) -> httpx.Headers:
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return (await client.get(path, headers={"origin": "https://a.example.com"})).headers

    bad, good = asyncio.run(ask("/bad")), asyncio.run(ask("/good"))
    assert bad.get_list("mahavishnu-degraded") == ["price;by=static, stock;by=static"]
    assert "Mahavishnu-Degraded" in bad["access-control-expose-headers"]
    assert "mahavishnu-degraded" not in good


def test_what_a_cache_holds_goes_on_under_another_spec() -> None:
    """A reload forgets no answer; the new bounds hold at once."""
    world, shelf = World(**STALE), Shelf()
    price = world.stripe(idempotent=True)(shelf_price(shelf))
    price(1)
    before = world.service
    said = before.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    said["dependencies"]["stripe"]["fallback"] = {"stale_cache": "1m"}
    after = Service(Spec.model_validate(said), world.clock, before=before)
    after.take_over(before)
    succeed(after)
    shelf.down = True
    assert price(1) == {"item": 1, "price": 1}
    world.clock.advance("61s")
    with pytest.raises(ConnectionError):
        price(1)


def test_dead_letters_go_on_under_another_spec_and_do_not_move() -> None:
    """The queue is the process's; where it keeps them is settled when the process starts."""
    world = World(fallback="dead_letter")
    before = world.service
    said = before.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    without: dict[str, Any] = {**said, "dependencies": {"stripe": {}}}
    changed = {**said, "dead_letters": {"entries": 7}}
    moved = {**said, "dead_letters": {"store": "redis://letters:6379"}}
    bare = Service(Spec.model_validate(without), world.clock, before=before)
    bare.take_over(before)
    assert bare.dead_letters is None
    after = Service(Spec.model_validate(changed), world.clock, before=bare)
    after.take_over(bare)
    assert after.dead_letters is before.dead_letters
    assert after.dead_letters is not None
    assert after.dead_letters.bounds.entries == 7
    (problem,) = needed(before.spec, Spec.model_validate(moved))
    assert problem.path == ("dead_letters", "store")


# --- how it is said --------------------------------------------------------------------------------


def test_the_field_of_the_response_names_each() -> None:
    """A list of RFC 9651: names with parameters."""
    ones = [Degraded("payment", "dead_letter"), Degraded("catalogue", "stale_cache", 12)]
    assert (DEGRADED, said(ones)) == (
        b"mahavishnu-degraded",
        b"payment;by=dead_letter, catalogue;by=stale_cache;age=12",
    )


def test_errors_are_typed() -> None:
    """What went out before goes out still, where nothing can stand in."""
    world = World(breaker={"consecutive_failures": 1, "open_for": "1m"}, **STALE)
    call = both(world.stripe, lambda: fail(TimeoutError()))[0]
    with pytest.raises(TimeoutError):
        call()
    with pytest.raises(BreakerOpen):
        call()
    assert issubclass(CallTimeout, TimeoutError)


# --- arguments as bytes ----------------------------------------------------------------------------


@dataclass
class Order:
    """What a shop hands on."""

    number: UUID
    amount: Decimal
    due: date | None = None


def test_arguments_come_back_as_they_were() -> None:
    """By their annotations: dataclasses, decimals, dates, sets, defaults, many."""

    def charge(
        order: Order, tags: set[str], *more: Decimal, at: date, plain: Any = None, **rest: tuple[int, int]
    ) -> None: ...

    codec = CallCodec(charge)
    order = Order(UUID(int=7), Decimal("1.10"), date(2026, 1, 2))
    args = (order, {"a", "b"}, Decimal(1), Decimal("2.50"))
    kwargs: dict[str, Any] = {"at": date(2026, 2, 3), "x": (1, 2)}
    assert codec.unwrap(codec.wrap(args, kwargs)) == (args, kwargs)


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b'{"order":"x"}', b'{"other":1}', b'{"order":1,"more":2}', b"\xff"]
)
def test_what_does_not_fit_the_function_any_more_is_said_to_be_so(payload: bytes) -> None:
    """After a deployment its arguments may be others."""

    def charge(order: int) -> None: ...

    with pytest.raises(Unreadable):
        CallCodec(charge).unwrap(payload)


def test_a_dependency_without_fallback_costs_nothing_more() -> None:
    """Its guard says so itself, so that no call asks any further."""
    world = World()
    assert not world.guardian.stands_by
    assert SECOND == 10**9
    assert isinstance(dependency("stripe"), Dependency)


@pytest.mark.parametrize("module", ["__main__", "__mp_main__"])
@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"__file__": "/srv/worker.py"}, "worker.charge"),
        (
            {"__file__": "/srv/jobs/worker.py", "__spec__": ModuleSpec("jobs.worker", None)},
            "jobs.worker.charge",
        ),
        ({}, "{module}.charge"),
    ],
)
def test_a_script_is_known_by_the_name_that_others_import(
    module: str, facts: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `python worker.py` parks is made again by a service that imports `worker`."""
    script = ModuleType("__main__")
    vars(script).update(facts)
    monkeypatch.setitem(sys.modules, "__main__", script)

    def charge() -> None: ...

    charge.__module__, charge.__qualname__ = module, "charge"
    assert called(charge) == name.format(module=module)
