"""MV230: a webhook that cannot take an alert, or that is itself a secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mahavishnu.checks._facts import Facts, error, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.ground.hooks import whose
from mahavishnu.notify import Webhook

CODE = Code(
    "MV230",
    "a webhook that cannot take an alert, or is itself a secret",
    "`webhook` is sent Alertmanager's own JSON. Slack, Discord, Teams, Google Chat and PagerDuty refuse that, so the "
    "channel would reach nobody. Their URLs, and those of services that watch heartbeats, are secrets besides: whoever "
    "reads one in the repository can post there, or say that all is well.",
    'channels: {room: {webhook: "https://hooks.slack.com/services/…"}}',
    'Use the channel that is meant for it, like `slack: "${NAME}"`; where nothing but the URL is secret, write '
    '`webhook: "${NAME}"`. A URL that has been in the repository has been seen: replace it.',
)
_BETWEEN = "use `email`, or a webhook of your own that translates"
_INSTEAD: Mapping[str, str] = {
    "Slack": 'write `slack: "${NAME}"` with a `channel`',
    "Discord": 'write `slack: "${NAME}"` with a `channel`, and `/slack` at the end of the secret URL',
    "PagerDuty": 'write `pagerduty: "${NAME}"`, the routing key of an integration',
    "Teams": _BETWEEN,
    "Google Chat": _BETWEEN,
}


def check(facts: Facts) -> Iterator[Problem]:
    """Every webhook at a host that is known."""
    for name, one in facts.spec.channels.items():
        who = whose(one.webhook) if isinstance(one, Webhook) else ""
        path = ("channels", name, "webhook")
        if who in _INSTEAD:
            what = f"{who} does not take what Alertmanager posts, so channel `{name}` would reach nobody"
            yield error(CODE, path, what, f"{_INSTEAD[who]}; the URL is a secret, and has been seen here")
        elif who:
            what = f"whoever reads the URL of `{name}` can say in its place that all is well"
            help = 'write `webhook: "${NAME}"`, a secret that holds the URL, and declare it in `secrets`'
            yield warning(CODE, path, what, help)
