"""Reload: a changed file is taken whole or not at all, and nobody is given back what he has used."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from io import StringIO
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

import mahavishnu
from mahavishnu.asgi import Hardening
from mahavishnu.dependencies import dependency
from mahavishnu.errors import BreakerOpen, RateLimited
from mahavishnu.ground import app_names
from mahavishnu.policies.breaker import BreakerGuard
from mahavishnu.policies.bulkhead import BulkheadGuard
from mahavishnu.runtime.current import current, forget
from mahavishnu.runtime.process import Usage
from mahavishnu.runtime.reload import PERIOD, Reloader
from mahavishnu.testing import VirtualClock
from tests.figures import FULL, figure
from tests.ports import free_port
from tests.runtime.asgi_client import Answer, House, call, collector, handshake, site

SECOND = 10**9
RATE = {"rate": "10/minute", "per": "ip"}


class World:
    """A hardened app whose spec is a file, on a virtual clock; `wall` is the time of day."""

    def __init__(self, folder: Path, said: dict[str, Any], app: Any = None) -> None:
        forget()
        self.path = folder / "mahavishnu.yaml"
        self.write(**said)
        self.clock = VirtualClock(10**12)
        self.stream = StringIO()
        self.wall = 1000.0
        self.app = Hardening(
            app or site(),
            self.path,
            clock=self.clock,
            log_to=self.stream,
            process=lambda: Usage(0, 0),
            wall=lambda: self.wall,
        )
        self.house = House(self.app, self.clock, self.stream)

    def write(self, service: dict[str, Any] | None = None, **sections: Any) -> None:
        """Write a spec with these sections into the file."""
        named = {"name": "shop", "app": "shop:app", **(service or {})}
        self.path.write_text(json.dumps({"mahavishnu": 1, "service": named, **sections}))

    async def reload(self, **sections: Any) -> None:
        """Write a spec and have it read."""
        self.write(**sections)
        await self.app.reload()

    @property
    def reloader(self) -> Reloader:
        """What looks at the file."""
        assert self.app.reloader is not None
        return self.app.reloader

    async def look(self, times: int = 1) -> None:
        """The file is looked at, so often."""
        for _ in range(times):
            await self.reloader.look()

    async def allowed(self, most: int = 1000, **more: Any) -> int:
        """How many requests are let in at once before the first is refused."""
        for number in range(most):
            if await self.house.status(**more) == 429:
                return number
        return most

    def value(self, name: str, **labels: str) -> float:
        """The sum of a series' samples."""
        return self.app.service.metrics.total(name, labels)

    @property
    def state(self) -> tuple[float, float]:
        """What the series say of the last reload: whether it was taken, and when."""
        return self.value("mahavishnu_spec_reload_successful"), self.value(
            "mahavishnu_spec_reload_timestamp_seconds"
        )

    def outcomes(self) -> tuple[float, float, float]:
        """How many reloads were applied, changed nothing, were refused."""
        one, two, three = (
            self.value("mahavishnu_spec_reloads_total", outcome=outcome)
            for outcome in ("applied", "unchanged", "refused")
        )
        return one, two, three

    def events(self, event: str) -> list[dict[str, Any]]:
        """The records of one kind in the log."""
        return [one for one in self.house.lines if one["event"] == event]


def rates(**limits: dict[str, Any]) -> dict[str, Any]:
    """Sections with these limits."""
    return {"limits": limits}


# --- what is taken --------------------------------------------------------------------------------


async def test_an_app_may_go_to_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is the one that was meant when it started, however it was named."""
    monkeypatch.chdir(tmp_path)
    world = World(Path(), {"limits": {"a": RATE}})
    monkeypatch.chdir("/")
    world.path = tmp_path / world.path
    await world.reload(limits={"a": {**RATE, "rate": "3/minute"}})
    assert (world.outcomes(), await world.allowed()) == ((1, 0, 0), 3)


async def test_a_changed_file_is_taken_once_it_reads_the_same_twice(tmp_path: Path) -> None:
    """Not at the first look; then at once, with its own hash, and logged."""
    world = World(tmp_path, rates(a=RATE))
    before = world.app.service.hash
    world.wall = 2000.0
    world.write(**rates(a={"rate": "3/minute", "per": "ip"}))
    await world.look()
    assert world.app.service.hash == before
    await world.look()
    after = world.app.service
    assert after.hash != before
    assert current() is after
    assert world.value("mahavishnu_spec_info", hash=after.hash) == 1
    assert world.value("mahavishnu_spec_info", hash=before) == 0
    assert (world.state, world.outcomes()) == ((1, 2000.0), (1, 0, 0))
    assert [one["spec"] for one in world.events("reloaded")] == [after.hash]
    assert await world.allowed() == 3


async def test_a_file_that_is_being_written_is_not_taken(tmp_path: Path) -> None:
    """However good a part of it looks: it has to come to rest."""
    world = World(tmp_path, rates(a=RATE, b={"rate": "5/minute"}))
    text = world.path.read_text().replace("5/minute", "4/minute")
    for end in range(0, len(text), 20):
        world.path.write_text(text[:end])
        await world.look()
    world.path.write_text(text)
    await world.look()
    assert world.outcomes() == (0, 0, 0)
    await world.look()
    assert world.outcomes() == (1, 0, 0)


async def test_what_is_written_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spec that was built is dropped: it may be of half a file."""
    world = World(tmp_path, rates(a=RATE))
    prepare = world.reloader.prepare

    def overtaken() -> Any:
        made = prepare()
        world.write(**rates(a={"rate": "4/minute", "per": "ip"}))
        return made

    monkeypatch.setattr(world.reloader, "prepare", overtaken)
    before = world.app.service
    await world.reload(**rates(a={"rate": "3/minute", "per": "ip"}))
    assert (world.app.service, current(), world.outcomes()) == (before, before, (0, 0, 0))
    await world.look(2)
    assert await world.allowed() == 4


