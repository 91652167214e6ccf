"""MV412: middlewares that requests meet before Hardening."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.ground.words import listing, meant

CODE = Code(
    "MV412",
    "a middleware outside of Hardening",
    "The middleware that is added last is the outermost. What one outside of Hardening answers by itself, like the 401 "
    "of a login, passes no limit, log or series, also before `/readyz` and `/metrics`. One that hands every request on "
    "does no harm there; Starlette's for authentication, sessions and gzip are not told of, nor FastMCP's.",
    'app.add_middleware(Hardening), and below it `@app.middleware("http")`',
    "Add Hardening after all others, or put `Hardening(app)` around the whole app. One that is meant to be outside is "
    "named in `service: {outside: [Tenants]}`.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Each that is outside and not said to be; each that is said to be, and is not."""
    if facts.app is None or facts.app.where != "around":
        return
    meant_to_be, found = facts.spec.service.outside, facts.app.outside
    if told := [name for name in dict.fromkeys(found) if name not in meant_to_be]:
        stand, answer = (
            ("stands", "it answers by itself") if len(told) == 1 else ("stand", "they answer by themselves")
        )
        what = f"{listing(told)} {stand} outside of Hardening: what {answer} passes no limit, log or series"
        help = "add Hardening after every other middleware; name in `service.outside` what is meant to be outside"
        yield warning(CODE, ("service", "app"), what, help)
    for at, name in enumerate(meant_to_be):
        if name not in found:
            what = f"no middleware `{name}` stands outside of Hardening"
            yield warning(CODE, ("service", "outside", at), what, meant(name, found) or "remove it")
