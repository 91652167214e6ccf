"""MV422: more than one Hardening in an app."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.ground.words import listing

CODE = Code(
    "MV422",
    "more than one Hardening",
    "A process has one spec. A Hardening inside of another one, as in a mounted app, does nothing, and no limit of its "
    "own spec holds. Of two side by side with different specs, the one that is asked second answers 500 to everything.",
    'sub.add_middleware(Hardening, spec="other.yaml"), mounted in an app that has Hardening',
    "Leave it out of what is mounted, and say its limits with a `match` in the spec of the whole app; or start two "
    "processes.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Those that do nothing, and those that cannot be in one process."""
    app, service = facts.app, facts.spec.service
    if app is None or service.hardening == "elsewhere":  # nobody sees what is around
        return
    outer = [one for one in app.hardened if not one[2]]
    if len({spec for _, spec, _ in outer}) > 1:
        at = listing(tuple(path for path, _, _ in outer))
        what = (
            f"Hardening stands side by side at {at}, with different specs: what is asked second answers 500"
        )
        yield error(CODE, ("service", "app"), what, "put one around the whole app, or start two processes")
    if inner := [one for one in app.hardened if one[2]]:
        at = listing(tuple(dict.fromkeys(path for path, _, _ in inner)))
        specs = tuple(dict.fromkeys(spec for _, spec, _ in inner if spec))
        lost = f": nothing that {listing(specs)} says is enforced" if specs else ""
        what = f"a second Hardening at {at} stands inside of another one and does nothing{lost}"
        help = "leave it out, and say its limits here with a `match`" if specs else "leave it out"
        yield warning(CODE, ("service", "app"), what, help)