async def test_a_swapped_symlink_is_a_change(tmp_path: Path) -> None:
    """As Kubernetes updates a ConfigMap: the file's own link stays, a folder's link behind it is replaced."""
    for name, count in (("one", 3), ("two", 5)):
        (tmp_path / name).mkdir()
        said = {"mahavishnu": 1, "service": {"name": "shop", "app": "shop:app"}}
        said |= rates(a={"rate": f"{count}/minute", "per": "ip"})
        (tmp_path / name / "mahavishnu.yaml").write_text(json.dumps(said))
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "mounted").symlink_to("data/mahavishnu.yaml")
    forget()
    clock = VirtualClock()
    app = Hardening(site(), tmp_path / "mounted", clock=clock, log_to=StringIO())
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "data")
    for _ in range(2):
        assert app.reloader is not None
        await app.reloader.look()
    assert str(app.service.spec.limits["a"].rate) == "5/minute"  # type: ignore[attr-defined]


def _moved(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "half": lambda path: path.write_text("limits: {"),
    "empty": lambda path: path.write_text(""),
    "binary": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "gone": Path.unlink,
    "folder": lambda path: _moved(path, Path.mkdir),
    "dangling": lambda path: _moved(path, lambda new: new.symlink_to("nowhere")),
    "pipe": lambda path: _moved(path, os.mkfifo),
    "wrong": lambda path: path.write_text(path.read_text().replace("10/minute", "ten a minute")),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_bad_file_keeps_the_old_spec(tmp_path: Path, damage: str) -> None:
    """It is said once, in the series for as long as it lasts, and forgotten when the file is good again."""
    world = World(tmp_path, rates(a=RATE))
    before, text = world.app.service, world.path.read_text()
    world.wall = 2000.0
    DAMAGES[damage](world.path)
    await world.look(5)
    assert world.app.service is before
    assert (world.state, world.outcomes()) == ((0, 1000.0), (0, 0, 1))
    said = world.events("spec refused")
    assert said
    assert all(one["what"] and one["where"] and one["still"] == before.hash for one in said)
    assert await world.allowed() == 10
    if world.path.is_dir():
        world.path.rmdir()
    world.path.unlink(missing_ok=True)
    world.path.write_text(text)
    await world.look(2)
    assert (world.state, world.outcomes()) == ((1, 2000.0), (0, 1, 1))
    assert world.app.service is before
    assert len(world.events("spec refused")) == len(said)


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"service": {"name": "store"}}, "service.name"),
        ({"service": {"port": 8001}}, "service.port"),
        ({"service": {"app": "store:app"}}, "service.app"),
        ({"service": {"workers": 2}}, "service.workers"),
        ({"environment": "staging"}, "environment"),
        ({"store": "redis://localhost/0"}, "store"),
        ({"observability": {"metrics": {"otlp": "http://c:4318"}}}, "observability.metrics.otlp"),
        ({"observability": {"traces": {"otlp": "http://c:4318"}}}, "observability.traces.otlp"),
        ({"dependencies": {"bank": {"url": "http://b"}}}, "dependencies.bank.url"),
    ],
)
async def test_what_needs_a_restart_is_refused(tmp_path: Path, section: dict[str, Any], key: str) -> None:
    """With the place of the change, and what to do."""
    world = World(tmp_path, {"dependencies": {"bank": {"url": "http://a"}}})
    said: dict[str, Any] = {"dependencies": {"bank": {"url": "http://a"}}, **section}
    await world.reload(**said)
    assert world.outcomes() == (0, 0, 1)
    (record,) = world.events("spec refused")
    assert record["code"] == "MV602"
    assert key in record["what"]
    assert "restart" in record["help"]


