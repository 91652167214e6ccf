"""How often a tool is called: `limit(tool="search")`, as the spec says, in every form a call can take."""

from __future__ import annotations

import functools
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from mahavishnu.dependencies import service_at_work, spec_at_work
from mahavishnu.errors import MahavishnuError, RateLimited
from mahavishnu.ground import variables
from mahavishnu.ground.app_names import NAMED, remember
from mahavishnu.ground.functions import generates, is_async
from mahavishnu.ground.words import meant
from mahavishnu.protocols import Decision
from mahavishnu.runtime.calls.operation import called
from mahavishnu.runtime.context import Request, current_request
from mahavishnu.runtime.keys import Caller, Principal
from mahavishnu.runtime.limits import plain_tools
from mahavishnu.runtime.limits.admission import Admission
from mahavishnu.runtime.limits.engine import Engine
from mahavishnu.runtime.limits.plan import Plan
from mahavishnu.runtime.requests.answered import answered
from mahavishnu.runtime.requests.identity import UNKNOWN, Identity
from mahavishnu.runtime.tracing.log import refusal
from mahavishnu.spec import Spec

P = ParamSpec("P")
R = TypeVar("R")
_charging = threading.Lock()


def limit(*, tool: str, client: str | None = None) -> ToolLimit:
    """The limits with `match: {tool: …}` that name this tool: a decorator, and a block of `with` or `async with`.

    Calls count for whom the request around them counts, also those of what it has left running, or for `client`;
    outside of a request and without it, for one caller that all share. All limits let a call in, or none is charged.

    Raises:
        MahavishnuError: no limit of the spec matches the tool, or another spec is at work in this process.
        SpecError: the spec cannot be used.
        RateLimited: by every call that a limit refuses.
    """
    spec = spec_at_work()
    matched = any(one.match is not None and one.match.calls(tool) for one in spec.limits.values())
    if not matched and not NAMED.asked:
        raise _unmatched(tool, spec)
    remember(NAMED.tools, tool)
    return ToolLimit(tool, client)


class ToolLimit:
    """The limits of one tool; safe to share between threads, tasks and event loops.

    A plain function and a `with` block can only ask what answers at once: no rate that a shared store decides.
    """

    def __init__(self, tool: str, client: str | None = None) -> None:
        self.tool = tool
        self.client = client

    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]:
        """Limit the calls of a function, `async` or not.

        Raises MahavishnuError for a plain one of whose calls a shared store would decide.
        """
        if generates(function):
            raise TypeError(f"{self!r} cannot limit a generator: put `with` or `async with` around its use")
        if is_async(function):
            coroutine = cast("Callable[P, Awaitable[Any]]", function)

            @functools.wraps(function)
            async def call_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                await self._ask_async()
                return await coroutine(*args, **kwargs)

            return cast("Callable[P, R]", call_async)
        self._expect(called(function))

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            self._ask()
            return function(*args, **kwargs)

        return call

    def __enter__(self) -> Self:
        self._ask()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """A call that has begun has spent its quota, however it ends."""

    async def __aenter__(self) -> Self:
        await self._ask_async()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """A call that has begun has spent its quota, however it ends."""

    def __repr__(self) -> str:
        return f"limit(tool={self.tool!r})"

    def _expect(self, function: str) -> None:
        """A plain function is called as this tool; whoever looks at the app tells of all such faults at once."""
        if not NAMED.asked:
            plain_tools.fit(spec_at_work(), self.tool, function)
        remember(NAMED.plain, (self.tool, function))

    def _ask(self) -> None:
        engine, admission = self._planned()
        if admission.plan.later:
            raise MahavishnuError(f"{self!r}: the shared store must be awaited: use `async with`")
        if admission.plan.rates:
            # Plain functions run in threads, and the state of a rate is read and written in two steps.
            with _charging:
                engine.charge(admission)
        self._settle(admission)

    async def _ask_async(self) -> None:
        engine, admission = self._planned()
        waiting = None
        if admission.plan.rates:
            with _charging:
                waiting = engine.charge(admission)
        if waiting is not None:
            await waiting
        self._settle(admission)

    def _settle(self, admission: Admission) -> None:
        if admission.taken is not None:
            admission.plan.told.numbers(admission.taken)  # said to nobody, but what is left is noted
        if admission.refused is not None:
            self._tell(admission.refused)
            refused = admission.refused
            raise RateLimited(refused.limit, refused.detail, refused.retry_after, refused.status)

    def _tell(self, refused: Decision) -> None:
        """Say that a call was refused: an app may catch what is raised, and answer as if nothing had happened."""
        request, tracing = current_request(), service_at_work().tracing
        if isinstance(request, Admission):
            request.aside = refused._replace(where="")
        if tracing is not None:
            tracing.note("mahavishnu.limit.refused", {**refusal(refused), "mahavishnu.tool": self.tool})

    def _planned(self) -> tuple[Engine, Admission]:
        service, request = service_at_work(), current_request()
        engine = service.engine
        route = "" if request is None else request.route
        plan = Plan() if variables.disabled() else engine.planner.tool_plan(self.tool, route)
        return engine, Admission("", self._caller(service.identity, request), plan, engine.clock.now())

    def _caller(self, identity: Identity | None, request: Request | None) -> Caller:
        if self.client is not None:
            return Caller(UNKNOWN, Principal(self.client))
        caller = Caller(UNKNOWN) if request is None else request.caller
        scope = answered()
        if scope is None and caller.principal is None:
            scope = getattr(request, "scope", None)
        return caller if identity is None or scope is None else identity.by_now(caller, scope)


def _unmatched(tool: str, spec: Spec) -> MahavishnuError:
    known = [one.match.tool for one in spec.limits.values() if one.match is not None and one.match.tool]
    help = meant(tool, known) or "no limit has `match: {tool: …}`"
    return MahavishnuError(f"no limit in the spec of {spec.service.name} matches the tool `{tool}`: {help}")
