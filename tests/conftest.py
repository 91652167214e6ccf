"""What every test shares: a process that hardens nothing yet, and the table of figures at the end."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from mahavishnu.runtime.current import forget
from tests.figures import FIGURES, Figure, table
from tests.judges import FOLDERS, newer
from tests.runtime.asgi_client import run

if TYPE_CHECKING:  # few tests need it, and it takes long to load
    from tests.otlp_receiver import Collector

# No test depends on how busy the machine is.
settings.register_profile("calm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("calm")


@pytest.fixture(scope="session", autouse=True)
def _caches_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """What commands remember between runs stays among the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _judges_in_one_thread() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Those written in Go end soon: they need not collect what they leave, and other tests have the other cores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOGC", "400")
        patch.setenv("GOMAXPROCS", "1")
        yield


@pytest.fixture(autouse=True)
def _nothing_at_work() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """One process has one spec; here, one test has."""
    forget()
    yield
    forget()


@pytest.fixture
def judges(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The `stable` ones, which every test has that does not ask; or `newer` ones, as far as there are any."""
    if request.param == "newer":
        monkeypatch.setattr("tests.judges.FOLDERS", (newer("promtool").parent, *FOLDERS))


@pytest.fixture
def receiver() -> Iterator[Collector]:
    """An OpenTelemetry collector that takes everything."""
    from tests.otlp_receiver import collector

    with collector() as made:
        yield made


def pytest_collection_finish(session: pytest.Session) -> None:
    """What thousands of tests are made of is no garbage, and need not be looked through while they run.

    Where a figure is measured, the collector works as it does for everybody.
    """
    if not any(item.get_closest_marker("proof") for item in session.items):
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 10, 10)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is a coroutine function has an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True


TOLD: list[Figure] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Figures travel with the report of their test, for that may have run in another process."""
    report = yield
    report.user_properties += [("figure", tuple(one)) for one in FIGURES]
    FIGURES.clear()
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Gather them where the table is printed."""
    said: list[tuple[str, Any]] = report.user_properties
    TOLD.extend(Figure._make(one) for name, one in said if name == "figure")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures, when there are any."""
    if TOLD:
        terminalreporter.section("figures")
        terminalreporter.write_line(table(TOLD))
