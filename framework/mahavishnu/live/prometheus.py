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
from mahavishnu.live.fetch import Site, configuration
from mahavishnu.live.missing import missing
from mahavishnu.live.pace import length, paces
from mahavishnu.live.relabelling import Labels
from mahavishnu.signals import LATELY

_ALERTING = re.compile(r"^(?:global|alerting):.*\n(?:(?: .*)?\n)*", re.MULTILINE)


def differences(site: Site, made: Contract, rules: str, scraping: Iterable[str]) -> Iterator[str]:
    """Where a running Prometheus differs: rules, targets of the job, series, who is told, how long it remembers.

    `scraping` are the texts that say how the job is scraped, each for a Prometheus of its own.
    """
    written: loading.Groups = configuration(rules)["groups"]
    yield from loading.differences(site.data("rules", "groups"), written)
    targets: list[dict[str, Any]] = site.data("targets?state=active", "activeTargets")
    yield from scraped.differences(
        [one for one in targets if one["labels"].get("job") == made.job], made, [*paces(scraping, made.job)]
    )
    yield from _series(site, made)
    alerting = configuration(_sections(site.data("status/config", "yaml")))
    yield from sending.differences(alerting, _alerts(written))
    if not site.data("alertmanagers", "activeAlertmanagers"):
        yield "it knows no Alertmanager: its alerts reach nobody"
    yield from _kept(str(site.data("status/runtimeinfo").get("storageRetention", "")), made)


def _series(site: Site, made: Contract) -> Iterator[str]:
    """Those of the job that are there now; what there was before, Prometheus remembers for weeks."""
    query = f'count by (__name__) (last_over_time({{job="{made.job}"}}[{LATELY}]))'
    found: list[dict[str, Any]] = site.data(f"query?{urlencode({'query': query})}", "result")
    if not found:
        yield f"it has no series of job {made.job} from the last {LATELY}"
        return
    yield from missing({str(one["metric"].get("__name__")) for one in found}, made)


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


def _kept(length_or_size: str, made: Contract) -> Iterator[str]:
    wanted = made.spec.retention.metrics
    if any(
        length(one) != wanted for one in length_or_size.split(" or ") if one[-1:].islower()
    ):  # and no size
        yield f"it keeps its series for {length_or_size}, and retention.metrics is {wanted}"
