"""Time that is left, in the headers of requests: read from callers, told to dependencies."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mahavishnu.policies.timeout import MARGIN
from mahavishnu.runtime.budget import LEAST, parse, reader, write
from tests.runtime.calls.worlds import SECOND, World, serving

FORMS = ("grpc-timeout", "x-request-timeout-ms", "request-timeout")
URL = "https://stripe.example/charges"
MS = 10**6


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("grpc-timeout", "1H", 3600 * SECOND),
        ("grpc-timeout", "2M", 120 * SECOND),
        ("grpc-timeout", "3S", 3 * SECOND),
        ("grpc-timeout", "250m", 250 * MS),
        ("grpc-timeout", "99999999u", 99_999_999_000),
        ("grpc-timeout", "7n", 7),
        ("x-envoy-expected-rq-timeout-ms", "1500", 1500 * MS),
        ("connect-timeout-ms", "9999999999", 9_999_999_999 * MS),
        ("request-timeout", "30", 30 * SECOND),
        ("x-request-timeout", "0.25", 250 * MS),
        ("x-server-timeout", "1.000000001999999999", SECOND + 1),
    ],
)
def test_each_form_says_its_time(name: str, value: str, says: int) -> None:
    """The unit follows from the header's name, as its users have it."""
    assert parse(name, value) == says
    assert reader([name])([(b"x", b"y"), (name.encode(), value.encode())]) == says


HOSTILE = (
    "",
    "0",
    "00",
    "-1",
    "+1",
    " 1",
    "1 ",
    "1e3",
    "nan",
    "inf",
    "1,5",
    "0x10",
    "٣",
    "9" * 400,
    "1\n",
    "1;",
)


@pytest.mark.parametrize(
    "value", [*HOSTILE, "1", "0S", "1s", "1 S", "S", "-1S", "1.5S", "123456789S", "٣S", "1S\n"]
)
def test_what_is_no_time_in_grpcs_form_is_none(value: str) -> None:
    """Nothing is guessed, and no time at all is no deadline, as elsewhere."""
    assert parse("grpc-timeout", value) is None


@pytest.mark.parametrize("value", [*HOSTILE, "1S", "1.5", "12345678901"])
def test_what_is_no_time_in_milliseconds_is_none(value: str) -> None:
    """Whole numbers of ten digits, and nothing else."""
    assert parse("x-timeout-ms", value) is None


@pytest.mark.parametrize("value", [*HOSTILE, "1S", "1.", ".5", "1.5.5", "0.0000000001", "123456789"])
def test_what_is_no_time_in_seconds_is_none(value: str) -> None:
    """Decimal numbers with a point."""
    assert parse("request-timeout", value) is None


@pytest.mark.parametrize("name", FORMS)
@given(left=st.integers(LEAST, 10**19) | st.integers(0, 63).map(lambda bits: LEAST + 2**bits))
@example(left=LEAST)
@example(left=10**19)
def test_what_is_written_is_never_more_than_is_left(name: str, left: int) -> None:
    """Read back it is at most the time left, positive, and less by under a millisecond up to a day."""
    said = parse(name, write(name, left))
    assert said is not None
    assert 0 < said <= left
    if left < 86400 * SECOND:
        assert left - said < MS


@given(
    st.sampled_from(FORMS),
    st.lists(
        st.tuples(st.sampled_from([b"grpc-timeout", b"request-timeout", b"host"]), st.binary(max_size=12))
    ),
)
def test_no_header_breaks_the_reader(name: str, headers: list[tuple[bytes, bytes]]) -> None:
    """Whatever bytes a client sends, the answer is a positive time or none."""
    said = reader([name, "request-timeout"])(headers)
    assert said is None or said > 0


