"""MV405: alerts that reach nobody."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV405",
    "alerts that reach nobody",
    "An alert that fires into the void is the same as none, but looks like one.",
    "channels: {room: {…}}\nalerts: {route: {P1: [room]}}   # and P2, P3, P4?",
    "Give every severity a channel under `alerts.route`; without a route every channel but those of the heartbeat gets "
    "everything.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every severity that some alert has, against the routes."""
    spec, alerts = facts.spec, facts.contract().alerts
    if not spec.channels:
        what = f"{len(alerts)} alerts can fire, and there is no channel to tell anyone"
        yield warning(CODE, ("channels",), what, "add a channel: slack, pagerduty, email or webhook")
    elif spec.alerts.route:
        for severity in sorted({alert.severity for alert in alerts}):
            if severity not in spec.alerts.route:
                count = sum(alert.severity == severity for alert in alerts)
                what = f"alerts of severity {severity} go to no channel: {count} of this spec"
                help = f"add `{severity}: [{next(iter(spec.channels))}]`"
                yield error(CODE, ("alerts", "route"), what, help)
    elif not spec.heard:
        what = f"{len(alerts)} alerts can fire, and every channel hears the heartbeat alone"
        yield error(
            CODE, ("alerts", "heartbeat"), what, "add a channel of people: slack, pagerduty, email or webhook"
        )
