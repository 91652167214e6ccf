"""How often a Prometheus scrapes a job, and how long it waits for an answer, as its configuration says it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

from mahavishnu.loading import nodes, yaml_tree
from mahavishnu.units import Duration

# Prometheus' own.
_INTERVAL, _TIMEOUT = Duration.parse("1m"), Duration.parse("10s")


class Pace(NamedTuple):
    """Between two scrapes, and within one."""

    interval: Duration
    timeout: Duration


def paces(configs: Iterable[str], job: str) -> Iterator[Pace]:
    """That of the job in each text that has it: a whole configuration, or the list below `scrape_configs`."""
    for text in configs:
        tree = yaml_tree.read(text.encode(), "").tree
        said: Any = nodes.plain(tree) if tree else {}
        whole = cast("Mapping[str, Any]", said if isinstance(said, dict) else {"scrape_configs": said})
        for one in whole.get("scrape_configs") or ():
            if one.get("job_name") == job:
                yield _pace(one, whole.get("global") or {})


def length(said: str) -> Duration:
    """A length as Prometheus spells it, which has years, of 365 days."""
    return Duration.parse(re.sub(r"(\d+)y", lambda match: f"{365 * int(match[1])}d", said))


def _pace(job: Mapping[str, Any], everywhere: Mapping[str, Any]) -> Pace:
    """Nobody waits for an answer longer than until the next scrape."""
    interval, timeout = (job.get(key) or everywhere.get(key) for key in ("scrape_interval", "scrape_timeout"))
    every = Duration.parse(str(interval)) if interval else _INTERVAL
    return Pace(every, min(every, Duration.parse(str(timeout)) if timeout else _TIMEOUT))
