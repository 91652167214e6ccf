"""What a service calls: `dependency("stripe")`, guarded as the spec says, in every form a call can take."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    cast,
    overload,
)

from mahavishnu.clock import process_clock
from mahavishnu.errors import (
    BadAnswer,
    BreakerOpen,
    BulkheadFull,
    CallTimeout,
    MahavishnuError,
    Parked,
    Throttled,
)
from mahavishnu.ground import variables
from mahavishnu.ground.app_names import NAMED, remember
from mahavishnu.ground.functions import generates, is_async
from mahavishnu.ground.words import meant
from mahavishnu.load import Loaded, accept, find_spec, load
from mahavishnu.outcomes.statuses import status_of
from mahavishnu.protocols import Site
from mahavishnu.runtime import guarded_functions
from mahavishnu.runtime.calls import fallback
from mahavishnu.runtime.calls.attempts import Attempts
from mahavishnu.runtime.calls.blocks import Blocks, between
from mahavishnu.runtime.calls.call import Call, Terms
from mahavishnu.runtime.calls.dependency import DependencyGuard, build_dependencies
from mahavishnu.runtime.calls.flat import guarded
from mahavishnu.runtime.calls.misfit import misfit, two_fallbacks
from mahavishnu.runtime.calls.operation import Operation
from mahavishnu.runtime.context import current_request
from mahavishnu.runtime.current import current, expect, inherited, use
from mahavishnu.runtime.dead_letters.handlers import handle
from mahavishnu.runtime.dead_letters.letters import Letter
from mahavishnu.runtime.service import Service, start
from mahavishnu.runtime.telemetry.collector import instance
from mahavishnu.spec import Dependency as Settings
from mahavishnu.spec import Spec

if TYPE_CHECKING:
    from mahavishnu.runtime.calls.http_client import AsyncClient, Client

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
F = TypeVar("F", bound=Callable[..., Any])
_starting = threading.Lock()


def dependency(name: str) -> Dependency:
    """The dependency of that name in the process's spec.

    That is the one of the middleware, else MAHAVISHNU_SPEC, else mahavishnu.yaml upwards from here.

    Raises:
        MahavishnuError: no such dependency, or another spec is at work in this process.
        SpecError: the spec cannot be used.
    """
    spec = spec_at_work()
    if name not in spec.dependencies:
        raise _unknown(name, spec)
    remember(NAMED.dependencies, name)
    return Dependency(name)


class Guarded(Protocol[P, R_co]):
    """A guarded function, with the same signature."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __get__(self, instance: None, owner: type[Any], /) -> Self: ...
    @overload
    def __get__(
        self: Guarded[Concatenate[S, Q], R], instance: S, owner: type[Any] | None = None, /
    ) -> Callable[Q, R]: ...

    def fallback(self, function: F, /) -> F:
        """A decorator: this stands in when the function fails, called with its arguments and `error=`.

        What it returns is marked as degraded. Raises TypeError where it could never be called so, MahavishnuError
        where the spec names a fallback already.
        """
        ...

    def redrive(self, function: F, /) -> F:
        """A decorator: this makes a dead letter's call again, called with its arguments; by default the function."""
        ...


