"""What an alert links to: its page among the runbooks, and its panel in Grafana."""

from __future__ import annotations

from mahavishnu.contract import Contract
from mahavishnu.derived.panels import Spot
from mahavishnu.signals import Alert


def runbook_file(alert: Alert) -> str:
    """The page of an alert, below the folder of runbooks."""
    return f"{alert.name}.md"


def runbook_url(made: Contract, alert: Alert) -> str:
    """Its address; empty where the spec does not say where runbooks are served."""
    base = made.spec.alerts.runbooks
    return f"{base.rstrip('/')}/{runbook_file(alert)}" if base else ""


def panel_url(made: Contract, spot: Spot) -> str:
    """The address of a panel; empty where the spec does not say where Grafana is."""
    base = made.spec.alerts.dashboards
    return f"{base.rstrip('/')}/d/{spot.dashboard.uid}?viewPanel={spot.number}" if base else ""