def test_of_several_times_the_shortest_holds() -> None:
    """Repeated, under two names, in any order; one that cannot be read is passed over."""
    read = reader(["grpc-timeout", "x-timeout-ms"])
    said = [
        (b"grpc-timeout", b"3S"),
        (b"x-timeout-ms", b"2000"),
        (b"grpc-timeout", b"x"),
        (b"request-timeout", b"1"),
    ]
    assert read(said) == read(said[::-1]) == 2 * SECOND
    assert read([*said, (b"grpc-timeout", b"1m")]) == MS
    assert read([(b"request-timeout", b"1")]) is None
    assert reader([])(said) is None


# --- told to dependencies ---------------------------------------------------------------------------


class Heard:
    """A dependency that remembers which times it was told, and says 503 a few times first."""

    def __init__(self, failing: int = 0, header: str = "grpc-timeout") -> None:
        self.failing, self.header = failing, header
        self.told: list[str | None] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.told.append(request.headers.get(self.header))
        return httpx.Response(503 if len(self.told) <= self.failing else 200)


@contextmanager
def within(world: World, left: int) -> Generator[None, None, None]:
    """A request with so much time left."""
    with serving(deadline=world.clock.now() + left):
        yield


def get(world: World, heard: Heard, **more: Any) -> None:
    """The same call by the client for threads and by the one for tasks."""
    transport = httpx.MockTransport(heard)

    async def later() -> None:
        async with world.stripe.httpx_async_client(transport=transport) as client:
            await client.get(URL, **more)

    with world.stripe.httpx_client(transport=transport) as client:
        client.get(URL, **more)
    asyncio.run(later())


@pytest.mark.parametrize(
    ("header", "own", "rest"),
    [
        ("grpc-timeout", "2000000u", "990000u"),
        ("x-request-timeout-ms", "2000", "990"),
        ("request-timeout", "2", "0.99"),
    ],
)
def test_a_dependency_is_told_how_long_it_is_waited_for(header: str, own: str, rest: str) -> None:
    """Its own timeout, or what the request has left if that is less; in the place of what the caller wrote."""
    world, heard = World(timeout="2s", propagate=header), Heard(header=header)
    get(world, heard)
    with within(world, SECOND):
        get(world, heard, headers={header: "7"})
    with within(world, 9 * SECOND):
        get(world, heard)
    assert heard.told == [own, own, rest, rest, own, own]


def test_every_attempt_is_told_what_is_left_then() -> None:
    """The pause between two attempts is gone."""
    world = World(timeout="2s", propagate="x-timeout-ms", retry={"base": "500ms", "max": "500ms"})
    heard = Heard(1, "x-timeout-ms")
    world.service.dependencies["stripe"].retrier._random = lambda: 1.0  # type: ignore[union-attr]
    with within(world, SECOND), world.stripe.httpx_client(transport=httpx.MockTransport(heard)) as client:
        client.get(URL)
    assert heard.told == ["990", "490"]


def test_inside_a_guarded_function_the_rest_of_its_time_is_told() -> None:
    """The client passes through, and what ends the call is the function's own timeout."""
    world, heard = World(timeout="2s", propagate="x-timeout-ms"), Heard(header="x-timeout-ms")

    @world.stripe
    async def charge() -> None:
        await world.clock.sleep(SECOND)
        async with world.stripe.httpx_async_client(transport=httpx.MockTransport(heard)) as client:
            await client.get(URL)
            await client.get(URL)

    asyncio.run(charge())
    assert heard.told == ["1000", "1000"]


def test_without_an_end_nothing_is_told() -> None:
    """No timeout and no deadline; and a dependency that does not ask for it is told nothing."""
    heard = Heard()
    get(World(propagate="grpc-timeout"), heard)
    silent = World(timeout="2s")
    with within(silent, SECOND):
        get(silent, heard)
    assert heard.told == [None] * 4


def test_without_time_left_nothing_is_sent() -> None:
    """The typed error, counted as a rejection."""
    world, heard = World(timeout="2s", propagate="grpc-timeout"), Heard()
    with within(world, MARGIN), pytest.raises(httpx.TimeoutException) as caught:
        get(world, heard)
    assert isinstance(caught.value, world.stripe.Timeout)
    assert (heard.told, world.calls("rejected")) == ([], 1)