class Dependency:
    """A dependency as the spec describes it; safe to share between threads, tasks and event loops.

    As a decorator it guards each attempt and, with `idempotent=True`, repeats it; `async with` and `with`
    guard one block, which cannot be repeated; `attempts()` is an explicit retry loop; `httpx_client()` and
    `httpx_async_client()` guard every request. Inside one form, others of the same dependency pass through.

    Where the spec names a `fallback` it stands in for functions and requests that may be repeated. For blocks and loops
    it never does, for they have no answer in whose place something could stand: the rest holds, and the log says so.
    """

    Open: ClassVar = BreakerOpen
    Throttled: ClassVar = Throttled
    Full: ClassVar = BulkheadFull
    Timeout: ClassVar = CallTimeout
    Parked: ClassVar = Parked

    def __init__(self, name: str) -> None:
        self.name = name
        self._blocks = Blocks()

    @overload
    def __call__(self, function: Callable[P, R], /) -> Guarded[P, R]: ...
    @overload
    def __call__(
        self,
        /,
        *,
        idempotent: bool = False,
        key: Callable[..., str] | None = None,
        failed: Callable[[Any], bool] | None = None,
    ) -> Callable[[Callable[P, R]], Guarded[P, R]]: ...

    def __call__(
        self,
        function: Callable[P, R] | None = None,
        /,
        *,
        idempotent: bool = False,
        key: Callable[..., str] | None = None,
        failed: Callable[[Any], bool] | None = None,
    ) -> Any:
        """Guard a function, `async` or not; only with `idempotent=True` a failed call is repeated.

        `key` makes the idempotency key of a call from its arguments; without it every call has one of its own. Inside
        the function it is `mahavishnu.idempotency_key()`, where `fallback: dead_letter` may make the call again.
        Calls with one key are one call: of those with other arguments only the first is kept, and the others fail.
        An answer of which `failed(answer)` is true is a failure, though it is handed out: `result` in the spec. Without
        it the status decides, of clients that are known: httpx, requests, aiohttp, urllib3, urllib and botocore.

        The timeout ends an attempt of an `async` function. Nothing can end one of any other function, which runs in a
        thread: give its client the same timeout, or use `httpx_client()`. One that outlasts it is counted as the
        success or failure that it is, by its duration, and told of once in the log (`attempt outlasted its timeout`).

        Raises TypeError, or MahavishnuError, for a function in whose place the spec's `fallback` could never stand.
        """
        terms = Terms(idempotent, failed)
        if function is None:
            return functools.partial(self._guarded, terms=terms, key=key)
        return self._guarded(function, terms=terms)

    def __enter__(self) -> Self:
        """Guard a block in a thread: breaker and bulkhead; only its client can end a blocking call.

        One that outlasts the timeout is counted as the success or failure that it is, and told of once in the log.
        """
        guard = self._without_fallback("a block")
        call = guard.calls(guard, False)
        call.enter()
        self._blocks.begun(call)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        call = self._blocks.ended(self.name)
        call.outlasted()
        _leave(call, fault)

    async def __aenter__(self) -> Self:
        """Guard a block in a task: breaker, bulkhead and timeout.

        Nothing ends a block in a generator, for its task is that of its reader, who may be slow: it is counted and told
        of as one in a thread, and returns its place when the generator is closed. One that stands around the answer of
        its request, like a dependency of FastAPI that yields, has until then. For answers that are handed on as
        they come take `httpx_async_client().stream`.
        """
        guard = self._without_fallback("a block")
        call = guard.calls(guard, False)
        await call.enter_async()
        if call.watched and between(1):
            call.lift()
        self._blocks.begun(call)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        call = self._blocks.ended(self.name)
        if not call.watched:
            call.outlasted(streams=True)
        _leave(call, fault)

    def attempts(self) -> Attempts:
        """Attempts for `for` or `async for`, each to be used as `with attempt: …`.

        The loop ends after the first that succeeds, or raises what the last one raised. The timeout ends attempts of
        `async for` alone, and not those in a generator (see `async with`).
        """
        return Attempts(lambda: self._without_fallback("a loop of attempts"))

    def httpx_client(self, **options: Any) -> Client:
        """An httpx.Client with these options; its `base_url` and `timeout` are the spec's unless said.

        Safe methods are repeated, others with `extensions={"idempotent": True}`. With `fallback: dead_letter` a POST
        that fails without that extension is counted as lost. 5xx counts as a failure. The timeout ends with the head
        of an answer; from then on a `timeout` among the options or of the request holds for each part of it, else the
        dependency's. Transports among the options, also those of `mounts`, are inside of what guards; as with any
        transport of one's own, httpx reads no proxy from the environment then: say `proxy`.
        """
        from mahavishnu.runtime.calls.http_client import client

        return client(self.guard, self._defaults(), options)

    def httpx_async_client(self, **options: Any) -> AsyncClient:
        """As `httpx_client`, an httpx.AsyncClient."""
        from mahavishnu.runtime.calls.http_client import async_client

        return async_client(self.guard, self._defaults(), options)

    def __repr__(self) -> str:
        return f"dependency({self.name!r})"

    def _guarded(
        self, function: Callable[P, R], *, terms: Terms, key: Callable[..., str] | None = None
    ) -> Guarded[P, R]:
        if generates(function):
            raise TypeError(f"{self!r} cannot guard a generator: put `with` or `async with` around its use")
        given: object = function
        if isinstance(given, classmethod | staticmethod):
            raise TypeError(f"{self!r} guards the function itself: put it below @{type(function).__name__}")
        if not callable(given):
            raise TypeError(f"{self!r} guards what can be called, not {given!r}")
        operation = Operation(self.name, function, terms, key)
        self._fits(operation)
        guarded_functions.remember(operation)
        made: Callable[P, Any]
        if is_async(function):
            made = guarded(self._of, operation, spec_at_work().dependencies[self.name])
        else:
            made = self._sync(function, operation)
        if not operation.twin:
            handle(self.name, operation.name, functools.partial(_made_again, operation, made))
        shown: Any = made
        shown.fallback = functools.partial(self._stands_in, operation)
        shown.redrive = functools.partial(_redriven_by, operation)
        return cast("Guarded[P, R]", made)

    def _sync(self, function: Callable[P, Any], operation: Operation) -> Callable[P, Any]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            answer: Any = fallback.call(self.guard(), operation, args, kwargs)
            kind: Any = cast("Any", type)(answer)
            if hasattr(kind, "__await__"):  # nobody would guard what happens when it is awaited
                raise TypeError(f"{self!r}: {function!r} returned an awaitable: make it `async def`")
            return answer

        return call

    def _fits(self, operation: Operation) -> None:
        """Raise for a function in whose place the spec's fallback could never stand."""
        fault = misfit(operation, spec_at_work().dependencies[self.name].fallback)
        if fault is not None:
            raise fault

    def _stands_in(self, operation: Operation, function: F) -> F:
        if spec_at_work().dependencies[self.name].fallback is not None:
            raise two_fallbacks(operation)
        if is_async(function) is not is_async(operation.function):
            raise TypeError(f"what stands in for `{operation.name}` must be `async def` just as it is")
        takes = inspect.signature(function).parameters
        if "error" not in takes and all(one.kind is not one.VAR_KEYWORD for one in takes.values()):
            raise TypeError(f"what stands in for `{operation.name}` must take `error`")
        operation.own = function
        return function

    def _without_fallback(self, form: str) -> DependencyGuard:
        """What guards it: nothing stands in for this form of a call, whatever the spec has."""
        guard = self.guard()
        held = guard.fallbacks
        if held is not None and not held.idle() and not guard.within():
            held.forgone(form)
        return guard

    def guard(self) -> DependencyGuard:
        """What guards it now: for a request, that of the spec it began with."""
        return self._of(service_at_work())

    def _of(self, service: Service | None) -> DependencyGuard:
        service = service or service_at_work()
        guard = service.dependencies.get(self.name)
        if guard is None:
            raise _unknown(self.name, service.spec)
        return guard

    def _defaults(self) -> dict[str, Any]:
        settings = self.guard().settings
        defaults: dict[str, Any] = {"base_url": settings.url or ""}
        if settings.timeout is not None:
            defaults["timeout"] = float(settings.timeout.seconds)
        return defaults


