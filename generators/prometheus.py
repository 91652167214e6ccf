"""Prometheus: what it scrapes, its rules with the enforced numbers, and the tests that prove each alert."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple

from mahavishnu.artifact import Artifact, Query
from mahavishnu.contract import Contract
from mahavishnu.derived.dashboards import Spot, dashboards, spots
from mahavishnu.derived.links import panel_url, runbook_url
from mahavishnu.notify import HEARTBEAT
from mahavishnu.policy import camel
from mahavishnu.promql import Call, Expr, Number
from mahavishnu.signals import Alert, Recording
from mahavishnu.units import Duration

from . import _prove
from ._go import literal
from ._promtool import FAST, SLOW
from ._render import render
from ._service import heartbeat, host

PACE = Duration.parse("15s")
"""How often Prometheus scrapes, and asks its rules, wherever it is: windows are so long as to hold some scrapes."""
_TIMEOUT = Duration.parse("10s")
# Rates over days are costly and change slowly; below Prometheus' five minutes of memory for an old value.
_COSTLY = Duration.parse("1d")
_COSTLY_INTERVAL = Duration.parse("2m")
_ALWAYS = Call("vector", (Number(Decimal(1)),))
_VALUES = {
    "ratio": "{{ $value | humanizePercentage }}",
    "seconds": "{{ $value | humanizeDuration }}",
    "bytes": "{{ $value | humanize1024 }}B",
    "count": '{{ printf "%.4g" $value }}',
    "events": '{{ printf "%.0f" $value }}',  # an increase is extrapolated, and no event is 1.004 of one
}


class Rule(NamedTuple):
    """One rule as it is written; `alert` and `record` exclude each other."""

    expr: str
    labels: dict[str, str]
    alert: str | None = None
    record: str | None = None
    hold: Duration | None = None
    annotations: dict[str, str] | None = None


class Group(NamedTuple):
    """Rules that are evaluated together, in order."""

    name: str
    rules: tuple[Rule, ...]
    interval: Duration


def generate(contract: Contract) -> Iterable[Artifact]:
    """prometheus.yml, rules.yml, and its tests in two files: minutes, and (where there are any) hours."""
    groups, scraping = _groups(contract), _scraping(contract)
    yield Artifact("prometheus/prometheus.yml", render("prometheus/prometheus.yml.j2", **scraping))
    if kubernetes := contract.spec.deploy.targets.kubernetes:
        values = {**scraping, "namespace": kubernetes.namespace}
        yield Artifact(
            "prometheus/scrape.kubernetes.yml", render("prometheus/scrape.kubernetes.yml.j2", **values)
        )
    yield Artifact(
        "prometheus/rules.yml", render("prometheus/rules.yml.j2", groups=groups), tuple(_queries(contract))
    )
    paces = (
        ("rules.test.yml", FAST, _prove.fast(contract)),
        ("rules.slow.test.yml", SLOW, _prove.slow(contract)),
    )
    for name, pace, tests in paces:
        if tests:
            beat = heartbeat(contract) if contract.spec.alerts.heartbeat and pace is FAST else None
            values = {"step": pace.step, "groups": groups, "tests": tests, "heartbeat": beat}
            yield Artifact(f"prometheus/{name}", render("prometheus/rules.test.yml.j2", **values))


def _queries(contract: Contract) -> Iterator[Query]:
    for one in contract.recordings:
        labels = ",".join(f"{name}={value}" for name, value in one.labels)
        yield Query("recordings", f"{one.signal.name}{{{labels}}}", one.expr)
    yield from (Query("alerts", one.name, one.expr) for one in contract.alerts)
    if contract.spec.alerts.heartbeat:
        yield Query("heartbeats", heartbeat(contract), _ALWAYS)


def _scraping(contract: Contract) -> dict[str, object]:
    spec = contract.spec
    return {
        "job": contract.job,
        "pace": PACE,
        "timeout": min(PACE, _TIMEOUT),
        "host": host(contract),
        "path": spec.observability.metrics.path,
        "port": spec.service.port,
    }


def _groups(contract: Contract) -> tuple[Group, ...]:
    job = contract.job
    long = {one.signal.name for one in contract.recordings if _window(one.expr) >= _COSTLY}
    quick, costly = list[Recording](), list[Recording]()
    for one in contract.recordings:
        (costly if long & {one.signal.name, *_names(one.expr)} else quick).append(one)
    sections = dict.fromkeys(str(alert.path[0]) for alert in contract.alerts)
    shown = spots(dashboards(contract))
    groups = [
        # What time is counted by is quick, and the costly ones rest on it.
        Group(f"{job}-recordings", tuple(map(_recording, quick)), PACE),
        Group(f"{job}-recordings-costly", tuple(map(_recording, costly)), _COSTLY_INTERVAL),
        Group(f"{job}-heartbeat", tuple(_heartbeat(contract)), PACE),
        *(Group(f"{job}-{section}", tuple(_alerts(contract, section, shown)), PACE) for section in sections),
    ]
    return tuple(group for group in groups if group.rules)


def _window(expr: Expr) -> int:
    return max((int(one.window) for one in expr.selectors() if one.window is not None), default=0)


def _names(expr: Expr) -> set[str]:
    return {one.signal.name for one in expr.selectors()}


def _recording(one: Recording) -> Rule:
    return Rule(record=one.signal.name, expr=one.expr.render(), labels=dict(one.labels))


def _alerts(contract: Contract, section: str, shown: Mapping[str, Spot]) -> Iterator[Rule]:
    for alert in contract.alerts:
        if str(alert.path[0]) == section:
            yield Rule(
                alert=alert.name,
                expr=alert.expr.render(),
                hold=alert.hold,
                labels={"severity": alert.severity.value, "service": contract.job, **dict(alert.labels)},
                annotations=_annotations(contract, alert, shown[alert.name]),
            )


def _heartbeat(contract: Contract) -> Iterator[Rule]:
    """An alert that always fires: who does not hear it knows that no other one would be heard."""
    if contract.spec.alerts.heartbeat:
        said = {
            "summary": f"{camel(contract.job)}: alerts are evaluated and sent.",
            "description": "This always fires. When it is not heard any more, Prometheus or Alertmanager is dead.",
        }
        labels = {"severity": HEARTBEAT, "service": contract.job}
        yield Rule(alert=heartbeat(contract), expr=_ALWAYS.render(), labels=labels, annotations=said)


def _annotations(contract: Contract, alert: Alert, spot: Spot) -> dict[str, str]:
    spec = contract.spec
    text = {
        "description": literal(f"{alert.meaning} {alert.impact}".strip()),
        "action": literal(alert.action),
        "owner": literal(spec.service.owner or ""),
        "runbook_url": literal(runbook_url(contract, alert)),
        "panel_url": literal(panel_url(contract, alert, spot)),
    }
    value = _VALUES[alert.unit]
    summary = value.join(map(literal, alert.summary.split("$value")))
    return {
        "summary": f"{camel(contract.job)}: {summary}",
        **{name: said for name, said in text.items() if said},
    }