@pytest.mark.parametrize(
    "part",
    [
        "telemetry.metrics.Metrics.gauge",
        "limits.engine.Engine.__init__",
        "calls.dependency.DependencyGuard.__init__",
    ],
)
async def test_a_part_that_cannot_be_built_keeps_all_of_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Whatever raises while the new spec is built: limits, gates, breakers and headers stay as they were."""
    bank = {"timeout": "1s", "breaker": {"consecutive_failures": 2}, "bulkhead": {"concurrency": 2}}
    said = {"limits": {"a": RATE, "slots": {"concurrency": 3}}, "dependencies": {"bank": bank}}
    world = World(tmp_path, said)
    assert await world.house.status() == 200
    before, series = world.app.service, set(world.house.samples())

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(f"mahavishnu.runtime.{part}", fail)
        await world.reload(
            limits={"a": {"rate": "3/minute"}, "slots": {"concurrency": 1}},
            dependencies={"bank": {**bank, "bulkhead": {"concurrency": 1}}},
        )
    assert (world.app.service, current()) == (before, before)
    assert (world.outcomes(), world.state[0]) == ((0, 0, 1), 0)
    assert "no room" in world.events("spec refused")[0]["what"]
    assert set(world.house.samples()) == series
    assert world.house.gauge("quota", "slots") == 3
    assert world.value("mahavishnu_bulkhead_capacity") == 2
    assert await world.allowed() == 9


# --- what goes on ---------------------------------------------------------------------------------

KINDS: dict[str, dict[str, Any]] = {
    "gcra": {"rate": "10/minute", "per": "ip"},
    "burst": {"rate": "10/minute", "burst": 4, "per": "ip"},
    "window": {"rate": "10/minute", "per": "ip", "algorithm": "sliding_window"},
    "log": {"rate": "10/minute", "per": "ip", "algorithm": "sliding_log"},
    "more": {"rate": "40/minute", "per": "ip"},
    "fewer": {"rate": "3/minute", "per": "ip"},
    "slower": {"rate": "10/hour", "per": "ip"},
    "by_user": {"rate": "10/minute", "per": "user"},
    "by_route": {"rate": "20/minute", "per": "route"},
    "everyone": {"rate": "20/minute", "per": "global", "algorithm": "sliding_window"},
}


@pytest.mark.parametrize(("old", "new"), list(combinations_with_replacement(KINDS, 2)))
async def test_who_had_nothing_left_has_nothing_left(tmp_path: Path, old: str, new: str) -> None:
    """Whichever rate follows whichever, there and back again."""
    world = World(tmp_path, rates(a=KINDS[old]))
    assert await world.allowed() > 0
    for kind in (new, old, new):
        await world.reload(**rates(a=KINDS[kind]))
        assert await world.allowed() == 0


@pytest.mark.parametrize("old", KINDS)
@pytest.mark.parametrize("new", KINDS)
async def test_nobody_gets_more_than_the_new_number_less_what_he_has_used(
    tmp_path: Path, old: str, new: str
) -> None:
    """What another rate of the same keys gives at once is what was used fewer; and never more than was left."""
    world = World(tmp_path, rates(a=KINDS[old]))
    used = 3
    for _ in range(used):
        assert await world.house.status() == 200
    await world.reload(**rates(a=KINDS[new]))
    most = {name: one.get("burst") or int(one["rate"].partition("/")[0]) for name, one in KINDS.items()}
    same = KINDS[old]["per"] == KINDS[new]["per"]
    most_now = max(0, most[new] - used) if same else min(most[new], most[old] - used)
    assert await world.allowed() <= most_now


async def test_an_unchanged_rate_goes_on_exactly(tmp_path: Path) -> None:
    """Another limit beside it changes nothing for it, and a mode neither."""
    world = World(tmp_path, rates(a=RATE))
    for _ in range(4):
        await world.house.status()
    await world.reload(**rates(a={**RATE, "mode": "observe"}, b={"rate": "100/minute"}))
    await world.reload(**rates(a=RATE, b={"rate": "100/minute"}))
    assert await world.allowed() == 6


async def test_a_rate_that_was_away_remembers(tmp_path: Path) -> None:
    """A limit that is taken out and put back is no way to a new quota."""
    world = World(tmp_path, rates(a=RATE))
    assert await world.allowed() == 10
    await world.reload(limits={})
    assert await world.house.status() == 200
    await world.reload(**rates(a=RATE))
    assert await world.allowed() == 0


async def test_the_old_keys_hold_until_they_are_refilled(tmp_path: Path) -> None:
    """After the old rate's own time nothing of it is left, and the new one stands alone."""
    world = World(tmp_path, rates(a=RATE))
    assert await world.allowed() == 10
    await world.reload(**rates(a={"rate": "30/minute", "per": "global"}))
    answer = await world.house.call()
    assert answer.status == 429
    assert '"a~"' not in answer.headers.get("ratelimit", "") + answer.json()["detail"]
    world.clock.advance("6s")
    assert await world.allowed() == 1
    world.clock.advance("60s")
    await world.clock.settle()
    assert world.app.service.engine.superseded.held == ()
    assert await world.allowed() == 30


async def test_what_callers_of_a_tool_have_used_holds_on_when_they_are_told_apart_otherwise(
    tmp_path: Path,
) -> None:
    """Until it is refilled, as for requests; then the new rate alone holds."""

    async def allowed(client: str) -> int:
        number = 0
        with contextlib.suppress(RateLimited):
            while True:
                async with mahavishnu.limit(tool="search", client=client):
                    number += 1
        return number

    tool = {"rate": "10/minute", "match": {"tool": "search"}}
    world = World(tmp_path, rates(a={**tool, "per": "global"}))
    assert await allowed("one") == 10
    await world.reload(**rates(a={**tool, "per": "client"}))
    assert await allowed("other") == 0
    world.clock.advance("61s")
    await world.clock.settle()
    assert world.app.service.engine.superseded.held == ()
    assert [await allowed("one"), await allowed("other")] == [10, 10]


@pytest.mark.parametrize("new", ["gcra", "sliding_window", "sliding_log"])
@pytest.mark.parametrize("old", ["gcra", "sliding_window", "sliding_log"])
async def test_a_request_that_calls_a_tool_after_a_reload_leaves_it_as_the_spec_says(
    tmp_path: Path, old: str, new: str
) -> None:
    """Its engine is the one it began with, the bucket is that of all."""
    entered, go = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Response:
        entered.set()
        await go.wait()
        return await fast(request)

    async def fast(_: Request) -> Response:
        with contextlib.suppress(RateLimited):
            async with mahavishnu.limit(tool="search"):
                return PlainTextResponse("ok")
        return PlainTextResponse("no more", 429)

    def said(algorithm: str) -> dict[str, Any]:
        return rates(a={"rate": "3/2s", "per": "global", "match": {"tool": "search"}, "algorithm": algorithm})

    world = World(tmp_path, said(old), site(Route("/slow", slow), Route("/fast", fast)))
    first = asyncio.create_task(world.house.status(path="/slow"))
    await entered.wait()
    await world.reload(**said(new))
    go.set()
    assert await first == 200
    assert [await world.house.status(path="/fast") for _ in range(3)] == [200, 200, 429]
    world.clock.advance("4s")
    assert await world.house.status(path="/fast") == 200


async def test_the_old_keys_hold_no_longer_however_often_the_spec_changes(tmp_path: Path) -> None:
    """Whoever has put them aside: the next spec lets go of them in the same moment."""
    world = World(tmp_path, rates(a=RATE))
    assert await world.allowed() == 10
    new = {"rate": "30/minute", "per": "global"}
    await world.reload(**rates(a=new))
    world.clock.advance("20s")
    await world.reload(**rates(a=new, b={"body": "1MiB"}))
    world.clock.advance("20s")
    await world.reload(**rates(a=new))
    assert await world.allowed() == 6
    world.clock.advance("20s")
    await world.clock.settle()
    assert world.app.service.engine.superseded.held == ()
    assert await world.allowed() == 30