def _unknown(name: str, spec: Spec) -> MahavishnuError:
    help = meant(name, [*spec.dependencies]) or "the spec has none"
    return MahavishnuError(f"no dependency `{name}` in the spec of {spec.service.name}: {help}")


def spec_at_work() -> Spec:
    """The process's spec, whether it is at work already or has yet to be found."""
    service = current() or inherited()
    return _loaded().spec if service is None else service.spec


def _loaded() -> Loaded:
    path = find_spec()
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    loaded = _read(path, variables.environment(), changed)
    expect(loaded.spec)
    return loaded


@functools.lru_cache(maxsize=8)
def _read(path: Path, environment: str | None, changed: int) -> Loaded:  # noqa: ARG001 - so that it is read anew
    if variables.disabled():  # then numbers that contradict each other harm nobody
        return load(path, environment, runtime=True)
    return accept(path, environment, runtime=True)


def service_at_work() -> Service:
    """The service of the request around, else the process's; one without the middleware starts with the first call."""
    request = current_request()
    return (request and request.service) or current() or _start()


def _start() -> Service:
    """A service for a process without the middleware: a worker, a script, whose output is its own, or a fork."""
    with _starting:
        service = current()
        if service is None:
            parents = inherited()
            service = parents.anew() if parents else start(_loaded(), process_clock(), log_to=sys.stderr)
            if variables.disabled():
                service.dependencies = build_dependencies(
                    _bare(service.spec), Site("", service.clock, service.metrics)
                )
            else:
                _push(service)
            use(service)
            if service.tracing is not None:
                service.tracing.start(lambda: service, instance(worker=False))
                service.tracing.adopt()
        return service


def _push(service: Service) -> None:
    """Push its series, where the spec says so and time passes."""
    if service.spec.observability.metrics.otlp is not None and service.clock.runs:
        from mahavishnu.runtime.pushing_alone import push_alone  # only those who push pay for it

        push_alone(service)


def _bare(spec: Spec) -> Spec:
    """The same spec with dependencies that have no policy."""
    bare = {name: Settings(url=one.url) for name, one in spec.dependencies.items()}
    return spec.model_copy(update={"dependencies": bare})


def _leave(call: Call, fault: BaseException | None) -> None:
    if fault is None:
        call.answered(None)
    else:
        call.failed(fault)


async def _made_again(operation: Operation, guarded: Callable[..., Any], letter: Letter) -> None:
    """The call of a letter, made again; raises what it raises, and BadAnswer for an answer that says it failed."""
    args, kwargs = operation.codec.unwrap(letter.payload)
    function = operation.again or guarded
    if is_async(function):
        answer = await function(*args, **kwargs)
    else:
        answer = await asyncio.to_thread(function, *args, **kwargs)
    status, failed = status_of(answer) or 0, operation.terms.failed
    if status >= 300 or (operation.again is None and failed is not None and failed(answer)):
        raise BadAnswer(operation.dependency, answer, status)


def _redriven_by(operation: Operation, function: F) -> F:
    operation.again = function
    return function
