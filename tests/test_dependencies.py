"""`dependency("stripe")`: found by name in the process's one spec, and at work from its first call."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mahavishnu
from mahavishnu.asgi import Hardening
from mahavishnu.clock import SystemClock
from mahavishnu.dependencies import Dependency
from mahavishnu.errors import BreakerOpen, BulkheadFull, CallTimeout, MahavishnuError, SpecError
from mahavishnu.runtime.current import current, forget, use
from mahavishnu.runtime.service import Service
from mahavishnu.spec import Spec
from mahavishnu.testing import VirtualClock
from tests.metering import value
from tests.otlp_receiver import Collector, collector
from tests.runtime.asgi_client import site

SPEC = """\
mahavishnu: 1
service: {name: shop, app: "shop:app"}
dependencies:
  stripe: {timeout: 2s, retry: {}, breaker: {consecutive_failures: 1}, bulkhead: {concurrency: 1}}
  catalogue: {breaker: {}}
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec in a folder above the working directory, and nothing about it in the environment."""
    path = tmp_path / "mahavishnu.yaml"
    path.write_text(SPEC)
    (tmp_path / "app").mkdir()
    monkeypatch.chdir(tmp_path / "app")
    for name in ("MAHAVISHNU_SPEC", "MAHAVISHNU_ENV", "MAHAVISHNU_DISABLE"):
        monkeypatch.delenv(name, raising=False)
    return path


def test_it_is_found_from_the_working_directory_upwards(spec: Path) -> None:
    """Asking for it starts nothing; the first call does, with the real clock."""
    stripe = mahavishnu.dependency("stripe")
    assert (repr(stripe), current()) == ("dependency('stripe')", None)
    assert stripe(lambda: "called")() == "called"
    service = current()
    assert service is not None
    assert isinstance(service.clock, SystemClock)
    assert (
        value(service.metrics, "mahavishnu_dependency_calls_total", dependency="stripe", outcome="success")
        == 1
    )


def test_it_is_found_by_the_variable(spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MAHAVISHNU_SPEC wins over the folders."""
    other = tmp_path / "other.yaml"
    other.write_text(SPEC.replace("stripe", "paypal"))
    monkeypatch.setenv("MAHAVISHNU_SPEC", str(other))
    assert mahavishnu.dependency("paypal").name == "paypal"


def test_an_unknown_name_fails_at_import(spec: Path) -> None:
    """With the name that was probably meant, or those that there are."""
    with pytest.raises(MahavishnuError, match="did you mean `stripe`"):
        mahavishnu.dependency("strip")
    with pytest.raises(MahavishnuError, match="`stripe`, `catalogue`"):
        mahavishnu.dependency("database")
    spec.write_text(SPEC.split("dependencies", maxsplit=1)[0])
    forget()
    with pytest.raises(MahavishnuError, match="the spec has none"):
        mahavishnu.dependency("stripe")


def test_a_spec_that_is_missing_or_wrong_fails_at_import(spec: Path) -> None:
    """As findings."""
    spec.write_text("mahavishnu: 1\n")
    with pytest.raises(SpecError):
        mahavishnu.dependency("stripe")
    spec.unlink()
    with pytest.raises(SpecError, match=r"no mahavishnu\.yaml"):
        mahavishnu.dependency("stripe")


