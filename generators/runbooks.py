"""Runbooks: a page for each alert, and guides for incidents and for maintenance, from the facts of one contract."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from mahavishnu.artifact import Artifact, Query
from mahavishnu.contract import Contract
from mahavishnu.derived.alert_causes import began, behind, failed, failing
from mahavishnu.derived.dashboards import Dashboard, Spot, dashboards, spots
from mahavishnu.derived.forgetting import lives
from mahavishnu.derived.links import dashboard_url, panel_url, runbook_file
from mahavishnu.derived.lookback import DAY, ago, lookback
from mahavishnu.derived.panels import Panel
from mahavishnu.errors import Path
from mahavishnu.files.notes import BEGIN, END
from mahavishnu.notify import Channel, Email, PagerDuty, Slack
from mahavishnu.policies.rate import Rate
from mahavishnu.policy import camel
from mahavishnu.signals import Alert, Severity
from mahavishnu.spec import Spec
from mahavishnu.units import Duration

from . import _by_hand, _commands, alertmanager
from ._command import Command
from ._places import targets
from ._render import Code, Link, Mark, render, yaml_document
from ._service import (
    alert_secrets,
    app_secrets,
    image,
    jobs_secrets,
    passwords_of_repositories,
    said,
    seconds,
    sharers,
    sidecar_secrets,
)

_ACT = {Severity.P1: "now", Severity.P2: "within the hour", Severity.P3: "today", Severity.P4: "this week"}


_BEFORE = Duration.parse("6h")
"""So far back the guide for incidents looks for what failed."""


class Block(NamedTuple):
    """A sentence, and what is typed for it."""

    purpose: str
    code: Code


def generate(contract: Contract) -> Iterable[Artifact]:
    """The pages: an index, a guide for incidents, one for maintenance, and one page for each alert."""
    boards = dashboards(contract)
    shown = spots(boards)
    every: dict[str, object] = {
        "job": contract.job,
        "owner": contract.spec.service.owner,
        "down": Code(f"{camel(contract.job)}Down", inline=True),
        "boards": _boards(contract, boards),
        "wanted": _commands.wanted(contract),
        "begin": Mark(BEGIN),
        "end": Mark(END),
        "unsilence": Code(_commands.unsilence()),
        **_anywhere(contract),
    }
    whole = said(contract.spec, exclude_none=True)
    for name, values in (
        ("README", _index(contract)),
        ("incident-response", _incident(contract, boards)),
        ("maintenance", _maintenance(contract, whole)),
    ):
        yield Artifact(f"runbooks/{name}.md", render(f"runbooks/{name}.md.j2", **{**every, **values}))
    for alert in contract.alerts:
        rests = behind(contract, alert)
        values = _page(contract, alert, shown[alert.name], rests, _numbers(whole, alert.path))
        text = render("runbooks/alert.md.j2", **every, **values)
        asked = tuple(_asked(alert, (*rests, *began(contract, alert))))
        yield Artifact(f"runbooks/{runbook_file(alert)}", text, asked)


def _asked(alert: Alert, rests: Iterable[Panel]) -> Iterator[Query]:
    yield Query("runbooks", alert.name, alert.expr)
    for panel in rests:
        yield from (Query("runbooks", alert.name, query.expr) for query in panel.queries)


# --- the page of an alert -----------------------------------------------------------------------------------


def _anywhere(contract: Contract) -> dict[str, object]:
    """What several pages say in the same words."""
    places = targets(contract)
    return {
        "changes": _blocks(_changes(contract)),
        "more": any(place.before() or place.after() for place in places),
        "undo": _blocks(one for place in places for one in place.titled(*place.undo())),
    }


def _page(
    contract: Contract, alert: Alert, spot: Spot, rests: Iterable[Panel], numbers: str
) -> dict[str, object]:
    panel, places = spot.panel, targets(contract)
    back = lookback(contract, alert)
    long = max(back.long, DAY)
    return {
        "alert": alert,
        "severity": f"{alert.severity}, so act {_ACT[alert.severity]}",
        "told": _told(contract.spec, alert.severity),
        "summary": alert.summary.replace("$value", "…"),
        "hold": alert.hold,
        "path": Code(".".join(map(str, alert.path)), inline=True),
        "panel": _link(f"panel {spot.number} of {spot.dashboard.title}", panel_url(contract, alert, spot)),
        "row": spot.row.title,
        "condition": Code(alert.expr.render()),
        "measured": [Code(_commands.ask(query.expr)) for query in panel.queries],
        "back": ago(long),
        "measured_back": [Code(_commands.ask_back(query.expr, long)) for query in panel.queries],
        "bound": [f"{bound:f}" for bound in panel.bounds],
        "behind": _behind(rests, panel),
        "began": _back(began(contract, alert), long),
        "looks": _looks(contract, str(alert.path[0]), _url(contract.spec, alert), back.log),
        "numbers": Code(numbers.rstrip("\n")) if numbers else None,
        "redriven": _blocks(_commands.redriven(contract) if alert.path[0] == "dead_letters" else ()),
        "mode": alert.path in _enforced(contract),
        "restarts": _blocks(
            one for place in places if len(alert.path) == 1 for one in place.titled(place.restart())
        ),
        "silence": Code(_commands.silence(alert.name)),
        "explain": Code(_commands.verbs(contract, "explain", alert.name)),
    }


def _behind(rests: Iterable[Panel], panel: Panel) -> list[Block]:
    """The series that it rests on, as far as it does not show them itself."""
    own = {query.expr for query in panel.queries}
    asked = ((one.title, query) for one in rests for query in one.queries)
    return [
        Block(f"{title} ({query.name})" if query.name else title, Code(_commands.ask(query.expr)))
        for title, query in asked
        if query.expr not in own and (query.legend or query.name)
    ]


def _back(panels: Iterable[Panel], long: Duration) -> list[Block]:
    """When it was that there was something to see."""
    return [
        Block(f"{panel.title}, of the last {ago(long)}", Code(_commands.ask_back(query.expr, long)))
        for panel in panels
        for query in panel.queries
    ]


def _url(spec: Spec, alert: Alert) -> str | None:
    """Where the dependency is that an alert is about."""
    return spec.dependencies[str(alert.path[1])].url if alert.path[0] == "dependencies" else None


@lru_cache(maxsize=64)
def _looks(contract: Contract, section: str, url: str | None, back: Duration) -> list[Block]:
    """Where to look next: the service's own answers, and where it runs."""
    found = [Command("Whether it takes requests", _commands.get(contract, "/readyz"))]
    if section == "limits":
        found += _commands.refused(contract)
    if section == "dead_letters":
        found += _commands.letters(contract)
    for place in targets(contract):
        logs = place.jobs() if section == "backups" else [place.logs(back)]
        ended = place.ended() if section == "service" else []
        found += place.titled(*place.state(), *ended, *logs, *place.reach(url))
    return _blocks(found)


