"""One limit on one Redis: what a request costs this process, 64 at a time, and as a multiple of PING."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

from benchmarks import ours, peers, stacks
from benchmarks.app import Payments, Traffic, bare
from benchmarks.goals import Goal, Report, at_most
from benchmarks.harness import CONTROL, Candidate, peer, side_by_side, table, times, whole
from benchmarks.limiters import RATE, Ask
from benchmarks.pipelined import SCRIPT, Gcra, command, connected, script_arguments
from benchmarks.proof import refuses
from benchmarks.served import candidate
from benchmarks.stacks import On, Setup, Stack

AT_ONCE = 64
_BOUND = "the lower bound: calls of concurrent requests in one write"
_OURS = "Hardening, one limit on Redis"
_OUTCOMES = ("ok", "error", "timeout", "skipped")
_PING = "PING by redis-py"
_TITLE = f"""\
One exact limit for each of 10,000 clients on one Redis, over a Unix socket,
{AT_ONCE} requests at a time: CPU time of this process that is added to a request, Redis' own not included
(of ours, on top of the same middleware without a limit)."""
_TOOLS = Path(__file__).resolve().parent.parent / ".tools/bin"


def report(rounds: int) -> Report:
    """The table; raises AssertionError when a limiter does not limit each client by itself."""
    with _redis() as path:
        return _report(path, rounds)


def _report(path: str, rounds: int) -> Report:
    built = [build(path) for build in _BUILDS]
    base = Candidate("bare", Traffic(stacks.plain(Setup()).app, at_once=AT_ONCE))
    without = ours.hardened(Setup(), on=On())
    below = candidate(without, Traffic(without.app, at_once=AT_ONCE))
    candidates = [
        candidate(stack, Traffic(stack.app, at_once=AT_ONCE), below if stack.name == _OURS else None)
        for stack in built
    ]
    for one in (base, below, *candidates):
        one.run(2_000)
    _, results = side_by_side(base, candidates, rounds=rounds, block=640)
    for stack, one in zip(built, candidates, strict=True):
        one.check(partial(refuses, stack))
    _asked(built[0])
    for one in (base, below, *candidates):
        one.close()
    ping = results[_PING].ns
    rows = [
        (
            name,
            whole(one.ns),
            *((times(one.ns / results[_BOUND].ns), times(one.ns / ping)) if name != CONTROL else ("", "")),
        )
        for name, one in results.items()
    ]
    headings = ("one limit on Redis", "added ns", "x bound", "x PING")
    goals = [_goal(results[name].ns / 1000) for name in (_OURS,) if name in results]
    return Report(f"### A fleet\n\n{_TITLE}\n\n{table(headings, rows)}", tuple(goals))


def _asked(hardened: Stack) -> None:
    """Ours has decided nothing without Redis."""
    metrics = cast("Any", hardened.app).service.metrics
    calls = {one: metrics.total("mahavishnu_limit_store_calls_total", {"outcome": one}) for one in _OUTCOMES}
    if not calls["ok"] or any(calls[one] for one in _OUTCOMES if one != "ok"):
        raise AssertionError(f"{hardened.name} asked Redis: {calls}")


def _goal(us: float) -> Goal:
    return at_most(f"one limit on Redis, {AT_ONCE} at a time, added", us, 15, "", unit="µs")


@contextmanager
def _redis() -> Generator[str, None, None]:
    """A redis-server of its own, which listens on a socket in a folder that goes away with it."""
    program = shutil.which("redis-server", path=f"{_TOOLS}:/usr/bin:/usr/local/bin")
    if program is None:
        raise SystemExit("no redis-server here: make tools")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/redis.sock"
        options = [
            "--port",
            "0",
            "--unixsocket",
            path,
            "--save",
            "",
            "--dir",
            folder,
            "--loglevel",
            "warning",
        ]
        with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as server:
            try:
                while not Path(path).exists():
                    time.sleep(0.01)
                yield path
            finally:
                server.terminate()


# --- the candidates ---------------------------------------------------------------------------------------


def _asking(name: str, ask: Callable[[str], Ask], **does: Any) -> Callable[[str], Stack]:
    def build(path: str) -> Stack:
        payments = Payments()
        app = bare(payments.price)
        app.add_middleware(peers.Asking, ask=ask(path))
        return Stack(name, app, payments=payments, **does)

    return build


def _ours(path: str) -> Stack:
    # The deadline of 20 ms is for services; a busy machine that measures must not fall back to local limits.
    return ours.hardened(Setup(), on=On(limits=1), name=_OURS, store=f"unix://{path}?socket_timeout=5")


def _bound(path: str) -> Ask:
    return Gcra(path, RATE, 60).ask


def _evalsha(path: str) -> Ask:
    client = peer("redis.asyncio").Redis(unix_socket_path=path)
    script = client.register_script(SCRIPT)
    arguments = script_arguments(RATE, 60)

    async def ask(name: str) -> bool:
        return bool((await script(keys=[f"e:{name}"], args=arguments))[0])

    return ask


def _ping(path: str) -> Ask:
    client = peer("redis.asyncio").Redis(unix_socket_path=path)

    async def ask(_: str) -> bool:
        return bool(await client.ping())

    return ask


def _ping_together(path: str) -> Ask:
    sent = command("PING")
    line: list[Any] = []

    async def ask(_: str) -> bool:
        if not line:
            line.append(await connected(path))
        return bool(await line[0].ask(sent))

    return ask


def _limits(strategy: str, path: str) -> Ask:
    library = peer("limits.aio")
    item = peer("limits").RateLimitItemPerMinute(RATE)
    storage = library.storage.RedisStorage(
        f"async+redis+unix://{path}", implementation="redispy", key_prefix=strategy
    )
    limiter = getattr(library.strategies, strategy)(storage)

    async def ask(name: str) -> bool:
        return cast("bool", await limiter.hit(item, name))

    return ask


def _throttled(kind: str, path: str) -> Ask:
    library = peer("throttled.asyncio")
    throttle = library.Throttled(
        using=kind, quota=f"{RATE}/m burst {RATE}", store=library.RedisStore(server=f"unix://{path}")
    )

    async def ask(name: str) -> bool:
        return not (await throttle.limit(f"{kind}:{name}")).limited

    return ask


def _slowapi(path: str) -> Stack:
    slow, util = peer("slowapi"), peer("slowapi.util")
    payments = Payments()
    app = bare(payments.price)
    app.state.limiter = slow.Limiter(
        key_func=util.get_remote_address,
        default_limits=[f"{RATE}/minute"],
        storage_uri=f"redis+unix://{path}",
    )
    exceeded = peer("slowapi.errors").RateLimitExceeded
    app.add_exception_handler(exceeded, slow._rate_limit_exceeded_handler)  # noqa: SLF001 - as documented
    app.add_middleware(peer("slowapi.middleware").SlowAPIMiddleware)
    return Stack("slowapi, its middleware (its client is a blocking one)", app, payments=payments)


_BUILDS: tuple[Callable[[str], Stack], ...] = (
    _ours,
    _asking(_BOUND, _bound),
    _asking("one EVALSHA by redis-py", _evalsha),
    _asking("limits fixed window", partial(_limits, "FixedWindowRateLimiter")),
    _asking("limits sliding window counter", partial(_limits, "SlidingWindowCounterRateLimiter")),
    _asking("limits moving window", partial(_limits, "MovingWindowRateLimiter")),
    _asking("throttled-py GCRA", partial(_throttled, "gcra")),
    _asking("throttled-py fixed window", partial(_throttled, "fixed_window")),
    _slowapi,
    _asking(_PING, _ping, limits=False),
    _asking("PING, concurrent ones in one write", _ping_together, limits=False),
)