def test_two_different_specs_in_one_process_are_refused(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes second, a dependency or the middleware's service, is told; the same one twice is fine."""
    mahavishnu.dependency("stripe")
    mahavishnu.dependency("catalogue")
    other = tmp_path / "other.yaml"
    other.write_text(SPEC.replace("2s", "3s"))
    monkeypatch.setenv("MAHAVISHNU_SPEC", str(other))
    with pytest.raises(
        MahavishnuError, match=r"two different specs.* \(hash \w+\) is at work, .* \(hash \w+\)"
    ):
        mahavishnu.dependency("stripe")
    forget()
    service = Service(_spec_of("stripe"), VirtualClock())
    monkeypatch.setenv("MAHAVISHNU_SPEC", str(spec))
    forget()
    mahavishnu.dependency("stripe")
    with pytest.raises(MahavishnuError, match="two different specs"):
        use(service)


def _spec_of(name: str) -> Spec:
    """The spec that is in force where a dependency of that name is."""
    mahavishnu.dependency(name)(lambda: None)()
    service = current()
    assert service is not None
    return service.spec


def test_the_guard_is_found_anew_when_another_service_starts(spec: Path) -> None:
    """A module-level dependency follows the service at work: a test's own, with its clock and its state."""
    stripe = mahavishnu.dependency("stripe")
    first = Service(_spec_of("stripe"), VirtualClock())
    use(first)

    @stripe
    def fail() -> None:
        raise ConnectionError

    @stripe
    async def fail_later() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        fail()
    with pytest.raises(BreakerOpen):
        fail()
    with pytest.raises(BreakerOpen):
        asyncio.run(fail_later())
    use(Service(first.spec, VirtualClock()))
    with pytest.raises(ConnectionError):
        asyncio.run(fail_later())
    use(Service(first.spec, VirtualClock()))
    with pytest.raises(ConnectionError):
        fail()
    forget()
    use(Service(first.spec.model_copy(update={"dependencies": {}}), VirtualClock()))
    with pytest.raises(MahavishnuError, match="no dependency `stripe`"):
        fail()


def test_what_was_called_before_the_middleware_is_remembered(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As an app does that fetches its settings when it is imported; the log is the middleware's from then on.

    The next middleware begins anew: it may be that of the next test.
    """
    stripe = mahavishnu.dependency("stripe")

    @stripe
    def charge() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        charge()
    Hardening(site(), spec).service.log.info("told")
    with pytest.raises(BreakerOpen):
        charge()
    assert _calls("failure") == 1
    assert '"event": "told"' in capsys.readouterr().out
    Hardening(site(), spec)
    with pytest.raises(ConnectionError):
        charge()
    assert _calls("failure") == 1


def _calls(outcome: str) -> float:
    service = current()
    assert service is not None
    return value(service.metrics, "mahavishnu_dependency_calls_total", dependency="stripe", outcome=outcome)


def test_an_error_says_which_line_of_the_spec_it_comes_from(spec: Path) -> None:
    """Whoever refused: the file, the line of the policy, and its place for programs."""
    stripe = mahavishnu.dependency("stripe")

    @stripe
    def fail() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        fail()
    with pytest.raises(BreakerOpen) as caught:
        fail()
    line = next(at for at, text in enumerate(spec.read_text().split("\n"), start=1) if "breaker" in text)
    assert caught.value.where == f"{spec}:{line}"
    assert caught.value.place == "dependencies.stripe.breaker"
    said, _, retry = str(caught.value).partition("; retry in ")
    assert said == f"dependency `stripe`: the breaker is open ({spec}:{line})"
    assert 20 <= int(retry.removesuffix(" s")) <= 40  # open for half a minute, give or take a fifth
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again), vars(again)) == (BreakerOpen, str(caught.value), vars(caught.value))


def test_switched_off_everything_passes(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With MAHAVISHNU_DISABLE=1 nothing is refused, repeated or timed out; calls are still counted."""
    monkeypatch.setenv("MAHAVISHNU_DISABLE", "1")
    calls = 0

    @mahavishnu.dependency("stripe")(idempotent=True)
    def fail() -> None:
        nonlocal calls
        calls += 1
        raise ConnectionError

    for _ in range(3):
        with pytest.raises(ConnectionError):
            fail()
    assert calls == 3


def test_its_errors_are_its_attributes() -> None:
    """`except stripe.Open` needs no import."""
    assert (Dependency.Open, Dependency.Full, Dependency.Timeout) == (BreakerOpen, BulkheadFull, CallTimeout)


def test_naming_it_loads_no_server_and_no_client(spec: Path) -> None:
    """`from mahavishnu import dependency`, a name and a call need neither starlette nor httpx nor pytest."""
    program = (
        "import sys\nfrom mahavishnu import dependency\ndependency('stripe')(lambda: None)()\n"
        "print(sorted({'starlette', 'httpx', 'pytest', 'uvicorn', 'jinja2'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_package_has_no_other_secrets() -> None:
    """A name that is not there is an AttributeError, as everywhere."""
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = mahavishnu.nothing_of_the_kind


if TYPE_CHECKING:
    # Never run: what mypy and pyright must say of user code.
    from typing import assert_type

    import httpx

    stripe = mahavishnu.dependency("stripe")

    @stripe
    def plain(order: int, *, rush: bool) -> str: ...

    @stripe(idempotent=True)
    async def later(order: int) -> bytes: ...

    async def user() -> None:
        assert_type(plain(1, rush=True), str)
        assert_type(await later(2), bytes)
        plain("1", rush=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        async with stripe:
            pass
        async for attempt in stripe.attempts():
            with attempt:
                assert_type(attempt.number, int)
        assert_type(stripe.httpx_client(), httpx.Client)
        assert_type(stripe.httpx_async_client(timeout=1), httpx.AsyncClient)


# --- what a process without the middleware pushes -----------------------------------------------------

PUSHING = """
import sys
from mahavishnu import dependency
bank = dependency("bank")

@bank
def pay() -> None:
    print("paid", flush=True)

"""
ENDS = {
    "a script": """
pay()
input()
pay()
""",
    "a worker": """
import asyncio
from mahavishnu import redriving

async def work() -> None:
    async with redriving():
        pay()
        await asyncio.to_thread(input)
        pay()

asyncio.run(work())
""",
    "a forked child": """
import multiprocessing

def work() -> None:
    sys.stdin = open(0)
    pay()
    input()
    pay()

if __name__ == "__main__":
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
""",
}


def _told(folder: Path, url: str, every: str, program: str, paid: Callable[[], object] = int) -> str:
    """What such a process has to say of errors: it is let go on when it has paid once, and `paid` has returned."""
    (folder / "mahavishnu.yaml").write_text(
        "mahavishnu: 1\nservice: {name: shop, app: a:b}\ndependencies: {bank: {breaker: {}}}\n"
        f"observability: {{metrics: {{otlp: '{url}', every: {every}}}}}\n"
    )
    (folder / "work.py").write_text(PUSHING + program)
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "work.py"], cwd=folder, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        paid()
        process.stdin.write("\n")
        process.stdin.flush()
        said = process.stderr.read()
    assert process.returncode == 0, said
    return said


CALLED = "mahavishnu_dependency_calls_total{dependency=bank,outcome=success}"


@pytest.mark.parametrize("program", ENDS.values(), ids=ENDS)
def test_the_last_word_of_a_process_without_the_middleware_is_pushed(tmp_path: Path, program: str) -> None:
    """All that it has counted, though nothing was due."""
    with collector() as receiver:
        _told(tmp_path, receiver.url, "1h", program)
        assert len(receiver.pushed) == 1
        assert receiver.samples()[CALLED] == 2


def test_what_a_process_without_the_middleware_counts_is_pushed_while_it_runs(tmp_path: Path) -> None:
    """At the pace that the spec says."""
    with collector() as receiver:

        def pushed() -> None:
            end = time.monotonic() + 10
            while not receiver.pushed and time.monotonic() < end:
                time.sleep(0.01)

        _told(tmp_path, receiver.url, "1s", ENDS["a script"], pushed)
        assert receiver.samples(0)[CALLED] == 1
        assert receiver.samples()[CALLED] == 2


def test_a_collector_that_is_gone_does_not_keep_a_script_from_ending(tmp_path: Path) -> None:
    """It says why."""
    said = _told(tmp_path, "http://127.0.0.1:1", "1h", ENDS["a script"])
    assert "series not pushed" in said


def test_where_the_middleware_starts_after_all_nobody_else_pushes(tmp_path: Path) -> None:
    """Both would tell of the same process."""
    program = ENDS["a script"] + "from mahavishnu.asgi import Hardening; Hardening(None)"
    with collector() as receiver:
        _told(tmp_path, receiver.url, "1h", program)
        assert receiver.pushed == []


FORKS = """
import multiprocessing
import os

def work() -> None:
    pay()
    pay()

pay()
input()
child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join()
if os.fork() == 0:
    for _ in range(3):
        pay()
    sys.exit()
os.wait()
pay()
"""


@pytest.mark.proof
def test_a_fork_pushes_what_it_has_counted_itself(tmp_path: Path) -> None:
    """From zero and since its own start, as an instance of its own; in the parent's total is none of it."""
    with collector() as receiver:
        _told(tmp_path, receiver.url, "1h", FORKS)
        pushes = range(len(receiver.pushed))
        called = {
            receiver.resource(one)["service.instance.id"]: receiver.samples(one)[CALLED] for one in pushes
        }
        assert sorted(called.values()) == [2, 2, 3]
        *counting, parent = [_since(receiver, one) for one in pushes]
        assert parent < min(counting)
        *started, first = [receiver.samples(one)["process_start_time_seconds{}"] for one in pushes]
        assert first < min(started)


def _since(receiver: Collector, push: int) -> int:
    """Since when its calls are counted."""
    named = {one.name: one for one in receiver.metrics(push)}
    since: int = named["mahavishnu_dependency_calls_total"].sum.data_points[0].start_time_unix_nano
    return since
