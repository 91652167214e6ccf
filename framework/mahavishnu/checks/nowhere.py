"""MV411: an app without Hardening."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import App, Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.ground.words import listing

CODE = Code(
    "MV411",
    "an app that Hardening does not stand around",
    "Without the middleware no limit holds and no series is shown: the process does nothing of what the spec says, and "
    "the generated files watch and probe what nobody answers.",
    "service: {app: shop.main:app} for an app that is a bare `Starlette()`",
    "Add it to the app that `service.app` names, after every other middleware: `app.add_middleware(Hardening)`, or "
    "`app = Hardening(app)`. Where another module puts it around, name in `service.app` what that module made; where "
    "only the file that starts a server of your own does, and nothing is deployed by the generated files, say "
    "`service: {hardening: elsewhere}`.",
)
_ELSEWHERE = "say `hardening: elsewhere` in `service`, if it is put around elsewhere"
_NAMED = "or name here what it is put around, like `shop.serve:app`"  # all that can be deployed


def check(facts: Facts) -> Iterator[Problem]:
    """The app, where somebody looked at it."""
    if facts.app is None:
        return
    name, where = facts.spec.service.app, facts.app.where
    other = _NAMED if facts.spec.deploy.targets.any else _ELSEWHERE
    if facts.spec.service.hardening == "elsewhere":
        if where == "around":
            what = f"`{name}` has Hardening itself, so nobody would miss it if it were lost"
            yield warning(
                CODE, ("service", "hardening"), what, "remove the key, and `check` makes sure of it"
            )
    elif where == "mounted":
        yield _mounted(facts.app, other)
    elif where == "aside":
        what = f"a Hardening is made, but not around `{name}`, which is what is started"
        help = "name what it is around" + ("" if facts.spec.deploy.targets.any else f"; {_ELSEWHERE}")
        yield warning(CODE, ("service", "app"), what, help)
    elif where == "nowhere":
        what = f"nothing puts Hardening around `{name}`: no limit holds, and no series is shown"
        help = (
            f"add `app.add_middleware(Hardening)` after every other one, or `app = Hardening(app)`; {other}"
        )
        yield warning(CODE, ("service", "app"), what, help)


def _mounted(app: App, other: str) -> Problem:
    what = (
        f"Hardening stands only in what is mounted at {listing(app.mounts)}: all else passes no limit, log or series, "
        "and probes are answered below it alone"
    )
    return warning(CODE, ("service", "app"), what, f"put it around the whole app; {other}")
