"""What an alert links to: its page among the runbooks, and its panel in Grafana."""

from __future__ import annotations

from urllib.parse import urlsplit

from mahavishnu.contract import Contract
from mahavishnu.derived.dashboards import Dashboard, Spot
from mahavishnu.derived.lookback import ago, lookback
from mahavishnu.signals import Alert
from mahavishnu.units import Duration

_SHOWN = Duration.parse("3h")
"""What a dashboard shows by itself."""


def runbook_file(alert: Alert) -> str:
    """The page of an alert, below the folder of runbooks."""
    return f"{alert.name}.md"


def runbook_url(made: Contract, alert: Alert) -> str:
    """Its address; empty where the spec does not say where runbooks are served."""
    return _below(made.spec.alerts.runbooks, runbook_file(alert))


def dashboard_url(made: Contract, dashboard: Dashboard) -> str:
    """The address of a dashboard; empty where the spec does not say where Grafana is."""
    return _below(made.spec.alerts.dashboards, f"d/{dashboard.uid}")


def panel_url(made: Contract, alert: Alert, spot: Spot) -> str:
    """The address of an alert's panel, as far back as it looks; empty where the spec does not say where Grafana is."""
    long = lookback(made, alert).long
    back = f"&from=now-{ago(long)}&to=now" if long > _SHOWN else ""
    return _below(made.spec.alerts.dashboards, f"d/{spot.dashboard.uid}", f"viewPanel={spot.number}{back}")


def _below(base: str | None, path: str, query: str = "") -> str:
    """An address below another one, whose own query and fragment it keeps."""
    if base is None:
        return ""
    here = urlsplit(base)
    asked = "&".join(one for one in (query, here.query) if one)
    return here._replace(path=f"{here.path.rstrip('/')}/{path}", query=asked).geturl()