def _changes(contract: Contract) -> Iterator[Command]:
    """From a changed spec to the service at work, as far as every change goes."""
    yield from _written(contract)
    for place in targets(contract):
        yield from place.titled(*place.roll_out())


def _whole_changes(contract: Contract) -> Iterator[Command]:
    """The same with what only some changes want, because something comes or goes with them."""
    yield from _written(contract)
    for place in targets(contract):
        yield from place.titled(*place.before(), *place.roll_out(), *place.after())


def _written(contract: Contract) -> Iterator[Command]:
    yield Command("See what is wrong with it, if anything", _commands.verbs(contract, "check"))
    yield Command(
        "Write everything that follows from it",
        _commands.verbs(contract, "generate", "--out", contract.place),
    )


def _numbers(whole: Mapping[str, Any], path: Path) -> str:
    """What the spec says at the place that asked for an alert; empty where that is no entry of its own."""
    said: Any = whole
    for step in path:
        said = cast("dict[str, Any]", said).get(str(step)) if isinstance(said, dict) else None
    named = {".".join(map(str, path)): cast("object", said)}
    return yaml_document(named) if isinstance(said, dict) and len(path) > 1 else ""


@lru_cache(maxsize=4)
def _enforced(contract: Contract) -> frozenset[Path]:
    """Where something stands that refuses now, and could only watch."""
    policies = contract.spec.policies()
    return frozenset(path for path, _, policy in policies if getattr(policy, "mode", "") == "enforce")


# --- who is told --------------------------------------------------------------------------------------------


def _channel(name: str, channel: Channel) -> str:
    if isinstance(channel, Slack):
        return f"{name} (Slack {channel.channel})"
    if isinstance(channel, Email):
        return f"{name} (mail to {channel.email})"
    if isinstance(channel, PagerDuty):
        return f"{name} (PagerDuty)"
    # No more of a URL: whoever has the rest of it may post there, too.
    return f"{name} (POST to {urlsplit(channel.webhook).hostname or channel.webhook})"


def _told(spec: Spec, severity: Severity) -> str:
    names = dict.fromkeys(spec.alerts.route.get(severity, spec.heard))
    return (
        ", ".join(_channel(name, spec.channels[name]) for name in names) or "nobody: the spec has no channels"
    )


def _quiet(spec: Spec, severity: Severity) -> str:
    hours = (one for one in spec.alerts.quiet if one.severity is severity)
    return ", ".join(f"{one.start} to {one.end} ({one.timezone})" for one in hours) or "never"


# --- the guides ---------------------------------------------------------------------------------------------


def _index(contract: Contract) -> dict[str, object]:
    rows = [
        {
            "severity": alert.severity,
            "page": Link(alert.name, runbook_file(alert)),
            "summary": alert.summary.replace("$value", "…"),
        }
        for alert in sorted(contract.alerts, key=lambda alert: alert.severity)
    ]
    return {"rows": rows, "backed_up": bool(contract.spec.backups)}


