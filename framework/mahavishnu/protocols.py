"""What policies and the runtime that carries them out ask of each other."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from enum import StrEnum
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from mahavishnu.signals import Signal

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task

Scope = MutableMapping[str, Any]
"""What ASGI says of a connection."""
Message = MutableMapping[str, Any]
"""What is received or sent of it."""
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Handle(Protocol):
    """A timer that can be called off."""

    def cancel(self) -> None: ...


class Watched(Protocol):
    """A task with an end: the clock says when (`due`, in ns) and calls `expire` then; a `due` of 0 calls it off."""

    due: int
    task: Task[Any]

    def expire(self) -> None: ...


class Clock(Protocol):
    """Time as the runtime sees it: monotonic nanoseconds, timers and sleep; injected everywhere.

    `runs`: time passes by itself. Where it does not, as in tests, nothing may be left to a thread.
    """

    @property
    def runs(self) -> bool: ...
    def now(self) -> int: ...
    def call_later(self, delay: int, call: Callable[[], object]) -> Handle: ...
    def deadline(self, delay: int, call: Callable[[], object]) -> Handle:
        """As `call_later`, for one of a few delays that recur: cheap to set and to call off."""
        ...

    def watch(self, watched: Watched, loop: AbstractEventLoop, now: int, delay: int) -> None:
        """Let it `expire` this long after now, unless its `due` is 0 by then; the cheapest of all for what recurs.

        `loop` is the one that runs its task: whoever calls has it at hand.
        """
        ...

    def watch_once(self, watched: Watched, loop: AbstractEventLoop, now: int, delay: int) -> None:
        """As `watch`, for a delay like no other."""
        ...

    async def sleep(self, delay: int) -> None: ...
    def pause(self, delay: int) -> None: ...
    def wait(self, event: Event, delay: int) -> None:
        """Block this thread until the event is set, at most `delay` ns."""
        ...


class Counter(Protocol):
    """A number that only grows; the busiest of all add to its `value` themselves."""

    value: float

    def inc(self, amount: float = 1) -> None: ...


class Histogram(Protocol):
    """A distribution of durations in seconds."""

    def observe(self, seconds: float, count: int = 1) -> None: ...
    def observe_least(self, count: int, seconds: float) -> None:
        """So many at once, none beyond the first boundary, which together took so long."""
        ...


class Meter(Protocol):
    """Where enforcers move their signals; a signal outside the contract is refused with AgreementError."""

    def counter(self, signal: Signal, **labels: str) -> Counter: ...
    def histogram(self, signal: Signal, **labels: str) -> Histogram: ...
    def gauge(self, signal: Signal, read: Callable[[], float], **labels: str) -> None: ...
    def settles(self, name: str, settle: Callable[[], object]) -> None:
        """Before anything is shown, `settle` counts what it has put off; the one of that name before it is let go."""
        ...


class Algorithm(Protocol):
    """A rate as a pure state machine; after `horizon` ns without a request a state is as good as none.

    Times are nanoseconds, of any clock that only goes forward. `most` is what fits at once into an empty bucket.
    """

    @property
    def horizon(self) -> int: ...
    @property
    def most(self) -> int: ...
    def peak(self, cost: int, lives: int = 1) -> int:
        """The most requests of this cost that one bucket admits in any period, losing its state `lives` - 1 times."""
        ...

    def admit(self, state: Any, now: int, cost: int) -> Any:
        """The next state, or None: the request does not fit, and nothing has changed."""
        ...

    def standing(self, state: Any, now: int) -> tuple[int, int]:
        """How much still fits at once, and in how many ns all of it does again."""
        ...

    def wait(self, state: Any, now: int, cost: int) -> int | None:
        """In exactly how many ns a cost that does not fit now will; None: never."""
        ...

    def refund(self, state: Any, after: Any, at: int, now: int, cost: int, /) -> Any:
        """The state at `now` without a request that was admitted at `at` and had led to the state `after`.

        It may keep a little of the cost, and never returns more than was taken.
        """
        ...

    def used(self, state: Any, now: int) -> tuple[int, int]:
        """How much of `most` is used, as a fraction: a numerator, and what it is divided by."""
        ...

    def having(self, used: int, of: int, now: int) -> Any:
        """The state of one who has used this fraction, `most` of it at the most; rounded against him."""
        ...


class Standing(NamedTuple):
    """Where a bucket stands after a decision: times in ns; `retry_after` is exact, None where it never helps."""

    remaining: int
    reset: int
    retry_after: int | None = 0

    @property
    def told(self) -> tuple[int, int]:
        """What remains, and in how many ns the request, or everything, fits again."""
        return self.remaining, self.retry_after or self.reset


class Charge(Protocol):
    """What a rate charges for one request; an unenforced one is counted and never refuses."""

    @property
    def name(self) -> str: ...
    @property
    def algorithm(self) -> Algorithm: ...
    @property
    def cost(self) -> int: ...
    @property
    def enforced(self) -> bool: ...


class Taken(Protocol):
    """What a store said to the charges of one request: `denied` are the places of those that do not fit.

    `lost`: the store could not be asked, and the denied ones are those that are closed without it.
    """

    @property
    def admitted(self) -> bool: ...
    @property
    def denied(self) -> Sequence[int]: ...
    @property
    def lost(self) -> bool: ...
    def standing(self, place: int) -> Standing: ...
    def left(self, places: int) -> Sequence[tuple[int, int]]:
        """What a client is told of the first so many: what remains, and in how many ns it, or all, fits again."""
        ...


BEFORE = "~"
"""Ends the name of a rate that holds on for a while after a reload, beside the one that took its place."""


class Store(Protocol):
    """Where the state of rates lives; one whose answers come at once never `waits`."""

    @property
    def waits(self) -> bool: ...
    @property
    def memory(self) -> Store:
        """Where it counts what is this process's own: one that never waits."""
        ...

    def take(self, charges: Sequence[Charge], keys: Sequence[str]) -> Taken | Awaitable[Taken]:
        """Decide all charges at once: every enforced one is admitted and consumed, or none is."""
        ...

    def give_back(self, taken: Any) -> Awaitable[None] | None:
        """Return what `take` consumed, for a request that was denied later; once, however often it is asked to."""
        ...

    def carry(self, charge: Charge) -> None:
        """This rate follows another one of its name: what every client has used of that is used of this."""
        ...

    def rename(self, name: str, other: str) -> None:
        """What is counted by this name is counted by another one from now on."""
        ...

    def forget(self, name: str) -> None:
        """Nobody counts by this name any more."""
        ...


