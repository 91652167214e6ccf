"""MV407: a path that is answered before it gets where it was meant for."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error, warning
from mahavishnu.errors import Path, Problem
from mahavishnu.ground.codes import Code
from mahavishnu.spec import Spec

CODE = Code(
    "MV407",
    "a path with two answers",
    "The series, the health checks and the operators' page are answered before the app is asked: what else lies "
    "there is never reached.",
    "observability: {metrics: {path: /healthz}}",
    "Give each a path of its own.",
)
_Said = tuple[str, Path, str, str, str]
_MOVE = "let the app answer at another path, if anybody asks for what it says there"
_HEALTH: tuple[_Said, ...] = tuple(
    (path, ("service", "app"), "a health check", "takes", _MOVE) for path in ("/healthz", "/readyz")
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every path that the service answers itself, against the others and the app's routes."""
    taken = dict[str, str]()
    routes = {template.removesuffix("/*") for template, _ in facts.routes or ()}  # of mounts, too
    for path, place, word, takes, help in (*_HEALTH, *_said(facts.spec)):
        if path in taken:
            yield error(CODE, place, f"`{path}` is {taken[path]} already", help)
        elif path in routes:
            yield warning(CODE, place, f"`{path}` is a route of the app, which {word} {takes} from it", help)
        taken[path] = word


def _said(spec: Spec) -> Iterator[_Said]:
    series = spec.observability.metrics.path
    yield (
        series,
        ("observability", "metrics", "path"),
        "the series",
        "take",
        "take another path in `observability.metrics.path`",
    )
    if spec.ops is not None:
        page = f"{spec.ops.path.rstrip('/')}/refused"
        yield page, ("ops", "path"), "the refused clients", "take", "take another path in `ops.path`"
