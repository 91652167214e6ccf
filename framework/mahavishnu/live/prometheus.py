"""A running Prometheus: rules, targets of the job, series, who is told, how long it remembers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlencode

from mahavishnu.contract import Contract
from mahavishnu.live import rules as loading
from mahavishnu.live import targets as scraped
from mahavishnu.live.fetch import configuration, data
from mahavishnu.live.missing import missing
from mahavishnu.live.pace import length, paces


def differences(url: str, made: Contract, rules: str, scraping: Iterable[str]) -> Iterator[str]:
    """Where a running Prometheus differs: rules, targets of the job, series, who is told, how long it remembers.

    `scraping` are the texts that say how the job is scraped, each for a Prometheus of its own.
    """
    base = f"{url.rstrip('/')}/api/v1"
    yield from loading.differences(data(f"{base}/rules")["groups"], configuration(rules)["groups"])
    targets: list[dict[str, Any]] = data(f"{base}/targets?state=active")["activeTargets"]
    yield from scraped.differences(
        [one for one in targets if one["labels"].get("job") == made.job], made, [*paces(scraping, made.job)]
    )
    query = urlencode({"match[]": f'{{job="{made.job}"}}'})
    yield from missing({str(one) for one in data(f"{base}/label/__name__/values?{query}")}, made)
    if not data(f"{base}/alertmanagers")["activeAlertmanagers"]:
        yield "it knows no Alertmanager: its alerts reach nobody"
    kept = str(data(f"{base}/status/runtimeinfo").get("storageRetention", ""))
    wanted = made.spec.retention.metrics
    if any(length(one) != wanted for one in kept.split(" or ") if one[-1:].islower()):  # and no size
        yield f"it keeps its series for {kept}, and retention.metrics is {wanted}"
