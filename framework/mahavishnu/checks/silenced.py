"""MV410: quiet hours for alerts that cannot wait."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.signals import Severity

CODE = Code(
    "MV410",
    "quiet hours for alerts that cannot wait",
    "P1 says that somebody must act now, as the service is down or its budget is gone within hours. What is held back "
    "until the morning is not told in time; that it is night makes no outage shorter.",
    'alerts: {quiet: [{severity: P1, from: "22:00", to: "07:00"}]}',
    "Take P1 out of `alerts.quiet`; what may wait until the morning is a P3 or P4.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """The severity of all quiet hours."""
    for index, quiet in enumerate(facts.spec.alerts.quiet):
        if quiet.severity is Severity.P1:
            hours = f"from {quiet.start} to {quiet.end} ({quiet.timezone})"
            what = f"alerts of severity P1 must be acted on now, and are told to nobody {hours}"
            yield warning(CODE, ("alerts", "quiet", index, "severity"), what, CODE.help)
