"""Stores at addresses that lead back to who asks, as both checks of them see and say it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from mahavishnu.ground.addresses import leads_back
from mahavishnu.ground.words import listing
from mahavishnu.spec import Spec

HIDDEN = 'where a proxy of yours answers there, give the URL as a secret, `"${REDIS_URL}"`'
"""What to do where the address is right: what a secret says is not judged."""


def shown(url: str) -> str:
    """Where a URL leads, without anything of it that might be a secret."""
    return f"`{urlsplit(url).hostname}`" if urlsplit(url).hostname else "a Unix socket"


def unshared(spec: Spec) -> tuple[str, ...]:
    """What the whole fleet should count and say together, where each of its replicas has the store to itself."""
    alone = spec.deploy.replicas.max > 1 and spec.deploy.targets.any and leads_back(spec.store)
    return tuple(_together(spec)) if alone else ()


def _together(spec: Spec) -> Iterator[str]:
    rates, breakers = spec.fleet_rates, spec.fleet_breakers
    if rates:
        yield f"limit{'s' if len(rates) > 1 else ''} {listing(rates)}"
    if breakers:
        yield f"the breaker{'s' if len(breakers) > 1 else ''} of {listing(breakers)}"