@runtime_checkable
class Metered(Protocol):
    """A limit that counts requests: its algorithm, and the numbers shown in the RateLimit fields."""

    @property
    def per(self) -> tuple[str, ...]: ...
    @property
    def cost(self) -> int: ...
    def algorithm_of(self) -> Algorithm: ...
    def quota(self) -> tuple[int, int]:
        """How many requests at the most in which window (nanoseconds)."""
        ...


class Gate(Protocol):
    """A limit on what runs at once. `rank` is how much a request matters: 0 critical, 1 normal, 2 sheddable."""

    def has_room(self, rank: int) -> bool:
        """Whether a place is free now."""
        ...

    def try_enter(self, rank: int) -> bool:
        """Take a place if one is free, without waiting; then `leave` must follow exactly once."""
        ...

    async def enter(self, rank: int) -> Refusal | None:
        """Take a place, waiting for one if need be; None when admitted, else why not."""
        ...

    def leave(self, took: int | None, kind: tuple[str, str] = ..., *, answered: bool = True) -> None:
        """Give the place back; `took`: ns from entering to the start of the response or, where it was not `answered`,
        until its client gave up; None: nothing is to be learnt from it. `kind`: the template of its route
        and its method, for what is of one kind should take as long."""
        ...

    def lasting(self, took: int | None, kind: tuple[str, str]) -> bool:
        """The answer has begun, as `leave` is told of it, and goes on for as long as its client likes: a stream of
        events, a websocket. True: the place has been given back."""
        ...

    def lagging(self, by: int) -> None:
        """The event loop is late by so many ns, and every duration longer than it would be."""
        ...

    def become(self, limit: Any) -> None:
        """From now on be as this limit says, with whoever runs and waits; it cannot fail."""
        ...


