"""What every test shares: a process that hardens nothing yet, and the table of figures at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mahavishnu.runtime.current import forget
from tests.figures import FIGURES, table


@pytest.fixture(scope="session", autouse=True)
def _caches_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """What commands remember between runs stays among the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        yield


@pytest.fixture(autouse=True)
def _nothing_at_work() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """One process has one spec; here, one test has."""
    forget()
    yield
    forget()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures, when there are any."""
    if FIGURES:
        terminalreporter.section("figures")
        terminalreporter.write_line(table(FIGURES))
