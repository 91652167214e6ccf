"""A running Prometheus: rules, targets of the job, series, who is told, how long it remembers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlencode

from mahavishnu.contract import Contract
from mahavishnu.live import rules as loading
from mahavishnu.live import sending
from mahavishnu.live import targets as scraped
from mahavishnu.live.fetch import configuration, data
from mahavishnu.live.missing import missing
from mahavishnu.live.pace import length, paces
from mahavishnu.live.relabelling import Labels
from mahavishnu.signals import LATELY

_ALERTING = re.compile(r"^(?:global|alerting):.*\n(?:(?: .*)?\n)*", re.MULTILINE)


def differences(url: str, made: Contract, rules: str, scraping: Iterable[str]) -> Iterator[str]:
    """Where a running Prometheus differs: rules, targets of the job, series, who is told, how long it remembers.

    `scraping` are the texts that say how the job is scraped, each for a Prometheus of its own.
    """
    base = f"{url.rstrip('/')}/api/v1"
    written: loading.Groups = configuration(rules)["groups"]
    yield from loading.differences(data(f"{base}/rules")["groups"], written)
    targets: list[dict[str, Any]] = data(f"{base}/targets?state=active")["activeTargets"]
    yield from scraped.differences(
        [one for one in targets if one["labels"].get("job") == made.job], made, [*paces(scraping, made.job)]
    )
    if names := _scraped(base, made.job):
        yield from missing(names, made)
    else:
        yield f"it has no series of job {made.job} from the last {LATELY}"
    alerting = configuration(_sections(data(f"{base}/status/config")["yaml"]))
    yield from sending.differences(alerting, _alerts(written))
    if not data(f"{base}/alertmanagers")["activeAlertmanagers"]:
        yield "it knows no Alertmanager: its alerts reach nobody"
    kept = str(data(f"{base}/status/runtimeinfo").get("storageRetention", ""))
    wanted = made.spec.retention.metrics
    if any(length(one) != wanted for one in kept.split(" or ") if one[-1:].islower()):  # and no size
        yield f"it keeps its series for {kept}, and retention.metrics is {wanted}"


def _scraped(base: str, job: str) -> set[str]:
    """The names of the job's series now; what there was before is remembered by Prometheus for weeks."""
    query = f'count by (__name__) (last_over_time({{job="{job}"}}[{LATELY}]))'
    found: list[dict[str, Any]] = data(f"{base}/query?{urlencode({'query': query})}")["result"]
    return {str(one["metric"].get("__name__")) for one in found}


def _sections(config: str) -> str:
    """What a configuration says of alerting: the jobs of a whole cluster are megabytes."""
    return "".join(found[0] for found in _ALERTING.finditer(f"{config}\n")) or "{}"


def _alerts(groups: loading.Groups) -> Iterator[Labels]:
    """The labels of each alert."""
    for group in groups:
        for rule in group["rules"]:
            if "alert" in rule:
                labels: dict[str, object] = rule.get("labels") or {}
                yield {name: str(value) for name, value in {**labels, "alertname": rule["alert"]}.items()}
