"""The virtual clock that users test with, and the real one, which behaves alike."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mahavishnu.clock import SystemClock
from mahavishnu.testing import VirtualClock
from mahavishnu.units import Duration

pytest_plugins = ["pytester"]


def test_time_stands_still_until_it_is_moved(virtual_clock: VirtualClock) -> None:
    """Nanoseconds, a Duration and a text all move it, exactly."""
    virtual_clock.advance(7)
    virtual_clock.advance(Duration.parse("1s"))
    virtual_clock.advance("1h30m")
    assert virtual_clock.now() == 7 + 10**9 + 90 * 60 * 10**9


def test_timers_run_in_order_at_their_own_time(virtual_clock: VirtualClock) -> None:
    """A timer set by a timer still runs within the same move, and a cancelled one never does."""
    seen: list[tuple[str, int]] = []

    def second() -> None:
        seen.append(("second", virtual_clock.now()))

    def first() -> None:
        seen.append(("first", virtual_clock.now()))
        virtual_clock.call_later(5, second)

    virtual_clock.call_later(10, first)
    virtual_clock.call_later(12, lambda: seen.append(("never", 0))).cancel()
    virtual_clock.call_later(10, lambda: seen.append(("tie", virtual_clock.now())))
    virtual_clock.advance(20)
    assert seen == [("first", 10), ("tie", 10), ("second", 15)]
    assert (virtual_clock.now(), virtual_clock.timers) == (20, 0)


async def _sleeper(clock: VirtualClock, delay: int, woken: list[int]) -> None:
    await clock.sleep(delay)
    woken.append(clock.now())


def test_sleepers_wake_when_the_time_comes(virtual_clock: VirtualClock) -> None:
    """A sleeping task goes on after the move, and a cancelled one leaves no timer behind."""

    async def scenario() -> list[int]:
        woken: list[int] = []
        tasks = [asyncio.create_task(_sleeper(virtual_clock, delay, woken)) for delay in (10, 30, 50)]
        await virtual_clock.settle()
        virtual_clock.advance(30)
        await virtual_clock.settle()
        tasks[2].cancel()
        await virtual_clock.settle()
        return woken

    assert asyncio.run(scenario()) == [30, 30]
    assert virtual_clock.timers == 0


def test_auto_moves_the_time_for_whoever_sleeps() -> None:
    """Async sleep, blocking pause and bounded wait all pass at once, and the time shows it."""
    clock = VirtualClock(auto=True)
    asyncio.run(clock.sleep(10))
    clock.pause(20)
    clock.wait(threading.Event(), 30)
    already = threading.Event()
    already.set()
    clock.wait(already, 1000)
    assert clock.now() == 60


def test_threads_block_until_another_moves_the_time(virtual_clock: VirtualClock) -> None:
    """`pause` ends when the time comes, `wait` also when its event is set; sleepers of any loop."""
    event = threading.Event()
    threads = [
        threading.Thread(target=virtual_clock.pause, args=(10,)),
        threading.Thread(target=virtual_clock.wait, args=(event, 10**15)),
        threading.Thread(target=lambda: asyncio.run(virtual_clock.sleep(10))),
    ]
    for thread in threads:
        thread.start()
    while virtual_clock.timers < 3:
        pass
    virtual_clock.advance(10)
    event.set()
    for thread in threads:
        thread.join(timeout=5)
    assert not any(thread.is_alive() for thread in threads)
    assert virtual_clock.timers == 0


def test_the_real_clock_does_the_same_in_real_time() -> None:
    """Each way of waiting takes at least as long as it says, and a timer fires on the loop."""
    clock = SystemClock()
    fired: list[str] = []

    async def scenario() -> None:
        clock.call_later(1_000_000, lambda: fired.append("timer"))
        clock.call_later(1_000_000, lambda: fired.append("never")).cancel()
        await clock.sleep(5_000_000)

    before = clock.now()
    asyncio.run(scenario())
    clock.pause(1_000_000)
    clock.wait(threading.Event(), 1_000_000)
    assert clock.now() - before >= 7_000_000
    assert fired == ["timer"]


def test_the_module_needs_no_pytest() -> None:
    """Whoever uses only the clock loads neither pytest nor a server."""
    program = (
        "import sys, mahavishnu.testing; print(sorted({'pytest', 'starlette', 'httpx'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_users_get_the_fixture_by_installing_the_package(pytester: pytest.Pytester) -> None:
    """A test of a user asks for `virtual_clock` without importing anything."""
    pytester.makepyfile(
        "def test_it(virtual_clock):\n"
        "    virtual_clock.advance('1s')\n"
        "    assert virtual_clock.now() == 10**9\n"
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_the_fixture_lets_a_user_test_a_service(pytester: pytest.Pytester) -> None:
    """A user's own test: limits, waiting and series on the virtual clock, and nothing is left for the next test.

    Nor for one without the fixture, whatever has been asked in which order, and where the app is made once for all.
    """
    pytester.makefile(
        ".yaml",
        mahavishnu="""
        mahavishnu: 1
        service: {name: shop, app: "app:app"}
        limits: {per_client: {rate: 2/minute}}
        """,
    )
    pytester.makepyfile(
        """
        import pytest
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Route
        from starlette.testclient import TestClient
        from mahavishnu.asgi import Hardening
        from mahavishnu.errors import MahavishnuError

        async def home(request):
            return PlainTextResponse("here")

        def made():
            app = Starlette(routes=[Route("/", home)])
            app.add_middleware(Hardening)
            return app

        module = made()

        def test_without_it():
            assert [TestClient(module).get("/").status_code for _ in range(3)] == [200, 200, 429]

        @pytest.mark.parametrize("app", [made(), module, module])
        @pytest.mark.parametrize("again", [1, 2])
        def test_limit(hardening, app, again):
            with TestClient(app) as client:
                assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]
                hardening.clock.advance("30s")
                assert client.get("/").status_code == 200
            assert hardening.series("mahavishnu_limit_decisions_total", outcome="refused") == 1

        @pytest.mark.parametrize(
            "name, labels, says",
            [
                ("mahavishnu_limit_decision_total", {}, "did you mean `mahavishnu_limit_decisions_total`?"),
                ("mahavishnu_limit_decisions_total", {"limits": "per_client"}, "has no label limits"),
                ("mahavishnu_limit_decisions_total", {"limit": "per_user"}, "never has the value per_user"),
                ("http_server_request_duration_seconds", {}, "did you mean `http_server_request_duration_seconds_"),
            ],
        )
        def test_what_nobody_shows(hardening, name, labels, says):
            with TestClient(module) as client:
                client.get("/")
                with pytest.raises(MahavishnuError) as told:
                    hardening.series(name, **labels)
                assert says in str(told.value)
                assert hardening.series("http_server_request_duration_seconds_bucket", le="+Inf") == 1

        def test_after_it():
            test_without_it()
        """
    )
    pytester.runpytest_subprocess("-q").assert_outcomes(passed=12)


def test_the_fixture_needs_no_server(pytester: pytest.Pytester) -> None:
    """Whatever store and collector the spec names: the test's own time stands still, and nobody is asked.

    Spans have their ids all the same.
    """
    server = socket.create_server(("127.0.0.1", 0))
    server.setblocking(False)
    url = f"http://127.0.0.1:{server.getsockname()[1]}"
    pytester.makefile(
        ".yaml",
        mahavishnu=f"""
        mahavishnu: 1
        service: {{name: shop, app: "app:app"}}
        store: redis://127.0.0.1:1
        limits: {{per_client: {{rate: 60/minute, burst: 5}}}}
        observability: {{metrics: {{otlp: "{url}"}}, traces: {{otlp: "{url}", sample: 100%}}}}
        """,
    )
    pytester.makepyfile(
        """
        import time
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Route
        from starlette.testclient import TestClient
        from mahavishnu.asgi import Hardening

        def test_limit(hardening, capsys):
            app = Starlette(routes=[Route("/", PlainTextResponse("here"))])
            app.add_middleware(Hardening)
            with TestClient(app) as client:
                assert [client.get("/").status_code for _ in range(6)] == [200] * 5 + [429]
                hardening.clock.advance("1m")
                assert client.get("/").status_code == 200
            assert capsys.readouterr().out.count('"trace_id"') == 7
        """
    )
    pytester.runpytest_subprocess("-q").assert_outcomes(passed=1)
    with server, pytest.raises(BlockingIOError):
        server.accept()


def test_the_fixture_opens_a_breaker(pytester: pytest.Pytester) -> None:
    """What a service does while a dependency is down needs no failures: it is open at once, and heals in its time."""
    pytester.makefile(
        ".yaml",
        mahavishnu="""
        mahavishnu: 1
        service: {name: shop, app: "app:app"}
        dependencies:
          bank: {breaker: {consecutive_failures: 5, open_for: 10s, probes: 1}}
          held: {breaker: {consecutive_failures: 5, mode: closed}}
          mail: {timeout: 1s}
        """,
    )
    pytester.makepyfile(
        """
        import pytest
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Route
        from starlette.testclient import TestClient
        from mahavishnu import dependency
        from mahavishnu.asgi import Hardening
        from mahavishnu.errors import MahavishnuError

        bank = dependency("bank")

        @bank
        async def pay():
            return "paid"

        async def told():
            try:
                return await pay()
            except bank.Open as error:
                return 8e9 < error.retry_after < 12e9

        def run(coroutine):
            import asyncio
            return asyncio.run(coroutine)

        def test_open(hardening):
            assert run(told()) == "paid"
            hardening.trip("bank")
            assert run(told()) is True
            assert hardening.series("mahavishnu_breaker_state", dependency="bank", state="open") == 1
            hardening.clock.advance("12s")
            assert run(told()) == "paid"

        def test_before_any_call(hardening):
            hardening.trip("bank")
            assert run(told()) is True

        async def buy(request):
            return PlainTextResponse(await pay())

        app = Starlette(routes=[Route("/buy", buy)])
        app.add_middleware(Hardening)

        def test_before_the_first_request(hardening):
            assert run(told()) == "paid"
            hardening.trip("bank")
            with TestClient(app) as client:
                assert client.get("/buy").status_code == 503
                hardening.clock.advance("12s")
                assert client.get("/buy").status_code == 200
                assert hardening.series("mahavishnu_dependency_calls_total", outcome="success") == 2

        @pytest.mark.parametrize(
            "name, says",
            [
                ("bnak", "did you mean `bank`?"),
                ("mail", "`mail` has no breaker"),
                ("held", "is held by its `mode`"),
            ],
        )
        def test_what_cannot_open(hardening, name, says):
            with pytest.raises(MahavishnuError) as told:
                hardening.trip(name)
            assert says in str(told.value)

        def test_after_it():
            assert run(told()) == "paid"
        """
    )
    pytester.runpytest_subprocess("-q").assert_outcomes(passed=7)


def test_a_fake_that_never_answers_is_ended_by_the_clock(tmp_path: Path) -> None:
    """As docs/testing.md says: in a task, settled, and the clock advanced; and so is who waits for a place."""
    (tmp_path / "test_slow.py").write_text(SLOW)
    (tmp_path / "mahavishnu.yaml").write_text(
        'mahavishnu: 1\nservice: {name: shop, app: "app:app"}\n'
        "dependencies: {stock: {timeout: 300ms, bulkhead: {concurrency: 1, wait: 100ms}}}\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_slow.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "2 passed" in ran.stdout, ran.stdout


SLOW = """
import asyncio
import pytest
from mahavishnu import dependency
from mahavishnu.errors import BulkheadFull, CallTimeout

stock = dependency("stock")

@stock
async def ask():
    await asyncio.Event().wait()

def test_slow(hardening):
    async def asked():
        task = asyncio.create_task(ask())
        await hardening.clock.settle()
        hardening.clock.advance("300ms")
        with pytest.raises(CallTimeout):
            await asyncio.wait_for(task, 5)
    asyncio.run(asked())

def test_no_place(hardening):
    async def asked():
        first = asyncio.create_task(ask())
        await hardening.clock.settle()
        second = asyncio.create_task(ask())
        await hardening.clock.settle()
        assert not second.done()
        hardening.clock.advance("100ms")
        with pytest.raises(BulkheadFull):
            await asyncio.wait_for(second, 5)
        first.cancel()
    asyncio.run(asked())
"""