async def test_the_old_number_of_a_fleet_holds_no_longer_however_often_the_spec_changes(
    tmp_path: Path,
) -> None:
    """The server keeps what was used of it apart; here it is lost, and each process counts by itself."""
    store = f"redis://127.0.0.1:{free_port()}"
    world = World(tmp_path, {"store": store, **rates(a=RATE)})
    assert await world.allowed() == 10
    new = {"rate": "30/minute", "per": "ip"}
    await world.reload(store=store, **rates(a=new))
    assert await world.allowed() == 0
    await world.reload(store=store, **rates(a=new, b={"body": "1MiB"}))
    world.clock.advance("60s")
    await world.clock.settle()
    assert world.app.service.engine.superseded.held == ()
    assert await world.allowed() == 30


async def test_each_of_several_old_keys_holds_for_its_own_time(tmp_path: Path) -> None:
    """Also when the one that was put aside last is the first to be refilled."""
    world = World(tmp_path, rates(a=RATE))
    await world.reload(**rates(a={"rate": "10/second", "per": "user"}))
    await world.reload(**rates(a={"rate": "20/second", "per": "global"}))
    for time, left in (("999ms", 2), ("1ms", 1), ("58999ms", 1), ("1ms", 0)):
        world.clock.advance(time)
        await world.clock.settle()
        assert len(world.app.service.engine.superseded.held) == left


async def test_what_an_old_spec_lets_go_of_is_its_own(tmp_path: Path) -> None:
    """Its keys had come back meanwhile, and were put aside once more: they hold for the whole of their time."""
    world = World(tmp_path, rates(a=RATE))
    assert await world.allowed() == 10
    for per in ("user", "ip"):
        await world.reload(**rates(a={**RATE, "per": per}))
        world.clock.advance("20s")
    assert await world.allowed() == 6
    await world.reload(**rates(a={"rate": "30/minute", "per": "global"}))
    world.clock.advance("20s")
    await world.clock.settle()
    assert await world.allowed() == 4


