"""What one decision of a rate costs in memory, with 10,000 distinct clients, and what each takes there."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle

from benchmarks.app import CLIENTS, IN_FLIGHT
from benchmarks.fused import Rate
from benchmarks.goals import Report, at_most
from benchmarks.harness import CONTROL, Candidate, side_by_side, table, times, whole
from benchmarks.limiters import RATE, Ask, limits, limits_async, pyrate, throttled
from mahavishnu.clock import SystemClock
from mahavishnu.contract import contract
from mahavishnu.runtime.keys import Caller
from mahavishnu.runtime.limits.admission import Admission
from mahavishnu.runtime.limits.engine import Engine
from mahavishnu.runtime.limits.memory_store import MemoryStore
from mahavishnu.runtime.telemetry.metrics import Metrics
from mahavishnu.spec import Spec

_TRACED = 2_000
_OURS = "mahavishnu: engine, with counters and answer"
_BOUND = "the lower bound, by hand"


def report(rounds: int) -> Report:
    """Both tables; raises AssertionError when a limiter does not limit each client by itself."""
    memory = {name: _bytes(make) for name, make in _limiters().items()}
    text = "\n\n".join((_cost(rounds), _memory(memory)))
    return Report(
        text, (at_most("bytes per tracked client, after ten hits", memory[_OURS][1], 150, "", unit="B"),)
    )


def _limiters() -> dict[str, Callable[[], Ask]]:
    return {
        _OURS: lambda: _engine("gcra"),
        "mahavishnu: engine, sliding window": lambda: _engine("sliding_window"),
        _BOUND: _bound,
        "limits fixed window": lambda: limits("FixedWindowRateLimiter"),
        "limits sliding window counter": lambda: limits("SlidingWindowCounterRateLimiter"),
        "limits moving window": lambda: limits("MovingWindowRateLimiter"),
        "limits (async) fixed window": limits_async,
        "throttled-py GCRA": lambda: throttled("gcra"),
        "throttled-py token bucket (default)": lambda: throttled("token_bucket"),
        "throttled-py sliding window": lambda: throttled("sliding_window"),
        "pyrate-limiter, a GCRA bucket per client": lambda: pyrate("StateBucket"),
        "pyrate-limiter, a log per client (default)": lambda: pyrate("InMemoryBucket"),
    }


def _engine(algorithm: str) -> Ask:
    spec = Spec.model_validate(
        {
            "mahavishnu": 1,
            "service": {"name": "shop", "app": "shop.main:app"},
            "limits": {"per_client": {"rate": f"{RATE}/minute", "algorithm": algorithm}},
        }
    )
    said, clock = contract(spec), SystemClock()
    engine = Engine(said, clock, Metrics(said.signals), MemoryStore(clock))
    plan = engine.planner.plan("/", "GET")

    async def ask(client: str) -> bool:
        admission = Admission("", Caller(client), plan, clock.now())
        await engine.admit(admission)
        return admission.refused is None

    return ask


def _bound() -> Ask:
    rate = Rate(RATE, 60)

    async def ask(client: str) -> bool:
        return rate.admits(client, time.monotonic_ns())

    return ask


class _Asking:
    """Asks for each client in turn, and lets the event loop turn as often as requests would."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._clients = cycle([_client(number) for number in range(CLIENTS)])

    async def __call__(self, questions: int) -> None:
        for done in range(0, questions, IN_FLIGHT):
            for _ in range(min(IN_FLIGHT, questions - done)):
                if not await self._ask(next(self._clients)):
                    raise AssertionError(f"{self._ask} refuses what its rate allows")
            await asyncio.sleep(0)


async def _always(_: str) -> bool:
    return True


def _cost(rounds: int) -> str:
    asks = {name: make() for name, make in _limiters().items()}
    base = Candidate("nothing", _Asking(_always))
    # limits counts expired keys in threads that start 10 ms later.
    candidates = [
        Candidate(name, _Asking(ask), settle=0.015 if _threads(name) else 0) for name, ask in asks.items()
    ]
    for one in (base, *candidates):
        one.run(CLIENTS)
    _, results = side_by_side(base, candidates, rounds=rounds, block=320)
    for one in candidates:
        one.check(partial(_limits_each, asks[one.name]))
        one.close()
    base.close()
    rows = [(name, whole(results[name].ns), times(results[name].ns / results[_BOUND].ns)) for name in asks]
    rows.append((CONTROL, whole(results[CONTROL].ns), ""))
    title = f"One decision over {CLIENTS:,} clients in memory, {RATE} a minute each:"
    return f"### A decision\n\n{title}\n\n{table(('limiter', 'ns', 'x bound'), rows)}"


def _threads(name: str) -> bool:
    return name.startswith("limits") and "async" not in name


async def _limits_each(ask: Ask) -> None:
    """A newcomer has its own rate, and no more than that."""
    answers = [await ask("203.0.113.9") for _ in range(2 * RATE + 10)]
    if not RATE <= sum(answers) <= 2 * RATE or not all(answers[:RATE]):
        raise AssertionError(f"{sum(answers)} of {len(answers)} were admitted at {RATE} a minute")


def _memory(measured: Mapping[str, Sequence[float]]) -> str:
    rows = [(name, *map(whole, sizes)) for name, sizes in measured.items()]
    title = "Bytes per tracked client, its key included, after one request and after ten (tracemalloc):"
    return f"### Memory\n\n{title}\n\n{table(('limiter', 'after 1', 'after 10'), rows)}"


def _bytes(make: Callable[[], Ask]) -> Sequence[float]:
    loop = asyncio.new_event_loop()
    ask = make()
    loop.run_until_complete(_everyone(ask, 1, 10))
    gc.collect()
    tracemalloc.start()
    sizes: list[float] = []
    for hits in (1, 9):
        loop.run_until_complete(_everyone(ask, hits, _TRACED))
        gc.collect()
        sizes.append(tracemalloc.get_traced_memory()[0] / _TRACED)
    tracemalloc.stop()
    loop.close()
    return sizes


async def _everyone(ask: Ask, hits: int, clients: int) -> None:
    for _ in range(hits):
        for number in range(clients):
            await ask(_client(number))  # a new string each time, as with each request


def _client(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
