"""Hosts of webhooks whose URL is itself the secret, by what they want to be sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

HOSTS: Mapping[str, str] = {
    "Slack": r"hooks\.slack(-gov)?\.com",
    "Discord": r"((ptb|canary)\.)?discord(app)?\.com",
    "PagerDuty": r"events\.(eu\.)?pagerduty\.com",
    "Teams": r"([a-z0-9-]+\.)*webhook\.office\.com|outlook\.office(365)?\.com",
    "Google Chat": r"chat\.googleapis\.com",
    "a watcher of heartbeats": r"hc-ping\.com|nosnch\.in|cronitor\.link|heartbeat\.uptimerobot\.com",
}
"""Patterns of their names; only the last take whatever they are sent."""
_ANY = "|".join(HOSTS.values())
SECRET_PART = re.compile(rf"(?<=://)(?:{_ANY})(?::[0-9]+)?/(?P<secret>[^\s\"',}}]+)", re.IGNORECASE)
"""In its group, what of such a URL lets anybody post there."""


def whose(url: str) -> str:
    """Who is behind the host of a URL, where that is known; empty elsewhere."""
    host = urlsplit(url).hostname or ""
    return next((who for who, pattern in HOSTS.items() if re.fullmatch(pattern, host)), "")