async def test_a_timer_that_comes_too_early_is_set_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of an event loop may, by the resolution of its clock."""
    world = World(tmp_path, rates(a=RATE))
    later = world.clock.call_later

    def early(delay: int, call: Callable[[], object]) -> object:
        return later(delay - delay // SECOND, call)

    monkeypatch.setattr(world.clock, "call_later", early)
    await world.reload(**rates(a={"rate": "30/minute", "per": "global"}))
    world.clock.advance("60s")
    assert world.app.service.engine.superseded.held == ()


async def test_an_old_spec_is_not_kept_until_its_keys_are_refilled(tmp_path: Path) -> None:
    """A day may see many of them, and a rate may be for a day."""
    world = World(tmp_path, rates(a=RATE))
    await world.reload(**rates(a={"rate": "30/minute", "per": "global"}))
    old = ref(world.app.service.engine)
    for most in ("1MiB", "2MiB", "3MiB"):
        await world.reload(**rates(a={"rate": "30/minute", "per": "global"}, b={"body": most}))
    gc.collect()
    assert old() is None


async def test_the_old_keys_hold_nobody_back_while_the_limit_only_observes(tmp_path: Path) -> None:
    """They are not forgotten: once it refuses again they do, for the rest of their time."""
    world = World(tmp_path, rates(a=RATE))
    assert await world.allowed() == 10
    new = {"rate": "30/minute", "per": "global"}
    await world.reload(**rates(a={**new, "mode": "observe"}))
    assert [await world.house.status() for _ in range(5)] == [200] * 5
    await world.reload(**rates(a={**new, "mode": "observe"}, b={"body": "1MiB"}))
    assert [await world.house.status() for _ in range(5)] == [200] * 5
    assert world.house.decisions("a") == (20, 1, 0)
    await world.reload(**rates(a=new))
    assert await world.allowed() == 0
    await world.reload(**rates(a={**new, "mode": "off"}))
    assert await world.allowed(20) == 20


async def test_counters_go_on(tmp_path: Path) -> None:
    """Also through other boundaries of a histogram, and of what was away for a while."""
    slo = {"latency": {"objective": "95%", "under": "300ms"}}
    world = World(tmp_path, {**rates(a=RATE), "slos": slo})
    await world.allowed()
    before = world.house.samples()
    steps: list[dict[str, Any]] = [
        {**rates(a=RATE), "slos": {"latency": {"objective": "95%", "under": "2s"}}},
        {"limits": {}},
        {**rates(a=RATE), "slos": slo},
    ]
    for step in steps:
        await world.reload(**step)
    after = world.house.samples()
    counted = {name for name in before if "_total" in name or "_bucket" in name or "_count" in name}
    assert counted
    assert all(after[name] >= before[name] for name in counted)
    name = "http_server_request_duration_seconds_count"
    assert world.value(name) == 11
    await world.house.status()
    assert world.value(name) == 12


async def test_requests_of_two_specs_that_end_together_are_all_logged(tmp_path: Path) -> None:
    """Each by the log of its own spec, as one of them may want other lines."""
    door = asyncio.Event()

    async def slow(_: Request) -> Response:
        await door.wait()
        return PlainTextResponse("done")

    world = World(tmp_path, rates(a=RATE), site(Route("/{name}", slow)))
    tasks = list[asyncio.Task[int]]()
    for name in ("one", "two", "three"):
        tasks.append(asyncio.create_task(world.house.status(path=f"/{name}")))
        await world.clock.settle()
        level = "error" if name == "one" else "info"
        await world.reload(**rates(a=RATE), observability={"logs": {"level": level}})
    door.set()
    await asyncio.gather(*tasks)
    assert {one["path"] for one in world.events("request")} == {"/one", "/three"}


async def test_places_go_on(tmp_path: Path) -> None:
    """Who runs keeps his place under the new number; fewer places let nobody in until enough have left."""
    doors: list[asyncio.Event] = []

    async def slow(_: Request) -> Response:
        doors.append(asyncio.Event())
        await doors[-1].wait()
        return PlainTextResponse("done")

    world = World(tmp_path, rates(slots={"concurrency": 3}), site(Route("/", slow)))
    inside = [asyncio.create_task(world.house.status()) for _ in range(3)]
    await world.clock.settle()
    await world.reload(**rates(slots={"concurrency": 1, "queue": 1, "wait": "10s"}))
    assert world.house.gauge("in_flight", "slots") == 3
    waits = asyncio.create_task(world.house.status())
    await world.clock.settle()
    assert await world.house.status() == 503
    for number in (0, 1):
        doors[number].set()
        await world.clock.settle()
        assert world.house.gauge("queued", "slots") == 1
    doors[2].set()
    await world.clock.settle()
    assert (world.house.gauge("queued", "slots"), world.house.gauge("in_flight", "slots")) == (0, 1)
    doors[3].set()
    assert await asyncio.gather(*inside, waits) == [200] * 4
    assert world.house.gauge("in_flight", "slots") == 0
    await world.reload(**rates(slots={"concurrency": "adaptive", "max": 5}))
    await world.reload(**rates(slots={"concurrency": 2}))
    assert world.house.gauge("quota", "slots") == 2


@pytest.mark.parametrize(("first", "then"), [("enforce", "observe"), ("observe", "enforce")])
async def test_another_mode_loses_no_place(first: str, then: str, tmp_path: Path) -> None:
    """Of a request that comes to a gate after the reload, while another one is in it."""
    doors = {"/x": asyncio.Event(), "/y": asyncio.Event()}

    async def slow(request: Request) -> Response:
        await doors[request.url.path].wait()
        return PlainTextResponse("done")

    def said(mode: str) -> dict[str, Any]:
        few = {"concurrency": 1, "queue": 5, "wait": "1h", "match": {"path": "/x"}}
        return rates(few=few, all={"concurrency": 1, "mode": mode})

    world = World(tmp_path, said(first), site(Route("/x", slow), Route("/y", slow)))
    tasks = [asyncio.create_task(world.house.status(path="/x")) for _ in range(2)]
    await world.clock.settle()
    if then == "observe":
        await world.reload(**said(then))
    tasks.append(asyncio.create_task(world.house.status(path="/y")))
    await world.clock.settle()
    if then == "enforce":
        await world.reload(**said(then))
    doors["/x"].set()
    await asyncio.gather(*tasks[:2])
    doors["/y"].set()
    await tasks[2]
    assert world.house.gauge("in_flight", "all") == 0
    assert await world.house.status(path="/x") == 200


SLOTS = {"concurrency": 1, "queue": 9, "wait": "2s"}


@pytest.mark.parametrize(
    "after",
    [
        {"slots": {**SLOTS, "mode": "observe"}},
        {"slots": {**SLOTS, "mode": "off"}},
        {"slots": {"rate": "1000/second"}},
        {"slots": {"concurrency": "adaptive", "max": 1, "mode": "observe"}},
        {},
    ],
    ids=["observe", "off", "another kind", "adaptive", "taken out"],
)
async def test_who_waits_for_a_place_is_let_in_when_nobody_is_held_back_any_more(
    tmp_path: Path, after: dict[str, Any]
) -> None:
    """At once, however many come after him; and what was taken is free when the limit is back."""
    end = asyncio.Event()

    async def slow(_: Request) -> Response:
        await end.wait()
        return PlainTextResponse("done")

    world = World(tmp_path, rates(slots=SLOTS), site(Route("/", slow)))
    tasks = [asyncio.create_task(world.house.status()) for _ in range(5)]
    await world.clock.settle()
    counted = world.house.decisions("slots")
    await world.reload(**rates(**after))
    tasks += [asyncio.create_task(world.house.status()) for _ in range(5)]
    await world.clock.settle()
    world.clock.advance("2s")
    await world.clock.settle()
    end.set()
    assert await asyncio.gather(*tasks) == [200] * 10
    await world.reload(**rates(slots=SLOTS))
    assert (world.house.gauge("in_flight", "slots"), world.house.gauge("queued", "slots")) == (0, 0)
    assert world.house.decisions("slots")[1] == counted[1] == 0
    assert await world.house.status() == 200


async def test_breakers_and_bulkheads_go_on(tmp_path: Path) -> None:
    """An open breaker stays open, calls keep their places, and whoever named the dependency finds it."""
    bank: dict[str, Any] = {
        "timeout": "1s",
        "breaker": {"consecutive_failures": 2, "open_for": "30s"},
        "bulkhead": {"concurrency": 2},
    }
    world = World(tmp_path, {"dependencies": {"bank": bank}})
    named = mahavishnu.dependency("bank")
    for _ in range(2):
        with pytest.raises(OSError, match="refused"):
            async with named:
                raise OSError("refused")
    await world.reload(
        dependencies={"bank": {**bank, "breaker": {"consecutive_failures": 9, "window": "60s"}}}
    )
    with pytest.raises(BreakerOpen):
        async with named:
            pass
    world.clock.advance("36s")  # thirty, give or take a fifth
    async with named:
        pass
    guards = world.app.service.dependencies["bank"].by_policy
    assert isinstance(guards["breaker"], BreakerGuard)
    bulkhead = guards["bulkhead"]
    assert isinstance(bulkhead, BulkheadGuard)
    async with named, asyncio.timeout(5):
        await world.reload(dependencies={"bank": {**bank, "timeout": "2s", "bulkhead": {"concurrency": 1}}})
        assert world.app.service.dependencies["bank"].by_policy["bulkhead"] is bulkhead
        assert (bulkhead.in_flight, world.value("mahavishnu_bulkhead_capacity")) == (1, 1)
    assert bulkhead.in_flight == 0
    assert world.value("mahavishnu_dependency_calls_total", outcome="failure") == 2


async def test_what_is_slow_may_be_said_anew(tmp_path: Path) -> None:
    """Of calls that are quick enough to be counted many at a time, as well."""
    world = World(tmp_path, {"dependencies": {"bank": {"breaker": {"slow_call": "1s"}}}})

    @mahavishnu.dependency("bank")
    async def charge() -> None:
        world.clock.advance("2ms")

    for slow_call, slow in (("1s", 0), ("1ms", 1), ("1s", 1)):
        await world.reload(dependencies={"bank": {"breaker": {"slow_call": slow_call}}})
        await charge()
        assert world.value("mahavishnu_breaker_calls_total", speed="slow") == slow


async def test_the_last_retries_of_a_spec_do_not_say_what_is_quick_under_the_next(tmp_path: Path) -> None:
    """A call that began under `retry` is repeated when there is a breaker in its place, and fills its budget again."""
    entered, go, failing = asyncio.Event(), asyncio.Event(), [True]
    world = World(tmp_path, {"dependencies": {"bank": {"retry": {"attempts": 2}}}})

    @mahavishnu.dependency("bank")(idempotent=True)
    async def charge(wait: bool) -> None:
        if wait:
            entered.set()
            await go.wait()
            if failing:
                failing.pop()
                raise ConnectionError
        world.clock.advance("3ms")

    task = asyncio.create_task(charge(True))
    await entered.wait()
    await world.reload(dependencies={"bank": {"breaker": {"slow_call": "2ms"}}})
    guard = world.app.service.dependencies["bank"]
    most = guard.quick.most
    go.set()
    while not task.done():
        await world.clock.settle()
        world.clock.advance("1s")
    await task
    assert (guard.quick.most, most) == (2_000_000, 2_000_000)
    before = world.value("mahavishnu_breaker_calls_total", speed="slow")
    await charge(False)
    assert world.value("mahavishnu_breaker_calls_total", speed="slow") == before + 1


# --- one spec for each request --------------------------------------------------------------------


async def test_a_request_stays_with_the_spec_it_began_with(tmp_path: Path) -> None:
    """Its headers, its dependencies, its log line's format and its limits' words are all of one spec."""
    entered, go = asyncio.Event(), asyncio.Event()
    seen: list[int | None] = []

    async def slow(_: Request) -> Response:
        bank = mahavishnu.dependency("bank")
        seen.append(bank.guard().timeout)
        entered.set()
        await go.wait()
        seen.append(bank.guard().timeout)
        return PlainTextResponse("done")

    said = {**rates(a=RATE), "dependencies": {"bank": {"timeout": "1s"}}}
    world = World(tmp_path, said, site(Route("/", slow)))
    first = asyncio.create_task(world.house.call())
    await entered.wait()
    other = {**rates(b={"rate": "7/minute"}), "dependencies": {"bank": {"timeout": "2s"}}}
    await world.reload(**other, security={"headers": "strict"})
    go.set()
    old, new = await first, await world.house.call()
    assert seen == [SECOND, SECOND, 2 * SECOND, 2 * SECOND]
    assert '"a"' in old.headers["ratelimit-policy"]
    assert '"b"' in new.headers["ratelimit-policy"]
    assert "strict-transport-security" not in old.headers
    assert "strict-transport-security" in new.headers


async def test_a_websocket_goes_on_with_the_spec_at_work(tmp_path: Path) -> None:
    """It may last for days: what it calls meanwhile is guarded, and limited, as the spec now says."""
    opened, go = asyncio.Event(), asyncio.Event()
    seen: list[int | None] = []

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        opened.set()
        await go.wait()
        seen.append(mahavishnu.dependency("bank").guard().timeout)
        await search()
        await search()
        with pytest.raises(RateLimited):
            await search()
        await websocket.close()

    def said(count: int) -> dict[str, Any]:
        search = {"rate": f"{count}/minute", "match": {"tool": "search"}}
        return {**rates(a=search), "dependencies": {"bank": {"timeout": f"{count}s"}}}

    world = World(tmp_path, said(3), site(WebSocketRoute("/", socket)))

    @mahavishnu.limit(tool="search")
    async def search() -> None:
        seen.append(None)

    talk = asyncio.create_task(handshake(world.app, "/"))
    await opened.wait()
    await world.reload(**said(2))
    go.set()
    await talk
    assert seen == [2 * SECOND, None, None]


async def test_no_reload_lets_a_shared_store_decide_of_a_plain_function(tmp_path: Path) -> None:
    """It could not be called any more: the spec at work stays, and the log says which function it is."""

    def said(scope: str) -> dict[str, Any]:
        search = {"rate": "3/minute", "scope": scope, "match": {"tool": "search"}}
        return {"store": "redis://cache:6379", **rates(a=search)}

    world = World(tmp_path, said("process"))
    search = mahavishnu.limit(tool="search")(lambda: 7)
    await world.reload(**said("fleet"))
    (refused,) = world.events("spec refused")
    assert "limit `a` is decided by the shared store" in refused["what"]
    assert "test_reload" in refused["what"]
    assert search() == 7


# --- what does not fit the code --------------------------------------------------------------------

BANK: dict[str, Any] = {"dependencies": {"bank": {"timeout": "1s"}}}
SEARCH = rates(search={"rate": "2/minute", "scope": "process", "match": {"tool": "search*"}})


def once() -> None:
    """A function that must not be called twice."""
    dependency("bank")(charge)


def instead() -> None:
    """A function that has a fallback of its own."""
    KEPT.append(guarded := dependency("bank")(idempotent=True)(charge))

    @guarded.fallback
    async def queued(order: str, error: Exception) -> str:  # pyright: ignore[reportUnusedFunction]
        return order


def nameless() -> None:
    """A function that nothing which is kept could name."""
    KEPT.append(dependency("bank")(idempotent=True)(lambda: None))


def named() -> None:
    """A dependency, and nothing that it guards."""
    dependency("bank")


def tool() -> None:
    """A tool of a name that one limit matches."""
    mahavishnu.limit(tool="search")


async def charge(order: str) -> str:
    """Money moves."""
    return order


KEPT: list[object] = []


def bank(**more: Any) -> dict[str, Any]:
    """The dependency with more than its timeout."""
    return {"dependencies": {"bank": {"timeout": "1s", **more}}}


@pytest.mark.parametrize(
    ("said", "made", "then", "code", "what", "at"),
    [
        (BANK, once, bank(fallback="dead_letter"), "MV610", "charge` with idempotent=True", '"dead_letter"'),
        (BANK, once, bank(fallback={"static": {"paid": 1}}), "MV610", "charge` with idempotent=True", "{"),
        (BANK, instead, bank(fallback="stale_cache"), "MV610", "keep one of them", '"stale_cache"'),
        (BANK, nameless, bank(fallback="stale_cache"), "MV610", "no lambda has one", '"stale_cache"'),
        (
            BANK,
            named,
            {"dependencies": {"bonk": {}}},
            "MV610",
            "names the dependency `bank`",
            '"dependencies"',
        ),
        (BANK, named, {}, "MV610", "names the dependency `bank`", '"mahavishnu"'),
        (
            SEARCH,
            tool,
            rates(search={**SEARCH["limits"]["search"], "match": {"tool": "find*"}}),
            "MV413",
            "no limit matches the tool `search`",
            '{"search"',
        ),
    ],
)
async def test_a_spec_with_which_the_code_would_not_start_is_refused(
    said: dict[str, Any],
    made: Callable[[], None],
    then: dict[str, Any],
    code: str,
    what: str,
    at: str,
    tmp_path: Path,
) -> None:
    """By the same sentence, with its place, and the spec at work stays: no client learns of it."""
    world = World(tmp_path, said)
    made()
    before = world.app.service
    await world.reload(**then)
    (refused,) = world.events("spec refused")
    assert refused["code"] == code
    assert what in refused["what"]
    _, line, column = refused["where"].rsplit(":", 2)
    assert line == "1"
    assert world.path.read_text()[int(column) - 1 :].startswith(at)
    assert (world.app.service, world.outcomes()) == (before, (0, 0, 1))


async def test_what_fits_the_code_is_taken(tmp_path: Path) -> None:
    """What code names is there, and what it guards may be repeated."""
    world = World(tmp_path, {**BANK, **SEARCH})
    paid = dependency("bank")(idempotent=True)(charge)
    tool()
    limits = {"find": {"rate": "2/minute", "scope": "process", "match": {"tool": "*"}}}
    await world.reload(limits=limits, **bank(fallback="stale_cache"))
    assert (world.outcomes(), await paid("a")) == ((1, 0, 0), "a")


async def test_a_function_that_nobody_has_any_more_is_asked_nothing(tmp_path: Path) -> None:
    """Code may guard functions for as long as a request lasts: what is remembered keeps none of them."""

    def guarded() -> Any:
        async def charge() -> None: ...

        return dependency("bank")(charge)

    world = World(tmp_path, BANK)
    first, _ = guarded(), guarded()
    await world.reload(**bank(fallback={"static": 1}))
    assert len(world.events("spec refused")) == 2
    gone = ref(first)
    del first
    assert gone() is None
    await world.reload(**bank(fallback={"static": 2}))
    assert len(world.events("spec refused")) == 3


async def test_code_may_name_a_tool_for_each_tenant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the names no more are remembered than there is room for, and of the refusals no more told than one reads."""
    monkeypatch.setattr(app_names, "MOST", 30)
    world = World(
        tmp_path, {"limits": {"a": {"rate": "2/minute", "scope": "process", "match": {"tool": "t*"}}}}
    )
    for number in range(100):
        mahavishnu.limit(tool=f"t{number}")(lambda: None)
    assert (len(app_names.NAMED.tools), len(app_names.NAMED.plain)) == (30, 30)
    await world.reload(**rates(a=RATE))
    assert len(world.events("spec refused")) == 20


