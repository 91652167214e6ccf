"""What every policy is: settings that may be said, signals and alerts it shows, and the enforcer it becomes."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from decimal import Decimal
from enum import StrEnum
from fnmatch import fnmatchcase
from threading import Event
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Protocol,
    Self,
    runtime_checkable,
)

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from mahavishnu.series import LIMIT_DECISIONS, LIMIT_NEAR, LIMIT_QUOTA, LIMIT_UTILISATION
from mahavishnu.signals import Alert, Recording, Signal
from mahavishnu.unfit import unfit
from mahavishnu.units import plain

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$", max_length=40)]
SecretRef = Annotated[str, StringConstraints(pattern=r"^\$\{[A-Z][A-Z0-9_]*\}$")]
"""`${NAME}`: a secret declared in `secrets`; its value is never written anywhere."""
Count = Annotated[int, Field(strict=True, gt=0, le=1_000_000_000)]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
Mode = Literal["observe", "enforce", "off"]
Scope = MutableMapping[str, Any]
"""What ASGI says of a connection."""


class Settings(BaseModel):
    """A mapping of the spec: frozen, and every unknown key is an error.

    `later` names words of the format that this version does not carry out: the loader refuses them by name.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_default=False,
        defer_build=True,
    )
    later: ClassVar[frozenset[str]] = frozenset()


class Keyed(Settings):
    """One of several things that a key of the spec may hold, told from the others by the key it has within."""

    keyword: ClassVar[str] = ""


class Policy(Keyed):
    """A part of the spec that shows signals and raises alerts; `name` is its key in the spec."""

    def signals(self, name: str) -> tuple[Signal, ...]:
        """The series this policy moves, with its own label values fixed."""
        return ()

    def reading(self, name: str, signals: Mapping[str, Signal]) -> Self:
        """The same policy with its own queries read against what is shown; rules are made of that one."""
        return self

    def recordings(self, name: str) -> tuple[Recording, ...]:
        """The recording rules its alerts rest on."""
        return ()

    def alerts(self, name: str) -> tuple[Alert, ...]:
        """One alert for each way in which it can hurt."""
        return ()

    def bounds(self, name: str) -> tuple[tuple[Signal, Decimal], ...]:
        """The numbers that are drawn beside its series, so that one sees how near they are; base units."""
        return ()


class Match(Settings):
    """Which requests a policy applies to; an absent key matches everything."""

    later: ClassVar[frozenset[str]] = frozenset({"tool"})

    path: Annotated[str, StringConstraints(pattern=r"^/\S*$", max_length=200)] | None = None
    """A route of the app as the router writes it (`/orders/{id}`); `*` stands for anything."""
    method: Method | None = None
    """An HTTP method; `GET` covers HEAD."""

    def fits(self, route: str) -> bool:
        """Whether a route, as the router writes it, is one that `path` names."""
        if self.path is None or self.path == route:
            return True
        return "*" in self.path and fnmatchcase(route, self.path.replace("[", "[[]").replace("?", "[?]"))

    def meets(self, route: str, method: str) -> bool:
        """Whether requests for this route and method are among those named."""
        wanted = self.method
        meant = wanted is None or wanted == method or (wanted == "GET" and method == "HEAD")
        return meant and self.fits(route)


class CallMatch(Match):
    """Which requests a limit applies to, or which calls of a tool."""

    later: ClassVar[frozenset[str]] = frozenset()

    tool: (
        Annotated[
            str,
            StringConstraints(pattern=r"^[A-Za-z0-9_.*/-]+$", max_length=100),
            Field(examples=["search*"]),
        ]
        | None
    ) = None
    """A tool by its name, `*` for anything: the limit applies to calls of it by `limit(tool=…)`, to no request."""

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> CallMatch:
        if self.tool is not None and (self.path is not None or self.method is not None):
            what = "a call of a tool has no path and no method"
            help = "match either `tool`, or `path` and `method`"
            raise unfit(what, help)
        return self

    def meets(self, route: str, method: str) -> bool:
        """Whether requests for this route and method are among those named."""
        return self.tool is None and super().meets(route, method)

    def calls(self, tool: str) -> bool:
        """Whether calls of this tool are among those named."""
        return self.tool is not None and fnmatchcase(tool, self.tool)


def exactly(kind: type) -> BeforeValidator:
    """A validator that lets only this very type through, where pydantic would convert: `true` is not 1."""

    def refuse(value: object) -> object:
        if type(value) is not kind and isinstance(value, str | int | float):
            raise PydanticCustomError("kind", "not of this kind")
        return value

    return BeforeValidator(refuse)


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Dimension = (
    Literal["client", "ip", "network", "user", "api_key", "session", "route", "tool", "global"]
    | Annotated[
        str,
        StringConstraints(pattern=r"^header:[A-Za-z][A-Za-z0-9-]{0,63}$"),
        Field(examples=["header:x-tenant"]),
    ]
)
Per = Annotated[
    tuple[Dimension, ...],
    Field(min_length=1, max_length=4),
    BeforeValidator(_listed, json_schema_input_type=Dimension | list[Dimension]),
]


class Limit(Policy):
    """What every limit has: which requests it applies to and whether it refuses."""

    match: CallMatch | None = None
    """Which requests it applies to; all of them when absent."""
    mode: Mode = "enforce"
    """`observe` counts what it would refuse, `off` does nothing."""

    @field_validator("match")
    @classmethod
    def _tools_have_rates(cls, match: CallMatch | None) -> CallMatch | None:
        if match is not None and match.tool is not None and cls.keyword != "rate":
            raise PydanticCustomError("later", "{word}", {"word": "tool"})
        return match

    @property
    def denial(self) -> str:
        """The outcome under which a request beyond the limit is counted."""
        return "observed" if self.mode == "observe" else "refused"

    def signals(self, name: str) -> tuple[Signal, ...]:
        shown = (LIMIT_DECISIONS, LIMIT_NEAR, LIMIT_QUOTA, LIMIT_UTILISATION)
        return tuple(one.closed(limit=name) for one in shown)

    def bounds(self, name: str) -> tuple[tuple[Signal, Decimal], ...]:
        return (LIMIT_QUOTA, plain(Decimal(str(float(self.number()))))), (LIMIT_UTILISATION, Decimal(1))

    def number(self) -> float:
        """The enforced number, as it is shown: requests per window or at once, bytes, or seconds."""
        raise NotImplementedError


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


class OneOf:
    """A field that takes one of several kinds, chosen by which of their keywords is present."""

    def __init__(self, *kinds: type[Keyed]) -> None:
        self.kinds = {kind.keyword: kind for kind in kinds}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {f"~{keyword}": handler.generate_schema(kind) for keyword, kind in self.kinds.items()}
        return core_schema.tagged_union_schema(
            choices,
            self._choose,
            custom_error_type="one_of",
            custom_error_message="{words}",
            custom_error_context={"words": " | ".join(self.kinds)},
        )

    def _choose(self, value: object) -> str | None:
        if isinstance(value, Keyed):
            return f"~{value.keyword}"
        said = [word for word in self.kinds if isinstance(value, dict) and word in value]
        return f"~{said[0]}" if len(said) == 1 else None


def camel(name: str) -> str:
    """`per_client` -> `PerClient`: a name of the spec as part of an alert's; different ones stay different."""
    parts = name.split("_")
    # `a_1` must not become what `a1` becomes.
    return "".join(f"_{part}" if part[:1].isdigit() else part.capitalize() for part in parts)
