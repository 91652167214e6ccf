"""What is written out for a function takes what that takes, whatever it is called, and misses no policy."""

from __future__ import annotations

import asyncio
import dis
import functools
import inspect
from collections.abc import Callable, Coroutine
from types import CodeType
from typing import Any

import pytest

from mahavishnu.errors import BreakerOpen
from mahavishnu.runtime.calls import fitted, flat
from mahavishnu.runtime.calls.call import Terms
from mahavishnu.runtime.calls.operation import Operation
from tests.runtime.calls.worlds import ALL, World, all_but


@pytest.fixture
def world() -> World:
    """One with every policy."""
    return World(**ALL)


def code_of(guarded: Any) -> CodeType:
    """What it runs."""
    code: CodeType = guarded.__code__
    return code


def fits(guarded: Callable[..., Any]) -> bool:
    """Whether it was compiled for its function."""
    return not code_of(guarded).co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)


async def plain(order: int, card: str) -> Any:
    return order, card


async def placed(order: int, card: str, /) -> Any:
    return order, card


async def named(order: int, *, card: str) -> Any:
    return order, card


async def of_its_own(request: int, answer: str) -> Any:
    """Names that the wrapper has for something else."""
    return request, answer


async def of_an_error(fault: int, call: str) -> Any:
    return fault, call


async def of_no_name(_: int, bad: str) -> Any:
    return _, bad


async def of_what_is_left_out(alarm: int, plan: str) -> Any:
    return alarm, plan


async def mixed(args: int, kwargs: str) -> Any:
    return args, kwargs


@pytest.mark.parametrize("said", [ALL, {"retry": {}}, {"breaker": {}}, {"url": "http://stripe"}])
@pytest.mark.parametrize(
    "function",
    [plain, placed, named, of_its_own, of_an_error, of_no_name, of_what_is_left_out, mixed],
)
def test_it_has_the_parameters_of_its_function(
    said: dict[str, Any], function: Callable[..., Coroutine[Any, Any, Any]]
) -> None:
    """Called by place or by name, as the function allows: on the short way and on the long one."""
    guarded = World(**said).stripe(idempotent=True)(function)
    assert fits(guarded)
    first, second = inspect.signature(function).parameters
    for _ in range(2):
        if function is not named:
            assert asyncio.run(guarded(1, "x")) == (1, "x")
        if function is not placed:
            assert asyncio.run(guarded(1, **{second: "x"})) == (1, "x")
            assert asyncio.run(guarded(**{second: "x", first: 1})) == (1, "x")
        World(**all_but(fallback={"static": 0}))  # from now on something may stand in: the long way
    assert inspect.signature(guarded) == inspect.signature(function)
    assert inspect.iscoroutinefunction(guarded)


def test_wrong_arguments_are_no_failure_of_the_dependency(world: World) -> None:
    """They are refused as the function would refuse them, before anything is asked or counted."""
    guarded: Any = world.stripe(plain)
    for wrong in ((), (1,), (1, "x", 2)):
        with pytest.raises(TypeError, match="argument"):
            guarded(*wrong)
    with pytest.raises(TypeError, match="other"):
        guarded(1, other="x")
    assert (world.calls("failure"), world.judged(), world.at_rest()) == (0, 0, True)


async def left_out(order: int, card: str = "none") -> Any:
    return order, card


async def named_left_out(order: int, *, card: str = "none") -> Any:
    return order, card


async def many(*orders: int) -> Any:
    return orders


async def words(**cards: str) -> Any:
    return cards


async def nothing() -> Any:
    return ()


async def foreign(function: int, operation: str) -> Any:
    """Names of what the wrapper needs from outside."""
    return function, operation


class Bank:
    """What is guarded may be a method, or the object itself."""

    async def charge(self, order: int) -> Any:
        return self, order

    async def __call__(self, order: int) -> Any:
        return self, order


BANK = Bank()


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "answer"),
    [
        (left_out, (1,), {}, (1, "none")),
        (left_out, (), {"card": "x", "order": 1}, (1, "x")),
        (named_left_out, (1,), {}, (1, "none")),
        (many, (1, 2), {}, (1, 2)),
        (words, (), {"a": "x"}, {"a": "x"}),
        (nothing, (), {}, ()),
        (foreign, (1,), {"operation": "x"}, (1, "x")),
        (functools.partial(plain, 1), ("x",), {}, (1, "x")),
        (BANK.charge, (1,), {}, (BANK, 1)),
        (BANK, (1,), {}, (BANK, 1)),
    ],
)
def test_all_others_are_guarded_all_the_same(
    world: World, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], answer: Any
) -> None:
    guarded: Any = world.stripe(idempotent=True)(function)
    for _ in range(2):
        assert asyncio.run(guarded(*args, **kwargs)) == answer
    assert world.calls("success") == 2


