"""The rules that a Prometheus has loaded, and how often it asks them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from mahavishnu.live.normal import normal
from mahavishnu.units import Duration

Groups = list[dict[str, Any]]
Rules = Mapping[tuple[str, str], Mapping[str, Any]]


def differences(loaded: Groups, wanted: Groups) -> Iterator[str]:
    """Where the loaded groups differ from those of the spec."""
    yield from _rules(_named(loaded), _named(wanted))
    yield from _evaluated(loaded, wanted)


def _named(groups: Groups) -> Rules:
    return {_key(one): one for group in groups for one in group["rules"]}


def _key(rule: Mapping[str, Any]) -> tuple[str, str]:
    """What tells a rule from all others: its name and its labels."""
    name = rule.get("name") or rule.get("alert") or rule.get("record")
    return str(name), json.dumps(rule.get("labels", {}), sort_keys=True)


def _rules(loaded: Rules, wanted: Rules) -> Iterator[str]:
    owners = {json.loads(labels).get("service") for _, labels in wanted}
    for key, one in wanted.items():
        name = key[0]
        if key not in loaded:
            yield f"rule {name} is not loaded, or with other labels"
            continue
        found = loaded[key]
        if normal(found["query"]) != normal(one["expr"]):
            yield f"rule {name} asks `{found['query']}`"
        if "alert" in one and found["duration"] != _seconds(one.get("for")):
            yield f"rule {name} waits for {found['duration']:g} s"
        if other := _other(one.get("annotations") or {}, found.get("annotations") or {}):
            yield f"rule {name} is told with another {', '.join(other)}"
        if found.get("health") == "err":
            yield f"rule {name} cannot be evaluated: {found.get('lastError')}"
    for name, labels in loaded.keys() - wanted.keys():
        if json.loads(labels).get("service") in owners:
            yield f"rule {name} is loaded, and this spec knows nothing of it"


def _other(wanted: Mapping[str, Any], loaded: Mapping[str, Any]) -> list[str]:
    """The names under which two mappings do not say the same."""
    return sorted(key for key in {*wanted, *loaded} if f"{wanted.get(key)}" != f"{loaded.get(key)}")


def _evaluated(loaded: Groups, wanted: Groups) -> Iterator[str]:
    """Groups that are asked at another pace than they say; one that says none is asked as Prometheus likes."""
    places = {_key(rule): (one["name"], one.get("interval")) for one in loaded for rule in one["rules"]}
    for group in wanted:
        interval = group.get("interval")
        found = {places[key] for rule in group["rules"] if interval and (key := _key(rule)) in places}
        for name, every in sorted(found):
            if every is not None and every != _seconds(interval):
                yield f"group {name} is evaluated every {every:g} s, and this spec says {interval}"


def _seconds(hold: object) -> float:
    return float(Duration.parse(str(hold)).seconds) if hold else 0.0
