"""Which alerts leave a Prometheus for its Alertmanagers, and as what."""

from __future__ import annotations

from typing import Any

from mahavishnu.live.sending import differences

P1, P3 = ({"alertname": f"Shop{one}", "service": "shop", "severity": one} for one in ("P1", "P3"))
SEVERITY = {"source_labels": ["severity"]}
DROP = {**SEVERITY, "regex": "P1|P2", "action": "drop"}
OTHERS = {"source_labels": ["service"], "regex": "shop", "action": "drop"}


def told(*steps: dict[str, Any], **more: Any) -> list[str]:
    """What is said of a Prometheus that does this with every alert."""
    return [*differences({"alerting": {"alert_relabel_configs": [*steps]}, **more}, [P1, P3])]


def test_what_is_dropped_before_it_is_sent_is_told() -> None:
    """By name, and how many more."""
    assert told() == []
    assert told(DROP) == ["alert_relabel_configs drop ShopP1: nobody is told of it"]
    assert told(OTHERS) == ["alert_relabel_configs drop ShopP1 and 1 more: nobody is told of them"]


def test_what_is_rewritten_is_asked_for_by_no_route() -> None:
    """Only labels that the rules say; others may be added, and taken away."""
    page = {**SEVERITY, "regex": "P1", "target_label": "severity", "replacement": "page"}
    assert told(page) == ["alert_relabel_configs turn severity=P1 into severity=page, of ShopP1"]
    gone = {"regex": "service|replica", "action": "labeldrop"}
    assert told(gone) == ["alert_relabel_configs turn service=shop into service=, of ShopP1 and 1 more"]
    assert told({"target_label": "cluster", "replacement": "a"}) == []


def test_labels_of_the_whole_prometheus_are_known() -> None:
    """They are there before the relabelling; what a rule says goes before."""
    keep = {"source_labels": ["cluster"], "regex": "a", "action": "keep"}
    assert told(keep) == ["alert_relabel_configs drop ShopP1 and 1 more: nobody is told of them"]
    assert told(keep, **{"global": {"external_labels": {"cluster": "a", "severity": "P9"}}}) == []


def test_one_alertmanager_that_takes_an_alert_is_enough() -> None:
    """Each may have steps of its own, besides."""
    ours, theirs = {"alert_relabel_configs": [DROP]}, {"alert_relabel_configs": [OTHERS]}
    both = {"alerting": {"alertmanagers": [theirs, ours]}}
    assert [*differences(both, [P3])] == []
    assert [*differences(both, [P1])] == ["alert_relabel_configs drop ShopP1: nobody is told of it"]
    assert [*differences({}, [P1])] == []
