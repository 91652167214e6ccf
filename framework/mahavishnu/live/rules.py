"""The rules that a Prometheus has loaded: each once, and as the spec says it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mahavishnu.live.excerpt import excerpts
from mahavishnu.live.normal import normal
from mahavishnu.live.note import Note
from mahavishnu.units import Duration

Rule = Mapping[str, Any]
Groups = list[dict[str, Any]]
Key = tuple[str, str]
"""What tells a rule from all others: its name and its labels."""


class Placed(NamedTuple):
    """A rule, and the group it is in."""

    rule: Rule
    group: Rule

    def __str__(self) -> str:
        return f"group {self.group['name']} of {self.group.get('file')}"


Rules = Mapping[Key, list[Placed]]


def differences(loaded: Groups, wanted: Groups) -> Iterator[str]:
    """Where the loaded groups differ from those of the spec."""
    there, said = _placed(loaded), _placed(wanted)
    for key, ones in said.items():
        yield from _loaded(key[0], there.get(key, []), ones)
    yield from _unknown(there, said)
    yield from _evaluated(there, wanted)


def _placed(groups: Groups) -> Rules:
    found: dict[Key, list[Placed]] = {}
    for group in groups:
        for rule in group["rules"]:
            found.setdefault(_key(rule), []).append(Placed(rule, group))
    return found


def _key(rule: Rule) -> Key:
    name = rule.get("name") or rule.get("alert") or rule.get("record")
    return str(name), json.dumps(rule.get("labels", {}), sort_keys=True)


def _loaded(name: str, found: list[Placed], wanted: list[Placed]) -> Iterator[str]:
    """One rule: two of a name and labels write one series, or fire as one alert, whichever of them is right."""
    if not found:
        yield f"rule {name} is not loaded, or with other labels"
    if len(found) > len(wanted):
        yield f"rule {name} is loaded {len(found)} times, in {' and '.join(map(str, found))}"
    for one in found:
        yield from min(([*_differs(name, one.rule, each.rule)] for each in wanted), key=len)


def _differs(name: str, found: Rule, wanted: Rule) -> Iterator[str]:
    if normal(found["query"]) != normal(wanted["expr"]):
        there, here = excerpts(str(found["query"]), str(wanted["expr"]))
        yield f"rule {name} asks `{there}`, and this spec `{here}`"
    if "alert" in wanted and found["duration"] != _seconds(wanted.get("for")):
        yield f"rule {name} waits for {found['duration']:g} s"
    kept = found.get("keepFiringFor") or 0  # before 2.42 there is none
    if kept != _seconds(wanted.get("keep_firing_for")):
        yield f"rule {name} keeps firing for {kept:g} s"
    if other := _other(wanted.get("annotations") or {}, found.get("annotations") or {}):
        yield f"rule {name} is told with another {', '.join(other)}"
    if found.get("health") == "err":
        yield f"rule {name} cannot be evaluated: {found.get('lastError')}"


def _other(wanted: Rule, loaded: Rule) -> list[str]:
    """The names under which two mappings do not say the same."""
    return sorted(key for key in {*wanted, *loaded} if f"{wanted.get(key)}" != f"{loaded.get(key)}")


def _unknown(loaded: Rules, wanted: Rules) -> Iterator[str]:
    """Rules of this service that the spec has not: people have some of their own beside ours, in their own groups."""
    owners = {json.loads(labels).get("service") for _, labels in wanted}
    names = {name for name, _ in wanted}
    for name, labels in sorted(loaded.keys() - wanted.keys()):
        owner = json.loads(labels).get("service")
        for one in loaded[name, labels] if owner in owners else ():
            if name in names or str(one.group["name"]).startswith(f"{owner}-"):
                yield f"rule {name} of {one} is loaded, and this spec knows nothing of it"
            else:
                yield Note(f"rule {name} of {one} is somebody's own: this spec says nothing of it")


def _evaluated(loaded: Rules, wanted: Groups) -> Iterator[str]:
    """Groups that are asked otherwise than they say; one that says no interval is asked as Prometheus likes."""
    for group in wanted:
        places = (one for rule in group["rules"] for one in loaded.get(_key(rule), []))
        for found in {one.group["name"]: one.group for one in places}.values():
            name, every, said = found["name"], found.get("interval"), group.get("interval")
            if said and every is not None and every != _seconds(said):
                yield f"group {name} is evaluated every {every:g} s, and this spec says {said}"
            most, wants = (int(one.get("limit") or 0) for one in (found, group))
            if most != wants:
                yield f"group {name} has a limit of {most}, and this spec says {wants}"


def _seconds(hold: object) -> float:
    return float(Duration.parse(str(hold)).seconds) if hold else 0.0
