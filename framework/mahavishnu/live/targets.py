"""What a Prometheus scrapes as the job of the service, and how."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from mahavishnu.contract import Contract
from mahavishnu.live.pace import Pace, length


def differences(found: list[dict[str, Any]], made: Contract, asked: list[Pace]) -> Iterator[str]:
    """Where its targets differ: there are some, they are up, and are asked at the paths and paces of the spec."""
    if not found:
        yield f"it scrapes nothing as job {made.job}"
    for one in found:
        if one["health"] != "up":
            yield f"target {one['scrapeUrl']} is {one['health']}: {one.get('lastError') or 'not scraped yet'}"
        if urlsplit(str(one["scrapeUrl"])).path != made.spec.observability.metrics.path:
            yield f"target {one['scrapeUrl']} is not at {made.spec.observability.metrics.path}"
        yield from _paced(one, asked)


def _paced(one: Mapping[str, Any], wanted: Iterable[Pace]) -> Iterator[str]:
    """Windows are so long as to hold some scrapes; a Prometheus before 2.28 does not say how often it scrapes."""
    for key, says, known in (
        ("scrapeInterval", "is scraped every", {each.interval for each in wanted}),
        ("scrapeTimeout", "must answer within", {each.timeout for each in wanted}),
    ):
        if known and one.get(key) and length(one[key]) not in known:
            said = " or ".join(map(str, sorted(known)))
            yield f"target {one['scrapeUrl']} {says} {one[key]}, and this spec says {said}"
