"""MV402: alerts that are sent to a channel that is not there."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.ground.words import meant

CODE = Code(
    "MV402",
    "an undefined channel",
    "An alert that is routed to nowhere is heard by nobody.",
    "channels: {room: {…}}\nalerts: {route: {P1: [rooom]}}",
    "Use a name from `channels`, or add it there.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every channel that a route names."""
    known = [*facts.spec.channels]
    for severity, names in facts.spec.alerts.route.items():
        for index, name in enumerate(names):
            if name not in known:
                what = f"alerts of severity {severity} go to channel `{name}`, which is not defined"
                help = meant(name, known) or f"add `{name}` under `channels`"
                yield error(CODE, ("alerts", "route", str(severity), index), what, help)
