"""The rules that a Prometheus has loaded: each once, as the spec says it, and whose the others are."""

from __future__ import annotations

from typing import Any

import pytest

from mahavishnu.live.note import Note
from mahavishnu.live.rules import differences

DOWN: dict[str, Any] = {
    "alert": "ShopDown",
    "expr": "job:up:max < 1",
    "for": "2m",
    "labels": {"severity": "P1", "service": "shop"},
}
UP: dict[str, Any] = {"record": "job:up:max", "expr": "max(up)", "labels": {"service": "shop"}}
WANTED: list[dict[str, Any]] = [
    {"name": "shop-recordings", "interval": "15s", "rules": [UP]},
    {"name": "shop-service", "interval": "15s", "rules": [DOWN]},
]


def loaded(name: str, file: str, *rules: dict[str, Any], **more: object) -> dict[str, Any]:
    """A group as Prometheus tells of it."""
    return {"name": name, "file": file, "interval": 15, "rules": [*map(told, rules)], **more}


def told(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule as Prometheus tells of it."""
    said = {"name": rule.get("alert") or rule["record"], "query": rule["expr"], "labels": rule["labels"]}
    if "alert" not in rule:
        return {**said, "type": "recording"}
    seconds = {key: 60 * int(rule.get(key, "0m")[:-1]) for key in ("for", "keep_firing_for")}
    return {
        **said,
        "type": "alerting",
        "duration": seconds["for"],
        "keepFiringFor": seconds["keep_firing_for"],
    }


OURS = [loaded("shop-recordings", "rules.yml", UP), loaded("shop-service", "rules.yml", DOWN)]


def test_what_is_loaded_as_it_was_generated_is_no_difference() -> None:
    """Also of a Prometheus that knows no `keep_firing_for`."""
    older = [loaded("shop-service", "rules.yml", DOWN)]
    del older[0]["rules"][0]["keepFiringFor"]

    assert [*differences(OURS, WANTED)] == []
    assert [*differences([OURS[0], *older], WANTED)] == []


@pytest.mark.parametrize("first", [True, False])
def test_a_rule_that_is_loaded_twice_is_a_difference(first: bool) -> None:
    """Whichever of the two was read first, both are compared."""
    old = loaded("old-shop-service", "rules-old.yml", DOWN | {"for": "120m"})
    twice = [old, *OURS] if first else [*OURS, old]
    places = ["group shop-service of rules.yml", "group old-shop-service of rules-old.yml"]
    said = " and ".join(reversed(places) if first else places)

    assert sorted(differences(twice, WANTED)) == [
        f"rule ShopDown is loaded 2 times, in {said}",
        "rule ShopDown waits for 7200 s",
    ]


def test_a_recording_that_is_loaded_twice_writes_one_series_twice() -> None:
    """Also where both ask the same."""
    twice = [*OURS, loaded("shop-copy", "copy.yml", UP)]
    places = "group shop-recordings of rules.yml and group shop-copy of copy.yml"

    assert [*differences(twice, WANTED)] == [f"rule job:up:max is loaded 2 times, in {places}"]


@pytest.mark.parametrize(
    ("rule", "group", "says"),
    [
        ({"keep_firing_for": "1440m"}, {}, "rule ShopDown keeps firing for 86400 s"),
        ({}, {"limit": 1}, "group shop-service has a limit of 1, and this spec says 0"),
    ],
)
def test_what_changes_whether_an_alert_is_told_is_compared(
    rule: dict[str, Any], group: dict[str, Any], says: str
) -> None:
    """For how long it stays, and with how many others it is given up."""
    edited = [OURS[0], loaded("shop-service", "rules.yml", DOWN | rule, **group)]

    assert [*differences(edited, WANTED)] == [says]
    wanted = [WANTED[0], {**WANTED[1], **group, "rules": [DOWN | rule]}]
    assert [*differences(edited, wanted)] == []


QUEUE: dict[str, Any] = {
    "alert": "ShopQueueTooLong",
    "expr": "queue > 9",
    "labels": {"severity": "P3", "service": "shop"},
}
TOLD = "rule ShopQueueTooLong of group queues of own.yml is somebody's own: this spec says nothing of it"


def test_a_rule_of_ones_own_is_told_without_being_a_difference() -> None:
    """In a group that is not named as ours; what cannot be proved has no other place, and its labels have it told."""
    found = [*differences([*OURS, loaded("queues", "own.yml", QUEUE)], WANTED)]

    assert found == [TOLD]
    assert isinstance(found[0], Note)
    assert [
        *differences([*OURS, loaded("queues", "own.yml", QUEUE | {"labels": {"service": "db"}})], WANTED)
    ] == []


@pytest.mark.parametrize(
    ("group", "rule"),
    [
        ("shop-old", QUEUE),
        ("shop-service", QUEUE),
        ("queues", DOWN | {"labels": {"severity": "P4", "service": "shop"}}),
        ("queues", UP | {"labels": {"service": "shop", "slo": "older"}}),
    ],
)
def test_what_is_named_as_ours_is_a_difference(group: str, rule: dict[str, Any]) -> None:
    """Its group, as one of an older spec has it; an alert of ours with other labels; a series of ours."""
    (found,) = differences([*OURS, loaded(group, "own.yml", rule)], WANTED)

    name = rule.get("alert") or rule["record"]
    assert found == f"rule {name} of group {group} of own.yml is loaded, and this spec knows nothing of it"
    assert not isinstance(found, Note)