@runtime_checkable
class Gated(Protocol):
    """A limit that becomes a gate."""

    def gate(self, name: str, clock: Clock, meter: Meter, before: Gate | None = None) -> Gate:
        """A gate, or the one `before` it under another spec: that one then still has to `become` this limit's."""
        ...

    def rank(self, route: str, method: str) -> int:
        """How much requests for this route and method matter to the gate."""
        ...


class Refusal(NamedTuple):
    """Why a gate did not let a request in, and when to come back (ns; None: unknown); `inside`: it did, for it only
    observes."""

    reason: str
    retry_after: int | None
    inside: bool = False


class Outcome(StrEnum):
    """How a call to a dependency ended; a cancelled one counts as nothing."""

    SUCCESS = "success"
    FAILURE = "failure"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"


Word = int | str
"""What may be said of an attempt's end: `timeout`, `connect`, `result`, a status, the name of an exception."""
Leaf = tuple[Outcome, frozenset[Word]]
"""One fault of an attempt, or its answer: what it is by itself, and the words for it. A group has several."""


class Guard(Protocol):
    """What surrounds one attempt of a call to a dependency; it belongs to every thread and event loop at once.

    `enter` admits the attempt or raises DependencyError, and may wait, though no longer than what is `left`; what it
    returns is handed to `leave`, which must follow exactly once. Times are nanoseconds; `leaves` say why it was no
    plain success.
    """

    def enter(self, left: int | None = None) -> object: ...
    async def enter_async(self, left: int | None = None) -> object: ...
    def leave(
        self, permit: Any, outcome: Outcome, duration: int, now: int, leaves: Sequence[Leaf] = ()
    ) -> None: ...

    def renew(self, permit: object) -> None:
        """The attempt makes progress (a part of its answer came): a lease on its permit starts anew."""
        ...

    def observed(self, permit: Any) -> bool:
        """Whether this is the permit of an attempt that is only let in because nothing is enforced."""
        ...

    def refuses(self) -> bool:
        """Whether every attempt would be refused now, so that trying again soon is of no use."""
        ...

    def busy(self) -> bool:
        """Whether its lock is held, perhaps by this very thread: who is called at any moment must not wait for it."""
        ...

    def become(self, settings: Any, timeout: int | None) -> None:
        """From now on be as these settings say, with all permits that are out; it cannot fail."""
        ...


class Turn(NamedTuple):
    """What leads from one state of a breaker to another: so many `failures` and slow calls among so many, and why where
    it was not they; `span` is for how long it is open at first (ns). One that is not `enforced` refuses nothing."""

    left: str
    to: str
    calls: int
    failures: int
    slow: int
    span: int | None
    enforced: bool
    reason: str


@runtime_checkable
class Advice(Protocol):
    """What the processes of a fleet tell each other of their breakers; where that cannot be done, nothing happens."""

    def tell_open(self, name: str, span: int) -> None:
        """The breaker of this dependency is open here, for so long (ns)."""
        ...

    def ask_open(self, name: str, told: Callable[[int], object]) -> None:
        """Where it is open anywhere, `told` is called soon, with how long it will be (ns)."""
        ...


class Site(NamedTuple):
    """Where a guard works: for which dependency, on which clock, seen by which meter, with which dice (from [0, 1)).

    `timeout` is that of one attempt, in ns; `advice` is there where processes share a store.
    """

    name: str
    clock: Clock
    meter: Meter
    timeout: int | None = None
    random: Callable[[], float] = random.random
    advice: Advice | None = None


@runtime_checkable
class Guarding(Protocol):
    """A dependency's policy that becomes a guard; None when it has nothing to do.

    It may be the guard `before` it, under another spec, which then still has to `become` this policy's.
    """

    def guard(self, site: Site, before: Guard | None = None) -> Guard | None: ...


class Decision(NamedTuple):
    """The answer to a request: admitted, or refused with everything the refusal must say.

    `retry_after` is exact nanoseconds (None: waiting does not help); `problem` is the type of RFC 9457;
    `counted` is the status in the series and the log, where that is not the one sent; `where` is the line of the spec
    (empty: none), told to the log alone, where a dependency refused, or a call of a tool was refused: whose span says
    so. None where a limit refused the request.
    """

    allowed: bool
    limit: str = ""
    status: int = 200
    problem: str = "about:blank"
    detail: str = ""
    retry_after: int | None = None
    counted: int | None = None
    where: str | None = None
