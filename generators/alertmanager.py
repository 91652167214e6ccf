"""Alertmanager: who hears of which alert, how soon, how often, and when not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mahavishnu.artifact import Artifact
from mahavishnu.contract import Contract
from mahavishnu.ground.secret_refs import name_of, stands_for_all
from mahavishnu.notify import HEARTBEAT, NOBODY, Channel, Email, PagerDuty, Quiet, Slack, Webhook, receiver
from mahavishnu.policy import camel
from mahavishnu.signals import Severity
from mahavishnu.spec import Spec

from ._go import literal
from ._render import render
from ._service import heartbeat

_SECRETS = "/run/secrets"
_TITLE = "{{ .CommonLabels.severity }} {{ .CommonLabels.alertname }}: {{ .Status }}"
# Alerts of one message have one name, and with it one action and one place each to look.
_LINK = "{{ or .CommonAnnotations.runbook_url .CommonAnnotations.panel_url }}"
_ONCE = (
    "{{ with .CommonAnnotations.action }}{{ . }}\n{{ end }}"
    "{{ with .CommonAnnotations.panel_url }}{{ . }}\n{{ end }}"
    "{{ with .CommonAnnotations.runbook_url }}{{ . }}\n{{ end }}"
)
_MIDNIGHT, _DAY_END = "00:00", "24:00"


class Rhythm(NamedTuple):
    """How long alerts are gathered before a first message, between two about news, before a reminder."""

    wait: str
    interval: str
    repeat: str


RHYTHMS: Mapping[Severity, Rhythm] = {
    Severity.P1: Rhythm("10s", "1m", "1h"),
    Severity.P2: Rhythm("30s", "5m", "4h"),
    Severity.P3: Rhythm("1m", "10m", "1d"),
    Severity.P4: Rhythm("5m", "1h", "3d"),
}
HEARTBEATS = Rhythm("0s", "1m", "5m")
_UNROUTED = "unrouted"
# PagerDuty's own words.
_PAGERDUTY = {Severity.P1: "critical", Severity.P2: "error", Severity.P3: "warning", Severity.P4: "info"}


class Route(NamedTuple):
    """What happens to the alerts of one severity."""

    severity: Severity
    receiver: str
    rhythm: Rhythm
    muted: tuple[str, ...]


class Receiver(NamedTuple):
    """A named set of destinations; without any, what it receives reaches nobody."""

    name: str
    slack: tuple[dict[str, str], ...] = ()
    pagerduty: tuple[dict[str, str], ...] = ()
    email: tuple[dict[str, str | bool], ...] = ()
    webhook: tuple[dict[str, str | bool], ...] = ()


class Interval(NamedTuple):
    """Quiet hours of one severity, cut at midnight: every part ends on the day on which it begins."""

    name: str
    parts: tuple[dict[str, str], ...]


def generate(contract: Contract) -> Iterable[Artifact]:
    """alertmanager.yml; secrets are files below /run/secrets, named as in the spec.

    All in it is of this service alone, and named after it: what another one says goes by, and finds its own file's
    entries where they stand beside these.
    """
    spec, job = contract.spec, contract.job
    intervals = _intervals(job, spec.alerts.quiet)
    quiet = {interval.name for interval in intervals}
    values: dict[str, object] = {
        "service": job,
        "down": f"{camel(job)}Down",
        "heartbeat": heartbeat(contract) if spec.alerts.heartbeat else None,
        "beat": {"receiver": receiver(job, HEARTBEAT), "rhythm": HEARTBEATS},
        "nobody": NOBODY,
        "unrouted": receiver(job, _UNROUTED),
        "receivers": [*_receivers(job, spec), Receiver(NOBODY)],
        "routes": [
            Route(severity, receiver(job, severity.value), rhythm, tuple({_quiet(job, severity)} & quiet))
            for severity, rhythm in RHYTHMS.items()
            if spec.channels
        ],
        "severities": [one.value for one in Severity if one is not Severity.P1],
        "slower": [
            (one.value, [other.value for other in Severity if other > one]) for one in list(Severity)[:-1]
        ],
        "intervals": intervals,
        "title": _TITLE,
        "link": _LINK if spec.alerts.runbooks or spec.alerts.dashboards else None,
        "text": _text(contract),
    }
    yield Artifact("alertmanager/alertmanager.yml", render("alertmanager/alertmanager.yml.j2", **values))
    yield Artifact(
        "alertmanager/routes.test.sh", render("alertmanager/routes.test.sh.j2", tests=_tests(contract))
    )


def _text(contract: Contract) -> str:
    """What is told of each alert: first of those that fire, then of those that are over; and once what to do."""
    told = (
        f"{{{{ range .Alerts.{state} }}}}{word}{{{{ .Annotations.summary }}}}{_which(contract)}\n{{{{ end }}}}"
        for state, word in (("Firing", ""), ("Resolved", "Resolved: "))
    )
    return f"{''.join(told)}{_ONCE}"


def _which(contract: Contract) -> str:
    """The labels that a rule measures, like the replica: the others say what the summary says."""
    names = dict.fromkeys(("alertname", "severity", "service", "job"))
    names |= dict.fromkeys(name for alert in contract.alerts for name, _ in alert.labels)
    known = " ".join(f'"{name}"' for name in names)
    pairs = f"(.Labels.Remove (stringSlice {known})).SortedPairs"
    return f"{{{{ range {pairs} }}}} {{{{ .Name }}}}={{{{ .Value }}}}{{{{ end }}}}"


def _tests(contract: Contract) -> list[tuple[str, list[str]]]:
    """For every alert that can fire, its labels as Alertmanager sees them, and the receiver it must end in.

    The same of another service, whose name could not be one, ends in none of ours.
    """
    job, found = contract.job, list[tuple[str, list[str]]]()
    for alert in contract.alerts:
        labels = {"alertname": alert.name, "severity": alert.severity.value, "service": job}
        ours = receiver(job, alert.severity.value) if contract.spec.channels else NOBODY
        found.append((ours, _words({**labels, **dict(alert.labels)})))
    if contract.spec.alerts.heartbeat:
        labels = {"alertname": heartbeat(contract), "severity": HEARTBEAT, "service": job}
        found.append((receiver(job, HEARTBEAT), _words(labels)))
    if contract.spec.channels:
        found.append((receiver(job, _UNROUTED), _words({"service": job})))
    strangers = [{"severity": one, "service": f"{job}-other"} for one in (*Severity, HEARTBEAT)]
    return [*found, *((NOBODY, _words(one)) for one in strangers)]


def _words(labels: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in labels.items()]


def _receivers(job: str, spec: Spec) -> list[Receiver]:
    """One for each severity; and everybody for what has none, so that somebody asks why."""
    if not spec.channels:
        return []
    people = spec.heard
    routes = {one: spec.alerts.route.get(one, people) for one in Severity}
    unrouted = _receiver(receiver(job, _UNROUTED), Severity.P3, [spec.channels[name] for name in people])
    beats = [spec.channels[name] for name in spec.alerts.heartbeat]
    return [
        *([_receiver(receiver(job, HEARTBEAT), Severity.P4, beats, lasting=True)] if beats else []),
        *(
            _receiver(
                receiver(job, one.value), one, [spec.channels[name] for name in dict.fromkeys(routes[one])]
            )
            for one in Severity
        ),
        unrouted,
    ]


def _receiver(
    name: str, severity: Severity, channels: Sequence[Channel], *, lasting: bool = False
) -> Receiver:
    return Receiver(
        name,
        slack=tuple(
            {"secret": _file(one.slack), "channel": literal(one.channel)}
            for one in channels
            if isinstance(one, Slack)
        ),
        pagerduty=tuple(
            {"secret": _file(one.pagerduty), "severity": _PAGERDUTY[severity]}
            for one in channels
            if isinstance(one, PagerDuty)
        ),
        email=tuple(_mail(one) for one in channels if isinstance(one, Email)),
        webhook=tuple(
            {
                "url": one.webhook,
                "file": _file(one.webhook) if stands_for_all(one.webhook) else "",
                "secret": _file(one.token) if one.token else "",
                # The end of a heartbeat is told by silence.
                "resolved": not lasting,
            }
            for one in channels
            if isinstance(one, Webhook)
        ),
    )


def _mail(one: Email) -> dict[str, str | bool]:
    sender = one.sender or one.email
    return {
        "to": literal(one.email),
        "from": literal(sender),
        "smarthost": one.smtp,
        "starttls": one.starttls,
        "user": sender,
        "secret": _file(one.password) if one.password else "",
    }


def _file(secret: str) -> str:
    return f"{_SECRETS}/{name_of(secret)}"


def _quiet(job: str, severity: Severity) -> str:
    return f"{job}-quiet-{severity.value}"


def _intervals(job: str, quiet: Sequence[Quiet]) -> list[Interval]:
    found: dict[str, list[dict[str, str]]] = {}
    for one in quiet:
        ends = (one.end,) if one.start < one.end else (_DAY_END, one.end)
        starts = (one.start, _MIDNIGHT)
        parts = [
            {"start": start, "end": end, "location": one.timezone}
            for start, end in zip(starts, ends, strict=False)
            if start < end
        ]
        found.setdefault(_quiet(job, one.severity), []).extend(parts)
    return [Interval(name, tuple(parts)) for name, parts in found.items()]
