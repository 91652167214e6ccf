"""MV408: nobody would hear that the alerting itself is dead."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.ground.words import meant
from mahavishnu.notify import Webhook

CODE = Code(
    "MV408",
    "no heartbeat of the alerting",
    "Every alert rests on Prometheus and Alertmanager. When one of them is dead all is quiet, which looks like all is "
    "well. A heartbeat is an alert that always fires: a service outside hears it every few minutes, and calls when it "
    "does not.",
    "service: {tier: critical}\nchannels: {room: {…}}   # and no alerts.heartbeat",
    "Add a webhook of a service that watches heartbeats as a channel, and name it in `alerts.heartbeat`.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """The heartbeat's channels, and whether a critical service has any."""
    spec, known = facts.spec, [*facts.spec.channels]
    for index, name in enumerate(spec.alerts.heartbeat):
        path = ("alerts", "heartbeat", index)
        if name not in known:
            what = f"the heartbeat goes to channel `{name}`, which is not defined"
            yield error(CODE, path, what, meant(name, known) or f"add `{name}` under `channels`")
        elif not isinstance(spec.channels[name], Webhook):
            what = f"the heartbeat goes to people: channel `{name}` would tell them every few minutes that all is well"
            yield error(CODE, path, what, "name a webhook of a service that calls when it is not told")
    if spec.service.tier == "critical" and known and not spec.alerts.heartbeat:
        what = "this service is critical, and nobody would hear that Prometheus or Alertmanager is dead"
        yield warning(CODE, ("alerts",), what, CODE.help)
