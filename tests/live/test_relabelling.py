"""What relabelling makes of labels, as Prometheus does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mahavishnu.live.relabelling import relabelled

ALERT = {"alertname": "ShopDown", "service": "shop", "severity": "P1"}
SEVERITY = {"source_labels": ["severity"]}
PAGED = {**SEVERITY, "target_label": "severity"}


@pytest.mark.parametrize(
    ("step", "made"),
    [
        ({**SEVERITY, "regex": "P1|P2", "action": "drop"}, None),
        ({**SEVERITY, "regex": "P", "action": "drop"}, ALERT),
        ({**SEVERITY, "regex": "P3|P4", "action": "keep"}, None),
        ({**SEVERITY, "regex": "P.", "action": "keep"}, ALERT),
        ({"source_labels": ["service", "severity"], "regex": "shop;P1", "action": "drop"}, None),
        (
            {
                "source_labels": ["service", "severity"],
                "separator": "/",
                "regex": "shop/P1",
                "action": "Drop",
            },
            None,
        ),
        ({"source_labels": ["team"], "regex": "", "action": "drop"}, None),
        ({**SEVERITY, "target_label": "service", "action": "dropequal"}, ALERT),
        ({**SEVERITY, "target_label": "severity", "action": "dropequal"}, None),
        ({**SEVERITY, "target_label": "service", "action": "keepequal"}, None),
        ({"target_label": "cluster", "replacement": "a"}, {**ALERT, "cluster": "a"}),
        (
            {**PAGED, "regex": "P(.)", "replacement": "sev${1}"},
            ALERT | {"severity": "sev1"},
        ),
        (
            {**PAGED, "regex": "P(?P<n>.)", "replacement": "$n$$"},
            ALERT | {"severity": "1$"},
        ),
        ({**SEVERITY, "regex": "P9", "target_label": "severity", "replacement": "page"}, ALERT),
        (
            {**SEVERITY, "target_label": "severity", "replacement": ""},
            {"alertname": "ShopDown", "service": "shop"},
        ),
        ({**SEVERITY, "target_label": "severity", "action": "lowercase"}, ALERT | {"severity": "p1"}),
        ({**SEVERITY, "target_label": "service", "action": "uppercase"}, ALERT | {"service": "P1"}),
        ({**SEVERITY, "target_label": "shard", "modulus": 1, "action": "hashmod"}, {**ALERT, "shard": "0"}),
        ({"regex": "sever(.+)", "replacement": "x_$1", "action": "labelmap"}, {**ALERT, "x_ity": "P1"}),
        ({"regex": "sever.*", "action": "labeldrop"}, {"alertname": "ShopDown", "service": "shop"}),
        ({"regex": "alertname", "action": "labelkeep"}, {"alertname": "ShopDown"}),
    ],
)
def test_each_action_does_what_prometheus_does(
    step: Mapping[str, Any], made: Mapping[str, str] | None
) -> None:
    """With its defaults; a label that is not there is an empty one."""
    assert relabelled(ALERT, [step]) == made


def test_steps_are_done_in_order_and_what_is_dropped_stays_so() -> None:
    """Each sees what the one before it has made."""
    renamed = {**SEVERITY, "target_label": "severity", "replacement": "page"}
    dropped = {**SEVERITY, "regex": "page", "action": "drop"}
    assert relabelled(ALERT, [renamed, dropped]) is None
    assert relabelled(ALERT, [dropped, renamed]) == ALERT | {"severity": "page"}


def test_what_cannot_be_told_is_passed_over() -> None:
    """A pattern of Go's that Python does not know, and an action of a later Prometheus."""
    assert relabelled(ALERT, [{**SEVERITY, "regex": r"\\pL", "action": "drop"}]) == ALERT
    assert relabelled(ALERT, [{"action": "sing"}]) == ALERT
