"""MV226: a limit by user, API key or session in an app that never says who that is."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.ground.words import listing
from mahavishnu.policies.rate import Rate

CODE = Code(
    "MV226",
    "a limit by user of an app that names no user",
    "Whom nobody has verified is counted by address, so that a whole office, or a mobile carrier, is one client. What "
    "counts must be known before the app is asked: a login by `Depends` comes too late.",
    "limits: {searches: {rate: 5/minute, per: user}}, and `app.add_middleware(Hardening)`",
    "Give Hardening a hook, `identify`, or put Starlette's AuthenticationMiddleware, which names users, outside of it.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every rate of requests; for a tool, whom the app has verified since they came counts, too."""
    nameless = facts.app.nameless if facts.app else ()
    for name, limit in facts.spec.limits.items():
        if not isinstance(limit, Rate) or limit.mode == "off" or _of_tools(limit):
            continue
        if found := [one for one in limit.per if one in nameless]:
            what = f"limit `{name}` counts by {listing(found)}, which the app never names: each address is one client"
            help = "give Hardening a hook, `identify`, that names it" + (
                ", or put Starlette's AuthenticationMiddleware outside of Hardening"
                if found == ["user"]
                else ""
            )
            yield warning(CODE, ("limits", name, "per"), what, help)


def _of_tools(limit: Rate) -> bool:
    return limit.match is not None and limit.match.tool is not None