# --- who asks for it ------------------------------------------------------------------------------


@pytest.fixture
def sighup() -> Iterator[None]:
    """The handlers of this process are put back."""
    before = {one: signal.getsignal(one) for one in (signal.SIGHUP, signal.SIGTERM)}
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


async def until(true: Callable[[], bool], clock: VirtualClock | None = None) -> None:
    """Wait, really, until something holds."""
    for _ in range(500):
        if true():
            return
        if clock is not None:
            clock.advance(PERIOD)
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to hold")


@pytest.mark.usefixtures("sighup")
async def test_the_file_is_looked_at_by_itself(tmp_path: Path) -> None:
    """From the first request on where nobody says that the app starts; and not any more once it stops."""
    world = World(tmp_path, rates(a=RATE))
    before = world.app.service
    assert await world.house.status() == 200
    world.write(**rates(a={"rate": "20/minute", "per": "ip"}))
    await until(lambda: world.app.service is not before, world.clock)
    assert world.outcomes() == (1, 0, 0)
    world.reloader.stop()
    assert world.house.clock.timers == 0


@pytest.mark.usefixtures("sighup")
async def test_sighup_asks_for_it_and_does_what_was_done_before(tmp_path: Path) -> None:
    """It is read soon, although it has not changed; a handler that was there is called too."""
    heard: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _: heard.append(number))
    world = World(tmp_path, rates(a=RATE))
    await world.house.status()
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: world.outcomes() == (0, 1, 0), world.clock)
    assert heard == [signal.SIGHUP]


