"""What people are shown of a contract: dashboards of panels under headings, and where each alert is on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from mahavishnu.contract import Contract
from mahavishnu.derived.alert_panels import alert_panels
from mahavishnu.derived.panel_places import BOARDS, entries
from mahavishnu.derived.panels import Panel
from mahavishnu.derived.series_panels import entry_panels, section_panels
from mahavishnu.derived.service_panels import process_panels, request_panels
from mahavishnu.promql import Expr
from mahavishnu.signals import AgreementError

_LONGEST_UID = 40  # Grafana's
_TITLES = {
    "service": "service",
    "resilience": "limits and dependencies",
    "slos": "SLOs",
    "backups": "backups",
}


class Row(NamedTuple):
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


class Dashboard(NamedTuple):
    """A page of rows; `name` is that of its file, `uid` what links call it by."""

    name: str
    uid: str
    title: str
    rows: tuple[Row, ...]

    def numbered(self) -> Iterator[tuple[int, Row | Panel]]:
        """Every heading and every panel with its number, from the top."""
        yield from enumerate((one for row in self.rows for one in (row, *row.panels)), 1)

    @property
    def panels(self) -> tuple[Panel, ...]:
        """Every panel."""
        return tuple(panel for row in self.rows for panel in row.panels)


class Spot(NamedTuple):
    """Where an alert is shown."""

    dashboard: Dashboard
    number: int
    row: Row
    panel: Panel


@lru_cache(maxsize=4)
def dashboards(made: Contract) -> tuple[Dashboard, ...]:
    """Every dashboard of a contract; raises AgreementError when a query asks for what nothing shows."""
    boards = tuple(
        Dashboard(name, _uid(made.job, name), f"{made.job}: {title}", rows)
        for name, title in _TITLES.items()
        if (rows := tuple(row for row in _rows(made, name) if row.panels))
    )
    faults = (fault for _, expr in queries(boards) for fault in made.faults(expr))
    if (first := next(faults, None)) is not None:
        raise AgreementError(first)
    return boards


def queries(boards: Iterable[Dashboard]) -> Iterator[tuple[str, Expr]]:
    """Every query of dashboards, with the words for its place."""
    for board in boards:
        for panel in board.panels:
            yield from ((f"{board.name}: {panel.title}", query.expr) for query in panel.queries)


def spots(boards: Iterable[Dashboard]) -> dict[str, Spot]:
    """Where each alert is shown, by its name."""
    found: dict[str, Spot] = {}
    for board in boards:
        row = board.rows[0]
        for number, one in board.numbered():
            if isinstance(one, Row):
                row = one
            elif one.alert:
                found[one.alert] = Spot(board, number, row, one)
    return found


def _uid(job: str, name: str) -> str:
    uid = f"{job.replace('_', '-')}-{name}"
    return uid if len(uid) <= _LONGEST_UID else hashlib.sha256(uid.encode()).hexdigest()[:_LONGEST_UID]


def _rows(made: Contract, board: str) -> Iterator[Row]:
    sections = [section for section, home in BOARDS.items() if home == board]
    if board == "service":
        yield Row("requests", request_panels(made))
        yield Row("process", (*process_panels(made), *section_panels(made, "service")))
        yield Row("alerts", tuple(alert_panels(made, "service", None)))
        return
    for section in sections:
        overview = (*section_panels(made, section), *alert_panels(made, section, None))
        yield Row(section.replace("_", " "), overview)
        for name in entries(made, section):
            yield Row(
                f"{section}.{name}", (*entry_panels(made, section, name), *alert_panels(made, section, name))
            )
