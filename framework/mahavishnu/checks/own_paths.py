"""MV407: a path that is answered before it gets where it was meant for."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error, warning
from mahavishnu.derived.own_paths import own_paths, taken
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV407",
    "a path with two answers",
    "The series, the health checks and the operators' page are answered before the app is asked: what else lies "
    "there is never reached.",
    "observability: {metrics: {path: /healthz}}",
    "Give each a path of its own.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every path that the service answers itself, against the others and the app's routes."""
    words = dict[str, str]()
    lost = taken(facts.spec, facts.routes or ())
    for one in own_paths(facts.spec):
        if one.path in words:
            yield error(CODE, one.place, f"`{one.path}` is {words[one.path]} already", one.help)
        elif one in lost:
            what = f"`{one.path}` is a route of the app, which {one.word} {one.takes} from it"
            yield warning(CODE, one.place, what, one.help)
        words[one.path] = one.word