@pytest.mark.usefixtures("sighup")
async def test_however_often_it_is_asked_the_file_is_looked_at_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it is asked while the file is being read."""
    world = World(tmp_path, rates(a=RATE))
    await world.house.status()
    read = world.reloader.prepare

    def interrupted() -> object:
        for _ in range(5):
            world.reloader.ask()
        return read()

    monkeypatch.setattr(world.reloader, "prepare", interrupted)
    world.reloader.ask()
    await until(lambda: world.outcomes() == (0, 1, 0), world.clock)
    await asyncio.sleep(0.05)
    assert world.house.clock.timers == 1


@pytest.mark.usefixtures("sighup")
async def test_a_spec_that_is_no_file_is_not_looked_for(tmp_path: Path) -> None:
    """There is nothing to reload: no timer, and SIGHUP means what it meant."""
    world = World(tmp_path, rates(a=RATE))
    forget()
    before = signal.getsignal(signal.SIGHUP)
    app = Hardening(site(), world.app.service.spec, clock=world.clock, log_to=StringIO())
    assert (await call(app)).status == 200
    await app.reload()
    assert signal.getsignal(signal.SIGHUP) is before
    assert world.clock.timers == 0


@pytest.mark.usefixtures("sighup")
async def test_shutting_down_ends_the_looking(tmp_path: Path) -> None:
    """From the lifespan's start to its end, and no reload takes place in a process that drains."""
    world = World(tmp_path, rates(a=RATE))
    messages: asyncio.Queue[Any] = asyncio.Queue()
    task = asyncio.create_task(world.app({"type": "lifespan"}, messages.get, collector(Answer())))
    await messages.put({"type": "lifespan.startup"})
    await asyncio.sleep(0.01)
    assert world.clock.timers > 0
    await messages.put({"type": "lifespan.shutdown"})
    await task
    assert world.clock.timers == 0
    await world.reload(**rates(a={"rate": "3/minute", "per": "ip"}))
    assert world.outcomes() == (0, 0, 0)