def _boards(contract: Contract, boards: Iterable[Dashboard]) -> list[Link]:
    return [
        Link(one.title, dashboard_url(contract, one) or f"../grafana/dashboards/{one.name}.json")
        for one in boards
    ]


def _link(text: str, url: str) -> Link | str:
    return Link(text, url) if url else text


def _incident(contract: Contract, boards: Iterable[Dashboard]) -> dict[str, object]:
    spec, places = contract.spec, targets(contract)
    severities = [
        {
            "name": one,
            "act": _ACT[one],
            "told": _told(spec, one),
            "wait": alertmanager.RHYTHMS[one].wait,
            "repeat": alertmanager.RHYTHMS[one].repeat,
            "quiet": _quiet(spec, one),
            "alerts": sum(alert.severity is one for alert in contract.alerts),
        }
        for one in Severity
    ]
    return {
        "severities": severities,
        "firing": Code(_commands.firing()),
        "alive": _blocks(
            [
                Command("Whether the process lives", _commands.get(contract, "/healthz")),
                Command("Whether it takes requests", _commands.get(contract, "/readyz")),
                *(one for place in places for one in place.titled(*place.state())),
            ]
        ),
        "logs": _blocks(one for place in places for one in place.titled(place.logs())),
        "requests": _service_queries(boards),
        "failed": _failed(contract),
        "spec": Code(_metric(contract, "mahavishnu_spec_")),
        "drift": Code(_commands.verbs(contract, "generate", "--check", "--out", contract.place)),
        "running": Code(_commands.running(contract)),
        "restarts": _blocks(one for place in places for one in place.titled(place.restart())),
        "refused": _blocks(_commands.refused(contract)),
        "example": Code(_commands.verbs(contract, "explain", contract.alerts[0].name)),
    }


def _service_queries(boards: Iterable[Dashboard]) -> list[Block]:
    (service,) = (one for one in boards if one.name == "service")
    return [
        Block(panel.title, Code(_commands.ask(panel.queries[0].expr))) for panel in service.rows[0].panels[:3]
    ]


def _failed(contract: Contract) -> list[Block]:
    """What failed in the last hours, and when, for whoever comes later."""
    panel = failed(contract, _BEFORE)
    blocks = [Block(panel.title, Code(_commands.ask(query.expr))) for query in panel.queries]
    return [*blocks, *_back([failing(contract, _BEFORE)], _BEFORE)]


def _metric(contract: Contract, start: str) -> str:
    return f"{_commands.get(contract, contract.spec.observability.metrics.path)} | grep '^{start}'"


def _maintenance(contract: Contract, said: Mapping[str, Any]) -> dict[str, object]:
    spec, places = contract.spec, targets(contract)
    own, alerting, passwords = app_secrets(spec), alert_secrets(spec), passwords_of_repositories(spec)
    return {
        "image": Code(image(contract), inline=True),
        "changes": _blocks(_whole_changes(contract)),
        "checks": _blocks(
            [
                Command(
                    "Prove the rules and routes", _commands.verbs(contract, "test", "--out", contract.place)
                )
            ]
        ),
        "states": _blocks(one for place in places for one in place.titled(*place.state())),
        "restarts": _blocks(one for place in places for one in place.titled(place.restart())),
        "reload": Code(_metric(contract, "mahavishnu_spec_reload")),
        "kept": [*lives(spec)],
        "keepers": [{"name": name, "blocks": _blocks(one)} for name, one in _commands.keepers(contract)],
        "shutdown": f"{seconds(spec.deploy.shutdown)} s",
        "replicas": spec.deploy.replicas,
        "own": [name for name in own if name not in passwords],
        "alerting": alerting,
        "jobs": [name for name in jobs_secrets(spec) if name not in passwords],
        "passwords": passwords,
        "sharers": sharers(spec),
        "rotated": _blocks(_by_hand.rotated(contract)),
        "forgotten": _blocks(_by_hand.forgotten(contract)),
        "watching": sidecar_secrets(spec).get("grafana", []),
        "secrets": _blocks(one for place in places for one in place.titled(*place.secrets())),
        "limit": _limit(contract, said),
        "silence": Code(_commands.silence_all(contract)),
        "silences": Code(_commands.silences()),
        "config": Code(_commands.verbs(contract, "config")),
    }


def _limit(contract: Contract, said: Mapping[str, Any]) -> dict[str, object] | None:
    """A rate of the spec, as an example of a number that grows too small."""
    for name, limit in contract.spec.limits.items():
        if isinstance(limit, Rate):
            numbers = _numbers(said, ("limits", name))
            explain = Code(_commands.verbs(contract, "explain", f"limits.{name}.rate"))
            return {"name": name, "numbers": Code(numbers.rstrip("\n")), "explain": explain}
    return None


def _blocks(commands: Iterable[Command]) -> list[Block]:
    return [Block(one.purpose, Code(one.text)) for one in commands]
