"""MV407: a path that is answered before it gets where it was meant for."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error, warning
from mahavishnu.codes import Code
from mahavishnu.errors import Path, Problem
from mahavishnu.spec import Spec

CODE = Code(
    "MV407",
    "a path with two answers",
    "The series, the health checks and the operators' page are answered before the app is asked: what else lies "
    "there is never reached.",
    "observability: {metrics: {path: /healthz}}",
    "Give each a path of its own.",
)
_HEALTH: tuple[str, ...] = ("/healthz", "/readyz")


def check(facts: Facts) -> Iterator[Problem]:
    """Every path that the service answers itself, against the others and the app's routes."""
    taken = dict.fromkeys(_HEALTH, "a health check")
    routes = {template for template, _ in facts.routes or ()}
    for path, place, word in _said(facts.spec):
        if path in taken:
            yield error(CODE, place, f"`{path}` is {taken[path]} already", "take another path")
        elif path in routes:
            what = f"`{path}` is a route of the app, which {word} take from it"
            yield warning(CODE, place, what, "take another path")
        taken[path] = word


def _said(spec: Spec) -> Iterator[tuple[str, Path, str]]:
    yield spec.observability.metrics.path, ("observability", "metrics", "path"), "the series"
    if spec.ops is not None:
        yield f"{spec.ops.path.rstrip('/')}/refused", ("ops", "path"), "the refused clients"