# --- under load, and in a real server -------------------------------------------------------------


async def says_its_spec(_: Request) -> Response:
    """The version of the spec, as the timeout of a dependency has it, before and after a while."""
    bank = mahavishnu.dependency("bank")
    first = bank.guard().timeout or 0
    for _turn in range(20):
        await asyncio.sleep(0)
    return PlainTextResponse(f"{first // SECOND} {(bank.guard().timeout or 0) // SECOND}")


def version_of(number: int) -> dict[str, Any]:
    """A spec that says its number in a limit's name, a timeout and the headers; `known` changes its kind."""
    kinds = list(KINDS.values())
    return {
        "limits": {
            "known": kinds[number % len(kinds)] | {"match": {"path": "/limited"}},
            f"v{number}": {"rate": f"{100_000 + number}/second", "per": "ip", "match": {"path": "/"}},
        },
        "dependencies": {"bank": {"timeout": f"{number}s"}},
        **({"security": {"headers": "strict"}} if number % 2 else {}),
    }


class Crowd:
    """Customers who come again and again, and one who has nothing left; what they were told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ended = asyncio.Event()
        self.statuses: list[int] = []
        self.torn: list[str] = []
        self.given = 0

    async def customer(self, number: int) -> None:
        """Ask until it ends."""
        while not self.ended.is_set():
            answer = await self.world.house.call(client=f"198.51.100.{number}")
            self.statuses.append(answer.status)
            if answer.status == 200 and not _of_one_spec(answer):
                self.torn.append(f"{answer.headers} {answer.body!r}")
            known = await self.world.house.status(path="/limited")
            self.statuses.append(known)
            self.given += known == 200
            await asyncio.sleep(0.001)

    async def through(self, reloads: int) -> None:
        """Change the spec so often, one time in ten for the worse."""
        customers = [asyncio.create_task(self.customer(number)) for number in range(10)]
        for number in range(reloads):
            if number % 10 == 9:
                self.world.path.write_text("limits: {")
                await self.world.app.reload()
            else:
                await self.world.reload(**version_of(2 + number))
        self.ended.set()
        await asyncio.gather(*customers)


def _of_one_spec(answer: Answer) -> bool:
    policy = answer.headers["ratelimit-policy"]
    version = policy[2 : policy.index('"', 1)]
    strict = "strict-transport-security" in answer.headers
    return answer.body.decode() == f"{version} {version}" and strict == bool(int(version) % 2)


@pytest.mark.proof
def test_reloads_under_load(tmp_path: Path) -> None:
    """One in ten bad; while requests run: no 5xx, none sees two specs, no budget is given again."""
    reloads = 1000 if FULL else 100

    async def scenario() -> Crowd:
        app = site(Route("/", says_its_spec), Route("/limited", says_its_spec))
        world = World(tmp_path, version_of(1), app)
        while await world.house.status(path="/limited") == 200:
            pass
        crowd = Crowd(world)
        await crowd.through(reloads)
        assert world.outcomes() == (reloads - reloads // 10, 0, reloads // 10)
        return crowd

    crowd = asyncio.run(scenario())
    failed = sum(status >= 500 for status in crowd.statuses)
    assert crowd.statuses.count(200) >= reloads
    figure(f"{reloads} reloads under load: 5xx of {len(crowd.statuses)} requests", 0, failed)
    figure("reloads under load: requests that saw two specs", 0, len(crowd.torn))
    figure("reloads under load: admissions of a client that had nothing left", 0, crowd.given)
    assert (failed, crowd.torn, crowd.given) == (0, [], 0)


def test_sighup_on_a_real_server(tmp_path: Path) -> None:
    """uvicorn: it does not end, and within a second the new spec is at work."""
    file = tmp_path / "mahavishnu.yaml"
    file.write_text("mahavishnu: 1\nservice: {name: shop, app: shop:app}\nlimits: {a: {rate: 100/minute}}\n")
    (tmp_path / "shop.py").write_text(
        "from starlette.applications import Starlette\n"
        "from mahavishnu.asgi import Hardening\n"
        'app = Hardening(Starlette(), "mahavishnu.yaml")\n'
    )
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "shop:app", "--port", str(port), "--no-proxy-headers"]
    server = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert server.stdout is not None
        assert any("running on" in line for line in server.stdout)
        file.write_text(file.read_text().replace("100/minute", "200/minute"))
        server.send_signal(signal.SIGHUP)
        assert any('"event": "reloaded"' in line for line in server.stdout)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            shown = answer.read().decode()
        assert 'mahavishnu_limit_quota{limit="a"} 200.0' in shown
        assert 'mahavishnu_spec_reloads_total{outcome="applied"} 1.0' in shown
    finally:
        server.kill()
        server.communicate()
