"""MV306: a deadline for bodies that never speaks, for another one always comes first."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from mahavishnu.checks._facts import Deadlines, Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.policies.body import Body
from mahavishnu.policies.timeout import Timeout
from mahavishnu.policy import Limit

CODE = Code(
    "MV306",
    "a deadline for bodies that never speaks",
    "A request's time runs while its body arrives. When it ends before the body's own time does, a slow client "
    "gets 504, as if the service had been slow, and that is what is counted and alerted on.",
    "limits: {uploads: {body: 1MiB, within: 30s}, request: {timeout: 10s}}",
    "Shorten `within`, or give the routes with long uploads a longer timeout.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every `within` against the request deadline that holds for the same requests."""
    known = facts.deadlines_by_match()
    for name, limit in facts.spec.limits.items():
        if not isinstance(limit, Body) or limit.within is None or limit.mode == "off":
            continue
        first = _deadline(known, limit)
        if first is not None and first[1].timeout <= limit.within:
            called, timeout = first
            what = (
                f"a body under limit `{name}` may take {limit.within}, "
                f"but limit `{called}` ends its request after {timeout.timeout}"
            )
            yield warning(CODE, ("limits", name, "within"), what, f"set `within` below {timeout.timeout}")


def _deadline(known: Deadlines, body: Limit) -> tuple[str, Timeout] | None:
    """The one for the very same requests, else the one for all."""
    return next(chain(known.get(body.match, ()), known.get(None, ())), None)