def test_what_its_dependency_does_not_have_is_left_out() -> None:
    """A wrapper asks for no timeout where there is none, and has no room for one."""
    for world, asks in ((World(retry={}), False), (World(timeout="1s"), True)):
        settings = world.guardian.settings
        guarded = flat.guarded(lambda _: None, Operation("stripe", plain, Terms()), settings)  # type: ignore[arg-type, return-value]
        code = code_of(guarded)
        assert ("watch" in {one.argval for one in dis.get_instructions(code)}) is asks
        assert ("alarm" in code.co_varnames) is asks
        assert "bulkhead" not in code.co_varnames


def test_what_stands_in_may_be_said_later() -> None:
    """After calls that took the short way."""

    async def failing(order: int) -> int:
        if order:
            raise ConnectionError
        return order

    guarded = World(retry={}).stripe(idempotent=True)(failing)
    assert asyncio.run(guarded(0)) == 0

    @guarded.fallback
    async def instead(order: int, error: Exception) -> int:
        return -order

    assert asyncio.run(guarded(1)) == -1


def test_a_policy_that_comes_later_is_kept_to(world: World) -> None:
    """A reload may add what a function was not written out for, and take away what it was."""

    async def failing(order: int) -> None:
        raise ConnectionError

    guarded = World(retry={}).stripe(failing)
    with pytest.raises(ConnectionError):
        asyncio.run(guarded(1))
    late = World(breaker={"consecutive_failures": 1})
    for error in (ConnectionError, BreakerOpen):
        with pytest.raises(error):
            asyncio.run(guarded(1))
    assert (late.calls("failure"), late.calls("rejected")) == (1, 1)
    bare = World(url="http://stripe")
    for _ in range(2):
        with pytest.raises(ConnectionError):
            asyncio.run(guarded(1))
    assert bare.calls("failure") == 2


def test_a_method_is_guarded_in_its_class(world: World) -> None:
    class Shop:
        @world.stripe
        async def charge(self, order: int) -> Any:
            return self, order

    shop = Shop()
    assert fits(Shop.charge)
    assert asyncio.run(shop.charge(1)) == (shop, 1)
    assert asyncio.run(shop.charge(order=2)) == (shop, 2)


@pytest.mark.parametrize("found", [None, "def _guarded(find): ...\n", "x = 1\n", "async def made(:"])
def test_where_its_source_is_not_at_hand_nothing_is_compiled(
    world: World, monkeypatch: pytest.MonkeyPatch, found: str | None
) -> None:
    """An interpreter may be given compiled modules alone; or the file is no longer what was loaded."""

    def source(_: object) -> str:
        if found is None:
            raise OSError("could not get source code")
        return found

    monkeypatch.setattr(inspect, "getsource", source)
    fitted.forget()
    guarded = world.stripe(plain)
    assert not fits(guarded)
    assert asyncio.run(guarded(1, "x")) == (1, "x")
    fitted.forget()


def test_a_fault_is_shown_where_it_is(world: World) -> None:
    """The lines of a traceback are those of the source."""

    async def failing(order: int) -> None:
        raise ConnectionError

    guarded = world.stripe(failing)
    assert fits(guarded)
    with pytest.raises(ConnectionError) as caught:
        asyncio.run(guarded(1))
    (entry,) = (one for one in caught.traceback if one.name == "made")
    lines, _ = inspect.getsourcelines(flat)
    assert str(entry.path) == flat.__file__
    assert "await function(" in lines[entry.lineno]


def test_each_kind_of_parameters_is_compiled_once(world: World) -> None:
    """What many functions have in common they share."""

    async def other(order: int, card: str) -> Any:
        return order, card

    one, two = (
        flat.guarded(lambda _: world.guardian, Operation("stripe", each, Terms()), world.guardian.settings)
        for each in (plain, other)
    )
    assert code_of(one) is code_of(two)
