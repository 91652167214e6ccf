"""What every test shares: a process that hardens nothing yet, and the table of figures at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mahavishnu.runtime.current import forget
from tests.figures import FIGURES, table


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
