"""MV310: an objective that is named for latency and counts failures."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV310",
    "an objective named for latency that counts failures",
    "Without `under` a request is bad when it is answered with a 5xx, however long it takes. An objective that is "
    "called latency, and its alerts, then say nothing of slow requests.",
    "slos: {latency: {objective: 95%}}",
    "Add `under`, the time within which a request is good, or give the objective another name.",
)
_OF_TIME = re.compile(r"(?:^|_)(?:latenc(?:y|ies)|slow|slowness|fast|speed|durations?|p\d\d+)(?:_|$)")


def check(facts: Facts) -> Iterator[Problem]:
    """Every objective over requests, by its name."""
    for name, slo in facts.spec.slos.items():
        if _OF_TIME.search(name) and slo.under is None and slo.query is None:
            what = f"objective `{name}` counts requests that fail, for it has no `under`: slow ones are good"
            help = "add `under: 1s`, or another time within which a request is good; or give it another name"
            yield warning(CODE, ("slos", name), what, help)
